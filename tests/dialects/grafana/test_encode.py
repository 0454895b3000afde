"""Chats and messages as this wire shows them."""

import json
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.admission import StreamTicket
from dragoman.core.messages import Image, Message, Text, Thinking, ToolCall, ToolResult, said
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import (
    ConversationInfo,
    ConversationShelf,
    ConversationView,
    Deleted,
    Started,
    TurnView,
)
from dragoman.dialects.grafana import encode
from tests.dialects.grafana.asking import request

AT = 1_700_000_000.0
WHEN = "2023-11-14T22:13:20.000Z"
RUN = RunId("r1")
CALL = ToolCall(CallId("c1"), "list_files", '{"path":"."}')
INFO = ConversationInfo(ConversationId("c1"), Tape(1), "Ops", "assistant", AT, AT + 300, 2, 1, 9, owner="me")


def data_of(reply: Any) -> Any:
    body = json.loads(reply.body)
    assert (reply.status, body["status"]) == (200, "success")
    return body["data"]


def messages_of(*turns: TurnView) -> list[dict[str, Any]]:
    return data_of(encode.all_messages(ConversationView(INFO, turns), request()))["messages"]


def ui_of(*turns: TurnView) -> list[dict[str, Any]]:
    data = data_of(encode.ui_messages(ConversationView(INFO, turns), request()))
    assert data["thread"] == "main"
    return data["messages"]


def turn(*answered: Message, asked: tuple[Message, ...] = (said("user", "q"),), **given: Any) -> TurnView:
    return TurnView(RUN, 2, AT, asked, answered, given.pop("end", ev.RunCompleted()), **given)


def contents_of(*answered: Message, **given: Any) -> list[list[dict[str, Any]]]:
    return [message["content"] for message in messages_of(turn(*answered, **given))[1:]]


# -- chats -----------------------------------------------------------------------------------------------------------


def test_a_started_chat_is_told_by_its_id() -> None:
    started = Started(ConversationId("c1"), Tape(1), RUN, 2, created=True)
    assert data_of(encode.chat_started(started, request())) == {"chatId": "c1"}


def test_a_chat_is_told_as_on_the_page_and_with_what_clients_read_besides() -> None:
    assert data_of(encode.chat(ConversationView(INFO, ()), request())) == {
        "id": "c1",
        "name": "Ops",
        "created": WHEN,
        "modified": "2023-11-14T22:18:20.000Z",
        "userId": "me",
        "category": "assistant",
        "messages": [],
        "source": "assistant",
        "engine": "legacy",
        "isPublic": False,
        "archived": False,
        "running": False,
    }


def test_a_list_has_chats_without_messages_and_says_how_many_there_are() -> None:
    running = ConversationInfo(
        ConversationId("c2"), Tape(2), "", "grip", AT, AT, 1, 1, 3, RUN, shared=True, archived=True
    )
    data = data_of(encode.chats(ConversationShelf((INFO, running), 7), request(query={"limit": "2", "offset": "4"})))
    assert data["pagination"] == {"total": 7, "limit": 2, "offset": 4}
    assert ["messages" in item for item in data["items"]] == [False, False]
    shown = data["items"][1]
    assert (shown["name"], shown["source"]) == ("New conversation", "grip")
    assert (shown["isPublic"], shown["archived"], shown["running"]) == (True, True, True)


def test_changes_and_tickets_are_told() -> None:
    assert data_of(encode.chat_changed(INFO, request()))["name"] == "Ops"
    assert data_of(encode.chat_deleted(Deleted(ConversationId("c1")), request())) == {"chatId": "c1"}
    ticket = StreamTicket("tkt_x", AT)
    assert data_of(encode.ticket(ticket, request())) == {"ticket": "tkt_x", "expiresAt": WHEN}


# -- messages --------------------------------------------------------------------------------------------------------


def test_a_turn_is_a_message_of_the_user_and_one_for_each_reply() -> None:
    first = Message("assistant", (Thinking("hm"), Text("Let me look."), CALL), name="ops")
    result = Message("tool", (ToolResult(CALL.id, "a.txt", is_error=False),))
    messages = messages_of(
        turn(first, result, said("assistant", "One."), said_at=(AT + 1, AT + 2, AT + 3), took_ms=(0, 42, 0))
    )
    assert messages == [
        {
            "id": "r1-q1",
            "role": "user",
            "content": [{"type": "text", "text": "q"}],
            "type": "message",
            "created": WHEN,
            "hidden": False,
            "audience": "",
        },
        {
            "id": "r1-a1",
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "toolId": "c1", "toolName": "list_files", "toolInput": {"path": "."}},
                {
                    "type": "tool_result",
                    "toolUseId": "c1",
                    "toolName": "list_files",
                    "toolResult": [{"type": "text", "text": "a.txt"}],
                    "isError": False,
                    "durationMs": 42,
                },
            ],
            "type": "message",
            "created": "2023-11-14T22:13:21.000Z",
            "hidden": False,
            "audience": "",
        },
        {
            "id": "r1-a2",
            "role": "assistant",
            "content": [{"type": "text", "text": "One."}],
            "type": "message",
            "created": "2023-11-14T22:13:23.000Z",
            "hidden": False,
            "audience": "",
        },
    ]


