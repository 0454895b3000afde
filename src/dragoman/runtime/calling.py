"""Making a run's calls of the server's own tools: the intent first, then the effect, then the result."""

import asyncio
from collections.abc import Sequence
from functools import partial

from dragoman.core import events as ev
from dragoman.core.agents import Offered
from dragoman.core.messages import ToolCall
from dragoman.core.names import Clock
from dragoman.runtime import loops
from dragoman.runtime.attempt import Attempt
from dragoman.runtime.counters import Counters
from dragoman.runtime.fuses import blow
from dragoman.runtime.replying import Replying
from dragoman.runtime.tool_ports import SERVER, CallContext, StagedCall, ToolOutcome, Tools, WorkflowTools


class Calling:
    def __init__(
        self,
        tools: Tools,
        workflow_tools: WorkflowTools | None,
        replying: Replying,
        *,
        clock: Clock,
        counters: Counters,
        confirm_after_s: float,
    ) -> None:
        self._tools = tools
        self._workflow_tools = workflow_tools
        self._replying = replying
        self._clock = clock
        self._counters = counters
        self._confirm_after_s = confirm_after_s
        """Intents that took longer than this to commit may be those of a process that was stopped meanwhile, and whose
        run another one has taken up: it looks again before it has any effect."""

    async def run(self, attempt: Attempt, calls: Sequence[ToolCall]) -> None:
        """Make the calls, all at once, and put their results on the tape."""
        for call in calls:
            attempt.note(ev.ToolStarted(call))
        began = self._clock.monotonic()
        await attempt.commit()  # the intents, before any effect
        blow("tool.intent_committed")
        if self._clock.monotonic() - began > self._confirm_after_s:
            await attempt.confirm()
        if len(calls) == 1:
            await self._run_one(attempt, calls[0])
            return
        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(self._run_one(attempt, call))
        except BaseExceptionGroup as errors:
            # Tools never raise; the store can, and says the same to all of them.
            raise errors.exceptions[0] from None

    async def _run_one(self, attempt: Attempt, call: ToolCall) -> None:
        began = self._clock.monotonic()
        staged = self._staged(attempt, call)
        outcome = await self._outcome(attempt, call, staged)
        blow("tool.effect_done")
        took_ms = round((self._clock.monotonic() - began) * 1000)
        ran_by = SERVER if staged is None else staged.ran_by(call.name)
        self._counters.tool_returned(ran_by, outcome.code, is_error=outcome.is_error)
        content = loops.as_result(attempt.state.loop, outcome.content, is_error=outcome.is_error, code=outcome.code)
        attempt.note(ev.ToolReturned(call.id, content, outcome.is_error, took_ms, outcome.code, outcome.shown))
        await attempt.commit()
        blow("tool.result_committed")

    def _staged(self, attempt: Attempt, call: ToolCall) -> StagedCall | None:
        """How the workflow has it run; None: it is a tool of the server's own, or none that the agent holds."""
        if attempt.cast is None or self._workflow_tools is None:
            return None
        offered = next((tool for tool in attempt.tools if tool.name == call.name), None)
        return None if offered is None else attempt.cast.staged(call.name, attempt.agent.name, offered)

    async def _outcome(self, attempt: Attempt, call: ToolCall, staged: StagedCall | None) -> ToolOutcome:
        """A tool that this agent does not hold is not run, whoever talked the model into calling it. One that is never
        offered is run if it was not the model that called it."""
        spec = self._tools.spec(call.name)
        if staged is not None and self._workflow_tools is not None:
            return await self._workflow_tools.call(call, staged, _context(attempt, call, self._replying))
        held = any(tool.name == call.name for tool in attempt.tools)
        if spec is not None and not held and not (spec.offered is Offered.NEVER and _not_by_model(attempt, call)):
            return ToolOutcome(f"There is no tool {call.name}.", True, "unknown_tool")
        return await self._tools.call(call, _context(attempt, call, self._replying))


def _context(attempt: Attempt, call: ToolCall, replying: Replying) -> CallContext:
    received = attempt.received
    return CallContext(
        attempt.claim.project,
        f"{attempt.claim.run}:{call.id}",
        received.owner,
        received.owner_name,
        received.owner_wide,
        attempt.state.messages,
        received.screen,
        partial(replying.aside, attempt),
    )


def _not_by_model(attempt: Attempt, call: ToolCall) -> bool:
    """The loop added it, or the caller's messages ended with it."""
    return attempt.received.loop is not None and attempt.state.replies == 0
