"""What can be done to tapes, each as a plan over the writer's books.

A plan that refuses (StaleClaim, NotFound, LimitReached, Conflict) does so before it has changed anything: its
neighbours in the batch are written all the same.
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.events import Event, dump_event
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import ConversationInfo
from dragoman.runtime.keeping import (
    KINDS,
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
from dragoman.runtime.ports import KEY_KEPT_S, Accepted, Claim, NewTurn, StaleClaim
from dragoman.stores.sqlite.books import Books
from dragoman.stores.sqlite.open_tapes import (
    HAD_NO_DELTAS,
    PRUNED,
    SEQ_BITS,
    SEQ_MASK,
    OpenRun,
    OpenTape,
    microseconds,
    place,
)
from dragoman.stores.sqlite.statements import delete_tape

KEY_KEPT_US = microseconds(KEY_KEPT_S)

_CLAIMED = KINDS[ev.RunClaimed]
_running = msgspec.json.Decoder(list[tuple[int, RunId]])


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
        tape = books.new_tape(turn.created, books.now_us)
    else:
        refuse_stranger(turn, tape.owner)
        if len(tape.runs) > turn.queue_max:
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
        claimed = _next_epoch(run)
        books.write(tape, run, (turn.received, claimed), (bodies[1], dump_event(claimed).decode()))
        claim = _leased(books, tape, run)
    else:
        books.write(tape, run, (turn.received,), bodies[1:])
    tape.turns += 1
    books.changed(tape)
    books.changed_run(run)
    if turn.mark.key:
        books.keep_key(turn.mark.key, turn.received.fingerprint, tape, run)
    return Accepted(tape.conversation, tape.number, run.id, seq, created, claim)


def _accepted_before(books: Books, turn: NewTurn) -> Accepted | None:
    """The turn that this request began the first time, if it can be recognised. Raises KeyReused."""
    mark, fingerprint = turn.mark, turn.received.fingerprint
    if mark.key:
        key = books.key(turn.project, mark.key, since_us=books.now_us - KEY_KEPT_US)
        if key is None:
            return None
        if key.fingerprint != fingerprint:
            raise key_reused()
        return Accepted(key.conversation, key.tape, key.run, key.seq, key.seq == 2, None, replayed=True)
    if mark.window_s > 0 and fingerprint:
        books.settle()
        since_us = books.now_us - microseconds(mark.window_s)
        row = books.look_up("turn_of_fingerprint", turn.project, fingerprint, since_us)
        if row is not None:
            tape, seq = Tape(row[0] >> SEQ_BITS), row[0] & SEQ_MASK
            return Accepted(ConversationId(row[2]), tape, RunId(row[1]), seq, seq == 2, None, replayed=True)
    return None


def append(books: Books, claim: Claim, events: Sequence[Event], bodies: Sequence[str], after: int) -> int:
    tape, run = _owned(books, claim)
    if not events:
        return after
    if after == run.written:
        return books.write(tape, run, events, bodies)
    if _stand_behind(books, run.place, after, bodies):
        _tell_readers(books, tape)
        return run.written
    raise stale_after(claim, after)


def finish(
    books: Books, claim: Claim, events: Sequence[Event], bodies: Sequence[str], after: int, weight: int
) -> Claim | None:
    try:
        tape, run = _owned(books, claim)
    except StaleClaim:
        return _ended_with(books, claim, bodies, after)
    if after != run.written:
        raise stale_after(claim, after)
    books.write(tape, run, events, bodies, weight=weight)
    _end(books, tape, run, events[-1])
    return _take(books, tape, tape.runs[0]) if tape.runs else None


def _ended_with(books: Books, claim: Claim, bodies: Sequence[str], after: int) -> Claim | None:
    """The claim that came of a run's end, which was written before, if it still stands. Raises StaleClaim."""
    books.settle()
    tape, row = books.tape(claim.tape), books.look_up("run_ended", claim.run)
    if tape is None or row is None:
        raise stale(claim)
    where, epoch, ended, next_run, next_kind = row
    if where >> SEQ_BITS != claim.tape or epoch != claim.epoch:
        raise stale(claim)
    if not _stand_behind(books, where, after, bodies):
        raise stale_after(claim, after)
    _tell_readers(books, tape)
    following = tape.runs[0] if tape.runs else None
    if following is None or following.epoch != 1 or (next_run, next_kind) != (following.place, _CLAIMED):
        return None
    return replace(_leased(books, tape, following), seq=(ended & SEQ_MASK) + 1)


def _tell_readers(books: Books, tape: OpenTape) -> None:
    """What is found written was never pushed to them: the word of it was lost on the way to us too."""
    books.gone.append(tape.number)


def _stand_behind(books: Books, run_place: int, after: int, bodies: Sequence[str]) -> bool:
    """Whether the entries that the run's owners wrote behind this seq are exactly these."""
    if not 0 <= after <= SEQ_MASK:
        return False
    books.settle()
    where = place(run_place >> SEQ_BITS, after)
    rows = books.look_up_all("run_written_after", run_place, where, len(bodies) + 1)
    return [body for _, body in rows] == list(bodies)


# -- claims ----------------------------------------------------------------------------------------------------------


