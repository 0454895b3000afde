"""The machine: one run's tape -> its next step. Pure; this file decides, `driver.py` does.

                    ┌────────────────── every call has its result ◄──────────────────┐
                    ▼                                                                │
    received ──► ASKED ── AskModel ──► REPLYING ── ReplyFinished ──► calls? ──yes──► TOOLS_DUE ── RunTools
                    ▲                     │                            │                 │
                    │                     │ claimed again: half a      │ no              │ only the client's
                    └──── ResetReply ◄────┘ reply is void              ▼                 │ are left
                                                                  End(completed)     End(needs_client)

A limit that is reached, at any place, gives End(failed); so does a third attempt that died at work, and a wish to
cancel gives End(cancelled). A call that was started by an attempt that died is run again
if its tool may be (`Repeat`), and settled as `outcome_unknown` if not.

TOOLS_DUE, where somebody must be asked (`waiting.py` says what counts as an answer):

    results that need no run ── SettleCalls      denied, given up, brought by the caller
    calls to be approved ────── RequestApprovals all at once, each once
    calls that may run ──────── RunTools         those that nobody need approve do not wait for those that must be
    approvals outstanding ───── Wait
    held client calls ───────── RequestClientTool, Wait: one after the other, once nothing of ours is left
"""

from collections.abc import Mapping, Sequence
from typing import assert_never

from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.messages import Message, Part, Text, Thinking, ToolCall, ToolResult, Usage
from dragoman.core.names import CallId
from dragoman.core.operations import TurnView
from dragoman.runtime.budgets import Budget, WallTime, overrun
from dragoman.runtime.waiting import ALL_BY_ITSELF, Policy, Waits

OUTCOME_UNKNOWN = (
    "The server stopped while this tool was at work. Whether it took effect is unknown and it was not run again. "
    "Check the state of things before you repeat the call."
)

PAUSES_FORGIVEN = 3
"""Times a run may wait for its next attempt without its wall time running on: a server that was down overnight must not
fail what it finds. Not more, so that a run that kills its process at each attempt comes to an end."""

TRIES_MAX = 3
"""Attempts that may die over a run. One counts once the model spoke or a tool was begun: a server that is only
restarted again and again spoils nothing (promise G8). One that died while the run only waited for somebody does not."""
CLAIMS_MAX = 30
"""Attempts of any kind, so that a run that kills its process before it has said anything comes to an end too. Those
that found it waiting for somebody are not counted: that has a deadline of its own."""
RETRIES_EXHAUSTED = "The server stopped each time it worked on this answer, so it was not tried again."

_WORK = (ev.TextAdded, ev.ThinkingAdded, ev.ReplyFinished, ev.ToolStarted)
"""What shows that an attempt got somewhere."""
_Noted = (
    ev.HandedOver
    | ev.CancelAsked
    | ev.Unread
    | ev.ConversationCreated
    | ev.MessagesImported
    | ev.TextAdded
    | ev.ThinkingAdded
    | ev.TitleGiven
    | ev.SharingChanged
    | ev.ArchivingChanged
)


