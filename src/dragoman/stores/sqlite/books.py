"""What the writer knows of tapes, and the rows that are due with its next commit.

The writer is the only process that writes tapes, so what it remembers of one holds until something goes wrong; then it
forgets everything and reads again: the file is the truth. Belongs to the writer's thread.
"""

import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from dragoman.core import events as ev
from dragoman.core.events import DELTAS, Entry, Event, load_event
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.runtime.keeping import KINDS, replied_at
from dragoman.stores.sqlite.queries import columns, for_rows, statement

SEQ_BITS = 32
SEQ_MASK = (1 << SEQ_BITS) - 1

TAPES_MAX = 8192
"""Tapes remembered between batches; past that all without an open run are forgotten."""
ROWS_MAX = 64
"""Rows written by one statement."""

_found = msgspec.json.Decoder(list[tuple[ProjectId, ConversationId, Tape]])

_DELTAS = frozenset[type[Event]](DELTAS)
_FOLDED = frozenset[type[Event]]((ev.ReplyFinished, ev.AttemptReset, ev.TitleGiven))


def place(tape: int, seq: int) -> int:
    """A point on a tape as the file's keys spell it."""
    return tape << SEQ_BITS | seq


def microseconds(at: float) -> int:
    return round(at * 1_000_000)


class OpenRun:
    """A run that has not ended. `place` is that of its first entry, `number` its key among runs."""

    __slots__ = (
        "ended",
        "ended_at",
        "epoch",
        "id",
        "number",
        "place",
        "project",
        "replied_seq",
        "started_at",
        "status",
        "users",
    )

    def __init__(self, run: RunId, project: ProjectId, number: int, where: int, at: int) -> None:
        self.id = run
        self.project = project
        self.number = number
        self.place = where
        self.status = "queued"
        self.epoch = 0
        self.users = 0
        self.started_at = at
        self.ended = 0
        self.ended_at = 0
        self.replied_seq = 0


class OpenTape:
    """A tape as it stands after all that was planned so far. `runs` are those open, in order; the first is live."""

    __slots__ = (
        "conversation",
        "created_at",
        "head",
        "messages",
        "number",
        "origin",
        "project",
        "runs",
        "title",
        "turns",
        "updated_at",
    )

    def __init__(self, number: Tape, project: ProjectId, conversation: ConversationId, origin: str, at: int) -> None:
        self.number = number
        self.project = project
        self.conversation = conversation
        self.origin = origin
        self.title = ""
        self.created_at = at
        self.updated_at = at
        self.messages = 0
        self.turns = 0
        self.head = 0
        self.runs: list[OpenRun] = []


Push = tuple[Tape, list[Entry], list[int]]
"""Entries of one tape that are committed once the batch is, and the characters of each."""


