"""Taking over everything that another engine hands over: into an empty schema, in one transaction.

    lock all tables ─► refuse if they hold anything ─► COPY, COPY, ... ─► read back ─► number what will follow ─► commit

Until the commit nobody else sees a row of it, and until then nobody can write there. Whatever ends it before, a kill
too, leaves the schema as empty as it was.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Protocol, cast

import asyncpg
import msgspec

from dragoman.core.errors import Conflict, Unavailable
from dragoman.runtime.inventory import TABLES, Row, Table
from dragoman.runtime.knowledge_rules import names_of
from dragoman.stores.postgres.books import title_text
from dragoman.stores.postgres.connection import Connection, Server, connect, is_lost, state_of, storage_error
from dragoman.stores.postgres.knowledge import lexemes
from dragoman.stores.postgres.migrations import migrate, settle_schema, steps
from dragoman.stores.postgres.queries import parse

PIECE_S = 600.0
"""How long one piece may take to be written or read, and the commit."""
LOCK_S = 4.0
"""How long to wait for others to leave the tables alone."""
_SETTINGS = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "10min",  # the other engine may be slow to hand over
    "tcp_keepalives_idle": "30",  # a machine that is gone must not keep the tables locked for hours
}

_QUERIES = parse((files("dragoman.stores.postgres") / "loading.sql").read_text("utf-8"))
_TITLE = next(table.columns.index("title") for table in TABLES if table.name == "conversations")
_OWNED_BY_NOBODY = ("owner",)
"""A column of runs that has no default. Without a lease a run is taken up by the first server that looks."""

_SEARCHED = ("folded", "lexemes")
"""Columns of knowledge that follow from the others."""

_LOWEST: dict[type, Any] = {int: 0, str: ""}
"""What no key is, or at least no whole one, and all lie behind."""

_KNOWLEDGE = next(table.columns for table in TABLES if table.name == "knowledge")
_titles = msgspec.json.Decoder(str)
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_NOT_TAKEN = (*_FAILURES, ValueError, TypeError, OverflowError)
"""The last three are of a value that cannot be sent as what its column is."""


class _Copying(Connection, Protocol):
    """What else we use here of asyncpg's connection."""

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        schema_name: str,
        columns: Sequence[str],
        records: Iterable[Row],
        timeout: float,
    ) -> str: ...


@asynccontextmanager
async def open_target(
    url: str, *, password: str = "", look_only: bool = False, lock_s: float = LOCK_S
) -> AsyncGenerator["PostgresTarget"]:
    """The schema at `url`, locked and known to be empty; our tables are made if need be. What was put there and not
    committed is gone when this ends.

    `look_only`: nothing is made or locked, and nothing may be put. Raises Conflict if it holds anything already;
    Unavailable, which says what to do.
    """
    server = Server(url, password)
    settings = {**_SETTINGS, "application_name": f"{server.name} migrates"}
    connection = cast(_Copying, await connect(server, settings))  # our protocol has only what the store uses
    try:
        await settle_schema(connection, server)
        if not look_only:
            await migrate(connection, server, steps())
        target = PostgresTarget(connection, server)
        await target.take(None if look_only else lock_s)
        yield target
    except _FAILURES as error:
        raise storage_error(error, server) from error
    finally:
        connection.terminate()


