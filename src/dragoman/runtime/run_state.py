"""What one run has come to: the fold of its events, by which the machine decides. Pure."""

from typing import assert_never

from dragoman.core import events as ev
from dragoman.core.agents import Loop, ToolSpec
from dragoman.core.messages import Message, Part, Text, ToolCall, ToolResult, Usage
from dragoman.core.names import CallId
from dragoman.core.transcript import is_between_agents
from dragoman.core.workflows import TRANSFER
from dragoman.runtime.budgets import WallTime
from dragoman.runtime.loops import awaiting, called_in, since_question
from dragoman.runtime.waiting import Waits
from dragoman.runtime.weights import weight_of
from dragoman.runtime.workflow import NOT_HANDED_OVER

NO_LOOP = Loop()

PAUSES_FORGIVEN = 3
"""Times a run may wait for its next attempt without its wall time running on: a server that was down overnight must not
fail what it finds. Not more, so that a run that kills its process at each attempt comes to an end."""

_WORK = (ev.TextAdded, ev.ThinkingAdded, ev.ReplyFinished, ev.ToolStarted)
"""What shows that an attempt got somewhere."""
_OUR_REFUSALS = ("bad_arguments", "unknown_tool")
_NO_CALLS = ("call_limit", NOT_HANDED_OVER)
_Noted = (
    ev.HandedOver
    | ev.CancelAsked
    | ev.Unread
    | ev.ConversationCreated
    | ev.MessagesImported
    | ev.TitleGiven
    | ev.SharingChanged
    | ev.ArchivingChanged
)


