"""`dragoman tools`."""


def test_they_are_listed_with_what_may_be_repeated(cli):
    listed = {tool["name"]: tool for tool in cli.ok("tools", "ls", "--json").json}

    assert listed["list_files"]["toolset"] == "workspace"
    assert listed["list_files"]["repeat"] == "pure"
    assert listed["list_files"]["parameters"]["type"] == "object"
    assert cli.ok("tools", "ls").out.splitlines()[0].split()[0] == next(iter(listed))


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
