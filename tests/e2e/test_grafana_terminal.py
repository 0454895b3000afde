"""Grafana's command line client on a terminal of its own, logged in and lending its tools, against a live server."""

import re
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.e2e.grafana_client import Cli
from tests.e2e.grafana_stage import API, SECRET, WAIT_S, Stage, prometheus
from tests.e2e.packages import INSTALL_S, binary

pytestmark = [
    pytest.mark.service,
    pytest.mark.timeout(INSTALL_S + 60),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the client reaches for the desktop's own keyring"),
]

READY = "Type your message"
CTRL_D = "\x04"


@pytest.fixture(scope="module")
def program() -> str:
    return binary("grafana-assistant")


@pytest.fixture(scope="module")
def server(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with prometheus() as url, Stage(tmp_path_factory.mktemp("home"), prometheus=url) as stage:
        yield stage
    assert b"Traceback" not in stage.said


@pytest.fixture
def cli(server: Stage, program: str, tmp_path: Path) -> Cli:
    """With a service account's credential."""
    return Cli(program, tmp_path, {"GRAFANA_URL": server.url, "GRAFANA_SA_TOKEN": server.glsa})


# -- chat --------------------------------------------------------------------------------------------------------------


def test_two_turns_are_talked_and_taken_up_again(cli: Cli, server: Stage) -> None:
    with cli.open("chat") as terminal:
        terminal.wait_for(READY)
        terminal.say("hello")
        terminal.wait_for("Good morning.")
        terminal.say("and now?")
        screen = terminal.wait_for("Still good.")
        shown = re.search(r"context: (\S+)", screen)
        terminal.type(CTRL_D)
        assert terminal.wait() == 0
    assert shown
    (chat,) = [each["id"] for each in items(server, "cli") if each["id"].startswith(shown[1].rstrip("….")[:8])]
    assert [text for _, text in server.texts(chat)] == ["hello", "Good morning.", "and now?", "Still good."]
    for way in (("--context", chat), ("--continue",)):
        with cli.open("chat", *way) as terminal:
            screen = terminal.wait_for("Still good.")
            assert [screen.count(text) for text in ("hello", "Good morning.", "and now?")] == [1, 1, 1]
            assert "<context>" not in screen
            terminal.wait_for(READY)
            terminal.type(CTRL_D)
            assert terminal.wait() == 0
    with cli.open("chat", "--continue") as terminal:
        terminal.wait_for(READY)
        terminal.say("hello again")
        terminal.wait_for("hello again\n\nAssistant\n  Good morning.")
    assert [text for _, text in server.texts(chat)][-2:] == ["hello again", "Good morning."]


def items(server: Stage, source: str) -> list[dict[str, Any]]:
    with server.client as client:
        return client.get("/chats", params={"source": source}).json()["data"]["items"]


@pytest.mark.parametrize(("key", "said"), [("y", "It is written."), ("n", "Then I leave it.")])
def test_a_call_is_approved_and_denied_by_a_key(cli: Cli, server: Stage, key: str, said: str) -> None:
    made = server.home / "workspace" / "made.txt"
    made.unlink(missing_ok=True)
    with cli.open("chat") as terminal:
        terminal.wait_for(READY)
        terminal.say("write a file")
        terminal.wait_for("Approve write_file")
        assert not made.exists()
        terminal.type(key)
        terminal.wait_for(said)
    assert made.exists() == (key == "y")


def test_a_time_series_is_drawn(cli: Cli) -> None:
    with cli.open("chat") as terminal:
        terminal.wait_for(READY)
        terminal.say("show me the load")
        terminal.wait_for("This is the load.")
        screen = terminal.wait_for("Time: ")
    assert 'up{job="api"}' in screen
    assert len(re.findall("[\u2801-\u28ff]", screen)) > 40, screen  # it draws with braille dots


# -- login -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logged_in(server: Stage, program: str, tmp_path: Path) -> Cli:
    """By the page of the server, filled in as a person would do it in a browser; each time as somebody new."""
    cli = Cli(program, tmp_path, {})
    assert cli.run("config", "set-instance", "here", "--url", server.url, "--default").returncode == 0
    with cli.start("auth") as process:
        try:
            assert process.stdout is not None
            page = next(line.strip() for line in process.stdout if line.strip().startswith("http"))
            callback = consent(page, server.new_glsa("Admin"))
            assert httpx.get(callback, timeout=WAIT_S, trust_env=False).status_code == 200
            told = process.stdout.read()
            assert process.wait(WAIT_S) == 0, told
        finally:
            process.kill()
    assert 'Authenticated instance "here"' in told
    return cli


def consent(page: str, credential: str) -> str:
    """Open the page, type the credential, press Allow; where the browser is sent."""
    with httpx.Client(timeout=WAIT_S, trust_env=False) as browser:
        shown = browser.get(page)
        assert (shown.status_code, "<script" in shown.text) == (200, False)
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', shown.text))
        typed = re.search(
            r'<input[^>]*type="password"[^>]*name="([^"]+)"|name="([^"]+)"[^>]*type="password"', shown.text
        )
        allow = re.search(r'<button[^>]*name="([^"]+)"[^>]*value="(allow[^"]*)"', shown.text)
        assert typed and allow, shown.text
        filled = {**hidden, typed[1] or typed[2]: credential, allow[1]: allow[2]}
        sent = browser.post(page, data=filled)
    assert sent.status_code in (302, 303), sent.text
    callback = sent.headers["location"]
    assert urlsplit(callback).hostname == "127.0.0.1" and "code" in parse_qs(urlsplit(callback).query)
    return callback


def test_a_login_gives_what_the_client_needs_and_no_more(logged_in: Cli, server: Stage) -> None:
    done = logged_in.run("prompt", "hello", "--json", "--no-stream")
    assert (done.returncode, "Good morning." in done.stdout) == (0, True), done.stderr
    given = re.search(r"cli_token: (gat_\S+)", logged_in.config.read_text())
    assert given
    with httpx.Client(headers={"Authorization": f"Bearer {given[1]}"}, timeout=WAIT_S, trust_env=False) as client:
        assert client.get(f"{server.url}{API}/chats").status_code == 200
        assert client.get(f"{server.url}/api/serviceaccounts/search").status_code == 403


def test_a_credential_that_ends_soon_is_renewed(logged_in: Cli) -> None:
    before = logged_in.config.read_text()
    soon = (datetime.now(UTC) + timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    logged_in.config.write_text(re.sub(r"(cli_token_expires_at: ).*", rf'\1"{soon}"', before))
    done = logged_in.run("prompt", "hello", "--json", "--no-stream")
    assert done.returncode == 0, done.stderr
    after = logged_in.config.read_text()
    for kept in ("cli_token", "cli_refresh_token"):
        one, other = (re.search(rf"{kept}: (\S+)", text) for text in (before, after))
        assert one and other and one[1] != other[1]
    assert soon not in after


# -- tunnel ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_notes(logged_in: Cli) -> Cli:
    """A project on the client's own machine."""
    project = logged_in.home / "project"
    project.mkdir()
    (project / "notes.txt").write_text(f"Do not forget the {SECRET}.\n")
    assert logged_in.run("config", "add-project", "my-app", str(project)).returncode == 0
    return logged_in


def test_a_file_of_the_clients_machine_reaches_the_answer(with_notes: Cli) -> None:
    with with_notes.start("tunnel", "connect", "--verbose") as tunnel:
        try:
            assert tunnel.stdout is not None
            lent = next(line for line in tunnel.stdout if re.search("tools registered|level=(WARN|ERROR)", line))
            assert "tools registered" in lent
            done = with_notes.run("prompt", "read my notes", "--json", "--no-stream")
            assert (done.returncode, f"Your notes speak of a {SECRET}." in done.stdout) == (0, True), done.stdout
            tunnel.send_signal(signal.SIGINT)
            assert "level=ERROR" not in tunnel.stdout.read()
            assert tunnel.wait(WAIT_S) == 0
        finally:
            tunnel.kill()
    with with_notes.open("chat", "--filesystem") as terminal:  # its tools are known by now, and it runs them itself
        terminal.wait_for("Tunnel started")
        terminal.say("read my notes")
        terminal.wait_for(f"Your notes speak of a {SECRET}.", timeout_s=30)
        terminal.type(CTRL_D)
        assert terminal.wait() == 0
