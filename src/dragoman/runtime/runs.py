"""Runs: start, follow, cancel. The door through which the desk reaches the runtime.

A run belongs to nobody's request: it is a task of the process, and a reader that goes away changes nothing for it.
Every reader, also the one that only waits for the end, reads the tape from a cursor; wake-ups carry nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, NotFound, Unavailable
from dragoman.core.events import Entry
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import ConversationId, Principal, ProjectId, RunId
from dragoman.core.operations import CancelRun, Outcome, RunView, Started, StartTurn, Timeline
from dragoman.runtime.driver import Driver, Seed
from dragoman.runtime.ports import Claim, NewTurn, StaleClaim, Store

logger = logging.getLogger("dragoman.runtime")

INTERNAL_ERROR = "The assistant failed for a reason that lies with the server; its log has the details."
STOPPING = "The server is stopping; the answer is finished after its next start."
NOT_STOPPED = "The run could not be stopped, for its end could not be written; try again in a moment."

OPEN = ("queued", "running")
"""`RunView.status` of runs that have not ended."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task in the task group that owns runs: the lifespan's."""

Changed = Callable[[ProjectId, ConversationId], Awaitable[None]]
"""Told when a turn has ended or a conversation came or went; returns once what is derived from its tape is up to date,
or cannot be brought there. Raises nothing but for cancellation."""


class _Live:
    """A run this process drives, and who asked to stop it."""

    __slots__ = ("cancelled_by", "claim", "driving", "task")

    def __init__(self, claim: Claim, *, cancelled_by: str | None = None) -> None:
        self.claim = claim
        self.cancelled_by = cancelled_by
        self.driving = False
        """Its steps are being carried out, and a cancel may cut in. Before, it is enough to say so; after, too late."""
        self.task: asyncio.Task[None]