def renew(books: Books, claims: Sequence[Claim]) -> frozenset[RunId]:
    lost: set[RunId] = set()
    for claim in claims:
        try:
            _owned(books, claim)
        except StaleClaim:
            lost.add(claim.run)
        else:
            books.leased[claim.run] = claim.epoch
    return frozenset(lost)


def take_lost(books: Books, limit: int) -> list[Claim]:
    running = _running.decode(books.look_up("runs_running")[0])
    live = books.leases.live()
    claims: list[Claim] = []
    for where, run_id in running:
        if len(claims) >= limit:
            break
        if run_id in live or run_id in books.leased:
            continue
        tape = books.tape(Tape(where >> SEQ_BITS))
        if tape is not None and tape.runs and tape.runs[0].id == run_id:  # else it ended in this very batch
            claims.append(_take(books, tape, tape.runs[0]))
    return claims


def reclaim(books: Books, run_id: RunId) -> Claim | None:
    found = _live(books, run_id)
    return None if found is None else _take(books, *found)


def _live(books: Books, run_id: RunId) -> tuple[OpenTape, OpenRun] | None:
    """The run with its tape, if it is claimed and has not ended."""
    tape = books.tape_of_run(run_id)
    if tape is None or not tape.runs or tape.runs[0].id != run_id:
        return None
    return tape, tape.runs[0]


def _take(books: Books, tape: OpenTape, run: OpenRun) -> Claim:
    """Claim the tape's first open run anew."""
    claimed = _next_epoch(run)
    books.write(tape, run, (claimed,), (dump_event(claimed).decode(),))
    books.changed_run(run)
    return _leased(books, tape, run)


def _next_epoch(run: OpenRun) -> ev.RunClaimed:
    run.epoch += 1
    run.status = "running"
    return ev.RunClaimed(run.epoch)


def _leased(books: Books, tape: OpenTape, run: OpenRun) -> Claim:
    """The claim of a run whose RunClaimed was the last that was written of it."""
    books.leased[run.id] = run.epoch
    return Claim(tape.project, tape.conversation, tape.number, run.id, run.epoch, run.written)


# -- what others say -------------------------------------------------------------------------------------------------


def ask(books: Books, run_id: RunId, event: Event, body: str) -> int:
    found = _live(books, run_id)
    if found is None:
        return 0
    tape, run = found
    written = run.written
    run.asked = books.write(tape, run, (event,), (body,))
    run.written = written
    books.rung = True
    return run.asked


def asked(books: Books, claims: Sequence[Claim]) -> dict[RunId, int]:
    found: dict[RunId, int] = {}
    for claim in claims:
        tape = books.tape(claim.tape)
        run = tape.runs[0] if tape is not None and tape.runs else None
        if run is not None and run.id == claim.run and run.asked > claim.seq:
            found[run.id] = run.asked
    return found


def note(
    books: Books, project: ProjectId, conversation: ConversationId, events: Sequence[Event], bodies: Sequence[str]
) -> int:
    tape = books.tape_of(project, conversation)
    if tape is None:
        raise no_conversation(conversation)
    return books.write(tape, None, events, bodies)


# -- upkeep ----------------------------------------------------------------------------------------------------------


def prune(books: Books, ended_before: float, limit: int) -> int:
    pruned = 0
    for number, where, ended in books.look_up_all("runs_to_prune", microseconds(ended_before), max(limit, 0)):
        dropped = books.change("delete_deltas_of_run", where, ended)
        books.change("mark_pruned", number, PRUNED if dropped else HAD_NO_DELTAS)
        if dropped:
            pruned += 1
            books.gone.append(Tape(where >> SEQ_BITS))  # what is cached of its end may hold some
    books.change("delete_keys", books.now_us - KEY_KEPT_US)
    return pruned


def keep_answer(books: Books, project: ProjectId, key: str, answer: bytes) -> None:
    books.change("keep_answer", project, key, answer, books.now_us - KEY_KEPT_US)


def probe(books: Books) -> None:
    books.change("probe")


# -- the rest --------------------------------------------------------------------------------------------------------


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
    tape = books.new_tape(created, began)
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


def replace_messages(
    books: Books,
    project: ProjectId,
    conversation: ConversationId,
    imported: ev.MessagesImported,
    body: str,
    run_id: RunId,
) -> ConversationInfo:
    tape = books.tape_of(project, conversation)
    if tape is None:
        raise no_conversation(conversation)
    if tape.runs:
        raise conversation_at_work(conversation)
    run = books.new_run(tape, run_id, seq=tape.head + 1)
    books.write(tape, run, (imported,), (body,), weight=weight_of_import(imported))
    run.status = "completed"
    run.ended, run.ended_at = run.place, books.now_us
    tape.messages, tape.turns = counted_import(imported), 1
    books.changed(tape)
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


def _end(books: Books, tape: OpenTape, run: OpenRun, end: Event) -> None:
    """Fold the run's end, which was just written."""
    run.status = status_of(end)
    tape.messages += counted(end, users=run.users, replied=run.replied_seq > 0)
    books.end_run(tape, run)


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
        tape.owner,
        tape.shared,
        tape.archived,
    )
