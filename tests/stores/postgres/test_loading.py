"""Taking a store over: into an empty schema, all or nothing. That it is the same store then is shown in
tests/server/test_moving.py."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from dragoman.access.ports import Project
from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.knowledge import Query
from dragoman.core.names import ConversationId, ProjectId
from dragoman.runtime.inventory import TABLES, Row, Table
from dragoman.stores.postgres.loading import PostgresTarget, open_target
from dragoman.stores.postgres.store import open_store
from tests.stores.postgres.database import SERVER, connect, kept_schema, new_schema
from tests.stores.talk import PROJECT, begin

BY_NAME = {table.name: table for table in TABLES}

STAYS = {
    "schema_version": "each engine has steps of its own",
    "installation": "made with the schema",
    "probes": "stores that are open",
    "runs.owner": "nobody",
    "runs.lease_until": "nobody's",
    "knowledge.folded": "follows from title and id",
    "knowledge.lexemes": "follow from title and text",
    "knowledge.words": "follow from them",
}
"""What is not taken over, and why."""

PROJECTS: list[Row] = [("a", "A", 1.5), ("b", "Ökonomie", 1e9 / 3)]
TITLE = 'NUL \0 and "quotes" 🦉'
CONVERSATION: Row = (7, "a", "c", "me", True, False, TITLE, "test", 1, 2, 3, 4, 5, "r", 4, 3, True)
RECORDS: list[Row] = [
    (project, kind, record_id, "me", True, "", 2, 1.5, 2.5, "me", "you", None, "{}")
    for project in ("", "a")
    for kind in ("rule", "skill")
    for record_id in ("Z", "a", "é")
]
KNOWLEDGE: list[Row] = [
    (project, "1", title, True, "user", '{"kind":"é"}', "me", "Me", 1.5, text)
    for project, title, text in (("a", "Größe", "It runs."), ("b", "", "It runs and runs."))
]
RUN: Row = (7 << 32 | 2, 9, "r", "a", "running", 3, 1, 1, 0, 0, 5, False, False, "f")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A schema with our tables, and nothing in them."""
    async with kept_schema() as url:
        await (await open_store(url)).close()
        async with kept_schema() as url:
            yield url


async def ask(url: str, query: str, *args: Any) -> list[tuple[Any, ...]]:
    connection = await connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query, *args)]
    finally:
        await connection.close()


async def rows(target: PostgresTarget, table: Table) -> list[Row]:
    until = ("~",) * table.key_columns if table.name in ("projects", "records", "knowledge") else (1 << 62,)
    return await target.rows(table, after=None, until=until)


async def test_every_table_and_column_is_taken_over_or_stays_for_a_reason(url: str):
    found = await ask(
        url,
        "select table_name, column_name from information_schema.columns"
        " where table_schema = current_schema() order by 1",
    )
    stays = {name for name, _ in found if name not in BY_NAME}
    stays |= {f"{name}.{column}" for name, column in found if name in BY_NAME and column not in BY_NAME[name].columns}
    assert stays == STAYS.keys()
    assert {(table.name, column) for table in TABLES for column in table.columns} <= set(found)


async def test_what_is_put_is_given_back_and_kept_once_committed(url: str):
    async with open_target(url) as target:
        await target.put(BY_NAME["projects"], PROJECTS[:1])
        await target.put(BY_NAME["projects"], PROJECTS[1:])
        await target.put(BY_NAME["conversations"], [CONVERSATION])
        await target.put(BY_NAME["runs"], [RUN])
        assert await rows(target, BY_NAME["projects"]) == PROJECTS
        assert await target.rows(BY_NAME["projects"], after=("a",), until=("b",)) == PROJECTS[1:]
        assert await target.rows(BY_NAME["projects"], after=None, until=("a",)) == PROJECTS[:1]
        assert await target.count(BY_NAME["projects"]) == 2
        assert await rows(target, BY_NAME["conversations"]) == [CONVERSATION]
        assert await rows(target, BY_NAME["runs"]) == [RUN]
        await target.commit(last_tape=7, last_run=9)

    assert await ask(url, "select id, name, created_at from projects order by id") == PROJECTS
    assert await ask(url, "select owner, lease_until from runs") == [("", None)]


async def test_of_a_key_of_several_columns_all_count(url: str):
    async with open_target(url) as target:
        table = BY_NAME["records"]
        await target.put(table, RECORDS)
        assert await rows(target, table) == RECORDS
        for cut in range(1, len(RECORDS)):
            until = RECORDS[cut - 1][:3]
            assert await target.rows(table, after=None, until=until) == RECORDS[:cut]
            assert await target.rows(table, after=until, until=("a", "skill", "é")) == RECORDS[cut:]


async def test_knowledge_is_found_by_words_that_are_made_here(url: str):
    async with open_target(url) as target:
        table = BY_NAME["knowledge"]
        await target.put(table, KNOWLEDGE)
        assert await rows(target, table) == KNOWLEDGE
        assert await target.rows(table, after=("a", "1"), until=("b", "1")) == KNOWLEDGE[1:]
        await target.commit(last_tape=0, last_run=0)
    store = await open_store(url)
    for project, asked in (("a", "größe"), ("a", "running"), ("b", "run")):
        found = await store.knowledge.search(
            ProjectId(project), (Query(asked),), owner="me", labels={"kind": "é"}, limit=5
        )
        assert [each.entry.id for each in found] == ["1"]
    assert [entry.id for entry in await store.knowledge.page(ProjectId("a"), containing="GRÖSSE", limit=5)] == ["1"]
    await store.close()


