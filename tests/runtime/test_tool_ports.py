"""How a call of a workflow's tool is staged: what runs it, and whether the turn has it invented."""

import pytest

from dragoman.core.agents import AgentSpec, ToolSpec
from dragoman.core.workflows import SEARCH, Member, Staging, ToolKind, WorkflowTool
from dragoman.runtime.tool_ports import SERVER, StagedCall

MEMBER = Member(AgentSpec("Desk", ""))
SPEC = ToolSpec("look_up", "", {"type": "object", "properties": {}})


@pytest.mark.parametrize("kind", list(ToolKind))
def test_a_tool_of_the_workflow_is_run_by_what_it_is_unless_it_is_mocked(kind: ToolKind):
    tool = WorkflowTool(SPEC, kind)
    assert StagedCall(MEMBER, Staging("v", mocks={"another": ""}), tool).ran_by("look_up") == kind
    for staging in (Staging("v", mocks={"look_up": ""}), Staging("v", mock_all=True)):
        assert StagedCall(MEMBER, staging, tool).ran_by("look_up") == "mock"


@pytest.mark.parametrize(
    ("staging", "ran_by"),
    [(Staging("v"), "search"), (Staging("v", mock_all=True), "search"), (Staging("v", mocks={SEARCH: "x"}), "mock")],
)
def test_a_search_is_mocked_only_by_its_name(staging: Staging, ran_by: str):
    assert StagedCall(MEMBER, staging).ran_by(SEARCH) == ran_by


def test_a_tool_of_the_servers_own():
    assert StagedCall(MEMBER, Staging("v"), spec=SPEC).ran_by("look_up") == SERVER
    assert StagedCall(MEMBER, Staging("v", mock_all=True), spec=SPEC).ran_by("look_up") == "mock"
