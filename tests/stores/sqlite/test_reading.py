import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest

from dragoman.core.errors import Conflict, Unavailable
from dragoman.stores.sqlite.connection import connect, open_reader
from dragoman.stores.sqlite.reading import THREADS, WAITING_MAX, Readers


@pytest.fixture
def path(tmp_path: Path) -> Path:
    where = tmp_path / "x.db"
    connection = connect(where, create=True)
    connection.execute("create table t (x)")
    connection.execute("insert into t values (7)")
    connection.close()
    return where


@pytest.fixture
async def readers(path: Path) -> AsyncIterator[Readers]:
    pool = Readers(path)
    yield pool
    await pool.close()


def seven(connection: sqlite3.Connection) -> int:
    return connection.execute("select x from t").fetchone()[0]


def fails(error: Exception):
    def work(_connection: sqlite3.Connection) -> NoReturn:
        raise error

    return work


async def test_reads_run_side_by_side_on_threads_of_their_own(readers: Readers):
    meeting = threading.Barrier(THREADS)

    def meet(_connection: sqlite3.Connection) -> str:
        meeting.wait(5)
        return threading.current_thread().name

    names = await asyncio.gather(*(readers.do(meet) for _ in range(THREADS)))
    assert sorted(names) == [f"dragoman-read-{number}" for number in range(THREADS)]


async def test_a_read_that_fails_does_so_in_the_words_of_the_tree(readers: Readers):
    with pytest.raises(Unavailable) as refused:
        await readers.do(lambda connection: connection.execute("select * from nowhere"))
    assert refused.value.code == "storage_failed"
    with pytest.raises(Conflict):
        await readers.do(fails(Conflict("taken")))
    with pytest.raises(Unavailable, match="could not be read") as refused:
        await readers.do(fails(ZeroDivisionError()))
    assert refused.value.internal == "ZeroDivisionError()"
    assert await readers.do(seven) == 7


async def test_a_broken_connection_is_replaced(path: Path):
    opened: list[sqlite3.Connection] = []

    def counting(where: Path) -> sqlite3.Connection:
        if len(opened) == 1:
            opened.append(opened[0])
            raise Unavailable("not now")
        opened.append(open_reader(where))
        return opened[-1]

    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    readers = Readers(path, connect=counting, threads=1)
    assert await readers.do(seven) == 7
    with pytest.raises(Unavailable):
        await readers.do(fails(error))
    with pytest.raises(Unavailable, match="not now"):
        await readers.do(seven)
    assert await readers.do(seven) == 7
    assert len(opened) == 3
    await readers.close()


async def test_a_caller_that_goes_away_disturbs_nobody(readers: Readers):
    held, gate = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> int:
        held.set()
        gate.wait(5)
        return seven(connection)

    gone = asyncio.ensure_future(readers.do(slow))
    await asyncio.to_thread(held.wait, 5)
    gone.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await readers.do(seven) == 7
    assert gone.cancelled()


async def test_more_reads_than_can_wait_are_refused(path: Path):
    readers = Readers(path, threads=1)
    held, gate = threading.Event(), threading.Event()

    def slow(_connection: sqlite3.Connection) -> None:
        held.set()
        gate.wait(5)

    first = asyncio.ensure_future(readers.do(slow))
    await asyncio.to_thread(held.wait, 5)
    others = [asyncio.ensure_future(readers.do(seven)) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="overloaded"):
        await readers.do(seven)
    gate.set()
    assert await first is None
    assert set(await asyncio.gather(*others)) == {7}
    await readers.close()


async def test_closing_answers_what_waits_and_refuses_what_comes(path: Path):
    readers = Readers(path)
    tasks = [asyncio.ensure_future(readers.do(seven)) for _ in range(20)]
    await asyncio.sleep(0)
    await readers.close()
    assert await asyncio.gather(*tasks) == [7] * 20
    with pytest.raises(Unavailable, match="closed"):
        await readers.do(seven)
