import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.knowledge import KnowledgeEntry, Query
from dragoman.core.names import ProjectId, Tape
from dragoman.core.operations import Archived
from dragoman.stores.postgres.books import place
from dragoman.stores.postgres.connection import Connection, Server
from dragoman.stores.postgres.connection import connect as connect_as_the_store
from dragoman.stores.postgres.knowledge import lexemes
from dragoman.stores.postgres.migrations import settle_schema
from dragoman.stores.postgres.queries import QUERIES, parse
from dragoman.stores.postgres.store import PostgresStore, open_store
from tests.stores.postgres.database import new_schema
from tests.stores.talk import PROJECT, append, begin, finish, say

FOLDER = Path(__file__).parents[3] / "src/dragoman/stores/postgres"
SMALL = "projects|credentials|probes|schema_version|installation"
"""Tables that are read whole, now and then."""


def test_a_file_of_statements_falls_into_names():
    text = "-- about all\n\n-- name: one\n-- what it is\nselect 1\n-- name: two\nselect\n    -- why\n    2\n"
    assert parse(text) == {"one": "select 1", "two": "select\n    2"}


def test_every_statement_is_used():
    code = "".join(path.read_text() for path in FOLDER.glob("*.py"))
    assert [name for name in QUERIES if f'"{name}"' not in code] == []


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A schema in which nothing was ever deleted: rows that are gone cost a while longer."""
    async with new_schema("queries") as made:
        yield made


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    opened = await open_store(url)
    yield opened
    await opened.close()


@pytest.fixture
async def connection(url: str, store: PostgresStore) -> AsyncIterator[Connection]:
    """Set up as the store's own."""
    server = Server(url)
    opened = await connect_as_the_store(server)
    await settle_schema(opened, server)
    yield opened
    await opened.close()


async def plan_of(connection: Connection, name: str, args: tuple[Any, ...], how: str = "") -> str:
    rows = await connection.fetch(f"explain (costs off{how}) {QUERIES[name]}", *args)
    return "\n".join(row[0] for row in rows)


async def test_every_statement_fits_the_schema_and_reads_no_table_from_end_to_end(connection: Connection):
    whole: list[str] = []
    for name, sql in QUERIES.items():
        count = max((int(number) for number in re.findall(r"\$(\d+)", sql)), default=0)
        plan = await plan_of(connection, name, (None,) * count)
        whole += [f"{name}: {line.strip()}" for line in plan.splitlines() if "Seq Scan" in line]
        assert "Hash Join" not in plan, name
    assert [line for line in whole if not re.search(rf"on ({SMALL})\b", line)] == []


async def cost(connection: Connection, name: str, *args: Any) -> int:
    """Pages that a query looks at, once it has been planned."""
    await plan_of(connection, name, args, ", analyze, buffers, timing off")
    plan = await plan_of(connection, name, args, ", analyze, buffers, timing off")
    hit = re.search(r"Buffers: shared hit=(\d+)", plan)
    assert hit is not None, plan
    return int(hit[1])


async def test_a_history_costs_what_it_holds_and_not_what_the_tape_holds(store: PostgresStore, connection: Connection):
    costs: list[int] = []
    for length in (20, 200):
        for number in range(length):
            claim = await say(store, f"c{length}", f"{length}-{number}", "q" * 10, "a" * 10)
        first, last = place(claim.tape, 0), place(claim.tape, 2**32 - 1)
        costs.append(await cost(connection, "history", first, last, place(claim.tape, 10**6), 100))
        assert len(await store.history(claim.tape, before=10**6, chars_max=100)) == 6 * 5
    assert costs[1] <= costs[0] * 1.5  # a tree that is one page deeper


async def test_deltas_cost_a_history_nothing(store: PostgresStore, connection: Connection):
    costs: list[int] = []
    for deltas in (1, 500):
        claim = await begin(store, f"c{deltas}", f"r{deltas}")
        await append(store, claim, (ev.ReplyStarted("a", "m"), *[ev.TextAdded("x")] * deltas))
        await finish(store, claim, (ev.ReplyFinished("x" * 10), ev.RunCompleted()), weight=10)
        first, last = place(claim.tape, 0), place(claim.tape, 2**32 - 1)
        costs.append(await cost(connection, "history", first, last, last, 1000))
        assert len(await store.history(claim.tape, before=10**6, chars_max=1000)) == 5
    assert costs[1] <= costs[0] * 1.5


