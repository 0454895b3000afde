"""What `make e2e` showed of each client, as a table: which version, over which dialect, how many scenarios of it.

A test belongs to the first client whose pattern is found in its name. Tests of our own making are none of theirs.
"""

import json
import platform
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.e2e.packages import FOLDER, NODE_FILES, REQUIREMENTS

PAGE = FOLDER / "COMPAT.md"
COMMAND = "make e2e"


@dataclass(frozen=True)
class Client:
    name: str
    dialect: str
    pattern: str
    pins: str = ""
    """Name of its file of requirements, or `npm`; "" = none: its requests are ours, sent as they are documented or were
    seen."""
    source: str = "as on the reference page"

    @property
    def version(self) -> str:
        if self.pins == "npm":
            pinned = json.loads(NODE_FILES[1].read_text())["packages"]
            return pinned[f"node_modules/{self.name.split()[0]}"]["version"]
        if self.pins:
            return pinned_version(self.pins)
        return self.source


CLIENTS = (
    Client("mcp-grafana (`ask_assistant`)", "grafana", r"mcp_grafana", "mcp-grafana"),
    Client("k6 Studio's requests", "grafana", r"k6_studio", source="as it sends them"),
    Client("httpx-sse (PyPI)", "grafana", r"httpx_sse", "httpx-sse"),
    Client("eventsource (npm)", "grafana", r"test_eventsource_", "npm"),
    Client("curl", "grafana", r"grafana.*pages_curl"),
    Client("a browser's EventSource", "grafana", r"grafana.*pages_javascript"),
    Client("a2a-sdk (PyPI)", "grafana", r"sdks_client", "a2a-sdk"),
    Client("a2a-lint (PyPI)", "grafana", r"the_linter", "a2a-lint"),
    Client("grafana-assistant (PyPI)", "grafana", r"test_grafana_(clients|terminal)\.py", "grafana-assistant"),
    Client("kibana-py (PyPI)", "elastic", r"kibana_pys_client", "kibana-py"),
    Client("kibana-py's own suites", "elastic", r"kibana_pys_\w+_suite", source="git 941b5dca0241"),
    Client("curl", "elastic", r"elastic_pages_curl"),
    Client("openai's stream parser (PyPI)", "elastic", r"openais_stream_parser", "openai"),
    Client("the Terraform provider's calls", "elastic", r"terraforms_calls", source="as it sends them"),
    Client("curl, Python and JavaScript", "grip", r"test_grip_clients\.py"),
    Client("curl", "rowboat", r"rowboat_pages_curl"),
    Client("rowboat (PyPI)", "rowboat", r"test_rowboat_sdks\.py", source="all 17, 0.1.0 to 5.0.1"),
    Client("simulation_runner", "rowboat", r"simulation_runner", source="git 97feb71869d3"),
    Client("tools_webhook", "rowboat", r"tools_webhook", source="git 97feb71869d3"),
)


def pinned_version(name: str) -> str:
    return re.findall(rf"^{re.escape(name)}==(\S+)", (REQUIREMENTS / f"{name}.txt").read_text(), re.MULTILINE)[0]


def client_of(test: str) -> Client | None:
    """`test`: a test's id, with its file."""
    return next((client for client in CLIENTS if re.search(client.pattern, test)), None)


@dataclass
class Results:
    """Outcomes of tests as they come: passed, failed, skipped."""

    outcomes: dict[Client, Counter[str]] = field(default_factory=dict[Client, Counter[str]])

    def add(self, test: str, outcome: str) -> None:
        client = client_of(test)
        if client is not None:
            self.outcomes.setdefault(client, Counter())[outcome] += 1

    def page(self, *, date: str) -> str:
        rows = [_row(client, self.outcomes[client], date) for client in CLIENTS if client in self.outcomes]
        where = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        return "\n".join(
            (
                "| client | version | dialect | scenarios passed | not run | date |",
                "|---|---|---|---|---|---|",
                *rows,
                "",
                f"Made by `{COMMAND}` on {where}.",
                "",
            )
        )


def _row(client: Client, outcomes: Mapping[str, int], date: str) -> str:
    ran = outcomes.get("passed", 0) + outcomes.get("failed", 0)
    passed = f"{outcomes.get('passed', 0)} of {ran}"
    return f"| {client.name} | {client.version} | {client.dialect} | {passed} | {outcomes.get('skipped', 0)} | {date} |"
