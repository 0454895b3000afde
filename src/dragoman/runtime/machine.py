"""The machine: one run's tape -> its next step. Pure; this file decides, `driver.py` does.

                    ┌────────────────── every call has its result ◄──────────────────┐
                    ▼                                                                │
    received ──► ASKED ── AskModel ──► REPLYING ── ReplyFinished ──► calls? ──yes──► TOOLS_DUE ── RunTools
                    ▲                     │                            │                 │
                    │                     │ claimed again: half a      │ no              │ only the client's
                    └──── ResetReply ◄────┘ reply is void              ▼                 │ are left
                                                                  End(completed)     End(needs_client)

Where a workflow answers, `workflow.py` says who has the word: the text of an agent that speaks to other agents is no
answer, but handed on (HandOver), and so is the word of one that asks for a transfer, once its other calls have their
results.

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

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.agents import Repeat
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId
from dragoman.core.operations import TurnView
from dragoman.runtime.budgets import Budget, overrun
from dragoman.runtime.loops import OVER_LIMIT, as_result, called_in, opening_call
from dragoman.runtime.run_state import RunState
from dragoman.runtime.waiting import ALL_BY_ITSELF, Policy
from dragoman.runtime.workflow import (
    NOT_HANDED_OVER,
    REFUSED,
    Cast,
    HandOver,
    is_greeting,
    last_report,
    start_of,
    transfers,
)

OUTCOME_UNKNOWN = (
    "The server stopped while this tool was at work. Whether it took effect is unknown and it was not run again. "
    "Check the state of things before you repeat the call."
)

TRIES_MAX = 3
"""Attempts that may die over a run. One counts once the model spoke or a tool was begun: a server that is only
restarted again and again spoils nothing (promise G8). One that died while the run only waited for somebody does not."""
CLAIMS_MAX = 30
"""Attempts of any kind, so that a run that kills its process before it has said anything comes to an end too. Those
that found it waiting for somebody are not counted: that has a deadline of its own."""
REPLY_CUT = "Token limit reached. The model ended its reply because it had no room left for it."
NO_ANSWER = "The model ended without an answer. Ask again."
OTHERS_FIRST = "calls that somebody else must answer come first."
RETRIES_EXHAUSTED = "The server stopped each time it worked on this answer, so it was not tried again."


class AskModel(Struct, frozen=True):
    """Ask for the next reply; `number` counts replies of this run from 1. `closing`: it must be the last one."""

    number: int
    closing: bool = False


class AddCall(Struct, frozen=True):
    """Write this call down as one of ours: the loop begins with it."""

    call: ToolCall


class GiveTitle(Struct, frozen=True):
    """Have the model think of a title for the conversation, and write it down."""


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


class Say(Struct, frozen=True):
    """Say this to the user as the agent, without asking a model."""

    agent: str
    text: str


class ResetReply(Struct, frozen=True):
    from_seq: int


class End(Struct, frozen=True):
    """Write `facts`, then the run's end."""

    event: ev.Event
    facts: tuple[ev.Event, ...] = ()


class Ended(Struct, frozen=True):
    """The tape already holds the end."""


Step = (
    AskModel
    | AddCall
    | GiveTitle
    | RunTools
    | SettleCalls
    | RequestApprovals
    | RequestClientTool
    | Wait
    | HandOver
    | Say
    | ResetReply
    | End
    | Ended
)


def next_step(
    state: RunState,
    budget: Budget,
    rules: Mapping[str, Repeat],
    policy: Policy = ALL_BY_ITSELF,
    *,
    now: float,
    tick: float | None = None,
    cast: Cast | None = None,
) -> Step:
    """What this run needs next. `rules` says what may be repeated, by tool name; one that is not in it is unknown and
    harmless to call, since calling it only yields an error. `tick`: see WallTime. `cast`: the workflow that answers."""
    if state.end is not None or state.received is None:
        return Ended()
    if state.cancelled_by is not None:
        return End(ev.RunCancelled(state.cancelled_by, state.usage))
    if state.tries >= TRIES_MAX or state.claims > CLAIMS_MAX:
        return End(ev.RunFailed("retries_exhausted", RETRIES_EXHAUSTED, state.usage))
    if state.replying:
        return ResetReply(state.reply_seq or 0)
    if state.open_calls:
        overspent = _within(state, budget, state.time.by(now, tick), cast)
        return _calls_due(state, rules, policy, now, overspent, cast)
    if state.cut_short and state.loop.whole_replies:
        return End(ev.RunFailed("reply_cut", REPLY_CUT, state.usage))
    if state.loop.opening and (opening := _opening(state)) is not None:
        return AddCall(opening)
    if cast is not None and (step := _word_goes(state, cast)) is not None:
        return step
    if state.answered:
        titled = state.title_given or not state.loop.titled
        return End(ev.RunCompleted(state.usage)) if titled else GiveTitle()
    closing = 0 < state.loop.calls_max <= state.calls_made
    return _within(state, budget, state.time.by(now, tick), cast) or AskModel(state.replies + 1, closing)


