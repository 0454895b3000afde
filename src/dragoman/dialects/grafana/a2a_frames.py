"""A2A's frames as they go out: JSON-RPC answers in server-sent events, one line of JSON each (Q8)."""

from typing import Any

import msgspec
from msgspec import UNSET

from dragoman.core.errors import BadRequest, DragomanError, FieldFault
from dragoman.core.events import Entry
from dragoman.core.operations import Started
from dragoman.dialects.grafana import a2a_artifacts as make
from dragoman.dialects.grafana import a2a_rpc as rpc
from dragoman.dialects.grafana.a2a_shapes import REMOTE_TOOLS, TOKEN_STREAMING, RpcError, RpcFailure, RpcId
from dragoman.dialects.grafana.a2a_steps import Can, Steps
from dragoman.wire import sse
from dragoman.wire.dialect import Request

PING = sse.comment("ping")
CURSOR_HEADER = "last-event-id"
CURSOR_DIGITS_MAX = 16
WHOLE = 2**53
"""In a cursor: all frames of its entry."""
STATUS_UNHEARD = frozenset({"mcp-grafana"})
"""X-App-Source of clients that drop the text of a status: a failure's reason would be lost (Q5)."""


def extensions_of(request: Request) -> frozenset[str]:
    """The extensions a client lists in X-A2A-Extensions, or in the header of A2A 1.0."""
    headers = request.headers
    given = f"{headers.get('x-a2a-extensions', '')},{headers.get('a2a-extensions', '')}"
    return frozenset(each.strip() for each in given.split(","))


def cursor_of(request: Request) -> tuple[int, int]:
    """Where the reader stands: `seq` = it has all of that entry, `seq.n` = the first n frames of it.

    Raises BadRequest.
    """
    said = request.headers.get(CURSOR_HEADER, "")
    if not said:
        return 0, 0
    seq, dot, number = said.partition(".")
    if not _is_number(seq) or (dot and not _is_number(number)):
        sentence = "must be the id of a frame, such as 12 or 12.1"
        raise BadRequest(f"Last-Event-ID {sentence}.", faults=(FieldFault("Last-Event-ID", sentence),))
    return int(seq), int(number) if dot else WHOLE


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= CURSOR_DIGITS_MAX


class Encoder:
    """One reader's frames of one run.

    A frame's `id:` is its entry's seq; of several frames of one entry all but the last are `seq.1`, `seq.2`, …
    A reader that comes again with tasks/resubscribe names the last one it has, and gets what came after it.
    """

    __slots__ = ("_after", "_closed", "_head", "_id", "_resumed", "_steps")

    def __init__(self, request: Request | None = None) -> None:
        self._closed = False
        self._after = (0, 0)
        self._id: RpcId = UNSET
        can = Can()
        if request is not None:
            call = rpc.call_of(request)
            listed = extensions_of(request)
            self._id = call.id
            if call.method == "tasks/resubscribe":
                self._after = cursor_of(request)
            can = Can(
                token_streaming=TOKEN_STREAMING in listed,
                remote_tools=REMOTE_TOOLS in listed,
                status_text=request.headers.get("x-app-source") not in STATUS_UNHEARD,
            )
        said = b"" if self._id is UNSET else b'"id":' + msgspec.json.encode(self._id) + b","
        self._head = b'data: {"jsonrpc":"2.0",' + said + b'"result":'
        self._steps = Steps(can)

    @property
    def closed(self) -> bool:
        return self._closed

    def opened(self, started: Started) -> bytes:
        """Task and context are known from the first frame on. A reader that comes again has been told `submitted`."""
        self._steps.begin(started)
        return self._frame(make.status(started, "working" if self._after[0] else "submitted"))

    def entry(self, entry: Entry) -> bytes:
        if self._closed:
            return b""
        results = self._steps.take(entry)
        self._closed = self._steps.ended
        if not results:
            return b""
        frames: list[bytes] = []
        for number, result in enumerate(results, start=1):
            if (entry.seq, number) > self._after:
                name = b"%d" % entry.seq if number == len(results) else b"%d.%d" % (entry.seq, number)
                frames.append(b"id: " + name + b"\n" + self._frame(result))
        return b"".join(frames)

    def held(self) -> bytes:
        return b""

    def failed(self, error: DragomanError) -> bytes:
        """Q3: the error's `data` is a text. The run may well go on, so this is no status of the task."""
        if self._closed:
            return b""
        self._closed = True
        told = b"".join(self._frame(result) for result in self._steps.close())
        said = RpcError(rpc.STREAM_BROKE, error.detail or "The answer cannot be sent on.", error.code)
        return told + sse.frame(msgspec.json.encode(RpcFailure(id=self._id, error=said)))

    def silence(self) -> bytes:
        return PING

    def _frame(self, result: Any) -> bytes:
        # Not by sse.frame: JSON has no line breaks, and the head is the same for every frame.
        return self._head + msgspec.json.encode(result) + b"}\n\n"
