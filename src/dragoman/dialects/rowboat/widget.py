"""The chat widget's API: what a page of a website calls on behalf of its visitors (rowboat spec 8.1).

Whoever has a client id, which stands in the page, may open a session; all else is for the holder of one. What
answers is the project's published workflow.
"""

from collections.abc import Callable
from typing import Any

from dragoman.core.names import Scope
from dragoman.core.operations import Operation
from dragoman.dialects.rowboat import widget_decode, widget_encode
from dragoman.dialects.rowboat.widget_errors import PREFIX
from dragoman.dialects.rowboat.widget_shapes import (
    AssistantMessage,
    BeginChat,
    Chat,
    ChatMessages,
    Chats,
    Say,
    Session,
    UserToken,
)
from dragoman.wire.dialect import Parameter, Reply, Request, Route

_CLIENT = Parameter(widget_decode.CLIENT_HEADER, "The project's client id", where="header", required=True)
_PAGES = (
    Parameter("next", "What the last answer gave as `next`"),
    Parameter("previous", "What the last answer gave as `previous`"),
)
_SCOPES = (Scope.CHAT_RUN,)


def _session_row(
    path: str, decode: Callable[[Request], Operation[Any]], summary: str, *, takes: type | None = None
) -> Route[Any]:
    return Route(
        "POST",
        f"{PREFIX}/session/{path}",
        decode,
        answer=widget_encode.session,
        open=True,
        summary=summary,
        takes=takes,
        gives=Session,
        asks=(_CLIENT,),
    )


def _row(
    method: str,
    path: str,
    decode: Callable[[Request], Operation[Any]],
    answer: Callable[[Any, Request], Reply],
    gives: type,
    summary: str,
    *,
    takes: type | None = None,
    asks: tuple[Parameter, ...] = (),
) -> Route[Any]:
    # Not counted: what uses the project's limit up is the turn (rowboat spec 1.3).
    return Route(
        method,
        f"{PREFIX}{path}",
        decode,
        answer=answer,
        session=True,
        scopes=_SCOPES,
        counted=False,
        summary=summary,
        takes=takes,
        gives=gives,
        asks=asks,
    )


ROUTES: tuple[Route[Any], ...] = (
    _session_row("guest", widget_decode.open_guest, "A session for a visitor that nobody knows"),
    _session_row(
        "user",
        widget_decode.open_user,
        "A session for a user of the website, who is named in a JWT that the project's secret signed",
        takes=UserToken,
    ),
    _row(
        "POST",
        "/chats",
        widget_decode.begin,
        widget_encode.chat,
        Chat,
        "Begin a chat; one in which nothing is said is forgotten after a day",
        takes=BeginChat,
    ),
    _row("GET", "/chats", widget_decode.browse, widget_encode.chats, Chats, "Your chats, newest first", asks=_PAGES),
    _row("GET", "/chats/{chatId}", widget_decode.read, widget_encode.chat, Chat, "A chat of yours"),
    _row(
        "GET",
        "/chats/{chatId}/messages",
        widget_decode.messages,
        widget_encode.messages,
        ChatMessages,
        "What was said in a chat, oldest first",
        asks=_PAGES,
    ),
    Route(
        "POST",
        f"{PREFIX}/chats/{{chatId}}/turn",
        widget_decode.say,
        collect=widget_encode.turn,
        session=True,
        scopes=_SCOPES,
        summary="Say something in a chat and wait for the answer",
        takes=Say,
        gives=AssistantMessage,
    ),
    _row("POST", "/chats/{chatId}/close", widget_decode.close, widget_encode.chat, Chat, "Close a chat for good"),
)
