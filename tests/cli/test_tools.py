"""`dragoman tools`."""


def test_they_are_listed_with_what_may_be_repeated(cli):
    listed = {tool["name"]: tool for tool in cli.ok("tools", "ls", "--json").json}

    assert listed["list_files"]["toolset"] == "workspace"
    assert listed["list_files"]["repeat"] == "pure"
    assert listed["list_files"]["parameters"]["type"] == "object"
    assert cli.ok("tools", "ls").out.splitlines()[0].split()[0] == next(iter(listed))


def test_what_each_needs_before_it_runs_is_listed_and_a_pattern_that_matches_none(cli):
    config = (cli.folder / "dragoman.toml").read_text()
    table = '[agents.assistant]\nask = ["workspace.*_file"]\ndeny = ["write_file", "serch_files"]\n'
    (cli.folder / "dragoman.toml").write_text(config + table)
    listed = {tool["name"]: tool["policy"] for tool in cli.ok("tools", "ls", "--json").json}

    assert {name: listed[name] for name in ("list_files", "edit_file", "write_file", "search_files")} == {
        "list_files": "auto",
        "edit_file": "ask",
        "write_file": "deny",
        "search_files": "auto",
    }
    done = cli.ok("tools", "ls")
    assert done.out.splitlines()[0].split()[:4] == ["list_files", "workspace", "auto", "pure"]
    assert done.err == (
        '! agents.assistant.deny: "serch_files" matches no tool of this server, so it keeps none from being run;'
        ' did you mean "search_files"?\n'
    )
    assert " warn  tools          agents.assistant.deny: " in cli.run("doctor").out


def test_one_is_called(cli):
    done = cli.ok("tools", "call", "read_file", '{"path": "notes.txt"}')
    assert "remember the milk" in done.out
    assert cli.ok("tools", "call", "list_files", "--json").json["error"] is False


def test_a_tool_that_fails_is_exit_code_5_and_says_why(cli):
    done = cli.run("tools", "call", "read_file", '{"path": "nowhere.txt"}')
    assert (done.code, done.out) == (5, "")
    assert done.err.startswith("dragoman: ")
    assert cli.run("tools", "call", "read_file", "not json", "--json").json["code"] == "bad_arguments"


def test_a_tool_or_agent_that_does_not_exist_is_not_found(cli):
    assert cli.run("tools", "call", "fly").err == "dragoman: There is no tool fly.\n"
    assert cli.run("tools", "call", "fly").code == 3
    assert cli.run("tools", "ls", "--agent", "nobody").code == 3
