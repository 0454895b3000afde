import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dragoman.core.errors import Unavailable
from dragoman.core.names import ProjectId
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from dragoman.stores.postgres.connection import Connection, Server
from dragoman.stores.postgres.connection import connect as connect_as_the_store
from dragoman.stores.postgres.migrations import Step, migrate, settle_schema, steps
from dragoman.stores.postgres.store import open_store
from tests.stores.postgres.database import SERVER, connect, new_schema
from tests.stores.talk import turn

FIRST = Step(1, 1, "0001_first.sql", "create table a (x int);\ncreate table b (x int);\n")
SECOND = Step(2, 1, "0002_second.sql", "alter table a add column y int;\n")
BREAKING = Step(3, 3, "0003_breaking.sql", "alter table a rename to c;\n")
FAULTY = Step(2, 1, "0002_faulty.sql", "alter table a add column y int;\ncreate table a (x int);\n")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with new_schema("migrations") as made:
        yield made


@pytest.fixture
async def server(url: str) -> Server:
    return Server(url)


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[Connection]:
    opened = await connect_as_the_store(server)
    await settle_schema(opened, server)
    yield opened
    await opened.close()


async def version(connection: Connection) -> list[tuple[int, int, str]]:
    rows = await connection.fetch("select version, min_reader, name from schema_version order by version")
    return [tuple(row) for row in rows]


async def tables(connection: Connection) -> set[str]:
    rows = await connection.fetch("select tablename from pg_tables where schemaname = current_schema()")
    return {row[0] for row in rows}


def test_our_steps_are_numbered_without_a_gap_and_every_one_can_be_read_by_itself():
    known = steps()
    assert [step.version for step in known] == list(range(1, len(known) + 1))
    assert all(1 <= step.min_reader <= step.version for step in known)


async def test_an_empty_schema_gets_every_step_and_the_next_time_none(connection: Connection, server: Server):
    for _ in range(2):
        await migrate(connection, server, (FIRST, SECOND))
        assert await version(connection) == [(1, 1, "0001_first.sql"), (2, 1, "0002_second.sql")]
    assert await tables(connection) == {"schema_version", "a", "b"}


async def test_an_older_schema_gets_what_is_missing(connection: Connection, server: Server):
    await migrate(connection, server, (FIRST,))
    await connection.execute("insert into a values (7)")
    await migrate(connection, server, (FIRST, SECOND, BREAKING))
    assert [tuple(row) for row in await connection.fetch("select * from c")] == [(7, None)]


async def test_old_code_runs_on_a_newer_schema_that_says_so(connection: Connection, server: Server):
    await migrate(connection, server, (FIRST, SECOND))
    await migrate(connection, server, (FIRST,))
    assert len(await version(connection)) == 2


async def test_old_code_refuses_a_newer_schema_that_says_so(connection: Connection, server: Server):
    await migrate(connection, server, (FIRST, SECOND, BREAKING))
    with pytest.raises(Unavailable) as refused:
        await migrate(connection, server, (FIRST, SECOND))
    assert refused.value.code == "storage_too_new"
    assert refused.value.detail == (
        f"The schema {server.schema} of {server.where} was written by a newer version of Dragoman (schema 3);"
        " install that version."
    )


async def test_a_step_that_fails_leaves_nothing_of_itself(connection: Connection, server: Server):
    with pytest.raises(Unavailable):
        await migrate(connection, server, (FIRST, FAULTY))
    assert await version(connection) == [(1, 1, "0001_first.sql")]
    await migrate(connection, server, (FIRST, SECOND))
    assert await version(connection) == [(1, 1, "0001_first.sql"), (2, 1, "0002_second.sql")]


async def test_a_step_has_a_fuse_before_its_commit(connection: Connection, server: Server):
    fuses.arm("migrate.step=raise@2")
    try:
        with pytest.raises(FuseBlown):
            await migrate(connection, server, (FIRST, SECOND))
    finally:
        fuses.arm("")
    assert len(await version(connection)) == 1
    await migrate(connection, server, (FIRST, SECOND))
    assert len(await version(connection)) == 2


async def test_many_at_once_migrate_once(url: str, connection: Connection):
    stores = await asyncio.gather(*(open_store(url) for _ in range(6)))
    await asyncio.gather(*(store.close() for store in stores))
    assert len(await version(connection)) == len(steps())
    assert await connection.fetchval("select count(*) from installation") == 1


