"""A chat's event stream: entries of its tape -> `{"type":…,"data":…}` (WIRE.md, section 4).

An `id:` is the seq of the entry that a frame tells of. Of an entry with several frames the earlier ones are `12.1`,
`12.2`, and the last is `12`. A message that grows is sent whole each time, so all text that came at once is told once:
it becomes *due*, and what is due is said when a frame of another kind comes or all entries at hand were given.

A reader without a cursor is shown what stands on the tape already (up to `head`) as messages. Of turns that are over,
only the last one is also told as it began and ended: a client that posts a prompt, listens and leaves at the first
AGENT_EXECUTION_COMPLETED must not take an earlier turn's for its own.
"""

from typing import assert_never

import msgspec
from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.errors import DragomanError, NotAllowed, NotAuthenticated, Unavailable
from dragoman.core.events import Entry
from dragoman.core.messages import Part, Text, Thinking, ToolResult
from dragoman.core.names import CallId, RunId
from dragoman.core.operations import Started
from dragoman.core.tunnel import TOOLSET as TUNNEL
from dragoman.dialects.grafana.decode import Cursor, cursor_of
from dragoman.dialects.grafana.ids import request_id
from dragoman.dialects.grafana.messages import (
    Names,
    asked_messages,
    contents,
    reply_message,
    result_content,
    tool_input,
)
from dragoman.dialects.grafana.shapes import ChatEvent, ChatMessage, Content, EventType, Execution, RemoteToolRequest
from dragoman.wire import sse
from dragoman.wire.dialect import Request

CANCELLED = "cancelled"
RETRY_MS = 2000
"""How long a reader that is sent away waits before it connects again."""
GROWTH = 256
"""A message that is being written is sent again once it has grown by this part of it: what a reader is sent in all is
then so many times the message, and not half its length times. Up to so many characters each piece is sent."""

_OfRun = (
    ev.RunClaimed
    | ev.ReplyStarted
    | ev.TextAdded
    | ev.ThinkingAdded
    | ev.ReplyFinished
    | ev.CallAdded
    | ev.ToolReturned
    | ev.AttemptReset
    | ev.ClientToolRequested
)
"""What changes a run that has not ended."""

_encode = msgspec.json.Encoder().encode


class _Reply:
    """One reply of a run and its message. It keeps its number when it is begun again."""

    __slots__ = ("at", "calls", "finished", "internal", "number", "results", "shown", "size_shown", "text", "thinking")

    def __init__(self, number: int, at: float) -> None:
        self.number = number
        self.shown = False
        """The reader has a message of this id."""
        self.finished = False
        self.internal = False  # all that it says is for other agents: who has no message of it is sent none
        self.results: list[Content] = []
        self.begin(at)

    def begin(self, at: float) -> None:
        self.at = at
        self.size_shown = -1
        """-1 = the reader has nothing of it, or what is void."""
        self.text = ""
        self.thinking = ""
        self.calls: tuple[Part, ...] = ()

    def finish(self, event: ev.ReplyFinished) -> bool:
        """Whether that changes its message."""
        changed = not event.text or bool(event.calls) or (self.text, self.thinking) != (event.text, event.thinking)
        self.internal = bool(event.internal) and not event.calls
        self.text, self.thinking = event.text, "" if self.internal else event.thinking
        self.calls, self.finished = event.calls, True
        return changed

    @property
    def size(self) -> int:
        return len(self.text) + len(self.thinking)

    @property
    def worth_showing(self) -> bool:
        """Something else than a little more text, or enough of it."""
        grown = self.size - self.size_shown
        return not self.shown or self.finished or grown * GROWTH >= self.size

    def message(self, run: RunId, chat: str, names: Names) -> ChatMessage:
        """Hidden while it has nothing for the reader: what it said is void, or is for other agents."""
        thinking: tuple[Part, ...] = (Thinking(self.thinking),) if self.thinking else ()
        content = contents((*thinking, Text(self.text), *self.calls), names)
        message = reply_message(run, self.number, (*content, *self.results), at=self.at)
        hidden = not content and (self.internal or not self.finished)
        return msgspec.structs.replace(message, chatId=chat, hidden=hidden)


