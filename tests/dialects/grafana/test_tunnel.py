"""The tunnel's four paths: what a client sends becomes an operation, and what comes of it an answer (3.4)."""

from typing import Any

import msgspec
import pytest

from dragoman.core.agents import Repeat
from dragoman.core.errors import BadRequest, Expired, NotFound
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ConversationId, RunId
from dragoman.core.tunnel import TOOLSET, PollTunnel, ToolsLent, TunnelWork
from dragoman.core.waits import AnswerClientTool, ClaimClientTool, Settled, WaitingCall
from dragoman.dialects.grafana import DIALECT, tunnel
from dragoman.dialects.grafana.ids import request_id
from dragoman.wire.dialect import Request, Route

RUN, CALL = RunId("r_1"), CallId("call_1")
ROUTES = {route.path.rsplit("/", 1)[1]: route for route in tunnel.routes("/b")}


def request(body: Any = None, *, to: str = "") -> Request:
    data = b"" if body is None else msgspec.json.encode(body)
    return Request("POST", "/b/tunnel", {"requestId": to or request_id(RUN, CALL)}, {}, {}, data, "id", "n" * 32, 0.0)


def answered(route: Route[Any], result: object) -> Any:
    assert route.answer is not None
    reply = route.answer(result, request())
    assert reply.status == 200
    body = msgspec.json.decode(reply.body)
    assert body["status"] == "success"
    return body["data"]


def test_a_poll_names_the_tools_by_their_hash() -> None:
    assert tunnel.poll(request({"tools_hash": "abc"})) == PollTunnel("abc")
    assert tunnel.poll(request()) == PollTunnel("")
    with pytest.raises(BadRequest, match="at most 128"):
        tunnel.poll(request({"tools_hash": "x" * 129}))


def test_nothing_to_do_is_an_empty_object() -> None:
    assert answered(ROUTES["poll"], TunnelWork()) == {}
    assert answered(ROUTES["poll"], TunnelWork(send_tools=True)) == {"send_tools": True}


@pytest.mark.parametrize(
    ("arguments", "given"), [('{"path": "a"}', {"path": "a"}), ("", {}), ("[1]", {}), ("not json", {})]
)
def test_a_request_names_tool_and_action_apart(arguments: str, given: dict[str, Any]) -> None:
    call = ToolCall(CALL, "filesystem_read_file", arguments)
    waiting = WaitingCall(RUN, ConversationId("c"), call, TOOLSET, 1_700_000_000.0, 1_700_000_120.25)
    assert answered(ROUTES["poll"], TunnelWork(call=waiting))["request"] == {
        "id": request_id(RUN, CALL),
        "tool": "filesystem",
        "action": "read_file",
        "input": given,
        "created_at": "2023-11-14T22:13:20.000Z",
        "expires_at": "2023-11-14T22:15:20.250Z",
    }


def test_the_tools_of_a_machine_are_client_tools_that_a_run_waits_for() -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    tools = [
        {"name": "filesystem_read_file", "description": "Reads.", "inputSchema": schema},
        {"name": "terminal_execute", "annotations": {"readOnlyHint": False, "idempotentHint": True, "more": 1}},
        {"name": "filesystem_grep", "annotations": {"readOnlyHint": True}},
    ]
    lent = tunnel.lend(request({"tools": tools, "tools_hash": "h"}))
    assert lent.tools_hash == "h"
    assert [(tool.name, tool.repeat, tool.toolset, tool.held_s) for tool in lent.tools] == [
        ("filesystem_read_file", Repeat.ONCE, TOOLSET, tunnel.HELD_S),
        ("terminal_execute", Repeat.IDEMPOTENT, TOOLSET, tunnel.HELD_S),
        ("filesystem_grep", Repeat.PURE, TOOLSET, tunnel.HELD_S),
    ]
    assert lent.tools[0].parameters == schema
    assert lent.tools[1].parameters == {"type": "object", "properties": {}}
    assert answered(ROUTES["tools"], ToolsLent(3)) == {"tools": 3}


@pytest.mark.parametrize(
    ("body", "said_of_it"),
    [
        ({}, "tools"),
        ({"tools": [{"description": "nameless"}]}, "tools.0"),
        ({"tools": [{"name": "grep"}]}, "joined by an underscore"),
        ({"tools": [{"name": "_grep"}]}, "joined by an underscore"),
        ({"tools": [{"name": "filesystem_read file"}]}, "letters, digits"),
        ({"tools": [{"name": "filesystem_\0"}]}, "letters, digits"),
        ({"tools": [{"name": "filesystem_" + "x" * 54}]}, "1 to 64 letters"),
        ({"tools": [{"name": "filesystem_find", "inputSchema": {"type": "array"}}]}, "of type object"),
    ],
)
def test_tools_that_cannot_be_used_are_refused(body: Any, said_of_it: str) -> None:
    with pytest.raises(BadRequest, match=said_of_it):
        tunnel.lend(request(body))


def test_a_claim_is_made_under_a_name_of_its_own() -> None:
    assert tunnel.claim(request()) == ClaimClientTool(RUN, CALL, claimed_by="n" * 32, private=True)
    assert answered(ROUTES["claim"], Settled(RUN, ConversationId("c"))) == {"claimed": True}


@pytest.mark.parametrize(
    ("body", "content", "is_error"),
    [
        ({"result": {"content": "é", "lines": 1}}, '{"content":"é","lines":1}', False),
        ({"result": "plain"}, "plain", False),
        ({"result": None}, "null", False),
        ({"error": "no such file"}, "no such file", True),
    ],
)
def test_a_result_goes_to_the_run_as_text(body: Any, content: str, is_error: bool) -> None:
    assert tunnel.result(request(body)) == AnswerClientTool(RUN, CALL, content, is_error, private=True)
    assert answered(ROUTES["result"], Settled(RUN, ConversationId("c"))) == {"accepted": True}


def test_a_schema_without_a_type_is_one_of_an_object() -> None:
    """Models' servers refuse a whole question for a tool whose parameters are no object."""
    lent = tunnel.lend(request({"tools": [{"name": "a_" + "b" * 62, "inputSchema": {"properties": {}}}]}))
    assert lent.tools[0].parameters == {"type": "object", "properties": {}}


def test_what_has_expired_is_not_found_to_the_client() -> None:
    """It knows 404 for a request that is gone, and no 410."""
    reply = DIALECT.fail(Expired("The time for this call is over."), request())
    assert reply.status == 404
    assert msgspec.json.decode(reply.body)["message"] == "The time for this call is over."
    other = Request("POST", "/b/a2a/approval/x", {"approvalId": "x"}, {}, {}, b"", "id", "n" * 32, 0.0)
    assert DIALECT.fail(Expired("Too late."), other).status == 410


def test_a_result_has_a_bound_and_an_unknown_request_is_not_found() -> None:
    with pytest.raises(BadRequest, match="at most 1,000,000"):
        tunnel.result(request({"result": "x" * 1_000_001}))
    for to in ("x", "rt_", "rt_eA", "ap_eA"):
        with pytest.raises(NotFound):
            tunnel.claim(request(to=to))
