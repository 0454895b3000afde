"""The contract a dialect fills in: data plus pure functions.

A request travels: credential -> decode -> Operation -> (the desk) -> one of four ways to answer:

    answer   one reply from the operation's result
    accept   a run was started: reply now
    collect  wait for the run's end, then one reply
    stream   frames from the tape as they come

Where one path means several things by what its body says, its route is a fork: `choose` names the branch, and that is a
route of its own with one of these ways.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct

from dragoman.core.errors import DragomanError
from dragoman.core.events import Entry, MessagesImported
from dragoman.core.names import ConversationId, Scope
from dragoman.core.operations import ConversationView, Operation, Outcome, Started

R = TypeVar("R")

EMPTY_FORKS: Mapping[str, Any] = {}

Headers = tuple[tuple[str, str], ...]


class Request(Struct, frozen=True, gc=False):
    """One HTTP request, read whole. `headers` have lower-case names; repeated ones are joined.

    `params` are the path's, percent-decoded. `nonce` is 32 random hex digits, for ids this wire wants in a shape of its
    own; `at` is when the request came, Unix seconds; `id` is the request id that every answer carries. `origin` is how
    the caller reaches this server, scheme://host and what else comes before `path`: for answers that name addresses.
    """

    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    id: str
    nonce: str
    at: float
    origin: str = ""


class Reply(Struct, frozen=True, gc=False):
    status: int
    body: bytes = b""
    media_type: str = "application/json"
    headers: Headers = ()


class Encoder(Protocol):
    """Turns one run's entries into frames. It may hold state of what it has said; it is made anew for each reader."""

    def opened(self, started: Started) -> bytes:
        """Frames to send before any entry. Of a conversation that is followed (`Listening`) `started.run` is "", and
        `started.seq` is the place behind which its entries begin; up to `started.head` they are no news."""
        ...

    def entry(self, entry: Entry) -> bytes:
        """Frames for one entry; b"" if this wire does not show it, or holds it back until more is known. A run's end
        yields the closing frames."""
        ...

    def held(self) -> bytes:
        """Frames for what was held back: all entries that are at hand were given, and the reader hears this now.

        A wire that says the whole text again with each piece says it here, once for all pieces that came together.
        """
        ...

    def failed(self, error: DragomanError) -> bytes:
        """Closing frames when the stream cannot go on although the run may: what is open is closed first."""
        ...

    def silence(self) -> bytes:
        """What keeps the connection alive when nothing happens. It is said, sooner or later, before what follows."""
        ...

    @property
    def closed(self) -> bool:
        """The last frame was given; nothing may follow."""
        ...


class Streamed(Struct, frozen=True):
    """How a stream route speaks: the encoder (made without a request by contract tests), media type, headers; `named`
    gives headers that tell of the turn that was begun."""

    encoder: Callable[[Request | None], Encoder]
    media_type: str = "text/event-stream; charset=utf-8"
    headers: Headers = ()
    named: Callable[[Started], Headers] | None = None


class Parameter(Struct, frozen=True):
    """A field of the query string, or a header, that a route reads: for documents."""

    name: str
    summary: str
    shape: Any = str
    """A type whose JSON schema is that of the value."""
    where: Literal["query", "header"] = "query"
    required: bool = False


