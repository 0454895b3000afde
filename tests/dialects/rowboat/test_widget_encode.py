"""Answers of the widget: exactly the keys of the wire, and an error for a turn that came to nothing."""

import json
from typing import Any

import pytest

from dragoman.core.events import RunCancelled, RunCompleted, RunEnd, RunFailed, RunNeedsClient
from dragoman.core.messages import Message, Text, ToolCall, Usage, said
from dragoman.core.names import CallId, ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import Outcome, Started
from dragoman.core.widget import (
    WidgetChat,
    WidgetChatPage,
    WidgetMessage,
    WidgetMessagePage,
    WidgetSession,
    answered_id,
)
from dragoman.dialects.rowboat import errors
from dragoman.dialects.rowboat import widget_encode as encode
from tests.dialects.rowboat.test_widget_decode import CHAT, request

ID = ConversationId(CHAT)
OPEN = WidgetChat(ID, ProjectId("p"), "u", "Ana", 1_700_000_000.0)
OPEN_JSON = {
    "version": "v1",
    "projectId": "p",
    "userId": "u",
    "createdAt": "2023-11-14T22:13:20.000Z",
    "userData": {"userId": "u", "userName": "Ana"},
    "id": CHAT,
}


def told(reply: Any) -> Any:
    assert reply.status == 200
    return json.loads(reply.body)


def outcome(*answered: Message, end: RunEnd | None = None, said_at: tuple[float, ...] = ()) -> Outcome:
    started = Started(ID, Tape(1), RunId("r"), 7, created=True)
    return Outcome(started, end or RunCompleted(), "", len(answered), (), Usage(), answered, said_at)


def test_a_session_is_its_text():
    assert told(encode.session(WidgetSession("eyJ", 1.0), request())) == {"sessionId": "eyJ"}


def test_a_chat_says_of_its_end_only_once_it_has_one():
    assert told(encode.chat(OPEN, request())) == OPEN_JSON
    closed = WidgetChat(ID, ProjectId("p"), "u", "Ana", 1_700_000_000.0, 1_700_000_001.5)
    assert told(encode.chat(closed, request())) == OPEN_JSON | {
        "closed": True,
        "closedAt": "2023-11-14T22:13:21.500Z",
        "closeReason": "user-closed-chat",
    }


def test_pages_name_those_beside_them_where_there_are_any():
    assert told(encode.chats(WidgetChatPage((OPEN,)), request())) == {"chats": [OPEN_JSON]}
    assert told(encode.chats(WidgetChatPage((), "a", "b"), request())) == {"chats": [], "next": "a", "previous": "b"}
    assert told(encode.messages(WidgetMessagePage((), "a", "b"), request())) == {
        "messages": [],
        "next": "a",
        "previous": "b",
    }


def test_messages_are_the_users_and_those_for_the_user():
    asked = WidgetMessage("1" * 24, "user", "hi", 1_700_000_000.0)
    answer = WidgetMessage("2" * 24, "assistant", "hello", 1_700_000_001.0, "Desk")
    page = WidgetMessagePage((asked, answer))
    for shown in (request(), request(params={"chatId": CHAT.upper()})):
        assert told(encode.messages(page, shown)) == {
            "messages": [
                {
                    "role": "user",
                    "content": "hi",
                    "version": "v1",
                    "chatId": CHAT,
                    "createdAt": "2023-11-14T22:13:20.000Z",
                    "id": "1" * 24,
                },
                {
                    "role": "assistant",
                    "content": "hello",
                    "agenticSender": "Desk",
                    "agenticResponseType": "external",
                    "version": "v1",
                    "chatId": CHAT,
                    "createdAt": "2023-11-14T22:13:21.000Z",
                    "id": "2" * 24,
                },
            ]
        }


def test_a_turn_is_answered_with_the_last_text_that_is_for_the_user():
    answered = (
        Message("assistant", (Text("One moment."), ToolCall(CallId("c"), "t", "{}")), name="Desk"),
        Message("assistant", (Text("Here it is."),), name="Billing"),
        Message("assistant", (Text("a note", hidden=True),), name="Clerk"),
    )
    reply = told(encode.turn(outcome(*answered, said_at=(1.0, 2.0, 3.0)), request()))
    assert (reply["content"], reply["agenticSender"]) == ("Here it is.", "Billing")
    assert (reply["createdAt"], reply["id"]) == ("1970-01-01T00:00:02.000Z", answered_id(ID, 7, 1))


def test_a_sender_that_is_not_known_is_not_told():
    reply = told(encode.turn(outcome(said("assistant", "hi")), request()))
    assert "agenticSender" not in reply and reply["createdAt"] == "2023-11-14T22:13:20.250Z"


@pytest.mark.parametrize(
    ("end", "status", "sentence"),
    [
        (RunFailed("upstream_limited", "The model is busy."), 502, "The model is busy."),
        (RunFailed("upstream_idle", "The model is silent."), 504, "The model is silent."),
        (RunFailed("unavailable", "Later."), 503, "Later."),
        (RunFailed("step_limit", "Too many steps."), 500, "Too many steps."),
        (RunCancelled("c"), 500, errors.CANCELLED),
        (RunNeedsClient(()), 500, errors.NO_CLIENT_TOOLS),
        (RunCompleted(), 500, errors.NO_ANSWER),
    ],
)
def test_a_turn_without_an_answer_is_an_error(end: RunEnd, status: int, sentence: str):
    hidden = Message("assistant", (Text("a note", hidden=True),))
    reply = encode.turn(outcome(hidden, end=end), request())
    assert (reply.status, json.loads(reply.body)) == (status, {"error": sentence})
