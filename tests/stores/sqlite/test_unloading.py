"""Handing a store over: all of it, only to who may have it, and changing nothing. That the values are right is shown
where they arrive, in tests/server/test_moving.py."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, NotFound, Unavailable
from dragoman.core.names import ConversationId
from dragoman.runtime.inventory import TABLES, Row, Table
from dragoman.stores.sqlite.lock import TapeLock
from dragoman.stores.sqlite.store import open_store
from dragoman.stores.sqlite.unloading import SqliteSource, open_source
from tests.stores.everything import fill
from tests.stores.talk import PROJECT, append, begin, say
from tests.support import FixedClock

BY_NAME = {table.name: table for table in TABLES}
WORDS = ("knowledge_words", *(f"knowledge_words_{part}" for part in ("data", "idx", "content", "docsize", "config")))

STAYS = {
    "schema_version": "each engine has steps of its own",
    "probes": "one row to try a commit with",
    "sqlite_sequence": "handed over as last_tape",
    "keys.run_id": "stands on the run's first entry",
    "knowledge.number": "names a row of this file",
    "knowledge.folded": "follows from title and id",
    **dict.fromkeys(WORDS, "follow from title and text"),
}
"""What is not handed over, and why."""
FOLDED = {"head", "written", "replied", "spoke", "asked", "fingerprint"}
"""Columns that are read from the tapes."""


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "dragoman.db"
    clock = FixedClock()
    store = await open_store(path, clock, writer=True)
    await fill(store, clock)
    await store.close()
    return path


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def rows(source: SqliteSource, name: str) -> list[Row]:
    return [row for piece in source.pieces(BY_NAME[name]) for row in piece]


def test_every_table_and_column_is_handed_over_or_stays_for_a_reason(path: Path):
    with closing(sqlite3.connect(path)) as connection:
        tables = [row[0] for row in connection.execute("select name from sqlite_schema where type = 'table'")]
        columns = {name: {row[1] for row in connection.execute(f"pragma table_info({name})")} for name in tables}

    stays = {name for name in tables if name not in BY_NAME}
    for name, table in BY_NAME.items():
        stays |= {f"{name}.{column}" for column in columns[name] - set(table.columns)}
        assert set(table.columns) - columns[name] <= FOLDED
    assert stays == STAYS.keys()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_rows_are_whole_in_order_and_as_many_as_are_counted(path: Path, table: Table):
    with open_source(path) as source:
        found = rows(source, table.name)

        assert len(found) == source.count(table) > 0
        assert {len(row) for row in found} == {len(table.columns)}
        keys = [row[: table.key_columns] for row in found]
        assert keys == sorted(set(keys))


def test_of_a_run_at_work_it_is_told_how_far_it_is(path: Path):
    with open_source(path) as source:
        shown = {
            row[2]: row[12:]
            for row in rows(source, "conversations")
            if row[2] in ("lost", "at a tool", "asked", "plain")
        }
        runs = {row[2]: row[10:13] for row in rows(source, "runs")}

    assert shown == {
        "lost": (9, "r-lost", 9, 0, True),
        "at a tool": (8, "r-tool", 6, 5, False),
        "asked": (9, "r-asked", 5, 0, True),
        "plain": (*shown["plain"][:1], "", 0, 0, False),
    }
    assert runs["r-tool"] == (7, False, False)
    assert runs["r-asked"] == (9, False, False)  # asked, spoke, pruned
    assert runs["r-pruned"] == (0, True, True)
    assert runs["r-plain-1"] == (0, False, False)
    assert runs["r-plain-2"] == (0, True, False)


def test_whose_a_conversation_is_and_who_may_see_it_is_told(path: Path):
    with open_source(path) as source:
        shown = {row[1:3]: row[3:7] for row in rows(source, "conversations")}

    assert shown["default", "plain"] == ("c1", True, False, "renamed 🦉")
    assert shown["other", "plain"] == ("c1", False, True, "")


def test_the_numbers_that_are_taken_are_told(path: Path):
    with open_source(path) as source:
        assert source.last_tape == max(row[0] for row in rows(source, "conversations")) + 1  # one was deleted
        assert source.last_run == max(row[1] for row in rows(source, "runs"))
        assert source.unfinished == 4


async def test_pieces_end_where_they_are_many_or_long(tmp_path: Path):
    path = tmp_path / "dragoman.db"
    store = await open_store(path, FixedClock(), writer=True)
    claim = await begin(store, "c", "r")
    await append(store, claim, [ev.TextAdded("x" * size) for size in (1, 1, 1, 1, 500, 500, 1)])
    await store.close()
    with open_source(path) as source:
        sizes = [len(piece) for piece in source.pieces(BY_NAME["deltas"], rows_max=3, chars_max=500)]
        assert sizes == [3, 2, 1, 1]


async def test_deltas_that_old_code_left_unmarked_are_found(tmp_path: Path):
    path = tmp_path / "dragoman.db"
    store = await open_store(path, FixedClock(), writer=True)
    claim = await begin(store, "c", "r1")
    await append(store, claim, (ev.TextAdded("x"),))
    await store.finish(claim, (ev.RunCompleted(),), after=claim.seq + 1, weight=1)
    await say(store, "c", "r2", "q", "a")
    await store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update runs set pruned = 0")
    with open_source(path) as source:
        assert [row[11:13] for row in rows(source, "runs")] == [(True, False), (False, False)]


def test_nothing_is_changed(path: Path):
    before = dump(path)
    with open_source(path) as source:
        for table in TABLES:
            rows(source, table.name)
        with pytest.raises(sqlite3.OperationalError):
            source._connection.execute("delete from projects")  # pyright: ignore[reportPrivateUsage] it must not even be able to
    assert dump(path) == before


async def test_nobody_writes_meanwhile(path: Path):
    with open_source(path):
        with pytest.raises(Conflict, match="in use by process"):
            await open_store(path, FixedClock(), writer=True)
        with (
            closing(sqlite3.connect(path, timeout=0)) as beside,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            beside.execute("delete from projects")
    store = await open_store(path, FixedClock(), writer=True)
    assert await store.delete(PROJECT, ConversationId("plain")) == []
    await store.close()


def test_a_store_that_is_written_is_not_handed_over(path: Path):
    lock = TapeLock.take(path)
    with pytest.raises(Conflict, match="in use by process"), open_source(path):
        pass
    lock.release()
    with open_source(path) as source:
        assert source.where == str(path)


def test_where_nothing_is_there_is_nothing_to_hand_over(tmp_path: Path):
    with pytest.raises(NotFound, match="There is no store"), open_source(tmp_path / "no.db"):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.db").touch()
    with pytest.raises(NotFound, match="holds no store yet"), open_source(tmp_path / "empty.db"):
        pass


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ("insert into schema_version values (99, 1, 'x')", Unavailable, r"newer version of Dragoman \(schema 99\)"),
        ("delete from schema_version where version > 1", Conflict, r"older schema \(1\); .*: dragoman doctor$"),
    ],
)
def test_another_schema_is_not_handed_over(path: Path, change: str, error: type[Exception], sentence: str):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(change)
    before = dump(path)
    with pytest.raises(error, match=sentence), open_source(path):
        pass
    assert dump(path) == before


def test_a_file_that_is_no_database_is_said_to_be_broken(tmp_path: Path):
    path = tmp_path / "x.db"
    path.write_bytes(b"this is no database " * 1000)
    with pytest.raises(Unavailable), open_source(path):
        pass
