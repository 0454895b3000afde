import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.names import ConversationId, RunId
from dragoman.core.operations import Mark
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from dragoman.runtime.ports import LEASE_S, Accepted, StaleClaim
from dragoman.runtime.tail import Tails
from dragoman.stores.sqlite.books import Books
from dragoman.stores.sqlite.connection import log_path, open_writer
from dragoman.stores.sqlite.store import SqliteStore, open_store
from dragoman.stores.sqlite.writer import WAITING_MAX, Plan, Writer
from tests.stores.talk import PROJECT, answer, append, begin, finish, say, turn, wait
from tests.support import FixedClock

Connect = Callable[[Path], sqlite3.Connection]


class Watch:
    """What a connection executes, and what it is told to do about it."""

    def __init__(self) -> None:
        self.statements: list[list[str]] = []
        self.fault: sqlite3.Error | None = None
        self.lasts = False
        """The fault does not go away by itself."""
        self.late = False
        """The fault comes once it is done, as when a disk fails to say that it has synced."""
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
        commits = sql == "commit" or (sql.startswith("insert") and not self.in_transaction)
        if watch.fault is not None and commits:
            fault = watch.fault
            watch.fault = fault if watch.lasts else None
            if watch.late:
                super().execute(sql, parameters)
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


async def opened_with(
    path: Path, connect: Connect, *, tapes_max: int = 100, clock: FixedClock | None = None
) -> SqliteStore:
    clock = clock or FixedClock()
    await (await open_store(path, clock, writer=False)).close()
    tails = Tails()
    return SqliteStore(path, tails, None, Writer(path, clock, tails, connect=connect, tapes_max=tapes_max), clock)


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
    await asyncio.gather(*(store.append(claim, text(number), after=claim.seq) for number, claim in enumerate(claims)))
    assert watch.statements == [["insert", "into", "deltas"]]


async def test_what_arrives_during_a_commit_goes_together_into_the_next(store: SqliteStore, watch: Watch):
    claims = [await begin(store, f"c{number}", f"r{number}") for number in range(20)]
    watch.statements.clear()
    watch.held.clear()
    watch.gate = gate = threading.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        first = group.create_task(store.append(claims[0], text(0), after=claims[0].seq))
        await asyncio.to_thread(watch.held.wait, 5)
        others: list[asyncio.Task[int]] = []
        for claim in claims[1:]:
            others.append(group.create_task(store.append(claim, text(1), after=claim.seq)))
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
    assert await append(store, claim, events) == 1003
    fresh = await store.read_run(claim)
    assert [entry.event for entry in fresh[2:]] == list(events)
    assert [entry.seq for entry in fresh] == list(range(2, 1004))


# -- faults ----------------------------------------------------------------------------------------------------------


async def test_a_poisoned_request_fails_alone(store: SqliteStore):
    live = [await begin(store, f"c{number}", f"r{number}") for number in range(5)]
    results = await asyncio.gather(
        store.append(live[0], text(0), after=live[0].seq),
        store.finish(live[1], answer("x"), after=live[1].seq, weight=2**70),
        store.finish(live[1], answer("x"), after=live[1].seq, weight=cast("int", object())),
        store.accept(turn("new", "r3")),
        store.accept(turn("new", "fresh")),
        store.append(live[2], text(2), after=live[2].seq),
        store.finish(live[3], answer("x"), after=live[3].seq, weight=1),
        return_exceptions=True,
    )
    assert results[0] == results[5] == 4
    assert isinstance(results[1], Unavailable)
    assert isinstance(results[2], Unavailable)
    assert isinstance(results[3], Conflict)
    assert isinstance(results[4], Accepted)
    assert results[4].created
    assert results[6] is None
    assert await append(store, live[1], text(1)) == 4
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
    assert await append(store, claim, text(1)) == 4


async def test_a_refusal_does_not_disturb_its_neighbours(store: SqliteStore):
    claim = await begin(store, "c", "r1")
    done = await say(store, "d", "r2", "q", "a")
    writes = (store.append(one, text(1), after=one.seq) for one in (done, claim))
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(results[0], StaleClaim)
    assert results[1] == 4


