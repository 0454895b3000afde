"""The union of events and its one spelling."""

import msgspec
import pytest

from dragoman.core import events as ev
from dragoman.core.agents import Loop, ToolSpec
from dragoman.core.messages import Masked, Message, ToolCall, ToolResult, Usage, said
from dragoman.core.names import CallId, RunId
from dragoman.core.screen import Screen, ScreenItem
from dragoman.core.workflows import Staging

SAMPLES: list[ev.Event] = [
    ev.TurnReceived((said("user", "é\U0001f600"),), deltas=False),
    ev.ReplyFinished("text", (ToolCall(CallId("c"), "t", "{}"),), Usage(1, 2), "tool_calls"),
    ev.TurnReceived(
        (Message("tool", (ToolResult(CallId("c"), "{}", shown="[]"),), aside='{"wire":"x"}'),),
        owner="o",
        owner_wide=True,
        system="Be brief.",
        loop=Loop("context", 8, ToolSpec("exit", "", {"required": ["b", "a"]}), temperature=0.0, only=("look",)),
        screen=Screen("A chart.", (ScreenItem("n", "d", "[1]"),)),
        whole=True,
        restates=2,
    ),
    ev.TurnReceived((), loop=Loop()),
    ev.TurnStaged((said("user", "hi"),), staging=Staging("v1", "Front", {"look": "late"})),
    ev.CallAdded(ToolCall(CallId("c"), "context", "{}")),
    ev.ReplyFinished("text", closing=ToolCall(CallId("c"), "exit", "{}"), masked=(Masked("EMAIL", "a@b", "EMAIL_1"),)),
    ev.ToolReturned(CallId("c"), "{}", shown="[]"),
    ev.MessagesImported((said("user", "q"),), "elastic", replaces=True),
    ev.AttemptReset(3),
    ev.RunFailed("upstream_idle", "too slow"),
]


@pytest.mark.parametrize("event", SAMPLES, ids=ev.kind_of)
def test_an_event_survives_its_json(event: ev.Event) -> None:
    assert ev.load_event(ev.dump_event(event)) == event


def test_the_spelling_on_the_tape_is_fixed() -> None:
    assert ev.dump_event(ev.TextAdded("hi")) == b'{"kind":"text_added","text":"hi"}'
    assert ev.dump_event(ev.RunCompleted()) == b'{"kind":"run_completed"}'


def test_a_kind_of_a_newer_version_is_passed_on_byte_for_byte() -> None:
    body = b'{"mood": "gay",  "kind":"mood_changed"}'
    event = ev.load_event(body)
    assert event == ev.Unread("mood_changed", body.decode())
    assert ev.dump_event(event) == body
    assert ev.kind_of(event) == "mood_changed"


def test_a_turn_of_a_workflow_has_a_name_that_versions_without_workflows_do_not_know() -> None:
    """They leave a run alone that has one, and would answer it by their one agent otherwise."""
    staged = ev.load_event(ev.dump_event(ev.TurnStaged((), staging=Staging("v1"))))
    assert (ev.kind_of(staged), type(staged)) == ("turn_staged", ev.TurnStaged)
    assert isinstance(staged, ev.TurnReceived)
    once = ev.load_event(b'{"kind":"turn_received","messages":[],"staging":{"workflow":"v1"}}')
    assert once == ev.TurnReceived((), staging=Staging("v1"))


@pytest.mark.parametrize("body", [b'{"kind":"text_added"}', b'{"text":"x"}', b"[]", b'{"kind":3}'])
def test_what_is_no_event_is_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        ev.load_event(body)


def test_entries_are_read_all_at_once_and_unknown_kinds_among_them() -> None:
    known = b'{"seq":1,"run":"r","at":2.5,"event":{"kind":"text_added","text":"x"}}'
    newer = b'{"seq":2,"run":"r","at":3.0,"event":{"kind":"mood_changed","to":[1, 2]}}'
    assert ev.load_entries(b"[" + known + b"]") == [ev.Entry(1, RunId("r"), 2.5, ev.TextAdded("x"))]
    unread = ev.Unread("mood_changed", '{"kind":"mood_changed","to":[1, 2]}')
    assert ev.load_entries(b"[" + known + b"," + newer + b"]")[1] == ev.Entry(2, RunId("r"), 3.0, unread)


def test_every_kind_has_a_tag_of_its_own() -> None:
    kinds = [kind.__struct_config__.tag for kind in ev.Event.__args__]
    assert len(kinds) == len(set(kinds)) == 28


def test_only_the_four_ends_are_ends() -> None:
    ends = {ev.kind_of(event) for event in SAMPLES if ev.is_end(event)}
    assert ends == {"run_failed"}
