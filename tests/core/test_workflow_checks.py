"""What is wrong with a workflow."""

from typing import Any

import pytest

from dragoman.core.agents import NO_ARGUMENTS, AgentSpec, ToolSpec
from dragoman.core.workflow_checks import Severity, check, error, errors, reachable, warning
from dragoman.core.workflows import Control, Member, Pipeline, ToolKind, Visibility, Workflow, WorkflowTool


def member(name: str, *agents: str, **how: Any) -> Member:
    return Member(AgentSpec(name, f"You are {name}.", tools=()), agents=agents, **how)


def step(name: str, **how: Any) -> Member:
    return member(name, step=True, visibility=Visibility.INTERNAL, control=Control.TO_PARENT, **how)


def tool(name: str, kind: ToolKind = ToolKind.MOCK, why: str = "") -> WorkflowTool:
    return WorkflowTool(ToolSpec(name, "", NO_ARGUMENTS), kind, why=why)


def workflow(*members: Member, start: str = "a", **rest: Any) -> Workflow:
    return Workflow("w", start, members, **rest)


def said(found: Workflow) -> list[str]:
    return [f"{finding.severity} {finding}" for finding in check(found)]


SOUND = workflow(
    member("a", "b", "c", pipelines=("p",), tools=("t",)),
    member("b", "a"),
    member("c", visibility=Visibility.INTERNAL, control=Control.TO_PARENT),
    step("s"),
    pipelines=(Pipeline("p", ("s", "s")),),
    tools=(tool("t"),),
)


def test_nothing_is_wrong_with_a_sound_one():
    assert check(SOUND) == ()
    assert reachable(SOUND) == {"a", "b", "c", "s"}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (workflow(), "error has no agent"),
        (workflow(member("a"), start=""), "error does not say which agent or pipeline begins"),
        (workflow(member("a"), start="z"), 'error begins with "z", and there is no agent or pipeline of that name'),
        (
            workflow(step("a"), pipelines=(Pipeline("p", ("a",)),)),
            'error begins with "a", which runs only as a step of a pipeline',
        ),
        (workflow(member("a"), member("a")), "error agents.a: there are 2 of this name; rename all but one"),
        (workflow(member("a", tools=("t",)), tools=(tool("t"), tool("t"))), "error tools.t: there are 2"),
        (
            workflow(member("a"), step("s"), pipelines=(Pipeline("a", ("s",)),)),
            "error pipelines.a: an agent has this name too",
        ),
        (workflow(member("a"), tools=(tool("rag_search"),)), "error tools.rag_search: agents are offered a tool"),
        (workflow(member("a"), tools=(tool("transfer_to_agent"),)), "error tools.transfer_to_agent: agents"),
        (workflow(member("a", "x")), 'error agents.a: there is no agent "x" in this workflow'),
        (workflow(member("a", tools=("x",))), 'error agents.a: there is no tool "x" in this workflow'),
        (workflow(member("a", pipelines=("x",))), 'error agents.a: there is no pipeline "x" in this workflow'),
        (workflow(member("a", "a")), "error agents.a: hands over to itself"),
        (
            workflow(member("a", "s"), step("s"), pipelines=(Pipeline("p", ("s",)),)),
            'error agents.a: hands over to "s", which runs only as a step of a pipeline',
        ),
        (
            workflow(member("a"), Member(AgentSpec("s", "x"), step=True, agents=("a",))),
            "error agents.s: is a step of a pipeline, and those hand over to nobody",
        ),
        (workflow(member("a"), pipelines=(Pipeline("p", ()),)), "error pipelines.p: has no step"),
        (workflow(member("a"), pipelines=(Pipeline("p", ("x",)),)), 'error pipelines.p: there is no agent "x" to be'),
        (workflow(member("a"), pipelines=(Pipeline("p", ("a",)),)), 'error pipelines.p: its step "a" is an agent that'),
        (workflow(member("a"), member("b")), "warning agents.b: never has the word: no agent that can be reached"),
        (workflow(member("a"), step("s")), "warning agents.s: never has the word: no pipeline that is called has it"),
        (
            workflow(member("a"), step("s"), pipelines=(Pipeline("p", ("s",)),)),
            "warning pipelines.p: is never run",
        ),
        (workflow(member("a", "b"), member("b", calls_max=0)), "warning agents.b: may be handed to 0 times"),
        (
            workflow(member("a", "b"), member("b", visibility=Visibility.INTERNAL, control=Control.TO_START)),
            'warning agents.b: reports to "a" and not to who called it',
        ),
        (workflow(member("a", visibility=Visibility.INTERNAL)), "warning no agent that speaks with the user is ever"),
        (workflow(Member(AgentSpec("a", " "))), "warning agents.a: has no instructions"),
        (workflow(member("a"), tools=(tool("t"),)), "warning tools.t: is used by no agent that can be reached"),
        (
            workflow(member("a", tools=("t",)), tools=(tool("t", ToolKind.MISSING, "No Composio."),)),
            "warning tools.t: cannot be run here, and a will be told so: No Composio.",
        ),
    ],
)
def test_what_is_wrong_is_named(found: Workflow, sentence: str):
    assert any(each.startswith(sentence) for each in said(found)), said(found)


def test_a_workflow_that_begins_with_a_pipeline_answers_by_its_last_step():
    found = workflow(step("s"), start="p", pipelines=(Pipeline("p", ("s",)),))
    assert reachable(found) == {"s"}
    (finding,) = check(found)
    assert (finding.severity, finding.place) == (Severity.WARNING, "")


def test_a_ring_of_internal_agents_is_a_warning_and_no_endless_search():
    inner = {"visibility": Visibility.INTERNAL, "control": Control.TO_PARENT}
    ring = workflow(member("a", "b", **inner), member("b", "a", **inner))
    assert reachable(ring) == {"a", "b"}
    assert [finding.severity for finding in check(ring)] == [Severity.WARNING]


def test_a_start_that_may_be_called_0_times_begins_all_the_same():
    assert check(workflow(member("a", calls_max=0))) == ()


def test_errors_come_first_and_stand_alone_until_they_are_mended():
    found = check(workflow(member("a", "x"), member("alone")))
    assert [finding.severity for finding in found] == [Severity.ERROR]
    assert errors((warning("a", "w"), error("b", "e"))) == (error("b", "e"),)
