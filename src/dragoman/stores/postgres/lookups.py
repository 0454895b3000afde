"""What a writer asks the database before it plans a batch, all at once for all its requests."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from dragoman.core.events import ASKS
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.runtime.ports import KEY_KEPT_S, Claim, NewTurn
from dragoman.stores.postgres.books import Before, Behind, Books, microseconds, place
from dragoman.stores.postgres.connection import Connection, Pool
from dragoman.stores.postgres.queries import QUERIES
from dragoman.stores.postgres.tapes import Look

KEY_KEPT_US = microseconds(KEY_KEPT_S)
NUMBERS_AT_ONCE = 64
"""Numbers of new tapes that a process takes at a time; what it does not use is lost."""

_ASKS = tuple(str(kind.__struct_config__.tag) for kind in ASKS)


class Numbers:
    """Numbers for new tapes, shared by the writers of a process: given in order."""

    def __init__(self) -> None:
        self._free: list[Tape] = []

    async def lend(self, connection: Connection, count: int, books: Books) -> None:
        """Let `books` take of them, at least `count`, until something is awaited: then others take of them too."""
        while len(self._free) < count:
            found = await connection.fetch(QUERIES["take_numbers"], max(NUMBERS_AT_ONCE, count))
            self._free = [*(Tape(row[0]) for row in reversed(found)), *self._free]
        books.numbers = self._free


class About(Struct, frozen=True, gc=False):
    """Which tape a request is about: by number, or by name if that is 0. `turn`: it may begin this one."""

    project: ProjectId
    conversation: ConversationId
    tape: Tape = Tape(0)
    turn: NewTurn | None = None

    @property
    def may_make(self) -> bool:
        return self.tape == 0

    @property
    def is_repeat(self) -> bool:
        """Its caller says that it sent the same before."""
        return self.turn is not None and self.turn.mark.window_s > 0 and not self.turn.mark.key


async def home_of(pool: Pool, run: RunId) -> About | None:
    """The tape of a run, unless it is unknown."""
    rows = await pool.do(lambda connection: connection.fetch(QUERIES["whereabouts"], run))
    return About(ProjectId(rows[0][1]), ConversationId(rows[0][2]), Tape(rows[0][0])) if rows else None


async def load_tapes(
    connection: Connection, books: Books, wanted: Iterable[About], *, now_us: int | None, owner: str, locked: bool
) -> None:
    """Read anew what must be known of these tapes; `locked`: as nobody can change it until the transaction ends."""
    numbers: set[Tape] = set()
    names: set[tuple[ProjectId, ConversationId]] = set()
    for about in wanted:
        if about.tape:
            numbers.add(about.tape)
            books.forget(about.tape)
        else:
            names.add((about.project, about.conversation))
            books.forget_name(about.project, about.conversation)
    if not numbers and not names:
        return
    keys = _columns(list(names), 2)
    if locked:
        await connection.fetch(QUERIES["lock_tapes"], list(numbers), *keys)
    books.learn(await connection.fetch(QUERIES["tapes"], now_us, owner, list(numbers), *keys))


async def load_marks(
    connection: Connection, books: Books, turns: Sequence[NewTurn], *, now_us: int | None, locked: bool
) -> None:
    """Find which of these turns were accepted already; `locked`: of repeats without a key nobody accepts another one
    until the transaction ends. (Keys look after themselves: there is one row for each.)"""
    keyed = [(turn.project, turn.mark.key) for turn in turns if turn.mark.key]
    unkeyed = [
        (turn.project, turn.received.fingerprint, microseconds(turn.mark.window_s))
        for turn in turns
        if turn.mark.window_s > 0 and not turn.mark.key and turn.received.fingerprint
    ]
    if not keyed and not unkeyed:
        return
    if locked and unkeyed:
        await connection.fetch(QUERIES["lock_fingerprints"], sorted({fingerprint for _, fingerprint, _ in unkeyed}))
    rows = await connection.fetch(
        QUERIES["marks"],
        *(now_us, KEY_KEPT_US),
        *_columns(keyed, 2),
        *_columns(unkeyed, 3),
    )
    for project, key, fingerprint, where, run, conversation in rows:
        before = Before(fingerprint, where, RunId(run), ConversationId(conversation))
        if key:
            books.keys[project, key] = before
        else:
            books.fingerprints[project, fingerprint] = before


async def load_behind(connection: Connection, books: Books, look: Look, owner: str) -> None:
    """Find out what was written of a claim behind a place."""
    claim = look.claim
    key = (claim.run, claim.epoch, look.after)
    after = place(claim.tape, look.after)
    rows = await connection.fetch(
        QUERIES["written_behind"], claim.run, claim.epoch, after, look.count + 1, _ASKS, claim.tape
    )
    if not rows:
        books.behind[key] = Behind(None)
        return
    rows = [row for row in rows if row[0] is not None]
    last = rows[-1][0] if rows else after
    following: Claim | None = None
    found = await connection.fetchrow(QUERIES["claimed_at"], last + 1, owner)
    if found is not None:
        following = _claim(found, claim.tape, last + 1)
    books.behind[key] = Behind([row[1] for row in rows], last & 0xFFFFFFFF, following)


def _claim(row: Sequence[Any], tape: Tape, where: int) -> Claim:
    return Claim(ProjectId(row[0]), ConversationId(row[1]), tape, RunId(row[2]), row[3], where & 0xFFFFFFFF)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Sequence[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width
