"""The writer: one thread, one connection, one commit at a time.

Requests that arrive while a commit is under way are gathered and go into the next one together, without a timer: alone,
a request waits for nobody; in a crowd, the cost of a sync is shared.

    loop:    submit, submit, … ─┐ (once per turn of the loop)         ┌─► push tails, wake callers (once per batch)
    thread:                     └─► plan ─► commit + sync ────────────┘

A batch that fails is rolled back, everything remembered is forgotten, and its requests are tried one by one, so that
the one at fault fails alone. After an input or output error the connection is thrown away: nothing it says can be
trusted, and nothing of that batch is acknowledged.
"""

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from dragoman.core.errors import DragomanError, Unavailable
from dragoman.core.names import Clock, ConversationId, ProjectId, Tape
from dragoman.runtime.fuses import FuseBlown, blow
from dragoman.runtime.keeping import run_taken
from dragoman.runtime.leases import Bell, Leases
from dragoman.runtime.ports import LEASE_S, StaleClaim
from dragoman.runtime.tail import Tails
from dragoman.stores.sqlite.books import TAPES_MAX, Books, Push
from dragoman.stores.sqlite.connection import is_broken, is_busy, is_of_python, log_path, open_writer, storage_error

logger = logging.getLogger("dragoman.stores.sqlite")

BATCH_MAX = 256
"""Requests carried out in one transaction."""
WAITING_MAX = 10_000
"""Requests that may wait for the writer; more are refused."""

P = ParamSpec("P")
R = TypeVar("R")

_REFUSALS = (DragomanError, StaleClaim)


class Plan(Generic[P, R]):
    """Something that can be done to the books. `fuses` are those before and after its commit, passed, if it `may_idle`,
    only when its result says that it did something; `key` says which conversation it will look up by name, so that a
    batch can look all of them up at once."""

    __slots__ = ("carry_out", "fuses", "key", "may_idle")

    def __init__(
        self,
        carry_out: Callable[Concatenate[Books, P], R],
        *,
        fuses: tuple[str, str] | None = None,
        key: Callable[P, tuple[ProjectId, ConversationId]] | None = None,
        may_idle: bool = False,
    ) -> None:
        self.carry_out = carry_out
        self.fuses = fuses
        self.may_idle = may_idle
        self.key = key


class Request:
    """A plan to be carried out, and who waits for it."""

    __slots__ = ("args", "error", "future", "plan", "result")

    def __init__(self, future: "asyncio.Future[Any]", plan: Plan[..., Any], args: tuple[Any, ...]) -> None:
        self.future = future
        self.plan = plan
        self.args = args
        self.result: Any = None
        self.error: Exception | None = None

    def blow(self, which: int) -> None:
        """Pass the fuse before (0) or after (1) the commit."""
        if self.plan.fuses is not None and (self.result or not self.plan.may_idle):
            blow(self.plan.fuses[which])


class _Batch:
    """What became of some requests, on its way to the loop."""

    __slots__ = ("gone", "pushes", "requests", "rung")

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests
        self.pushes: list[Push] = []
        self.gone: list[Tape] = []
        self.rung = False


