"""Requests of the widget: what they ask for, and ids that sort by time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.errors import BadRequest
from dragoman.core.messages import said
from dragoman.core.names import ConversationId
from dragoman.core.widget import (
    BeginWidgetChat,
    BrowseWidgetChats,
    CloseWidgetChat,
    OpenGuestSession,
    OpenUserSession,
    ReadWidgetChat,
    ReadWidgetMessages,
    SayInWidgetChat,
)
from dragoman.core.workflows import WorkflowWanted
from dragoman.dialects.rowboat import widget_decode as decode
from dragoman.wire.dialect import Request

CHAT = "65535f10000a1b2c3d4e5f6a"
NONCE = "0123456789abcdef" * 2


def request(body: bytes = b"", **changes: Any) -> Request:
    given_: dict[str, Any] = {
        "method": "POST",
        "path": "/api/widget/v1/x",
        "params": {"chatId": CHAT},
        "query": {},
        "headers": {},
        "body": body,
        "id": "r",
        "nonce": NONCE,
        "at": 1_700_000_000.25,
    }
    return Request(**(given_ | changes))


def test_each_request_asks_for_one_thing():
    client = {"x-client-id": "c"}
    assert decode.open_guest(request(headers=client)) == OpenGuestSession("c")
    assert decode.open_user(request(b'{"userDataJwt":"j","x":1}', headers=client)) == OpenUserSession("c", "j")
    chat = ConversationId(CHAT)
    assert decode.begin(request(b"{}")) == BeginWidgetChat(ConversationId("6553f1000fa0123456789abc"))
    assert decode.read(request()) == ReadWidgetChat(chat)
    assert decode.close(request(b"whatever")) == CloseWidgetChat(chat)
    assert decode.browse(request(query={"next": CHAT.upper()})) == BrowseWidgetChats(next=CHAT)
    assert decode.messages(request(query={"previous": CHAT})) == ReadWidgetMessages(chat, previous=CHAT)
    assert decode.say(request(b'{"message":"hi"}')) == SayInWidgetChat(
        chat, (said("user", "hi"),), deltas=False, origin="rowboat-widget", private=True, workflow=WorkflowWanted()
    )


@pytest.mark.parametrize("body", [b"", b"{}", b'{"x":1}'])
def test_who_begins_a_chat_need_say_nothing(body: bytes):
    assert decode.begin(request(body)).chat


@pytest.mark.parametrize("body", [b"[]", b"null", b"{"])
def test_but_what_is_said_must_be_an_object(body: bytes):
    with pytest.raises(BadRequest, match="Invalid"):
        decode.begin(request(body))


@given(st.floats(0, 2**32 - 1), st.floats(0, 2**32 - 1))
def test_ids_of_chats_sort_by_time(one: float, two: float):
    ids = [decode.new_chat_id(request(at=at)) for at in (one, two)]
    assert all(len(each) == 24 and set(each) <= set("0123456789abcdef") for each in ids)
    if int(two * 1000) - int(one * 1000) > 1:
        assert ids[0] < ids[1]


def test_chats_of_one_moment_differ():
    assert decode.new_chat_id(request()) != decode.new_chat_id(request(nonce="f" * 32))


@pytest.mark.parametrize("kind", ["not utf-8", "deep", "surrogate"])
def test_bodies_that_are_no_text_or_too_deep_are_refused(kind: str):
    body = {"not utf-8": b"\xff", "deep": b"[" * 100 + b"]" * 100, "surrogate": b'{"message":"\\ud800"}'}[kind]
    with pytest.raises(BadRequest) as refused:
        decode.say(request(body))
    assert refused.value.detail.startswith("Invalid JSON" if kind == "not utf-8" else "Invalid request body: ")


def test_cursors_are_both_ids_and_not_both_there():
    for query, words in (
        ({"next": "x"}, "next is not what"),
        ({"previous": "x"}, "previous is not what"),
        ({"next": CHAT, "previous": CHAT}, "not with both"),
    ):
        with pytest.raises(BadRequest, match=words):
            decode.browse(request(query=query))
    assert decode.browse(request(query={"next": "", "previous": ""})) == BrowseWidgetChats()