class _Run:
    __slots__ = ("claimed", "id", "reply")

    def __init__(self, run: RunId) -> None:
        self.id = run
        self.claimed = False
        self.reply: _Reply | None = None
        """The one that is being written, or was last."""

    def begin_reply(self, at: float) -> _Reply:
        last = self.reply
        if last is None or last.finished:
            self.reply = last = _Reply(last.number + 1 if last else 1, at)
        else:
            last.begin(at)
        return last


class _Due(Struct, gc=False):
    """A frame that is to be said. `reply` None = it stands in `body`."""

    id: bytes
    run: RunId
    body: bytes = b""
    reply: _Reply | None = None
    of_execution: bool = False
    call: CallId | None = None
    """It asks the client for this call's result."""


class ChatStream:
    """One reader's frames of one chat, whatever runs they belong to. The tape's reader ends it, not the encoder."""

    __slots__ = ("_chat", "_closed", "_cursor", "_due", "_fresh", "_head", "_names", "_over", "_runs", "_seq")

    def __init__(self, request: Request | None = None) -> None:
        cursor = cursor_of(request) if request is not None else None
        self._fresh = cursor is None
        self._cursor = cursor or Cursor(0)
        self._chat = ""
        self._head = 0
        self._seq = 0
        self._names: Names = {}
        self._runs: dict[RunId, _Run] = {}
        """Those that have not ended."""
        self._over: RunId | None = None
        """While the past is shown: a run that has ended and may yet turn out to be the last."""
        self._due: list[_Due] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def opened(self, started: Started) -> bytes:
        """A word at once, so that proxies pass the headers on."""
        self._chat = started.conversation
        self._head = started.head
        return sse.comment("connected")

    def silence(self) -> bytes:
        """What was not worth a frame is told when nothing else is."""
        return sse.comment("ping") + (self._say_due() if self._small_growth() else b"")

    def entry(self, entry: Entry) -> bytes:
        if self._closed:
            return b""
        self._seq = entry.seq
        speaks = self._fold(entry)
        if not self._fresh or entry.seq > self._head:
            return self._say_due() if speaks else b""
        shown = self._shown_of_the_past(entry)
        return shown if entry.seq < self._head else shown + self._say_due()

    def held(self) -> bytes:
        return b"" if self._closed or self._shows_the_past() or self._small_growth() else self._say_due()

    def failed(self, error: DragomanError) -> bytes:
        """Of a server that stops nothing is said but when to come again: the runs go on. Nor to who may not read on:
        that is what it is told when it comes."""
        if self._closed:
            return b""
        self._closed = True
        if isinstance(error, Unavailable | NotAuthenticated | NotAllowed):
            return sse.retry(RETRY_MS)
        at_work = next((run.id for run in self._runs.values() if run.claimed), "")
        return sse.frame(_encode(ChatEvent("AGENT_EXECUTION_FAILED", Execution(self._chat, at_work, error.detail))))

    # -- entries ---------------------------------------------------------------------------------------------------

    def _fold(self, entry: Entry) -> bool:
        """Take an entry in; whether it is told at once and not with the next one."""
        event = entry.event
        match event:
            case ev.TurnReceived():
                self._runs[entry.run] = _Run(entry.run)
                asked = asked_messages(event.messages, self._names, of=entry.run, at=entry.at, known=event.restates)
                return self._create(entry, asked)
            case ev.MessagesImported(messages=messages):
                asked = asked_messages(messages, self._names, of=entry.run or f"m{entry.seq}", at=entry.at)
                return self._create(entry, asked)
            case ev.RunCompleted() | ev.RunNeedsClient():
                return self._end(entry, "AGENT_EXECUTION_COMPLETED", Execution(self._chat, entry.run))
            case ev.RunFailed(detail=detail):
                return self._end(entry, "AGENT_EXECUTION_FAILED", Execution(self._chat, entry.run, detail))
            case ev.RunCancelled():
                return self._end(entry, "AGENT_EXECUTION_FAILED", Execution(self._chat, entry.run, CANCELLED))
            case (
                ev.ConversationCreated()
                | ev.ToolStarted()
                | ev.ApprovalRequested()
                | ev.ApprovalDecided()
                | ev.ClientToolClaimed()
                | ev.ClientToolAnswered()
                | ev.HandedOver()
                | ev.CancelAsked()
                | ev.TitleGiven()
                | ev.SharingChanged()
                | ev.ArchivingChanged()
                | ev.Unread()
            ):
                return False
            case _:
                if isinstance(event, ev.RunClaimed):
                    self._runs.setdefault(entry.run, _Run(entry.run))
                run = self._runs.get(entry.run)  # none: reading began behind its beginning
                return run is not None and self._fold_into(run, entry, event)

    def _fold_into(self, run: _Run, entry: Entry, event: _OfRun) -> bool:
        match event:
            case ev.RunClaimed():
                if run.claimed:  # taken over: for the reader it is still the same execution
                    return False
                run.claimed = True
                return self._tell(entry, "AGENT_EXECUTION_STARTED", Execution(self._chat, run.id))
            case ev.ReplyStarted():
                run.begin_reply(entry.at)
                return False
            case ev.TextAdded(text=text):
                reply = run.reply or run.begin_reply(entry.at)
                reply.text += text
                return bool(text) and self._touch(entry, reply, at_once=False)
            case ev.ThinkingAdded(text=text):
                reply = run.reply or run.begin_reply(entry.at)
                reply.thinking += text
                return bool(text) and self._touch(entry, reply, at_once=False)
            case ev.ReplyFinished():
                reply = run.reply or run.begin_reply(entry.at)
                changed = reply.finish(event)
                self._names.update((call.id, call.name) for call in event.calls)
                if reply.internal and not reply.shown:
                    self._due = [due for due in self._due if due.reply is not reply]
                    return True
                return self._touch(entry, reply) if changed else True
            case ev.CallAdded(call=call):  # a reply of calls alone, but that no model gave it
                self._names[call.id] = call.name
                reply = run.begin_reply(entry.at)
                reply.finish(ev.ReplyFinished("", (call,)))
                return self._touch(entry, reply)
            case ev.ToolReturned():
                return self._returned(run, entry, event)
            case ev.AttemptReset():
                return self._void(run, entry)
            case ev.ClientToolRequested():
                return self._request(entry, event)
            case _:
                assert_never(event)

    def _returned(self, run: _Run, entry: Entry, event: ev.ToolReturned) -> bool:
        self._due = [due for due in self._due if due.run != run.id or due.call != event.call_id]
        if run.reply is None:
            return False
        result = ToolResult(event.call_id, event.content, event.is_error)
        run.reply.results.append(result_content(result, self._names, took_ms=event.duration_ms))
        return self._touch(entry, run.reply)

    def _void(self, run: _Run, entry: Entry) -> bool:
        """Half a reply is void. Who was shown it is shown that there is nothing in it, unless the next attempt speaks
        first."""
        reply = run.reply
        if reply is None or reply.finished:
            return False
        reply.begin(entry.at)
        if reply.shown:
            return self._touch(entry, reply, at_once=False)
        self._due = [due for due in self._due if due.reply is not reply]
        return False

    def _request(self, entry: Entry, event: ev.ClientToolRequested) -> bool:
        """Only what the run waits for; the tunnel's calls are for another client."""
        if not event.expires_at or event.toolset == TUNNEL:
            return False
        call = event.call
        asked = RemoteToolRequest(
            request_id(entry.run, call.id),
            self._chat,
            call.name,
            tool_input(call.arguments),
            max(0, round((event.expires_at - entry.at) * 1000)),
        )
        return self._tell(entry, "REMOTE_TOOL_REQUEST", asked, call=call.id)

    # -- what is due -----------------------------------------------------------------------------------------------

    def _create(self, entry: Entry, messages: list[ChatMessage]) -> bool:
        for part, message in enumerate(messages, start=1):
            last = part == len(messages)
            if not self._has(entry.seq, 0 if last else part):
                told = msgspec.structs.replace(message, chatId=self._chat)
                frame_id = b"%d" % entry.seq if last else b"%d.%d" % (entry.seq, part)
                self._due.append(_Due(frame_id, entry.run, _encode(ChatEvent("MESSAGE_CREATED", told))))
        return True

    def _tell(
        self, entry: Entry, kind: EventType, data: Execution | RemoteToolRequest, call: CallId | None = None
    ) -> bool:
        if not self._has(entry.seq, 0):
            body = _encode(ChatEvent(kind, data))
            self._due.append(_Due(b"%d" % entry.seq, entry.run, body, of_execution=True, call=call))
        return True

    def _end(self, entry: Entry, kind: EventType, data: Execution) -> bool:
        self._runs.pop(entry.run, None)
        return self._tell(entry, kind, data)

    def _touch(self, entry: Entry, reply: _Reply, *, at_once: bool = True) -> bool:
        """The reply's message has changed: it is due as it will be then, under the id of the last change."""
        if self._has(entry.seq, 0):
            reply.shown = True
            return at_once
        self._due = [due for due in self._due if due.reply is not reply]
        self._due.append(_Due(b"%d" % entry.seq, entry.run, reply=reply))
        return at_once

    def _has(self, seq: int, part: int) -> bool:
        """Whether the reader has that frame; `part` 0 is the entry's last."""
        cursor = self._cursor
        return seq <= cursor.whole or (seq == cursor.seq and 0 < part <= cursor.part)

    def _say_due(self) -> bytes:
        """All that is due, in order. A request to the client is not made as long as its answer may stand in entries
        that have not come yet, and then nothing that follows it either."""
        due = self._due
        said = len(due)
        if self._seq < self._head:
            said = next((at for at, each in enumerate(due) if each.call is not None), said)
        frames: list[bytes] = []
        for each in due[:said]:
            frames.append(sse.frame(self._body(each), id=each.id.decode()))
            if (reply := each.reply) is not None:
                reply.shown, reply.size_shown = True, reply.size
        del due[:said]
        return b"".join(frames)

    def _small_growth(self) -> _Due | None:
        """What is due, if that is only a message that has grown by too little."""
        if len(self._due) != 1:
            return None
        due = self._due[0]
        return None if due.reply is None or due.reply.worth_showing else due

    def _body(self, due: _Due) -> bytes:
        reply = due.reply
        if reply is None:
            return due.body
        kind: EventType = "MESSAGE_UPDATED" if reply.shown else "MESSAGE_CREATED"
        return _encode(ChatEvent(kind, reply.message(due.run, self._chat, self._names)))

    # -- the past --------------------------------------------------------------------------------------------------

    def _shows_the_past(self) -> bool:
        return self._fresh and self._seq < self._head

    def _shown_of_the_past(self, entry: Entry) -> bytes:
        """A turn's frames are held back until it is known whether it is the last."""
        event = entry.event
        if isinstance(event, ev.TurnReceived | ev.MessagesImported):
            self._pass_over(self._over)
            self._over = None
        elif not isinstance(event, ev.RunEnd):
            return b""
        elif self._runs:  # another turn was received meanwhile
            self._pass_over(entry.run)
        else:
            self._over = entry.run
            return b""
        return b"" if any(run.claimed for run in self._runs.values()) else self._say_due()

    def _pass_over(self, run: RunId | None) -> None:
        """Of this run only its messages are shown."""
        self._due = [due for due in self._due if due.run != run or not due.of_execution]
