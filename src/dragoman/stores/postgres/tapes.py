"""What can be done to tapes, each as a plan over a writer's books.

A plan that refuses (StaleClaim, NotFound, LimitReached, Conflict) does so before it has changed anything: its
neighbours in the batch are written all the same. One that must know more first raises Look.
"""

from collections.abc import Sequence

from dragoman.core import events as ev
from dragoman.core.events import Event, dump_event
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import ConversationInfo
from dragoman.runtime.keeping import (
    conversation_at_work,
    conversation_taken,
    counted,
    counted_import,
    key_reused,
    no_conversation,
    queue_full,
    refuse_stranger,
    stale,
    stale_after,
    status_of,
    users_in,
    weight_of_import,
)
from dragoman.runtime.ports import Accepted, Claim, NewTurn, StaleClaim
from dragoman.stores.postgres.books import SEQ_BITS, SEQ_MASK, Before, Behind, Books, OpenRun, OpenTape, microseconds
from dragoman.stores.postgres.books import place as place_of


class Look(Exception):
    """It may be that this was written before and only the word of it was lost: somebody must look."""

    def __init__(self, claim: Claim, after: int, count: int) -> None:
        super().__init__(claim, after, count)
        self.claim = claim
        self.after = after
        self.count = count


def accept(books: Books, turn: NewTurn, bodies: Sequence[str]) -> Accepted:
    """`bodies`: those of `turn.created` and `turn.received`."""
    before = _accepted_before(books, turn)
    if before is not None:
        return before
    tape = books.tape_of(turn.project, turn.conversation)
    created = tape is None
    if tape is None:
        if turn.must_exist:
            raise no_conversation(turn.conversation)
        tape = books.new_tape(turn.created)
    else:
        refuse_stranger(turn, tape.owner)
        if len(tape.runs) > turn.queue_max:
            raise queue_full(len(tape.runs) - 1)
    seq = tape.head + 1 + created
    run = books.new_run(tape, turn.run, seq=seq, users=users_in(turn.received))
    run.fingerprint = turn.received.fingerprint
    if created:
        books.write(tape, None, (turn.created,), bodies[:1])
    books.write(tape, run, (turn.received,), bodies[1:])
    tape.runs.append(run)
    claim = _claim(books, tape, run) if tape.runs[0] is run else None
    tape.turns += 1
    books.change(tape)
    _keep_mark(books, turn, run)
    return Accepted(tape.conversation, tape.number, run.id, seq, created, claim)


def append(books: Books, claim: Claim, events: Sequence[Event], bodies: Sequence[str], after: int) -> int:
    tape, run = _owned(books, claim)
    if not events:
        return after
    if after != tape.written:
        behind = _behind(books, claim, after, len(bodies))
        if behind.bodies is None or list(behind.bodies) != list(bodies):
            raise stale_after(claim, after)
        return behind.seq
    tape.written = books.write(tape, run, events, bodies)
    return tape.written


def finish(
    books: Books, claim: Claim, events: Sequence[Event], bodies: Sequence[str], after: int, weight: int
) -> Claim | None:
    try:
        tape, run = _owned(books, claim)
    except StaleClaim:
        behind = _behind(books, claim, after, len(bodies))
        if behind.bodies is None:
            raise
        if list(behind.bodies) != list(bodies):
            raise stale_after(claim, after) from None
        return behind.following
    if after != tape.written:
        raise stale_after(claim, after)
    books.write(tape, run, events, bodies, weight=weight)
    _end(books, tape, run, events[-1])
    return _claim(books, tape, tape.runs[0]) if tape.runs else None


def take(books: Books, number: Tape) -> Claim | None:
    """Take the live run of a tape over. None if there is none, or another owner's lease on it is live."""
    tape = books.tape(number)
    if tape is None or not tape.runs or tape.runs[0].held or tape.runs[0].status != "running":
        return None
    return _claim(books, tape, tape.runs[0])


def end_waiting(books: Books, number: Tape, run_id: RunId, end: Event, body: str) -> bool:
    tape = books.tape(number)
    waiting = None if tape is None else next((run for run in tape.runs if run.id == run_id), None)
    if tape is None or waiting is None or waiting.status != "queued":
        return False
    books.write(tape, waiting, (end,), (body,))
    _end(books, tape, waiting, end)
    return True


def ask(books: Books, number: Tape, run_id: RunId, event: Event, body: str) -> int:
    tape = books.tape(number)
    run = tape.runs[0] if tape is not None and tape.runs else None
    if tape is None or run is None or run.id != run_id or run.status != "running":
        return 0
    run.asked = books.write(tape, run, (event,), (body,))
    books.change_run(tape, run)
    return run.asked


