"""JSON-RPC's envelope, and its errors."""

import json
from typing import Any

import msgspec
import pytest

from dragoman.core import errors
from dragoman.core.errors import BadRequest, DragomanError, NotFound
from dragoman.dialects.grafana.a2a_rpc import RpcFault, answer, call_of, fail, params_of
from dragoman.dialects.grafana.a2a_shapes import Status, Task, TaskParams
from tests.dialects.grafana.a2a_reading import frames
from tests.dialects.grafana.test_a2a import call, request


@pytest.mark.parametrize("id", ["", "q", "x" * 256, 0, -7, 2**53])
def test_an_id_comes_back_as_it_came(id: Any) -> None:
    """Q2: a client that sends a text and gets a number drops the answer, and the reverse."""
    given = request(call("tasks/get", {}, id=id))
    assert call_of(given).id == id
    told = json.loads(answer(given, Task("t", "c", Status("working"))).body)
    assert told["id"] == id and type(told["id"]) is type(id)
    assert list(told) == ["jsonrpc", "id", "result"]


@pytest.mark.parametrize("body", [call("tasks/get", {}, id=None), {"jsonrpc": "2.0", "method": "tasks/get"}])
def test_without_an_id_there_is_none(body: Any) -> None:
    given = request(body)
    assert call_of(given).id is msgspec.UNSET
    assert "id" not in json.loads(answer(given, Task("t", "c", Status("working"))).body)


def test_an_answer_is_not_held_back_for_what_asked_for_it() -> None:
    told = json.loads(answer(request({}), Task("t", "c", Status("working"))).body)
    assert list(told) == ["jsonrpc", "result"]


def test_what_is_wrong_with_params_is_said_with_its_place() -> None:
    with pytest.raises(RpcFault) as caught:
        params_of(call_of(request(call("tasks/get", {"id": 1}))), TaskParams)
    assert (caught.value.rpc_code, caught.value.detail) == (-32602, "Expected str, got int - at params.id.")


@pytest.mark.parametrize(("method", "framed"), [("message/stream", True), ("tasks/resubscribe", True), ("x", False)])
def test_a_streams_refusal_is_its_one_frame(method: str, framed: bool) -> None:
    reply = fail(BadRequest("No."), request(call(method, {})))
    assert reply is not None and reply.status == 200
    assert reply.media_type == ("text/event-stream; charset=utf-8" if framed else "application/json")
    told = frames(reply.body)[0].value if framed else json.loads(reply.body)
    assert told == {"jsonrpc": "2.0", "id": "q-1", "error": {"code": -32602, "message": "No."}}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff", -32700),
        (b'{"a":"\\ud800"}', -32600),
        (b"[" * 65 + b"]" * 65, -32600),
        (b"[]", -32600),
        (b"1", -32600),
        ({}, -32600),
        ({"jsonrpc": "1.0", "method": "message/stream"}, -32600),
        ({"jsonrpc": 2.0, "method": "message/stream"}, -32600),
    ],
)
def test_what_is_no_json_rpc_is_a_bad_request(body: Any, code: int) -> None:
    given = request(body)
    with pytest.raises(RpcFault) as caught:
        call_of(given)
    reply = fail(caught.value, given)
    assert reply is not None
    said = json.loads(reply.body)
    assert (reply.status, reply.media_type) == (400, "application/json")
    assert said["jsonrpc"] == "2.0" and said["id"] is None
    assert said["error"]["code"] == code
    assert said["status"] == "error"
    assert said["message"] == said["error"]["message"] != ""


@pytest.mark.parametrize(
    ("envelope", "echoed"),
    [
        ({}, ()),
        ({"id": "q"}, ("q",)),
        ({"id": 7, "method": 1}, (7,)),
        ({"id": "q", "method": ""}, ("q",)),
        ({"id": [], "method": "x"}, (None,)),
        ({"id": True, "method": "x"}, (None,)),
        ({"id": 1.5, "method": "x"}, (None,)),
        ({"id": "x" * 257, "method": "x"}, (None,)),
        ({"id": 2**53 + 1, "method": "x"}, (None,)),
    ],
    ids=str,
)
def test_what_says_it_is_json_rpc_is_answered_in_it(envelope: dict[str, Any], echoed: tuple[Any, ...]) -> None:
    given = request({"jsonrpc": "2.0", **envelope})
    with pytest.raises(RpcFault) as caught:
        call_of(given)
    reply = fail(caught.value, given)
    assert reply is not None and (reply.status, reply.media_type) == (200, "application/json")
    said = json.loads(reply.body)
    assert said.pop("error")["code"] == -32600
    assert said == {"jsonrpc": "2.0"} | ({"id": echoed[0]} if echoed else {})


def test_a_stream_s_caller_reads_frames_whatever_is_wrong_with_its_id() -> None:
    given = request({"jsonrpc": "2.0", "method": "message/stream", "id": []})
    with pytest.raises(RpcFault) as caught:
        call_of(given)
    reply = fail(caught.value, given)
    assert reply is not None and frames(reply.body)[0].value["id"] is None


def test_a_message_id_that_came_with_another_message_is_wrong_with_the_call_and_a_key_with_the_request() -> None:
    given = request(call("message/send", {}))
    reply = fail(errors.KeyReused("The key is used."), given)
    assert reply is not None and reply.status == 200
    said = json.loads(reply.body)["error"]
    assert said["code"] == -32602 and said["message"].startswith("params.message.messageId came with another message")
    keyed = msgspec.structs.replace(given, headers={"idempotency-key": "k"})
    assert fail(errors.KeyReused("The key is used."), keyed) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("There is no task with this id.", what="run"), -32001),
        (errors.Expired("It is kept no longer."), -32001),
        (NotFound("Chat not found", what="conversation"), -32602),
        (BadRequest("The text is too long."), -32602),
        (errors.NotOffered("Not here."), -32004),
        (NotFound("There is no such path.", what="route"), None),
        (errors.TooLarge("Too large.", bytes_max=9), None),
        (errors.NotAuthenticated("Who are you?"), None),
        (errors.NotAllowed("Not yours."), None),
        (errors.LimitReached("Wait.", limit="per_ip_rpm"), None),
        (errors.Conflict("Not now."), None),
        (errors.Unavailable("Later."), None),
        (errors.BackendFailed("It failed."), None),
        (DragomanError("It broke."), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_concerns_the_call_is_json_rpc(error: DragomanError, code: int | None) -> None:
    reply = fail(error, request(call("tasks/get", {"id": "run-1"})))
    if code is None:
        assert reply is None
    else:
        assert reply is not None and json.loads(reply.body)["error"] == {"code": code, "message": error.detail}


def test_runs_are_called_tasks_here() -> None:
    for what, sentence in (("run", "There is no task with this id."), ("conversation", "Chat not found")):
        reply = fail(NotFound("There is no run run-1.", what=what), request(call("tasks/get", {"id": "run-1"})))
        assert reply is not None and json.loads(reply.body)["error"]["message"] == sentence


def test_a_request_that_was_refused_before_it_was_read_is_not_answered_as_json_rpc() -> None:
    assert fail(BadRequest("The query string has too many fields."), request(b"")) is None
