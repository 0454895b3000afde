"""The writers: a few lanes, each with a connection, on which one batch after the other is committed.

Every conversation has its lane, so that what this process writes to a tape is committed and shown to readers in one
order. Requests that arrive while a batch is under way are gathered and go into the next one together, without a timer:
alone, a request waits for nobody; in a crowd, the cost of a sync and of the way to the server is shared.

    submit, submit, ... ─► look up what is unknown ─► plan ─► one statement, which commits ─► tails, wake-ups, callers

A tape that another process wrote since we looked is not written; its requests are tried again in a transaction that
locks the tape first. A batch that fails is rolled back whole and its requests are tried one by one, so that the one at
fault fails alone. When the connection is lost nobody knows what was kept: all of the batch are told so.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from dragoman.core.errors import DragomanError, Unavailable
from dragoman.core.names import Clock, Tape
from dragoman.runtime.fuses import FuseBlown
from dragoman.runtime.keeping import run_taken
from dragoman.runtime.ports import Accepted, NewTurn, StaleClaim
from dragoman.runtime.tail import Tails
from dragoman.stores.postgres.books import Books, microseconds
from dragoman.stores.postgres.connection import (
    Connection,
    Link,
    Server,
    is_lost,
    is_rolled_back,
    state_of,
    storage_error,
)
from dragoman.stores.postgres.lookups import KEY_KEPT_US, About, Numbers, load_behind, load_marks, load_tapes
from dragoman.stores.postgres.queries import QUERIES
from dragoman.stores.postgres.requests import Plan, Request, answer, fail, groups, keep
from dragoman.stores.postgres.tapes import Look
from dragoman.stores.postgres.tasks import Tasks
from dragoman.stores.postgres.wakeups import Wakeups

logger = logging.getLogger("dragoman.stores.postgres")

LANES = 3
BATCH_MAX = 256
"""Requests carried out in one transaction."""
WAITING_MAX = 10_000
"""Requests that may wait for the lanes; more are refused."""

P = ParamSpec("P")
R = TypeVar("R")

_REFUSALS = (DragomanError, StaleClaim)
_NOT_NULL = "23502"
_OF_ALL = ("53", "57014")
"""No room left, too slow: what befell one request of a batch will befall the others too."""


class Shared:
    """What all writers of a store have in common."""

    def __init__(
        self, server: Server, clock: Clock | None, tails: Tails, wakeups: Wakeups, *, owner: str, lease_s: float
    ) -> None:
        self.server = server
        self.tails = tails
        self.wakeups = wakeups
        self.owner = owner
        self.numbers = Numbers()
        self.lease_us = microseconds(lease_s)
        self._clock = clock

    @property
    def now_us(self) -> int | None:
        """None = the database's clock."""
        return None if self._clock is None else microseconds(self._clock.now())

    async def write(self, connection: Connection, books: Books) -> tuple[frozenset[Tape], int]:
        """Execute what is due: the tapes that were written, and when. Commits, unless a transaction is open."""
        if not books.touched:
            return frozenset(), 0
        name, args = books.statement((self.now_us, self.lease_us, self.owner, KEY_KEPT_US))
        now_us, written = await connection.fetchrow(QUERIES[name], *args)
        return frozenset(written), now_us

    def tell(self, books: Books, written: frozenset[Tape], now_us: int) -> None:
        """It is committed: readers may see it, here and elsewhere."""
        for tape, entries, sizes in books.settle(written, now_us):
            self.tails.push(tape, entries, sizes)
            self.wakeups.wrote(tape, entries[-1].seq)


