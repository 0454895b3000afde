"""A turn of G2 as it comes: whole messages, then what an answer in one piece would hold (rowboat spec 3.3, Q23).

    message*  done
    message*  error        the turn failed, or what was told of it turned out to be void

Every frame is named `message`; its kind stands in its JSON.
"""

from collections.abc import Sequence
from typing import assert_never

import msgspec

from dragoman.core import events as ev
from dragoman.core.errors import DragomanError
from dragoman.core.events import Entry
from dragoman.core.messages import Message, ToolResult
from dragoman.core.names import ConversationId, RunId, Tape
from dragoman.core.operations import Started
from dragoman.core.transcript import reply_message
from dragoman.dialects.rowboat import shapes
from dragoman.dialects.rowboat.decode import Asked, asked_of
from dragoman.dialects.rowboat.encode import turn_of
from dragoman.dialects.rowboat.errors import NO_ANSWER, failure_of, sentence_of
from dragoman.dialects.rowboat.generations import Generation
from dragoman.dialects.rowboat.messages import Telling, Told, camel
from dragoman.wire import sse
from dragoman.wire.dialect import Request

EVENT = "message"
RETOLD = "The answer was begun anew after part of it was sent; please ask again."
NOBODY = Started(ConversationId(""), Tape(0), RunId(""), 0, created=False)


class Stream:
    """One reader's frames of one run. N `message` frames hold just what `turn.output` of `done` holds."""

    __slots__ = ("_agent", "_asked", "_at", "_began", "_closed", "_reply_at", "_started", "_telling", "_told")

    def __init__(self, request: Request | None = None) -> None:
        self._asked = Asked(Generation.G2_STREAM, ()) if request is None else asked_of(request)
        self._at = 0.0 if request is None else request.at
        self._started = NOBODY
        self._telling = Telling()
        self._told: list[Told] = []
        self._agent = ""
        self._reply_at = 0.0
        self._began = False
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def opened(self, started: Started) -> bytes:
        self._started = started
        return b""

    def held(self) -> bytes:
        return b""

    def silence(self) -> bytes:
        return sse.comment("ping")

    def failed(self, error: DragomanError) -> bytes:
        return b"" if self._closed else self._fail(sentence_of(error))

    def entry(self, entry: Entry) -> bytes:
        if self._closed:
            return b""
        event = entry.event
        if not self._began:
            # Not when it was asked: a repeat of the request is told of the same turn, in the same words.
            self._began, self._at = True, entry.at
        match event:
            case ev.ReplyStarted(agent=agent):
                self._agent, self._reply_at = agent, entry.at
                return b""
            case ev.ReplyFinished():
                return self._add(reply_message(event, self._agent), self._reply_at or entry.at, entry.seq)
            case ev.CallAdded(call=call):
                return self._add(Message("assistant", (call,), name=self._agent), entry.at, entry.seq)
            case ev.ToolReturned(call_id=call_id, content=content, is_error=is_error):
                return self._add(Message("tool", (ToolResult(call_id, content, is_error),)), entry.at, entry.seq)
            case ev.AttemptReset(from_seq=from_seq):
                return b"" if self._telling.undo(from_seq) else self._fail(RETOLD)
            case ev.RunCompleted():
                return self._complete()
            case ev.RunFailed() | ev.RunCancelled() | ev.RunNeedsClient():
                return self._fail(failure_of(event))
            case (
                ev.ConversationCreated()
                | ev.MessagesImported()
                | ev.TurnReceived()
                | ev.RunClaimed()
                | ev.TextAdded()
                | ev.ThinkingAdded()
                | ev.ToolStarted()
                | ev.ApprovalRequested()
                | ev.ApprovalDecided()
                | ev.ClientToolRequested()
                | ev.HandedOver()
                | ev.TitleGiven()
                | ev.CancelAsked()
                | ev.ClientToolClaimed()
                | ev.ClientToolAnswered()
                | ev.SharingChanged()
                | ev.ArchivingChanged()
                | ev.Unread()
            ):
                return b""
            case _:
                assert_never(event)

    def _add(self, message: Message, at: float, seq: int) -> bytes:
        return self._tell(self._telling.add(message, at, seq=seq))

    def _tell(self, told: Sequence[Told]) -> bytes:
        self._told.extend(told)
        return b"".join(_frame(shapes.MessageFrame(camel(each, timed=True))) for each in told)

    def _complete(self) -> bytes:
        frames = self._tell(self._telling.finish())
        if not self._told or not self._told[-1].is_answer:
            return frames + self._fail(NO_ANSWER)
        self._closed = True
        turn = turn_of(self._started, self._asked, self._at, self._told)
        return frames + _frame(shapes.DoneFrame(self._started.conversation, turn))

    def _fail(self, sentence: str) -> bytes:
        self._closed = True
        return _frame(shapes.ErrorFrame(sentence))


def _frame(data: shapes.MessageFrame | shapes.DoneFrame | shapes.ErrorFrame) -> bytes:
    return sse.frame(msgspec.json.encode(data), event=EVENT)
