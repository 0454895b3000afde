"""Patterns that match no tool are named, with the nearest that would."""

from pathlib import Path

import pytest

from dragoman.core.agents import NO_ARGUMENTS, AgentSpec, ToolSpec
from dragoman.core.workflows import Member, ToolKind, Workflow, WorkflowTool
from dragoman.server.config_shapes import AgentTable
from dragoman.server.tool_patterns import unmatched
from tests.server_process import ServerProcess

TOOLS = (
    ToolSpec("write_file", "", NO_ARGUMENTS, toolset="workspace"),
    ToolSpec("read_file", "", NO_ARGUMENTS, toolset="workspace"),
    ToolSpec("query_prometheus", "", NO_ARGUMENTS, toolset="connections"),
)


@pytest.mark.parametrize("pattern", ["*", "write_*", "workspace.*", "workspace.write_file", "read_fil?"])
def test_a_pattern_that_matches_is_not_spoken_of(pattern: str) -> None:
    assert unmatched({"a": AgentTable(tools=(pattern,), ask=(pattern,), deny=(pattern,))}, TOOLS) == ()


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("write_fil", 'did you mean "write_file"?'),
        ("workspaces.write_file", 'did you mean "workspace.write_file"?'),
        ("workspce.*", 'did you mean "workspace.*"?'),
        ("Write_File", 'did you mean "write_file"?'),
        ("prometheus.delete_*", "see: dragoman tools ls"),
        ("", "see: dragoman tools ls"),
    ],
)
def test_one_that_matches_none_is_named_with_the_nearest(pattern: str, hint: str) -> None:
    table = AgentTable(tools=("*", pattern), ask=(pattern,), deny=(pattern, "read_file"))
    assert unmatched({"calm": AgentTable(), "ops": table}, TOOLS) == (
        f'agents.ops.tools: "{pattern}" matches no tool of this server, so the agent holds none by it; {hint}',
        f'agents.ops.ask: "{pattern}" matches no tool of this server, so nobody is asked before any call; {hint}',
        f'agents.ops.deny: "{pattern}" matches no tool of this server, so it keeps none from being run; {hint}',
    )


def test_what_clients_bring_can_be_denied_and_not_be_asked_about() -> None:
    mine = ("client.*", "tunnel.filesystem_*")
    told = unmatched({"a": AgentTable(ask=mine, deny=mine)}, TOOLS)
    assert [sentence.partition(":")[0] for sentence in told] == ["agents.a.ask"] * 2


def test_a_server_without_tools_has_nothing_to_say() -> None:
    assert unmatched({"a": AgentTable()}, ()) == ()


@pytest.mark.service
def test_a_server_says_so_when_it_starts(tmp_path: Path) -> None:
    config = '[agents.assistant]\nask = ["workspace.write_fil"]\n'
    with ServerProcess(tmp_path / "home", config) as server:
        pass
    said = server.said.decode().splitlines()
    sentence = '"workspace.write_fil" matches no tool of this server, so nobody is asked before any call'
    assert f'! agents.assistant.ask: {sentence}; did you mean "workspace.write_file"?' in said


def test_agents_of_workflows_are_looked_at_too_and_have_their_workflows_tools() -> None:
    tool = WorkflowTool(ToolSpec("refund", "R.", {"type": "object"}, toolset="workflow"), ToolKind.WEBHOOK)
    agent = AgentSpec("Front", "x", tools=("nothing.*",), ask=("workflow.refund",))
    (told,) = unmatched({}, TOOLS, {"desk": Workflow("desk", "Front", (Member(agent),), (tool,))})
    assert told.startswith('workflows.desk.agents.Front.tools: "nothing.*" matches no tool of this server')
