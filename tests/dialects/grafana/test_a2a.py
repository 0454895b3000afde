"""A2A's requests: what they mean, and how what is wrong with them is said."""

import json
from typing import Any

import msgspec
import pytest

from dragoman.core.agents import Repeat
from dragoman.core.errors import BadRequest, DragomanError, NotFound
from dragoman.core.messages import Text
from dragoman.core.names import CallId, ConversationId, RunId, Scope
from dragoman.core.operations import CancelRun, FollowRun, ReadRun
from dragoman.core.waits import AnswerClientTool, DecideApproval, Settled
from dragoman.dialects.grafana import a2a, ids
from dragoman.dialects.grafana.a2a import approval, choose, fail, message, remote_tool_response, settled
from dragoman.dialects.grafana.a2a_rpc import RpcFault
from dragoman.dialects.grafana.a2a_shapes import CLIENT_TOOLS, REMOTE_TOOLS
from dragoman.wire.dialect import Reply, Request
from tests.dialects.grafana.a2a_reading import frames

NONCE = "0123456789abcdef" * 2
RUN, CALL = RunId("run-1"), CallId("c1")
TIME = "<context><time_iso_utc>2026-11-21T03:58:35Z</time_iso_utc><timezone>Local</timezone></context>"


def request(body: Any, *, agent: str = "any", path: str = "/a2a/agents/any", **headers: str) -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", path, {"agentId": agent}, {}, named, data, "r", NONCE, 1_700_000_000.0)


def call(method: str, params: Any, *, id: Any = "q-1") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def asked(text: str = "hi", **params: Any) -> dict[str, Any]:
    """A message as the command line sends it."""
    parts = [{"kind": "text", "text": text}]
    said = {"kind": "message", "role": "user", "messageId": "m-1", "parts": parts} | params.pop("message", {})
    return call("message/stream", {"message": said} | params)


def refused(body: Any, **headers: str) -> Reply:
    """The answer to a request that is refused before anything is begun."""
    given = request(body, **headers)
    try:
        branch = choose(given)
        {row: route.decode for row, route in a2a.routes("")[0].forks.items()}[branch](given)
    except DragomanError as error:
        reply = fail(error, given)
        assert reply is not None
        return reply
    raise AssertionError("it was taken")


# -- the table -----------------------------------------------------------------------------------------------------


def test_all_rows_stand_under_their_base_and_ask_for_the_wires_scopes() -> None:
    rows = {route.path: route for route in a2a.routes("/x")}
    assert list(rows) == ["/x/a2a/agents/{agentId}", "/x/a2a/approval/{approvalId}", "/x/a2a/remote-tool-response"]
    assert all({Scope.PLUGINS_APP_ACCESS, Scope.GRAFANA_CHATS_ACCESS} <= set(row.scopes) for row in rows.values())
    assert Scope.TOOLS_APPROVE in rows["/x/a2a/approval/{approvalId}"].scopes
    for branch in rows["/x/a2a/agents/{agentId}"].forks.values():
        assert (branch.method, branch.path) == ("POST", "/x/a2a/agents/{agentId}")
        ways = (branch.answer, branch.accept, branch.collect, branch.stream)
        assert sum(way is not None for way in ways) == 1


@pytest.mark.parametrize(
    ("body", "branch"),
    [
        (asked(), "message/stream"),
        (call("message/send", asked()["params"]), "message/send"),
        (call("message/send", asked(configuration={"blocking": True})["params"]), "message/send"),
        (call("message/send", asked(configuration={"acceptedOutputModes": []})["params"]), "message/send"),
        (call("message/send", asked(configuration={"blocking": False})["params"]), a2a.NO_WAIT),
        (call("tasks/get", {"id": "run-1"}), "tasks/get"),
        (call("tasks/cancel", {"id": "run-1"}), "tasks/cancel"),
        (call("tasks/resubscribe", {"id": "run-1"}), "tasks/resubscribe"),
    ],
)
def test_the_method_names_the_branch(body: Any, branch: str) -> None:
    assert choose(request(body)) == branch
    assert branch in a2a.routes("")[0].forks


# -- messages ------------------------------------------------------------------------------------------------------