async def test_two_schemas_of_one_database_know_nothing_of_each_other(url: str):
    async with new_schema("neighbour") as other:
        stores = [await open_store(each) for each in (url, other)]
        for store in stores:
            await store.probe()
            await store.close()
        connection = await connect(other)
        assert await connection.fetchval("select count(*) from probes") == 1
        await connection.close()


async def test_a_schema_of_somebody_else_is_left_alone(connection: Connection, url: str):
    await connection.execute("create table runs (x int)")
    with pytest.raises(Unavailable, match=r"holds a table runs that is not Dragoman's; give Dragoman a schema"):
        await open_store(url)
    assert await tables(connection) == {"runs"}
    await connection.execute("drop table runs; create table schema_version (installed_rank int)")
    with pytest.raises(Unavailable, match=r"holds a table schema_version that is not Dragoman's"):
        await open_store(url)


async def test_a_role_that_may_not_create_tables_is_told_what_it_lacks(connection: Connection, server: Server):
    role = f"{server.schema}_reader"
    await connection.execute(f"create role {role}; grant usage on schema {server.schema} to {role}")
    try:
        await connection.execute(f"set role {role}")
        with pytest.raises(Unavailable, match=rf"We may not create tables in schema {server.schema}.*grant create"):
            await migrate(connection, server, steps())
    finally:
        await connection.execute(f"reset role; drop owned by {role}; drop role {role}")


async def test_a_schema_that_is_not_there_is_named():
    await (await connect()).close()
    mark = "&" if "?" in SERVER else "?"
    with pytest.raises(Unavailable, match=r"has no schema of its search path \(nowhere\); create it"):
        await open_store(f"{SERVER}{mark}search_path=nowhere")


class Answering:
    """A connection to a server that says so of itself."""

    def __init__(self, *row: Any) -> None:
        self._row = row

    async def fetchrow(self, _query: str, *_args: Any, timeout: float | None = None) -> Any:
        return self._row


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (("public", "UTF8", 120_017, "12.17", False, "public"), "is PostgreSQL 12.17; Dragoman needs 13 or newer."),
        (("public", "LATIN1", 150_000, "15", False, "public"), "keeps its texts in LATIN1; Dragoman needs"),
        (("public", "UTF8", 150_000, "15", True, "public"), "is a standby, which cannot be written"),
    ],
)
async def test_a_server_that_will_not_do_is_refused(row: tuple[Any, ...], sentence: str):
    server = Server("postgresql://h/d")
    with pytest.raises(Unavailable) as refused:
        await settle_schema(Answering(*row), server)  # pyright: ignore[reportArgumentType] all of it that is used
    assert sentence in refused.value.detail
    assert refused.value.detail.startswith("The database h/d ")
    assert server.schema == ""


PUT = """
insert into conversations (tape, project, id, title, origin, created_at, updated_at, messages, turns, head, live_run,
    written, replied, spoke)
values ($1, 'default', $2, '"T"', 'grip', 5, 6, 2, 1, 1, '', 0, 0, false)
"""
"""As step 1's code writes it."""


async def test_a_schema_of_step_1_learns_whose_its_conversations_are(connection: Connection, server: Server, url: str):
    await migrate(connection, server, steps()[:1])
    made = '{"kind":"conversation_created","project":"default","conversation":"c","origin":"grip"%s}'
    for tape, owner in ((1, ',"owner":"ann"'), (2, ""), (3, ',"owner":"Änne 🦉"')):
        await connection.execute(PUT, tape, f"c{tape}")
        row = (tape << 32 | 1, 0, 5, 0, "", "conversation_created", made % owner)
        await connection.execute("insert into entries values ($1, $2, $3, $4, $5, $6, $7)", *row)
    await connection.execute(PUT, 4, "c4")  # whatever became of its tape
    await connection.execute(
        "insert into credentials (id, project, name, scopes, hash, pepper_id, created_at)"
        " values ('k', 'default', 'n', '', 'x', 'p', 1.0)"
    )

    store = await open_store(url)
    await connection.execute(PUT, 9, "c9")  # code of step 1 works on
    found = (await store.page(ProjectId("default"), after="", limit=0)).items
    assert [info.owner for info in found] == ["ann", "", "Änne 🦉", "", ""]
    assert {(info.title, info.updated_at, info.shared, info.archived) for info in found} == {("T", 6e-6, False, False)}
    assert [credential.subject for credential in await store.credentials(None)] == [""]
    assert (await store.accept(turn("c1", "r", only_owner="ann"))).created is False
    await store.close()
