import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.names import ConversationId
from dragoman.runtime.keeping import KINDS
from dragoman.stores.sqlite import reading
from dragoman.stores.sqlite.connection import open_reader
from dragoman.stores.sqlite.migrations import statements, steps
from dragoman.stores.sqlite.open_tapes import microseconds, place
from dragoman.stores.sqlite.queries import QUERIES, columns, for_rows, parse, statement
from dragoman.stores.sqlite.store import SqliteStore, open_store
from dragoman.stores.sqlite.unloading import QUERIES as UNLOADING
from tests.stores.talk import PROJECT, append, begin, finish, say
from tests.support import FixedClock

READING = (
    "entries_after",
    "entries_of_run",
    "history",
    "head",
    "conversations_page",
    "conversation",
    "conversations_shelf",
    "conversations_live",
    "turns_since",
    "run",
    "runs_newest",
    "runs_unfinished",
    "run_last_places",
    "run_written_after",
    "run_ended",
    "runs_running",
    "runs_to_prune",
    "turn_of_key",
    "turn_of_fingerprint",
    "answer_kept",
    "keep_answer",
    "delete_deltas_of_run",
)
"""Statements that are carried out while somebody waits: none may look at more than it answers with."""


@pytest.fixture
def schema() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for step in steps():
        for each in statements(step.script):
            connection.execute(each)
    yield connection
    connection.close()


def explained(name: str, how: str) -> tuple[str, Any]:
    """The statement behind an `explain`, with as many parameters as it has."""
    sql = QUERIES[name]
    numbered = [int(number) for number in re.findall(r":p(\d+)", sql)]
    sql, parameters = statement(name, ("1",) * (max(numbered) if numbered else sql.count("?")))
    return f"{how} {sql}", parameters


@pytest.mark.parametrize("name", QUERIES)
def test_every_statement_fits_the_schema(schema: sqlite3.Connection, name: str):
    schema.execute(*explained(name, "explain"))


@pytest.mark.parametrize("name", READING)
def test_no_table_is_read_from_end_to_end(schema: sqlite3.Connection, name: str):
    plan = [detail for *_, detail in schema.execute(*explained(name, "explain query plan"))]
    tables = "entries|deltas|runs|conversations|x|f|o|n|d"
    scans = [detail for detail in plan if re.match(rf"SCAN ({tables})\b", detail) or "AUTOMATIC" in detail]
    if name in ("runs_unfinished", "runs_running", "conversations_live"):  # an index of nothing but open runs
        scans = [scan for scan in scans if "USING INDEX runs_open" not in scan]
    assert scans == []


def test_what_others_write_is_told_from_what_owners_write_by_its_kind():
    asks = {KINDS[kind] for kind in ev.ASKS}
    for sql in (QUERIES["run_last_places"], QUERIES["run_written_after"], UNLOADING["runs"]):
        lists = re.findall(r"kind (?:not )?in \(([^)]*)\)", sql)
        assert lists
        assert all(set(re.findall(r"'(\w+)'", each)) == asks for each in lists)


def test_a_file_of_statements_falls_into_names():
    text = "-- about all\n\n-- name: one\n-- what it is\nselect 1\n-- name: two\nselect\n    2\n"
    assert parse(text) == {"one": "select 1", "two": "select\n    2"}


def test_a_statement_for_one_row_becomes_one_for_many(schema: sqlite3.Connection):
    assert columns("put_deltas") == 4
    assert for_rows("put_deltas", 1) == QUERIES["put_deltas"]
    assert for_rows("put_deltas", 3).count("(?, ?, ?, ?)") == 3
    assert for_rows("put_runs", 2).count("on conflict") == 1
    with pytest.raises(KeyError):
        columns("head")


# -- cost ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "x.db", FixedClock(), writer=True)
    yield opened
    await opened.close()


