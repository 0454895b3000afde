"""Chat requests become turns, whatever the spelling; what is wrong with them is told all at once."""

import json
from typing import Any

import pytest

from dragoman.core.errors import BadRequest, NotAuthenticated, NotFound
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId
from dragoman.core.operations import StartTurn
from dragoman.core.workflows import WorkflowWanted
from dragoman.dialects.rowboat import decode
from tests.dialects.rowboat.chatting import ISO, NONCE, USER, Json, request
from tests.dialects.rowboat.test_issues import told as issues_in

CALL = {"id": "t1", "type": "function", "function": {"name": "get_order", "arguments": '{"id":1}'}}
TEXT = {"role": "assistant", "content": "hi", "agenticSender": "A", "agenticResponseType": "external"}


def g1(*messages: Any, **more: Any) -> StartTurn:
    return decode.g1(request({"messages": messages, "state": None} | more))


def g2(*messages: Any, **more: Any) -> StartTurn:
    return decode.g2(request({"messages": messages, "conversationId": None} | more))


def issues(*messages: Any, **more: Any) -> list[tuple[str, str]]:
    """Place and code of each."""
    with pytest.raises(BadRequest) as caught:
        g1(*messages, **more)
    return [(".".join(map(str, issue["path"])), issue["code"]) for issue in issues_in(caught.value.detail)]