class RunState:
    """The fold of one run's events, as far as they have come. Feed it in order."""

    def __init__(self) -> None:
        self.received: ev.TurnReceived | None = None
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
        self.end: ev.Event | None = None
        self.weight = 0
        """Characters of this turn's messages."""

    def add(self, event: ev.Event, *, at: float, seq: int | None = None, tick: float | None = None) -> None:
        """Fold one event; `seq` is None while it waits to be committed. `tick`: see WallTime."""
        self._at_work = self._at_work or isinstance(event, _WORK)
        idle = bool(self.waits.pending) and self._idle()
        pause_forgiven = False
        match event:
            case ev.TurnReceived():
                self._received(event)
            case ev.RunClaimed(epoch=epoch):
                pause_forgiven = self._claimed(epoch, idle=idle)
            case ev.ReplyStarted(agent=agent):
                self.agent, self.replying, self.reply_seq = agent, True, seq
            case ev.ReplyFinished():
                self._replied(event)
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
            case ev.CancelAsked(by=by):
                self.cancelled_by = by
            case ev.Unread():
                self.unread = True
            case (
                ev.ConversationCreated()
                | ev.MessagesImported()
                | ev.TextAdded()
                | ev.ThinkingAdded()
                | ev.TitleGiven()
                | ev.SharingChanged()
                | ev.ArchivingChanged()
            ):
                pass
            case _:
                assert_never(event)

    @property
    def claims(self) -> int:
        """Attempts that found something to do."""
        return self.epoch - self.idle_claims

    def _received(self, event: ev.TurnReceived) -> None:
        self.received = event
        self.client_tools = {tool.name: tool for tool in event.client_tools}
        self.agent = event.agent
        self.messages = list(event.messages)
        self.weight = sum(weight_of(message) for message in event.messages)

    def _idle(self) -> bool:
        """Every open call waits for somebody outside, or for its turn behind one that does."""
        pending, theirs = self.waits.pending, self.client_tools
        return all(call.id in pending or call.name in theirs for call in self.open_calls.values())

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
        parts.extend(event.calls)
        self._say(Message("assistant", tuple(parts), name=self.agent))
        self.replying, self.reply_seq = False, None
        self.replies += 1
        self.usage += event.usage
        self.calls = event.calls
        self.open_calls = {call.id: call for call in event.calls}
        self.started_calls, self.interrupted_calls = set(), set()
        for call in event.calls:
            self.used_call_ids.add(call.id)
            key = (call.name, call.arguments)
            self.repeats[key] = self.repeats.get(key, 0) + 1

    def _returned(self, event: ev.ToolReturned) -> None:
        self.open_calls.pop(event.call_id, None)
        self._say(Message("tool", (ToolResult(event.call_id, event.content, event.is_error),)))

    def _say(self, message: Message) -> None:
        self.messages.append(message)
        self.weight += weight_of(message)


def weight_of(message: Message) -> int:
    """Characters a message takes in a prompt, images left out."""
    weight = 0
    for part in message.parts:
        match part:
            case Text(text=text):
                weight += len(text)
            case ToolCall(name=name, arguments=arguments):
                weight += len(name) + len(arguments)
            case ToolResult(content=content):
                weight += len(content)
            case Thinking():
                pass
            case _:
                pass
    return weight


def turn_weight(turn: TurnView) -> int:
    """Characters of a whole turn."""
    return sum(map(weight_of, turn.asked)) + sum(map(weight_of, turn.answered))


class AskModel(Struct, frozen=True):
    """Ask for the next reply; `number` counts replies of this run from 1."""

    number: int


class RunTools(Struct, frozen=True):
    """Run these calls, all at once. Those in `again` were started by an attempt that died."""

    calls: tuple[ToolCall, ...]
    again: frozenset[CallId] = frozenset()


class SettleCalls(Struct, frozen=True):
    """Write these results without running anything."""

    results: tuple[ev.ToolReturned, ...]


class RequestApprovals(Struct, frozen=True):
    """Commit these, so that a person can be asked."""

    requests: tuple[ev.ApprovalRequested, ...]


class RequestClientTool(Struct, frozen=True):
    """Commit this, so that the caller makes the call."""

    request: ev.ClientToolRequested


class Wait(Struct, frozen=True):
    """Nothing can be done until something is asked of the run. At `until` (Unix seconds) or later the tape must be read
    once more: what then has not come is given up."""

    until: float


class ResetReply(Struct, frozen=True):
    from_seq: int


class End(Struct, frozen=True):
    """Write `facts`, then the run's end."""

    event: ev.Event
    facts: tuple[ev.Event, ...] = ()


class Ended(Struct, frozen=True):
    """The tape already holds the end."""


Step = AskModel | RunTools | SettleCalls | RequestApprovals | RequestClientTool | Wait | ResetReply | End | Ended


