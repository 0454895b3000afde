"""What only this engine does; the rest is in tests/stores/test_knowledge.py."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from dragoman.core.knowledge import KnowledgeEntry, Query
from dragoman.core.names import ProjectId
from dragoman.runtime.knowledge_rules import scope_word
from dragoman.stores.sqlite.migrations import statements, steps
from dragoman.stores.sqlite.queries import statement
from dragoman.stores.sqlite.store import SqliteStore, open_store
from tests.stores.talk import say
from tests.support import FixedClock

P = ProjectId("p")
NAMES = ("knowledge_entry", "knowledge_count", "knowledge_page", "knowledge_found", "knowledge_all")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "x.db", FixedClock(), writer=True)
    yield opened
    await opened.close()


def rows_of_words(store: SqliteStore) -> int:
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("insert into knowledge_words (knowledge_words) values ('integrity-check')")
        return connection.execute("select count(*) from knowledge_words").fetchone()[0]


async def test_words_go_with_their_entries(store: SqliteStore):
    entries = [KnowledgeEntry(P, f"e{number}", "some text", "title") for number in range(10)]
    await store.knowledge.put(entries)
    await store.knowledge.put(entries)
    assert rows_of_words(store) == 10
    await store.knowledge.delete(P, "e3")
    assert rows_of_words(store) == 9
    await store.knowledge.put((KnowledgeEntry(ProjectId("q"), "e3", "new"),))  # may have the number of the one deleted
    assert len(await store.knowledge.search(P, (Query("text new"),), owner="", labels={}, limit=99)) == 9
    await store.delete_project(P)
    assert rows_of_words(store) == 1


async def test_entries_are_committed_with_what_else_is_written(store: SqliteStore):
    await asyncio.gather(
        say(store, "c", "r", "q", "a"), *(store.knowledge.put((KnowledgeEntry(P, str(n), "text"),)) for n in range(5))
    )
    assert await store.knowledge.count(P) == 5


async def test_a_word_of_another_project_is_not_looked_at(store: SqliteStore):
    """What a search costs does not depend on what others keep."""
    await store.knowledge.put([KnowledgeEntry(P, f"e{number}", "quartz") for number in range(3)])
    costs: list[int] = []
    for others in (10, 1000):
        await store.knowledge.put(
            [KnowledgeEntry(ProjectId("q"), f"{others}-{n}", "quartz and hay") for n in range(others)]
        )
        costs.append(await _cost(store))
    assert costs[1] <= costs[0] * 1.1


async def _cost(store: SqliteStore) -> int:
    """Instructions of SQLite's machine that a search takes."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    asked = msgspec.json.encode([(f'scope : "{scope_word(P)}" AND {{title text}} : ("quartz")', 1.0)]).decode()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.set_progress_handler(count, 1)
        assert len(connection.execute(*statement("knowledge_found", (P, "", "{}", asked, 9))).fetchall()) == 3
    return taken


@pytest.mark.parametrize("name", NAMES)
def test_no_query_reads_the_knowledge_of_others(name: str):
    with closing(sqlite3.connect(":memory:")) as connection:
        for step in steps():
            for each in statements(step.script):
                connection.execute(each)
        numbers = re.findall(r":p(\d+)", statement(name, ("1",) * 7)[0])
        sql, parameters = statement(name, ("1",) * max(map(int, numbers)))
        plan = [detail for *_, detail in connection.execute(f"explain query plan {sql}", parameters)]
    assert [detail for detail in plan if re.match(r"SCAN (k|knowledge)\b", detail)] == []
    assert any(re.match(r"SEARCH (k|knowledge)\b", detail) for detail in plan)