class PostgresTarget:
    """All of a store to be. Made by `open_target`."""

    def __init__(self, connection: _Copying, server: Server) -> None:
        self.where = f"{server.where}, schema {server.schema}"
        self._connection = connection
        self._server = server

    async def take(self, lock_s: float | None) -> None:
        """Make sure that nothing is here, or ever was; and that nobody can come for as long as the transaction lasts,
        waiting so long for who is here. None = only look."""
        await self._connection.execute("begin read only" if lock_s is None else "begin")
        if not await self._check_schema():
            return
        if lock_s is not None:
            await self._lock(lock_s)
        held = [table.name for table in TABLES if await self._holds(table)]
        if held:
            raise self._not_empty(f"holds {', '.join(held)} already")
        if await self._connection.fetchval("select is_called from tape_numbers"):
            # A server that ran here may still hold numbers for tapes, which ours would have then.
            raise self._not_empty("was used before, though it is empty now")

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """Write rows. Raises Conflict if the database does not take them as they are; Unavailable."""
        columns, records = table.columns, rows
        if table.name == "conversations":
            records = [(*row[:_TITLE], title_text(row[_TITLE]), *row[_TITLE + 1 :]) for row in rows]
        elif table.name == "runs":
            columns, records = (*columns, *_OWNED_BY_NOBODY), [(*row, "") for row in rows]
        elif table.name == "knowledge":
            columns, records = (*columns, *_SEARCHED), [(*row, *_searched(row)) for row in rows]
        try:
            await self._connection.copy_records_to_table(
                table.name, schema_name=self._server.schema, columns=columns, records=records, timeout=PIECE_S
            )
        except _NOT_TAKEN as error:
            raise self._refused(table, error) from error

    async def count(self, table: Table) -> int:
        return int(await self._connection.fetchval(f"select count(*) from {table.name}", timeout=PIECE_S))

    async def rows(self, table: Table, *, after: Row | None, until: Row) -> list[Row]:
        """Those whose key lies behind `after`, None = all, and up to `until`, in order of it."""
        first = after or tuple(_LOWEST[type(value)] for value in until)
        found = await self._connection.fetch(_QUERIES[table.name], *first, *until, timeout=PIECE_S)
        if table.name == "conversations":
            return [(*row[:_TITLE], _titles.decode(row[_TITLE]), *row[_TITLE + 1 :]) for row in map(tuple, found)]
        return list(map(tuple, found))

    async def commit(self, *, last_tape: int, last_run: int) -> None:
        """Keep all that was put. New tapes and runs are numbered from behind these. Raises Unavailable."""
        # Not setval: that would stand if the transaction is rolled back.
        await self._connection.execute(f"alter sequence tape_numbers restart with {last_tape + 1}")
        await self._connection.execute(f"alter table runs alter column number restart with {last_run + 1}")
        try:
            await self._connection.execute("commit", timeout=PIECE_S)
        except Exception as error:
            raise Unavailable(
                f"The connection to {self._server.where} was lost over the commit, so that it may be whole there or not"
                " there at all. Run this again: it goes through, or says that the database holds it already.",
                code="storage_unavailable",
                internal=self._server.scrub(f"{type(error).__name__}: {error}"),
            ) from error

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _check_schema(self) -> bool:
        """False if our tables are not there yet. Raises Unavailable if they are newer than what we know."""
        if await self._connection.fetchval("select to_regclass('schema_version')") is None:
            return False
        version = await self._connection.fetchval("select max(version) from schema_version")
        if version > steps()[-1].version:
            raise Unavailable(
                f"{self.where}, was set up by a newer version of Dragoman (schema {version}); move with that version.",
                code="storage_too_new",
                internal=f"this code knows schema {steps()[-1].version}",
            )
        return True

    async def _holds(self, table: Table) -> bool:
        return bool(await self._connection.fetchval(f"select exists (select 1 from {table.name})"))

    async def _lock(self, lock_s: float) -> None:
        await self._connection.execute(f"set local lock_timeout = {lock_s * 1000:.0f}")
        names = ", ".join(table.name for table in TABLES)
        try:
            await self._connection.execute(f"lock table {names} in access exclusive mode")
        except asyncpg.LockNotAvailableError as error:
            raise Unavailable(
                f"Somebody is at work in {self.where}: a server, or another migrate. Stop it first.",
                code="storage_busy",
                internal=str(error),
            ) from error

    def _not_empty(self, why: str) -> Conflict:
        return Conflict(
            f"{self.where}, {why}. Name an empty one: a new database, or a new schema in this one"
            ' (create schema dragoman), as in --to "postgresql://…?search_path=dragoman".'
        )

    def _refused(self, table: Table, error: Exception) -> Exception:
        if is_lost(error) or state_of(error).startswith("53"):  # 53: no room left
            return storage_error(error, self._server)
        said = self._server.scrub(str(error))
        return Conflict(f"{self.where}, does not take the {table.name} as they are: {said}. Nothing was kept.")


def _searched(row: Row) -> Row:
    entry = dict(zip(_KNOWLEDGE, row, strict=True))
    title, text = entry["title"], entry["text"]
    return names_of(title, entry["id"]), lexemes(entry["project"], title, text)