def note(
    books: Books, project: ProjectId, conversation: ConversationId, events: Sequence[Event], bodies: Sequence[str]
) -> int:
    tape = books.tape_of(project, conversation)
    if tape is None:
        raise no_conversation(conversation)
    return books.write(tape, None, events, bodies)


def put_messages(
    books: Books,
    created: ev.ConversationCreated,
    imported: ev.MessagesImported,
    bodies: Sequence[str],
    at: float,
    updated_at: float,
    run_id: RunId,
) -> ConversationInfo:
    """`bodies`: those of `created` and `imported`."""
    if books.tape_of(created.project, created.conversation) is not None:
        raise conversation_taken(created.conversation)
    began, ended = microseconds(at), microseconds(updated_at)
    tape = books.new_tape(created, at=began)
    run = books.new_run(tape, run_id, seq=2)
    books.write(tape, None, (created,), bodies[:1], at=began)
    books.write(tape, run, (imported,), bodies[1:], at=began, weight=weight_of_import(imported))
    run.status, run.started_at = "completed", began
    run.ended, run.ended_at = run.place, ended
    tape.messages, tape.turns = counted_import(imported), 1
    books.change(tape, at=ended)
    return ConversationInfo(
        *(tape.conversation, tape.number, created.title, tape.origin, began / 1_000_000, ended / 1_000_000),
        *(tape.messages, tape.turns, tape.head, None, tape.owner),
    )


def replace_messages(
    books: Books,
    project: ProjectId,
    conversation: ConversationId,
    imported: ev.MessagesImported,
    body: str,
    run_id: RunId,
) -> None:
    tape = books.tape_of(project, conversation)
    if tape is None:
        raise no_conversation(conversation)
    if tape.runs:
        raise conversation_at_work(conversation)
    run = books.new_run(tape, run_id, seq=tape.head + 1)
    books.write(tape, run, (imported,), (body,), weight=weight_of_import(imported))
    run.status, run.ended = "completed", run.place
    tape.messages, tape.turns = counted_import(imported), 1
    books.change(tape)


# -- inside --------------------------------------------------------------------------------------------------------


def _owned(books: Books, claim: Claim) -> tuple[OpenTape, OpenRun]:
    """The tape and run a claim is good for. Raises StaleClaim."""
    tape = books.tape(claim.tape)
    run = tape.runs[0] if tape is not None and tape.runs else None
    if tape is None or run is None or run.id != claim.run or run.epoch != claim.epoch:
        raise stale(claim)
    return tape, run


def _behind(books: Books, claim: Claim, after: int, count: int) -> Behind:
    if not 0 <= after <= SEQ_MASK:
        raise stale_after(claim, after)
    found = books.behind.get((claim.run, claim.epoch, after))
    if found is None:
        raise Look(claim, after, count)
    return found


def _claim(books: Books, tape: OpenTape, run: OpenRun) -> Claim:
    run.epoch += 1
    run.status, run.leased = "running", True
    claimed = ev.RunClaimed(run.epoch)
    tape.written = books.write(tape, run, (claimed,), (dump_event(claimed).decode(),))
    books.change_run(tape, run)
    return Claim(tape.project, tape.conversation, tape.number, run.id, run.epoch, tape.written)


def _end(books: Books, tape: OpenTape, run: OpenRun, end: Event) -> None:
    """Fold the run's end, which was just written."""
    replied = False
    if tape.runs[0] is run:
        replied, run.spoke = tape.replied > 0, tape.spoke
        tape.written, tape.replied, tape.spoke = 0, 0, False
    run.status = status_of(end)
    run.ended = place_of(tape.number, tape.head)
    tape.runs.remove(run)
    tape.messages += counted(end, users=run.users, replied=replied)
    books.change(tape)
    books.change_run(tape, run)


def _accepted_before(books: Books, turn: NewTurn) -> Accepted | None:
    """The turn that this request began the first time, if it can be recognised. Raises KeyReused."""
    before: Before | None = None
    fingerprint = turn.received.fingerprint
    if turn.mark.key:
        before = books.keys.get((turn.project, turn.mark.key))
        if before is not None and before.fingerprint != fingerprint:
            raise key_reused()
    elif turn.mark.window_s > 0 and fingerprint:
        before = books.fingerprints.get((turn.project, fingerprint))
    if before is None:
        return None
    seq = before.place & SEQ_MASK
    tape = Tape(before.place >> SEQ_BITS)
    return Accepted(before.conversation, tape, before.run, seq, seq == 2, None, replayed=True)


def _keep_mark(books: Books, turn: NewTurn, run: OpenRun) -> None:
    before = Before(run.fingerprint, run.place, run.id, turn.conversation)
    if turn.mark.key:
        key = (ProjectId(turn.project), turn.mark.key)
        books.keys[key] = before
        books.new_keys.append((*key, run.fingerprint, run.place))
    if run.fingerprint:
        books.fingerprints[turn.project, run.fingerprint] = before
