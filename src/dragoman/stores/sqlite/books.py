"""What the writer knows of tapes, and the rows that are due with its next commit.

The writer is the only process that writes tapes, so what it remembers of one holds until something goes wrong; then it
forgets everything and reads again: the file is the truth. Belongs to the writer's thread.
"""

import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, assert_never

import msgspec
from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.events import DELTAS, NOTES, ConversationCreated, Entry, Event, Note
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.runtime.keeping import KINDS, replied_at
from dragoman.runtime.leases import Leases
from dragoman.stores.sqlite.open_tapes import SEQ_BITS, SEQ_MASK, OpenRun, OpenTape, load_tape, microseconds, place
from dragoman.stores.sqlite.queries import columns, for_rows, statement

TAPES_MAX = 8192
"""Tapes remembered between batches; past that all without an open run are forgotten."""
ROWS_MAX = 64
"""Rows written by one statement."""

_found = msgspec.json.Decoder(list[tuple[ProjectId, ConversationId, Tape]])

_DELTAS = frozenset[type[Event]](DELTAS)
_FOLDED = frozenset[type[Event]]((ev.ReplyFinished, ev.AttemptReset, *NOTES))


Push = tuple[Tape, list[Entry], list[int]]
"""Entries of one tape that are committed once the batch is, and the characters of each."""


class KeptKey(Struct, frozen=True, gc=False):
    """The turn that a request with a key began."""

    fingerprint: str
    tape: Tape
    seq: int
    run: RunId
    conversation: ConversationId


