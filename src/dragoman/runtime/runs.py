"""Runs: start, follow, cancel. The door through which the desk reaches the runtime.

A run belongs to nobody's request: it is a task of the process, and a reader that goes away changes nothing for it.
Every reader, also the one that only waits for the end, reads the tape from a cursor; wake-ups carry nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

from dragoman.core import events as ev
from dragoman.core.errors import Unavailable
from dragoman.core.names import ConversationId, Principal, ProjectId, RunId, Scope
from dragoman.core.operations import (
    CancelRun,
    Following,
    FollowRun,
    Mark,
    Outcome,
    RunView,
    Started,
    StartTurn,
    Timeline,
)
from dragoman.runtime.driver import Driver, NewerVersion, Seed
from dragoman.runtime.live import Live, PutDown
from dragoman.runtime.ports import Claim, NewTurn, StaleClaim, Store
from dragoman.runtime.readers import OPEN, STOPPING, STOPPING_FOR_GOOD, Line, OutcomeFold, Reader, resume_run
from dragoman.runtime.run_state import RunState
from dragoman.runtime.visibility import may_read, may_write, no_run, only_owner

logger = logging.getLogger("dragoman.runtime")

INTERNAL_ERROR = "The assistant failed for a reason that lies with the server; its log has the details."

CANCEL_ANSWER_S = 0.15
"""How long an answer to a cancel waits for the run's end. The wish is committed by then, and what is left takes its
time: a tool that must be stopped, another process that must be told (promise G11: answered within 0.2 s)."""
CANCEL_LOOK_S = 0.025
LET_GO_S = 0.2
NO_MARK = Mark()

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task in the task group that owns runs: the lifespan's."""

