"""Moving a whole store from one engine to another: copy, compare, and only then keep.

    for each table: read from the source, write to the target      (nobody else sees it yet)
    for each table: read back from the target, compare
    commit

What is compared are counts and a hash over every value of every row, of what the source gave and what the target gives
back. The source is only read.
"""

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from dragoman.core.errors import Unavailable
from dragoman.runtime.inventory import TABLES, Row, Table, Tally
from dragoman.server.config import BadConfig
from dragoman.stores.sqlite import unloading


class Source(Protocol):
    """All of a store as it stood at one moment. Methods raise Unavailable."""

    where: str
    """For people."""

    def count(self, table: Table) -> int: ...

    def pieces(self, table: Table) -> Iterator[list[Row]]:
        """All rows in order of the key, a few at a time; none is empty."""
        ...

    @property
    def last_tape(self) -> int:
        """The highest number that a tape ever had."""
        ...

    @property
    def last_run(self) -> int:
        """The number of the run that was accepted last."""
        ...

    @property
    def unfinished(self) -> int:
        """Runs that have not ended, those that wait included."""
        ...


class Target(Protocol):
    """An empty store that nobody else can use until `commit`. Methods raise Unavailable."""

    where: str
    """For people."""

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """Raises Conflict if it cannot keep them as they are."""
        ...

    async def count(self, table: Table) -> int: ...

    async def rows(self, table: Table, *, after: Row | None, until: Row) -> Sequence[Row]:
        """Those whose key lies behind `after`, None = all, and up to `until`, in order of it."""
        ...

    async def commit(self, *, last_tape: int, last_run: int) -> None:
        """Keep what was put, all at once. New tapes and runs are numbered from behind these."""
        ...


Step = Callable[[int], None]
"""Told of so many rows more."""


class Moved(Struct, frozen=True):
    """One table: its rows, and the hash over them (64 hex digits) at the source and as read back from the target; None
    if nothing was written."""

    table: str
    rows: int
    digest: str
    digest_there: str | None = None


def count_rows(source: Source) -> int:
    """Of all tables."""
    return sum(map(source.count, TABLES))


def look_over(source: Source, step: Step) -> list[Moved]:
    """Read everything, as for a copy, and write nothing."""
    found: list[Moved] = []
    for table in TABLES:
        tally = Tally()
        for piece in source.pieces(table):
            tally.add(piece)
            step(len(piece))
        found.append(Moved(table.name, tally.rows, tally.digest))
    return found


async def move(source: Source, target: Target, *, copied: Step, compared: Step) -> list[Moved]:
    """Copy everything, compare it, commit it. Nothing is kept if this raises: Conflict if the target cannot keep a row
    as it is, Unavailable."""
    copies = [await _copy(source, target, table, copied) for table in TABLES]
    moved = [await _compare(target, copy, compared) for copy in copies]
    await target.commit(last_tape=source.last_tape, last_run=source.last_run)
    return moved


class _Copy:
    """What was read of one table, and up to which keys at a time."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.tally = Tally()
        self.ends: list[Row] = []


async def _copy(source: Source, target: Target, table: Table, step: Step) -> _Copy:
    copy = _Copy(table)
    for piece in source.pieces(table):
        copy.tally.add(piece)
        copy.ends.append(piece[-1][: table.key_columns])
        await target.put(table, piece)
        step(len(piece))
    return copy


async def _compare(target: Target, copy: _Copy, step: Step) -> Moved:
    """By the same pieces, so that neither side ever holds more of it at once. Raises Unavailable if they differ."""
    table, tally = copy.table, Tally()
    after: Row | None = None
    for until in copy.ends:
        rows = await target.rows(table, after=after, until=until)
        tally.add(rows)
        step(len(rows))
        after = until
    count = await target.count(table)
    if not copy.tally.rows == tally.rows == count or copy.tally.digest != tally.digest:
        raise Unavailable(
            f"{target.where}, does not give back the {table.name} that were put there. Nothing was kept.",
            code="storage_failed",
            internal=f"{copy.tally.rows} rows {copy.tally.digest}, there {count}, {tally.rows} rows {tally.digest}",
        )
    return Moved(table.name, tally.rows, copy.tally.digest, tally.digest)


# -- the engines -----------------------------------------------------------------------------------------------------


@contextmanager
def open_source(path: Path) -> Generator[Source]:
    """The SQLite store at `path`, held against all who would write it. Raises NotFound, Conflict, Unavailable."""
    with unloading.open_source(path) as source:
        yield source


@asynccontextmanager
async def open_target(url: str, *, password: str, look_only: bool) -> AsyncGenerator[Target]:
    """The empty PostgreSQL schema at `url`. `look_only`: nothing is made there, and nothing may be put.

    Raises Conflict if it is not empty; BadConfig without the driver; Unavailable.
    """
    try:
        from dragoman.stores.postgres import loading  # noqa: PLC0415 an extra that most installations do without
    except ModuleNotFoundError as error:
        raise BadConfig("The driver of PostgreSQL is not installed: pip install 'dragoman[postgres]'") from error
    async with loading.open_target(url, password=password, look_only=look_only) as target:
        yield target