def cost(connection: sqlite3.Connection, name: str, *arguments: Any) -> int:
    """Instructions of SQLite's machine that a query takes."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    connection.set_progress_handler(count, 1)
    connection.execute(*statement(name, arguments)).fetchall()
    connection.set_progress_handler(None, 1)
    return taken


async def test_a_history_costs_what_it_holds_and_not_what_the_tape_holds(store: SqliteStore):
    costs: list[int] = []
    connection = open_reader(store.path)
    for length in (20, 200):
        name = f"c{length}"
        for number in range(length):
            claim = await say(store, name, f"{name}-{number}", "q" * 10, "a" * 10)
        taken = cost(
            connection, "history", place(claim.tape, 0), place(claim.tape, 2**32 - 1), place(claim.tape, 10**6), 100
        )
        costs.append(taken)
        assert len(await store.history(claim.tape, before=10**6, chars_max=100)) == 6 * 5
    connection.close()
    assert costs[1] == pytest.approx(costs[0], rel=0.01)


async def test_deltas_cost_a_history_nothing(store: SqliteStore):
    costs: list[int] = []
    connection = open_reader(store.path)
    for deltas in (1, 500):
        name = f"c{deltas}"
        for number in range(3):
            claim = await begin(store, name, f"{name}-{number}")
            await append(store, claim, (ev.ReplyStarted("a", "m"), *[ev.TextAdded("x")] * deltas))
            await finish(store, claim, (ev.ReplyFinished("x" * 10), ev.RunCompleted()), weight=10)
        first, last = place(claim.tape, 0), place(claim.tape, 2**32 - 1)
        costs.append(cost(connection, "history", first, last, last, 1000))
        assert len(reading.entries(connection, "history", first, last, last, 1000)) == 15
    connection.close()
    assert costs[1] == pytest.approx(costs[0], rel=0.01)


async def test_one_conversation_and_its_head_cost_the_same_however_long_it_is(store: SqliteStore):
    costs: list[int] = []
    connection = open_reader(store.path)
    for length in (1, 500):
        name = f"c{length}"
        claim = await begin(store, name, name)
        await append(store, claim, [ev.TextAdded("x")] * length)
        info = await store.get(PROJECT, ConversationId(name))
        assert info is not None
        assert info.head == length + 3
        costs.append(cost(connection, "conversation", PROJECT, name))
    connection.close()
    assert costs[1] == pytest.approx(costs[0], rel=0.01)


@pytest.mark.parametrize("shared", [False, True])
async def test_a_shelf_costs_what_its_owner_has_and_not_what_the_project_has(store: SqliteStore, shared: bool):
    costs: list[int] = []
    connection = open_reader(store.path)
    for others in (5, 200):
        for number in range(others):
            await begin(store, f"b{others}-{number}", f"b{others}-{number}", owner="bob")
        for number in range(3 if not costs else 0):
            await begin(store, f"a{number}", f"a{number}", owner="ann")
        costs.append(cost(connection, "conversations_shelf", PROJECT, "ann", "[]", 0, 10, 0, shared))
        assert reading.shelf(connection, "conversations_shelf", PROJECT, "ann", "[]", 0, 10, 0, shared).total == 3
    connection.close()
    assert costs[1] == pytest.approx(costs[0], rel=0.01)


async def test_counting_turns_costs_what_is_counted_and_not_what_ever_was(tmp_path: Path):
    costs: list[int] = []
    clock = FixedClock()
    store = await open_store(tmp_path / "turns.db", clock, writer=True)
    connection = open_reader(store.path)
    for older in (5, 200):
        for number in range(older):
            await say(store, "c", f"{older}-{number}", "q", "a")
        clock.move(10.0)
        for number in range(3):
            await say(store, "c", f"new-{older}-{number}", "q", "a")
        costs.append(cost(connection, "turns_since", PROJECT, microseconds(clock.at)))
        assert await store.turns_since(PROJECT, at=clock.at) == 3
    connection.close()
    await store.close()
    assert costs[1] == pytest.approx(costs[0], rel=0.01)
