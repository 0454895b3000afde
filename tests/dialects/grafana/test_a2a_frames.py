"""Frames as they go out: their ids, where a reader goes on, and how a stream breaks off."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Unavailable
from dragoman.core.events import Entry
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId
from dragoman.dialects.grafana.a2a_frames import Encoder, cursor_of, extensions_of
from dragoman.dialects.grafana.a2a_shapes import REMOTE_TOOLS, TOKEN_STREAMING
from dragoman.wire.dialect import Request
from tests.dialects.grafana.a2a_reading import frames, read
from tests.dialects.grafana.test_a2a_steps import AT, PLAIN, RUN, STARTED
from tests.histories import History, histories

ASK = ToolCall(CallId("c1"), "ask", "{}")


def request(method: str = "message/stream", *, id: Any = "q-1", **headers: str) -> Request:
    body = {"jsonrpc": "2.0", "method": method, "params": {"id": RUN}} | ({} if id is None else {"id": id})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    params = {"agentId": "a"}
    return Request("POST", "/a2a/agents/a", params, {}, named, json.dumps(body).encode(), "r", "0" * 32, AT)


def entries(*events: ev.Event) -> list[Entry]:
    return [Entry(seq, RUN, AT + seq, event) for seq, event in enumerate(events, start=2)]


def stream(encoder: Encoder, given_: list[Entry]) -> bytes:
    return encoder.opened(STARTED) + b"".join(map(encoder.entry, given_))


def test_frames_are_json_rpc_answers_in_one_line_each() -> None:
    data = stream(Encoder(request()), entries(*PLAIN))
    first, second, *_ = data.split(b"\n\n")
    assert first == (
        b'data: {"jsonrpc":"2.0","id":"q-1","result":{"kind":"status-update","taskId":"run-1","contextId":"chat-1",'
        b'"status":{"state":"submitted"},"final":false}}'
    )
    assert second.startswith(b'id: 2\ndata: {"jsonrpc":"2.0","id":"q-1","result":{')
    shown = frames(data)
    assert [frame.kind for frame in shown] == ["submitted", "working", "step.message", "step.complete", "completed"]
    assert [frame.id for frame in shown] == ["", "2", "4", "5.1", "5"]


@pytest.mark.parametrize("id", ["", "q", 7, -1, 0])
def test_the_id_of_the_request_comes_back_as_it_was(id: Any) -> None:
    for frame in frames(stream(Encoder(request(id=id)), entries(*PLAIN))):
        assert frame.value["id"] == id and type(frame.value["id"]) is type(id)


def test_without_an_id_there_is_none() -> None:
    assert all("id" not in frame.value for frame in frames(stream(Encoder(request(id=None)), entries(*PLAIN))))


def test_a_life_sign_is_a_comment() -> None:
    assert Encoder().silence() == b": ping\n\n"


def test_nothing_follows_the_last_frame() -> None:
    encoder = Encoder()
    stream(encoder, entries(*PLAIN))
    assert encoder.closed
    assert encoder.entry(Entry(9, RUN, AT, ev.TextAdded("more"))) == b""
    assert encoder.failed(Unavailable("Too late.")) == b""
    assert encoder.held() == b""


def test_a_stream_that_breaks_off_says_why_in_an_error_frame() -> None:
    encoder = Encoder(request(x_a2a_extensions=TOKEN_STREAMING))
    data = stream(encoder, entries(ev.ReplyStarted("a", "m"), ev.TextAdded("It")))
    end = encoder.failed(Unavailable("The server is stopping.", internal="secret"))
    assert encoder.closed
    closing, error = frames(end)
    assert closing.kind == "message.stream.complete"
    assert error.value == {
        "jsonrpc": "2.0",
        "id": "q-1",
        "error": {"code": -32000, "message": "The server is stopping.", "data": "unavailable"},
    }
    reading = read(data + end)
    assert (reading.ended, reading.failed, reading.left_open) == (True, True, ())


def test_what_a_client_can_do_is_read_from_its_headers() -> None:
    asked = ev.ClientToolRequested(ASK, AT + 100, "client")
    events = entries(ev.ReplyStarted("a", "m"), ev.TextAdded("x"), ev.ReplyFinished("x", (ASK,)), asked)
    plain = [frame.kind for frame in frames(stream(Encoder(request()), events))]
    both = f"{TOKEN_STREAMING}, {REMOTE_TOOLS}"
    rich = [frame.kind for frame in frames(stream(Encoder(request(x_a2a_extensions=both)), events))]
    assert "message.content.delta" not in plain and "REMOTE_TOOL_REQUEST" not in plain
    assert "message.content.delta" in rich and "REMOTE_TOOL_REQUEST" in rich


def test_extensions_are_a_list_in_either_header() -> None:
    assert {"a", "b", "c"} <= extensions_of(request(x_a2a_extensions=" a ,b", a2a_extensions="c"))


def test_a_client_that_drops_a_statuss_text_is_told_a_failure_by_a_message() -> None:
    failing = entries(ev.RunFailed("x", "It broke."))
    assert read(stream(Encoder(request(x_app_source="mcp-grafana")), failing)).text == "It broke."
    assert read(stream(Encoder(request(x_app_source="cli")), failing)).text == ""


# -- coming again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "cursor"), [("", (0, 0)), ("12", (12, 2**53)), ("12.1", (12, 1))])
def test_a_cursor_is_the_id_of_a_frame(header: str, cursor: tuple[int, int]) -> None:
    assert cursor_of(request("tasks/resubscribe", last_event_id=header)) == cursor


@pytest.mark.parametrize("header", ["x", "-1", "1.", ".1", "1.2.3", "1.x", "١", "9" * 17, " 1"])
def test_what_is_no_cursor_is_refused(header: str) -> None:
    with pytest.raises(BadRequest, match=r"Last-Event-ID must be the id of a frame"):
        cursor_of(request("tasks/resubscribe", last_event_id=header))


def test_a_message_is_answered_whole_whatever_its_client_read_before() -> None:
    whole = stream(Encoder(request()), entries(*PLAIN))
    assert stream(Encoder(request(last_event_id="99")), entries(*PLAIN)) == whole


@given(history=histories(), data=st.data())
def test_who_comes_again_is_sent_what_it_lacks_and_nothing_twice(history: History, data: st.DataObject) -> None:
    def whole(method: str, **headers: str) -> bytes:
        encoder = Encoder(request(method, x_a2a_extensions=TOKEN_STREAMING, **headers))
        return encoder.opened(history.started) + b"".join(map(encoder.entry, history.entries))

    shown = frames(whole("message/stream"))[1:]
    seen = data.draw(st.integers(1, len(shown)))
    opening, *rest = frames(whole("tasks/resubscribe", last_event_id=shown[seen - 1].id))
    assert opening.kind == "working"
    assert rest == shown[seen:]


@given(history=histories(), streams=st.booleans())
def test_any_history_is_read_to_its_end_with_the_answer(history: History, streams: bool) -> None:
    encoder = Encoder(request(x_a2a_extensions=TOKEN_STREAMING if streams else ""))
    reading = read(encoder.opened(history.started) + b"".join(map(encoder.entry, history.entries)))
    assert encoder.closed
    assert (reading.ended, reading.left_open) == (True, ())
    if history.completed:
        assert (reading.text, reading.failed) == (history.text, False)
