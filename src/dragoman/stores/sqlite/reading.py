"""Reads: on threads of their own with connections that cannot write, so that neither the event loop nor a commit waits.

A write-ahead log lets them read what is committed while the next commit is being made.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import msgspec

from dragoman.core.errors import DragomanError, Unavailable
from dragoman.core.events import Entry, load_entries
from dragoman.core.operations import ConversationInfo, ConversationShelf, RunView
from dragoman.stores.sqlite.connection import is_broken, open_reader, storage_error
from dragoman.stores.sqlite.queries import statement

logger = logging.getLogger("dragoman.stores.sqlite")

THREADS = 3
WAITING_MAX = 10_000
"""Reads that may wait for a thread."""

R = TypeVar("R")

_conversations = msgspec.json.Decoder(list[ConversationInfo])
_shelf = msgspec.json.Decoder(ConversationShelf)
_runs = msgspec.json.Decoder(list[RunView])


class Readers:
    """The reading threads. They are started with the first read."""

    def __init__(
        self, path: Path, *, connect: Callable[[Path], sqlite3.Connection] = open_reader, threads: int = THREADS
    ) -> None:
        self._path = path
        self._connect = connect
        self._queue: SimpleQueue[tuple[asyncio.Future[Any], Callable[[sqlite3.Connection], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._count = threads

    async def do(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Carry `work` out on one of the threads. Raises Unavailable, and what `work` raises of the error tree."""
        if self._closed:
            raise Unavailable("The store is closed.", internal=str(self._path))
        if self._queue.qsize() >= WAITING_MAX:
            raise Unavailable("The server's store is overloaded; try again in a moment.", code="storage_busy")
        if not self._threads:
            self._start()
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.put((future, work))
        return await future

    async def close(self) -> None:
        """Finish what waits, then end the threads."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._threads.clear()

    def _start(self) -> None:
        for number in range(self._count):
            thread = threading.Thread(target=self._run, name=f"dragoman-read-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while (item := self._queue.get()) is not None:
            future, work = item
            result: Any = None
            failed: Exception | None = None
            try:
                if connection is None:
                    connection = self._connect(self._path)
                result = work(connection)
            except DragomanError as error:
                failed = error
            except sqlite3.Error as error:
                failed = storage_error(error, self._path)
                logger.error("a read failed: %s", failed)
                if connection is not None and is_broken(error):
                    connection.close()
                    connection = None
            except Exception as error:
                logger.exception("a read failed for a reason that is ours")
                failed = Unavailable("The server's store could not be read.", internal=repr(error))
            _deliver(future, result, failed)
        if connection is not None:
            connection.close()


def _settle(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    """Give a waiting task its answer, on the loop's thread; it may have gone away."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _deliver(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    """From another thread: hand an answer to the loop, if that still runs."""
    try:
        future.get_loop().call_soon_threadsafe(_settle, future, result, error)
    except RuntimeError:
        logger.debug("nobody waits for this answer: the event loop is closed")


def entries(connection: sqlite3.Connection, name: str, *parameters: Any) -> list[Entry]:
    body = _body(connection, name, parameters)
    return [] if body is None else load_entries(body)


def conversations(connection: sqlite3.Connection, name: str, *parameters: Any) -> list[ConversationInfo]:
    body = _body(connection, name, parameters)
    return [] if body is None else _conversations.decode(body)


def shelf(connection: sqlite3.Connection, name: str, *parameters: Any) -> ConversationShelf:
    body = _body(connection, name, parameters)
    return ConversationShelf((), 0) if body is None else _shelf.decode(body)


def runs(connection: sqlite3.Connection, name: str, *parameters: Any) -> list[RunView]:
    body = _body(connection, name, parameters)
    return [] if body is None else _runs.decode(body)


def number(connection: sqlite3.Connection, name: str, *parameters: Any) -> int | None:
    row = connection.execute(*statement(name, parameters)).fetchone()
    return None if row is None else row[0]


def blob(connection: sqlite3.Connection, name: str, *parameters: Any) -> bytes | None:
    return _body(connection, name, parameters)


def _body(connection: sqlite3.Connection, name: str, parameters: tuple[Any, ...]) -> bytes | None:
    row = connection.execute(*statement(name, parameters)).fetchone()
    return None if row is None else row[0]
