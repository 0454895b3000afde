"""A run's entries as this wire's own events, one JSON object a line (elastic spec 2).

    messageAdd(context) messageAdd(its result)
      ( chunk* chatCompletionMessage messageAdd ( messageAdd(call) messageAdd(its result) )* )*
    conversationCreate | conversationUpdate | chatCompletionError      bufferFlush may stand anywhere

A call is told when it is begun, or refused: a call of no tool is told otherwise than others. Of several calls in one
reply each is told by itself, with its result right behind it. Of what agents of a workflow say to each other nothing is
told but the calls by which they hand over.
"""

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec
from msgspec import UNSET, Struct

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import Masked, ToolCall
from dragoman.core.names import CallId
from dragoman.core.operations import Started
from dragoman.dialects.elastic.errors import RETOLD, failure_of, ndjson_error
from dragoman.dialects.elastic.frames import Frames, fresh_id, function_of
from dragoman.dialects.elastic.messages import (
    NO_CALL,
    FunctionCall,
    WireBody,
    WireMessage,
    core_messages,
    deanonymizations,
    iso,
    told_call,
    told_result,
)
from dragoman.wire.dialect import Request
from dragoman.wire.ndjson import line

FLUSH = b'{"type":"bufferFlush","data":"0"}\n'
RECOVERED = "error_recovery_message"
"""The id of a message that calls a tool that there is not (elastic spec 4.2)."""
UNTITLED = "New conversation"

_JSON = msgspec.json.Encoder()


class _Asked(Struct, frozen=True):
    """What of the request its answer depends on."""

    messages: tuple[WireMessage, ...] = ()
    title: str = ""
    conversationId: str = ""