async def test_after_an_io_error_nothing_is_acknowledged_and_the_connection_is_another(
    store: SqliteStore, watch: Watch
):
    claims = [await begin(store, f"c{number}", f"r{number}") for number in range(3)]
    assert watch.opened == 1
    watch.fault = io_error()
    writes = (store.append(claim, text(1), after=claim.seq) for claim in claims)
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [error.code for error in results if isinstance(error, Unavailable)] == ["storage_failed"] * 3
    assert len({id(error) for error in results}) == 3
    assert await append(store, claims[0], text(2)) == 4
    assert watch.opened == 2
    assert [entry.event for entry in await store.read(claims[0].tape, after=3)] == list(text(2))
    assert list(await store.read(claims[1].tape, after=3)) == []


async def test_a_commit_that_fails_leaves_nothing_of_its_batch(store: SqliteStore, watch: Watch):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    watch.fault = io_error()
    with pytest.raises(Unavailable):
        await finish(store, claim, answer("x"), weight=1)
    view = await store.run(None, RunId("r1"))
    assert view is not None
    assert view.status == "running"
    following = await finish(store, claim, answer("x"), weight=1)
    assert following is not None
    assert following.run == "r2"
    assert [entry.seq for entry in await store.read(claim.tape, after=0)] == list(range(1, 9))


async def test_a_write_whose_word_was_lost_is_not_written_twice(store: SqliteStore, watch: Watch):
    watch.late = True
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    watch.fault = io_error()
    with pytest.raises(Unavailable):
        await store.append(claim, text(1), after=3)
    assert await store.append(claim, text(1), after=3) == 5
    assert await store.ask(RunId("r1"), ev.CancelAsked())
    watch.fault = io_error()
    with pytest.raises(Unavailable):
        await store.append(claim, (ev.ReplyFinished("x"),), after=5)
    assert await store.asked((claim,)) == {"r1": 6}
    assert await store.append(claim, (ev.ReplyFinished("x"),), after=5) == 7
    watch.fault = io_error()
    with pytest.raises(Unavailable):
        await store.finish(claim, (ev.RunCancelled(),), after=7, weight=1)
    following = await store.finish(claim, (ev.RunCancelled(),), after=7, weight=1)
    assert following is not None
    assert (following.run, following.epoch, following.seq) == ("r2", 1, 9)
    assert list(await store.take_lost(limit=9)) == []  # it is ours again, with a lease
    assert [entry.seq for entry in await store.read(claim.tape, after=0)] == list(range(1, 10))
    assert await store.prune(ended_before=FixedClock().at + 1, limit=9) == 1


async def test_readers_hear_of_a_write_whose_word_was_lost(store: SqliteStore, watch: Watch):
    watch.late = True
    claim = await begin(store, "c", "r1")
    seq, rewrites = (
        3,
        (partial(store.append, claim, text(1)), partial(store.finish, claim, (ev.RunCompleted(),), weight=1)),
    )
    for rewrite in rewrites:
        waiting = asyncio.ensure_future(store.grown(claim.tape, after=seq))
        watch.fault = io_error()
        with pytest.raises(Unavailable):
            await rewrite(after=seq)
        assert not waiting.done()
        await rewrite(after=seq)
        async with asyncio.timeout(5):
            await waiting
        seq += 1
        assert [entry.seq for entry in await store.read(claim.tape, after=0)] == list(range(1, seq + 1))


async def test_a_turn_whose_word_was_lost_is_found_by_its_key(store: SqliteStore, watch: Watch):
    watch.late, watch.fault = True, io_error()
    keyed = turn("c", "r1", mark=Mark("f", key="k"))
    with pytest.raises(Unavailable):
        await store.accept(keyed)
    again = await store.accept(keyed)
    assert (again.run, again.replayed, again.claim) == ("r1", True, None)
    assert [claim.run for claim in await store.take_lost(limit=9)] == ["r1"]  # nobody was given its claim