def test_what_is_not_told_of_a_turn_is_left_out_or_the_turns() -> None:
    result = Message("tool", (ToolResult(CALL.id, "no", is_error=True),))
    (content,) = contents_of(Message("assistant", (CALL,)), result)
    assert content[1] == {
        "type": "tool_result",
        "toolUseId": "c1",
        "toolName": "list_files",
        "toolResult": [{"type": "text", "text": "no"}],
        "isError": True,
    }
    assert messages_of(turn(said("assistant", "a")))[1]["created"] == WHEN


def test_a_message_that_shows_nothing_has_an_empty_text() -> None:
    hidden = Message("user", (Text("<context>x</context>", hidden=True),))
    messages = messages_of(turn(Message("assistant", ()), asked=(hidden,)))
    assert [message["content"] for message in messages] == [[{"type": "text", "text": ""}]] * 2


def test_hidden_text_is_nowhere_and_the_rest_is_one_text() -> None:
    message = Message("user", (Text("one "), Text("secret", hidden=True), Text("two")))
    view = ConversationView(INFO, (turn(asked=(message,)),))
    for show in (encode.chat, encode.all_messages, encode.ui_messages):
        body = show(view, request()).body
        assert b"secret" not in body and b'"text":"one two"' in body


def test_instructions_among_the_messages_are_internal_and_hidden() -> None:
    (message,) = messages_of(turn(asked=(said("system", "Be brief."),)))
    assert (message["role"], message["hidden"]) == ("internal", True)
    (shown,) = ui_of(turn(asked=(said("system", "Be brief."),)))
    assert (shown["role"], shown["metadata"]) == ("system", {"hidden": True})


def test_a_clients_own_result_is_a_message_of_role_tool_that_names_the_tool() -> None:
    """In other dialects the caller's next turn brings it."""
    needs = turn(Message("assistant", (CALL,)), end=ev.RunNeedsClient((CALL,)))
    brings = TurnView(
        RunId("r2"), 9, AT, (Message("tool", (ToolResult(CALL.id, "a.txt"),)),), (said("assistant", "One."),), None
    )
    messages = messages_of(needs, brings)
    assert [(message["id"], message["role"]) for message in messages] == [
        ("r1-q1", "user"),
        ("r1-a1", "assistant"),
        ("r2-q1", "tool"),
        ("r2-a1", "assistant"),
    ]
    assert messages[2]["content"][0]["toolName"] == "list_files"
    assert ui_of(needs, brings)[2]["parts"] == [
        {
            "type": "dynamic-tool",
            "toolName": "list_files",
            "toolCallId": "c1",
            "state": "output-available",
            "output": "a.txt",
        }
    ]


def test_messages_from_elsewhere_are_shown_as_they_are() -> None:
    imported = ev.MessagesImported((said("user", "q"), said("assistant", "a")))
    view = TurnView(RunId(""), 3, AT, imported.messages, (), imported)
    assert [(message["id"], message["role"]) for message in messages_of(view)] == [
        ("m3-q1", "user"),
        ("m3-q2", "assistant"),
    ]


@pytest.mark.parametrize(
    ("image", "url"),
    [
        (Image("image/png", data="aGk="), "data:image/png;base64,aGk="),
        (Image("image/png", url="https://h/x.png"), "https://h/x.png"),
    ],
)
def test_an_image_is_shown_by_its_url(image: Image, url: str) -> None:
    view = turn(asked=(Message("user", (Text("look"), image)),))
    assert messages_of(view)[0]["content"][1] == {"type": "image_url", "url": url}
    assert ui_of(view)[0]["parts"][1] == {"type": "file", "url": url}


def test_newer_clients_get_a_call_and_its_result_as_one_part() -> None:
    other = ToolCall(CallId("c2"), "read_file", "{}")
    waiting = ToolCall(CallId("c3"), "read_file", "{}")
    reply = Message("assistant", (Thinking("hm"), Text("Look."), CALL, other, waiting))
    results = [Message("tool", (ToolResult(call.id, "out", call is other),)) for call in (CALL, other)]
    assert ui_of(turn(reply, *results))[1]["parts"] == [
        {"type": "reasoning", "text": "hm"},
        {"type": "text", "text": "Look."},
        {
            "type": "dynamic-tool",
            "toolName": "list_files",
            "toolCallId": "c1",
            "state": "output-available",
            "input": {"path": "."},
            "output": "out",
        },
        {
            "type": "dynamic-tool",
            "toolName": "read_file",
            "toolCallId": "c2",
            "state": "output-error",
            "input": {},
            "errorText": "out",
        },
        {
            "type": "dynamic-tool",
            "toolName": "read_file",
            "toolCallId": "c3",
            "state": "input-available",
            "input": {},
        },
    ]
