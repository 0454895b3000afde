"""Handing everything in the file over to another engine: all rows, from one moment, with nobody writing meanwhile."""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from dragoman.core.errors import Conflict, NotFound, Unavailable
from dragoman.core.names import Tape
from dragoman.runtime.inventory import Row, Table
from dragoman.stores.sqlite.connection import connect, storage_error
from dragoman.stores.sqlite.lock import TapeLock
from dragoman.stores.sqlite.migrations import steps
from dragoman.stores.sqlite.open_tapes import load_tape
from dragoman.stores.sqlite.queries import parse, statement

ROWS_AT_ONCE = 5000
CHARS_AT_ONCE = 4 * 1024 * 1024
"""What is handed over at once: rows until one of these bounds is reached."""

QUERIES = parse((files("dragoman.stores.sqlite") / "unloading.sql").read_text("utf-8"))


@contextmanager
def open_source(path: Path) -> Generator["SqliteSource"]:
    """The store at `path`, held for as long as this lasts: no server can open it, and no command write beside.

    Nothing in it is changed. Raises NotFound if there is none; Conflict if a process writes its tapes, or its schema is
    older than what this code knows; Unavailable, if it is newer too.
    """
    if not path.exists():
        raise NotFound(f"There is no store {path}: there is nothing to move.", what="store")
    lock = TapeLock.take(path)
    try:
        with closing(connect(path)) as connection:
            try:
                connection.execute("begin immediate")
                connection.execute("pragma query_only=on")
                _check_schema(connection, path)
            except sqlite3.Error as error:
                raise storage_error(error, path) from error
            yield SqliteSource(connection, path)
    finally:
        lock.release()


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    known = steps()[-1].version
    exists = connection.execute("select 1 from sqlite_schema where name = 'schema_version'").fetchone()
    row = connection.execute(QUERIES["version"]).fetchone() if exists else None
    if row is None:
        raise NotFound(f"{path} holds no store yet: there is nothing to move.", what="store")
    if row[0] > known:
        # Also if we could read it: it may hold what we know nothing of, and it would be left behind.
        raise Unavailable(
            f"The store {path} was written by a newer version of Dragoman (schema {row[0]}); move with that version.",
            code="storage_too_new",
            internal=f"this code knows schema {known}",
        )
    if row[0] < known:
        raise Conflict(
            f"The store {path} has an older schema ({row[0]}); bring it up to date first, with: dragoman doctor"
        )


class SqliteSource:
    """All of a store. Made by `open_source`; may be used from any thread, by one at a time."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.where = str(path)
        self._connection = connection
        self._path = path

    def count(self, table: Table) -> int:
        return int(self._one(f"select count(*) from {table.name}"))

    @property
    def last_tape(self) -> int:
        """The highest number that a tape ever had."""
        return int(self._one(*statement("last_tape")))

    @property
    def last_run(self) -> int:
        """The number of the run that was accepted last."""
        return int(self._one(*statement("last_run")))

    @property
    def unfinished(self) -> int:
        """Runs that have not ended, those that wait included."""
        return int(self._one("select count(*) from runs where ended = 0"))

    def pieces(
        self, table: Table, *, rows_max: int = ROWS_AT_ONCE, chars_max: int = CHARS_AT_ONCE
    ) -> Iterator[list[Row]]:
        """All rows in order of the key, a few at a time. Raises Unavailable."""
        try:
            piece: list[Row] = []
            chars = 0
            for row in self._rows(table.name):
                piece.append(row)
                last = row[-1]
                chars += len(last) if isinstance(last, str | bytes) else 0
                if len(piece) >= rows_max or chars >= chars_max:
                    yield piece
                    piece, chars = [], 0
            if piece:
                yield piece
        except sqlite3.Error as error:
            raise storage_error(error, self._path) from error

    def _rows(self, name: str) -> Iterator[Row]:
        found = self._connection.execute(QUERIES[name])
        if name == "conversations":
            return ((*row[:4], bool(row[4]), bool(row[5]), *row[6:], *self._at_work(row)) for row in found)
        if name == "runs":
            return ((*row[:11], bool(row[11]), bool(row[12]), row[13]) for row in found)
        if name == "records":
            return ((*row[:4], bool(row[4]), *row[5:]) for row in found)
        if name == "knowledge":
            return ((*row[:3], bool(row[3]), *row[4:]) for row in found)
        return found

    def _at_work(self, row: Row) -> tuple[int, int, bool]:
        """Of a conversation's run at work: where its owner wrote last, where it replied, whether it spoke."""
        tape = load_tape(self._look_up_all, Tape(row[0])) if row[-1] else None
        if tape is None or not tape.runs:
            return 0, 0, False
        run = tape.runs[0]
        return run.written, run.replied_seq, run.spoke

    def _look_up_all(self, name: str, *parameters: Any) -> list[Any]:
        return self._connection.execute(*statement(name, parameters)).fetchall()

    def _one(self, sql: str, parameters: Any = ()) -> Any:
        try:
            return self._connection.execute(sql, parameters).fetchone()[0]
        except sqlite3.Error as error:
            raise storage_error(error, self._path) from error
