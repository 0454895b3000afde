"""The driver: carries out one step after another, tape first. It decides nothing; `machine.py` does.

Facts (a finished reply, a result) are gathered and committed together with the next intent or the end: nothing is
spoken before it is on the tape, and a blocking chat costs two commits. Text is committed as it comes: readers wait.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar, assert_never

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, Repeat
from dragoman.core.errors import DragomanError, Unavailable
from dragoman.core.messages import ToolCall
from dragoman.core.names import Clock
from dragoman.core.operations import TurnView
from dragoman.core.transcript import Transcript
from dragoman.runtime import history, machine
from dragoman.runtime.attempt import Attempt, Sleep, insist
from dragoman.runtime.budgets import Budget
from dragoman.runtime.counters import Counters
from dragoman.runtime.fuses import blow
from dragoman.runtime.live import Inbox
from dragoman.runtime.past import Past, newest
from dragoman.runtime.ports import (
    LEASE_S,
    CallContext,
    Claim,
    Log,
    Models,
    Prompt,
    ReplyDone,
    ReplyPiece,
    Retracted,
    StaleClaim,
    TextPiece,
    ThinkingPiece,
    ToolOutcome,
    Tools,
)
from dragoman.runtime.waiting import policy_of

logger = logging.getLogger("dragoman.runtime")

R = TypeVar("R")

NO_ANSWER = "The model ended without an answer. Ask again."


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
        budget: Budget,
        clock: Clock,
        counters: Counters,
        lease_s: float = LEASE_S,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._log = log
        self._models = models
        self._tools = tools
        self._agents = agents
        self._default_agent = default_agent
        self._budget = budget
        self._clock = clock
        self._counters = counters
        self._confirm_after_s = lease_s / 3
        """Intents that took longer than this to commit may be those of a process that was stopped meanwhile, and whose
        run another one has taken up: it looks again before it has any effect."""
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
        while True:
            attempt.hear(inbox.take())
            state, rules, now, tick = attempt.state, self._rules(attempt), self._clock.now(), self._clock.monotonic()
            step = machine.next_step(state, self._budget, rules, attempt.policy, now=now, tick=tick)
            match step:
                case machine.AskModel(number=number):
                    failed = await self._ask(attempt, number)
                    if failed is not None:
                        return await self._end(attempt, failed)
                case machine.RunTools(calls=calls):
                    await self._run_tools(attempt, calls)
                case machine.SettleCalls(results=results):
                    for result in results:
                        attempt.note(result)
                case machine.RequestApprovals() | machine.RequestClientTool() | machine.Wait():
                    await self._turn_to_others(attempt, inbox, step)
                case machine.ResetReply(from_seq=from_seq):
                    attempt.note(ev.AttemptReset(from_seq))
                case machine.End(event=event, facts=facts):
                    for fact in facts:
                        attempt.note(fact)
                    return await self._end(attempt, event)
                case machine.Ended():
                    return None
                case _:
                    assert_never(step)

    async def end(self, claim: Claim, ending: Callable[[machine.RunState], ev.RunEnd]) -> Claim | None:
        """End a run whose driving broke off; what it had said so far stays on the tape. The claim of the run behind it.

        Raises StaleClaim, also when the run has ended already or was deleted, and errors of the store. `ending` makes
        the end from what the run has come to.
        """
        written = 0
        while True:
            state, last = machine.RunState(), claim.seq
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
            self._count(event)
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
        attempt.agent = self._agents.get(attempt.received.agent) or self._agents[self._default_agent]
        attempt.tools = self._tools.specs(attempt.agent.tools)
        if theirs := attempt.received.client_tools:
            # The caller's own tool comes before ours of that name: a call can only mean one of them.
            names = {tool.name for tool in theirs}
            attempt.tools = (*(tool for tool in attempt.tools if tool.name not in names), *theirs)
        attempt.policy = policy_of(attempt.agent, attempt.tools)
        attempt.seq = seq
        if seed is None or not seed.fresh:
            await self._remember(attempt)
        return attempt

    async def _remember(self, attempt: Attempt) -> None:
        """Find the earlier turns: in memory if we served the last of them ourselves, else on the tape."""
        chars_max = attempt.agent.history_tokens * history.CHARS_PER_TOKEN
        tape = attempt.claim.tape
        known = self._past.before(tape, attempt.seq, chars_max=chars_max)
        if known is not None:
            attempt.past, attempt.past_weights = newest(*known, chars_max=chars_max)
            return
        entries = await attempt.insist(lambda: self._log.history(tape, before=attempt.seq, chars_max=chars_max))
        attempt.past = Transcript(entries).turns()
        attempt.past_weights = tuple(map(machine.turn_weight, attempt.past))

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
        view = TurnView(attempt.claim.run, attempt.seq, entries[-1].at, asked, tuple(state.messages[len(asked) :]), end)
        turns, weights = (*attempt.past, view), (*attempt.past_weights, state.weight)
        chars_max = attempt.agent.history_tokens * history.CHARS_PER_TOKEN
        turns, weights = newest(turns, weights, chars_max=chars_max)
        # The turn that passes the measure is the last one kept: if none does, there are no more.
        self._past.keep(tape, entries[-1].seq, turns, weights, whole=sum(weights) <= chars_max)

    def _rules(self, attempt: Attempt) -> Mapping[str, Repeat]:
        """Of calls that a dead attempt began, whether or not the agent still holds those tools."""
        state = attempt.state
        if not state.interrupted_calls:
            return {}
        names = {call.name for call in state.open_calls.values() if call.id in state.interrupted_calls}
        return {name: spec.repeat for name in names if (spec := self._tools.spec(name)) is not None}

    async def _end(self, attempt: Attempt, event: ev.Event) -> Claim | None:
        following = await attempt.finish(event)
        self._count(event)
        if isinstance(event, ev.RunNeedsClient):
            blow("clientaction.emitted")
        if following is None:
            await self._keep(attempt, event)
        return following

    def _count(self, end: ev.Event) -> None:
        self._counters.runs += 1
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

    # -- a reply ---------------------------------------------------------------------------------------------------

    async def _ask(self, attempt: Attempt, number: int) -> ev.RunFailed | None:
        """One model call, put on the tape. The run's end if it failed for good: what was said so far stays."""
        received, agent = attempt.received, attempt.agent
        model, model_name = self._models.choose(received.model or agent.model)
        prompt = Prompt(
            history.prompt(
                (agent.instructions, *received.instructions),
                attempt.past,
                attempt.state.messages,
                tokens_max=agent.history_tokens,
            ),
            attempt.tools,
            model_name=model_name,
            key=f"{attempt.claim.run}:{number}",
        )
        attempt.model_name = model_name
        attempt.note(ev.ReplyStarted(agent.name, model_name))
        pieces = model.reply(prompt, stream=received.deltas)
        async with aclosing(pieces):  # closes its connection too, which is how a cancel reaches the socket
            while True:
                try:  # around the model alone: what the store raises means something else
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    return ev.RunFailed("upstream_truncated", NO_ANSWER, attempt.state.usage)
                except DragomanError as error:
                    logger.warning("run %s: reply %d failed: %s: %s", attempt.claim.run, number, error.code, error)
                    return ev.RunFailed(error.code, error.detail, attempt.state.usage)
                if await self._take(attempt, piece):
                    return None

    async def _take(self, attempt: Attempt, piece: ReplyPiece) -> bool:
        """Put a piece on the tape; True when it was the last."""
        match piece:
            case TextPiece(text=text):
                attempt.note(ev.TextAdded(text))
                await attempt.commit()
            case ThinkingPiece(text=text):
                attempt.note(ev.ThinkingAdded(text))
                await attempt.commit()
            case Retracted():
                await self._retract(attempt)
            case ReplyDone():
                self._counters.replied(piece.usage)
                calls = machine.distinct_calls(attempt.state, piece.calls)
                attempt.note(ev.ReplyFinished(piece.text, calls, piece.usage, piece.finish_reason, piece.thinking))
                return True
            case _:
                assert_never(piece)
        return False

    async def _retract(self, attempt: Attempt) -> None:
        if attempt.state.reply_seq is not None:  # else nothing of it was shown
            attempt.note(ev.AttemptReset(attempt.state.reply_seq))
            attempt.note(ev.ReplyStarted(attempt.agent.name, attempt.model_name))
            await attempt.commit()

    # -- tools -----------------------------------------------------------------------------------------------------

    async def _run_tools(self, attempt: Attempt, calls: Sequence[ToolCall]) -> None:
        for call in calls:
            attempt.note(ev.ToolStarted(call))
        began = self._clock.monotonic()
        await attempt.commit()  # the intents, before any effect
        blow("tool.intent_committed")
        if self._clock.monotonic() - began > self._confirm_after_s:
            await attempt.confirm()
        if len(calls) == 1:
            await self._run_tool(attempt, calls[0])
            return
        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(self._run_tool(attempt, call))
        except BaseExceptionGroup as errors:
            # Tools never raise; the store can, and says the same to all of them.
            raise errors.exceptions[0] from None

    async def _run_tool(self, attempt: Attempt, call: ToolCall) -> None:
        began = self._clock.monotonic()
        outcome = await self._outcome(attempt, call)
        blow("tool.effect_done")
        took_ms = round((self._clock.monotonic() - began) * 1000)
        self._counters.tool_calls += 1
        attempt.note(ev.ToolReturned(call.id, outcome.content, outcome.is_error, took_ms, outcome.code))
        await attempt.commit()
        blow("tool.result_committed")

    async def _outcome(self, attempt: Attempt, call: ToolCall) -> ToolOutcome:
        """A tool that this agent does not hold is not run, whoever talked the model into calling it."""
        if self._tools.spec(call.name) is not None and all(tool.name != call.name for tool in attempt.tools):
            return ToolOutcome(f"There is no tool {call.name}.", True, "unknown_tool")
        return await self._tools.call(call, CallContext(attempt.claim.project, f"{attempt.claim.run}:{call.id}"))