def test_a_message_of_the_command_line_begins_a_turn() -> None:
    turn = message(request(asked(f"How many?\n{TIME}"), agent="grafana_assistant_cli", x_app_source="cli"))
    assert turn.messages[0].text == "How many?"
    assert turn.messages[0].full_text == f"How many?\n{TIME}"
    assert turn.conversation == "01234567-89ab-4def-8123-456789abcdef"
    assert (turn.agent, turn.agent_or_default) == ("grafana_assistant_cli", True)
    assert (turn.origin, turn.title, turn.message_id) == ("cli", "How many?", "m-1")
    assert turn.private and turn.managed and turn.deltas and not turn.must_exist
    assert turn.client_tools == ()


def test_a_prompt_may_be_nothing_but_context() -> None:
    turn = message(request(asked(TIME)))
    assert turn.messages[0].parts == (Text(TIME, hidden=True),)
    assert turn.messages[0].text == ""


def test_text_parts_are_joined_by_line_ends() -> None:
    parts = [{"kind": "text", "text": "a"}, {"kind": "text", "text": ""}, {"kind": "text", "text": "b"}]
    assert message(request(asked(message={"parts": parts}))).messages[0].text == "a\n\nb"


def test_who_waits_for_the_whole_answer_needs_no_deltas() -> None:
    assert message(request(call("message/send", asked()["params"]))).deltas is False


@pytest.mark.parametrize(
    ("params", "chat"),
    [
        ({"contextId": "c-1"}, "c-1"),
        ({"message": {"contextId": "c-1"}}, "c-1"),
        ({"contextId": "c-1", "message": {"contextId": "c-1"}}, "c-1"),
        ({"contextId": "", "message": {"contextId": "c-1"}}, "c-1"),
        ({"contextId": None}, "01234567-89ab-4def-8123-456789abcdef"),
        ({"contextId": "é/ ü" * 32}, "é/ ü" * 32),
    ],
)
def test_a_context_is_read_in_either_place(params: dict[str, Any], chat: str) -> None:
    assert message(request(asked(**params))).conversation == chat


@pytest.mark.parametrize(
    ("agent", "source", "origin"),
    [
        ("any", None, "assistant"),
        ("grafana_assistant_cli", None, "cli"),
        ("grafana_assistant_api", "mcp-grafana", "mcp-grafana"),
        ("any", "K6 Studio!", "k6-studio"),
        ("any", "é", "assistant"),
        ("any", "x" * 99, "x" * 32),
    ],
)
def test_a_chat_is_known_by_the_client_it_began_in(agent: str, source: str | None, origin: str) -> None:
    headers = {} if source is None else {"x_app_source": source}
    assert message(request(asked(), agent=agent, **headers)).origin == origin


def with_tools(*tools: Any) -> dict[str, Any]:
    return asked(metadata={CLIENT_TOOLS: {"tools": list(tools)}})


TOOL: dict[str, Any] = {
    "name": "getRequests",
    "description": "All requests.",
    "inputSchema": {"properties": {"limit": {}}},
}


def test_a_client_that_runs_tools_may_bring_its_own() -> None:
    (tool,) = message(request(with_tools(TOOL), x_a2a_extensions=REMOTE_TOOLS)).client_tools
    assert (tool.name, tool.description, tool.toolset) == ("getRequests", "All requests.", "client")
    assert tool.parameters == {"type": "object", "properties": {"limit": {}}}
    assert (tool.held_s, tool.repeat) == (120.0, Repeat.ONCE)


def test_tools_of_a_client_that_cannot_be_asked_are_not_offered() -> None:
    assert message(request(with_tools(TOOL), x_a2a_extensions=CLIENT_TOOLS)).client_tools == ()


def test_a_tool_without_a_schema_takes_an_object() -> None:
    (tool,) = message(request(with_tools({"name": "now"}), x_a2a_extensions=REMOTE_TOOLS)).client_tools
    assert tool.parameters == {"type": "object"}


@pytest.mark.parametrize(
    ("tools", "sentence"),
    [
        ([{"name": "a b"}], "The name of tool 0 must be 1 to 64 letters, digits, _ or -."),
        ([{"name": ""}], "The name of tool 0 must be 1 to 64 letters, digits, _ or -."),
        ([{"name": "x" * 65}], "The name of tool 0 must be 1 to 64 letters, digits, _ or -."),
        ([{"name": "a"}, {"name": "a"}], "Two of the message's tools are called a."),
        ([{"name": "a", "inputSchema": {"type": "array"}}], "The inputSchema of a must be of type object."),
        (
            [{"name": "a", "description": "x" * 10_001}],
            "The description of a must have at most 10,000 characters.",
        ),
        ([{"name": f"t{n}"} for n in range(65)], "A message may bring at most 64 tools; this one brings 65."),
    ],
)
def test_tools_that_no_model_takes_are_refused(tools: list[Any], sentence: str) -> None:
    reply = refused(with_tools(*tools), x_a2a_extensions=REMOTE_TOOLS)
    assert frames(reply.body)[0].value["error"] == {"code": -32602, "message": sentence}