Changed = Callable[[ProjectId, ConversationId], Awaitable[None]]
"""Told when a turn has ended or a conversation came or went; returns once what is derived from its tape is up to date,
or cannot be brought there. Raises nothing but for cancellation."""


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
        lasting: bool = True,
    ) -> None:
        """`lasting`: what the store holds outlives the process, so that its runs can go on in another."""
        self._store = store
        self._driver = driver
        self._spawn = spawn
        self._new_id = new_id
        self._queue_max = queue_max
        self._changed = changed
        self._live: dict[RunId, Live] = {}
        self.lasting = lasting
        self._line = Line(STOPPING if lasting else STOPPING_FOR_GOOD)
        self._closing = False

    @property
    def live(self) -> int:
        return len(self._live)

    @property
    def closing(self) -> bool:
        """Nothing that another process may do is taken up any more."""
        return self._closing

    def close(self) -> None:
        """Begin to stop. Runs that only wait are handed back as soon as they do: nobody could be answered here."""
        self._closing = True
        for live in self._live.values():
            live.inbox.close()

    def claims(self) -> tuple[Claim, ...]:
        return tuple(live.claim for live in self._live.values())

    async def settled(self) -> None:
        """Return when no run is live, nor one that began meanwhile."""
        while self._live:
            await asyncio.wait([live.task for live in self._live.values()])

    async def start(self, principal: Principal, turn: StartTurn, mark: Mark = NO_MARK) -> Started:
        """Accept a turn; once this returns it is committed. A repeat, told by its mark, gets the first one's `Started`.

        Raises NotFound, LimitReached (queue full), KeyReused, Unavailable.
        """
        run = self._new_id()
        kind = ev.TurnReceived if turn.staging is None else ev.TurnStaged
        received = kind(
            turn.messages,
            agent=turn.agent,
            model=turn.model,
            instructions=turn.instructions,
            client_tools=turn.client_tools,
            deltas=turn.deltas,
            origin=turn.origin,
            credential_id=principal.credential_id,
            fingerprint=mark.fingerprint,
            owner=principal.owner,
            owner_name=principal.name,
            owner_wide=principal.may(Scope.RESOURCES_WRITE),
            system=turn.system,
            loop=turn.loop,
            screen=turn.screen,
            whole=turn.whole,
            restates=turn.restates,
            staging=turn.staging,
        )
        created = ev.ConversationCreated(
            principal.project,
            turn.conversation,
            origin=turn.origin,
            owner=principal.owner,
            title=turn.title,
            workflow=turn.staging.workflow if turn.staging is not None else "",
        )
        accepted = await self._store.accept(
            NewTurn(
                principal.project,
                turn.conversation,
                run,
                received,
                created,
                must_exist=turn.must_exist,
                queue_max=self._queue_max,
                mark=mark,
                only_owner=only_owner(principal) if turn.private else "",
            )
        )
        if accepted.claim is not None:
            self.drive(accepted.claim, Seed(received, seq=accepted.seq, fresh=accepted.created))
        return Started(
            accepted.conversation,
            accepted.tape,
            accepted.run,
            accepted.seq,
            accepted.created,
            turn.ephemeral,
            accepted.replayed,
        )

    def drive(self, claim: Claim, seed: Seed | None = None) -> None:
        """Begin to drive a claimed run, in a task of its own. A claim that became stale on its way here is let go."""
        self._begin(Live(claim), seed)

    def _begin(self, live: Live, seed: Seed | None = None) -> None:
        run = live.claim.run
        current = self._live.get(run)
        if current is not None:
            if current.claim.epoch >= live.claim.epoch:
                return
            live.cancelled_by = live.cancelled_by or current.cancelled_by
            current.task.cancel()
        if self._closing:
            live.inbox.close()
        live.task = self._spawn(self._carry(live, seed))
        self._live[run] = live
        # Not left to the task itself: one that is cancelled before its first step never runs a line.
        live.task.add_done_callback(lambda _: self._forget(live))

    def _forget(self, live: Live) -> None:
        if self._live.get(live.claim.run) is live:
            del self._live[live.claim.run]

    async def _carry(self, live: Live, seed: Seed | None) -> None:
        """A run's task. Nothing but a stop of the process gets out of it: it shares its task group with all others."""
        claim = live.claim
        following: Claim | None = None
        try:
            following = await self._drive(live, seed)
        except PutDown:
            logger.info("run %s: handed back while it waits for somebody", claim.run)
            await self._give_up((claim,))
            self._line.cut_off(claim.tape)  # whoever decides reads on where decisions are taken
        except NewerVersion as error:
            # It keeps its lease, so that it is not tried again at once.
            logger.warning("run %s: left alone: %s", claim.run, error)
        except Unavailable as error:
            # The store could not take what happened. Nothing was spoken; recovery will claim the run again.
            logger.error("run %s: put down, to be taken up again: %s", claim.run, error)
            await self._give_up((claim,))
        except Exception:
            logger.exception("run %s: could not even be ended", claim.run)
        if following is not None:
            self.drive(following)
        if self._changed is not None:
            await self._changed(claim.project, claim.conversation)

    async def _drive(self, live: Live, seed: Seed | None) -> Claim | None:
        """Carry a run to its end; the claim of the run behind it. Raises Unavailable when that cannot be written."""
        claim = live.claim
        failed = False
        try:
            if live.cancelled_by is None:
                live.driving = True
                return await self._driver.drive(claim, seed, live.inbox)
        except asyncio.CancelledError:
            if live.lost:
                live.task.uncancel()
                logger.info("run %s: taken over by another process (epoch %d)", claim.run, claim.epoch)
                await self._adopt(claim)
                return None
            if live.cancelled_by is None:
                raise  # the process is stopping: the run stays unfinished and is taken up at the next start
            live.task.uncancel()
        except StaleClaim:
            logger.info("run %s: no longer ours (epoch %d)", claim.run, claim.epoch)
            return None
        except (PutDown, Unavailable):
            raise
        except Exception:
            # A fault of ours must not be tried again for ever.
            logger.exception("run %s: failed for a reason that is ours", claim.run)
            failed = True
        finally:
            live.driving = False
        cancelled_by = live.cancelled_by or ""
        if failed:
            return await self._end(claim, lambda state: ev.RunFailed("internal_error", INTERNAL_ERROR, state.usage))
        return await self._end(claim, lambda state: ev.RunCancelled(state.cancelled_by or cancelled_by, state.usage))

    async def _end(self, claim: Claim, ending: Callable[[RunState], ev.RunEnd]) -> Claim | None:
        try:
            return await self._driver.end(claim, ending)
        except StaleClaim:
            # It may have ended in the very call that was cut off, and with that the claim of the run behind was lost.
            await self._adopt(claim)
            return None

    async def _adopt(self, ended: Claim) -> None:
        """Drive the run behind one that has ended, if it is claimed and nobody does."""
        info = await self._store.get(ended.project, ended.conversation)
        following = info.live_run if info is not None else None
        if following is None or following == ended.run or following in self._live:
            return
        claim = await self._store.reclaim(following)
        if claim is not None:
            self.drive(claim)

    async def _give_up(self, claims: Sequence[Claim]) -> None:
        try:
            await self._store.release(claims)
        except Unavailable as error:
            logger.warning("%d runs could not be handed back, their leases will run out: %s", len(claims), error)

    async def hand_back(self) -> None:
        """Stop all runs without ending them, and let other processes have them at once (promise G12)."""
        self._closing = True
        left = list(self._live.values())
        for live in left:
            live.task.cancel()
        if left:
            await asyncio.wait([live.task for live in left])
            await self._give_up([live.claim for live in left])

    async def let_go(self, lost: Collection[RunId]) -> None:
        """Stop driving runs that are no longer ours (promise G5)."""
        suspects = [live for run, live in self._live.items() if run in lost]
        if suspects:
            # A run that has just ended is no longer ours either, and its task is about to say so by itself.
            await asyncio.wait([live.task for live in suspects], timeout=LET_GO_S)
        for live in suspects:
            if self._live.get(live.claim.run) is live and live.driving:
                live.lost = True
                live.task.cancel()

    async def hear(self, asked: Mapping[RunId, int]) -> None:
        """Others asked something of these runs; the seq of the last of it. What is new goes to their drivers, but for a
        wish to cancel, which cuts in. Raises Unavailable; then what was not heard is new the next time."""
        for run, seq in asked.items():
            live = self._live.get(run)
            if live is not None and seq > live.heard:
                live.hear(await self._store.read_run(live.claim))

    # -- readers ---------------------------------------------------------------------------------------------------

    @property
    def line(self) -> Line:
        """What all readers of this store wait on."""
        return self._line

    async def check_private(self, principal: Principal, run: RunId, *, write: bool) -> None:
        """Raises NotFound unless the run's conversation is there for the principal to read, or to write."""
        view = await self._view(principal.project, run)
        info = await self._store.get(principal.project, view.conversation)
        if info is None or not (may_write if write else may_read)(info, principal):
            raise no_run(run)

    def reader(self, started: Started, *, after: int | None = None, reader: Principal | None = None) -> Reader:
        """A reader of the run's entries beyond `after` (default: all but its TurnReceived). `reader`: who reads, if it
        may be there for it only while its conversation is shared."""
        return Reader(self._store, self._line, started, after, reader=reader)

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

    async def follow(self, project: ProjectId, operation: FollowRun) -> Following:
        """Where a reader of the run begins. Raises NotFound; BadRequest if the cursor is beyond the tape; Expired if
        what follows it is kept no longer."""
        view = await self._view(project, operation.run)
        return await resume_run(self._store, project, view, after=operation.after)

    async def ended(self, project: ProjectId, run: RunId) -> bool:
        """Raises NotFound."""
        return (await self._view(project, run)).status not in OPEN

    async def keep_answer(self, project: ProjectId, key: str, answer: bytes) -> None:
        """Keep what was answered to a request with a key, for its repeats."""
        await self._store.keep_answer(project, key, answer)

    async def answer_kept(self, project: ProjectId, key: str) -> bytes | None:
        return await self._store.answer_kept(project, key)

    async def timeline(self, project: ProjectId, run: RunId) -> Timeline:
        """Raises NotFound."""
        view = await self._view(project, run)
        return Timeline(view, tuple(await self._store.read_run(view)))

    # -- stopping --------------------------------------------------------------------------------------------------

    async def cancel(self, principal: Principal, operation: CancelRun) -> RunView:
        """Stop a run, live or waiting, whoever drives it; returns it as it stands after CANCEL_ANSWER_S at most. The
        wish is committed by then. Asking twice is harmless.

        Raises NotFound, and Unavailable if the wish could not be written.
        """
        view = await self._view(principal.project, operation.run)
        if view.status not in OPEN:
            return view
        by = principal.credential_id
        if await self._store.end_waiting(view.id, ev.RunCancelled(by)):
            if self._changed is not None:
                await self._changed(principal.project, view.conversation)
            return await self._view(principal.project, operation.run)
        if await self._store.ask(view.id, ev.CancelAsked(by)):
            live = self._live.get(view.id)
            if live is not None:
                live.cancel("")  # who it was stands on the tape
            else:
                claim = await self._store.reclaim(view.id)  # nobody drives it, or another process does, and was told
                if claim is not None:
                    self.drive(claim)
        return await self._ended_soon(principal.project, view)

    async def _ended_soon(self, project: ProjectId, view: RunView) -> RunView:
        live = self._live.get(view.id)
        if live is not None:
            await asyncio.wait([live.task], timeout=CANCEL_ANSWER_S)
            return await self._view(project, view.id)
        looks = round(CANCEL_ANSWER_S / CANCEL_LOOK_S)
        while (now := await self._view(project, view.id)).status in OPEN and looks:
            looks -= 1
            await asyncio.sleep(CANCEL_LOOK_S)
        return now

    async def stop(self, run: RunId, *, cancelled_by: str) -> bool:
        """Stop a run that this process drives, and wait until nothing of it is at work; False if it drives no such."""
        if run not in self._live:
            return False
        while (live := self._live.get(run)) is not None:  # another attempt may take its place meanwhile
            live.cancel(cancelled_by)
            await asyncio.wait([live.task])
        return True

    async def _view(self, project: ProjectId, run: RunId) -> RunView:
        view = await self._store.run(project, run)
        if view is None:
            raise no_run(run)
        return view
