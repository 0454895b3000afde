"""What only this engine does; the rest is in tests/stores/test_records.py."""

import asyncio
import re
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from dragoman.core.errors import Conflict
from dragoman.core.names import ProjectId
from dragoman.core.records import Record
from dragoman.stores.sqlite.migrations import statements, steps
from dragoman.stores.sqlite.queries import statement
from dragoman.stores.sqlite.store import open_store
from tests.support import FixedClock

RULE = Record(ProjectId("p"), "rule", "r", "{}")


async def test_the_server_and_a_command_beside_it_take_no_key_twice(tmp_path: Path):
    clock = FixedClock()
    server = await open_store(tmp_path / "x.db", clock, writer=True)
    command = await open_store(tmp_path / "x.db", clock, writer=False)
    for number in range(20):
        results = await asyncio.gather(
            *(
                store.records.put(replace(RULE, id=f"{number} {index}", key=str(number)), expect=0)
                for index, store in enumerate((server, command))
            ),
            return_exceptions=True,
        )
        assert sorted(type(result).__name__ for result in results) == ["Conflict", "Record"]
    await command.close()
    await server.close()


async def test_a_refused_record_leaves_those_of_the_same_commit_alone(tmp_path: Path):
    store = await open_store(tmp_path / "x.db", FixedClock(), writer=True)
    results = await asyncio.gather(
        store.records.put(RULE, expect=0),
        store.records.put(RULE, expect=0),
        store.records.put(replace(RULE, id="other"), expect=0),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [Record, Conflict, Record]
    assert (await store.records.page(RULE.project, "rule", limit=0, offset=0)).total == 2
    await store.close()


@pytest.mark.parametrize(
    "name", ["record", "record_of_key", "records_page", "forget_expired_record", "forget_expired_records"]
)
def test_no_query_reads_the_records_of_others(name: str):
    connection = sqlite3.connect(":memory:")
    for step in steps():
        for each in statements(step.script):
            connection.execute(each)
    numbers = re.findall(r":p(\d+)", statement(name, ("1",) * 7)[0])
    sql, parameters = statement(name, ("1",) * max(map(int, numbers)))
    plan = [detail for *_, detail in connection.execute(f"explain query plan {sql}", parameters)]
    assert [detail for detail in plan if detail.startswith("SCAN records")] == []
    assert any("SEARCH records" in detail for detail in plan)
    connection.close()
