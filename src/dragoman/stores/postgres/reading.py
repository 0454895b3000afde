"""Reading: rows of the queries as the values that callers get."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import Any, TypeVar

import msgspec

from dragoman.core.events import Entry, load_event
from dragoman.core.names import ConversationId, RunId, Tape
from dragoman.core.operations import ConversationInfo, RunView
from dragoman.runtime.tail import Tails
from dragoman.stores.postgres.books import SEQ_BITS, SEQ_MASK
from dragoman.stores.postgres.connection import Pool
from dragoman.stores.postgres.queries import QUERIES
from dragoman.stores.postgres.tasks import Tasks

HEADS_AT_ONCE = 1000

R = TypeVar("R")

_titles = msgspec.json.Decoder(str)


class SharedReads:
    """Readers who ask the same at the same time get one answer: a wake-up sends all readers of a tape to the log at
    once, and to the same place."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}

    async def get(self, key: Hashable, read: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """`key` must name all that the answer depends on, and how new it has to be."""
        answer: asyncio.Future[R] | None = self._under_way.get(key)
        if answer is None:
            answer = self._under_way[key] = self._tasks.answer(read())
            answer.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(answer)

    def _forget(self, key: Hashable, done: "asyncio.Future[Any]") -> None:
        del self._under_way[key]
        done.exception()  # all who wanted to know may have gone away


async def entries(pool: Pool, name: str, *args: Any) -> list[Entry]:
    rows = await pool.do(lambda connection: connection.fetch(QUERIES[name], *args))
    return [Entry(row[0] & SEQ_MASK, RunId(row[1]), row[2] / 1_000_000, load_event(row[3])) for row in rows]


async def conversations(pool: Pool, name: str, *args: Any) -> list[ConversationInfo]:
    rows = await pool.do(lambda connection: connection.fetch(QUERIES[name], *args))
    return [_conversation(row) for row in rows]


async def shelf(pool: Pool, *args: Any) -> tuple[list[ConversationInfo], int]:
    """Some of them, and how many there are in all."""
    rows = await pool.do(lambda connection: connection.fetch(QUERIES["conversations_shelf"], *args))
    return [_conversation(row) for row in rows if row[0] is not None], rows[0][13]


def _conversation(row: Sequence[Any]) -> ConversationInfo:
    return ConversationInfo(
        id=ConversationId(row[0]),
        tape=Tape(row[1]),
        title=_titles.decode(row[2]),
        origin=row[3],
        created_at=row[4] / 1_000_000,
        updated_at=row[5] / 1_000_000,
        messages=row[6],
        turns=row[7],
        head=row[8],
        live_run=RunId(row[9]) if row[9] else None,
        owner=row[10],
        shared=row[11],
        archived=row[12],
    )


async def runs(pool: Pool, name: str, *args: Any) -> list[tuple[RunView, int]]:
    """Each with the seq of its last entry that we know of: its end, or its first."""
    rows = await pool.do(lambda connection: connection.fetch(QUERIES[name], *args))
    return [(_run(row), (row[7] or row[5]) & SEQ_MASK) for row in rows]


def told(tails: Tails, found: list[ConversationInfo]) -> list[ConversationInfo]:
    """What a caller is told of a tape its readers must find."""
    for info in found:
        tails.heard(info.tape, info.head)
    return found


def told_runs(tails: Tails, found: list[tuple[RunView, int]]) -> list[RunView]:
    """The same of runs."""
    for view, seq in found:
        tails.heard(view.tape, seq)
    return [view for view, _ in found]


def _run(row: Sequence[Any]) -> RunView:
    return RunView(
        id=RunId(row[0]),
        conversation=ConversationId(row[1]),
        tape=Tape(row[2]),
        status=row[3],
        epoch=row[4],
        first_seq=row[5] & SEQ_MASK,
        started_at=row[6] / 1_000_000,
        ended_at=row[8] / 1_000_000 if row[7] else None,
        pruned=row[9],
    )


async def number(pool: Pool, name: str, *args: Any) -> int | None:
    return await pool.do(lambda connection: connection.fetchval(QUERIES[name], *args))


async def heads(pool: Pool, tapes: Sequence[Tape]) -> list[tuple[int, int]]:
    """Number and head of those that exist."""
    found: list[tuple[int, int]] = []
    for start in range(0, len(tapes), HEADS_AT_ONCE):
        chunk = tapes[start : start + HEADS_AT_ONCE]
        rows = await pool.do(lambda connection, chunk=chunk: connection.fetch(QUERIES["heads"], chunk))
        found += ((row[0], row[1]) for row in rows)
    return found


def first_of(tape: Tape) -> int:
    return tape << SEQ_BITS


def last_of(tape: Tape) -> int:
    return tape << SEQ_BITS | SEQ_MASK
