"""What a workflow uses and its project does not have."""

import json
from typing import Any

import pytest

from dragoman.cli.workflow_needs import Has, lacks
from dragoman.core.agents import AgentSpec, ToolSpec
from dragoman.core.names import ProjectId
from dragoman.core.workflows import Member, ToolKind, Workflow, WorkflowTool
from tests.cli.conftest import CommandLine

SOURCE = "6650f0c2a1b2c3d4e5f60718"
NOTHING = Has(ProjectId("shop"), False, frozenset(), frozenset())
ALL = Has(ProjectId("shop"), True, frozenset({"desk"}), frozenset({SOURCE}))


def tool(name: str, kind: ToolKind, server: str = "") -> WorkflowTool:
    return WorkflowTool(ToolSpec(name, "", {"type": "object", "properties": {}}), kind, server=server)


def workflow(*used: str) -> Workflow:
    tools = (tool("w", ToolKind.WEBHOOK), tool("m", ToolKind.MCP, "desk"), tool("p", ToolKind.MOCK))
    members = (
        Member(AgentSpec("a", "Help.", tools=()), tools=used, sources=(SOURCE,)),
        Member(AgentSpec("nobody", "Help.", tools=()), tools=("w", "m"), sources=("0" * 24,)),
    )
    return Workflow("w", "a", members, tools)


@pytest.mark.parametrize(
    ("used", "places"), [(("w", "m", "p"), ["tools.w", "tools.m", "agents.a"]), (("p",), ["agents.a"])]
)
def test_what_is_lacking_is_told_of_what_is_used(used: tuple[str, ...], places: list[str]):
    assert [finding.place for finding in lacks(NOTHING, workflow(*used))] == places
    assert list(lacks(ALL, workflow(*used))) == []


def test_each_says_what_to_do():
    said = "\n".join(map(str, lacks(NOTHING, workflow("w", "m"))))
    assert "dragoman projects set shop --webhook URL" in said
    assert 'dragoman projects mcp add shop "desk" URL' in said and SOURCE in said


def test_it_is_told_when_a_workflow_is_taken_in_published_and_shown_until_it_is_there(cli: CommandLine):
    agent: dict[str, Any] = {"name": "A", "instructions": "Call [@tool:refund](#mention)."}
    tools = [{"name": "refund", "isWebhook": True, "parameters": {"type": "object", "properties": {}}}]
    (cli.folder / "w.json").write_text(json.dumps({"agents": [agent], "tools": tools, "startAgent": "A"}))
    cli.ok("projects", "create", "Shop", "--id", "shop")
    taken = cli.ok("workflows", "import", "w.json", "--project", "shop", "--json")
    version = taken.json["id"]

    def told() -> list[str]:
        published = cli.ok("workflows", "publish", version, "--project", "shop").err
        shown = cli.ok("workflows", "show", version, "--project", "shop").err
        assert published == shown
        return published.splitlines()

    (line,) = told()
    assert line in taken.err and line.startswith("! tools.refund: a webhook runs it, and the project has none")
    cli.ok("projects", "set", "shop", "--webhook", "https://example.com/hook")
    assert told() == []
