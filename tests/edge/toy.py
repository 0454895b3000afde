"""A small wire of its own with a route of every kind: forks, open ones, tickets, and a whole conversation's stream."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, DragomanError
from dragoman.core.events import Entry, kind_of
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, RunId, Scope
from dragoman.core.operations import (
    CancelRun,
    DeleteConversation,
    FollowConversation,
    FollowRun,
    Operation,
    Outcome,
    ReadConversation,
    Started,
    StartTurn,
)
from dragoman.edge.house import bearer
from dragoman.wire.dialect import Dialect, Reply, Request, Route, Streamed, json_reply

STATUSES = {
    "bad_request": 400,
    "not_authenticated": 401,
    "not_allowed": 403,
    "not_found": 404,
    "wrong_method": 405,
    "conflict": 409,
    "limit_reached": 429,
    "unavailable": 503,
}


class Greeting(Struct, frozen=True):
    text: str


class Greet(Operation[Greeting], frozen=True):
    """What anybody may ask."""

    name: str


async def greet(operation: Greet) -> Greeting:
    return Greeting(f"hello {operation.name}")


class Lines:
    """An encoder that names entries, and says the text as far as it has come once for all that came together."""

    def __init__(self, request: Request | None = None) -> None:
        self._cursor = cursor(request) if request is not None else 0
        self._text = ""
        self._due = False
        self.closed = False

    def opened(self, started: Started) -> bytes:
        return f"<{started.conversation} {started.run}>\n".encode()

    def entry(self, entry: Entry) -> bytes:
        event = entry.event
        if isinstance(event, ev.TextAdded):
            self._text += event.text
            self._due = entry.seq > self._cursor
            return b""
        return b"" if entry.seq <= self._cursor else f"{entry.seq} {kind_of(event)}\n".encode()

    def held(self) -> bytes:
        due, self._due = self._due, False
        return f"text {self._text}\n".encode() if due else b""

    def failed(self, error: DragomanError) -> bytes:
        self.closed = True
        return f"failed {error.detail}\n".encode()

    def silence(self) -> bytes:
        return b".\n"


class RunLines(Lines):
    """The same for one run, whose end closes it."""

    def entry(self, entry: Entry) -> bytes:
        frames = super().entry(entry)
        self.closed = isinstance(entry.event, ev.RunEnd)
        return self.held() + frames if self.closed else frames


def cursor(request: Request) -> int:
    return int(request.headers.get("last-event-id", "0"))


def fail(error: DragomanError, request: Request | None) -> Reply:
    return json_reply({"error": error.detail}, status=STATUSES.get(error.code, 500))


def talk(request: Request) -> ConversationId:
    return ConversationId(request.params["talk"])


def body(request: Request) -> dict[str, Any]:
    return json.loads(request.body or b"{}")


def say(request: Request) -> StartTurn:
    asked = (said("user", body(request).get("text", "how is it?")),)
    return StartTurn(talk(request), asked, private=True, origin="toy", title="A talk")


def look(request: Request) -> ReadConversation:
    return ReadConversation(talk(request), private=True)


def delete(request: Request) -> DeleteConversation:
    return DeleteConversation(talk(request), private=True)


def follow(request: Request) -> FollowConversation:
    return FollowConversation(talk(request), cursor(request), private=True)


def choose(request: Request) -> str:
    wanted = body(request).get("mode", "collect")
    if wanted not in FORKS:
        raise BadRequest(f"There is no mode {wanted}.")
    return wanted


def accepted(started: Started, request: Request) -> Reply:
    return json_reply({"run": started.run}, status=202)


def collected(outcome: Outcome, request: Request) -> Reply:
    return json_reply({"text": outcome.text})


def answered(result: object, request: Request) -> Reply:
    return json_reply({"is": type(result).__name__})


def greeted(greeting: Greeting, request: Request) -> Reply:
    return json_reply({"text": greeting.text})


def named(started: Started) -> tuple[tuple[str, str], ...]:
    return (("x-talk", started.conversation),)


FORKS: Mapping[str, Route[Any]] = {
    "accept": Route("POST", "/toy/talks/{talk}", say, accept=accepted, summary="Say and go"),
    "collect": Route("POST", "/toy/talks/{talk}", say, collect=collected, summary="Say and wait"),
    "stream": Route("POST", "/toy/talks/{talk}", say, stream=Streamed(RunLines, named=named), summary="Say and listen"),
    "look": Route("POST", "/toy/talks/{talk}", look, answer=answered, summary="Look"),
    "delete": Route(
        "POST",
        "/toy/talks/{talk}",
        delete,
        answer=answered,
        scopes=(Scope.CONVERSATIONS_WRITE,),
        summary="Delete",
    ),
}
EVENTS = Route(
    "GET",
    "/toy/talks/{talk}/events",
    follow,
    stream=Streamed(Lines),
    scopes=(Scope.CHAT_READ,),
    ticket="ticket",
    ticket_for="talk",
    summary="Listen",
)

TOY = Dialect(
    name="toy",
    title="A toy",
    prefixes=("/toy/",),
    routes=(
        Route(
            "POST",
            "/toy/talks/{talk}",
            say,
            forks=FORKS,
            choose=choose,
            scopes=(Scope.CHAT_RUN,),
            also=("/toy/in/{project}/talks/{talk}",),
            summary="Say",
        ),
        EVENTS,
        Route("GET", "/toy/card", lambda request: Greet(request.origin), answer=greeted, open=True, summary="Who"),
        Route("GET", "/toy/lost", lambda request: FollowRun(RunId("r")), answer=answered, open=True, summary="None"),
        Route(
            "POST",
            "/toy/runs/{run}/cancel",
            lambda request: CancelRun(RunId(request.params["run"]), private=True),
            answer=answered,
            summary="Stop",
        ),
    ),
    credential=bearer,
    fail=fail,
    project=lambda request: request.params.get("project", ""),
)
