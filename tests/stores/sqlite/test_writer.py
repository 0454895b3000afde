import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.names import ConversationId, RunId
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from dragoman.runtime.ports import Accepted, StaleClaim
from dragoman.runtime.tail import Tails
from dragoman.stores.sqlite.books import Books
from dragoman.stores.sqlite.connection import open_writer
from dragoman.stores.sqlite.store import SqliteStore, open_store
from dragoman.stores.sqlite.writer import WAITING_MAX, Plan, Writer
from tests.stores.talk import PROJECT, answer, begin, say, turn, wait
from tests.support import FixedClock

Connect = Callable[[Path], sqlite3.Connection]


class Watch:
    """What a connection executes, and what it is told to do about it."""

    def __init__(self) -> None:
        self.statements: list[list[str]] = []
        self.fault: sqlite3.Error | None = None
        self.gate: threading.Event | None = None
        self.held = threading.Event()
        self.opened = 0

    def connect(self, path: Path) -> sqlite3.Connection:
        self.opened += 1
        connection = sqlite3.connect(
            path, factory=Disk, isolation_level=None, check_same_thread=False, timeout=0.02, cached_statements=512
        )
        connection.watch = self
        return connection


class Disk(sqlite3.Connection):
    watch: Watch

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        watch = self.watch
        watch.statements.append(sql.split(None, 3)[:3])
        if watch.gate is not None:
            watch.held.set()
            assert watch.gate.wait(5)
        if watch.fault is not None and (sql == "commit" or sql.startswith("insert into deltas")):
            fault, watch.fault = watch.fault, None
            raise fault
        return super().execute(sql, parameters)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dragoman.db"


@pytest.fixture
async def store(path: Path, watch: Watch) -> AsyncIterator[SqliteStore]:
    opened = await opened_with(path, watch.connect)
    yield opened
    watch.gate = None
    await opened.close()


async def opened_with(path: Path, connect: Connect, *, tapes_max: int = 100) -> SqliteStore:
    await (await open_store(path, FixedClock(), writer=False)).close()
    tails = Tails()
    return SqliteStore(path, tails, None, Writer(path, FixedClock(), tails, connect=connect, tapes_max=tapes_max))


def io_error(code: int = sqlite3.SQLITE_IOERR_FSYNC) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
    return error


def text(number: int) -> tuple[ev.TextAdded]:
    return (ev.TextAdded(str(number)),)


# -- one commit for many ---------------------------------------------------------------------------------------------


async def test_what_is_asked_in_one_turn_of_the_loop_is_one_statement(store: SqliteStore, watch: Watch):
    claims = [await begin(store, f"c{number}", f"r{number}") for number in range(32)]
    watch.statements.clear()
    await asyncio.gather(*(store.append(claim, text(number)) for number, claim in enumerate(claims)))
    assert watch.statements == [["insert", "into", "deltas"]]


async def test_what_arrives_during_a_commit_goes_together_into_the_next(store: SqliteStore, watch: Watch):
    claims = [await begin(store, f"c{number}", f"r{number}") for number in range(20)]
    watch.statements.clear()
    watch.held.clear()
    watch.gate = gate = threading.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        first = group.create_task(store.append(claims[0], text(0)))
        await asyncio.to_thread(watch.held.wait, 5)
        others: list[asyncio.Task[int]] = []
        for claim in claims[1:]:
            others.append(group.create_task(store.append(claim, text(1))))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert not first.done()
        watch.gate = None
        gate.set()
    assert watch.statements == [["insert", "into", "deltas"]] * 2
    assert [task.result() for task in others] == [4] * 19


async def test_turns_that_begin_together_take_one_look_up_and_one_transaction(store: SqliteStore, watch: Watch):
    watch.statements.clear()
    await asyncio.gather(*(store.accept(turn(f"c{number}", f"r{number}", "hi")) for number in range(20)))
    assert watch.statements == [
        ["with", "asked", "(project,"],
        ["select", "coalesce((select", "seq"],
        ["select", "coalesce(max(number),", "0)"],
        ["begin", "immediate"],
        ["insert", "into", "conversations"],
        ["insert", "into", "runs"],
        ["insert", "into", "entries"],
        ["commit"],
    ]


async def test_a_large_batch_is_written_whole(store: SqliteStore):
    claim = await begin(store, "c", "r1")
    events = tuple(ev.TextAdded(str(number)) for number in range(1000))
    assert await store.append(claim, events) == 1003
    fresh = await store.read_run(claim)
    assert [entry.event for entry in fresh[2:]] == list(events)
    assert [entry.seq for entry in fresh] == list(range(2, 1004))


# -- faults ----------------------------------------------------------------------------------------------------------


