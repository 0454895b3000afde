"""`dragoman mcp`, on a server that is made with the SDK."""

import io
import os
from collections.abc import Iterator

import pytest

from tests.checkout import ROOT
from tests.cli.conftest import CommandLine

pytest.importorskip("mcp", reason="the MCP SDK is not installed: pip install 'dragoman[mcp]'")

from mcp.server.mcpserver import MCPServer

from tests.mcp_server import Served, change, command, serving, tools


@pytest.fixture
def helpdesk() -> MCPServer:
    return tools()


@pytest.fixture
def served(helpdesk: MCPServer) -> Iterator[Served]:
    with serving(helpdesk) as served:
        yield served


@pytest.fixture
def desk(cli: CommandLine, served: Served) -> CommandLine:
    """The command line, with the server as the connection `helpdesk`."""
    with (cli.folder / "dragoman.toml").open("a") as config:
        config.write(f'[connections.helpdesk]\nkind = "mcp"\nurl = "{served.url}/mcp"\ntools = ["e*", "find_*"]\n')
    return cli


def test_servers_are_listed_with_what_is_pinned_of_them(desk: CommandLine, served: Served) -> None:
    (before,) = desk.ok("mcp", "ls", "--json").json
    desk.ok("mcp", "pin", "helpdesk", "--yes")
    served.requests.clear()
    (after,) = desk.ok("mcp", "ls", "--json").json

    url = f"{served.url}/mcp"
    unpinned = {"pinned": None, "pinned_at": None}
    assert before == {"name": "helpdesk", "project": None, "transport": "http", "where": url} | unpinned
    assert (after["pinned"], after["pinned_at"][-1]) == (3, "Z")
    assert f"helpdesk  configuration  http  {url}  3 tools" in desk.ok("mcp", "ls").out
    assert served.requests == []


def test_without_a_server_it_says_how_to_have_one(cli: CommandLine) -> None:
    assert 'kind = "mcp"' in cli.ok("mcp", "ls").err


def test_tools_are_held_against_the_pin(desk: CommandLine, helpdesk: MCPServer) -> None:
    def states() -> dict[str, str]:
        return {each["name"]: each["state"] for each in desk.ok("mcp", "tools", "helpdesk", "--json").json}

    assert set(states().values()) == {"not pinned"}
    desk.ok("mcp", "pin", "helpdesk", "--yes")
    assert states() == {"echo": "pinned", "environment": "pinned", "find_ticket": "pinned"}

    change(helpdesk, "Other.")
    helpdesk.remove_tool("environment")
    helpdesk.add_tool(lambda: "", name="find_more", description="More.")
    assert states() == {"echo": "changed", "environment": "gone", "find_ticket": "pinned", "find_more": "new"}
    shown = desk.ok("mcp", "tools", "helpdesk")
    assert "echo         changed  pure        Other.\n" in shown.out
    assert "Pin them as they are now with: dragoman mcp pin helpdesk" in shown.err

    done = desk.ok("mcp", "pin", "helpdesk", "--yes", "--json").json
    assert done["pinned"] == 3
    assert done["changes"] == [
        {"name": "echo", "what": "changed"},
        {"name": "environment", "what": "gone"},
        {"name": "find_more", "what": "new"},
    ]


def test_pinning_shows_what_it_is_about_and_asks(
    desk: CommandLine, helpdesk: MCPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    asked = desk.run("mcp", "pin", "helpdesk")
    assert asked.code == 130
    assert "new: echo  Say it again." in asked.err
    assert desk.ok("mcp", "ls", "--json").json[0]["pinned"] is None

    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert desk.ok("mcp", "pin", "helpdesk").out == "helpdesk: 3 tools are pinned.\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert "Nothing changed since it was pinned." in desk.ok("mcp", "pin", "helpdesk").err


def test_a_pin_can_be_taken_away(desk: CommandLine) -> None:
    assert desk.run("mcp", "unpin", "helpdesk").code == 3
    desk.ok("mcp", "pin", "helpdesk", "--yes")
    assert desk.ok("mcp", "unpin", "helpdesk", "--json").json == {"name": "helpdesk", "pinned": None}
    assert desk.ok("mcp", "ls", "--json").json[0]["pinned"] is None


def test_pinned_tools_are_tools_of_agents(desk: CommandLine) -> None:
    def held() -> list[str]:
        return [each["name"] for each in desk.ok("tools", "ls", "--json").json if each["toolset"] == "mcp.helpdesk"]

    assert held() == []
    desk.ok("mcp", "pin", "helpdesk", "--yes")
    assert held() == ["helpdesk_echo", "helpdesk_find_ticket", "helpdesk_environment"]
    assert desk.ok("tools", "call", "helpdesk_echo", '{"text": "hello"}').out == "hello\n"


def test_a_program_is_started_to_be_asked(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "src"))))
    words = ", ".join(f'"{word}"' for word in command())
    with (cli.folder / "dragoman.toml").open("a") as config:
        config.write(f'[connections.helpdesk]\nkind = "mcp"\ncommand = [{words}]\nenv = ["PYTHONPATH"]\n')

    assert "echo" in [each["name"] for each in cli.ok("mcp", "tools", "helpdesk", "--json").json]
    (listed,) = cli.ok("mcp", "ls", "--json").json
    assert (listed["transport"], listed["where"]) == ("stdio", " ".join(command()))


def test_a_name_that_is_not_there_is_not_found(desk: CommandLine) -> None:
    for verb in ("tools", "pin", "unpin"):
        done = desk.run("mcp", verb, "helpdsk")
        assert (done.code, "Did you mean helpdesk?" in done.err) == (3, True)


def test_a_server_that_is_not_there_is_upstreams_fault(cli: CommandLine) -> None:
    with (cli.folder / "dragoman.toml").open("a") as config:
        config.write('[connections.helpdesk]\nkind = "mcp"\nurl = "http://127.0.0.1:1/mcp"\n')
    done = cli.run("mcp", "tools", "helpdesk")

    assert done.code == 5
    assert done.err == "dragoman: The MCP server helpdesk could not be reached. Is it running, and is its url right?\n"


def test_servers_of_a_project_are_its_own(desk: CommandLine) -> None:
    project = desk.ok("projects", "create", "checkout", "--json").json["id"]
    desk.ok("projects", "mcp", "add", project, "orders", "https://mcp.example.com/mcp")

    listed = {each["name"]: each["project"] for each in desk.ok("mcp", "ls", "--project", project, "--json").json}
    assert listed == {"orders": project, "helpdesk": None}
    assert [each["name"] for each in desk.ok("mcp", "ls", "--json").json] == ["helpdesk"]
    assert desk.run("mcp", "unpin", "orders").code == 3
