"""A tape and its open runs as the writer remembers them, and how they are read from the file when it does not."""

from collections.abc import Callable, Sequence
from typing import Any

from dragoman.core.events import ConversationCreated, load_event
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.runtime.keeping import replied_at

SEQ_BITS = 32
SEQ_MASK = (1 << SEQ_BITS) - 1

MAY_HAVE_DELTAS, PRUNED, HAD_NO_DELTAS = 0, 1, 2
"""`runs.pruned`."""

LookUpAll = Callable[..., Sequence[Any]]
"""A query's name and its parameters; all rows of it."""


def place(tape: int, seq: int) -> int:
    """A point on a tape as the file's keys spell it."""
    return tape << SEQ_BITS | seq


def microseconds(at: float) -> int:
    return round(at * 1_000_000)


class OpenRun:
    """A run that has not ended. `place` is that of its first entry, `number` its key among runs; `written` is the seq
    of the last entry that its owner wrote, `asked` that of the last one that others wrote; `spoke` = it has deltas."""

    __slots__ = (
        "asked",
        "ended",
        "ended_at",
        "epoch",
        "id",
        "number",
        "place",
        "project",
        "replied_seq",
        "spoke",
        "started_at",
        "status",
        "users",
        "written",
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
        self.written = 0
        self.asked = 0
        self.spoke = False

    def row(self) -> tuple[Any, ...]:
        """As `put_runs` writes it."""
        pruned = HAD_NO_DELTAS if self.ended and not self.spoke else MAY_HAVE_DELTAS
        return (
            self.number,
            self.id,
            self.project,
            self.place,
            self.status,
            self.epoch,
            self.users,
            self.started_at,
            self.ended,
            self.ended_at,
            pruned,
        )


class OpenTape:
    """A tape as it stands after all that was planned so far. `runs` are those open, in order; the first is live."""

    __slots__ = (
        "archived",
        "conversation",
        "created_at",
        "head",
        "messages",
        "number",
        "origin",
        "owner",
        "project",
        "runs",
        "shared",
        "title",
        "turns",
        "updated_at",
    )

    def __init__(self, number: Tape, created: ConversationCreated, at: int) -> None:
        self.number = number
        self.project = created.project
        self.conversation = created.conversation
        self.origin = created.origin
        self.owner = created.owner
        self.title = created.title
        self.shared = False
        self.archived = False
        self.created_at = at
        self.updated_at = at
        self.messages = 0
        self.turns = 0
        self.head = 0
        self.runs: list[OpenRun] = []

    def row(self) -> tuple[Any, ...]:
        """As `put_conversations` writes it."""
        return (
            self.number,
            self.project,
            self.conversation,
            self.title,
            self.origin,
            self.created_at,
            self.updated_at,
            self.messages,
            self.turns,
            self.runs[0].id if self.runs else "",
            self.owner,
            self.shared,
            self.archived,
        )


def load_tape(look_up_all: LookUpAll, number: Tape) -> OpenTape | None:
    """None if there is none."""
    rows = look_up_all("tape_by_number", number)
    if not rows:
        return None
    row = rows[0]
    created = ConversationCreated(ProjectId(row[1]), ConversationId(row[2]), row[4], row[10], row[3])
    tape = OpenTape(number, created, row[5])
    tape.updated_at, tape.messages, tape.turns, tape.head = row[6], row[7], row[8], row[9]
    tape.shared, tape.archived = bool(row[11]), bool(row[12])
    tape.runs.extend(_load_run(look_up_all, tape, run) for run in look_up_all("runs_open", number))
    return tape


def _load_run(look_up_all: LookUpAll, tape: OpenTape, row: tuple[Any, ...]) -> OpenRun:
    run = OpenRun(RunId(row[2]), tape.project, row[1], row[0], row[6])
    run.status, run.epoch, run.users = row[3], row[4], row[5]
    for where, body in look_up_all("run_replies", run.place):
        run.replied_seq = replied_at(run.replied_seq, load_event(body), where & SEQ_MASK)
    ((entry, delta, asked),) = look_up_all("run_last_places", run.place)
    run.written = max(entry, delta) & SEQ_MASK
    run.asked = asked & SEQ_MASK
    run.spoke = delta > 0
    return run
