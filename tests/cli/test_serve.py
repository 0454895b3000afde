"""`dragoman serve`, and the commands that work beside it."""

import json
import os
import socket
import subprocess
import sys
import urllib.request


def test_it_says_where_it_listens_answers_and_stops_in_order(cli, served):
    server = type(served)(cli.folder, "--listen", "127.0.0.1:0")
    with urllib.request.urlopen(server.url + "/health", timeout=5) as answer:
        assert json.loads(answer.read()) == {"status": "ok"}
    assert (cli.home / "admin-credential").stat().st_mode & 0o777 == 0o600
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)


def test_it_is_asked_with_the_first_admins_credential(beside, served):
    done = beside.ok("ask", "which files are there?", "--url", served.url, "--conversation", "k")

    assert [line for line in done.out.splitlines() if line] == ["I look.", "There is notes.txt."]
    assert "  list_files\n" in done.err
    shown = beside.ok("ask", "hello", "--url", served.url, "--conversation", "k", "--json").json
    assert (shown["status"], shown["text"], shown["conversation"]) == ("completed", "Echo: hello", "k")
    listed = {each["id"]: each["turns"] for each in beside.ok("conversations", "ls", "--json").json}
    assert listed["k"] == 2


def test_lists_and_credentials_work_beside_it_and_turns_do_not(beside, served):
    created = beside.ok("credentials", "create", "ci", "--json").json
    assert beside.ok("ask", "hi", "--url", served.url, "--credential", created["credential"]).out == "Echo: hi\n"
    done = beside.run("ask", "hi")
    assert done.code == 75
    who = f"process {served.process.pid}, listening on {served.url}: "
    assert f"{who}talk to it with --url {served.url}, stop it first, or use another --home.\n" in done.err
    done = beside.run("conversations", "rm", "k", "--yes")
    assert done.code == 75
    assert f"{who}stop it first, or use another --home.\n" in done.err


def test_a_wrong_credential_is_denied(beside, served):
    done = beside.run("ask", "hi", "--url", served.url, "--credential", "drg_wrong")
    assert done.code == 4
    assert done.err.startswith("dragoman: The server does not know this credential (")


def test_a_run_is_cancelled_through_the_server_on_this_home(beside, served):
    beside.ok("ask", "hi", "--url", served.url)
    run = beside.ok("runs", "ls", "--json").json[0]["id"]

    assert beside.ok("runs", "cancel", run).out == f"run {run}: completed\n"
    assert beside.run("runs", "cancel", "r_nothing").code == 3


def test_a_second_server_on_one_home_names_the_first(beside, served):
    done = beside.run("serve", "--listen", "127.0.0.1:0")
    assert done.code == 75
    assert f"process {served.process.pid}, listening on {served.url}" in done.err


def test_the_doctor_names_the_server(beside, served):
    findings = {finding["name"]: finding["what"] for finding in beside.ok("doctor", "--json").json}
    assert findings["server"] == f"process {served.process.pid} runs on this home, listening on {served.url}"


def test_without_a_credential_it_does_not_listen_where_others_can_reach_it(cli):
    done = cli.run("serve", "--listen", "0.0.0.0:0")

    assert done.code == 78
    assert "  dragoman credentials create admin --scope admin\n" in done.err


def test_an_address_that_is_taken_is_said(cli):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "dragoman", "serve", "--listen", address]
        done = subprocess.run(command, cwd=cli.folder, capture_output=True, text=True, timeout=20)

    assert done.returncode == 75
    assert done.stderr.splitlines()[-1].startswith(f"dragoman: Cannot listen on {address}: ")


def test_a_bad_config_is_78_before_anything_is_made(cli):
    (cli.folder / "dragoman.toml").write_text("[sever]\n")
    assert cli.run("serve").code == 78
    assert os.listdir(cli.home) == ["workspace"]