def _word_goes(state: RunState, cast: Cast) -> Step | None:
    """What a workflow needs once nothing is called for; None = what any run needs."""
    received = state.received.messages if state.received is not None else ()
    if not state.replies and is_greeting(received):
        return Say(start_of(cast.workflow).speaker, cast.workflow.greeting)
    last = state.messages[-1] if state.messages else None
    if not state.replies_here or last is None or last.role != "assistant" or last.calls or last.text.strip():
        return None
    stage = cast.stage(state.handings)
    internal = cast.member(stage.speaker).internal
    if internal and (step := cast.after_text(stage)) is not None:
        return step
    report = last_report(state.messages, begun=len(received))
    return Say(stage.speaker, report) if report else End(ev.RunFailed("no_answer", NO_ANSWER, state.usage))


def _opening(state: RunState) -> ToolCall | None:
    """The call that the turn is to begin with, as long as nothing else was done in it."""
    begun = state.received is None or len(state.messages) > len(state.received.messages)
    return None if begun else opening_call(state.loop, state.messages)


def _within(state: RunState, budget: Budget, elapsed_s: float, cast: Cast | None) -> End | None:
    """The end that a spent budget brings; None while there is some left. Each agent of a workflow has the steps of a
    run, from when it is given the word (rowboat spec 4.3)."""
    counted = {} if state.loop.calls_max else state.repeats
    most = max(counted.items(), key=lambda item: item[1], default=(("", ""), 0))
    failed = overrun(
        budget,
        replies=state.replies if cast is None else state.replies_here,
        usage=state.usage,
        elapsed_s=elapsed_s,
        tool=most[0][0],
        repeats=most[1],
    )
    return None if failed is None else End(failed)


def _calls_due(
    state: RunState,
    rules: Mapping[str, Repeat],
    policy: Policy,
    now: float,
    overspent: End | None,
    cast: Cast | None,
) -> Step:
    if state.loop.once:
        return End(ev.RunNeedsClient(tuple(state.open_calls.values()), state.usage))
    handing = transfers(state.open_calls.values()) if cast is not None else ()
    if cast is not None and len(handing) == len(state.open_calls):
        came = cast.transfer(cast.stage(state.handings), handing)
        if isinstance(came, HandOver):
            return replace(came, refused=tuple(_for_loop(state, result) for result in came.refused))
        return overspent or SettleCalls(tuple(_for_loop(state, result) for result in came))
    ours = [call for call in state.open_calls.values() if call.name not in state.client_tools and call not in handing]
    settled = (
        _settled(state, ours, rules)
        or _over_limit(state, ours)
        or tuple(
            result
            for call in state.open_calls.values()
            if call not in handing and (result := state.waits.result(call, policy)) is not None
        )
    )
    if settled:
        return SettleCalls(tuple(_for_loop(state, result) for result in settled))
    if requests := state.waits.unasked(ours, policy, now=now):
        return overspent or RequestApprovals(requests)
    if runnable := tuple(call for call in ours if state.waits.approves(call, policy)):
        again = frozenset(call.id for call in runnable if call.id in state.interrupted_calls)
        return overspent or RunTools(runnable, again)
    until = state.waits.until()
    if until is not None:
        return Wait(until)
    if handing:  # only the caller's own are left beside them: its turn may end here
        why = REFUSED.format(why=OTHERS_FIRST)
        return SettleCalls(tuple(ev.ToolReturned(call.id, why, True, code=NOT_HANDED_OVER) for call in handing))
    return _clients_due(state, now, overspent)


def _settled(state: RunState, ours: Sequence[ToolCall], rules: Mapping[str, Repeat]) -> tuple[ev.ToolReturned, ...]:
    """What an attempt that died had begun and may not be begun again."""
    return tuple(
        ev.ToolReturned(call.id, OUTCOME_UNKNOWN, is_error=True, code="outcome_unknown")
        for call in ours
        if call.id in state.interrupted_calls and rules.get(call.name) is Repeat.ONCE
    )


def _over_limit(state: RunState, ours: Sequence[ToolCall]) -> tuple[ev.ToolReturned, ...]:
    """Calls for which the loop leaves no room."""
    if not state.loop.calls_max:
        return ()
    begun = [call for call in ours if call.id in state.started_calls]
    room = max(state.loop.calls_max - state.calls_made - len(begun), 0)
    refused = [call for call in ours if call.id not in state.started_calls][room:]
    return tuple(ev.ToolReturned(call.id, OVER_LIMIT, is_error=True, code="call_limit") for call in refused)


def _for_loop(state: RunState, result: ev.ToolReturned) -> ev.ToolReturned:
    """As this turn's loop has its results."""
    return replace(result, content=as_result(state.loop, result.content, is_error=result.is_error, code=result.code))


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


def distinct_calls(state: RunState, calls: tuple[ToolCall, ...], past: Iterable[TurnView] = ()) -> tuple[ToolCall, ...]:
    """The calls under ids that no earlier call of this run has, on which results and repeat keys (`run:call`) hang; nor
    one of the turns in `past`, since there are models that refuse a prompt with two calls of one id.

    Servers exist that number every reply's calls from 1.
    """
    if not calls:
        return ()
    taken = set(state.used_call_ids)
    for turn in past:
        taken |= called_in((*turn.asked, *turn.answered))
    distinct: list[ToolCall] = []
    for position, call in enumerate(calls, start=1):
        wanted = call.id or CallId(f"call_{position}")
        unique, copy = wanted, 2
        while unique in taken:
            unique, copy = CallId(f"{wanted}_{copy}"), copy + 1
        taken.add(unique)
        distinct.append(call if unique == call.id else ToolCall(unique, call.name, call.arguments))
    return tuple(distinct)