class Route(Struct, Generic[R], frozen=True):
    """One row of a dialect's API. Exactly one of the four ways to answer is set, or `forks`.

    `path` has `{name}` for a segment and `{name:path}` for the rest; `also` are other paths that mean the same.
    `scopes` are what the credential must allow, all
    of them; `open` routes ask for no credential, and their operation is one of those that the desk answers for anybody.
    `counted` = the request counts against the limits per minute; else against ten times as much, kept apart.
    """

    method: str
    path: str
    decode: Callable[[Request], Operation[R]]
    answer: Callable[[R, Request], Reply] | None = None
    accept: Callable[[Started, Request], Reply] | None = None
    collect: Callable[[Outcome, Request], Reply] | None = None
    stream: Streamed | None = None
    also: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = ()
    open: bool = False
    session: bool = False
    """What the caller proves who it is with is a visitor's session (`access.widget_sessions`), and no credential. A
    session is good on these routes only, a credential on all others only."""
    counted: bool = True
    ticket: str = ""
    """Name of the query field that may hold a stream ticket instead of a credential in a header, for callers that
    cannot send one. The ticket must be for the conversation that the path parameter `ticket_for` names."""
    ticket_for: str = ""
    forks: "Mapping[str, Route[Any]]" = EMPTY_FORKS
    """Branches by name; each has this route's method and path. `decode` is not asked then."""
    choose: Callable[[Request], str] | None = None
    """Which branch a request means. Raises errors of the tree."""
    precheck: Callable[[Request], None] | None = None
    """Asked only of a request whose credential does not let it in, once its body was read: raises BadRequest for what
    this wire faults before it looks at who asks."""
    summary: str = ""
    takes: Any = None
    """The body's type, for documents, as is all that follows; decoding is `decode`'s business."""
    gives: Any = None
    """The answer's type."""
    gives_media_type: str = "application/json"
    status: int = 200
    """Of an answer that is no refusal; of a route that always refuses, that of its refusal."""
    refusal: type | None = None
    """The struct of refusals of its own, besides the dialect's."""
    asks: tuple[Parameter, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.method} {self.path}>"


class ConversationFiles(Struct, frozen=True):
    """A file format for whole conversations that belongs to this wire: one file per conversation.

    `name(id)` is the file's name inside its folder, different for different ids; `dump` gives the file's bytes; `load`
    raises BadRequest with a sentence that says what is wrong.
    """

    folder: str
    suffix: str
    name: Callable[[ConversationId], str]
    dump: Callable[[ConversationView], bytes]
    load: Callable[[bytes], "LoadedConversation"]


class LoadedConversation(Struct, frozen=True):
    id: ConversationId
    imported: MessagesImported
    created_at: float
    updated_at: float


class Example(Struct, frozen=True):
    """A request from the system's own documentation, as it stands there but for host and credential.

    The demo sends it; `expect` are texts that must stand in the answer. `keeps` names fields of the answer's JSON,
    however deep: `{name}` in the path of a later example stands for what was kept.
    """

    title: str
    method: str
    path: str
    body: Any = None
    expect: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    headers: Headers = ()
    """Besides those that every request has."""


Login = Literal["bearer", "basic", "apikey"]
"""`apikey` is `Authorization: ApiKey …`, as Elasticsearch has it."""


class Dialect(Struct, frozen=True):
    """One wire. `prefixes`: path beginnings whose unknown paths are answered in this dialect's error shape.

    `credential` finds the credential's text in a request's headers and raises NotAuthenticated if it cannot be one.
    `fail` maps any error to this wire's reply; the request is None if it could not be read.
    """

    name: str
    title: str
    prefixes: tuple[str, ...]
    routes: tuple[Route[Any], ...]
    credential: Callable[[Mapping[str, str]], str]
    fail: Callable[[DragomanError, Request | None], Reply]
    examples: tuple[Example, ...] = ()
    files: ConversationFiles | None = None
    refusal: type | None = None
    """The struct of the replies that `fail` makes, for documents."""
    logins: tuple[Login, ...] = ("bearer",)
    """The forms of `Authorization` that `credential` reads, for documents."""
    project: Callable[[Request], str] | None = None
    """The project that a request names; "" = none. One that is not the credential's is not found."""
    cors: tuple[str, ...] = ()
    """Origins whose pages may call this API from a browser, besides those that `[server] cors_origins` names; "*" =
    every page."""
    cors_headers: Headers = ()
    """What every answer of this wire tells browsers, whoever asks, in place of what `cors` would have it say; OPTIONS
    of any of its paths is then answered 200 `{}`."""
    limits_first: bool = False
    """The limit per project is told before what is wrong with a credential, by the project that a request names, so
    requests that prove nothing count too. They have a budget of their own, and take nothing from the project's
    callers."""

    def __repr__(self) -> str:
        return f"<dialect {self.name}>"


def json_reply(value: Any, *, status: int = 200, headers: Headers = ()) -> Reply:
    """A compact JSON reply."""
    return Reply(status, msgspec.json.encode(value), headers=headers)
