"""The table of clients: made of what the tests showed, and the page's last one is of the versions that are pinned."""

import re

from tests.checkout import ROOT, expect_none
from tests.e2e.compat import CLIENTS, Client, Results, client_of

CLIENT_TESTS = (
    "test_grafana_clients.py",
    "test_grafana_terminal.py",
    "test_grafana_a2a.py",
    "test_elastic_clients.py",
    "test_elastic_suites.py",
    "test_grip_clients.py",
    "test_rowboat_sdks.py",
    "test_rowboat_runner.py",
)


def test_each_clients_outcomes_are_counted() -> None:
    results = Results()
    here = "tests/e2e/test_grafana_clients.py::test_"
    for test, outcome in (
        (f"{here}a_prompt_is_answered", "passed"),
        (f"{here}a_prompt_of_nothing", "failed"),
        (f"{here}mcp_grafana_asks", "skipped"),
        ("tests/e2e/test_drain.py::test_drains", "passed"),
    ):
        results.add(test, outcome)
    mcp, cli = (next(each for each in CLIENTS if each.name.startswith(name)) for name in ("mcp", "grafana-assistant"))
    rows = results.page(date="2026-11-21").splitlines()[2:]
    assert rows[:3] == [
        f"| mcp-grafana (`ask_assistant`) | {mcp.version} | grafana | 0 of 0 | 1 | 2026-11-21 |",
        f"| grafana-assistant (PyPI) | {cli.version} | grafana | 1 of 2 | 0 | 2026-11-21 |",
        "",
    ]


def test_every_test_of_a_client_belongs_to_one() -> None:
    expect_none(
        f"{name}: {test}"
        for name in CLIENT_TESTS
        for test in re.findall(r"^(?:async )?def (test_\w+)", (ROOT / "tests/e2e" / name).read_text(), re.MULTILINE)
        if client_of(f"tests/e2e/{name}::{test}") is None
    )


def test_the_page_speaks_of_the_clients_there_are_in_the_versions_that_are_pinned() -> None:
    page = (ROOT / "docs/compat.md").read_text().partition("\nMade by ")[0]
    told = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    assert [row[:3] for row in told[1:]] == [_described(client) for client in CLIENTS]


def _described(client: Client) -> list[str]:
    return [client.name, client.version, client.dialect]
