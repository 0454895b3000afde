"""Following a run by its id: where the reader stands, its entries as frames, and what is said when they are gone."""

from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from dragoman.core.errors import BadRequest, DragomanError, Expired, FieldFault
from dragoman.core.events import Entry, Event, TurnReceived, dump_event, is_end
from dragoman.core.names import RunId
from dragoman.core.operations import FollowRun, RunView, Started
from dragoman.core.screen import NO_SCREEN
from dragoman.wire import sse
from dragoman.wire.dialect import Parameter, Request, Streamed

CURSOR_HEADER = "last-event-id"
CURSOR_FIELDS = ("from", "starting_after")
CURSOR_MAX = 2**53
"""The largest number that every JSON reader holds exactly."""
CURSOR_DIGITS_MAX = 16
RETRY_MS = 2000
"""How long a reader that is sent away waits before it connects again."""


_Cursor = Annotated[int, Meta(ge=0, le=CURSOR_MAX)]
CURSORS = (
    Parameter("Last-Event-ID", "The seq of the last entry you have; the header counts first", _Cursor, "header"),
    *(Parameter(field, "The same, for callers that cannot send headers", _Cursor) for field in CURSOR_FIELDS),
)


class RunExpired(Expired):
    """What a reader wants to resume is kept no longer; `run` is what became of it."""

    def __init__(self, detail: str, *, run: RunView) -> None:
        super().__init__(detail)
        self.run = run


def follow(request: Request) -> FollowRun:
    """All ways to say the cursor mean: entries beyond this one. The header wins; 0 and nothing mean all of the run.

    Raises BadRequest naming the header or field.
    """
    run = RunId(request.params["run"])
    if said := request.headers.get(CURSOR_HEADER, ""):  # "" is what a reader has seen before its first entry
        return FollowRun(run, _cursor("Last-Event-ID", said))
    for field in CURSOR_FIELDS:
        if field in request.query:
            return FollowRun(run, _cursor(field, request.query[field]))
    return FollowRun(run)


def _cursor(field: str, said: str) -> int:
    if said.isascii() and said.isdigit() and len(said) <= CURSOR_DIGITS_MAX and (seq := int(said)) <= CURSOR_MAX:
        return seq
    sentence = f"must be the seq of an entry: a whole number from 0 to {CURSOR_MAX}"
    raise BadRequest(f"{field} {sentence}.", faults=(FieldFault(field, sentence),))


class EntryStream:
    """Every entry as it stands on the tape, the seq as the frame's id. Ends with the run.

    A stream that breaks off sooner ends without a word of it: the reader connects again, and is told then.
    """

    def __init__(self, request: Request | None = None) -> None:
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def opened(self, started: Started) -> bytes:
        return b""

    def entry(self, entry: Entry) -> bytes:
        if self._closed:
            return b""
        self._closed = is_end(entry.event)
        return b"id: %d\ndata: %b\n\n" % (entry.seq, entry_json(entry, with_run=True))

    def held(self) -> bytes:
        return b""

    def failed(self, error: DragomanError) -> bytes:
        self._closed = True
        return sse.retry(RETRY_MS)

    def silence(self) -> bytes:
        return sse.comment("ping")


def entry_json(entry: Entry, *, with_run: bool = False) -> bytes:
    """The event's own JSON is put in as it stands on the tape: a second spelling of it would be one too many. But for
    what is nobody's business."""
    run = b'"run":%b,' % msgspec.json.encode(entry.run) if with_run else b""
    return b'{"seq":%d,%b"at":%b,"event":%b}' % (entry.seq, run, repr(entry.at).encode(), dump_event(told(entry.event)))


ENTRIES = Streamed(EntryStream, headers=(("x-accel-buffering", "no"), ("cache-control", "no-cache, no-transform")))


def told(event: Event) -> Event:
    """The event as whoever may read the project's runs is told it: without a turn's whole system message, in which its
    owner's own instructions stand, and without what is on their screen."""
    if isinstance(event, TurnReceived) and (event.system or event.screen != NO_SCREEN):
        return replace(event, system="", screen=NO_SCREEN)
    return event
