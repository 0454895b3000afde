"""What came of a turn, in the shape of the caller's generation."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.messages import Message, ToolCall, Usage
from dragoman.core.names import CallId
from dragoman.core.operations import Outcome
from dragoman.dialects.rowboat import encode
from dragoman.wire.dialect import Reply, Request
from tests.dialects.rowboat.chatting import ISO, NO_TOKENS, USER, Json, calls, handed, outcome, request, result, text

Collect = Callable[[Outcome, Request], Reply]

EVERY = [encode.g1, encode.g15, encode.g2, encode.ambiguous]
BODIES: dict[Any, Json] = {
    encode.g1: {"messages": [USER], "state": None},
    encode.g15: {"messages": [USER], "state": None, "mockTools": None},
    encode.g2: {"messages": [USER], "conversationId": None},
    encode.ambiguous: {"messages": [USER]},
}


def answered(collect: Collect, *messages: Message, usage: Usage = Usage(), **more: Any) -> Any:  # noqa: B008
    reply = collect(outcome(*messages, usage=usage), request(BODIES[collect] | more))
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def refused(collect: Collect, came: Outcome) -> tuple[int, str]:
    reply = collect(came, request(BODIES[collect]))
    body = json.loads(reply.body)
    assert list(body) == ["error"]
    return reply.status, body["error"]


def test_the_first_generation_has_messages_and_a_state_and_no_more() -> None:
    assert answered(encode.g1, text("Front Desk", "Hello")) == {
        "messages": [
            {
                "role": "assistant",
                "content": "Hello",
                "agenticSender": "Front Desk",
                "agenticResponseType": "external",
            }
        ],
        "state": {"last_agent_name": "Front Desk", "tokens": NO_TOKENS},
    }


def test_the_state_names_who_answered_and_adds_up_what_was_used() -> None:
    before = {"last_agent_name": "X", "tokens": {"total": 10, "prompt": 7, "completion": 3}}
    messages = (*handed("Front Desk", "Billing"), text("Billing", "Paid."))
    state = answered(encode.g1, *messages, usage=Usage(5, 2), state=before)["state"]
    assert state == {"last_agent_name": "Billing", "tokens": {"total": 17, "prompt": 12, "completion": 5}}


def test_a_nameless_answer_leaves_the_state_as_it_was() -> None:
    assert answered(encode.g1, text("", "Hi"), state={"last_agent_name": "X"})["state"]["last_agent_name"] == "X"


def test_the_generation_between_has_messages_alone() -> None:
    reply = answered(encode.g15, calls("A", "get_order"), result("c1", "late"), text("A", "It is late."))
    assert list(reply) == ["messages"]
    assert [list(message) for message in reply["messages"]] == [
        ["role", "content", "toolCalls", "agentName", "agenticName"],
        ["role", "content", "toolCallId", "toolName"],
        ["role", "content", "agentName", "agenticName", "responseType"],
    ]


def test_the_second_generation_has_a_conversation_and_a_turn() -> None:
    assert answered(encode.g2, text("A", "Hi"), mockTools={"t": "x"}) == {
        "conversationId": "c" * 24,
        "turn": {
            "id": "r_1",
            "reason": {"type": "api"},
            "input": {"messages": [USER | {"timestamp": ISO}], "mockTools": {"t": "x"}},
            "output": [
                {"role": "assistant", "content": "Hi", "agentName": "A", "responseType": "external", "timestamp": ISO}
            ],
            "createdAt": ISO,
        },
    }


def test_what_was_sent_with_a_time_keeps_it() -> None:
    mine = "2024-01-01T00:00Z"
    turn = answered(encode.g2, text("A", "Hi"), messages=[USER | {"timestamp": mine}, USER])["turn"]
    assert [each["timestamp"] for each in turn["input"]["messages"]] == [mine, ISO]
    assert "mockTools" not in turn["input"]


def test_who_may_be_of_any_generation_gets_what_each_needs() -> None:
    reply = answered(encode.ambiguous, *handed("A", "B"), text("B", "Hi"), usage=Usage(1, 1))
    assert list(reply) == ["messages", "state", "conversationId", "turn"]
    assert reply["messages"] == reply["turn"]["output"] and len(reply["messages"]) == 3
    assert reply["state"] == {"last_agent_name": "B", "tokens": {"total": 2, "prompt": 1, "completion": 1}}
    assert reply["conversationId"] == "c" * 24
    assert reply["turn"]["input"] == {"messages": [USER | {"timestamp": ISO}]}


@pytest.mark.parametrize("collect", EVERY)
def test_an_answer_may_be_empty_and_is_for_the_user_all_the_same(collect: Collect) -> None:
    body = answered(collect, text("A", ""))
    last = (body.get("messages") or body["turn"]["output"])[-1]
    assert last["content"] == ""
    assert "external" in (last.get("agenticResponseType"), last.get("responseType"))


@pytest.mark.parametrize("collect", EVERY)
@pytest.mark.parametrize(
    "messages",
    [(), (text("A", "note", internal=True),), (calls("A", "t"), result("c1", "x")), handed("A", "B")],
    ids=["nothing", "internal", "a result", "a transfer"],
)
def test_what_does_not_end_with_a_text_for_the_user_is_an_error(
    collect: Collect, messages: tuple[Message, ...]
) -> None:
    status, sentence = refused(collect, outcome(*messages))
    assert (status, sentence) == (500, "The turn ended without an answer for the user; please ask again.")


@pytest.mark.parametrize("collect", EVERY)
@pytest.mark.parametrize(
    ("end", "status", "sentence"),
    [
        (ev.RunFailed("upstream_failed", "The model failed."), 502, "The model failed."),
        (ev.RunFailed("upstream_limited", "Busy."), 502, "Busy."),
        (ev.RunFailed("upstream_idle", "Too slow."), 504, "Too slow."),
        (ev.RunFailed("retries_exhausted", "The server stopped."), 502, "The server stopped."),
        (ev.RunFailed("unavailable", "Later."), 503, "Later."),
        (ev.RunFailed("step_limit", "Too many steps."), 500, "Too many steps."),
        (ev.RunFailed("time_limit", ""), 500, "Internal server error"),
        (ev.RunCancelled(), 500, "The turn was cancelled."),
        (ev.RunNeedsClient((ToolCall(CallId("1"), "t", "{}"),)), 500, None),
    ],
)
def test_a_turn_that_failed_is_an_error_whatever_was_said_in_it(
    collect: Collect, end: Any, status: int, sentence: str | None
) -> None:
    got, said = refused(collect, outcome(text("A", "Hi"), end=end))
    assert got == status
    assert said == sentence if sentence is not None else "client" in said