class Runs:
    def __init__(
        self,
        store: Store,
        driver: Driver,
        *,
        spawn: Spawn,
        new_id: Callable[[], RunId],
        queue_max: int,
        changed: Changed | None = None,
    ) -> None:
        self._store = store
        self._driver = driver
        self._spawn = spawn
        self._new_id = new_id
        self._queue_max = queue_max
        self._changed = changed
        self._live: dict[RunId, _Live] = {}
        self._line = _Line()

    @property
    def live(self) -> int:
        return len(self._live)

    def drives(self, run: RunId) -> bool:
        return run in self._live

    async def settled(self) -> None:
        """Return when no run is live, nor one that began meanwhile."""
        while self._live:
            await asyncio.wait([live.task for live in self._live.values()])

    async def start(self, principal: Principal, turn: StartTurn) -> Started:
        """Accept a turn; once this returns it is committed. Raises NotFound, LimitReached (queue full), Unavailable."""
        run = self._new_id()
        received = ev.TurnReceived(
            turn.messages,
            agent=turn.agent,
            model=turn.model,
            instructions=turn.instructions,
            client_tools=turn.client_tools,
            deltas=turn.deltas,
            origin=turn.origin,
            credential_id=principal.credential_id,
        )
        created = ev.ConversationCreated(
            principal.project, turn.conversation, origin=turn.origin, owner=principal.credential_id
        )
        accepted = await self._store.accept(
            NewTurn(principal.project, turn.conversation, run, received, created, turn.must_exist, self._queue_max)
        )
        if accepted.claim is not None:
            self.drive(accepted.claim, Seed(received, seq=accepted.seq, fresh=accepted.created))
        return Started(turn.conversation, accepted.tape, run, accepted.seq, accepted.created, turn.ephemeral)

    def drive(self, claim: Claim, seed: Seed | None = None) -> None:
        """Begin to drive a claimed run, in a task of its own. A claim that became stale on its way here is let go."""
        self._begin(_Live(claim), seed)

    def _begin(self, live: _Live, seed: Seed | None = None) -> None:
        run = live.claim.run
        current = self._live.get(run)
        if current is not None:
            if current.claim.epoch >= live.claim.epoch:
                return
            live.cancelled_by = live.cancelled_by or current.cancelled_by
            current.task.cancel()
        live.task = self._spawn(self._carry(live, seed))
        self._live[run] = live
        # Not left to the task itself: one that is cancelled before its first step never runs a line.
        live.task.add_done_callback(lambda _: self._forget(live))

    def _forget(self, live: _Live) -> None:
        if self._live.get(live.claim.run) is live:
            del self._live[live.claim.run]

    async def _carry(self, live: _Live, seed: Seed | None) -> None:
        """A run's task. Nothing but a stop of the process gets out of it: it shares its task group with all others."""
        claim = live.claim
        following: Claim | None = None
        try:
            following = await self._drive(live, seed)
        except Unavailable as error:
            # The store could not take what happened. Nothing was spoken; recovery will claim the run again.
            logger.error("run %s: put down, to be taken up again: %s", claim.run, error)
        except Exception:
            logger.exception("run %s: could not even be ended", claim.run)
        if following is not None:
            self.drive(following)
        if self._changed is not None:
            await self._changed(claim.project, claim.conversation)

    async def _drive(self, live: _Live, seed: Seed | None) -> Claim | None:
        """Carry a run to its end; the claim of the run behind it. Raises Unavailable when that cannot be written."""
        claim = live.claim
        failed = False
        try:
            if live.cancelled_by is None:
                live.driving = True
                return await self._driver.drive(claim, seed)
        except asyncio.CancelledError:
            if live.cancelled_by is None:
                raise  # the process is stopping: the run stays unfinished and is taken up at the next start
            live.task.uncancel()
        except StaleClaim:
            logger.info("run %s: no longer ours (epoch %d)", claim.run, claim.epoch)
            return None
        except Unavailable:
            raise
        except Exception:
            # A fault of ours must not be tried again for ever.
            logger.exception("run %s: failed for a reason that is ours", claim.run)
            failed = True
        finally:
            live.driving = False
        cancelled_by = live.cancelled_by or ""
        if failed:
            return await self._end(claim, lambda usage: ev.RunFailed("internal_error", INTERNAL_ERROR, usage))
        return await self._end(claim, lambda usage: ev.RunCancelled(cancelled_by, usage))

    async def _end(self, claim: Claim, ending: Callable[[Usage], ev.RunEnd]) -> Claim | None:
        try:
            return await self._driver.end(claim, ending)
        except StaleClaim:
            # It may have ended in the very call that was cut off, and with that the claim of the run behind was lost.
            await self._adopt(claim)
            return None

    async def _adopt(self, ended: Claim) -> None:
        """Drive the run behind one that has ended, if it is claimed and nobody does."""
        for view in await self._store.unfinished():
            if view.tape == ended.tape and view.id != ended.run and view.id not in self._live:
                claim = await self._store.reclaim(view.id)
                if claim is not None:
                    self.drive(claim)

    # -- readers ---------------------------------------------------------------------------------------------------

    def reader(self, started: Started, *, after: int | None = None) -> "Reader":
        """A reader of the run's entries beyond `after` (default: all but its TurnReceived)."""
        return Reader(self._store, self._line, started, after)

    async def outcome(self, started: Started) -> Outcome:
        """Wait for the run's end and fold it. Raises Conflict if the conversation is deleted meanwhile; Unavailable."""
        fold = OutcomeFold()
        reader = self.reader(started)
        while entries := await reader.batch():
            for entry in entries:
                fold.add(entry)
        live = self._live.get(started.run)
        if live is not None and self._changed is not None:
            await asyncio.wait([live.task])  # whoever has the answer finds it in all that is derived from the tape
        return fold.outcome(started)

    def hang_up(self) -> None:
        """Send all readers away with Unavailable, from now on: the process stops before their runs have ended."""
        self._line.cut()

    async def timeline(self, project: ProjectId, run: RunId) -> Timeline:
        """Raises NotFound."""
        view = await self._view(project, run)
        return Timeline(view, tuple(await self._store.read_run(view)))

    # -- stopping --------------------------------------------------------------------------------------------------

    async def cancel(self, principal: Principal, operation: CancelRun) -> RunView:
        """Stop a run, live or waiting; returns it as it stands after. Asking twice is harmless.

        Raises NotFound, and Unavailable if its end could not be written.
        """
        view = await self._view(principal.project, operation.run)
        if view.status in OPEN and not await self.stop(view.id, cancelled_by=principal.credential_id):
            await self._stop_undriven(view.id, cancelled_by=principal.credential_id)
            if self._changed is not None:
                await self._changed(principal.project, view.conversation)
        view = await self._view(principal.project, operation.run)
        if view.status in OPEN:
            raise Unavailable(NOT_STOPPED)
        return view

    async def stop(self, run: RunId, *, cancelled_by: str) -> bool:
        """Stop a run that this process drives, and wait until nothing of it is at work; False if it drives no such."""
        if run not in self._live:
            return False
        while (live := self._live.get(run)) is not None:  # another attempt may take its place meanwhile
            if live.cancelled_by is None:
                live.cancelled_by = cancelled_by
                if live.driving:
                    live.task.cancel()
            await asyncio.wait([live.task])
        return True

    async def _stop_undriven(self, run: RunId, *, cancelled_by: str) -> None:
        """End a run that waits, or that is claimed and was put down."""
        if await self._store.end_waiting(run, ev.RunCancelled(cancelled_by)):
            return
        if not await self.stop(run, cancelled_by=cancelled_by):  # it may have come to its turn just now
            claim = await self._store.reclaim(run)
            if claim is not None:
                self._begin(_Live(claim, cancelled_by=cancelled_by))
                await self.stop(run, cancelled_by=cancelled_by)

    async def _view(self, project: ProjectId, run: RunId) -> RunView:
        view = await self._store.run(project, run)
        if view is None:
            raise NotFound(f"There is no run {run}.", what="run")
        return view