# -- the credential ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        (None, "Authorization header must be a Bearer token"),
        ("", "Authorization header must be a Bearer token"),
        ("Bearer", "Authorization header must be a Bearer token"),
        ("bearer abc", "Authorization header must be a Bearer token"),
        ("Basic abc", "Authorization header must be a Bearer token"),
        ("Bearer ", "Missing API key in request"),
        ("Bearer  abc", "Missing API key in request"),
        ("Bearer \xe9", "Invalid API key"),
    ],
)
def test_a_header_that_holds_no_key_says_what_it_lacks(header: str | None, detail: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        decode.credential({} if header is None else {"authorization": header})
    assert caught.value.detail == detail


@pytest.mark.parametrize("header", ["Bearer abc", "Bearer abc def"])
def test_the_key_is_the_word_behind_bearer(header: str) -> None:
    assert decode.credential({"authorization": header}) == "abc"


# -- the turn ----------------------------------------------------------------------------------------------------------


def test_the_documented_request_is_a_turn_of_which_nothing_is_kept() -> None:
    turn = g1(USER)
    assert turn == StartTurn(
        decode.ConversationId(f"rowboat:{NONCE}"),
        (said("user", "hello"),),
        deltas=False,
        ephemeral=True,
        origin="rowboat",
        workflow=WorkflowWanted(last=""),
    )


@pytest.mark.parametrize(
    ("state", "last"),
    [
        ({"last_agent_name": "Billing"}, "Billing"),
        (None, ""),
        ({}, ""),
        ("x", ""),
        ([], ""),
        ({"last_agent_name": None}, ""),
        ({"last_agent_name": 5}, ""),
        ({"last_agent_name": "x" * 256}, "x" * 256),
        ({"last_agent_name": "x" * 257}, ""),
    ],
)
def test_who_spoke_last_is_told_by_the_state_and_anything_else_means_nobody(state: Any, last: str) -> None:
    turn = g1(USER, state=state)
    assert turn.workflow is not None and turn.workflow.last == last


def test_a_first_system_message_is_an_instruction_and_a_later_one_a_message() -> None:
    system = {"role": "system", "content": "Be brief."}
    turn = g1(system, USER, system)
    assert turn.instructions == ("Be brief.",)
    assert turn.messages == (said("user", "hello"), said("system", "Be brief."))
    for blank in ("", " \n"):
        assert g1({"role": "system", "content": blank}, USER) == g1(USER)
        assert g2({"role": "system", "content": blank}, USER) == g2(USER)
    kept = g2(system, USER)
    assert (kept.instructions, kept.messages) == ((), (said("system", "Be brief."), said("user", "hello")))


def test_a_workflow_and_a_test_profile_and_mocks_are_wanted_in_every_generation() -> None:
    wanted = {"workflowId": "w1", "testProfileId": "p1", "mockTools": {"get_order": "lost"}}
    for body, last in (
        ({"state": {"last_agent_name": "A"}}, None),
        ({"conversationId": None}, None),
        ({}, ""),
    ):
        asked = request({"messages": [USER]} | body | wanted)
        turn = {"g15": decode.g15, "g2": decode.g2, "g1": decode.g1}[decode.generation_of(json.loads(asked.body))](
            asked
        )
        assert turn.workflow == WorkflowWanted("w1", "p1", last, {"get_order": "lost"})


def test_null_and_unknown_keys_mean_nothing() -> None:
    plain = g1(USER)
    assert g1(USER, workflowId=None, testProfileId=None, skipToolCalls=False, maxTurns=3, x={"y": 1}) == plain
    assert g1(USER | {"agenticSender": None, "name": "x"}) == plain
    assert g1(USER, workflowId="") == plain


def test_a_conversation_is_begun_or_gone_on_with() -> None:
    for absent in (None, ""):
        begun = g2(USER, conversationId=absent)
        assert (begun.conversation, begun.must_exist, begun.ephemeral) == (NONCE[:24], False, False)
    gone_on = g2(USER, conversationId="abc")
    assert (gone_on.conversation, gone_on.must_exist) == ("abc", True)
    assert gone_on.workflow == WorkflowWanted(last=None)


def test_a_body_that_may_be_of_any_generation_begins_a_conversation_that_is_kept() -> None:
    turn = decode.ambiguous(request({"messages": [USER, USER]}))
    assert (turn.conversation, turn.ephemeral, len(turn.messages)) == (NONCE[:24], False, 2)
    assert turn.workflow == WorkflowWanted(last=None)


def test_nothing_said_is_a_turn_too() -> None:
    assert g1().messages == g2().messages == ()


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", ["agenticSender", "agentName", "agenticName"])
@pytest.mark.parametrize("visible", ["agenticResponseType", "responseType"])
def test_either_spelling_of_a_text_is_understood(sender: str, visible: str) -> None:
    message = {"role": "assistant", "content": "hi", sender: "A"}
    assert g1(message | {visible: "external"}).messages == (Message("assistant", (Text("hi"),), name="A"),)
    internal = (Message("assistant", (Text("hi", hidden=True),), name="A"),)
    assert g1(message | {visible: "internal"}).messages == internal


SNAKE_PAIR: list[Json] = [
    {"role": "assistant", "tool_calls": [CALL], "agenticSender": "A", "agenticResponseType": "internal"},
    {"role": "tool", "content": "late", "tool_call_id": "t1", "tool_name": "get_order"},
]
CAMEL_PAIR: list[Json] = [
    {"role": "assistant", "content": None, "toolCalls": [CALL], "agentName": "A"},
    {"role": "tool", "content": "late", "toolCallId": "t1", "toolName": "get_order"},
]


@pytest.mark.parametrize(
    "pair",
    [
        SNAKE_PAIR,
        CAMEL_PAIR,
        [SNAKE_PAIR[0] | CAMEL_PAIR[0], SNAKE_PAIR[1] | CAMEL_PAIR[1]],
        [SNAKE_PAIR[0] | {"toolCalls": []}, SNAKE_PAIR[1] | {"toolCallId": None}],
        [SNAKE_PAIR[0] | {"content": None}, SNAKE_PAIR[1] | {"tool_name": None}],
    ],
    ids=["snake", "camel", "both", "one of them empty", "nulls"],
)
def test_calls_and_their_results_are_understood_in_either_spelling(pair: list[Json]) -> None:
    call, result = ToolCall(CallId("t1"), "get_order", '{"id":1}'), ToolResult(CallId("t1"), "late")
    assert g1(*pair).messages == (Message("assistant", (call,), name="A"), Message("tool", (result,)))


def test_a_text_beside_calls_is_all_that_counts_and_results_of_no_call_do_not() -> None:
    message = TEXT | {"tool_calls": [CALL]}
    assert g1(message, SNAKE_PAIR[1]).messages == (Message("assistant", (Text("hi"),), name="A"),)


def test_a_result_may_be_null() -> None:
    assert g1(SNAKE_PAIR[0], SNAKE_PAIR[1] | {"content": None}).messages[1].parts == (ToolResult(CallId("t1"), ""),)


@pytest.mark.parametrize(
    ("message", "place", "code"),
    [
        ({"role": "developer", "content": "x"}, "messages.0.role", "invalid_enum_value"),
        ({"role": "function", "content": "x"}, "messages.0.role", "invalid_enum_value"),
        ({"content": "x"}, "messages.0.role", "invalid_type"),
        ({"role": []}, "messages.0.role", "invalid_type"),
        ("x", "messages.0", "invalid_type"),
        ({"role": "user"}, "messages.0.content", "invalid_type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages.0.content", "invalid_type"),
        ({"role": "system", "content": None}, "messages.0.content", "invalid_type"),
        ({"role": "assistant", "content": "x"}, "messages.0.agenticResponseType", "invalid_type"),
        (TEXT | {"agenticResponseType": "secret"}, "messages.0.agenticResponseType", "invalid_enum_value"),
        (TEXT | {"agenticResponseType": []}, "messages.0.agenticResponseType", "invalid_type"),
        (TEXT | {"content": ["x"]}, "messages.0.content", "invalid_type"),
        (TEXT | {"agenticSender": 5}, "messages.0.agenticSender", "invalid_type"),
        (TEXT | {"agenticSender": "x" * 257}, "messages.0.agenticSender", "too_big"),
        (
            {"role": "assistant", "content": None, "agenticResponseType": "external"},
            "messages.0.content",
            "invalid_type",
        ),
        ({"role": "assistant", "tool_calls": [CALL]}, "messages.0.agenticResponseType", "invalid_type"),
        ({"role": "assistant", "toolCalls": "x"}, "messages.0.toolCalls", "invalid_type"),
        ({"role": "assistant", "toolCalls": [5]}, "messages.0.toolCalls.0", "invalid_type"),
        ({"role": "assistant", "toolCalls": [{"id": "1"}]}, "messages.0.toolCalls.0.function", "invalid_type"),
        ({"role": "assistant", "toolCalls": [CALL | {"id": 1}]}, "messages.0.toolCalls.0.id", "invalid_type"),
        (
            {"role": "assistant", "toolCalls": [CALL | {"type": "x"}]},
            "messages.0.toolCalls.0.type",
            "invalid_enum_value",
        ),
        (
            {"role": "assistant", "toolCalls": [CALL | {"function": {"name": "x", "arguments": {}}}]},
            "messages.0.toolCalls.0.function.arguments",
            "invalid_type",
        ),
        ({"role": "tool", "tool_call_id": "1"}, "messages.0.content", "invalid_type"),
        ({"role": "tool", "content": "x"}, "messages.0.tool_call_id", "invalid_type"),
        ({"role": "tool", "content": "x", "toolCallId": 5}, "messages.0.toolCallId", "invalid_type"),
        (TEXT | {"agenticResponseType": None}, "messages.0.agenticResponseType", "invalid_type"),
        ({"role": "assistant", "content": "x", "responseType": None}, "messages.0.responseType", "invalid_type"),
    ],
)
def test_what_is_no_message_is_told_by_its_place(message: Any, place: str, code: str) -> None:
    assert issues(message) == [(place, code)]


def test_all_faults_are_told_at_once() -> None:
    assert issues(USER, {"role": "user"}, "x", workflowId=5, testProfileId=[], mockTools={"a": 1}) == [
        ("messages.1.content", "invalid_type"),
        ("messages.2", "invalid_type"),
        ("workflowId", "invalid_type"),
        ("testProfileId", "invalid_type"),
        ("mockTools.a", "invalid_type"),
    ]


def test_mocks_are_limited() -> None:
    most = {f"t{at}": "x" * decode.MOCK_CHARS_MAX for at in range(3)}
    turn = g1(USER, mockTools=most)
    assert turn.workflow is not None and turn.workflow.mocks == most
    assert issues(USER, mockTools={"t": "x" * (decode.MOCK_CHARS_MAX + 1)}) == [("mockTools.t", "too_big")]
    assert g1(USER, mockTools={str(at): "" for at in range(decode.MOCKS_MAX)})
    assert issues(USER, mockTools={str(at): "" for at in range(decode.MOCKS_MAX + 1)}) == [("mockTools", "too_big")]
    assert issues(USER, mockTools=[]) == [("mockTools", "invalid_type")]


# -- the second generation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"messages": "x", "conversationId": None},
        {"conversationId": None},
        {"messages": [{"role": "user"}], "stream": True},
        {"messages": [], "conversationId": 5},
        {"messages": [], "stream": "true"},
        {"messages": [], "conversationId": None, "mockTools": []},
        {"messages": [USER | {"timestamp": "2025-08-06T00:00:00+00:00"}], "conversationId": None},
        {"messages": [USER | {"timestamp": 5}], "conversationId": None},
        {"messages": [USER | {"timestamp": "2025-02-29T00:00:00Z"}], "conversationId": None},
        {"messages": [USER | {"timestamp": "2025-13-01T00:00:00Z"}], "conversationId": None},
        {"messages": [USER | {"timestamp": "2025-08-06T24:00:00Z"}], "conversationId": None},
        {"messages": [USER | {"timestamp": "2025-08-06T00:60:00Z"}], "conversationId": None},
        {"messages": [USER | {"timestamp": "\u0662\u0660\u0662\u0665-08-06T00:00:00Z"}], "conversationId": None},
    ],
)
def test_of_a_malformed_turn_it_is_only_said_that_it_is_and_before_anybody_is_asked_who_they_are(body: Json) -> None:
    for ask in (decode.g2, decode.precheck):
        with pytest.raises(BadRequest) as caught:
            ask(request(body))
        assert caught.value.detail == "Invalid request"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        {"messages": "x"},
        {"messages": "x", "state": None},
        {"messages": [USER], "conversationId": None},
        {"messages": [USER], "conversationId": "x" * 5000},
        {"messages": [USER], "conversationId": "\0"},
        {"messages": [USER], "stream": True, "workflowId": "\0"},
        {"messages": [USER], "stream": True, "testProfileId": "x" * 5000},
    ],
)
def test_only_what_is_surely_a_malformed_turn_is_faulted_before_the_key(body: Any) -> None:
    decode.precheck(request(body))


