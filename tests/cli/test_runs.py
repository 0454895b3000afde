"""`dragoman runs`, without a server."""


def asked(cli, text: str) -> str:
    return cli.run("ask", text, "--conversation", "k", "--json").json["run"]


def test_runs_are_listed_newest_first(cli):
    first, second = asked(cli, "one"), asked(cli, "break it")
    listed = cli.ok("runs", "ls", "--json").json

    assert [(run["id"], run["status"], run["conversation"]) for run in listed] == [
        (second, "failed", "k"),
        (first, "completed", "k"),
    ]
    assert cli.ok("runs", "ls", "--limit", "1").out.startswith(second)


def test_an_empty_list_says_how_to_begin(cli):
    assert cli.ok("runs", "ls").err == 'No run yet. Start one with: dragoman ask "which files are there?"\n'


def test_a_timeline_is_drawn(cli):
    run = asked(cli, "which files are there?")
    lines = cli.ok("runs", "show", run).out.splitlines()

    assert lines[0].startswith(f"run {run}  conversation k  completed  ")
    assert [line.split()[1] if "├" not in line and "└" not in line else line.split()[2] for line in lines[1:]] == [
        "accepted",
        "claimed",
        "model",
        "tool",
        "model",
        "completed",
    ]
    assert "list_files" in lines[4]


def test_a_timeline_as_json_holds_every_event(cli):
    run = asked(cli, "hello")
    shown = cli.ok("runs", "show", run, "--json").json

    assert shown["run"]["id"] == run
    assert [entry["seq"] for entry in shown["entries"]] == sorted(entry["seq"] for entry in shown["entries"])
    assert shown["entries"][0]["event"]["kind"] == "turn_received"
    assert shown["entries"][-1]["event"]["kind"] == "run_completed"


def test_a_run_that_does_not_exist_is_not_found(cli):
    for verb in ("show", "cancel"):
        done = cli.run("runs", verb, "r_nothing")
        assert (done.code, done.err) == (3, "dragoman: There is no run r_nothing.\n")


def test_cancelling_a_run_that_has_ended_changes_nothing(cli):
    run = asked(cli, "hello")

    assert cli.ok("runs", "cancel", run).out == f"run {run}: completed\n"
    assert cli.ok("runs", "cancel", run, "--json").json == {"id": run, "status": "completed"}