async def test_a_batch_that_fails_takes_no_lease_away_and_gives_none(path: Path, watch: Watch):
    clock = FixedClock()
    store = await opened_with(path, watch.connect, clock=clock)
    claim, other = await begin(store, "c", "r1"), await begin(store, "d", "r2")
    for attempt in (
        partial(store.finish, claim, (ev.RunCompleted(),), after=3, weight=1),
        partial(store.append, claim, text(1), after=3),
        partial(store.reclaim, RunId("r1")),
    ):
        watch.fault = io_error()
        with pytest.raises(Unavailable):
            await attempt()
    assert list(await store.take_lost(limit=9)) == []
    await store.release((other,))
    watch.fault = io_error()
    with pytest.raises(Unavailable):
        await store.take_lost(limit=9)
    await store.append(claim, text(1), after=3)
    assert [(lost.run, lost.epoch) for lost in await store.take_lost(limit=9)] == [("r2", 2)]
    await store.close()


async def test_leases_are_kept_while_the_file_cannot_be_reached(path: Path):
    clock = FixedClock()
    store = await opened_with(path, open_writer, clock=clock)
    claim = await begin(store, "c", "r1")
    away = path.with_name("away.db")
    os.rename(path, away)
    for _ in range(3):
        clock.move(LEASE_S - 1)
        with pytest.raises(Unavailable, match="moved away"):
            await store.renew((claim,))
    with pytest.raises(Unavailable, match="moved away"):
        await store.probe()
    os.rename(away, path)
    assert list(await store.take_lost(limit=9)) == []
    await store.probe()
    await store.close()


@pytest.mark.parametrize(
    ("code", "told"), [(sqlite3.SQLITE_FULL, "storage_full"), (sqlite3.SQLITE_IOERR_FSYNC, "storage_failed")]
)
async def test_a_probe_tells_what_a_turn_would_meet(store: SqliteStore, watch: Watch, code: int, told: str):
    watch.lasts, watch.fault = True, io_error(code)
    with pytest.raises(Unavailable) as refused:
        await store.probe()
    assert refused.value.code == told
    watch.fault = None
    await store.probe()


async def test_what_asks_and_looks_after_runs_is_not_committed(store: SqliteStore, watch: Watch):
    claim = await begin(store, "c", "r1")
    watch.statements.clear()
    await store.renew((claim,))
    await store.release((claim,))
    await store.renew((claim,))
    await store.asked((claim,))
    assert watch.statements == []
    await store.take_lost(limit=9)
    assert [words[0] for words in watch.statements] == ["select"]


async def test_no_lease_outlives_its_run(store: SqliteStore):
    writer = store._writer
    assert writer is not None
    claim = await begin(store, "c", "r1")
    await begin(store, "d", "r2")
    assert writer.leases.live() == {"r1", "r2"}
    await append(store, claim, text(1))
    await finish(store, claim, (ev.RunCompleted(),))
    await store.delete(PROJECT, ConversationId("d"))
    assert writer.leases.live() == frozenset()


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
            await append(store, claim, text(1))
    assert await append(store, claim, text(1)) == 4
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
            await append(store, claim, (ev.TextAdded(str(number) + "x" * 1000),))
            acknowledged += 1
    assert refused.value.code == "storage_full"
    assert 10 < acknowledged < 100
    small = await begin_or_refuse(store)
    connections[0].execute("pragma max_page_count=1000000")
    assert await append(store, claim, text(1)) == 4 + acknowledged
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
        await append(store, claim, text(1))
    assert refused.value.code == "storage_busy"
    with pytest.raises(Unavailable) as refused:
        await finish(store, claim, answer("x"), weight=1)
    assert refused.value.code == "storage_busy"
    assert [entry.seq for entry in await store.read_run(claim)] == [2, 3]
    other.execute("rollback")
    other.close()
    assert await append(store, claim, text(1)) == 4


async def test_a_file_moved_away_takes_no_writes_until_it_is_back(store: SqliteStore, path: Path):
    claim = await begin(store, "c", "r1")
    away = path.with_name("away.db")
    os.rename(path, away)
    with pytest.raises(Unavailable, match="moved away"):
        await store.append(claim, text(1), after=claim.seq)
    path.touch()
    with pytest.raises(Unavailable, match="moved away"):
        await store.append(claim, text(1), after=claim.seq)
    os.replace(away, path)
    assert await store.append(claim, text(1), after=claim.seq) == 4


