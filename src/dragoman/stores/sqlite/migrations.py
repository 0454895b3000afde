"""Schema steps: `migrations/NNNN_name.sql`, applied in order, each in a transaction of its own under the write lock.

The first line of a step says which code can still work with the schema it leaves: `-- min_reader: 1` means code that
knows step 1 or more. Steps add first and remove later, so that old code runs on a newer schema unless told otherwise.
"""

import re
import sqlite3
from importlib.resources import files
from pathlib import Path

from msgspec import Struct

from dragoman.core.errors import Conflict, Unavailable
from dragoman.runtime.fuses import blow
from dragoman.stores.sqlite.connection import storage_error
from dragoman.stores.sqlite.lock import holder_of

_MIN_READER = re.compile(r"-- min_reader: (\d+)\n")
_FILE = re.compile(r"(\d{4})_\w+\.sql")

_TABLE = """
create table if not exists schema_version (
    version integer primary key,
    min_reader integer not null,
    name text not null
) strict
"""


class Step(Struct, frozen=True):
    version: int
    min_reader: int
    name: str
    script: str


def steps() -> tuple[Step, ...]:
    """All steps this code knows, in order."""
    found: list[Step] = []
    for file in (files("dragoman.stores.sqlite") / "migrations").iterdir():
        number = _FILE.fullmatch(file.name)
        if number is None:
            continue
        script = file.read_text("utf-8")
        min_reader = _MIN_READER.match(script)
        if min_reader is None:
            raise RuntimeError(f"{file.name} does not begin with -- min_reader: n")
        found.append(Step(int(number[1]), int(min_reader[1]), file.name, script))
    return tuple(sorted(found, key=lambda step: step.version))


def migrate(connection: sqlite3.Connection, path: Path, known: tuple[Step, ...], *, holds_lock: bool) -> None:
    """Bring the schema to the newest step of `known`; nothing to do on a newer one that says we may read it.

    `holds_lock`: this process holds the tapes. One that does not may set up an empty file, but not change the schema
    under a process that does. Raises Conflict then; Unavailable for a schema that is too new for this code.
    """
    try:
        if _due(connection, path, known):
            _apply(connection, path, known, holds_lock=holds_lock)
    except sqlite3.Error as error:
        raise storage_error(error, path) from error


def _due(connection: sqlite3.Connection, path: Path, known: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps that are missing. Raises Unavailable if the file needs newer code."""
    version, min_reader = _version(connection)
    if min_reader > known[-1].version:
        raise Unavailable(
            f"The store {path} was written by a newer version of Dragoman (schema {version}); install that version.",
            code="storage_too_new",
            internal=f"this code knows schema {known[-1].version}, the file asks for {min_reader}",
        )
    return tuple(step for step in known if step.version > version)


def _version(connection: sqlite3.Connection) -> tuple[int, int]:
    exists = connection.execute("select 1 from sqlite_schema where name = 'schema_version'").fetchone()
    if exists is None:
        return 0, 0
    row = connection.execute("select version, min_reader from schema_version order by version desc limit 1").fetchone()
    return (0, 0) if row is None else (row[0], row[1])


def _apply(connection: sqlite3.Connection, path: Path, known: tuple[Step, ...], *, holds_lock: bool) -> None:
    while True:
        connection.execute("begin exclusive")
        try:
            due = _due(connection, path, known)  # again: another process may have been faster
            if not due:
                connection.execute("rollback")
                return
            if due[0].version > 1 and not holds_lock and (holder := holder_of(path)) is not None:
                raise Conflict(
                    f"The store {path} has an older schema and is in use by process {holder.pid}; restart that first."
                )
            if due[0].version == 1:
                connection.execute(_TABLE)
            for statement in statements(due[0].script):
                connection.execute(statement)
            connection.execute(
                "insert into schema_version (version, min_reader, name) values (?, ?, ?)",
                (due[0].version, due[0].min_reader, due[0].name),
            )
            blow("migrate.step")
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise


def statements(script: str) -> list[str]:
    """A script's statements, one by one. (`executescript` would commit the transaction we are in.)"""
    found: list[str] = []
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            found.append(statement.strip())
            statement = ""
    if re.sub(r"--.*", "", statement).strip():
        raise RuntimeError(f"the script ends inside a statement: {statement.strip()[:80]}")
    return found
