"""The driver: carries out one step after another, tape first. It decides nothing; `machine.py` does.

Facts (a finished reply, a result) are gathered and committed together with the next intent or the end: nothing is
spoken before it is on the tape, and a blocking chat costs two commits. Text is committed as it comes: readers wait.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar, assert_never

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec
from dragoman.core.errors import Unavailable
from dragoman.core.names import Clock
from dragoman.core.operations import TurnView
from dragoman.core.transcript import Transcript, completed
from dragoman.core.workflows import Workflow
from dragoman.runtime import machine
from dragoman.runtime.attempt import Attempt, Sleep, insist
from dragoman.runtime.budgets import Budget
from dragoman.runtime.calling import Calling
from dragoman.runtime.casting import Casting, WorkflowSource
from dragoman.runtime.counters import Counters
from dragoman.runtime.fuses import blow
from dragoman.runtime.keeping import HISTORY_CHARS_MAX
from dragoman.runtime.live import Inbox
from dragoman.runtime.past import Past, newest
from dragoman.runtime.ports import (
    LEASE_S,
    Claim,
    Log,
    Models,
    StaleClaim,
)
from dragoman.runtime.replying import Replying
from dragoman.runtime.run_state import RunState
from dragoman.runtime.tool_ports import Tools, WorkflowTools
from dragoman.runtime.weights import CHARS_PER_TOKEN, turn_weight

logger = logging.getLogger("dragoman.runtime")

R = TypeVar("R")

NO_WORKFLOWS: Mapping[str, Workflow] = {}


_Work = (
    machine.RunTools
    | machine.SettleCalls
    | machine.RequestApprovals
    | machine.RequestClientTool
    | machine.Wait
    | machine.ResetReply
    | machine.AddCall
    | machine.GiveTitle
    | machine.HandOver
    | machine.Say
)


class NewerVersion(Unavailable):
    """The run can only be carried on by a newer version of this program."""


class Seed:
    """What `Runs.start` already knows of a run it has just begun, so that nothing need be read back."""

    __slots__ = ("fresh", "received", "seq")

    def __init__(self, received: ev.TurnReceived, *, seq: int, fresh: bool) -> None:
        self.received = received
        self.seq = seq
        self.fresh = fresh
        """The conversation began with this turn: there is no history to read."""


class Driver:
    """Drives claimed runs. Holds no run of its own: whatever it must know of one stands on the tape."""

    def __init__(
        self,
        log: Log,
        models: Models,
        tools: Tools,
        agents: Mapping[str, AgentSpec],
        *,
        default_agent: str,
        workflows: WorkflowSource | None = None,
        configured: Mapping[str, Workflow] = NO_WORKFLOWS,
        workflow_tools: WorkflowTools | None = None,
        budget: Budget,
        clock: Clock,
        counters: Counters,
        lease_s: float = LEASE_S,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._log = log
        self._casting = Casting(workflows, tools, agents, configured, default_agent=default_agent)
        self._budget = budget
        self._clock = clock
        self._counters = counters
        self._replying = Replying(models, tools, counters)
        self._calling = Calling(
            tools, workflow_tools, self._replying, clock=clock, counters=counters, confirm_after_s=lease_s / 3
        )
        self._sleep = sleep
        self._past = Past()

    async def drive(self, claim: Claim, seed: Seed | None = None, inbox: Inbox | None = None) -> Claim | None:
        """Carry a claimed run to its end; the claim of the run that waited behind it, if any. `inbox`: what others ask
        of it meanwhile.

        Raises StaleClaim when the run was taken from us, PutDown, NewerVersion, and errors of the store; the run then
        stays unfinished and recovery takes it up.
        """
        inbox = inbox or Inbox()
        attempt = await self._open(claim, seed)
        try:
            return await self._go_on(attempt, inbox)
        finally:
            if attempt.titling is not None:
                await self._replying.put_down(attempt)

    async def _go_on(self, attempt: Attempt, inbox: Inbox) -> Claim | None:
        while True:
            attempt.hear(inbox.take())
            if attempt.fault and attempt.state.end is None:
                return await self._end(attempt, ev.RunFailed("workflow_gone", attempt.fault, attempt.state.usage))
            step = self._next_step(attempt)
            match step:
                case machine.AskModel():
                    failed = await self._replying.ask(attempt, step)
                    if failed is not None:
                        return await self._end(attempt, failed)
                case machine.End(event=event, facts=facts):
                    for fact in facts:
                        attempt.note(fact)
                    return await self._end(attempt, event)
                case machine.Ended():
                    return None
                case _:
                    await self._work(attempt, inbox, step)

    def _next_step(self, attempt: Attempt) -> machine.Step:
        now, tick = self._clock.now(), self._clock.monotonic()
        rules = self._casting.rules(attempt)
        return machine.next_step(
            attempt.state, self._budget, rules, attempt.policy, now=now, tick=tick, cast=attempt.cast
        )

    async def _work(self, attempt: Attempt, inbox: Inbox, step: _Work) -> None:
        """Whatever neither asks the model for a reply nor ends the run."""
        match step:
            case machine.RunTools(calls=calls):
                await self._calling.run(attempt, calls)
            case machine.SettleCalls(results=results):
                for result in results:
                    attempt.note(result)
            case machine.RequestApprovals() | machine.RequestClientTool() | machine.Wait():
                await self._turn_to_others(attempt, inbox, step)
            case machine.ResetReply(from_seq=from_seq):
                attempt.note(ev.AttemptReset(from_seq))
            case machine.AddCall(call=call):
                for distinct in machine.distinct_calls(attempt.state, (call,), attempt.past):
                    attempt.note(ev.CallAdded(distinct))
            case machine.GiveTitle():
                await self._replying.give_title(attempt)
            case machine.HandOver():
                self._casting.hand_over(attempt, step)
                self._counters.handovers += 1
                await attempt.commit()  # who reads along is told; and what was paid for so far is not asked for again
                blow("handover.committed")
            case machine.Say(agent=agent, text=text):
                attempt.note(ev.ReplyStarted(agent, ""))
                attempt.note(ev.ReplyFinished(text))
            case _:
                assert_never(step)

    async def end(self, claim: Claim, ending: Callable[[RunState], ev.RunEnd]) -> Claim | None:
        """End a run whose driving broke off; what it had said so far stays on the tape. The claim of the run behind it.

        Raises StaleClaim, also when the run has ended already or was deleted, and errors of the store. `ending` makes
        the end from what the run has come to.
        """
        written = 0
        while True:
            state, last = RunState(), claim.seq
            for entry in await self._insist(claim, lambda: self._log.read_run(claim)):
                state.add(entry.event, at=entry.at, seq=entry.seq)
                last = last if isinstance(entry.event, ev.ASKS) else entry.seq
            if state.received is None or state.end is not None or state.epoch != claim.epoch or last == written:
                raise StaleClaim
            written, event = last, ending(state)
            try:
                following = await self._insist(
                    claim, partial(self._log.finish, claim, (event,), after=last, weight=state.weight)
                )
            except StaleClaim:
                continue  # a write that was cut off was still on its way when we read; else we read the same again
            self._count(state.received, event)
            return following

    async def _insist(self, claim: Claim, work: Callable[[], Awaitable[R]]) -> R:
        return await insist(work, run=claim.run, sleep=self._sleep)

    async def _open(self, claim: Claim, seed: Seed | None) -> Attempt:
        attempt = Attempt(claim, self._log, self._clock, self._sleep)
        seq = 0
        now = self._clock.now()
        if seed is not None:
            attempt.state.add(seed.received, at=now, seq=seed.seq)
            attempt.state.add(ev.RunClaimed(claim.epoch), at=now)
            seq = seed.seq
        else:
            for entry in await attempt.insist(lambda: self._log.read_run(claim)):
                attempt.state.add(entry.event, at=entry.at, seq=entry.seq)
                seq = seq or entry.seq
                attempt.heard = entry.seq
            attempt.state.waits.looked_at = now
        attempt.state.time.take_up(self._clock.monotonic())
        if attempt.state.received is None:
            raise StaleClaim  # deleted with its conversation
        if attempt.state.unread:
            raise NewerVersion("A newer version of the server began this run; it is left to one of those.")
        attempt.received = attempt.state.received
        await self._casting.look_up(attempt)
        attempt.seq = seq
        if seed is None or not seed.fresh:
            await self._remember(attempt)
        self._casting.open(attempt)
        self._replying.check_brought(attempt)
        return attempt

    async def _remember(self, attempt: Attempt) -> None:
        """Find the earlier turns: in memory if we served the last of them ourselves, else on the tape."""
        if attempt.received.restates:
            return  # all of it is in the turn itself
        chars_max = attempt.history_tokens * CHARS_PER_TOKEN
        known = self._past.before(attempt.claim.tape, attempt.seq, chars_max=chars_max)
        if known is not None and (not attempt.received.whole or all(map(completed, known[0]))):
            attempt.past, attempt.past_weights = newest(*known, chars_max=chars_max)
            return
        turns = await self._read_past(attempt, chars_max)
        attempt.past, attempt.past_weights = newest(turns, tuple(map(turn_weight, turns)), chars_max=chars_max)

    async def _read_past(self, attempt: Attempt, chars_max: int) -> tuple[TurnView, ...]:
        """The earlier turns from the tape. If some that stand there are no part of the conversation (any more) and used
        up the measure, all is read."""
        turns: tuple[TurnView, ...] = ()
        for measure in (chars_max, HISTORY_CHARS_MAX):
            entries = await attempt.insist(
                partial(self._log.history, attempt.claim.tape, before=attempt.seq, chars_max=measure)
            )
            turns = Transcript(entries).turns()
            if attempt.received.whole:  # what else stands there is not in the conversation as its caller has it
                turns = tuple(filter(completed, turns))
            begun = sum(isinstance(entry.event, ev.TurnReceived | ev.MessagesImported) for entry in entries)
            if len(turns) == begun or sum(map(turn_weight, turns)) > chars_max:
                break
        return turns

    async def _keep(self, attempt: Attempt, end: ev.Event) -> None:
        """Remember the conversation for its next turn, if this one is the last on its tape and ended as most do."""
        tape, state = attempt.claim.tape, attempt.state
        self._past.forget(tape)
        if not isinstance(end, ev.RunCompleted):
            return
        try:
            entries = await self._log.read(tape, after=attempt.last)
        except Unavailable:
            return  # the next turn reads the tape
        if not entries or entries[-1].run != attempt.claim.run or entries[-1].event != end:
            return  # somebody has asked already: that turn reads the tape
        asked = attempt.received.messages
        answered = tuple(state.messages[len(asked) :])
        view = TurnView(
            attempt.claim.run, attempt.seq, entries[-1].at, asked, answered, end, by_several=state.by_several
        )
        turns, weights = (*attempt.past, view), (*attempt.past_weights, state.weight)
        chars_max = attempt.history_tokens * CHARS_PER_TOKEN
        turns, weights = newest(turns, weights, chars_max=chars_max)
        # The turn that passes the measure is the last one kept: if none does, there are no more.
        self._past.keep(tape, entries[-1].seq, turns, weights, whole=sum(weights) <= chars_max)

    async def _end(self, attempt: Attempt, event: ev.Event) -> Claim | None:
        following = await attempt.finish(event)
        self._count(attempt.received, event)
        if isinstance(event, ev.RunNeedsClient):
            blow("clientaction.emitted")
        if following is None:
            await self._keep(attempt, event)
        return following

    def _count(self, received: ev.TurnReceived, end: ev.Event) -> None:
        self._counters.runs += 1
        self._counters.workflow_runs += received.staging is not None
        if isinstance(end, ev.RunFailed):
            self._counters.errors += 1

    # -- asking others and waiting for them ------------------------------------------------------------------------

    async def _turn_to_others(
        self,
        attempt: Attempt,
        inbox: Inbox,
        step: machine.RequestApprovals | machine.RequestClientTool | machine.Wait,
    ) -> None:
        """Requests are committed with the reply that made the calls: whoever is asked reads that first."""
        match step:
            case machine.RequestApprovals(requests=requests):
                for request in requests:
                    attempt.note(request)
                await attempt.commit()
                blow("approval.requested")
            case machine.RequestClientTool(request=request):
                attempt.note(request)
                await attempt.commit()
                blow("clienttool.requested")
            case machine.Wait(until=until):
                await self._wait(attempt, inbox, until)
            case _:
                assert_never(step)

    async def _wait(self, attempt: Attempt, inbox: Inbox, until: float) -> None:
        """Until something is asked of the run; when it is time to give up, until the tape was read once more."""
        await attempt.commit()
        left_s = until - self._clock.now()
        if left_s > 0:
            await inbox.filled(within_s=left_s)
        else:
            await attempt.look()