def test_a_long_body_is_not_looked_at_for_who_has_no_key() -> None:
    body = b'{"conversationId": 5, "messages": []}'
    with pytest.raises(BadRequest):
        decode.precheck(request(body.ljust(decode.PRECHECK_BYTES_MAX)))
    decode.precheck(request(body.ljust(decode.PRECHECK_BYTES_MAX + 1)))


@pytest.mark.parametrize("timestamp", [ISO, "2025-08-06T00:00Z", "2024-02-29T23:59:59.123456789Z", None])
def test_a_message_may_say_when_it_was_said(timestamp: str | None) -> None:
    asked = decode.asked_of(request({"messages": [USER | {"timestamp": timestamp}], "conversationId": None}))
    assert asked.messages[0].at == (timestamp or "")


def test_earlier_generations_know_no_times() -> None:
    assert g1(USER | {"timestamp": "soon"}).messages == (said("user", "hello"),)


@pytest.mark.parametrize(
    ("name", "size", "what"),
    [("workflowId", 128, "workflow"), ("testProfileId", 128, "test_profile"), ("conversationId", 128, "conversation")],
)
def test_an_id_that_can_name_nothing_is_not_found(name: str, size: int, what: str) -> None:
    assert g2(USER, **{name: "x" * size})
    for bad in ("x" * (size + 1), "a\0b"):
        with pytest.raises(NotFound) as caught:
            g2(USER, **{name: bad})
        assert caught.value.what == what


# -- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "counts"),
    [
        ({"total": 3, "prompt": 2, "completion": 1}, (3, 2, 1)),
        ({"total": 2**53, "prompt": 0, "completion": 0}, (2**53, 0, 0)),
        ({"total": 2**53 + 1, "prompt": 0, "completion": 0}, (0, 0, 0)),
        ({"total": -1, "prompt": 0, "completion": 0}, (0, 0, 0)),
        ({"total": True, "prompt": 0, "completion": 0}, (0, 0, 0)),
        ({"total": 1.5, "prompt": 0, "completion": 0}, (0, 0, 0)),
        ({"total": 1}, (0, 0, 0)),
        ("x", (0, 0, 0)),
        (None, (0, 0, 0)),
    ],
)
def test_what_was_used_before_counts_if_it_is_well_formed(tokens: Any, counts: tuple[int, ...]) -> None:
    assert decode.used_tokens({"tokens": tokens}) == counts


def test_the_project_is_that_of_the_path() -> None:
    assert decode.project(request({})) == "default"