class Books:
    """The writer's memory and its pending rows. Between `open` and `commit` it plans one batch. `leases` are given and
    taken once a batch is committed, and outlast what is forgotten."""

    def __init__(self, leases: Leases, *, tapes_max: int = TAPES_MAX) -> None:
        self._tapes_max = tapes_max
        self.leases = leases
        self.pushes: list[Push] = []
        self.gone: list[Tape] = []
        """Tapes deleted by this batch, or of which it deletes something."""
        self.rung = False
        """Something was asked of a run by this batch."""
        self.leased: dict[RunId, int] = {}
        """Runs that this batch gives a lease, with their epochs."""
        self.now = 0.0
        self.now_us = 0
        self._connection: sqlite3.Connection
        self._tapes: dict[Tape, OpenTape] = {}
        self._numbers: dict[tuple[ProjectId, ConversationId], Tape] = {}
        self._absent: set[tuple[ProjectId, ConversationId]] = set()
        self._last_tape: int | None = None
        self._last_run: int | None = None
        self._changed_tapes: dict[Tape, OpenTape] = {}
        self._changed_runs: dict[int, OpenRun] = {}
        self._entries: list[Any] = []
        self._deltas: list[Any] = []
        self._keys: list[Any] = []
        self._new_keys: dict[tuple[ProjectId, str], KeptKey] = {}
        """Of this batch."""
        self._ended: list[RunId] = []

    def open(self, connection: sqlite3.Connection, now: float) -> None:
        """Begin to plan a batch, all of it at the time `now`."""
        self._connection = connection
        self.now_us = microseconds(now)
        self.now = self.now_us / 1_000_000
        self.pushes = []
        self.gone = []
        self.rung = False
        self._absent = set()
        if self._new_keys:
            self._new_keys = {}
        if len(self._tapes) > self._tapes_max:
            kept = {number: tape for number, tape in self._tapes.items() if tape.runs}
            self._tapes = kept if len(kept) < self._tapes_max else {}
            self._numbers = {(tape.project, tape.conversation): number for number, tape in self._tapes.items()}

    @contextmanager
    def at(self, at_us: int) -> Generator[None]:
        """Plan something that happened at another time."""
        now, now_us = self.now, self.now_us
        self.now, self.now_us = at_us / 1_000_000, at_us
        try:
            yield
        finally:
            self.now, self.now_us = now, now_us

    def commit(self) -> None:
        """Write what is due and make it durable. A batch of one statement is a transaction by itself."""
        connection = self._connection
        due = self._take_due()
        if len(due) == 1 and not connection.in_transaction:
            connection.execute(*due[0])
        elif due or connection.in_transaction:
            if not connection.in_transaction:
                connection.execute("begin immediate")
            for each in due:
                connection.execute(*each)
            connection.execute("commit")
        if self.leased or self._ended:
            self._settle_leases()

    def _settle_leases(self) -> None:
        self.leases.give(self.leased)
        self.leases.end(self._ended)
        self.leased, self._ended = {}, []

    def forget(self) -> None:
        """Drop the batch and everything remembered: it went wrong."""
        self.pushes, self.gone, self.rung, self.leased, self._ended = [], [], False, {}, []
        self._changed_tapes, self._changed_runs, self._entries, self._deltas, self._keys = {}, {}, [], [], []
        self._tapes, self._numbers, self._last_tape, self._last_run = {}, {}, None, None

    # -- plain statements ------------------------------------------------------------------------------------------

    def look_up(self, name: str, *parameters: Any) -> Any:
        """The first row of a query, or None. Sees what is committed, not what is due."""
        return self._connection.execute(*statement(name, parameters)).fetchone()

    def look_up_all(self, name: str, *parameters: Any) -> list[Any]:
        return self._connection.execute(*statement(name, parameters)).fetchall()

    def change(self, name: str, *parameters: Any) -> int:
        """Execute a statement inside the batch's transaction, after all that is due so far; the rows it changed."""
        self.settle()
        return self._connection.execute(*statement(name, parameters)).rowcount

    def settle(self) -> None:
        """Execute what is due so far, so that statements see it. Opens the batch's transaction."""
        if not self._connection.in_transaction:
            self._connection.execute("begin immediate")
        for each in self._take_due():
            self._connection.execute(*each)

    # -- tapes -----------------------------------------------------------------------------------------------------

    def tape(self, number: Tape) -> OpenTape | None:
        """None if there is none (any more)."""
        return self._tapes.get(number) or self._load(number)

    def tape_of(self, project: ProjectId, conversation: ConversationId) -> OpenTape | None:
        key = (project, conversation)
        number = self._numbers.get(key)
        if number is None:
            if key in self._absent:
                return None
            row = self.look_up("tape_by_id", project, conversation)
            if row is None:
                return None
            number = Tape(row[0])
        return self.tape(number)

    def look_ahead(self, keys: Iterable[tuple[ProjectId, ConversationId]]) -> None:
        """Look all these conversations up at once, before any is asked for: one step instead of one for each."""
        unknown = [key for key in dict.fromkeys(keys) if key not in self._numbers]
        if len(unknown) < 2:
            return
        for start in range(0, len(unknown), ROWS_MAX):
            chunk = unknown[start : start + ROWS_MAX]
            flat = [part for key in chunk for part in key]
            (found,) = self._connection.execute(for_rows("tapes_by_id", len(chunk)), flat).fetchone()
            self._numbers.update(((project, id), number) for project, id, number in _found.decode(found))
        self._absent = {key for key in unknown if key not in self._numbers}

    def tape_of_run(self, run: RunId) -> OpenTape | None:
        self.settle()
        row = self.look_up("run_place", run)
        return None if row is None else self.tape(Tape(row[0] >> SEQ_BITS))

    def new_tape(self, created: ConversationCreated, at: int) -> OpenTape:
        if self._last_tape is None:
            self._last_tape = int(self.look_up("last_tape")[0])
        self._last_tape += 1
        number = Tape(self._last_tape)
        tape = OpenTape(number, created, at)
        self._tapes[number] = tape
        self._numbers[tape.project, tape.conversation] = number
        return tape

    def new_run(self, tape: OpenTape, run: RunId, *, seq: int) -> OpenRun:
        """A run whose first entry will stand at `seq`."""
        if self._last_run is None:
            self._last_run = int(self.look_up("last_run")[0])
        self._last_run += 1
        return OpenRun(run, tape.project, self._last_run, place(tape.number, seq), self.now_us)

    def drop_tape(self, number: Tape) -> None:
        """It is deleted by this batch."""
        self.gone.append(number)
        tape = self._tapes.pop(number, None)
        if tape is not None:
            self._numbers.pop((tape.project, tape.conversation), None)
            self._ended += [run.id for run in tape.runs]
        self._new_keys = {name: key for name, key in self._new_keys.items() if key.tape != number}

    def end_run(self, tape: OpenTape, run: OpenRun) -> None:
        """Its last entry was written just now."""
        run.ended = place(tape.number, tape.head)
        run.ended_at = self.now_us
        tape.runs.remove(run)
        self._ended.append(run.id)
        self.changed(tape)
        self.changed_run(run)

    def _load(self, number: Tape) -> OpenTape | None:
        tape = load_tape(self.look_up_all, number)
        if tape is None:
            self.gone.append(number)  # another process deleted it; its readers do not know yet
            return None
        self._tapes[number] = tape
        self._numbers[tape.project, tape.conversation] = number
        return tape

    # -- keys ------------------------------------------------------------------------------------------------------

    def key(self, project: ProjectId, key: str, *, since_us: int) -> KeptKey | None:
        """The turn it began, if that was not before `since_us`."""
        found = self._new_keys.get((project, key))
        if found is None and (row := self.look_up("turn_of_key", project, key, since_us)) is not None:
            found = KeptKey(row[0], Tape(row[1] >> SEQ_BITS), row[1] & SEQ_MASK, RunId(row[2]), ConversationId(row[3]))
        return found

    def keep_key(self, key: str, fingerprint: str, tape: OpenTape, run: OpenRun) -> None:
        """The turn that was begun just now has this key."""
        self._keys += (run.place, tape.project, key, fingerprint, run.id, self.now_us)
        self._new_keys[tape.project, key] = KeptKey(
            fingerprint, tape.number, run.place & SEQ_MASK, run.id, tape.conversation
        )

    # -- rows ------------------------------------------------------------------------------------------------------

    def write(
        self,
        tape: OpenTape,
        run: OpenRun | None,
        events: Sequence[Event],
        bodies: Sequence[str],
        *,
        weight: int = 0,
    ) -> int:
        """Put events at the end of a tape, of a run's those that its owner wrote; the seq of the last one. `weight`
        stands on the last, a run's end."""
        if not events:
            return tape.head
        seq, base, at, at_us = tape.head, tape.number << SEQ_BITS, self.now, self.now_us
        run_id, run_place = (RunId(""), 0) if run is None else (run.id, run.place)
        entries: list[Entry] = []
        spoke = False
        for event, body in zip(events, bodies, strict=True):
            seq += 1
            kind, where = type(event), base | seq
            if kind in _DELTAS:
                self._deltas += (where, run_place, at_us, body)
                spoke = True
            else:
                first = run_id if where == run_place else ""
                name = event.name if isinstance(event, ev.Unread) else KINDS[kind]
                self._entries += (where, run_place, first, name, at_us, 0, body)
                if kind in _FOLDED:
                    self._fold(tape, run, event, seq)
            entries.append(Entry(seq, run_id, at, event))
        if weight:
            self._entries[-2] = weight
        tape.head = seq
        if run is not None:
            run.written = seq
            run.spoke = run.spoke or spoke
        self.pushes.append((tape.number, entries, list(map(len, bodies))))
        return seq

    def _fold(self, tape: OpenTape, run: OpenRun | None, event: Event, seq: int) -> None:
        if isinstance(event, NOTES):
            self._note(tape, event)
        elif run is not None:
            run.replied_seq = replied_at(run.replied_seq, event, seq)

    def _note(self, tape: OpenTape, note: Note) -> None:
        self._changed_tapes[tape.number] = tape
        match note:
            case ev.TitleGiven(title=title):
                tape.title = title
                self.changed(tape)
            case ev.SharingChanged(shared=shared):
                tape.shared = shared
            case ev.ArchivingChanged(archived=archived):
                tape.archived = archived
            case _:
                assert_never(note)

    def changed(self, tape: OpenTape) -> None:
        """Its row is due; the conversation was updated now."""
        tape.updated_at = self.now_us
        self._changed_tapes[tape.number] = tape

    def changed_run(self, run: OpenRun) -> None:
        self._changed_runs[run.number] = run

    def _take_due(self) -> list[tuple[str, Sequence[Any]]]:
        due: list[tuple[str, Sequence[Any]]] = []
        if self._changed_tapes:
            due.extend(_in_chunks("put_conversations", _flat(self._changed_tapes.values())))
            self._changed_tapes = {}
        if self._changed_runs:
            due.extend(_in_chunks("put_runs", _flat(self._changed_runs.values())))
            self._changed_runs = {}
        if self._entries:
            due.extend(_in_chunks("put_entries", self._entries))
            self._entries = []
        if self._deltas:
            due.extend(_in_chunks("put_deltas", self._deltas))
            self._deltas = []
        if self._keys:
            due.extend(_in_chunks("put_keys", self._keys))
            self._keys = []
        return due


def _in_chunks(name: str, flat: list[Any]) -> list[tuple[str, Sequence[Any]]]:
    width = columns(name)
    if len(flat) <= ROWS_MAX * width:
        return [(for_rows(name, len(flat) // width), flat)]
    step = ROWS_MAX * width
    chunks = [flat[start : start + step] for start in range(0, len(flat), step)]
    return [(for_rows(name, len(chunk) // width), chunk) for chunk in chunks]


def _flat(changed: Iterable[OpenTape | OpenRun]) -> list[Any]:
    return [value for each in changed for value in each.row()]