class Events(Frames):
    """As this wire's own events."""

    life_sign = FLUSH

    def __init__(self, request: Request | None = None) -> None:
        super().__init__()
        self._request = request
        self._started: Started | None = None
        self._title = ""
        self._content = ""
        """What was said beside the calls, until the first of them is told."""
        self._due: list[ToolCall] = []
        """Calls of the last reply whose results were not told, in order."""
        self._told: set[CallId] = set()
        self._begun: set[CallId] = set()
        self._returned: dict[CallId, ev.ToolReturned] = {}
        self._names: dict[CallId, str] = {}
        self._masked: tuple[Masked, ...] = ()
        self._unmasked: list[Any] | None = None
        """What the request's messages hold of these, once looked for: they may be long, and each line tells it."""

    def opened(self, started: Started) -> bytes:
        self._started = started
        return b""

    def _frames(self, entry: Entry) -> bytes:
        event = entry.event
        match event:
            case ev.TextAdded(text=text):
                return self._said(entry, self._text.add(text), 0)
            case ev.ReplyFinished():
                return self._finish(entry, event)
            case ev.CallAdded(call=call):
                self._text.settle(entry.seq)
                self._due, self._content = [call], ""
                return self._tell(entry, call)
            case ev.ToolStarted(call=call):
                self._names[call.id] = call.name
                self._begun.add(call.id)
                return self._tell_due(entry)
            case ev.ToolReturned():
                return self._return(entry, event)
            case ev.AttemptReset(from_seq=from_seq):
                return b"" if self._text.reset(from_seq) else self._fail(RETOLD)
            case ev.TitleGiven(title=title):
                self._title = title
                return b""
            case ev.RunCompleted() | ev.RunNeedsClient() | ev.RunFailed() | ev.RunCancelled():
                return self._end(entry, event)
            case (
                ev.ConversationCreated()
                | ev.MessagesImported()
                | ev.TurnReceived()
                | ev.RunClaimed()
                | ev.ReplyStarted()
                | ev.ThinkingAdded()
                | ev.ApprovalRequested()
                | ev.ApprovalDecided()
                | ev.ClientToolRequested()
                | ev.ClientToolClaimed()
                | ev.ClientToolAnswered()
                | ev.HandedOver()
                | ev.CancelAsked()
                | ev.SharingChanged()
                | ev.ArchivingChanged()
                | ev.Unread()
            ):
                return b""
            case _:
                assert_never(event)

    # -- a reply -----------------------------------------------------------------------------------------------------

    def _finish(self, entry: Entry, event: ev.ReplyFinished) -> bytes:
        rest = self._text.finish(event.text, seq=entry.seq)
        self._masked, self._unmasked = event.masked, None
        frames = b"" if event.closing is None else self._called(entry, event.closing, 1)
        frames += self._said(entry, rest, 2)
        if self._closed:
            return frames
        frames += b"".join(self._called(entry, call, number) for number, call in enumerate(event.calls, start=3))
        spoken = not event.internal or bool(event.calls)
        message: dict[str, Any] = {"content": event.text}
        if event.calls:
            message["function_call"] = function_of(event.calls[0])
        if spoken:
            frames += self._line("chatCompletionMessage", fresh_id(entry), message, event.text)
        self._due, self._content = list(event.calls), event.text
        self._names.update({call.id: call.name for call in event.calls})
        self._begun, self._told, self._returned = set(), set(), {}
        if event.calls or not spoken:
            return frames
        return frames + self._add(entry, 1, WireBody("assistant", event.text, function_call=NO_CALL), event.text)

    # -- calls and results ---------------------------------------------------------------------------------------------

    def _tell(self, entry: Entry, call: ToolCall) -> bytes:
        """The call, once."""
        if call.id in self._told:
            return b""
        self._told.add(call.id)
        self._names[call.id] = call.name
        content, self._content = self._content, ""
        function, message_id = told_call(call), ""
        if (returned := self._returned.get(call.id)) is not None and returned.code == "unknown_tool":
            function, message_id = FunctionCall(call.name, "assistant", ""), RECOVERED
        said = WireBody("assistant", content, function_call=function)
        return self._add(entry, 2 * len(self._told), said, content, message_id=message_id)

    def _tell_due(self, entry: Entry) -> bytes:
        """Results that are there, each behind its call; then the next call, if it was begun."""
        frames = b""
        while self._due and (returned := self._returned.get(self._due[0].id)) is not None:
            call = self._due.pop(0)
            frames += self._tell(entry, call) + self._result(entry, returned)
        if self._due and self._due[0].id in self._begun:
            frames += self._tell(entry, self._due[0])
        return frames

    def _return(self, entry: Entry, event: ev.ToolReturned) -> bytes:
        if all(call.id != event.call_id for call in self._due):
            return self._result(entry, event)
        self._returned[event.call_id] = event
        return self._tell_due(entry)

    def _result(self, entry: Entry, event: ev.ToolReturned) -> bytes:
        name = self._names.get(event.call_id) or self._asked_name(event.call_id)
        number = 1 + 2 * len(self._told)
        return self._add(entry, number, told_result(name, event.content, event.shown), event.content)

    def _asked_name(self, call_id: CallId) -> str:
        """Of a call that the caller made: the messages that it sent end with it."""
        for message in core_messages(self._asked.messages):
            self._names.update({call.id: call.name for call in message.calls})
        return self._names.get(call_id, "")

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _end(self, entry: Entry, event: ev.RunEnd) -> bytes:
        match event:
            case ev.RunCompleted():
                self._closed = True
                return self._kept(entry)
            case ev.RunNeedsClient():
                self._closed = True
                return self._left_to_client(entry)
            case ev.RunFailed() | ev.RunCancelled():
                failure = failure_of(event)
                return self._fail(failure.message, failure.code)

    def _left_to_client(self, entry: Entry) -> bytes:
        """What has a result first: the last message is a call that waits for the caller."""
        frames = b""
        for call in sorted(self._due, key=lambda call: call.id not in self._returned):
            frames += self._tell(entry, call)
            if (returned := self._returned.get(call.id)) is not None:
                frames += self._result(entry, returned)
        return frames

    def _kept(self, entry: Entry) -> bytes:
        """The conversation, if it is kept."""
        started = self._started
        if started is None or started.ephemeral:
            return b""
        asked = self._asked
        title = asked.title or self._title or started.title or UNTITLED
        kind = "conversationCreate" if started.created and not asked.conversationId else "conversationUpdate"
        told = {"title": title, "id": started.conversation, "last_updated": iso(entry.at)}
        return line(_JSON.encode({"type": kind, "conversation": told}))

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _chunk(self, entry: Entry, number: int, delta: bytes) -> bytes:
        message_id = fresh_id(entry, number).encode()
        return b'{"type":"chatCompletionChunk","id":"%b","message":%b}\n' % (message_id, delta)

    def _error(self, message: str, code: str) -> bytes:
        return ndjson_error(message, code=code)

    @property
    def _asked(self) -> _Asked:
        try:
            return _Asked() if self._request is None else msgspec.json.decode(self._request.body, type=_Asked)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _Asked()

    def _add(self, entry: Entry, number: int, said: WireBody, content: str, *, message_id: str = "") -> bytes:
        told = WireMessage(iso(entry.at), said)
        return self._line("messageAdd", message_id or fresh_id(entry, -1 - number), told, content)

    def _line(self, kind: str, message_id: str, message: Any, content: str) -> bytes:
        said: dict[str, Any] = {"type": kind, "id": message_id, "message": message}
        if self._masked:
            if self._unmasked is None:
                self._unmasked = _unmasked_input(self._asked.messages, self._masked)
            said["deanonymized_input"] = self._unmasked
            found = deanonymizations(content, self._masked)
            said["deanonymized_output"] = {"message": {"content": content}, "deanonymizations": found}
        return line(_JSON.encode(said))


class ChatEvents(Events):
    """Of one reply alone: chunks and the message they make up (elastic spec 3.1)."""

    def _add(self, entry: Entry, number: int, said: WireBody, content: str, *, message_id: str = "") -> bytes:
        return b""


def _unmasked_input(messages: Sequence[WireMessage], masked: Sequence[Masked]) -> list[Any]:
    rows: list[Any] = []
    for told in messages:
        content = "" if told.message.content is UNSET else told.message.content
        if found := deanonymizations(content, masked):
            rows.append({"message": {"role": told.message.role, "content": content}, "deanonymizations": found})
    return rows