async def test_a_poisoned_request_fails_alone(store: SqliteStore):
    live = [await begin(store, f"c{number}", f"r{number}") for number in range(5)]
    results = await asyncio.gather(
        store.append(live[0], text(0)),
        store.finish(live[1], answer("x"), weight=2**70),
        store.finish(live[1], answer("x"), weight=cast("int", object())),
        store.accept(turn("new", "r3")),
        store.accept(turn("new", "fresh")),
        store.append(live[2], text(2)),
        store.finish(live[3], answer("x"), weight=1),
        return_exceptions=True,
    )
    assert results[0] == results[5] == 4
    assert isinstance(results[1], Unavailable)
    assert isinstance(results[2], Unavailable)
    assert isinstance(results[3], Conflict)
    assert isinstance(results[4], Accepted)
    assert results[4].created
    assert results[6] is None
    assert await store.append(live[1], text(1)) == 4
    assert len(await store.unfinished()) == 5


async def test_a_plan_that_breaks_is_told_so_and_the_thread_lives_on(store: SqliteStore):
    def broken(books: Books) -> None:
        books.change("delete_project", "x")
        raise ZeroDivisionError

    writer = store._writer
    assert writer is not None
    with pytest.raises(Unavailable, match="could not take"):
        await writer.submit(Plan(broken))
    claim = await begin(store, "c", "r1")
    assert await store.append(claim, text(1)) == 4


async def test_a_refusal_does_not_disturb_its_neighbours(store: SqliteStore):
    claim = await begin(store, "c", "r1")
    done = await say(store, "d", "r2", "q", "a")
    results = await asyncio.gather(store.append(done, text(1)), store.append(claim, text(1)), return_exceptions=True)
    assert isinstance(results[0], StaleClaim)
    assert results[1] == 4


async def test_after_an_io_error_nothing_is_acknowledged_and_the_connection_is_another(
    store: SqliteStore, watch: Watch
):
    claims = [await begin(store, f"c{number}", f"r{number}") for number in range(3)]
    assert watch.opened == 1
    watch.fault = io_error()
    results = await asyncio.gather(*(store.append(claim, text(1)) for claim in claims), return_exceptions=True)
    assert [error.code for error in results if isinstance(error, Unavailable)] == ["storage_failed"] * 3
    assert len({id(error) for error in results}) == 3
    assert await store.append(claims[0], text(2)) == 4
    assert watch.opened == 2
    assert [entry.event for entry in await store.read(claims[0].tape, after=3)] == list(text(2))
    assert list(await store.read(claims[1].tape, after=3)) == []


async def test_a_commit_that_fails_leaves_nothing_of_its_batch(store: SqliteStore, watch: Watch):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    watch.fault = io_error()
    with pytest.raises(Unavailable):
        await store.finish(claim, answer("x"), weight=1)
    view = await store.run(None, RunId("r1"))
    assert view is not None
    assert view.status == "running"
    following = await store.finish(claim, answer("x"), weight=1)
    assert following is not None
    assert following.run == "r2"
    assert [entry.seq for entry in await store.read(claim.tape, after=0)] == list(range(1, 9))


async def test_a_store_that_cannot_be_opened_again_says_so_until_it_can(path: Path):
    watch = Watch()
    attempts: list[Path] = []

    def connect(where: Path) -> sqlite3.Connection:
        attempts.append(where)
        if len(attempts) in (2, 3):
            raise Unavailable("not now", code="storage_failed")
        return watch.connect(where)

    store = await opened_with(path, connect)
    claim = await begin(store, "c", "r1")
    watch.fault = io_error()
    for _ in range(3):
        with pytest.raises(Unavailable):
            await store.append(claim, text(1))
    assert await store.append(claim, text(1)) == 4
    assert len(attempts) == 4
    await store.close()


async def test_a_full_disk_refuses_and_takes_again_when_there_is_room(path: Path):
    connections: list[sqlite3.Connection] = []

    def connect(where: Path) -> sqlite3.Connection:
        connection = open_writer(where)
        connections.append(connection)
        return connection

    store = await opened_with(path, connect)
    claim = await begin(store, "c", "r1")
    pages = connections[0].execute("pragma page_count").fetchone()[0]
    connections[0].execute(f"pragma max_page_count={pages + 10}")
    acknowledged = 0
    with pytest.raises(Unavailable) as refused:
        for number in range(1000):
            await store.append(claim, (ev.TextAdded(str(number) + "x" * 1000),))
            acknowledged += 1
    assert refused.value.code == "storage_full"
    assert 10 < acknowledged < 100
    small = await begin_or_refuse(store)
    connections[0].execute("pragma max_page_count=1000000")
    assert await store.append(claim, text(1)) == 4 + acknowledged
    assert len(connections) == 1
    assert small in ("taken", "storage_full")
    events = [entry.event for entry in await store.read_run(claim)][2:]
    assert events == [*(ev.TextAdded(str(number) + "x" * 1000) for number in range(acknowledged)), *text(1)]
    await store.close()


async def begin_or_refuse(store: SqliteStore) -> str:
    try:
        await begin(store, "other", "r2")
    except Unavailable as error:
        return error.code
    return "taken"


