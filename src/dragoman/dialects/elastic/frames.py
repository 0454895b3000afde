"""A run's entries as OpenAI-style chunks in server-sent events: how the public route answers (elastic spec 1.5).

    chunk*   ( {"error"} )?   [DONE]

A chunk is a piece of text, or a call: the caller's own tools, the server's and `exit_loop` alike (Q4). Titles, results,
the `context` step, what is kept and what agents of a workflow say to each other are told nowhere (Q17).
"""

from abc import ABC, abstractmethod
from hashlib import sha256
from typing import ClassVar, assert_never

import msgspec

from dragoman.core import events as ev
from dragoman.core.errors import DragomanError
from dragoman.core.events import Entry
from dragoman.core.messages import ToolCall
from dragoman.core.operations import Started
from dragoman.dialects.elastic.errors import DONE, RETOLD, code_of, detail_of, failure_of, sse_error
from dragoman.dialects.elastic.messages import OPENING
from dragoman.dialects.elastic.requests import uuid_of
from dragoman.wire import sse
from dragoman.wire.dialect import Request
from dragoman.wire.retelling import Retelling

PING = sse.comment("ping")
SILENCES = 2
"""Q18: a life sign goes out at every second silence of the edge, so after 30 s and not after 15."""

_JSON = msgspec.json.Encoder()


def fresh_id(entry: Entry, number: int = 0) -> str:
    """A UUID of version 4 for the thing of that number that one entry is told as: the same whenever it is told."""
    return uuid_of(sha256(f"{entry.run}:{entry.seq}:{number}".encode()).hexdigest()[:32])


class Frames(ABC):
    """One reader's frames of one run, in any framing of this wire: when they end, when a life sign is due, and that
    text cannot be taken back."""

    __slots__ = ("_closed", "_quiet", "_text")

    life_sign: ClassVar[bytes]

    def __init__(self) -> None:
        self._closed = False
        self._quiet = 0
        self._text = Retelling()

    @property
    def closed(self) -> bool:
        return self._closed

    def opened(self, started: Started) -> bytes:
        return b""

    def held(self) -> bytes:
        return b""

    def silence(self) -> bytes:
        self._quiet += 1
        return b"" if self._quiet % SILENCES else self.life_sign

    def failed(self, error: DragomanError) -> bytes:
        return b"" if self._closed else self._fail(detail_of(error), code_of(error))

    def entry(self, entry: Entry) -> bytes:
        if self._closed:
            return b""
        frames = self._frames(entry)
        if frames:
            self._quiet = 0
        return frames

    @abstractmethod
    def _frames(self, entry: Entry) -> bytes: ...

    @abstractmethod
    def _chunk(self, entry: Entry, number: int, delta: bytes) -> bytes:
        """A piece of a reply, `delta` as JSON; the number tells apart what one entry is told as."""

    @abstractmethod
    def _error(self, message: str, code: str) -> bytes: ...

    def _said(self, entry: Entry, text: str | None, number: int) -> bytes:
        """What is new of the text; None if it cannot be told."""
        if text is None:
            return self._fail(RETOLD)
        return self._chunk(entry, number, b'{"content":%b}' % _JSON.encode(text)) if text else b""

    def _called(self, entry: Entry, call: ToolCall, number: int) -> bytes:
        return self._chunk(entry, number, _JSON.encode({"content": "", "function_call": function_of(call)}))

    def _fail(self, message: str, code: str = "") -> bytes:
        self._closed = True
        return self._error(message, code)


def function_of(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments}


class Chunks(Frames):
    """As chunks."""

    __slots__ = ()

    life_sign = PING

    def __init__(self, request: Request | None = None) -> None:
        super().__init__()

    def _frames(self, entry: Entry) -> bytes:
        event = entry.event
        match event:
            case ev.TextAdded(text=text):
                return self._said(entry, self._text.add(text), 0)
            case ev.ReplyFinished():
                return self._finish(entry, event)
            case ev.CallAdded(call=call):
                if call.name == OPENING:
                    return b""
                self._text.settle(entry.seq)
                return self._called(entry, call, 0)
            case ev.AttemptReset(from_seq=from_seq):
                return b"" if self._text.reset(from_seq) else self._fail(RETOLD)
            case ev.RunCompleted() | ev.RunNeedsClient():
                self._closed = True
                return DONE
            case ev.RunFailed() | ev.RunCancelled():
                return self._fail(failure_of(event).message)
            case (
                ev.ConversationCreated()
                | ev.MessagesImported()
                | ev.TurnReceived()
                | ev.RunClaimed()
                | ev.ReplyStarted()
                | ev.ThinkingAdded()
                | ev.ToolStarted()
                | ev.ToolReturned()
                | ev.ApprovalRequested()
                | ev.ApprovalDecided()
                | ev.ClientToolRequested()
                | ev.ClientToolClaimed()
                | ev.ClientToolAnswered()
                | ev.HandedOver()
                | ev.CancelAsked()
                | ev.TitleGiven()
                | ev.SharingChanged()
                | ev.ArchivingChanged()
                | ev.Unread()
            ):
                return b""
            case _:
                assert_never(event)

    def _finish(self, entry: Entry, event: ev.ReplyFinished) -> bytes:
        """What is left of the text, and the calls. A forced `exit_loop` carries the answer in its arguments alone, so
        that stands behind it once more, as text."""
        rest = self._text.finish(event.text, seq=entry.seq)
        if event.closing is not None:
            return self._called(entry, event.closing, 0) + self._said(entry, rest, 1)
        frames = self._said(entry, rest, 0)
        if self._closed:
            return frames
        calls = [self._called(entry, call, number) for number, call in enumerate(event.calls, start=1)]
        return frames + b"".join(calls)

    def _chunk(self, entry: Entry, number: int, delta: bytes) -> bytes:
        """Q3: the order of keys, milliseconds, an id of its own."""
        return (
            b'data: {"model":"unknown","choices":[{"delta":%b,"finish_reason":null,"index":0}],"created":%d,"id":"%b",'
            b'"object":"chat.completion.chunk"}\n\n' % (delta, int(entry.at * 1000), fresh_id(entry, number).encode())
        )

    def _error(self, message: str, code: str) -> bytes:
        return sse_error(message)
