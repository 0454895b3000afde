"""Schema steps: `migrations/NNNN_name.sql`, applied in order, each in a transaction of its own, by one process at once.

The first line of a step says which code can still work with the schema it leaves: `-- min_reader: 1` means code that
knows step 1 or more. Steps add first and remove later, so that old code runs on a newer schema unless told otherwise.
"""

import re
from contextlib import suppress
from importlib.resources import files

from msgspec import Struct

from dragoman.core.errors import DragomanError, Unavailable
from dragoman.runtime.fuses import blow
from dragoman.stores.postgres.connection import (
    VERSION_MIN,
    Connection,
    Server,
    in_transaction,
    state_of,
    storage_error,
)

STEP_S = 600.0
"""How long one step, or the steps of another process, may take."""

_MIN_READER = re.compile(r"-- min_reader: (\d+)\n")
_FILE = re.compile(r"(\d{4})_\w+\.sql")
_LOCK = 0x64726167  # "drag": with the schema's number behind it, the key of our advisory lock

_TABLE = """
create table schema_version (
    version integer primary key,
    min_reader integer not null,
    name text not null
)
"""


class Step(Struct, frozen=True):
    version: int
    min_reader: int
    name: str
    script: str


def steps() -> tuple[Step, ...]:
    """All steps this code knows, in order."""
    found: list[Step] = []
    for file in (files("dragoman.stores.postgres") / "migrations").iterdir():
        number = _FILE.fullmatch(file.name)
        if number is None:
            continue
        script = file.read_text("utf-8")
        min_reader = _MIN_READER.match(script)
        if min_reader is None:
            raise RuntimeError(f"{file.name} does not begin with -- min_reader: n")
        found.append(Step(int(number[1]), int(min_reader[1]), file.name, script))
    return tuple(sorted(found, key=lambda step: step.version))


async def migrate(connection: Connection, server: Server, known: tuple[Step, ...]) -> None:
    """Bring the schema of `server`, which must be settled, to the newest step of `known`; nothing to do on a newer one
    that says we may read it. Raises Unavailable: the schema is too new for this code, or we may not make tables."""
    try:
        if not await _due(connection, server, known):
            return
        lock = _LOCK << 32 | await schema_number(connection)
        await connection.execute("set statement_timeout = 0")
        await connection.execute("set lock_timeout = 0")
        await connection.fetchval("select pg_advisory_lock($1)", lock, timeout=STEP_S)
        try:
            # Again: another process may have been faster.
            for step in await _due(connection, server, known):
                await in_transaction(connection, lambda _, step=step: _apply(connection, step))
        finally:
            with suppress(Exception):  # it ends with the connection, if that is lost
                await connection.fetchval("select pg_advisory_unlock($1)", lock)
                await connection.execute("reset statement_timeout; reset lock_timeout")
    except DragomanError:
        raise
    except Exception as error:
        raise _migration_error(error, server) from error


async def settle_schema(connection: Connection, server: Server) -> None:
    """Find out which schema is ours: the first of the search path. Raises Unavailable if this is no place for us."""
    row = await connection.fetchrow(
        "select current_schema(), current_setting('server_encoding'), current_setting('server_version_num')::int,"
        " current_setting('server_version'), pg_is_in_recovery(), current_setting('search_path')"
    )
    schema: str | None = row[0]
    encoding, number, version, standby, path = row[1:]
    problem = ""
    if number < VERSION_MIN * 10_000:
        problem = f"is PostgreSQL {version}; Dragoman needs {VERSION_MIN} or newer."
    elif encoding != "UTF8":
        problem = f"keeps its texts in {encoding}; Dragoman needs a database made with encoding UTF8."
    elif standby:
        problem = "is a standby, which cannot be written; name the primary in [store] url."
    elif schema is None:
        problem = f"has no schema of its search path ({path}); create it, or correct search_path in [store] url."
    if problem or schema is None:
        raise Unavailable(f"The database {server.where} {problem}", code="storage_failed")
    server.schema = schema
    await connection.execute(f"set search_path = {server.settings['search_path']}")


async def schema_number(connection: Connection) -> int:
    return int(await connection.fetchval("select quote_ident(current_schema())::regnamespace::oid::bigint"))


async def _due(connection: Connection, server: Server, known: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps that are missing. Raises Unavailable if the schema needs newer code, or is somebody else's."""
    version, min_reader = await _version(connection, server)
    if min_reader > known[-1].version:
        raise Unavailable(
            f"The schema {server.schema} of {server.where} was written by a newer version of Dragoman"
            f" (schema {version}); install that version.",
            code="storage_too_new",
            internal=f"this code knows schema {known[-1].version}, the database asks for {min_reader}",
        )
    return tuple(step for step in known if step.version > version)


async def _version(connection: Connection, server: Server) -> tuple[int, int]:
    columns = await connection.fetchval(
        "select array_agg(a.attname::text) from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0"
        " where c.relname = 'schema_version' and c.relnamespace = quote_ident(current_schema())::regnamespace"
    )
    if columns is None:
        return 0, 0
    if not {"version", "min_reader", "name"} <= set(columns):
        raise _not_ours(server, "schema_version")
    row = await connection.fetchrow("select version, min_reader from schema_version order by version desc limit 1")
    return (0, 0) if row is None else (row[0], row[1])


async def _apply(connection: Connection, step: Step) -> None:
    if step.version == 1:
        await connection.execute(_TABLE)
    await connection.execute(step.script, timeout=STEP_S)
    await connection.execute(
        "insert into schema_version (version, min_reader, name) values ($1, $2, $3)",
        *(step.version, step.min_reader, step.name),
    )
    blow("migrate.step")


def _not_ours(server: Server, table: str) -> Unavailable:
    return Unavailable(
        f"The schema {server.schema} of {server.where} holds a table {table} that is not Dragoman's; give Dragoman a"
        ' schema of its own (create schema dragoman) and name it: [store] url = "…?search_path=dragoman".',
        code="storage_failed",
    )


def _migration_error(error: Exception, server: Server) -> Unavailable:
    state = state_of(error)
    if state == "42501":
        return Unavailable(
            f"We may not create tables in schema {server.schema} of {server.where}; let the role do so"
            f" (grant create, usage on schema {server.schema} to …), or name another schema in [store] url.",
            code="storage_failed",
            internal=server.scrub(str(error)),
        )
    if state == "42P07":
        return _not_ours(server, str(error).split('"')[1])
    return storage_error(error, server)