class Books:
    """The writer's memory and its pending rows. Between `open` and `commit` it plans one batch."""

    def __init__(self, *, tapes_max: int = TAPES_MAX) -> None:
        self._tapes_max = tapes_max
        self.pushes: list[Push] = []
        self.gone: list[Tape] = []
        """Tapes deleted by this batch."""
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

    def open(self, connection: sqlite3.Connection, now: float) -> None:
        """Begin to plan a batch, all of it at the time `now`."""
        self._connection = connection
        self.now_us = microseconds(now)
        self.now = self.now_us / 1_000_000
        self.pushes = []
        self.gone = []
        self._absent = set()
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
        if not connection.in_transaction:
            if not due:
                return
            if len(due) == 1:
                connection.execute(*due[0])
                return
            connection.execute("begin immediate")
        for each in due:
            connection.execute(*each)
        connection.execute("commit")

    def forget(self) -> None:
        """Drop the batch and everything remembered: it went wrong."""
        self.pushes, self.gone = [], []
        self._changed_tapes, self._changed_runs, self._entries, self._deltas = {}, {}, [], []
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

    def new_tape(self, project: ProjectId, conversation: ConversationId, origin: str, at: int) -> OpenTape:
        if self._last_tape is None:
            self._last_tape = int(self.look_up("last_tape")[0])
        self._last_tape += 1
        number = Tape(self._last_tape)
        tape = OpenTape(number, project, conversation, origin, at)
        self._tapes[number] = tape
        self._numbers[project, conversation] = number
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

    def _load(self, number: Tape) -> OpenTape | None:
        row = self.look_up("tape_by_number", number)
        if row is None:
            self.gone.append(number)  # another process deleted it; its readers do not know yet
            return None
        tape = OpenTape(number, ProjectId(row[1]), ConversationId(row[2]), row[4], row[5])
        tape.title, tape.updated_at, tape.messages, tape.turns, tape.head = row[3], row[6], row[7], row[8], row[9]
        tape.runs.extend(self._load_run(tape, run) for run in self.look_up_all("runs_open", number))
        self._tapes[number] = tape
        self._numbers[tape.project, tape.conversation] = number
        return tape

    def _load_run(self, tape: OpenTape, row: tuple[Any, ...]) -> OpenRun:
        run = OpenRun(RunId(row[2]), tape.project, row[1], row[0], row[6])
        run.status, run.epoch, run.users = row[3], row[4], row[5]
        for where, body in self.look_up_all("run_replies", run.place):
            run.replied_seq = replied_at(run.replied_seq, load_event(body), where & SEQ_MASK)
        return run

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
        """Put events at the end of a tape; the seq of the last one. `weight` stands on the last, a run's end."""
        if not events:
            return tape.head
        seq, base, at, at_us = tape.head, tape.number << SEQ_BITS, self.now, self.now_us
        run_id, run_place = (RunId(""), 0) if run is None else (run.id, run.place)
        entries: list[Entry] = []
        for event, body in zip(events, bodies, strict=True):
            seq += 1
            kind, where = type(event), base | seq
            if kind in _DELTAS:
                self._deltas += (where, run_place, at_us, body)
            else:
                first = run_id if where == run_place else ""
                self._entries += (where, run_place, first, KINDS[kind], at_us, 0, body)
                if kind in _FOLDED:
                    self._fold(tape, run, event, seq)
            entries.append(Entry(seq, run_id, at, event))
        if weight:
            self._entries[-2] = weight
        tape.head = seq
        self.pushes.append((tape.number, entries, list(map(len, bodies))))
        return seq

    def _fold(self, tape: OpenTape, run: OpenRun | None, event: Event, seq: int) -> None:
        if isinstance(event, ev.TitleGiven):
            tape.title = event.title
            self.changed(tape)
        elif run is not None:
            run.replied_seq = replied_at(run.replied_seq, event, seq)

    def changed(self, tape: OpenTape) -> None:
        """Its row is due; the conversation was updated now."""
        tape.updated_at = self.now_us
        self._changed_tapes[tape.number] = tape

    def changed_run(self, run: OpenRun) -> None:
        self._changed_runs[run.number] = run

    def _take_due(self) -> list[tuple[str, Sequence[Any]]]:
        due: list[tuple[str, Sequence[Any]]] = []
        if self._changed_tapes:
            due.extend(_in_chunks("put_conversations", _conversation_rows(self._changed_tapes.values())))
            self._changed_tapes = {}
        if self._changed_runs:
            due.extend(_in_chunks("put_runs", _run_rows(self._changed_runs.values())))
            self._changed_runs = {}
        if self._entries:
            due.extend(_in_chunks("put_entries", self._entries))
            self._entries = []
        if self._deltas:
            due.extend(_in_chunks("put_deltas", self._deltas))
            self._deltas = []
        return due


def _in_chunks(name: str, flat: list[Any]) -> list[tuple[str, Sequence[Any]]]:
    width = columns(name)
    if len(flat) <= ROWS_MAX * width:
        return [(for_rows(name, len(flat) // width), flat)]
    step = ROWS_MAX * width
    chunks = [flat[start : start + step] for start in range(0, len(flat), step)]
    return [(for_rows(name, len(chunk) // width), chunk) for chunk in chunks]


def _conversation_rows(tapes: Iterable[OpenTape]) -> list[Any]:
    rows: list[Any] = []
    for tape in tapes:
        live = tape.runs[0].id if tape.runs else ""
        rows += (tape.number, tape.project, tape.conversation, tape.title, tape.origin, tape.created_at)
        rows += (tape.updated_at, tape.messages, tape.turns, live)
    return rows


def _run_rows(runs: Iterable[OpenRun]) -> list[Any]:
    rows: list[Any] = []
    for run in runs:
        rows += (run.number, run.id, run.project, run.place, run.status, run.epoch, run.users)
        rows += (run.started_at, run.ended, run.ended_at)
    return rows
