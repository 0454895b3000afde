"""Grafana Assistant's API: chats, their events, and what its clients use besides. Facts, quirks (Q1..) and divergences:
WIRE.md.

The same rows are mounted under each base that clients know (Q9).
"""

from collections.abc import Callable
from typing import Any

from dragoman.core.errors import DragomanError
from dragoman.core.names import Scope
from dragoman.core.operations import Operation
from dragoman.dialects.grafana import (
    a2a,
    card,
    decode,
    encode,
    errors,
    login,
    parameters,
    resources,
    service_accounts,
    shapes,
    tunnel,
)
from dragoman.dialects.grafana.events import ChatStream
from dragoman.dialects.grafana.shapes import Success
from dragoman.wire.dialect import Dialect, Example, Parameter, Reply, Request, Route, Streamed

PLUGIN = "/api/plugins/grafana-assistant-app/resources/api"
DIRECT = "/api/cli/v1"
PROXY = f"{DIRECT}/proxy"
BASES = (f"{PLUGIN}/v1", DIRECT, f"{PROXY}{PLUGIN}/v1")
"""The plugin's own, the direct one, and the plugin's behind the proxy that swaps credentials."""
EVENTS_BASES = (f"{PLUGIN}/events", f"{PROXY}{PLUGIN}/events")

_SCOPES = (Scope.PLUGINS_APP_ACCESS, Scope.GRAFANA_CHATS_ACCESS)
_CHAT = Success[shapes.Chat]
_UI = Success[shapes.UiMessages]
_LIST = "Your chats, those that changed last first"
_PARTS = "Every message of a chat, in the parts of newer clients"
_TICKET = "A ticket for this chat's event stream, for browsers' EventSource (Dragoman's own)"


def _chat_routes(base: str) -> tuple[Route[Any], ...]:
    chats, shared = f"{base}/chats", f"{base}/shared/{{chatId}}"
    chat = f"{chats}/{{chatId}}"
    thread = parameters.THREAD
    change = "Rename a chat, share it with the whole project, or archive it (Dragoman's own)"
    return (
        Route(
            "POST",
            f"{base}/assistant/chats",
            decode.start_chat,
            accept=encode.chat_started,
            scopes=_SCOPES,
            summary="Start a chat, or continue the one named by chatId; the answer is written in the background",
            takes=parameters.needing(shapes.StartChat, "prompt"),
            gives=Success[shapes.ChatStarted],
        ),
        _row("GET", chats, decode.list_chats, encode.chats, Success[shapes.Chats], _LIST, asks=parameters.CHATS),
        _row("GET", chat, decode.read_chat, encode.chat, _CHAT, "A chat with its messages"),
        _row("PATCH", chat, decode.change_chat, encode.chat_changed, _CHAT, change, takes=shapes.ChangeChat),
        _row("PUT", chat, decode.change_chat, encode.chat_changed, _CHAT, change, takes=shapes.ChangeChat),
        _row(
            "DELETE",
            chat,
            decode.delete_chat,
            encode.chat_deleted,
            Success[shapes.ChatDeleted],
            "Delete a chat (Dragoman's own)",
        ),
        _row(
            "GET",
            f"{chat}/all-messages",
            decode.read_chat,
            encode.all_messages,
            Success[shapes.ChatMessages],
            "Every message of a chat",
        ),
        _row("GET", f"{chat}/ui-messages", decode.read_ui_messages, encode.ui_messages, _UI, _PARTS, asks=thread),
        _row("POST", f"{chat}/stream-ticket", decode.issue_ticket, encode.ticket, Success[shapes.Ticket], _TICKET),
        _events_route(f"{chat}/stream"),
        _row("GET", shared, decode.read_shared, encode.chat, _CHAT, "A chat that somebody shared"),
        _row(
            "GET",
            f"{shared}/ui-messages",
            decode.read_shared_ui_messages,
            encode.ui_messages,
            _UI,
            _PARTS,
            asks=thread,
        ),
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
    return Route(
        method, path, decode, answer=answer, scopes=_SCOPES, summary=summary, takes=takes, gives=gives, asks=asks
    )


def _events_route(path: str) -> Route[Any]:
    return Route(
        "GET",
        path,
        decode.follow,
        stream=Streamed(ChatStream, headers=(("x-accel-buffering", "no"),)),
        scopes=_SCOPES,
        ticket="ticket",
        ticket_for="chatId",
        summary="A chat's events as they come, from behind Last-Event-ID or ?lastEventId=",
        asks=parameters.EVENTS,
    )


def _routes() -> tuple[Route[Any], ...]:
    of_a_base = (_chat_routes, a2a.routes, card.routes, resources.routes, tunnel.routes)
    return (
        *(route for base in BASES for routes in of_a_base for route in routes(base)),
        *(_events_route(f"{base}/chats/{{chatId}}") for base in EVENTS_BASES),
        *card.root_routes(BASES[0]),
        *login.routes(),
        *service_accounts.routes(),
    )


def _fail(error: DragomanError, request: Request | None) -> Reply:
    """JSON-RPC's own errors where it is spoken, else this wire's; a page for people on the pages of a login."""
    spoken = None if request is None else a2a.fail(error, request) or tunnel.fail(error, request)
    return spoken or login.as_page(errors.fail(error, request), error, request)


_EXAMPLES = (
    Example(
        "Start a chat",
        "POST",
        f"{PLUGIN}/v1/assistant/chats",
        {"prompt": "How many datasources do I have?"},
        expect=('"status":"success"', '"chatId":"'),
        keeps=("chatId",),
    ),
    Example(
        "Stream chat events",
        "GET",
        f"{PLUGIN}/events/chats/{{chatId}}",
        expect=(
            '"type":"MESSAGE_CREATED"',
            '"type":"AGENT_EXECUTION_STARTED"',
            '"toolName":"list_datasources"',
            '"type":"AGENT_EXECUTION_COMPLETED"',
        ),
    ),
    Example(
        "Fetch chat messages",
        "GET",
        f"{PLUGIN}/v1/chats/{{chatId}}",
        expect=('"status":"success"', '"role":"user"', '"role":"assistant"', "How many datasources do I have?"),
    ),
)

DIALECT = Dialect(
    name="grafana",
    title="Grafana Assistant API",
    prefixes=("/api/plugins/grafana-assistant-app/", "/api/cli/", "/api/serviceaccounts", "/a/grafana-assistant-app/"),
    routes=_routes(),
    credential=decode.credential,
    fail=_fail,
    refusal=shapes.ErrorBody,
    examples=_EXAMPLES,
)
