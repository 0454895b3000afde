"""Statements inside a transaction, whoever's it is: the writer's next commit, or one of this process's own."""

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from dragoman.core.names import Tape
from dragoman.stores.sqlite.queries import statement

R = TypeVar("R")

_DELETE_TAPE = ("delete_runs", "delete_entries", "delete_deltas", "delete_conversation")
"""In this order: the entries of a tape say which runs are its own."""


class Statements(Protocol):
    def look_up_all(self, name: str, *parameters: Any) -> list[Any]:
        """All rows of a query."""
        ...

    def change(self, name: str, *parameters: Any) -> int:
        """Execute a statement; the rows it changed."""
        ...

    def drop_tape(self, number: Tape) -> None:
        """This tape is being deleted."""
        ...


class Change(Protocol):
    """Carries out statements in one transaction, which is on the disk when it returns."""

    def __call__(self, work: Callable[[Statements], R], /) -> Awaitable[R]: ...


class OwnTransaction:
    """Statements of a process that does not hold the tapes, between `begin immediate` and `commit`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def look_up_all(self, name: str, *parameters: Any) -> list[Any]:
        return self._connection.execute(*statement(name, parameters)).fetchall()

    def change(self, name: str, *parameters: Any) -> int:
        return self._connection.execute(*statement(name, parameters)).rowcount

    def drop_tape(self, number: Tape) -> None:
        """The process that holds it finds out with its next write."""


def in_own_transaction(connection: sqlite3.Connection, work: Callable[[Statements], R]) -> R:
    """Carry `work` out and commit it; nothing of it is kept if it raises."""
    connection.execute("begin immediate")
    try:
        result = work(OwnTransaction(connection))
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("rollback")
        raise
    return result


def delete_tape(statements: Statements, number: Tape) -> bool:
    """Everything of it. False if there was none."""
    changed = [statements.change(name, number) for name in _DELETE_TAPE]
    statements.drop_tape(number)
    return changed[-1] > 0
