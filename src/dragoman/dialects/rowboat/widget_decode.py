"""Requests of the chat widget -> operations (rowboat spec 8.1)."""

import re
from typing import TypeVar

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
from dragoman.dialects.rowboat.widget_shapes import BeginChat, Say, UserToken
from dragoman.wire import structs
from dragoman.wire.dialect import Request

ORIGIN = "rowboat-widget"
"""Of the conversations that are chats."""
CLIENT_HEADER = "x-client-id"
NO_CLIENT = "Missing client ID in request"
NO_JSON = "Invalid JSON in request body"
NO_CHAT_ID = "Invalid chat ID"

_ID = re.compile(r"[0-9a-f]{24}", re.IGNORECASE)
_NOT_JSON = frozenset(("empty", "not_utf8", "json_invalid"))

T = TypeVar("T")


# -- sessions --------------------------------------------------------------------------------------------------------


def open_guest(request: Request) -> OpenGuestSession:
    return OpenGuestSession(_client(request))


def open_user(request: Request) -> OpenUserSession:
    return OpenUserSession(_client(request), _body(request, UserToken).user_data_jwt)


def _client(request: Request) -> str:
    client = request.headers.get(CLIENT_HEADER, "")
    if not client:
        raise BadRequest(NO_CLIENT)
    return client


# -- chats -----------------------------------------------------------------------------------------------------------


def begin(request: Request) -> BeginWidgetChat:
    if request.body:
        _body(request, BeginChat)
    return BeginWidgetChat(new_chat_id(request))


def new_chat_id(request: Request) -> ConversationId:
    """24 hex digits as of an ObjectId: seconds in 8, then milliseconds in 3, so that ids sort by time, then chance."""
    seconds = int(request.at)
    return ConversationId(f"{seconds:08x}{int((request.at - seconds) * 1000):03x}{request.nonce[:13]}")


def browse(request: Request) -> BrowseWidgetChats:
    return BrowseWidgetChats(*_cursors(request))


def read(request: Request) -> ReadWidgetChat:
    return ReadWidgetChat(_chat(request))


def messages(request: Request) -> ReadWidgetMessages:
    return ReadWidgetMessages(_chat(request), *_cursors(request))


def close(request: Request) -> CloseWidgetChat:
    return CloseWidgetChat(_chat(request))


def say(request: Request) -> SayInWidgetChat:
    chat = _chat(request)
    message = _body(request, Say).message
    if not message.strip():
        raise BadRequest("Invalid request body: message: must not be empty")
    return SayInWidgetChat(
        chat, (said("user", message),), deltas=False, origin=ORIGIN, private=True, workflow=WorkflowWanted()
    )


def _chat(request: Request) -> ConversationId:
    return ConversationId(_id(request.params["chatId"], NO_CHAT_ID))


def _cursors(request: Request) -> tuple[str, str]:
    """Behind what, or before what, of a list; at most one of them."""
    behind, before = request.query.get("next", ""), request.query.get("previous", "")
    if behind and before:
        raise BadRequest("Ask with next or with previous, not with both.")
    name = "next" if behind else "previous"
    cursor = behind or before
    if cursor:
        cursor = _id(cursor, f"{name} is not what an answer gave as {name}; leave it out for the first page.")
    return (cursor, "") if behind else ("", cursor)


def _id(text: str, sentence: str) -> str:
    if _ID.fullmatch(text) is None:
        raise BadRequest(sentence)
    return text.lower()


def _body(request: Request, shape: type[T]) -> T:
    """Unknown keys mean nothing. Raises BadRequest."""
    try:
        return structs.decode(request.body, shape)
    except BadRequest as error:
        detail = NO_JSON if error.faults[0].type in _NOT_JSON else f"Invalid request body: {error.detail}"
        raise BadRequest(detail, faults=error.faults) from None