def next_step(
    state: RunState,
    budget: Budget,
    rules: Mapping[str, Repeat],
    policy: Policy = ALL_BY_ITSELF,
    *,
    now: float,
    tick: float | None = None,
) -> Step:
    """What this run needs next. `rules` says what may be repeated, by tool name; one that is not in it is unknown and
    harmless to call, since calling it only yields an error. `tick`: see WallTime."""
    if state.end is not None or state.received is None:
        return Ended()
    if state.cancelled_by is not None:
        return End(ev.RunCancelled(state.cancelled_by, state.usage))
    if state.tries >= TRIES_MAX or state.claims > CLAIMS_MAX:
        return End(ev.RunFailed("retries_exhausted", RETRIES_EXHAUSTED, state.usage))
    if state.replying:
        return ResetReply(state.reply_seq or 0)
    if state.open_calls:
        return _calls_due(state, rules, policy, now, _within(state, budget, state.time.by(now, tick)))
    if state.replies and not state.calls:
        return End(ev.RunCompleted(state.usage))
    return _within(state, budget, state.time.by(now, tick)) or AskModel(state.replies + 1)


def _within(state: RunState, budget: Budget, elapsed_s: float) -> End | None:
    """The end that a spent budget brings; None while there is some left."""
    most = max(state.repeats.items(), key=lambda item: item[1], default=(("", ""), 0))
    failed = overrun(
        budget, replies=state.replies, usage=state.usage, elapsed_s=elapsed_s, tool=most[0][0], repeats=most[1]
    )
    return None if failed is None else End(failed)


def _calls_due(state: RunState, rules: Mapping[str, Repeat], policy: Policy, now: float, overspent: End | None) -> Step:
    ours = [call for call in state.open_calls.values() if call.name not in state.client_tools]
    settled = _settled(state, ours, rules) or tuple(
        result for call in state.open_calls.values() if (result := state.waits.result(call, policy)) is not None
    )
    if settled:
        return SettleCalls(settled)
    if requests := state.waits.unasked(ours, policy, now=now):
        return overspent or RequestApprovals(requests)
    if runnable := tuple(call for call in ours if state.waits.approves(call, policy)):
        again = frozenset(call.id for call in runnable if call.id in state.interrupted_calls)
        return overspent or RunTools(runnable, again)
    until = state.waits.until()
    if until is not None:
        return Wait(until)
    return _clients_due(state, now, overspent)


def _settled(state: RunState, ours: Sequence[ToolCall], rules: Mapping[str, Repeat]) -> tuple[ev.ToolReturned, ...]:
    """What an attempt that died had begun and may not be begun again."""
    return tuple(
        ev.ToolReturned(call.id, OUTCOME_UNKNOWN, is_error=True, code="outcome_unknown")
        for call in ours
        if call.id in state.interrupted_calls and rules.get(call.name) is Repeat.ONCE
    )


def _clients_due(state: RunState, now: float, overspent: End | None) -> Step:
    """Only calls of the caller's own tools are left, and none of them is under way."""
    for call in state.open_calls.values():
        tool = state.client_tools[call.name]
        if tool.held_s > 0:
            request = ev.ClientToolRequested(call, now + tool.held_s, tool.toolset)
            return overspent or RequestClientTool(request)
    theirs = tuple(state.open_calls.values())
    facts = tuple(ev.ClientToolRequested(call) for call in theirs)
    return End(ev.RunNeedsClient(theirs, state.usage), facts)


def distinct_calls(state: RunState, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
    """The calls under ids that no earlier call of this run has: results and repeat keys (`run:call`) hang on them.

    Servers exist that number every reply's calls from 1.
    """
    taken = set(state.used_call_ids)
    distinct: list[ToolCall] = []
    for position, call in enumerate(calls, start=1):
        wanted = call.id or CallId(f"call_{position}")
        unique, copy = wanted, 2
        while unique in taken:
            unique, copy = CallId(f"{wanted}_{copy}"), copy + 1
        taken.add(unique)
        distinct.append(call if unique == call.id else ToolCall(unique, call.name, call.arguments))
    return tuple(distinct)