async def test_a_lock_held_elsewhere_is_waited_for_and_then_told(store: SqliteStore, path: Path):
    claim = await begin(store, "c", "r1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(Unavailable) as refused:
        await store.append(claim, text(1))
    assert refused.value.code == "storage_busy"
    with pytest.raises(Unavailable) as refused:
        await store.finish(claim, answer("x"), weight=1)
    assert refused.value.code == "storage_busy"
    assert [entry.seq for entry in await store.read_run(claim)] == [2, 3]
    other.execute("rollback")
    other.close()
    assert await store.append(claim, text(1)) == 4


async def test_a_file_moved_away_takes_no_writes_until_it_is_back(store: SqliteStore, path: Path):
    claim = await begin(store, "c", "r1")
    away = path.with_name("away.db")
    os.rename(path, away)
    with pytest.raises(Unavailable, match="moved away"):
        await store.append(claim, text(1))
    path.touch()
    with pytest.raises(Unavailable, match="moved away"):
        await store.append(claim, text(1))
    os.replace(away, path)
    assert await store.append(claim, text(1)) == 4


# -- fuses -----------------------------------------------------------------------------------------------------------


async def test_a_fuse_before_the_commit_leaves_nothing(store: SqliteStore):
    claim = await begin(store, "c", "r1")
    fuses.arm("append.before_commit=raise")
    try:
        with pytest.raises(FuseBlown):
            await store.append(claim, text(1))
    finally:
        fuses.arm("")
    assert await store.append(claim, text(2)) == 4
    assert [entry.event for entry in await store.read(claim.tape, after=3)] == list(text(2))


async def test_a_fuse_after_the_commit_loses_the_answer_and_not_the_entry(store: SqliteStore):
    claim = await begin(store, "c", "r1")
    fuses.arm("append.after_commit=raise, accept.after_commit=raise")
    try:
        with pytest.raises(FuseBlown):
            await store.append(claim, text(1))
        with pytest.raises(FuseBlown):
            await store.accept(turn("d", "r2"))
    finally:
        fuses.arm("")
    assert [entry.event for entry in await store.read(claim.tape, after=3)] == list(text(1))
    assert await store.append(claim, text(2)) == 5
    assert [view.id for view in await store.unfinished()] == ["r1", "r2"]


# -- limits and the end ----------------------------------------------------------------------------------------------


async def test_a_writer_that_falls_behind_refuses_more(store: SqliteStore, watch: Watch):
    claim = await begin(store, "c", "r1")
    watch.held.clear()
    watch.gate = gate = threading.Event()
    tasks = [asyncio.ensure_future(store.append(claim, text(number))) for number in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="overloaded"):
        await store.append(claim, text(0))
    watch.gate = None
    gate.set()
    assert await asyncio.gather(*tasks) == list(range(4, 4 + WAITING_MAX))
    assert await store.append(claim, text(0)) == 4 + WAITING_MAX


async def test_what_is_remembered_of_tapes_is_bounded_and_read_again(path: Path):
    store = await opened_with(path, open_writer, tapes_max=3)
    live = [await begin(store, f"live{number}", f"l{number}") for number in range(5)]
    await store.append(live[0], (ev.ReplyFinished("x"),))
    await wait(store, "live1", "queued")
    for number in range(10):
        await say(store, f"c{number}", f"r{number}", "q", "a")
    await store.finish(live[0], (ev.RunCancelled(),), weight=1)
    following = await store.finish(live[1], (ev.RunCancelled(),), weight=1)
    assert following is not None
    assert following.run == "queued"
    counts = [await store.get(PROJECT, ConversationId(f"live{number}")) for number in range(2)]
    assert [info.messages for info in counts if info is not None] == [2, 0]
    assert (await store.accept(turn("c3", "again"))).seq == 7
    await store.close()


async def test_a_caller_that_goes_away_disturbs_nobody(store: SqliteStore):
    claim = await begin(store, "c", "r1")
    gone = asyncio.ensure_future(store.append(claim, text(1)))
    stays = asyncio.ensure_future(store.append(claim, text(2)))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == 5
    assert gone.cancelled()
    assert [entry.event for entry in await store.read(claim.tape, after=3)] == [*text(1), *text(2)]


def test_a_loop_that_ends_before_its_answer_does_not_take_the_thread_along(path: Path):
    async def ask() -> SqliteStore:
        store = await open_store(path, FixedClock(), writer=True)
        await store.accept(turn("c", "r1"))
        asyncio.ensure_future(store.accept(turn("c", "r2")))  # noqa: RUF006 - nobody is to wait for it
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return store

    async def close(store: SqliteStore) -> None:
        await store.close()

    store = asyncio.run(ask())
    asyncio.run(close(store))
    connection = sqlite3.connect(path)
    assert connection.execute("select id from runs order by number").fetchall() == [("r1",), ("r2",)]
    connection.close()


async def test_closing_commits_what_was_asked_and_refuses_what_comes(path: Path):
    store = await open_store(path, FixedClock(), writer=True)
    claim = await begin(store, "c", "r1")
    tasks = [asyncio.ensure_future(store.append(claim, text(number))) for number in range(10)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*tasks) == list(range(4, 14))
    for attempt in (store.append(claim, text(1)), store.read_run(claim), store.get(PROJECT, ConversationId("c"))):
        with pytest.raises(Unavailable, match="closed"):
            await attempt
    await store.close()
