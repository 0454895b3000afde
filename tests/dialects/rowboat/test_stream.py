"""A turn that is read as it comes: whole messages, then the turn, or an error."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.errors import BackendFailed, DragomanError
from dragoman.core.events import Entry, Event
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Started
from dragoman.core.workflows import Handing
from dragoman.dialects.rowboat.stream import RETOLD, Stream
from tests.dialects.rowboat.chatting import AT, ISO, USER, Json, request

STARTED = Started(ConversationId("c" * 24), Tape(1), RunId("r_1"), 2, created=True)
TRANSFER = ToolCall(CallId("c1"), "transfer_to_agent", '{"assistant": "B"}')


def frames(data: bytes) -> list[Json]:
    """Asserts the framing."""
    found: list[Json] = []
    for block in data.decode().split("\n\n")[:-1]:
        name, value = block.split("\n")
        assert name == "event: message" and value.startswith("data: ")
        found.append(json.loads(value.removeprefix("data: ")))
    return found


class Reading:
    def __init__(self, **more: Any) -> None:
        body = {"messages": [USER], "conversationId": None, "stream": True} | more
        self.encoder = Stream(request(body))
        self.seq = 2
        assert self.encoder.opened(STARTED) == b""

    def hear(self, *events: Event) -> list[Json]:
        data = b""
        for event in events:
            self.seq += 1
            data += self.encoder.entry(Entry(self.seq, STARTED.run, AT, event))
        assert self.encoder.held() == b""
        return frames(data)


def reply(agent: str, text: str = "", *calls: ToolCall, internal: str = "") -> tuple[Event, Event]:
    return ev.ReplyStarted(agent, "m"), ev.ReplyFinished(text, calls, internal=internal)


def test_messages_come_whole_and_the_turn_comes_last() -> None:
    reading = Reading()
    assert reading.hear(ev.RunClaimed(1), ev.ReplyStarted("A", "m"), ev.TextAdded("H")) == []
    message = {"role": "assistant", "content": "Hi", "agentName": "A", "responseType": "external", "timestamp": ISO}
    assert reading.hear(ev.ReplyFinished("Hi")) == [{"type": "message", "data": message}]
    assert not reading.encoder.closed
    done = reading.hear(ev.RunCompleted())
    assert done == [
        {
            "type": "done",
            "conversationId": "c" * 24,
            "turn": {
                "id": "r_1",
                "reason": {"type": "api"},
                "input": {"messages": [USER | {"timestamp": ISO}]},
                "output": [message],
                "createdAt": ISO,
            },
        }
    ]
    assert reading.encoder.closed
    assert reading.hear(ev.RunFailed("x", "y")) == []


def test_what_came_is_what_the_turn_has() -> None:
    reading = Reading()
    look = ToolCall(CallId("c2"), "get_order", "{}")
    refused = ToolCall(CallId("c3"), "transfer_to_agent", "{}")
    told = reading.hear(
        *reply("A", "One moment.", look, refused),
        ev.ToolStarted(look),
        ev.ToolReturned(look.id, "late"),
        ev.ToolReturned(refused.id, "No.", is_error=True, code="not_handed_over"),
        *reply("A", "", TRANSFER),
        ev.ToolReturned(TRANSFER.id, TRANSFER.arguments),
        ev.HandedOver("A", "B", Handing.CALLED),
        *reply("B", internal="a note"),
        ev.CallAdded(ToolCall(CallId("c4"), "transfer_to_agent", '{"assistant": "A"}')),
        ev.ToolReturned(CallId("c4"), '{"assistant": "A"}'),
        ev.HandedOver("B", "A", Handing.RETURNED),
        *reply("A", "It is late."),
        ev.RunCompleted(),
    )
    messages = [frame["data"] for frame in told[:-1]]
    assert told[-1]["turn"]["output"] == messages
    assert [(each.get("toolCalls") or [{}])[0].get("id") or each.get("toolCallId") for each in messages] == [
        *(None, "c2", "c2", "c1", "c1", None, "c4", "c4", None)
    ]
    assert [each.get("agentName") for each in messages] == ["A", "A", None, "A", None, "B", "B", None, "A"]
    assert [each["responseType"] for each in messages if "responseType" in each] == ["external", "internal", "external"]


def test_a_transfer_waits_for_its_result() -> None:
    reading = Reading()
    assert reading.hear(*reply("A", "", TRANSFER)) == []
    told = reading.hear(ev.ToolReturned(TRANSFER.id, TRANSFER.arguments))
    assert [frame["data"]["role"] for frame in told] == ["assistant", "tool"]


@pytest.mark.parametrize(
    "end", [ev.RunFailed("upstream_failed", "The model failed."), ev.RunCancelled(), ev.RunNeedsClient(())]
)
def test_a_turn_that_failed_ends_with_an_error_and_nothing_else(end: Event) -> None:
    reading = Reading()
    told = reading.hear(*reply("A", "Hi"), end)
    assert [frame["type"] for frame in told] == ["message", "error"]
    assert told[-1]["error"] and list(told[-1]) == ["type", "error"]
    assert reading.encoder.closed


@pytest.mark.parametrize("said", [(), reply("A", internal="a note")], ids=["nothing", "internal"])
def test_a_turn_without_an_answer_ends_with_an_error(said: tuple[Event, ...]) -> None:
    told = Reading().hear(*said, ev.RunCompleted())
    assert told[-1]["type"] == "error" and "without an answer" in told[-1]["error"]


def test_half_a_reply_is_heard_by_nobody_and_what_was_heard_cannot_be_taken_back() -> None:
    reading = Reading()
    assert reading.hear(ev.ReplyStarted("A", "m"), ev.TextAdded("Ho"), ev.AttemptReset(3)) == []
    assert len(reading.hear(*reply("A", "Hi"))) == 1
    assert reading.hear(ev.AttemptReset(3)) == [{"type": "error", "error": RETOLD}]
    assert reading.encoder.closed


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(BackendFailed("It failed."), "It failed."), (DragomanError("secret"), "Internal server error")],
)
def test_a_stream_that_cannot_go_on_says_so_once(error: DragomanError, sentence: str) -> None:
    encoder = Reading().encoder
    assert frames(encoder.failed(error)) == [{"type": "error", "error": sentence}]
    assert encoder.closed and encoder.failed(error) == b""


def test_silence_is_broken_by_a_comment() -> None:
    assert Reading().encoder.silence() == b": ping\n\n"


def test_a_repeat_of_the_request_is_told_the_same() -> None:
    body = {"messages": [USER], "conversationId": None, "stream": True}
    told: list[bytes] = []
    for asked_at in (AT, AT + 60):
        encoder = Stream(replace(request(body), at=asked_at))
        encoder.opened(STARTED)
        events = (ev.RunClaimed(1), *reply("A", "Hi"), ev.RunCompleted())
        told.append(b"".join(encoder.entry(Entry(3 + at, STARTED.run, AT, event)) for at, event in enumerate(events)))
    assert told[0] == told[1] and frames(told[0])[-1]["type"] == "done"
