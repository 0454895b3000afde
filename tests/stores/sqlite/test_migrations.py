import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.core.errors import Conflict, Unavailable
from dragoman.stores.sqlite.connection import connect
from dragoman.stores.sqlite.lock import TapeLock
from dragoman.stores.sqlite.migrations import Step, migrate, statements, steps

FIRST = Step(1, 1, "0001_first.sql", "create table a (x);\ncreate table b (x);\n")
SECOND = Step(2, 1, "0002_second.sql", "alter table a add column y;\n")
BREAKING = Step(3, 3, "0003_breaking.sql", "alter table a rename to c;\n")
FAULTY = Step(2, 1, "0002_faulty.sql", "alter table a add column y;\ncreate table a (x);\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    opened = connect(path, create=True)
    yield opened
    opened.close()


def version(connection: sqlite3.Connection) -> list[tuple[int, int, str]]:
    return connection.execute("select version, min_reader, name from schema_version order by version").fetchall()


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("select name from sqlite_schema where type = 'table'")}


def test_our_steps_are_numbered_without_a_gap_and_every_one_can_be_read_by_itself():
    known = steps()
    assert [step.version for step in known] == list(range(1, len(known) + 1))
    assert all(1 <= step.min_reader <= step.version for step in known)
    assert all(statements(step.script) for step in known)


def test_an_empty_file_gets_every_step_and_the_next_time_none(connection: sqlite3.Connection, path: Path):
    for _ in range(2):
        migrate(connection, path, (FIRST, SECOND), holds_lock=True)
        assert version(connection) == [(1, 1, "0001_first.sql"), (2, 1, "0002_second.sql")]
    assert tables(connection) == {"schema_version", "a", "b"}


def test_an_older_file_gets_what_is_missing(connection: sqlite3.Connection, path: Path):
    migrate(connection, path, (FIRST,), holds_lock=True)
    connection.execute("insert into a values (7)")
    migrate(connection, path, (FIRST, SECOND, BREAKING), holds_lock=True)
    assert connection.execute("select * from c").fetchall() == [(7, None)]


def test_old_code_runs_on_a_newer_schema_that_says_so(connection: sqlite3.Connection, path: Path):
    migrate(connection, path, (FIRST, SECOND), holds_lock=True)
    migrate(connection, path, (FIRST,), holds_lock=True)
    assert len(version(connection)) == 2


def test_old_code_refuses_a_newer_schema_that_says_so(connection: sqlite3.Connection, path: Path):
    migrate(connection, path, (FIRST, SECOND, BREAKING), holds_lock=True)
    with pytest.raises(Unavailable) as refused:
        migrate(connection, path, (FIRST, SECOND), holds_lock=True)
    assert refused.value.code == "storage_too_new"
    assert refused.value.detail == (
        f"The store {path} was written by a newer version of Dragoman (schema 3); install that version."
    )


def test_a_step_that_fails_leaves_nothing_of_itself(connection: sqlite3.Connection, path: Path):
    with pytest.raises(Unavailable) as refused:
        migrate(connection, path, (FIRST, FAULTY), holds_lock=True)
    assert "table a already exists" in refused.value.internal
    assert version(connection) == [(1, 1, "0001_first.sql")]
    assert connection.execute("select * from pragma_table_info('a')").fetchall()[0][1] == "x"
    assert len(connection.execute("select * from pragma_table_info('a')").fetchall()) == 1
    migrate(connection, path, (FIRST, SECOND), holds_lock=True)


def test_a_schema_is_not_changed_under_a_process_that_holds_the_tapes(connection: sqlite3.Connection, path: Path):
    lock = TapeLock.take(path)
    migrate(connection, path, (FIRST,), holds_lock=False)  # an empty file hurts nobody
    with pytest.raises(Conflict, match="restart that first"):
        migrate(connection, path, (FIRST, SECOND), holds_lock=False)
    assert len(version(connection)) == 1
    lock.release()
    migrate(connection, path, (FIRST, SECOND), holds_lock=False)
    assert len(version(connection)) == 2


def test_many_at_once_migrate_once(path: Path):
    failed: list[BaseException] = []

    def run() -> None:
        try:
            connection = connect(path, create=True)
            migrate(connection, path, steps(), holds_lock=False)
            connection.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert failed == []
    connection = connect(path)
    assert len(version(connection)) == len(steps())
    connection.close()


def test_a_script_falls_into_statements_triggers_whole():
    script = (
        "-- a comment; with a semicolon\n"
        "create table a (\n    x  -- ; here too\n);\n\n"
        "create trigger t before insert on a begin\n    select 1;\n    select 2;\nend;\n"
        "-- the end\n"
    )
    found = statements(script)
    assert [text.split("\n")[-1] for text in found] == [");", "end;"]
    connection = sqlite3.connect(":memory:")
    for statement in found:
        connection.execute(statement)
    connection.close()


def test_half_a_statement_is_an_error():
    with pytest.raises(RuntimeError, match="ends inside a statement: create table b"):
        statements("create table a (x);\ncreate table b (\n")