def test_tools_that_take_too_much_room_are_refused() -> None:
    tools = [{"name": f"t{n}", "description": "x" * 9_000} for n in range(32)]
    reply = refused(with_tools(*tools), x_a2a_extensions=REMOTE_TOOLS)
    assert "may take 262,144 bytes" in frames(reply.body)[0].value["error"]["message"]


# -- tasks ---------------------------------------------------------------------------------------------------------


def test_tasks_are_runs() -> None:
    decode = {name: route.decode for name, route in a2a.routes("")[0].forks.items()}
    given = {name: request(call(name, {"id": "run-1"})) for name in ("tasks/get", "tasks/cancel", "tasks/resubscribe")}
    assert decode["tasks/get"](given["tasks/get"]) == ReadRun(RUN, private=True)
    assert decode["tasks/cancel"](given["tasks/cancel"]) == CancelRun(RUN, private=True)
    assert decode["tasks/resubscribe"](given["tasks/resubscribe"]) == FollowRun(RUN, private=True)


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "code", "sentence"),
    [
        ("SendMessage", -32601, "There is no method 'SendMessage'; there are message/stream,"),
        ("x" * 500, -32601, "There is no method 'xxx"),
        ("agent/getAuthenticatedExtendedCard", -32007, "This agent has one card"),
        ("tasks/pushNotificationConfig/set", -32003, "Push notifications are not supported"),
    ],
)
def test_a_method_that_is_not_there_is_told_in_json(method: str, code: int, sentence: str) -> None:
    reply = refused(call(method, {}, id=7))
    said = json.loads(reply.body)
    assert (reply.status, reply.media_type, said["id"]) == (200, "application/json", 7)
    assert said["error"]["code"] == code
    assert said["error"]["message"].startswith(sentence) and len(said["error"]["message"]) < 300


PART = "params.message.parts[0] must be "


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        (call("message/stream", None), -32602, "Expected object, got null."),
        (call("message/stream", []), -32602, "Expected object, got array."),
        (call("message/stream", {}), -32602, "Object missing required field message."),
        (asked(message={"role": "agent"}), -32602, "params.message.role must be user."),
        (asked(message={"parts": "x"}), -32602, "Expected array, got str - at params.message.parts."),
        (asked(message={"parts": []}), -32602, "params.message.parts must hold 1 to 100 parts."),
        (asked(message={"parts": [{"kind": "text"}]}), -32602, PART + '{"kind":"text","text":"…"}.'),
        (asked(message={"parts": [{"kind": "odd"}]}), -32602, PART + '{"kind":"text","text":"…"}.'),
        (
            asked(message={"parts": [{"kind": "file", "file": {"uri": "x"}}]}),
            -32005,
            "This agent reads text only; part 0 is of kind file. Put it as text.",
        ),
        (
            asked(message={"messageId": "x" * 257}),
            -32602,
            "params.message.messageId must have at most 256 characters.",
        ),
        (
            asked(message={"taskId": "run-1"}),
            -32602,
            "params.message.taskId must be left out: a task is one answer; contextId continues the chat.",
        ),
        (asked(contextId="x" * 129), -32602, "contextId must have 1 to 128 printable characters."),
        (asked(contextId="a\nb"), -32602, "contextId must have 1 to 128 printable characters."),
        (asked(contextId=1), -32602, "Expected str | null, got int - at params.contextId."),
        (
            asked(contextId="a", message={"contextId": "b"}),
            -32602,
            "params.contextId and params.message.contextId must be the same.",
        ),
        (
            asked(configuration={"pushNotificationConfig": {"url": "x"}}),
            -32003,
            "Push notifications are not supported by this agent; read along with message/stream.",
        ),
        (call("tasks/resubscribe", {"id": ""}), -32001, "There is no task with this id."),
        (call("tasks/resubscribe", {"id": 1}), -32602, "Expected str, got int - at params.id."),
    ],
)
def test_what_is_wrong_with_a_streams_call_is_its_one_frame(body: Any, code: int, sentence: str) -> None:
    """Clients that wait for frames read nothing else."""
    reply = refused(body)
    assert (reply.status, reply.media_type) == (200, "text/event-stream; charset=utf-8")
    (frame,) = frames(reply.body)
    assert frame.value == {"jsonrpc": "2.0", "id": "q-1", "error": {"code": code, "message": sentence}}


