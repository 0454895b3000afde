"""What others bring to runs that wait: decisions about calls, results of client tools, and who takes a call up.

Each is judged by the run's tape: read it, write what was brought if nothing stands in its way, and read again what
counts. Two who come at the same time are told apart by where their entries stand; whoever drives the run, in whichever
process, reads the same tape and comes to the same result.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, Expired, NotFound
from dragoman.core.names import CallId, Clock, ConversationId, Principal, RunId
from dragoman.core.operations import Operation, RunView
from dragoman.core.waits import (
    AnswerClientTool,
    ClaimClientTool,
    DecideApproval,
    ListApprovals,
    ListWaitingCalls,
    Settled,
    WaitingApproval,
    WaitingApprovals,
    WaitingCall,
    WaitingCalls,
)
from dragoman.runtime.fuses import blow
from dragoman.runtime.ports import Store
from dragoman.runtime.visibility import may_write, no_run, only_owner
from dragoman.runtime.waiting import GRACE_S, Approval, Asked, Held, Waits, asked_arguments

logger = logging.getLogger("dragoman.runtime")

RUNS_LOOKED_AT_MAX = 500
"""By one list of approvals: each costs the reading of its tape. The oldest come first, and those that wait are old."""


class _Place(Struct, frozen=True):
    """A run and the store it is in."""

    store: Store
    view: RunView


class _Read(Struct, frozen=True):
    """What a run's tape says. `ours` is the place of what was just written to it, 0 if it could not be written, None
    before."""

    waits: Waits
    ended: bool
    ours: int | None = None


Judge = Callable[[_Read], bool | None]
"""False: what we brought counts; True: it had been brought before; None: it may be brought. Raises Conflict, Expired,
NotFound."""


class Decisions:
    """`stores` are asked for a run in their order: those that keep runs, and those that do not."""

    def __init__(self, stores: Sequence[Store], clock: Clock) -> None:
        self._stores = tuple(stores)
        self._clock = clock

    def handlers(self) -> Mapping[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {
            DecideApproval: self.decide,
            ClaimClientTool: self.claim,
            AnswerClientTool: self.answer,
            ListWaitingCalls: self.waiting,
            ListApprovals: self.approvals,
        }

    # -- bringing something ----------------------------------------------------------------------------------------

    async def decide(self, principal: Principal, operation: DecideApproval) -> Settled:
        """Raises NotFound, Conflict, Expired (see the operation), Unavailable."""
        place = await self._find(principal, operation.run, operation.conversation, private=operation.private)
        event = ev.ApprovalDecided(operation.call, operation.approved, principal.owner, operation.arguments_hash)
        settled, waits = await self._bring(place, event, lambda read: self._judge_decision(read, operation))
        if not settled.repeated:
            tool = waits.approvals[operation.call].request.call.name
            decided = "approved" if operation.approved else "denied"
            told = "run %s: call %s of %s (arguments %s) was %s by %s"
            logger.info(told, settled.run, operation.call, tool, operation.arguments_hash, decided, principal.owner)
        return settled

    async def claim(self, principal: Principal, operation: ClaimClientTool) -> Settled:
        """Raises NotFound, Conflict, Expired (see the operation), Unavailable."""
        place = await self._find(principal, operation.run, None, private=operation.private)
        event = ev.ClientToolClaimed(operation.call, operation.claimed_by)
        settled, _ = await self._bring(place, event, lambda read: self._judge_claim(read, operation))
        return settled

    async def answer(self, principal: Principal, operation: AnswerClientTool) -> Settled:
        """Raises NotFound, Conflict, Expired (see the operation), Unavailable."""
        place = await self._find(principal, operation.run, operation.conversation, private=operation.private)
        event = ev.ClientToolAnswered(operation.call, operation.content, operation.is_error)
        settled, _ = await self._bring(place, event, lambda read: self._judge_answer(read, operation))
        return settled

    async def _bring(self, place: _Place, event: ev.Ask, judge: Judge) -> tuple[Settled, Waits]:
        """What became of it, and what the tape says then."""
        read = await self._read(place)
        repeated = judge(read)
        if repeated is None:
            seq = await place.store.ask(place.view.id, event)
            if seq and isinstance(event, ev.ApprovalDecided):
                blow("approval.decided")
            elif seq and isinstance(event, ev.ClientToolAnswered):
                blow("clienttool.answered")
            read = await self._read(place, ours=seq)
            repeated = judge(read)
        return Settled(place.view.id, place.view.conversation, bool(repeated)), read.waits

    # -- looking ---------------------------------------------------------------------------------------------------

    async def waiting(self, principal: Principal, operation: ListWaitingCalls) -> WaitingCalls:
        """Raises Unavailable."""
        found: list[WaitingCall] = []
        for store in self._stores:
            for info in await store.live_of(principal.project, principal.owner):
                view = await store.run(principal.project, info.live_run) if info.live_run is not None else None
                if view is not None:
                    read = await self._read(_Place(store, view))
                    found += self._calls(view, read.waits, operation.toolset)
        return WaitingCalls(tuple(sorted(found, key=lambda call: call.asked_at)))

    def _calls(self, view: RunView, waits: Waits, toolset: str) -> list[WaitingCall]:
        now = self._clock.now()
        return [
            WaitingCall(
                run=view.id,
                conversation=view.conversation,
                call=held.request.call,
                toolset=held.request.toolset,
                asked_at=held.asked_at,
                expires_at=held.request.expires_at,
                claimed_by=held.claim.claimed_by if held.claim is not None else "",
            )
            for call, held in waits.held.items()
            if call in waits.pending and held.request.expires_at > now and toolset in ("", held.request.toolset)
        ]

    async def approvals(self, principal: Principal, operation: ListApprovals) -> WaitingApprovals:
        """Raises Unavailable."""
        found: list[WaitingApproval] = []
        looked_at, more = 0, False
        for store in self._stores:
            for info in await store.live_of(principal.project, only_owner(principal)):
                if looked_at >= RUNS_LOOKED_AT_MAX:
                    more = True
                    break
                looked_at += 1
                view = await store.run(principal.project, info.live_run) if info.live_run is not None else None
                if view is not None:
                    found += self._asked(view, info.owner, await self._read(_Place(store, view)))
        return WaitingApprovals(tuple(sorted(found, key=lambda approval: approval.asked_at)), more)

    def _asked(self, view: RunView, owner: str, read: _Read) -> list[WaitingApproval]:
        now = self._clock.now()
        return [
            WaitingApproval(
                run=view.id,
                conversation=view.conversation,
                owner=owner,
                call=call,
                tool=approval.request.call.name,
                arguments=asked_arguments(approval.request.call),
                arguments_hash=approval.request.arguments_hash,
                asked_at=approval.asked_at,
                expires_at=approval.request.expires_at,
            )
            for call, approval in read.waits.approvals.items()
            if call in read.waits.pending and approval.request.expires_at > now and not read.ended
        ]

    async def _find(
        self, principal: Principal, run: RunId, conversation: ConversationId | None, *, private: bool
    ) -> _Place:
        for store in self._stores:
            view = await store.run(principal.project, run)
            if view is None:
                continue
            if conversation not in (None, view.conversation):
                break
            if private:
                info = await store.get(principal.project, view.conversation)
                if info is None or not may_write(info, principal):
                    break
            return _Place(store, view)
        raise no_run(run)

    async def _read(self, place: _Place, ours: int | None = None) -> _Read:
        waits, ended = Waits(), False
        for entry in await place.store.read_run(place.view):
            if isinstance(entry.event, Asked):
                waits.add(entry.event, at=entry.at, seq=entry.seq)
            ended = ended or isinstance(entry.event, ev.RunEnd)
        return _Read(waits, ended, ours)

    # -- judging ---------------------------------------------------------------------------------------------------

    def _judge_decision(self, read: _Read, operation: DecideApproval) -> bool | None:
        approval = read.waits.approvals.get(operation.call)
        if approval is None:
            raise NotFound(f"Nobody asked for approval of a call {operation.call} of this run.", what="approval")
        if approval.request.arguments_hash != operation.arguments_hash:
            raise Conflict("Other arguments are meant: look at what is asked now, and decide about that.")
        if approval.decision is not None:
            decided = "approved" if approval.decision.approved else "denied"
            same = approval.decision.approved == operation.approved
            return _standing(read, approval.decision_seq, same=same, otherwise=f"The call was {decided} already.")
        self._check_open(read, approval)
        return None

    def _judge_claim(self, read: _Read, operation: ClaimClientTool) -> bool | None:
        held = _held(read, operation.call)
        if held.claim is not None:
            same = held.claim.claimed_by == operation.claimed_by
            return _standing(read, held.claim_seq, same=same, otherwise="Somebody else has taken up this call.")
        if held.answer is not None:
            raise Conflict("The call has its result already.")
        self._check_open(read, held)
        return None

    def _judge_answer(self, read: _Read, operation: AnswerClientTool) -> bool | None:
        held = _held(read, operation.call)
        if held.answer is not None:
            same = (held.answer.content, held.answer.is_error) == (operation.content, operation.is_error)
            return _standing(read, held.answer_seq, same=same, otherwise="The call has another result already.")
        if operation.claimed_by and (held.claim is None or held.claim.claimed_by != operation.claimed_by):
            taken = "Somebody else has taken up this call." if held.claim else "Take up the call before you answer it."
            raise Conflict(taken)
        self._check_open(read, held)
        return None

    def _check_open(self, read: _Read, asked: Approval | Held) -> None:
        """Raises Expired if nothing that is brought can count any more, or what we brought came too late. Between the
        deadline and the end of the grace the store's clock decides, by where it puts the entry."""
        if read.ended:
            raise Expired("The run has ended; nothing is waited for any more.")
        too_late = self._clock.now() >= asked.request.expires_at + GRACE_S
        if asked.returned or too_late or read.ours is not None:
            raise Expired("The time for this call is over; the run goes on without it.")


def _held(read: _Read, call: CallId) -> Held:
    held = read.waits.held.get(call)
    if held is None:
        raise NotFound(f"This run does not wait for the result of a call {call}.", what="call")
    return held


def _standing(read: _Read, seq: int | None, *, same: bool, otherwise: str) -> bool:
    """Something counts, at `seq`: whether it had been brought before us. Raises Conflict if it says otherwise."""
    if seq == read.ours:
        return False
    if not same:
        raise Conflict(otherwise)
    return True