@pytest.mark.parametrize("removed", [False, True])
async def test_a_log_moved_away_takes_no_writes_either(path: Path, watch: Watch, removed: bool):
    store = await opened_with(path, watch.connect)
    claim = await begin(store, "c", "r1")
    assert await store.append(claim, text(1), after=3) == 4
    log, away = log_path(path), path.with_name("away")
    log.unlink() if removed else os.rename(log, away)
    for _ in range(2):
        with pytest.raises(Unavailable, match="moved away"):
            await store.append(claim, text(2), after=4)
    if not removed:
        os.replace(away, log)
        assert await store.append(claim, text(2), after=4) == 5
        watch.fault = io_error()
        with pytest.raises(Unavailable):
            await store.append(claim, text(3), after=5)
        assert await store.append(claim, text(3), after=5) == 6  # with another connection, and a log of its own
    await store.close()
    again = await open_store(path, FixedClock(), writer=True)  # what was in the log is in the file
    assert [entry.seq for entry in await again.read(claim.tape, after=0)] == list(range(1, 5 if removed else 7))
    await again.close()


# -- fuses -----------------------------------------------------------------------------------------------------------


async def test_a_fuse_before_the_commit_leaves_nothing(store: SqliteStore):
    claim = await begin(store, "c", "r1")
    fuses.arm("append.before_commit=raise")
    try:
        with pytest.raises(FuseBlown):
            await append(store, claim, text(1))
    finally:
        fuses.arm("")
    assert await append(store, claim, text(2)) == 4
    assert [entry.event for entry in await store.read(claim.tape, after=3)] == list(text(2))


async def test_a_fuse_after_the_commit_loses_the_answer_and_not_the_entry(store: SqliteStore):
    claim = await begin(store, "c", "r1")
    fuses.arm("append.after_commit=raise, accept.after_commit=raise")
    try:
        with pytest.raises(FuseBlown):
            await append(store, claim, text(1))
        with pytest.raises(FuseBlown):
            await store.accept(turn("d", "r2"))
    finally:
        fuses.arm("")
    assert [entry.event for entry in await store.read(claim.tape, after=3)] == list(text(1))
    assert await append(store, claim, text(2)) == 5
    assert [view.id for view in await store.unfinished()] == ["r1", "r2"]


# -- limits and the end ----------------------------------------------------------------------------------------------


async def test_a_writer_that_falls_behind_refuses_more(store: SqliteStore, watch: Watch):
    claim = await begin(store, "c", "r1")
    watch.held.clear()
    watch.gate = gate = threading.Event()
    tasks = [
        asyncio.ensure_future(store.append(claim, text(number), after=claim.seq + number))
        for number in range(WAITING_MAX)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="overloaded"):
        await append(store, claim, text(0))
    watch.gate = None
    gate.set()
    assert await asyncio.gather(*tasks) == list(range(4, 4 + WAITING_MAX))
    assert await append(store, claim, text(0)) == 4 + WAITING_MAX


async def test_what_is_remembered_of_tapes_is_bounded_and_read_again(path: Path):
    store = await opened_with(path, open_writer, tapes_max=3)
    live = [await begin(store, f"live{number}", f"l{number}") for number in range(5)]
    await append(store, live[0], (ev.ReplyFinished("x"),))
    await wait(store, "live1", "queued")
    for number in range(10):
        await say(store, f"c{number}", f"r{number}", "q", "a")
    await finish(store, live[0], (ev.RunCancelled(),), weight=1)
    following = await finish(store, live[1], (ev.RunCancelled(),), weight=1)
    assert following is not None
    assert following.run == "queued"
    counts = [await store.get(PROJECT, ConversationId(f"live{number}")) for number in range(2)]
    assert [info.messages for info in counts if info is not None] == [2, 0]
    assert (await store.accept(turn("c3", "again"))).seq == 7
    await store.close()


async def test_a_caller_that_goes_away_disturbs_nobody(store: SqliteStore):
    claim = await begin(store, "c", "r1")
    gone = asyncio.ensure_future(store.append(claim, text(1), after=claim.seq))
    stays = asyncio.ensure_future(store.append(claim, text(2), after=claim.seq + 1))
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
    tasks = [asyncio.ensure_future(store.append(claim, text(number), after=claim.seq + number)) for number in range(10)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*tasks) == list(range(4, 14))
    for attempt in (append(store, claim, text(1)), store.read_run(claim), store.get(PROJECT, ConversationId("c"))):
        with pytest.raises(Unavailable, match="closed"):
            await attempt
    await store.close()
