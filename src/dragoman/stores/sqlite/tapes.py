"""What can be done to tapes, each as a plan over the writer's books.

A plan that refuses (StaleClaim, NotFound, LimitReached, Conflict) does so before it has changed anything: its
neighbours in the batch are written all the same.
"""

from collections.abc import Sequence

from dragoman.core import events as ev
from dragoman.core.events import Event, dump_event
from dragoman.core.names import ConversationId, ProjectId, RunId
from dragoman.core.operations import ConversationInfo
from dragoman.runtime.keeping import (
    conversation_taken,
    counted,
    counted_import,
    no_conversation,
    queue_full,
    stale,
    status_of,
    users_in,
    weight_of_import,
)
from dragoman.runtime.ports import Accepted, Claim, NewTurn
from dragoman.stores.sqlite.books import Books, OpenRun, OpenTape, microseconds, place
from dragoman.stores.sqlite.statements import delete_tape


def accept(books: Books, turn: NewTurn, bodies: Sequence[str]) -> Accepted:
    """`bodies`: those of `turn.created` and `turn.received`."""
    tape = books.tape_of(turn.project, turn.conversation)
    created = tape is None
    if tape is None:
        if turn.must_exist:
            raise no_conversation(turn.conversation)
        tape = books.new_tape(turn.project, turn.conversation, turn.created.origin, books.now_us)
    elif len(tape.runs) > turn.queue_max:
        raise queue_full(len(tape.runs) - 1)
    first = tape.head + 1
    seq = first + created
    run = books.new_run(tape, turn.run, seq=seq)
    run.users = users_in(turn.received)
    if created:
        books.write(tape, None, (turn.created,), bodies[:1])
    claim: Claim | None = None
    tape.runs.append(run)
    if tape.runs[0] is run:
        claim = _claim(tape, run)
        claimed = ev.RunClaimed(run.epoch)
        books.write(tape, run, (turn.received, claimed), (bodies[1], dump_event(claimed).decode()))
    else:
        books.write(tape, run, (turn.received,), bodies[1:])
    tape.turns += 1
    books.changed(tape)
    books.changed_run(run)
    return Accepted(tape.number, run.id, seq, created, claim)


def append(books: Books, claim: Claim, events: Sequence[Event], bodies: Sequence[str]) -> int:
    tape, run = _owned(books, claim)
    return books.write(tape, run, events, bodies)


def finish(books: Books, claim: Claim, events: Sequence[Event], bodies: Sequence[str], weight: int) -> Claim | None:
    tape, run = _owned(books, claim)
    books.write(tape, run, events, bodies, weight=weight)
    _end(books, tape, run, events[-1])
    if not tape.runs:
        return None
    following = tape.runs[0]
    next_claim = _claim(tape, following)
    _write_claimed(books, tape, following)
    return next_claim


def reclaim(books: Books, run_id: RunId) -> Claim | None:
    tape = books.tape_of_run(run_id)
    if tape is None or not tape.runs or tape.runs[0].id != run_id:
        return None
    run = tape.runs[0]
    claim = _claim(tape, run)
    _write_claimed(books, tape, run)
    return claim


def end_waiting(books: Books, run_id: RunId, end: Event, body: str) -> bool:
    tape = books.tape_of_run(run_id)
    waiting = None if tape is None else next((run for run in tape.runs if run.id == run_id), None)
    if tape is None or waiting is None or waiting.status != "queued":
        return False
    books.write(tape, waiting, (end,), (body,))
    _end(books, tape, waiting, end)
    return True


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
    began = microseconds(at)
    tape = books.new_tape(created.project, created.conversation, created.origin, began)
    with books.at(began):
        run = books.new_run(tape, run_id, seq=2)
        books.write(tape, None, (created,), bodies[:1])
        books.write(tape, run, (imported,), bodies[1:], weight=weight_of_import(imported))
    run.status = "completed"
    run.ended, run.ended_at = run.place, microseconds(updated_at)
    tape.messages, tape.turns = counted_import(imported), 1
    books.changed(tape)
    tape.updated_at = run.ended_at
    books.changed_run(run)
    return _info(tape)


def delete(books: Books, project: ProjectId, conversation: ConversationId) -> list[RunId] | None:
    tape = books.tape_of(project, conversation)
    if tape is None:
        return None
    unfinished = [run.id for run in tape.runs]
    return unfinished if delete_tape(books, tape.number) else None


def _owned(books: Books, claim: Claim) -> tuple[OpenTape, OpenRun]:
    """The tape and run a claim is good for. Raises StaleClaim."""
    tape = books.tape(claim.tape)
    run = tape.runs[0] if tape is not None and tape.runs else None
    if tape is None or run is None or run.id != claim.run or run.epoch != claim.epoch:
        raise stale(claim)
    return tape, run


def _claim(tape: OpenTape, run: OpenRun) -> Claim:
    run.epoch += 1
    run.status = "running"
    return Claim(tape.project, tape.conversation, tape.number, run.id, run.epoch)


def _write_claimed(books: Books, tape: OpenTape, run: OpenRun) -> None:
    claimed = ev.RunClaimed(run.epoch)
    books.write(tape, run, (claimed,), (dump_event(claimed).decode(),))
    books.changed_run(run)


def _end(books: Books, tape: OpenTape, run: OpenRun, end: Event) -> None:
    """Fold the run's end, which was just written."""
    run.status = status_of(end)
    run.ended = place(tape.number, tape.head)
    run.ended_at = books.now_us
    tape.runs.remove(run)
    tape.messages += counted(end, users=run.users, replied=run.replied_seq > 0)
    books.changed(tape)
    books.changed_run(run)


def _info(tape: OpenTape) -> ConversationInfo:
    return ConversationInfo(
        tape.conversation,
        tape.number,
        tape.title,
        tape.origin,
        tape.created_at / 1_000_000,
        tape.updated_at / 1_000_000,
        tape.messages,
        tape.turns,
        tape.head,
        tape.runs[0].id if tape.runs else None,
    )