def test_what_is_wrong_with_any_other_call_is_told_in_json() -> None:
    reply = refused(call("tasks/get", {"id": "run-1", "historyLength": -1}))
    assert (reply.status, reply.media_type) == (200, "application/json")
    assert json.loads(reply.body)["error"]["message"] == "params.historyLength must not be negative."


def test_other_paths_are_not_json_rpc() -> None:
    plain = msgspec.structs.replace(request({}), params={"approvalId": "x"})
    assert fail(BadRequest("No."), plain) is None
    assert fail(RpcFault(-32600, "No."), msgspec.structs.replace(request({}), method="GET")) is None


# -- what a run waits for ------------------------------------------------------------------------------------------

APPROVAL = ids.approval_id(RUN, CALL, "hash")


def decision(body: Any, given: str = APPROVAL) -> DecideApproval:
    return approval(msgspec.structs.replace(request(body), params={"approvalId": given}))


@pytest.mark.parametrize("approved", [True, False])
def test_a_decision_names_the_call_and_its_arguments_by_the_id(approved: bool) -> None:
    body = {"id": APPROVAL, "chatId": "c-1", "tenantId": "", "userId": "", "approved": approved}
    assert decision(body) == DecideApproval(RUN, CALL, approved, "hash", ConversationId("c-1"), private=True)
    assert decision({"approved": approved}) == DecideApproval(RUN, CALL, approved, "hash", private=True)


@pytest.mark.parametrize(
    ("body", "given", "error", "sentence"),
    [
        ({}, APPROVAL, BadRequest, "Object missing required field approved"),
        ({"approved": "yes"}, APPROVAL, BadRequest, "approved: expected bool, got str"),
        ({"approved": 1}, APPROVAL, BadRequest, "approved: expected bool, got int"),
        ({"approved": True, "id": "ap_other"}, APPROVAL, BadRequest, "The id in the body must be the one in the path."),
        ({"approved": True}, "ap_nonsense", NotFound, "There is no approval request with this id."),
        (b"", APPROVAL, BadRequest, "The body is empty."),
    ],
)
def test_what_is_no_decision_is_refused(body: Any, given: str, error: type[DragomanError], sentence: str) -> None:
    with pytest.raises(error) as caught:
        decision(body, given)
    assert caught.value.detail == sentence


REQUEST = ids.request_id(RUN, CALL)


@pytest.mark.parametrize(
    ("body", "content", "is_error"),
    [
        ({"success": True, "result": "text"}, "text", False),
        ({"success": True, "result": {"a": [1, None, "é"]}}, '{"a":[1,null,"é"]}', False),
        ({"success": True, "result": 7}, "7", False),
        ({"success": True}, "null", False),
        ({"success": False, "error": "No such file."}, "No such file.", True),
        ({"success": False}, "The client could not run the tool, and did not say why.", True),
    ],
)
def test_a_result_may_be_any_json(body: dict[str, Any], content: str, is_error: bool) -> None:
    operation = remote_tool_response(request({"requestId": REQUEST, "chatId": "c-1"} | body))
    assert operation == AnswerClientTool(RUN, CALL, content, is_error, ConversationId("c-1"), private=True)


def test_a_large_result_is_taken_and_a_huge_one_refused() -> None:
    rows = list(range(100_000))
    taken = remote_tool_response(request({"requestId": REQUEST, "success": True, "result": rows}))
    assert json.loads(taken.content) == rows
    with pytest.raises(BadRequest, match=r"may have 1,048,576 bytes"):
        remote_tool_response(request({"requestId": REQUEST, "success": True, "result": "é" * 524_289}))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"success": True}, BadRequest),
        ({"requestId": REQUEST}, BadRequest),
        ({"requestId": APPROVAL, "success": True}, NotFound),
        ({"requestId": "", "success": True}, NotFound),
    ],
)
def test_a_result_of_nothing_is_refused(body: Any, error: type[DragomanError]) -> None:
    with pytest.raises(error):
        remote_tool_response(request(body))


def test_what_was_settled_is_said_in_the_wires_envelope() -> None:
    reply = settled(Settled(RUN, ConversationId("c-1"), repeated=True), request({}))
    assert json.loads(reply.body) == {
        "status": "success",
        "data": {"chatId": "c-1", "taskId": "run-1", "repeated": True},
    }
