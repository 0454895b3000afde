"""What a writer knows of tapes, and the rows that are due with its next statement.

What it remembers of a tape may be out of date, since other processes write too. That does no harm: a tape is written
only if its head is still the one that is remembered, and nothing about a tape changes without its head. No I/O: the
writer that these books belong to asks the database.
"""

from collections.abc import Iterable, Sequence
from typing import Any, assert_never

import msgspec

from dragoman.core import events as ev
from dragoman.core.events import DELTAS, NOTES, ConversationCreated, Entry, Event, Note, kind_of
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.runtime.keeping import KINDS, replied_at
from dragoman.runtime.ports import Claim

SEQ_BITS = 32
SEQ_MASK = (1 << SEQ_BITS) - 1

TAPES_MAX = 4096
"""Tapes remembered between batches; past that all without an open run are forgotten."""
NOW = 0
"""A time still to be filled in: that of the commit."""
UNCHANGED = -1

_DELTAS = frozenset[type[Event]](DELTAS)


def place(tape: int, seq: int) -> int:
    """A point on a tape as the tables' keys spell it."""
    return tape << SEQ_BITS | seq


def microseconds(at: float) -> int:
    return round(at * 1_000_000)


def title_text(title: str) -> str:
    """A title as it is kept: a JSON string, for no text of this database holds a NUL."""
    return msgspec.json.encode(title).decode()


class OpenRun:
    """A run that has not ended, or ends with this batch. `held`: another owner's lease was live when we read it."""

    __slots__ = (
        "asked",
        "ended",
        "ended_at",
        "epoch",
        "fingerprint",
        "held",
        "id",
        "is_new",
        "leased",
        "place",
        "spoke",
        "started_at",
        "status",
        "users",
    )

    def __init__(self, run: RunId, where: int, *, status: str, epoch: int, users: int) -> None:
        self.id = run
        self.place = where
        self.status = status
        self.epoch = epoch
        self.users = users
        self.fingerprint = ""
        self.asked = 0
        self.held = False
        self.is_new = False
        self.leased = False
        """Its claim is given with this batch."""
        self.spoke = False
        self.started_at = NOW
        self.ended = 0
        self.ended_at = NOW


class OpenTape:
    """A tape as it stands after all that was planned so far; `was` is its head in the database. `runs` are those open,
    in order; the first is live. `written`, `replied` and `spoke` are of that one."""

    __slots__ = (
        "archived",
        "changed_at",
        "conversation",
        "created_at",
        "head",
        "is_new",
        "messages",
        "number",
        "origin",
        "owner",
        "project",
        "replied",
        "runs",
        "shared",
        "spoke",
        "title",
        "turns",
        "was",
        "written",
    )

    def __init__(self, number: Tape, project: ProjectId, conversation: ConversationId) -> None:
        self.number = number
        self.project = project
        self.conversation = conversation
        self.origin = ""
        self.owner = ""
        self.title = '""'
        self.shared = False
        self.archived = False
        self.messages = 0
        self.turns = 0
        self.head = 0
        self.was = 0
        self.written = 0
        self.replied = 0
        self.spoke = False
        self.is_new = False
        self.created_at = NOW
        self.changed_at = UNCHANGED
        self.runs: list[OpenRun] = []


class Before(msgspec.Struct, frozen=True, gc=False):
    """A turn that was accepted already."""

    fingerprint: str
    place: int
    run: RunId
    conversation: ConversationId


class Behind(msgspec.Struct, frozen=True, gc=False):
    """What the owner of a run wrote behind a place; None = no such run under that epoch. `following`: the claim that
    came of its end, if it is still ours."""

    bodies: Sequence[str] | None
    seq: int = 0
    """Place of the last of them."""
    following: Claim | None = None


class _Pushed:
    """Entries of one tape on their way to its readers."""

    __slots__ = ("at", "entries", "sizes", "tape")

    def __init__(self, tape: Tape, at: int) -> None:
        self.tape = tape
        self.at = at
        self.entries: list[tuple[int, RunId, Event]] = []
        self.sizes: list[int] = []


Push = tuple[Tape, list[Entry], list[int]]
"""Entries of one tape that are committed, and the characters of each."""


