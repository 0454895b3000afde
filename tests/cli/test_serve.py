"""`dragoman serve`, and the commands that talk to it, each in a process of its own or over the network."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest


class Served:
    """A server on the command line's home."""

    def __init__(self, cli, *args: str) -> None:
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dragoman", "serve", *args],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cli.folder,
        )
        assert self.process.stderr is not None
        self.url = ""
        for line in self.process.stderr:
            self.log.append(line)
            if line.startswith("listening on "):
                self.url = line.removeprefix("listening on ").strip()
                break

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        _, rest = self.process.communicate(timeout=20)
        self.log.append(rest)
        return self.process.returncode


@pytest.fixture
def served(cli) -> Iterator[Served]:
    server = Served(cli, "--listen", "127.0.0.1:0")
    yield server
    if server.process.poll() is None:
        server.stop()


def test_it_says_where_it_listens_answers_and_stops_in_order(cli, served: Served):
    with urllib.request.urlopen(served.url + "/health", timeout=5) as answer:
        assert json.loads(answer.read()) == {"status": "ok"}
    assert (cli.home / "admin-credential").stat().st_mode & 0o777 == 0o600
    assert served.stop() == 0
    assert "Traceback" not in "".join(served.log)


def test_it_is_asked_with_the_first_admins_credential(cli, served: Served):
    done = cli.ok("ask", "which files are there?", "--url", served.url, "--conversation", "k")

    assert [line for line in done.out.splitlines() if line] == ["I look.", "There is notes.txt."]
    assert "  list_files\n" in done.err
    shown = cli.ok("ask", "hello", "--url", served.url, "--conversation", "k", "--json").json
    assert (shown["status"], shown["text"], shown["conversation"]) == ("completed", "Echo: hello", "k")
    assert cli.ok("conversations", "ls", "--json").json[0]["turns"] == 2


def test_lists_and_credentials_work_beside_it_and_turns_do_not(cli, served: Served):
    created = cli.ok("credentials", "create", "ci", "--json").json
    assert cli.ok("ask", "hi", "--url", served.url, "--credential", created["credential"]).out == "Echo: hi\n"
    done = cli.run("ask", "hi")
    assert done.code == 75
    assert f"process {served.process.pid}. Talk to it with --url {served.url}, or stop it first." in done.err


def test_a_wrong_credential_is_denied(cli, served: Served):
    done = cli.run("ask", "hi", "--url", served.url, "--credential", "drg_wrong")
    assert done.code == 4
    assert done.err.startswith("dragoman: The server does not know this credential (")


def test_a_run_is_cancelled_through_the_server_on_this_home(cli, served: Served):
    cli.ok("ask", "hi", "--url", served.url)
    (run,) = cli.ok("runs", "ls", "--json").json

    assert cli.ok("runs", "cancel", run["id"]).out == f"run {run['id']}: completed\n"
    assert cli.run("runs", "cancel", "r_nothing").code == 3


def test_without_a_credential_it_does_not_listen_where_others_can_reach_it(cli):
    done = cli.run("serve", "--listen", "0.0.0.0:0")

    assert done.code == 78
    assert "  dragoman credentials create admin --scope admin\n" in done.err


def test_an_address_that_is_taken_is_said(cli):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = cli.run("serve", "--listen", f"127.0.0.1:{port}")

    assert done.code == 75
    assert f"127.0.0.1:{port}" in done.err


def test_a_second_server_on_one_home_names_the_first(cli, served: Served):
    done = cli.run("serve", "--listen", "127.0.0.1:0")
    assert done.code != 0
    assert f"process {served.process.pid}" in done.err


def test_a_bad_config_is_78(cli):
    (cli.folder / "dragoman.toml").write_text("[sever]\n")
    assert cli.run("serve").code == 78
    assert os.listdir(cli.home) == ["workspace"]
