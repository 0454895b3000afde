import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.core.names import Tape
from dragoman.stores.sqlite.connection import connect
from dragoman.stores.sqlite.migrations import migrate, steps
from dragoman.stores.sqlite.statements import OwnTransaction, Statements, delete_tape, in_own_transaction


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "x.db"
    opened = connect(path, create=True)
    migrate(opened, path, steps(), holds_lock=True)
    yield opened
    opened.close()


def put(statements: Statements, name: str) -> str:
    assert statements.change("put_project", name, name, 1.0) == 1
    return name


def names(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in OwnTransaction(connection).look_up_all("projects")]


def test_work_that_ends_is_committed(connection: sqlite3.Connection):
    assert in_own_transaction(connection, lambda statements: put(statements, "a")) == "a"
    assert not connection.in_transaction
    assert names(connection) == ["a"]


def test_of_work_that_raises_nothing_is_kept(connection: sqlite3.Connection):
    def work(statements: Statements) -> None:
        put(statements, "a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_own_transaction(connection, work)
    assert not connection.in_transaction
    assert names(connection) == []


def test_deleting_a_tape_says_whether_there_was_one(connection: sqlite3.Connection):
    connection.execute(
        "insert into conversations values (5, 'p', 'c', '', '', 0, 0, 0, 0, '', 'o', 0, 0)",
    )
    statements = OwnTransaction(connection)
    assert [delete_tape(statements, Tape(5)) for _ in range(2)] == [True, False]
