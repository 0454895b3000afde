"""`dragoman runs waiting`, `approve`, `deny`: against a server whose agent must ask before it writes a file."""

import io
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from tests.cli.conftest import CommandLine, Served

CONFIG = """
[models.main]
kind = "scripted"
file = "script.toml"
[agents.assistant]
ask = ["write_file"]
[limits]  # all tests of this file ask one server, as often as it takes
per_ip_rpm = 0
per_credential_rpm = 0
"""

SCRIPT = """
[[reply]]
match = "denied"
text = "Then I leave it."

[[reply]]
match = "made.txt"
text = "It is written."

[[reply]]
match = "write"
calls = [{ name = "write_file", id = "a/b 1", arguments = { path = "made.txt", content = "Grüße \\u202Eevil\\u001B" } }]
"""
SHOWN = '  {"content": "Grüße \\u202eevil\\u001b", "path": "made.txt"}'
CALL = "a/b 1"
WAIT_S = 10.0


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("asking")
    (folder / "dragoman.toml").write_text(CONFIG)
    (folder / "script.toml").write_text(SCRIPT)
    server = Served(folder, "--listen", "127.0.0.1:0")
    yield server
    server.stop()


@pytest.fixture
def there(asking: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line on the home of that server."""
    monkeypatch.chdir(asking.folder)
    return CommandLine(asking.folder, capsys)


@pytest.fixture
def run(asking: Served, there: CommandLine) -> Iterator[str]:
    """A run that waits for approval of CALL."""
    made(asking).unlink(missing_ok=True)
    run = httpx.post(
        f"{asking.url}/api/plugins/grafana-assistant-app/resources/api/v1/assistant/chats",
        headers=authorization(asking),
        json={"prompt": "write"},
        trust_env=False,
    ).headers["x-run-id"]
    began_s = monotonic()
    while not there.ok("runs", "waiting", "--json").json["approvals"]:
        assert monotonic() - began_s < WAIT_S
    yield run
    there.ok("runs", "cancel", run)


def authorization(asking: Served) -> dict[str, str]:
    return {"authorization": f"Bearer {(asking.folder / '.dragoman/admin-credential').read_text().strip()}"}


def made(asking: Served) -> Path:
    return asking.folder / ".dragoman/workspace/made.txt"


def ended(asking: Served, run: str) -> str:
    began_s = monotonic()
    while True:
        told: Any = httpx.get(f"{asking.url}/api/runs/{run}", headers=authorization(asking), trust_env=False).json()
        if told["status"] not in ("queued", "running"):
            return told["status"]
        assert monotonic() - began_s < WAIT_S


def test_what_waits_is_shown_whole_with_what_to_type(there: CommandLine, run: str) -> None:
    first, arguments, approve, deny = there.ok("runs", "waiting").out.splitlines()
    assert first.startswith(f"write_file  run {run}  call {CALL}  conversation ") and first.endswith(" UTC")
    assert arguments == SHOWN
    digits = there.ok("runs", "waiting", "--json").json["approvals"][0]["arguments_hash"][:16]
    assert approve == f"  dragoman runs approve {run} '{CALL}' --hash {digits}"
    assert deny == f"  dragoman runs deny {run} '{CALL}' --hash {digits}"


def test_a_call_that_is_approved_is_made(there: CommandLine, asking: Served, run: str) -> None:
    digits = there.ok("runs", "waiting", "--json").json["approvals"][0]["arguments_hash"][:16]
    assert there.ok("runs", "approve", run, CALL, "--hash", digits).out == f"run {run}: write_file approved\n"
    assert (ended(asking, run), made(asking).read_text()) == ("completed", "Grüße \u202eevil\x1b")
    assert there.ok("runs", "waiting").err == "Nothing waits for approval.\n"
    again = there.run("runs", "approve", run, CALL, "--yes")
    assert (again.code, again.err) == (
        3,
        f"dragoman: No call {CALL} of run {run} waits for approval (any more): see dragoman runs waiting\n",
    )
    shown = there.ok("runs", "show", run).out
    assert "asks        for approval of write_file" in shown and "\n" in shown and " approved " in shown


def test_a_call_that_is_denied_is_not_made(there: CommandLine, asking: Served, run: str) -> None:
    told = there.ok("runs", "deny", run, CALL, "--json").json
    assert told == {"run": run, "call": CALL, "approved": False, "repeated": False}
    assert (ended(asking, run), made(asking).exists()) == ("completed", False)


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 130), ("", 130)])
def test_without_a_hash_the_arguments_are_shown_and_asked_about(
    there: CommandLine, asking: Served, run: str, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    done = there.run("runs", "approve", run, CALL)
    assert (done.code, SHOWN in done.err.splitlines()) == (code, True)
    assert len(there.ok("runs", "waiting", "--json").json["approvals"]) == (1 if code else 0)


def test_other_arguments_than_those_looked_at_are_not_approved(there: CommandLine, run: str) -> None:
    other = there.run("runs", "approve", run, CALL, "--hash", "0123456789abcdef")
    assert (other.code, "other arguments" in other.err) == (2, True)
    short = there.run("runs", "approve", run, CALL, "--hash", "0")
    assert (short.code, short.err) == (2, "dragoman: Give at least 8 digits of the hash.\n")
    assert len(there.ok("runs", "waiting", "--json").json["approvals"]) == 1


def test_a_server_elsewhere_is_asked_with_a_credential_that_may(asking: Served, run: str, there: CommandLine) -> None:
    away = ("--home", "elsewhere", "--url", asking.url)
    lacking = there.ok("credentials", "create", "lacking", "--scope", "chat:read", "--json").json["credential"]
    other = there.ok("credentials", "create", "other", "--json").json["credential"]
    assert there.run("runs", "waiting", *away, "--credential", lacking).code == 4
    assert there.ok("runs", "waiting", *away, "--credential", other).err == "Nothing waits for approval.\n"
    admin = (asking.folder / ".dragoman/admin-credential").read_text().strip()
    assert run in there.ok("runs", "waiting", *away, "--credential", admin).out


def test_without_a_server_it_says_how_to_start_one(cli: CommandLine) -> None:
    for words in (("waiting",), ("approve", "r", "c"), ("deny", "r", "c")):
        done = cli.run("runs", *words)
        assert (done.code, done.err) == (
            75,
            "dragoman: A call waits with the server that runs it, and no server runs on this home: name one with --url,"
            " or start one with: dragoman serve\n",
        )