async def test_what_comes_next_is_numbered_from_behind_what_was_put(url: str):
    async with open_target(url) as target:
        await target.put(BY_NAME["runs"], [RUN])
        await target.commit(last_tape=41, last_run=99)
    store = await open_store(url)
    assert (await begin(store, "new", "r-new")).tape == 42
    assert await ask(url, "select number from runs order by number") == [(9,), (100,)]
    await store.close()


async def test_nothing_is_kept_without_a_commit_not_even_numbers(url: str):
    for _ in range(2):
        async with open_target(url) as target:
            await target.put(BY_NAME["projects"], PROJECTS)
        assert await ask(url, "select count(*) from projects") == [(0,)]
    with pytest.raises(KeyError):
        async with open_target(url) as target:
            await target.put(BY_NAME["projects"], PROJECTS)
            raise KeyError
    async with open_target(url) as target:
        await target.commit(last_tape=0, last_run=0)
    store = await open_store(url)
    assert (await begin(store, "first", "r")).tape == 1
    await store.close()


async def test_nobody_sees_or_writes_it_before_it_is_committed(url: str):
    connection = await connect(url)
    await connection.execute("set lock_timeout = '20ms'")
    async with open_target(url) as target:
        await target.put(BY_NAME["projects"], PROJECTS)
        for query in ("select * from projects", "select * from entries", "insert into projects values ('x', 'x', 1)"):
            with pytest.raises(asyncpg.LockNotAvailableError):
                await connection.execute(query)
    await connection.close()


async def test_who_is_at_work_there_is_not_disturbed(url: str):
    connection = await connect(url)
    await connection.execute("begin; insert into projects values ('x', 'x', 1)")
    with pytest.raises(Unavailable, match=r"Somebody is at work in .*, schema kept_"):
        async with open_target(url, lock_s=0.02):
            pass
    await connection.execute("rollback")
    await connection.close()


async def test_a_schema_that_holds_anything_is_refused(url: str):
    store = await open_store(url)
    await store.put_project(Project(PROJECT, "default", 1.0))
    await begin(store, "c", "r")
    for look_only in (False, True):
        with pytest.raises(Conflict, match=r"holds projects, conversations, entries, runs already\. Name an empty one"):
            async with open_target(url, look_only=look_only):
                pass
    await store.delete(PROJECT, ConversationId("c"))
    with pytest.raises(Conflict, match="holds projects already"):
        async with open_target(url):
            pass
    await store.delete_project(PROJECT)
    with pytest.raises(Conflict, match="was used before, though it is empty now"):
        async with open_target(url):
            pass
    await store.close()


async def test_looking_makes_nothing_and_lets_nothing_be_put():
    async with new_schema("moved_look") as url:
        async with open_target(url, look_only=True) as target:
            assert "schema moved_look" in target.where
        assert await ask(url, "select 1 from pg_class where relnamespace = current_schema()::regnamespace") == []
        async with open_target(url):
            pass
        async with open_target(url, look_only=True) as target:
            with pytest.raises(Unavailable):
                await target.put(BY_NAME["projects"], PROJECTS)


async def test_a_newer_schema_is_refused():
    async with new_schema("moved_newer") as url:
        await (await open_store(url)).close()
        await ask(url, "insert into schema_version values (99, 1, 'x')")
        for look_only in (False, True):
            with pytest.raises(Unavailable, match=r"newer version of Dragoman \(schema 99\)"):
                async with open_target(url, look_only=look_only):
                    pass


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("projects", ("a", "with a NUL \0", 1.0)),
        ("projects", ("a", "A", "not a number")),
        ("runs", (*RUN[:5], 1 << 40, *RUN[6:])),
        ("conversations", (*CONVERSATION[:2], "".join(chr(0x4E00 + n % 9999) for n in range(9999)), *CONVERSATION[3:])),
    ],
    ids=["NUL", "type", "size", "key too long"],
)
async def test_what_the_database_does_not_take_is_said_with_its_table_and_nothing_is_kept(
    url: str, table: str, row: Row
):
    with pytest.raises(Conflict, match=f"does not take the {table} as they are: .*Nothing was kept."):
        async with open_target(url) as target:
            await target.put(BY_NAME["deltas"], [(1, 0, 1, "{}")])
            await target.put(BY_NAME[table], [row])
    assert await ask(url, "select count(*) from deltas") == [(0,)]


async def test_a_connection_that_is_lost_is_said_to_be(url: str):
    with pytest.raises(Unavailable, match="cannot be reached"):
        async with open_target(url) as target:
            pid = await target._connection.fetchval("select pg_backend_pid()")  # pyright: ignore[reportPrivateUsage]
            assert await ask(SERVER, "select pg_terminate_backend($1, 5000)", pid) == [(True,)]
            await target.put(BY_NAME["projects"], PROJECTS)
    assert await ask(url, "select count(*) from projects") == [(0,)]


CUT_AT_COMMIT = """
create function cut() returns trigger language plpgsql as
    'begin perform pg_terminate_backend(pg_backend_pid()); return null; end';
create constraint trigger cut after insert on projects deferrable initially deferred
    for each row execute function cut();
"""


async def test_a_connection_that_is_lost_over_the_commit_leaves_a_doubt_that_a_second_try_settles():
    async with new_schema("moved_cut") as url:
        await (await open_store(url)).close()
        connection = await connect(url)
        await connection.execute(CUT_AT_COMMIT)
        with pytest.raises(Unavailable, match=r"may be whole there or not there at all\. Run this again"):
            async with open_target(url) as target:
                await target.put(BY_NAME["projects"], PROJECTS)
                await target.commit(last_tape=0, last_run=0)
        await connection.execute("drop trigger cut on projects")
        await connection.close()
        async with open_target(url) as target:
            await target.put(BY_NAME["projects"], PROJECTS)
            await target.commit(last_tape=0, last_run=0)
        assert await ask(url, "select count(*) from projects") == [(2,)]
