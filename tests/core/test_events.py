"""The union of events and its one spelling."""

import msgspec
import pytest

from dragoman.core import events as ev
from dragoman.core.messages import ToolCall, Usage, said
from dragoman.core.names import CallId

SAMPLES: list[ev.Event] = [
    ev.TurnReceived((said("user", "é\U0001f600"),), deltas=False),
    ev.ReplyFinished("text", (ToolCall(CallId("c"), "t", "{}"),), Usage(1, 2), "tool_calls"),
    ev.AttemptReset(3),
    ev.RunFailed("upstream_idle", "too slow"),
]


@pytest.mark.parametrize("event", SAMPLES, ids=ev.kind_of)
def test_an_event_survives_its_json(event: ev.Event) -> None:
    assert ev.load_event(ev.dump_event(event)) == event


def test_the_spelling_on_the_tape_is_fixed() -> None:
    assert ev.dump_event(ev.TextAdded("hi")) == b'{"kind":"text_added","text":"hi"}'
    assert ev.dump_event(ev.RunCompleted()) == b'{"kind":"run_completed"}'


def test_a_kind_from_nowhere_is_an_error() -> None:
    with pytest.raises(msgspec.ValidationError):
        ev.load_event(b'{"kind":"mood_changed"}')


def test_every_kind_has_a_tag_of_its_own() -> None:
    kinds = [kind.__struct_config__.tag for kind in ev.Event.__args__]
    assert len(kinds) == len(set(kinds)) == 20


def test_only_the_four_ends_are_ends() -> None:
    ends = {ev.kind_of(event) for event in SAMPLES if ev.is_end(event)}
    assert ends == {"run_failed"}
