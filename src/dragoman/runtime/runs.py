"""Runs: start, follow, cancel. The door through which the desk reaches the runtime.

A run belongs to nobody's request: it is a task of the process, and a reader that goes away changes nothing for it.
Every reader, also the one that only waits for the end, reads the tape from a cursor; wake-ups carry nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, DragomanError, NotFound
from dragoman.core.events import Entry
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import ConversationId, Principal, ProjectId, RunId
from dragoman.core.operations import CancelRun, Outcome, RunView, Started, StartTurn, Timeline
from dragoman.runtime.driver import Driver, Seed
from dragoman.runtime.ports import Claim, NewTurn, StaleClaim, Store

logger = logging.getLogger("dragoman.runtime")

INTERNAL_ERROR = "The assistant failed for a reason that lies with the server; its log has the details."

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task in the task group that owns runs: the lifespan's."""

Changed = Callable[[ProjectId, ConversationId], None]
"""Told after a turn ended or a conversation went, so that what is derived from tapes can be brought up to date."""


class _Live:
    """A run this process drives, and who asked to stop it."""

    __slots__ = ("cancelled_by", "claim", "task")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.task: asyncio.Task[None] | None = None
        self.cancelled_by: str | None = None


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

    @property
    def live(self) -> int:
        return len(self._live)

    def drives(self, run: RunId) -> bool:
        return run in self._live

    async def settled(self) -> None:
        """Return when no run is live, nor one that began meanwhile."""
        while tasks := [live.task for live in self._live.values() if live.task is not None]:
            await asyncio.wait(tasks)

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
        """Begin to drive a claimed run, in a task of its own."""
        live = _Live(claim)
        self._live[claim.run] = live
        live.task = self._spawn(self._carry(live, seed))

    async def _carry(self, live: _Live, seed: Seed | None) -> None:
        """A run's task. Nothing but a stop of the process gets out of it: it shares its task group with all others."""
        claim = live.claim
        following: Claim | None = None
        try:
            following = await self._drive(live, seed)
        except DragomanError as error:
            # The store could not take what happened. Nothing was spoken; recovery will claim the run again.
            logger.error("run %s: put down, to be taken up again: %s", claim.run, error)
        except Exception:
            logger.exception("run %s: could not even be ended", claim.run)
        finally:
            self._live.pop(claim.run, None)
        if following is not None:
            self.drive(following)
        if self._changed is not None:
            self._changed(claim.project, claim.conversation)

    async def _drive(self, live: _Live, seed: Seed | None) -> Claim | None:
        claim = live.claim
        try:
            return await self._driver.drive(claim, seed)
        except asyncio.CancelledError:
            if live.cancelled_by is None:
                raise  # the process is stopping: the run stays unfinished and is taken up at the next start
            if live.task is not None:
                live.task.uncancel()
        except StaleClaim:
            logger.info("run %s: no longer ours (epoch %d)", claim.run, claim.epoch)
            return None
        except DragomanError:
            raise
        except Exception:
            # A fault of ours must not be tried again for ever.
            logger.exception("run %s: failed for a reason that is ours", claim.run)
            return await self._end(live, lambda usage: ev.RunFailed("internal_error", INTERNAL_ERROR, usage))
        cancelled_by = live.cancelled_by
        following = await self._end(live, lambda usage: ev.RunCancelled(cancelled_by, usage))
        if following is None:
            await self._adopt(live)
        return following

    async def _end(self, live: _Live, ending: Callable[[Usage], ev.RunEnd]) -> Claim | None:
        try:
            return await self._driver.end(live.claim, ending)
        except StaleClaim:
            return None

    async def _adopt(self, live: _Live) -> None:
        """Drive the run behind `live` if its claim was lost: a cancel may cut off the very call that brought it."""
        for view in await self._store.unfinished():
            if view.tape == live.claim.tape and view.id != live.claim.run and view.id not in self._live:
                claim = await self._store.reclaim(view.id)
                if claim is not None:
                    self.drive(claim)

    # -- readers ---------------------------------------------------------------------------------------------------

    def reader(self, started: Started, *, after: int | None = None) -> "Reader":
        """A reader of the run's entries beyond `after` (default: all but its TurnReceived)."""
        return Reader(self._store, started, started.seq if after is None else after)

    async def outcome(self, started: Started) -> Outcome:
        """Wait for the run's end and fold it. Raises Conflict if the conversation is deleted meanwhile."""
        fold = OutcomeFold()
        reader = self.reader(started)
        while entries := await reader.batch():
            for entry in entries:
                fold.add(entry)
        return fold.outcome(started)

    async def timeline(self, project: ProjectId, run: RunId) -> Timeline:
        """Raises NotFound."""
        view = await self._view(project, run)
        return Timeline(view, tuple(await self._store.read_run(view)))

    async def cancel(self, principal: Principal, operation: CancelRun) -> RunView:
        """Stop a run, live or waiting; returns it as it stands after. Asking twice is harmless. Raises NotFound."""
        view = await self._view(principal.project, operation.run)
        await self.stop(view.id, cancelled_by=principal.credential_id)
        return await self._view(principal.project, operation.run)

    async def stop(self, run: RunId, *, cancelled_by: str) -> None:
        live = self._live.get(run)
        if live is None:
            await self._store.end_waiting(run, ev.RunCancelled(cancelled_by))
            return
        if live.cancelled_by is None and live.task is not None:
            live.cancelled_by = cancelled_by
            live.task.cancel()
        if live.task is not None:
            await asyncio.wait([live.task])

    async def _view(self, project: ProjectId, run: RunId) -> RunView:
        view = await self._store.run(project, run)
        if view is None:
            raise NotFound(f"There is no run {run}.", what="run")
        return view


class Reader:
    """A cursor over one run's entries. It has one source, the tape, and forgets nothing when a wait is cancelled."""

    def __init__(self, store: Store, started: Started, after: int) -> None:
        self._store = store
        self._started = started
        self.cursor = after
        self._done = False

    async def batch(self) -> Sequence[Entry]:
        """The next entries of the run, as soon as there are any; empty once its end was given.

        May be cancelled and called again. Raises Conflict if the conversation is deleted meanwhile.
        """
        store, tape, run = self._store, self._started.tape, self._started.run
        woken = False
        while not self._done:
            entries = await store.read(tape, after=self.cursor)
            if not entries:
                if woken:
                    await self._still_there()
                await store.grown(tape, after=self.cursor)
                woken = True
                continue
            self.cursor = entries[-1].seq
            ours = [entry for entry in entries if entry.run == run]
            if ours:
                self._done = isinstance(ours[-1].event, ev.RunEnd)
                return ours
        return ()

    async def _still_there(self) -> None:
        if await self._store.run(None, self._started.run) is None:
            raise Conflict("The conversation was deleted while the answer was being written.")


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
