"""Workflows as data: what is said of a member, and that all of it goes onto a tape and comes back."""

import msgspec
import pytest

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, Repeat, ToolSpec
from dragoman.core.messages import said
from dragoman.core.workflows import (
    Control,
    Handing,
    Member,
    Pipeline,
    Staging,
    ToolKind,
    Visibility,
    Workflow,
    WorkflowTool,
    target_of,
)

SPEC = AgentSpec("Deep", "Find it.", tools=())


def test_a_step_is_internal_whatever_its_visibility_says() -> None:
    assert Member(SPEC, step=True).internal
    assert Member(SPEC, visibility=Visibility.INTERNAL).internal
    assert not Member(SPEC).internal
    assert Member(SPEC).name == "Deep"


def test_a_workflow_is_the_same_after_it_was_kept_as_json() -> None:
    tool = WorkflowTool(ToolSpec("t", "T.", {"type": "object"}, repeat=Repeat.IDEMPOTENT), ToolKind.MCP, server="desk")
    member = Member(SPEC, "Digs.", Control.TO_PARENT, Visibility.INTERNAL, calls_max=0, tools=("t",), sources=("s",))
    workflow = Workflow("w", "Deep", (member,), (tool,), (Pipeline("p", ("Deep", "Deep")),), "Hi.")
    assert msgspec.json.decode(msgspec.json.encode(workflow), type=Workflow) == workflow


def test_how_a_turn_is_staged_and_handed_over_stands_on_the_tape() -> None:
    staging = Staging("5f", "Deep", {"t": "late"}, True, "always late")
    for event in (
        ev.TurnReceived((said("user", "hi"),), staging=staging),
        ev.HandedOver("A", "B", Handing.STEPPED, "p"),
        ev.ReplyFinished("", internal="clause 4"),
    ):
        assert ev.load_event(ev.dump_event(event)) == event


def test_a_hand_over_of_an_older_tape_is_a_transfer() -> None:
    told = ev.load_event(b'{"kind":"handed_over","from_agent":"A","to_agent":"B"}')
    assert told == ev.HandedOver("A", "B", Handing.TRANSFERRED)


def test_mocks_of_two_stagings_are_not_the_same_table() -> None:
    one, other = Staging("a"), Staging("b")
    one.mocks["t"] = "late"
    assert other.mocks == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"assistant": "Billing Desk", "more": 1}', "Billing Desk"),
        ('{"assistant": 7}', ""),
        ("{}", ""),
        ("[]", ""),
        ("Billing Desk", ""),
        ("", ""),
        ("[" * 100_000, ""),
    ],
)
def test_whom_a_hand_over_names(text: str, name: str):
    assert target_of(text) == name
