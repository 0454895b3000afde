"""One try at one run: its claim, the folded state, the facts that wait to be committed, and how they get there.

A store that is away for a while is waited for: what a model has said so far is worth more than the wait. Each write
says what it builds on, so that it can be repeated after an answer was lost (`Log.append`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, ToolSpec
from dragoman.core.errors import Unavailable
from dragoman.core.events import Entry
from dragoman.core.names import Clock
from dragoman.core.operations import TurnView
from dragoman.core.workflows import Workflow
from dragoman.runtime.ports import Claim, Log
from dragoman.runtime.resuming import AtHand
from dragoman.runtime.run_state import RunState
from dragoman.runtime.waiting import ALL_BY_ITSELF
from dragoman.runtime.workflow import Cast

logger = logging.getLogger("dragoman.runtime")

R = TypeVar("R")

PATIENCE_S = 60.0
"""How long a run waits for a store that cannot be written before it is put down, to be taken up again later."""
FIRST_WAIT_S = 0.05
WAIT_MAX_S = 1.0

Sleep = Callable[[float], Awaitable[object]]


async def insist(work: Callable[[], Awaitable[R]], *, run: str, sleep: Sleep) -> R:
    """Do it again until the store lets it through. Raises Unavailable after PATIENCE_S, other errors at once."""
    waited, wait = 0.0, FIRST_WAIT_S
    while True:
        try:
            return await work()
        except Unavailable as error:
            if waited >= PATIENCE_S:
                raise
            if not waited:
                logger.warning("run %s: waits for the store: %s", run, error)
        await sleep(wait)
        waited += wait
        wait = min(wait * 2, WAIT_MAX_S)


class Attempt:
    def __init__(self, claim: Claim, log: Log, clock: Clock, sleep: Sleep) -> None:
        self.claim = claim
        self.state = RunState()
        self.received = ev.TurnReceived(())
        self.agent = AgentSpec("", "")
        self.tools: tuple[ToolSpec, ...] = ()
        self.policy = ALL_BY_ITSELF
        self.seq = 0
        """Place of the TurnReceived."""
        self.last = claim.seq
        """The last entry that this claim has written, as far as we heard."""
        self.heard = claim.seq
        """What others asked of the run up to here is in its state."""
        self.past: tuple[TurnView, ...] = ()
        self.past_weights: tuple[int, ...] = ()
        self.shown: tuple[TurnView, ...] = ()
        """The earlier turns as this run's models see them."""
        self.model_name = ""
        self.workflow: Workflow | None = None
        self.cast: Cast | None = None
        """The workflow that answers, once it is known who has the word."""
        self.at_hand: AtHand | None = None
        """With a workflow: the turn as it was when the run began."""
        self.fault = ""
        """Why the run cannot be carried on; it ends with this."""
        self.titling: asyncio.Task[str] | None = None
        self.pending: list[ev.Event] = []
        self._log = log
        self._clock = clock
        self._sleep = sleep
        self._writing = asyncio.Lock()

    @property
    def history_tokens(self) -> int:
        """What must be read of the earlier turns, whoever gets the word."""
        members = () if self.workflow is None else self.workflow.members
        return max((self.agent.history_tokens, *(member.agent.history_tokens for member in members)))

    def note(self, event: ev.Event) -> None:
        self.state.add(event, at=self._clock.now(), tick=self._clock.monotonic())
        self.pending.append(event)

    def hear(self, entries: Sequence[Entry]) -> None:
        """Fold what others asked of the run, each entry once."""
        for entry in entries:
            if entry.seq > self.heard and isinstance(entry.event, ev.ASKS):
                self.state.add(entry.event, at=entry.at, seq=entry.seq, tick=self._clock.monotonic())
                self.heard = entry.seq

    async def look(self) -> None:
        """Read the tape itself for what others asked: whatever was committed by now is found."""
        now = self._clock.now()
        self.hear(await self.insist(lambda: self._log.read_run(self.claim)))
        self.state.waits.looked_at = now

    async def commit(self) -> None:
        """Put what is pending on the tape. Calls at the same time follow each other, and the later ones find what they
        noted written already or write it together."""
        async with self._writing:
            events, self.pending = self.pending, []
            if not events:
                return
            self.last = last = await self.insist(lambda: self._log.append(self.claim, events, after=self.last))
        for offset, event in enumerate(reversed(events)):
            if isinstance(event, ev.ReplyStarted):
                self.state.reply_seq = last - offset
                break

    async def confirm(self) -> None:
        """Raises StaleClaim if the run is no longer ours."""
        async with self._writing:
            await self.insist(lambda: self._log.append(self.claim, (), after=self.last))

    async def finish(self, event: ev.Event) -> Claim | None:
        """Write what is pending and the run's end; the claim of the run behind it."""
        events, self.pending = (*self.pending, event), []
        return await self.insist(
            lambda: self._log.finish(self.claim, events, after=self.last, weight=self.state.weight)
        )

    async def insist(self, work: Callable[[], Awaitable[R]]) -> R:
        return await insist(work, run=self.claim.run, sleep=self._sleep)