class Lane:
    """One connection and the requests that wait for it."""

    def __init__(self, shared: Shared, tasks: Tasks) -> None:
        self._shared = shared
        self._tasks = tasks
        self._link = Link(shared.server)
        self._books = Books()
        self._gathered: list[Request] = []
        self._working: asyncio.Task[None] | None = None
        self._away = False
        """The database could not be reached the last time."""

    @property
    def waiting(self) -> int:
        return len(self._gathered)

    def submit(self, request: Request) -> None:
        self._gathered.append(request)
        if self._working is None:
            # It begins once this turn of the loop is over: what other tasks ask goes along.
            self._working = self._tasks.spawn(self._work())

    async def close(self) -> None:
        """Carry out what was submitted, then close the connection."""
        while self._working is not None:
            await asyncio.wait([self._working])
        await self._link.close()

    async def _work(self) -> None:
        try:
            while self._gathered:
                batch = self._gathered[:BATCH_MAX]
                del self._gathered[:BATCH_MAX]
                for requests, locked in groups(batch):
                    self._gathered[:0] = await self._serve(requests, locked=locked)
        finally:
            self._working = None

    async def _serve(self, requests: list[Request], *, locked: bool) -> list[Request]:
        """Answer requests; those that must be tried again."""
        try:
            if requests[0].errand is None:
                return await self._carry_out(requests, locked=locked)
            await self._run_errand(requests[0])
        except Exception as error:
            logger.exception("%d requests failed for a reason that is ours", len(requests))
            self._books.forget_all()
            fail(requests, Unavailable("The server's store could not take this.", internal=repr(error)))
            answer(requests)
        return []

    async def _run_errand(self, request: Request) -> None:
        try:
            connection = await self._link.get()
            self._books.forget_name(request.about.project, request.about.conversation)
            if request.errand is not None:
                request.result = await request.errand(connection)
        except Exception as error:
            if is_lost(error):
                self._link.drop()
            request.error = error if isinstance(error, _REFUSALS) else storage_error(error, self._shared.server)
        answer([request])

    async def _carry_out(self, requests: list[Request], *, locked: bool) -> list[Request]:
        """Carry requests out in one transaction and answer them; those that must be tried again."""
        books = self._books
        connection: Connection | None = None
        try:
            connection = await self._link.get()
            books.begin()
            if locked:
                await connection.execute("begin")
            await self._look_up(connection, requests, locked=locked)
            _plan(books, requests)
            for request in requests:
                request.blow(0)
            written, now_us = await self._shared.write(connection, books)
            if locked:
                await connection.execute("commit")
        except Exception as error:
            books.forget_all()
            return await self._failed(connection, requests, error, locked=locked)
        self._back()
        touched = frozenset(books.touched)
        self._shared.tell(books, written, now_us)
        try:
            for request in requests:
                request.blow(1)
        except FuseBlown as blown:
            fail(requests, blown)
            answer(requests)
            return []
        return _answer_or_keep(requests, touched - written, locked=locked)

    async def _look_up(self, connection: Connection, requests: list[Request], *, locked: bool) -> None:
        books, shared = self._books, self._shared
        new, wanted, turns = 0, list[About](), list[NewTurn]()
        for request in requests:
            about = request.about
            new += about.may_make
            if locked or request.fresh or not _is_known(books, about):
                wanted.append(about)
            if about.turn is not None:
                turns.append(about.turn)
        if wanted:
            await load_tapes(connection, books, wanted, now_us=shared.now_us, owner=shared.owner, locked=locked)
        if turns:
            await load_marks(connection, books, turns, now_us=shared.now_us, locked=locked)
        for request in requests:
            if request.look is not None:
                await load_behind(connection, books, request.look, shared.owner)
        if new:
            await shared.numbers.lend(connection, new, books)

    async def _failed(
        self, connection: Connection | None, requests: list[Request], error: Exception, *, locked: bool
    ) -> list[Request]:
        """Tell those it concerns what went wrong; those that must be tried again."""
        if connection is None or is_lost(error):
            fail(requests, self._lost(requests, error))
            answer(requests)
            return []
        if locked:
            await self._roll_back(connection)
        if isinstance(error, FuseBlown):
            fail(requests, error)
        elif is_rolled_back(error):
            return keep(requests)
        elif len(requests) > 1 and not state_of(error).startswith(_OF_ALL):
            again: list[Request] = []
            for request in requests:
                again += await self._carry_out([request], locked=locked)
            return again
        elif getattr(error, "constraint_name", None) == "runs_id_is_taken_once":
            fail(requests, run_taken())  # the one id that a caller chooses and no plan looks up
        elif state_of(error) == _NOT_NULL and getattr(error, "table_name", None) == "keys":
            return keep(requests)  # somebody put the key there after we looked
        else:
            failed = storage_error(error, self._shared.server)
            logger.error("a request failed: %s", failed, exc_info=error)
            fail(requests, failed)
        answer(requests)
        return []

    def _lost(self, requests: list[Request], error: Exception) -> Unavailable:
        self._link.drop()
        failed = storage_error(error, self._shared.server)
        if not self._away:
            logger.error("the store is away, %d requests may not be kept: %s", len(requests), failed)
        self._away = True
        return failed

    def _back(self) -> None:
        if self._away:
            logger.info("the store is back")
        self._away = False

    async def _roll_back(self, connection: Connection) -> None:
        try:
            await connection.execute("rollback")
        except Exception as error:
            logger.error("a rollback failed, the connection is thrown away: %s", self._shared.server.scrub(str(error)))
            self._link.drop()