@pytest.mark.parametrize("shared", [False, True])
async def test_a_shelf_costs_what_its_owner_has_and_not_what_the_project_has(
    store: PostgresStore, connection: Connection, shared: bool
):
    costs: list[int] = []
    args = (PROJECT, "ann", [], False, 10, 0, shared)
    for others in (5, 100):
        for number in range(others):
            await begin(store, f"b{others}-{number}", f"b{others}-{number}", owner="bob")
        for number in range(3 if not costs else 0):
            await begin(store, f"a{number}", f"a{number}", owner="ann")
        costs.append(await cost(connection, "conversations_shelf", *args))
        found = await store.browse(
            PROJECT, owner="ann", origins=(), archived=Archived.WITHOUT, limit=10, offset=0, shared=shared
        )
        assert found.total == len(found.items) == 3
    assert costs[1] <= costs[0] * 1.5


async def settled_cost(connection: Connection, name: str, *args: object) -> int:
    """Once the table was vacuumed and analysed, as the server does by itself before long. What somebody still looks at
    is not cleared away at the first try, so the least of a few counts: what grows with the table grows in all."""
    costs: list[int] = []
    for _ in range(5):
        await connection.execute("vacuum analyze runs")
        costs.append(await cost(connection, name, *args))
        await asyncio.sleep(0.02)
    return min(costs)


async def test_what_is_at_work_costs_the_same_however_much_its_owner_has(store: PostgresStore, connection: Connection):
    costs: list[int] = []
    for more in (5, 200):
        for number in range(more):
            await say(store, f"c{more}-{number}", f"r{more}-{number}", "q", "a")
        await begin(store, f"live{more}", f"live{more}")
        costs.append(await settled_cost(connection, "conversations_live", PROJECT, "c1"))
        assert len(await store.live_of(PROJECT, "c1")) == len(costs)
    assert costs[1] <= costs[0] + 5


async def test_counting_turns_costs_what_is_counted_and_not_what_ever_was(store: PostgresStore, connection: Connection):
    costs: list[int] = []
    for older in (5, 200):
        for number in range(older):
            await say(store, "c", f"{older}-{number}", "q", "a")
        since = await connection.fetchval("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
        for number in range(3):
            await say(store, "c", f"new-{older}-{number}", "q", "a")
        await connection.execute("analyze runs")  # as the server does by itself before long
        costs.append(await cost(connection, "turns_since", PROJECT, since))
        assert await store.turns_since(PROJECT, at=since / 1e6) == 3
    assert costs[1] <= costs[0] * 1.5


async def test_the_end_of_a_tape_costs_the_same_however_long_it_is(store: PostgresStore, connection: Connection):
    costs: list[int] = []
    for length in (10, 2000):
        claim = await begin(store, f"c{length}", f"r{length}")
        await append(store, claim, [ev.TextAdded("x")] * length)
        after = place(Tape(claim.tape), length - 1)
        costs.append(await cost(connection, "entries_after", after, place(claim.tape, 2**32 - 1), 100))
    assert costs[1] <= costs[0] * 1.5


async def test_a_search_costs_what_its_project_knows_and_not_what_others_do(
    store: PostgresStore, connection: Connection
):
    costs: list[int] = []
    await store.knowledge.put([KnowledgeEntry(PROJECT, f"e{number}", "needle") for number in range(3)])
    own = lexemes(PROJECT, "", "")
    for others in (5, 500):
        entries = [KnowledgeEntry(ProjectId("other"), f"{others}-{number}", "needle hay") for number in range(others)]
        await store.knowledge.put(entries)
        await connection.execute("vacuum analyze knowledge")  # as the server does by itself before long
        args = (PROJECT, "ann", "{}", own, ["'needle'", "'hay'"], [1.0, 2.0], 10, 1000)
        costs.append(await cost(connection, "knowledge_found", *args))
        assert len(await store.knowledge.search(PROJECT, (Query("needle"),), owner="ann", labels={}, limit=9)) == 3
    assert costs[1] <= costs[0] * 1.5
