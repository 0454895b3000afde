"""Requests about chats: what becomes of good ones, and what bad ones are told."""

from typing import Any

import pytest

from dragoman.core.admission import IssueStreamTicket
from dragoman.core.errors import BadRequest, NotAuthenticated, NotFound
from dragoman.core.messages import Message, Text, said
from dragoman.core.names import ConversationId
from dragoman.core.operations import (
    Archived,
    BrowseConversations,
    DeleteConversation,
    FollowConversation,
    ReadConversation,
    StartTurn,
    UpdateConversation,
)
from dragoman.dialects.grafana import decode
from dragoman.dialects.grafana.decode import Cursor
from tests.dialects.grafana.asking import request

CHAT = ConversationId("c1")
PROMPT = "How many datasources do I have?"


# -- turns -----------------------------------------------------------------------------------------------------------


def test_a_prompt_begins_a_chat_under_a_uuid_of_its_own() -> None:
    assert decode.start_chat(request({"prompt": PROMPT})) == StartTurn(
        ConversationId("01234567-89ab-4def-8123-456789abcdef"),
        (said("user", PROMPT),),
        origin="assistant",
        title=PROMPT,
        private=True,
        managed=True,
    )


def test_a_chat_id_continues_that_chat_and_must_be_there() -> None:
    turn = decode.start_chat(request({"prompt": PROMPT, "chatId": "c1"}))
    assert (turn.conversation, turn.must_exist) == (CHAT, True)


@pytest.mark.parametrize("chat_id", [None, ""])
def test_a_chat_id_of_nothing_is_none(chat_id: str | None) -> None:
    turn = decode.start_chat(request({"prompt": PROMPT, "chatId": chat_id}))
    assert (len(turn.conversation), turn.must_exist) == (36, False)


def test_fields_of_other_names_are_ignored() -> None:
    assert decode.start_chat(request({"prompt": PROMPT, "agent": "x"})).agent == ""