class Books:
    """One writer's memory and its pending rows. Between `begin` and `settle` it plans one batch."""

    def __init__(self, *, tapes_max: int = TAPES_MAX) -> None:
        self._tapes_max = tapes_max
        self._tapes: dict[Tape, OpenTape] = {}
        self._numbers: dict[tuple[ProjectId, ConversationId], Tape] = {}
        self.numbers: list[Tape] = []
        """For new tapes, the next one last."""
        self.begin()

    def begin(self) -> None:
        """Plan a new batch."""
        self.touched: dict[Tape, OpenTape] = {}
        self.keys: dict[tuple[ProjectId, str], Before] = {}
        """What was found of the callers' keys, and what this batch puts there."""
        self.fingerprints: dict[tuple[ProjectId, str], Before] = {}
        self.behind: dict[tuple[RunId, int, int], Behind] = {}
        """By run, epoch and place."""
        self.new_keys: list[tuple[ProjectId, str, str, int]] = []
        self.plain = True
        """Nothing but appends so far."""
        self._pushed: list[_Pushed] = []
        self._entries: list[tuple[Any, ...]] = []
        self._deltas: list[tuple[int, int, str]] = []
        self._runs: dict[int, OpenRun] = {}
        self._homes: dict[int, OpenTape] = {}
        if len(self._tapes) > self._tapes_max:
            kept = {number: tape for number, tape in self._tapes.items() if tape.runs}
            self._tapes = kept if len(kept) < self._tapes_max else {}
            self._numbers = {(tape.project, tape.conversation): number for number, tape in self._tapes.items()}

    # -- what is known ---------------------------------------------------------------------------------------------

    def tape(self, number: Tape) -> OpenTape | None:
        """None if it is unknown."""
        return self._tapes.get(number)

    def tape_of(self, project: ProjectId, conversation: ConversationId) -> OpenTape | None:
        number = self._numbers.get((project, conversation))
        return None if number is None else self._tapes.get(number)

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take over what the query `tapes` found."""
        tape: OpenTape | None = None
        for row in rows:
            if tape is None or tape.number != row[0]:
                tape = OpenTape(Tape(row[0]), ProjectId(row[1]), ConversationId(row[2]))
                tape.title, tape.messages, tape.turns = row[3], row[4], row[5]
                tape.head = tape.was = row[6]
                tape.written, tape.replied, tape.spoke = row[7], row[8], row[9]
                tape.owner, tape.shared, tape.archived = row[10], row[11], row[12]
                self._remember(tape)
            if row[13] is not None:
                run = OpenRun(RunId(row[14]), row[13], status=row[15], epoch=row[16], users=row[17])
                run.asked, run.held = row[18], row[19]
                tape.runs.append(run)

    def forget(self, number: Tape) -> None:
        tape = self._tapes.pop(number, None)
        if tape is not None and self._numbers.get((tape.project, tape.conversation)) == number:
            del self._numbers[tape.project, tape.conversation]

    def forget_name(self, project: ProjectId, conversation: ConversationId) -> None:
        number = self._numbers.get((project, conversation))
        if number is not None:
            self.forget(number)

    def forget_all(self) -> None:
        self._tapes.clear()
        self._numbers.clear()

    def _remember(self, tape: OpenTape) -> None:
        self._tapes[tape.number] = tape
        self._numbers[tape.project, tape.conversation] = tape.number

    # -- what is planned -------------------------------------------------------------------------------------------

    def new_tape(self, created: ConversationCreated, *, at: int = NOW) -> OpenTape:
        tape = OpenTape(self.numbers.pop(), created.project, created.conversation)
        tape.origin, tape.owner, tape.title = created.origin, created.owner, title_text(created.title)
        tape.created_at, tape.is_new = at, True
        self._remember(tape)
        return tape

    def new_run(self, tape: OpenTape, run: RunId, *, seq: int, users: int = 0) -> OpenRun:
        """A run whose first entry will stand at `seq`."""
        new = OpenRun(run, place(tape.number, seq), status="queued", epoch=0, users=users)
        new.is_new = True
        self.change_run(tape, new)
        return new

    def change_run(self, tape: OpenTape, run: OpenRun) -> None:
        """Its row is due."""
        self._runs[run.place] = run
        self._homes[run.place] = tape
        self.plain = False

    def change(self, tape: OpenTape, *, at: int = NOW) -> None:
        """What lists show of the conversation has changed."""
        tape.changed_at = at
        self.plain = False

    def write(
        self,
        tape: OpenTape,
        run: OpenRun | None,
        events: Sequence[Event],
        bodies: Sequence[str],
        *,
        weight: int = 0,
        at: int = NOW,
    ) -> int:
        """Put events at the end of a tape; the seq of the last one. `weight` stands on the last, a run's end."""
        seq, base = tape.head, tape.number << SEQ_BITS
        run_id, run_place = (RunId(""), 0) if run is None else (run.id, run.place)
        pushed = _Pushed(tape.number, at)
        last = len(events) - 1
        for index, (event, body) in enumerate(zip(events, bodies, strict=True)):
            seq += 1
            kind, where = type(event), base | seq
            if kind in _DELTAS:
                self._deltas.append((where, run_place, body))
                tape.spoke = True
            else:
                first = run_id if where == run_place else ""
                name = kind_of(event) if kind is ev.Unread else KINDS[kind]
                self._entries.append((where, run_place, at, weight if index == last else 0, first, name, body))
                if isinstance(event, NOTES):
                    self._fold(tape, event)
                elif isinstance(event, ev.ReplyFinished | ev.AttemptReset):
                    tape.replied = replied_at(tape.replied, event, seq)
            pushed.entries.append((seq, run_id, event))
            pushed.sizes.append(len(body))
        tape.head = seq
        self.touched[tape.number] = tape
        self._pushed.append(pushed)
        return seq

    def _fold(self, tape: OpenTape, note: Note) -> None:
        self.plain = False
        match note:
            case ev.TitleGiven(title=title):
                tape.title = title_text(title)
                self.change(tape)
            case ev.SharingChanged(shared=shared):
                tape.shared = shared
            case ev.ArchivingChanged(archived=archived):
                tape.archived = archived
            case _:
                assert_never(note)

    def statement(self, shared: Sequence[Any]) -> tuple[str, list[Any]]:
        """The query that writes all this, and its parameters. `shared`: its first four."""
        tapes = [_tape_row(tape) for tape in self.touched.values()]
        entries, deltas = _columns(self._entries, 7), _columns(self._deltas, 3)
        if self.plain:
            return "append", [shared[0], *_columns(tapes, 14)[:6], *entries, *deltas]
        made = [
            (tape.number, tape.project, tape.conversation, tape.origin, tape.created_at, tape.owner)
            for tape in self.touched.values()
            if tape.is_new
        ]
        runs = [(self._homes[where], run) for where, run in self._runs.items()]
        new_runs = [_new_run_row(tape, run) for tape, run in runs if run.is_new]
        old_runs = [_run_row(run) for _, run in runs if not run.is_new]
        return "write", [
            *shared,
            *_columns(tapes, 14),
            *_columns(made, 6),
            *entries,
            *deltas,
            *_columns(new_runs, 11),
            *_columns(old_runs, 7),
            *_columns(self.new_keys, 4),
        ]

    def settle(self, written: frozenset[Tape], now_us: int) -> list[Push]:
        """The statement was committed: what readers may see now. Of tapes that were not written nothing is known."""
        for run in self._runs.values():
            run.is_new = run.leased = False
        for number, tape in self.touched.items():
            if number in written:
                tape.was, tape.is_new, tape.changed_at = tape.head, False, UNCHANGED
            else:
                self.forget(number)
        return [_push(pushed, now_us) for pushed in self._pushed if pushed.tape in written]


def _push(pushed: _Pushed, now_us: int) -> Push:
    at = (now_us if pushed.at == NOW else pushed.at) / 1_000_000
    return pushed.tape, [Entry(seq, run, at, event) for seq, run, event in pushed.entries], pushed.sizes


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Sequence[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _tape_row(tape: OpenTape) -> tuple[Any, ...]:
    live = tape.runs[0].id if tape.runs else ""
    return (
        *(tape.number, tape.was, tape.head, tape.written, tape.replied, tape.spoke),
        *(live, tape.title, tape.messages, tape.turns, tape.changed_at, tape.is_new),
        *(tape.shared, tape.archived),
    )


def _new_run_row(tape: OpenTape, run: OpenRun) -> tuple[Any, ...]:
    return (
        *(run.place, run.id, tape.project, run.status, run.epoch, run.users, run.fingerprint, run.leased),
        *(run.started_at, run.ended, run.ended_at),
    )


def _run_row(run: OpenRun) -> tuple[Any, ...]:
    return (run.place, run.status, run.epoch, run.asked, run.spoke, run.leased, run.ended)