class RunState:
    """The fold of one run's events, as far as they have come. Feed it in order."""

    def __init__(self) -> None:
        self.received: ev.TurnReceived | None = None
        self.loop = NO_LOOP
        """That of the turn; one without rules where its wire has none of its own."""
        self.client_tools: dict[str, ToolSpec] = {}
        self.epoch = 0
        self.tries = 0
        """Attempts that died at work."""
        self.cancelled_by: str | None = None
        """Who asked to stop the run."""
        self.unread = False
        """It has events of a newer version: what is due next cannot be told."""
        self._at_work = False
        self.waits = Waits()
        self.time = WallTime()
        """What does not count: while nothing of ours was at work and somebody was waited for, and between an attempt
        that died and the claim of the next."""
        self.idle_claims = 0
        """Attempts that found the run waiting for somebody."""
        self.agent = ""
        self.messages: list[Message] = []
        """This turn for the model: what was asked, replies, results."""
        self.replies = 0
        self.usage = Usage()
        self.replying = False
        self.reply_seq: int | None = None
        """Where the open reply began, once that is on the tape."""
        self.calls: tuple[ToolCall, ...] = ()
        """Those of the last reply; a call leaves `open_calls` with its result."""
        self.open_calls: dict[CallId, ToolCall] = {}
        self.started_calls: set[CallId] = set()
        self.interrupted_calls: set[CallId] = set()
        self.used_call_ids: set[CallId] = set()
        self.repeats: dict[tuple[str, str], int] = {}
        self.calls_made = 0
        """Results of the server's own tools, and calls of the caller's that we refused. Hand-overs are none."""
        self.cut_short = False
        """The last reply was ended by its model's limit."""
        self.title_given = False
        self.handings: list[ev.HandedOver] = []
        """Hand-overs between agents of a workflow, in order."""
        self.replies_here = 0
        """Replies since the last of them."""
        self.by_several = False
        """As for `TurnView`."""
        self.end: ev.Event | None = None
        self.weight = 0
        """Characters of this turn's messages."""

    def add(self, event: ev.Event, *, at: float, seq: int | None = None, tick: float | None = None) -> None:
        """Fold one event; `seq` is None while it waits to be committed. `tick`: see WallTime."""
        self._at_work = self._at_work or isinstance(event, _WORK)
        idle = bool(self.waits.pending) and self._idle()
        pause_forgiven = False
        match event:
            case ev.TextAdded() | ev.ThinkingAdded():
                pass  # the reply tells all of it once more; first here since most events are of these
            case ev.TurnReceived():
                self._received(event)
            case ev.RunClaimed(epoch=epoch):
                pause_forgiven = self._claimed(epoch, idle=idle)
            case ev.ReplyStarted(agent=agent):
                self.agent, self.replying, self.reply_seq = agent, True, seq
            case ev.ReplyFinished():
                self._replied(event)
            case ev.CallAdded(call=call):
                self._added(call)
            case ev.ToolStarted(call=call):
                self.started_calls.add(call.id)
                self.interrupted_calls.discard(call.id)
            case ev.ToolReturned():
                self._returned(event)
                self.waits.add(event, at=at)
            case (
                ev.ApprovalRequested()
                | ev.ApprovalDecided()
                | ev.ClientToolRequested()
                | ev.ClientToolClaimed()
                | ev.ClientToolAnswered()
            ):
                self.waits.add(event, at=at, seq=seq)
            case ev.AttemptReset():
                self.replying, self.reply_seq = False, None
            case ev.RunCompleted() | ev.RunFailed() | ev.RunCancelled() | ev.RunNeedsClient():
                self.end = event
            case _:
                self._noted(event)
        self.time.goes_on(at, tick, counts=self.claims > 0 and not idle and not pause_forgiven)

    def _noted(self, event: _Noted) -> None:
        match event:
            case ev.HandedOver(to_agent=to_agent):
                self.agent = to_agent
                self.handings.append(event)
                self.replies_here = 0
                self.calls_made -= 1  # the call that asked for it did nothing but this
            case ev.CancelAsked(by=by):
                self.cancelled_by = by
            case ev.Unread():
                self.unread = True
            case ev.TitleGiven():
                self.title_given = True
            case ev.ConversationCreated() | ev.MessagesImported() | ev.SharingChanged() | ev.ArchivingChanged():
                pass
            case _:
                assert_never(event)

    @property
    def claims(self) -> int:
        """Attempts that found something to do."""
        return self.epoch - self.idle_claims

    @property
    def answered(self) -> bool:
        """The last word is the assistant's, and calls for nothing. Of a loop of its own, also if the caller's messages
        end like that."""
        last = self.messages[-1] if self.messages else None
        goes_on = self.received is not None and self.received.loop is not None and not self.loop.once
        return (self.replies > 0 or goes_on) and last is not None and last.role == "assistant" and not last.calls

    def _received(self, event: ev.TurnReceived) -> None:
        self.received = event
        self.client_tools = {tool.name: tool for tool in event.client_tools}
        self.agent = event.agent
        self.messages = list(event.messages)
        self.weight = sum(weight_of(message) for message in event.messages)
        if event.loop is not None:
            self.loop = event.loop
            self.calls = () if event.loop.once else awaiting(event.messages)
            self.open_calls = {call.id: call for call in self.calls}
            self.used_call_ids |= called_in(event.messages)
        else:
            self.used_call_ids |= called_in(since_question(event.messages))

    def _idle(self) -> bool:
        """Every open call waits for somebody outside, or for its turn behind one that does."""
        pending, behind = self.waits.pending, {TRANSFER, *self.client_tools}
        return all(call.id in pending or call.name in behind for call in self.open_calls.values())

    def _claimed(self, epoch: int, *, idle: bool) -> bool:
        """Whether the time since the last entry does not count."""
        self.epoch = epoch
        if idle:
            self.idle_claims += 1
        else:
            self.tries += self._at_work
        self._at_work = False
        self.interrupted_calls |= self.started_calls & self.open_calls.keys()
        return self.claims <= PAUSES_FORGIVEN + 1

    def _replied(self, event: ev.ReplyFinished) -> None:
        parts: list[Part] = []
        if event.text:
            parts.append(Text(event.text))
        if event.internal:
            parts.append(Text(event.internal, hidden=True))
        parts.extend(event.calls)
        self._say(Message("assistant", tuple(parts), name=self.agent))
        self.replying, self.reply_seq = False, None
        self.replies += 1
        self.replies_here += 1
        self.usage += event.usage
        self.cut_short = event.finish_reason == "length"
        self.calls = event.calls
        self.open_calls = {call.id: call for call in event.calls}
        self.started_calls, self.interrupted_calls = set(), set()
        for call in event.calls:
            self.used_call_ids.add(call.id)
            if call.name == TRANSFER:
                continue  # a workflow has limits of its own for those
            key = (call.name, call.arguments)
            self.repeats[key] = self.repeats.get(key, 0) + 1

    def _added(self, call: ToolCall) -> None:
        self._say(Message("assistant", (call,), name=self.agent))
        self.calls = (call,)
        self.open_calls = {call.id: call}
        self.used_call_ids.add(call.id)

    def _returned(self, event: ev.ToolReturned) -> None:
        call = self.open_calls.pop(event.call_id, None)
        ours = call is not None and (call.name not in self.client_tools or event.code in _OUR_REFUSALS)
        self.calls_made += ours and event.code not in _NO_CALLS
        self._say(Message("tool", (ToolResult(event.call_id, event.content, event.is_error),)))

    def _say(self, message: Message) -> None:
        self.messages.append(message)
        self.by_several = self.by_several or is_between_agents(message)
        self.weight += weight_of(message)