def test_what_the_client_added_is_hidden_and_not_in_the_title() -> None:
    turn = decode.start_chat(request({"prompt": "Hi\n<context>now</context>"}))
    assert turn.messages == (Message("user", (Text("Hi"), Text("\n<context>now</context>", hidden=True))),)
    assert turn.title == "Hi"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (request({}), 'prompt is required: send {"prompt": "your question"}.'),
        (request({"prompt": None}), 'prompt is required: send {"prompt": "your question"}.'),
        (request({"prompt": ""}), 'prompt is required: send {"prompt": "your question"}.'),
        (request({"prompt": " \n"}), "prompt holds nothing to be answered; write a question."),
        (
            request({"prompt": "<context>now</context>"}),
            "prompt holds nothing to be answered; write a question.",
        ),
        (request({"prompt": 5}), "prompt: expected str | null, got int"),
        (request({"prompt": PROMPT, "chatId": 5}), "chatId: expected str | null, got int"),
        (request(["prompt"]), "Expected object, got array"),
        (request(raw=b""), "The body is empty: send a JSON object."),
        (request(raw=b"prompt=hi"), "The body is not valid JSON (byte 0)."),
        (request(raw=b'{"prompt":"\\ud800"}'), "The body holds a lone surrogate, which is no character."),
    ],
)
def test_a_body_that_begins_nothing_is_refused_with_what_to_do(asked: Any, sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode.start_chat(asked)
    assert caught.value.detail == sentence


@pytest.mark.parametrize("chat_id", ["x" * 129, "a\0b"])
def test_a_chat_id_that_cannot_be_one_names_nothing(chat_id: str) -> None:
    with pytest.raises(NotFound):
        decode.start_chat(request({"prompt": PROMPT, "chatId": chat_id}))
    with pytest.raises(NotFound):
        decode.read_chat(request(chat=chat_id))


# -- chats -----------------------------------------------------------------------------------------------------------


def test_a_chat_is_read_changed_and_deleted_by_who_may() -> None:
    assert decode.read_chat(request()) == ReadConversation(CHAT, private=True)
    assert decode.read_ui_messages(request(query={"thread": "main"})) == ReadConversation(CHAT, private=True)
    assert decode.delete_chat(request()) == DeleteConversation(CHAT, private=True)
    assert decode.issue_ticket(request()) == IssueStreamTicket(CHAT)


def test_a_shared_chat_is_read_only_if_it_is_shared() -> None:
    shared = ReadConversation(CHAT, shared_only=True)
    assert decode.read_shared(request()) == decode.read_shared_ui_messages(request()) == shared


@pytest.mark.parametrize("read", [decode.read_ui_messages, decode.read_shared_ui_messages])
def test_another_thread_is_not_there(read: Any) -> None:
    with pytest.raises(NotFound):
        read(request(query={"thread": "side"}))


@pytest.mark.parametrize(
    ("body", "change"),
    [
        ({"name": "Ops"}, UpdateConversation(CHAT, title="Ops", private=True)),
        ({"isPublic": True, "name": None}, UpdateConversation(CHAT, shared=True, private=True)),
        ({"archived": False}, UpdateConversation(CHAT, archived=False, private=True)),
    ],
)
def test_a_change_says_what_is_to_be_different(body: dict[str, Any], change: UpdateConversation) -> None:
    assert decode.change_chat(request(body)) == change


@pytest.mark.parametrize("body", [{}, {"name": None}, {"title": "x"}])
def test_a_change_of_nothing_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        decode.change_chat(request(body))
    assert caught.value.detail == "Nothing is to be changed: send at least one of name, isPublic and archived."


@pytest.mark.parametrize(
    ("query", "origins"),
    [
        ({}, ("assistant",)),
        ({"source": ""}, ("assistant",)),
        ({"source": " , "}, ("assistant",)),
        ({"source": "assistant,slack, cli,cli"}, ("assistant", "slack", "cli")),
        ({"source": "all"}, ()),
        ({"source": "cli,all"}, ()),
    ],
)
def test_sources_are_one_several_or_all(query: dict[str, str], origins: tuple[str, ...]) -> None:
    assert decode.list_chats(request(query=query)) == BrowseConversations(origins, private=True)


@pytest.mark.parametrize(
    ("query", "archived"),
    [
        ({"includeArchived": "true"}, Archived.WITH),
        ({"includeArchived": "0"}, Archived.WITHOUT),
        ({"archivedOnly": "1"}, Archived.ONLY),
        ({"archivedOnly": "True", "includeArchived": "false"}, Archived.ONLY),
        ({"archivedOnly": "false", "includeArchived": ""}, Archived.WITHOUT),
    ],
)
def test_archived_chats_are_listed_when_asked_for(query: dict[str, str], archived: Archived) -> None:
    assert decode.list_chats(request(query=query)).archived is archived


def test_a_page_is_as_long_and_begins_where_it_is_said() -> None:
    page = decode.list_chats(request(query={"limit": "1000", "offset": "30"}))
    assert (page.limit, page.offset) == (1000, 30)


@pytest.mark.parametrize(
    "query",
    [
        *({"limit": said} for said in ("0", "1001", "-1", "ten", "1.5", "9" * 20, "١")),
        *({"offset": said} for said in ("-1", "x", "9" * 17)),
        {"includeArchived": "yes"},
        {"source": ",".join(map(str, range(21)))},
        {"source": "x" * 65},
    ],
)
def test_a_list_that_cannot_be_told_is_refused_by_the_fields_name(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as caught:
        decode.list_chats(request(query=query))
    assert caught.value.detail.startswith(next(iter(query)))


# -- events ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "query", "cursor", "after"),
    [
        ({}, {}, None, 0),
        ({"last-event-id": ""}, {"lastEventId": ""}, None, 0),
        ({"last-event-id": "12"}, {}, Cursor(12), 12),
        ({"last-event-id": "12.1"}, {}, Cursor(12, 1), 11),
        ({}, {"lastEventId": "12.3"}, Cursor(12, 3), 11),
        ({"last-event-id": "7"}, {"lastEventId": "12"}, Cursor(7), 7),
        ({"last-event-id": "0"}, {}, Cursor(0), 0),
    ],
)
def test_a_reader_says_which_frame_it_had_last(
    headers: dict[str, str], query: dict[str, str], cursor: Cursor | None, after: int
) -> None:
    asked = request(headers=headers, query=query)
    assert decode.cursor_of(asked) == cursor
    assert decode.follow(asked) == FollowConversation(CHAT, after, private=True)


@pytest.mark.parametrize("said", ["x", "-1", "1.", ".1", "0.1", "1.0", "1.2.3", "1 ", "9" * 17, "1.x", "٣"])
def test_what_is_no_frames_id_is_refused(said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode.follow(request(headers={"last-event-id": said}))
    assert caught.value.detail == "Last-Event-ID must be the id of an event of this stream, such as 12 or 12.1."
    with pytest.raises(BadRequest) as caught:
        decode.follow(request(query={"lastEventId": said}))
    assert caught.value.detail.startswith("lastEventId must be")


# -- credentials -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Bearer glsa_x", "bearer glsa_x", "Bearer  glsa_x ", "BEARER glsa_x"])
def test_any_bearer_is_a_credential_whatever_its_form(header: str) -> None:
    assert decode.credential({"authorization": header}) == "glsa_x"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer é"},
    ],
)
def test_anything_else_is_none(headers: dict[str, str]) -> None:
    with pytest.raises(NotAuthenticated):
        decode.credential(headers)