class Writer:
    def __init__(
        self,
        path: Path,
        clock: Clock,
        tails: Tails,
        *,
        connect: Callable[[Path], sqlite3.Connection] = open_writer,
        tapes_max: int = TAPES_MAX,
        lease_s: float = LEASE_S,
    ) -> None:
        """Opens the connection at once. Raises Unavailable. `connect` makes it, again after a fault of the disk."""
        self._path = path
        self._clock = clock
        self._tails = tails
        self._connect = connect
        self._connection: sqlite3.Connection | None = connect(path)
        self._inode = os.stat(path).st_ino
        self._log = log_path(path)
        self._log_inode: int | None = None
        """None until it is known that there is a log."""
        self.leases = Leases(clock, lease_s=lease_s)
        self.bell = Bell()
        self._books = Books(self.leases, tapes_max=tapes_max)
        self._gathered: list[Request] = []
        self._waiting = 0
        self._closed = False
        self._queue: SimpleQueue[list[Request] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="dragoman-write", daemon=True)
        self._thread.start()

    def now(self) -> float:
        """By the store's clock."""
        return self._clock.now()

    # -- on the loop's thread --------------------------------------------------------------------------------------

    def submit(self, plan: Plan[P, R], *args: P.args, **_none: P.kwargs) -> "asyncio.Future[R]":
        """Have a plan carried out and committed; the future is done once that is synced.

        If the caller is cancelled while it waits, the plan may be carried out all the same. Raises Unavailable.
        """
        if self._closed:
            raise Unavailable("The store is closed.", internal=str(self._path))
        if self._waiting >= WAITING_MAX:
            raise Unavailable("The server's store is overloaded; try again in a moment.", code="storage_busy")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        if not self._gathered:
            # At the end of this turn of the loop: what its other tasks ask goes along.
            loop.call_soon(self._hand_over)
        self._gathered.append(Request(future, plan, args))
        self._waiting += 1
        return future

    async def close(self) -> None:
        """Carry out what was submitted, then close the connection and end the thread."""
        if self._closed:
            return
        self._closed = True
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _done(self, batch: _Batch) -> None:
        self._waiting -= len(batch.requests)
        for tape, entries, sizes in batch.pushes:
            self._tails.push(tape, entries, sizes)
        for tape in batch.gone:
            self._tails.forget(tape)
        if batch.rung:
            self.bell.ring()
        for request in batch.requests:
            future = request.future
            if future.done():
                continue  # cancelled meanwhile
            if request.error is None:
                future.set_result(request.result)
            else:
                future.set_exception(request.error)

    # -- on the writer's thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        open_ = True
        while open_:
            requests = self._queue.get()
            if requests is None:
                break
            with suppress(Empty):
                while len(requests) < BATCH_MAX:
                    more = self._queue.get_nowait()
                    if more is None:
                        open_ = False
                        break
                    requests += more
            for start in range(0, len(requests), BATCH_MAX):
                batch = _Batch(requests[start : start + BATCH_MAX])
                self._carry_out(batch)
                self._deliver(batch)
        self._discard()

    def _carry_out(self, batch: _Batch) -> None:
        try:
            connection = self._usable()
        except Unavailable as error:
            logger.error("the store cannot be written: %s", error)
            _fail(batch.requests, error)
            return
        if not self._attempt(connection, batch, batch.requests, last=False):
            for request in batch.requests:
                self._attempt_alone(batch, request)

    def _attempt_alone(self, batch: _Batch, request: Request) -> None:
        try:
            connection = self._usable()
        except Unavailable as error:
            request.error = error
            return
        self._attempt(connection, batch, [request], last=True)

    def _attempt(self, connection: sqlite3.Connection, batch: _Batch, requests: list[Request], *, last: bool) -> bool:
        """Carry requests out in one transaction. False, unless it is the `last` time, if each should be tried alone."""
        books = self._books
        try:
            books.open(connection, self._clock.now())
            books.look_ahead(request.plan.key(*request.args) for request in requests if request.plan.key)
            for request in requests:
                try:
                    request.error = None
                    request.result = request.plan.carry_out(books, *request.args)
                except _REFUSALS as refusal:
                    request.error = refusal
            for request in requests:
                request.blow(0)
            books.commit()
        except Exception as error:
            books.forget()
            self._roll_back(connection)
            return self._failed(requests, error, last=last)
        batch.pushes += books.pushes
        batch.gone += books.gone
        batch.rung = batch.rung or books.rung
        try:
            for request in requests:
                request.blow(1)
        except FuseBlown as blown:
            _fail(requests, blown)
        return True

    def _failed(self, requests: list[Request], error: Exception, *, last: bool) -> bool:
        """Tell those it concerns what went wrong. False if that is not known before each was tried alone: the one at
        fault then fails alone, and what was only remembered wrongly is read again."""
        if isinstance(error, FuseBlown):
            _fail(requests, error)
        elif isinstance(error, sqlite3.Error) and (last or is_busy(error) or is_broken(error)):
            if is_broken(error) or is_of_python(error):
                self._discard()
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
                _fail(requests, run_taken())  # the one id that a caller chooses and no plan looks up
                return True
            failed = storage_error(error, self._path)
            logger.error("a commit failed, %d requests are not kept: %s", len(requests), failed)
            _fail(requests, failed)
        elif last:
            logger.error("a request failed for a reason that is ours", exc_info=error)
            _fail(requests, Unavailable("The server's store could not take this.", internal=repr(error)))
        else:
            return False
        return True

    def _usable(self) -> sqlite3.Connection:
        """The connection, opened anew if it was thrown away. Raises Unavailable.

        A file that was removed or replaced under us, or its log, takes writes like any other and loses them with the
        process: it is refused until it is back.
        """
        if not self._in_place():
            raise Unavailable(
                "The server's store was moved away while in use; nothing was kept. Put it back or restart the server.",
                code="storage_failed",
                internal=f"{self._path} or its log is missing or another file",
            )
        if self._connection is None:
            self._connection = self._connect(self._path)
        return self._connection

    def _in_place(self) -> bool:
        if _inode_of(self._path) != self._inode:
            return False
        log_inode = _inode_of(self._log)
        if self._log_inode is None and self._connection is not None:
            self._log_inode = log_inode
        return self._log_inode in (None, log_inode)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("rollback")
        except sqlite3.Error as error:
            logger.error("a rollback failed, the connection is thrown away: %s", error)
            self._discard()

    def _discard(self) -> None:
        if self._in_place():
            self._log_inode = None  # whoever closes last removes the log
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _deliver(self, batch: _Batch) -> None:
        try:
            batch.requests[0].future.get_loop().call_soon_threadsafe(self._done, batch)
        except RuntimeError:
            logger.debug("nobody waits for this commit: the event loop is closed")


def _inode_of(path: Path) -> int | None:
    """None if there is no such file, or it cannot be reached."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _fail(requests: list[Request], error: Exception) -> None:
    for request in requests:
        request.error = copy(error)  # each is raised in a task of its own and grows a traceback there