def _is_known(books: Books, about: About) -> bool:
    """Whether a plan can be made with what is remembered. A conversation of which nothing is known is taken to be new:
    if it is not, nothing is written."""
    if about.tape:
        return books.tape(about.tape) is not None
    if about.turn is None or about.turn.must_exist:
        return books.tape_of(about.project, about.conversation) is not None
    return True


def _plan(books: Books, requests: list[Request]) -> None:
    for request in requests:
        request.result = request.error = request.tape = request.look = None
        if request.plan is None:
            continue
        about = request.about
        try:
            request.result = request.plan.carry_out(books, *request.args)
        except Look as look:
            request.look = look
            request.fresh = True
        except _REFUSALS as refusal:
            request.error = refusal
        if isinstance(request.result, Accepted):
            request.tape = request.result.tape
        else:
            tape = books.tape(about.tape) if about.tape else books.tape_of(about.project, about.conversation)
            request.tape = None if tape is None else tape.number


def _answer_or_keep(requests: list[Request], missed: frozenset[Tape], *, locked: bool) -> list[Request]:
    """Answer those whose tape was written as planned. A refusal that rests on what was only remembered is checked."""
    again: list[Request] = []
    done: list[Request] = []
    for request in requests:
        if request.look is not None:
            again.append(request)
        elif request.tape in missed:
            request.locked = True
            again.append(request)
        elif request.error is not None and not request.fresh and not locked:
            request.fresh = True
            again.append(request)
        else:
            done.append(request)
    answer(done)
    return keep(again)


class Writers:
    """The lanes of a store."""

    def __init__(self, shared: Shared, tasks: Tasks, *, lanes: int = LANES) -> None:
        self._lanes = [Lane(shared, tasks) for _ in range(lanes)]
        self._closed = False

    def submit(self, plan: Plan[P, R], about: About, *args: P.args, **_none: P.kwargs) -> "asyncio.Future[R]":
        """Have a plan carried out and committed; the future is done once that is synced.

        If the caller is cancelled while it waits, the plan may be carried out all the same. Raises Unavailable.
        """
        request = self._request(about)
        request.plan, request.args = plan, args
        request.locked = plan.locked or about.is_repeat
        return self._submit(request)

    def confirm(self, plan: Plan[P, R], about: About, *args: P.args, **_none: P.kwargs) -> "asyncio.Future[R]":
        """The same for a plan that changes nothing: the database is asked, not our memory."""
        request = self._request(about)
        request.plan, request.args = plan, args
        request.fresh = True
        return self._submit(request)

    def run(self, about: About, errand: Callable[[Connection], Awaitable[R]]) -> "asyncio.Future[R]":
        """Have something done between the batches of the conversation's lane."""
        request = self._request(about)
        request.errand = errand
        return self._submit(request)

    async def close(self) -> None:
        """Carry out what was submitted, and nothing more."""
        self._closed = True
        for lane in self._lanes:
            await lane.close()

    def _request(self, about: About) -> Request:
        if self._closed:
            raise Unavailable("The store is closed.")
        if sum(lane.waiting for lane in self._lanes) >= WAITING_MAX:
            raise Unavailable("The server's store is overloaded; try again in a moment.", code="storage_busy")
        return Request(asyncio.get_running_loop().create_future(), about)

    def _submit(self, request: Request) -> "asyncio.Future[Any]":
        about = request.about
        self._lanes[hash((about.project, about.conversation)) % len(self._lanes)].submit(request)
        return request.future
