"""`dragoman ask`, on the local store."""

import io
import os
import signal
import subprocess
import sys

from dragoman.stores.sqlite.lock import TapeLock


def test_the_answer_is_on_stdout_and_what_it_took_on_stderr(cli):
    done = cli.ok("ask", "which files are there?")

    assert done.out == "I look.\nThere is notes.txt.\n"
    tool, total = done.err.splitlines()
    assert tool.startswith("  list_files  {}   ")
    assert "  2 steps  1 tool  " in total
    assert "  14 in / 7 out tokens      (dragoman runs show r_" in total


def test_json_holds_it_all_and_nothing_else_is_on_stdout(cli):
    done = cli.ok("ask", "which files are there?", "--conversation", "k", "--json").json

    assert (done["conversation"], done["status"], done["steps"]) == ("k", "completed", 2)
    assert done["text"] == "There is notes.txt."
    assert [(tool["name"], tool["error"]) for tool in done["tools"]] == [("list_files", False)]
    assert done["usage"] == {"prompt_tokens": 14, "completion_tokens": 7}


def test_a_conversation_goes_on_where_it_was_left(cli):
    cli.ok("ask", "one", "--conversation", "k")
    cli.ok("ask", "two", "--conversation", "k")
    (listed,) = cli.ok("conversations", "ls", "--json").json

    assert (listed["id"], listed["turns"], listed["messages"], listed["origin"]) == ("k", 2, 4, "cli")


def test_quiet_is_the_answer_alone(cli):
    done = cli.ok("-q", "ask", "hello")
    assert (done.out, done.err) == ("Echo: hello\n", "")


def test_another_model_can_be_asked(cli):
    done = cli.ok("ask", "hello", "--model", "spare", "--json").json
    assert (done["status"], done["text"] != "Echo: hello") == ("completed", True)


def test_the_question_may_come_from_stdin(cli, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    assert cli.ok("ask", "-").out == "Echo: from a pipe\n"


def test_a_model_that_fails_is_exit_code_5(cli):
    done = cli.run("ask", "break it")

    assert (done.code, done.out) == (5, "")
    assert done.err.startswith("dragoman: ")
    assert "  failed  " in done.err


def test_an_agent_that_does_not_exist_is_not_found(cli):
    done = cli.run("ask", "hello", "--agent", "nobody")
    assert (done.code, done.err) == (3, "dragoman: There is no agent nobody.\n")


WORKFLOW = """
[defaults]
model = "main"
agent = "flow"
[workflows.flow.agents.Hub]
instructions = "Ask [@agent:Scout]."
[workflows.flow.agents.Scout]
instructions = "Look."
visibility = "internal"
control = "relinquish_to_parent"
"""
PLAY = """
[[reply]]
match = "colour"
times = 1
calls = [{ name = "transfer_to_agent", arguments = { assistant = "Scout" } }]
[[reply]]
match = "colour"
text = ["The secret ", "is blue."]
[[reply]]
match = "secret"
text = ["It is ", "blue."]
"""


def test_a_workflow_answers_as_an_agent_does_and_its_hand_overs_are_told_beside_the_answer(cli):
    config = cli.folder / "dragoman.toml"
    config.write_text(config.read_text() + WORKFLOW)
    (cli.folder / "script.toml").write_text(PLAY)
    done = cli.ok("ask", "which colour?", "--conversation", "k")

    assert done.out == "It is blue.\n"
    assert done.err.splitlines()[:-1] == [
        "  handed over from Hub to Scout, who reports back",
        "  handed over from Scout to Hub, who had called",
    ]
    assert cli.ok("ask", "more", "--conversation", "k", "--agent", "flow").out == "Echo: more\n"
    shown = cli.ok("conversations", "show", "k").out + cli.ok("conversations", "export", "k", "--format", "grip").out
    assert "secret" not in shown and "Hub: It is blue." in shown
    (run,) = [run["id"] for run in cli.ok("runs", "ls", "--json").json][1:]
    drawn = cli.ok("runs", "show", run).out
    assert "from Hub to Scout, who reports back" in drawn and "for agents alone" in drawn


def test_an_empty_question_and_one_too_long_are_refused(cli):
    assert cli.run("ask", "  ").code == 2
    done = cli.run("ask", "x" * 100_001)
    assert done.code == 2
    assert done.err == "dragoman: The text has 100001 characters; 100000 at most ([limits] message_chars).\n"


def test_a_store_in_use_by_a_server_names_it_and_how_to_talk_to_it(cli):
    path = cli.home / "dragoman.db"
    lock = TapeLock.take(path)
    lock.announce("http://127.0.0.1:8080")
    done = cli.run("ask", "hello")
    lock.release()

    assert done.code == 75
    assert done.err == (
        f"dragoman: The store .dragoman/dragoman.db is in use by process {os.getpid()}, listening on"
        " http://127.0.0.1:8080: talk to it with --url http://127.0.0.1:8080, stop it first, or use another --home.\n"
    )


def test_ctrl_c_stops_the_run_and_says_so(cli):
    """In a process of its own, for the signal. Its model would take a minute."""
    pieces = ", ".join(['"on and on "'] * 600)
    (cli.folder / "script.toml").write_text(f"[[reply]]\ntext = [{pieces}]\ndelay_s = 0.1\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman", "ask", "tell me", "--conversation", "k"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cli.folder,
    )
    assert process.stdout is not None
    begun = process.stdout.read(10)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)

    assert (process.returncode, begun) == (130, b"on and on ")
    assert b"  cancelled  " in err
    assert b"Traceback" not in err + out
    assert [run["status"] for run in cli.ok("runs", "ls", "--json").json] == ["cancelled"]
