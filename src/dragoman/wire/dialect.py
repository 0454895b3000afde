"""The contract a dialect fills in: data plus pure functions.

A request travels: credential -> decode -> Operation -> (the desk) -> one of four ways to answer:

    answer   one reply from the operation's result
    accept   a run was started: reply now
    collect  wait for the run's end, then one reply
    stream   frames from the tape as they come
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec import Struct

from dragoman.core.errors import DragomanError
from dragoman.core.events import Entry, MessagesImported
from dragoman.core.names import ConversationId, Scope
from dragoman.core.operations import ConversationView, Operation, Outcome, Started

R = TypeVar("R")

Headers = tuple[tuple[str, str], ...]


class Request(Struct, frozen=True, gc=False):
    """One HTTP request, read whole. `headers` have lower-case names; repeated ones are joined.

    `params` are the path's, percent-decoded. `nonce` is 32 random hex digits, for ids this wire wants in a shape of its
    own; `at` is when the request came, Unix seconds; `id` is the request id that every answer carries.
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


class Reply(Struct, frozen=True, gc=False):
    status: int
    body: bytes = b""
    media_type: str = "application/json"
    headers: Headers = ()


class Encoder(Protocol):
    """Turns one run's entries into frames. It may hold state of what it has said; it is made anew for each reader."""

    def opened(self, started: Started) -> bytes:
        """Frames to send before any entry."""
        ...

    def entry(self, entry: Entry) -> bytes:
        """Frames for one entry; b"" if this wire does not show it. A run's end yields the closing frames."""
        ...

    def failed(self, error: DragomanError) -> bytes:
        """Closing frames when the stream cannot go on although the run may: what is open is closed first."""
        ...

    def silence(self) -> bytes:
        """What keeps the connection alive when nothing happens."""
        ...

    @property
    def closed(self) -> bool:
        """The last frame was given; nothing may follow."""
        ...


class Streamed(Struct, frozen=True):
    """How a stream route speaks: the encoder (made without a request by contract tests), media type, headers."""

    encoder: Callable[[Request | None], Encoder]
    media_type: str = "text/event-stream; charset=utf-8"
    headers: Headers = ()


class Route(Struct, Generic[R], frozen=True):
    """One row of a dialect's API. Exactly one of the four ways to answer is set.

    `path` has `{name}` for a segment and `{name:path}` for the rest. `scope` is what the credential must allow; `open`
    routes ask for no credential. `counted` = the request counts against the limits per minute.
    """

    method: str
    path: str
    decode: Callable[[Request], Operation[R]]
    answer: Callable[[R, Request], Reply] | None = None
    accept: Callable[[Started, Request], Reply] | None = None
    collect: Callable[[Outcome, Request], Reply] | None = None
    stream: Streamed | None = None
    scope: Scope | None = None
    open: bool = False
    counted: bool = True
    summary: str = ""
    takes: type | None = None
    """The body's struct, for documents; decoding is `decode`'s business."""
    gives: type | None = None
    """The answer's struct."""


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

    The demo sends it; `expect` are texts that must stand in the answer.
    """

    title: str
    method: str
    path: str
    body: Any = None
    expect: tuple[str, ...] = ()


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


def json_reply(value: Any, *, status: int = 200, headers: Headers = ()) -> Reply:
    """A compact JSON reply."""
    return Reply(status, msgspec.json.encode(value), headers=headers)