class _Line:
    """What readers wait on, so that all can be sent away at once."""

    def __init__(self) -> None:
        self._is_cut = False
        self._waiting: set[asyncio.Task[Any]] = set()

    def cut(self) -> None:
        if self._is_cut:
            return
        self._is_cut = True
        for task in self._waiting:
            task.cancel()

    async def wait(self, grown: Callable[[], Awaitable[None]]) -> None:
        """Raises Unavailable once the line is cut."""
        if self._is_cut:
            raise Unavailable(STOPPING)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a reader waits in a task")
        cancelled_before = task.cancelling()
        self._waiting.add(task)
        try:
            await grown()
        except asyncio.CancelledError:
            # As asyncio.timeout does it: ours is taken back, and if it was the only one, we speak for it.
            if not self._is_cut or task.uncancel() > cancelled_before:
                raise
            raise Unavailable(STOPPING) from None
        finally:
            self._waiting.discard(task)


class Reader:
    """A cursor over one run's entries. It has one source, the tape, and forgets nothing when a wait is cancelled."""

    def __init__(self, store: Store, line: _Line, started: Started, after: int | None) -> None:
        self._store = store
        self._line = line
        self._started = started
        self.cursor = started.seq if after is None else after
        self._resumed = after is not None
        """The run may have ended before the cursor, so that no further entry will say so."""
        self._done = False

    async def batch(self) -> Sequence[Entry]:
        """The run's next entries, as soon as there are any; empty if its end was given or stands before the cursor.

        May be cancelled and called again. Raises Conflict if the conversation is deleted meanwhile; Unavailable.
        """
        store, tape, run = self._store, self._started.tape, self._started.run
        ended = woken = False
        while not self._done:
            entries = await store.read(tape, after=self.cursor)
            if entries:
                woken = False
                self.cursor = entries[-1].seq
                ours = [entry for entry in entries if entry.run == run]
                if ours:
                    self._done = isinstance(ours[-1].event, ev.RunEnd)
                    return ours
            elif ended:
                self._done = True
            elif woken or self._resumed:
                ended = await self._has_ended()  # if so, its end was committed by now: read once more
                woken = self._resumed = False
            else:
                await self._line.wait(lambda: store.grown(tape, after=self.cursor))
                woken = True
        return ()

    async def _has_ended(self) -> bool:
        view = await self._store.run(None, self._started.run)
        if view is None:
            raise Conflict("The conversation was deleted while the answer was being written.")
        return view.status not in OPEN


class OutcomeFold:
    """A run's entries -> its Outcome. Of a reply that was reset nothing remains."""

    def __init__(self) -> None:
        self._text = ""
        self._replies = 0
        self._calls: list[ToolCall] = []
        self._end: ev.RunEnd | None = None

    def add(self, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, ev.ReplyFinished):
            self._text = event.text
            self._replies += 1
            self._calls.extend(event.calls)
        elif isinstance(event, ev.RunEnd):
            self._end = event

    def outcome(self, started: Started) -> Outcome:
        if self._end is None:
            raise RuntimeError(f"run {started.run} has no end yet")
        usage: Usage = self._end.usage
        return Outcome(started, self._end, self._text, self._replies, tuple(self._calls), usage)
