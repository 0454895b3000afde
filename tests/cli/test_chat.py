"""`dragoman chat`, fed from a pipe: as many turns as there are lines."""

import io


def test_each_line_is_a_turn_of_one_conversation(cli, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n"))
    done = cli.ok("chat", "--conversation", "k")

    assert done.out == "Echo: one\nEcho: two\n"
    assert done.err.splitlines()[0] == "conversation k; Ctrl-C stops an answer, Ctrl-D leaves"
    assert done.err.splitlines()[-1] == "go on with: dragoman chat --conversation k"
    assert [turn["turns"] for turn in cli.ok("conversations", "ls", "--json").json] == [2]


def test_a_turn_that_fails_does_not_end_the_talk(cli, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("break it\nstill there?\n"))
    done = cli.ok("chat")

    assert done.out == "Echo: still there?\n"
    assert "  failed  " in done.err


def test_a_line_too_long_does_not_end_the_talk(cli, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 100_001 + "\nok\n"))
    done = cli.ok("chat")

    assert done.out == "Echo: ok\n"
    assert "The text has 100002 characters; 100000 at most" in done.err


def test_a_config_that_cannot_be_used_is_said_at_once(cli):
    (cli.folder / "script.toml").write_text("[[reply]]\nfault = 'nonsense'\n")
    assert cli.run("chat").code == 2
