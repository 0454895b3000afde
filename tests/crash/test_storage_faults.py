"""Disks that are full, lie or go away, locks that others hold, clocks that jump: real servers, real sockets.

`CRASH_TIER=N` makes the storms longer and holds locks for as long as the plan says. `python -m pytest -s` shows what
was measured.
"""

import asyncio
import os
import random
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest

from dragoman.core.events import TextAdded
from dragoman.core.operations import Mark
from dragoman.runtime.ports import LEASE_S
from dragoman.server.assemble import SystemClock
from dragoman.stores.sqlite.connection import CHECKPOINT_PAGES
from dragoman.stores.sqlite.store import open_store
from tests.crash.storage_disk import SmallDisk, small_disk, why_no_disk
from tests.crash.storage_image import Disk, Record, integrity, user_messages
from tests.crash.storage_server import LATER_S, SLOW_ANSWER, Answer, Callers, LoggedServer, NotServing, until
from tests.crash.storage_shim import ALWAYS, NEVER, Shim, compiled, why_no_shim
from tests.crash.storage_storm import Storm
from tests.stores.talk import begin, turn
from tests.support import FixedClock

NIGHTLY = os.environ.get("CRASH_TIER", "P") == "N"
UNFINISHED = 500
TAKEN_UP_S = 2.0
"""Promise G8, counted from when the server listens."""
LOG_BYTES = CHECKPOINT_PAGES * 4096
"""Past this the log is copied into the file."""
RECOVER_S = 5.0
"""A store that works again is used again within this time, without a restart."""
FULL = "The server's disk is full; nothing was kept. Try again once there is room."
BROKEN = "The server's store does not work at the moment; its log says why. Try again later."
LOCKED = "The server's store is locked by another program; nothing was kept. Try again in a moment."
MOVED = "The server's store was moved away while in use; nothing was kept. Put it back or restart the server."


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if why := why_no_shim():
        pytest.skip(why)
    return compiled(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def shim(library: Path, tmp_path: Path) -> Shim:
    return Shim(library, tmp_path, tmp_path / "home" / "dragoman.db", seed=41)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if why := why_no_disk():
        pytest.skip(why)
    try:
        with small_disk(tmp_path / "disk", size_kib=8 * 1024) as mounted:
            yield mounted
    except OSError as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")


@asynccontextmanager
async def served(server: LoggedServer) -> AsyncIterator[Callers]:
    """Started, asked, and stopped in order; what it left is whole, and it never lost its composure."""
    try:
        server.start()
        async with Callers(server) as callers:
            yield callers
        assert server.stop() == 0
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()
    assert integrity(server.home / "dragoman.db") == "ok"
    assert b"Traceback" not in server.log.read_bytes()


def home_in(folder: Path) -> Path:
    home = folder / "home"
    home.mkdir(mode=0o700)
    return home


def tell(**figures: object) -> None:
    print(
        "  ".join(
            f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}"
            for name, value in figures.items()
        )
    )


async def is_ready(callers: Callers) -> bool:
    return await callers.reason() == ""


# -- a full disk (R40) -----------------------------------------------------------------------------------------------


async def test_a_full_disk_stops_nothing_for_good(disk: SmallDisk) -> None:
    """Full when the log is to be copied into the file; then while text grows, before an end, and for the server's own
    words, which go to the same disk."""
    async with served(LoggedServer(home_in(disk.path), disk.path / "server.log")) as callers:
        assert (await callers.say("first", "hello")).status == 200
        disk.fill(leave=LOG_BYTES + 1024 * 1024)
        acknowledged = await _flood(callers)
        assert (callers.server.home / "dragoman.db-wal").stat().st_size > LOG_BYTES
        disk.clear()
        taken_s = await until(lambda: _is_taken(callers), RECOVER_S)
        give_back_log(callers.server.home / "dragoman.db")
        await _paused_and_resumed(callers, disk.fill, disk.clear, reason="storage_full", detail=FULL)
        tell(acknowledged=len(acknowledged), taken_s=taken_s)
        said = [text for role, text in await callers.messages("flood") if role == "user"]
        assert [text for text in said if text in acknowledged] == acknowledged
        assert len(set(said)) == len(said)


def give_back_log(database: Path) -> None:
    """The log's file keeps what room it once had; this cuts it to nothing."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        assert connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0] == 0


async def _paused_and_resumed(
    callers: Callers, begin_fault: Callable[[], None], end_fault: Callable[[], None], *, reason: str, detail: str
) -> None:
    """Runs that are speaking, and about to end, wait out the fault; who asks meanwhile is refused and told when to come
    again; what was said before can be read; and all is well soon after."""
    await callers.quiet()
    speaking = asyncio.ensure_future(callers.stream("speaks", "slowly", heard := bytearray()))
    await until(lambda: _heard(heard, 3), 5)
    ending = asyncio.ensure_future(callers.say("ends", "later"))
    await until(lambda: _lives(callers, 2), 5)
    begin_fault()
    for number in range(3):
        refused = await callers.say("other", f"hello {number}?")
        assert (refused.status, refused.body, refused.headers["retry-after"]) == (503, {"detail": detail}, "5")
    await until(lambda: _is(callers, reason), 3)
    assert (await callers.messages("first"))[0] == ("user", "hello")
    await asyncio.sleep(LATER_S)
    paused_at = len(heard)
    await asyncio.sleep(0.2)
    assert len(heard) == paused_at and not speaking.done() and not ending.done()
    end_fault()
    ready_s = await until(lambda: is_ready(callers), RECOVER_S)
    taken_s = await until(lambda: _is_taken(callers), RECOVER_S)
    ended_s = await until(lambda: _is_done(ending), RECOVER_S)
    await speaking
    tell(ready_s=ready_s, taken_s=taken_s, ended_s=ended_s)
    assert ending.result().body["response"] == "Now."
    assert await _ended_at_once(callers, ending.result())
    tokens = re.findall(r'event: token\ndata: {"text": "(.*?)"}', heard.decode())
    assert "".join(tokens) == SLOW_ANSWER
    assert await callers.messages("speaks") == [("user", "slowly"), ("assistant", SLOW_ANSWER)]


async def _ended_at_once(callers: Callers, answer: Answer) -> bool:
    """Its run was driven by nobody but the attempt that began it."""
    view = (await callers.get(f"/api/runs/{answer.headers['x-run-id']}")).body
    return (view["attempts"], view["status"]) == (1, "completed")


async def _flood(callers: Callers) -> list[str]:
    """Turns of 20 kB each until one is not taken; those that were acknowledged, in order."""
    acknowledged: list[str] = []
    while True:
        text = f"{len(acknowledged)} " + "x" * 20_000
        try:
            answer = await asyncio.wait_for(callers.say("flood", text), 1.0)
        except TimeoutError:
            return acknowledged  # it was taken, and its end does not fit any more
        if answer.status != 200:
            assert (answer.status, answer.body) == (503, {"detail": FULL})
            return acknowledged
        acknowledged.append(text)


async def _heard(heard: bytearray, tokens: int) -> bool:
    return heard.count(b"event: token") >= tokens


async def _lives(callers: Callers, runs: int) -> bool:
    return (await callers.get("/api/server")).body["live_runs"] == runs


async def _is(callers: Callers, reason: str) -> bool:
    return await callers.reason() == reason


async def _is_taken(callers: Callers) -> bool:
    return (await callers.say("again", "hello again")).status == 200


async def _is_done(task: "asyncio.Future[object]") -> bool:
    return task.done()


# -- syncs that fail (R41) and power cuts (R05) ----------------------------------------------------------------------


@pytest.mark.timeout(900)
async def test_what_is_acknowledged_between_failed_syncs_survives_a_power_cut(shim: Shim, tmp_path: Path) -> None:
    """A twentieth of all syncs fails, and in the middle of it the server is killed and started again. Then the power is
    cut, in the record of what was written, at many of the places where something had just been synced or not."""
    server = LoggedServer(home_in(tmp_path), tmp_path / "log", env=shim.env)
    names = [f"c{number}" for number in range(8)]
    async with served(server) as callers:
        storm = Storm(callers, seed=41, position=lambda: shim.position)
        shim.fail_syncs(0.05)
        talking = asyncio.gather(*(storm.client(name, turns=400 if NIGHTLY else 16) for name in names))
        for kills in range(20 if NIGHTLY else 1):
            await until(partial(_has, storm, 60 * (kills + 1)), 60)
            server.kill()
            _start_until_it_can(server)
        await talking
        shim.fail_syncs(NEVER)
        await callers.quiet()
        found = await storm.found(names)
    looked, faults = storm.cuts(shim, tmp_path / "cut", count=500 if NIGHTLY else 40, seed=41)
    tell(acknowledged=len(storm.acknowledged), synced=shim.synced, failed=shim.failed, looked=looked)
    assert [token for token in storm.acknowledged if found[token] != 1] == []
    assert [token for token in storm.keyed if found[token] > 1] == []
    assert storm.strange == []
    assert shim.failed > 0 and looked > 1000
    assert faults == []


async def _has(storm: Storm, acknowledged: int) -> bool:
    return len(storm.acknowledged) >= acknowledged


def _start_until_it_can(server: LoggedServer) -> None:
    for _ in range(10):
        try:
            server.start()
            return
        except NotServing as error:
            assert (error.code, "SQLITE" in error.said or "Errno 5" in error.said) == (75, True), error
    raise AssertionError("it never started")


async def test_nothing_is_built_on_what_a_failed_sync_left_behind(shim: Shim, tmp_path: Path) -> None:
    """The sync of a turn fails, so it is refused; but its bytes stand in the log, where the next process finds them.
    Who asks again is told yes only once they are on the disk, and so is who says something behind them."""
    server = LoggedServer(home_in(tmp_path), tmp_path / "log", env=shim.env)
    async with served(server) as callers:
        storm = Storm(callers, seed=1, position=lambda: shim.position)
        assert (await callers.say("c", "one")).status == 200
        shim.fail_syncs(ALWAYS)
        refused = await callers.say("c", "two", key="k")
        assert (refused.status, refused.body, refused.headers["retry-after"]) == (503, {"detail": BROKEN}, "5")
        server.kill()
        shim.fail_syncs(NEVER)
        server.start()
        await callers.quiet()  # the refused turn was taken up
        for token, key in (("two", "k"), ("three", "")):
            answer = await callers.say("c", token, key=key)
            assert answer.status == 200
            storm.acknowledged[token] = shim.position
        said = [text for role, text in await callers.messages("c") if role == "user"]
        assert said == ["one", "two", "three"]
        looked, faults = storm.cuts(shim, tmp_path / "cut", count=1000, seed=1)
        assert looked > 0 and faults == []


def test_a_page_whose_sync_failed_is_not_on_the_disk_before_it_is_written_again() -> None:
    disk, rng = Disk(), random.Random(1)
    journal = [("W", b"a" * 5000), ("S", b""), ("W", b"b" * 100), ("F", b""), ("S", b""), ("W", b"c"), ("S", b"")]
    left: list[bytes] = []
    for number, (kind, body) in enumerate(journal):
        disk.add(Record(number, kind, "w", 0, body))
        left.append(disk.left(rng)["w"])
    assert left[1] == left[3] == left[4] == b"a" * 5000
    assert left[6] == b"c" + b"b" * 99 + b"a" * 4900
    assert disk.lost == 0


async def test_a_disk_that_syncs_nothing_is_told_and_used_again_when_it_does(shim: Shim, tmp_path: Path) -> None:
    async with served(LoggedServer(home_in(tmp_path), tmp_path / "log", env=shim.env)) as callers:
        assert (await callers.say("first", "hello")).status == 200
        begin_fault, end_fault = partial(shim.fail_syncs, ALWAYS), partial(shim.fail_syncs, NEVER)
        await _paused_and_resumed(callers, begin_fault, end_fault, reason="storage_failed", detail=BROKEN)
        tell(failed=shim.failed)


# -- locks and files (R42) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held_s", [0.5, *([10.0, 60.0] if NIGHTLY else [])])
@pytest.mark.timeout(120)
async def test_a_lock_of_another_program_is_waited_for(tmp_path: Path, held_s: float) -> None:
    """5 s at most for each try. Runs wait longer: nothing of them is lost."""
    server = LoggedServer(home_in(tmp_path), tmp_path / "log")
    async with served(server) as callers:
        speaking = asyncio.ensure_future(callers.stream("speaks", "slowly", heard := bytearray()))
        await until(lambda: _heard(heard, 3), 5)
        with closing(sqlite3.connect(server.home / "dragoman.db", isolation_level=None)) as other:
            other.execute("begin immediate")
            freed = asyncio.get_running_loop().call_later(held_s, other.execute, "rollback")
            answer = await callers.say("c", "hello?")
            if held_s < 5:
                assert answer.status == 200
            else:
                assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, {"detail": LOCKED}, "5")
                assert await callers.reason() in ("storage_busy", "storage_slow")
            tell(held_s=held_s, answer_s=answer.took_s)
            await until(lambda: _is_past(freed.when()), held_s + 1)
            ready_s = await until(lambda: is_ready(callers), RECOVER_S)
        tell(ready_s=ready_s)
        await speaking
        assert await callers.messages("speaks") == [("user", "slowly"), ("assistant", SLOW_ANSWER)]


async def _is_past(loop_s: float) -> bool:
    return asyncio.get_running_loop().time() > loop_s


async def test_files_that_are_taken_away_get_no_more_writes_and_lose_none(tmp_path: Path) -> None:
    server = LoggedServer(home_in(tmp_path), tmp_path / "log")
    database, log = server.home / "dragoman.db", server.home / "dragoman.db-wal"
    away = tmp_path / "away"
    async with served(server) as callers:
        assert (await callers.say("c", "one")).status == 200
        for file, replaced in ((database, False), (database, True), (log, False)):
            os.rename(file, away)
            if replaced:
                file.write_bytes(b"")
            refused = await callers.say("c", "two")
            assert (refused.status, refused.body) == (503, {"detail": MOVED})
            os.replace(away, file)
            assert (await callers.say("c", f"behind {file.name}")).status == 200
        log.unlink()
        assert await callers.reason() == "storage_failed"
    # The log was open all the time: a stop in order still copies it into the file.
    assert user_messages(database) == ["one", "behind dragoman.db", "behind dragoman.db", "behind dragoman.db-wal"]


async def test_a_second_server_is_refused_with_the_process_that_serves(tmp_path: Path) -> None:
    """Also if it knows the store under another name."""
    server = LoggedServer(home_in(tmp_path), tmp_path / "log")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "dragoman.db").symlink_to(server.home / "dragoman.db")
    async with served(server):
        with pytest.raises(NotServing) as refused, LoggedServer(linked, tmp_path / "second"):
            pass
    assert refused.value.code == 75
    assert f"is in use by process {server.pid}, listening on {server.url}: stop it first" in refused.value.said
    assert "Traceback" not in refused.value.said


async def test_a_store_that_may_not_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    server = LoggedServer(home_in(tmp_path), tmp_path / "log", plain=True)
    database = server.home / "dragoman.db"
    store = await open_store(database, FixedClock(), writer=True)
    await begin(store, "c", "r", "kept")
    await store.close()

    def refused() -> str:
        with pytest.raises(NotServing) as error, server:
            pass
        assert error.value.code == 75
        return error.value.said

    check = "Check owner and mode of that file and its folder, and the disk.\n"
    database.chmod(0o400)
    may_not = f"[Errno 13] Permission denied: '{database}-wal'"
    assert refused() == f"dragoman: The store cannot be used: {may_not}. {check}"
    database.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(database, 12345, 12345)
        cannot = f"{database}: SQLITE_CANTOPEN: unable to open database file"
        assert refused() == f"dragoman: The store cannot be used: {cannot}. {check}"
        os.chown(database, 0, 0)
    assert user_messages(database) == ["kept"]


# -- clocks that jump (R45) ------------------------------------------------------------------------------------------


async def test_no_run_notices_that_the_wall_clock_jumps(shim: Shim, tmp_path: Path) -> None:
    """Leases and waits go by the clock that cannot be set, so nobody takes over what is driven; a key is known on
    either side of a jump; and a run that was begun later than now has all its time."""
    async with served(LoggedServer(home_in(tmp_path), tmp_path / "log", env=shim.env)) as callers:
        first = await callers.say("keyed", "once", key="k")
        speaking = asyncio.ensure_future(callers.stream("speaks", "slowly", heard := bytearray()))
        looking = asyncio.ensure_future(callers.say("looks", "look"))
        await until(lambda: _heard(heard, 3), 5)
        for ahead_s in (300, 3600, -3600, -300, -7200):
            shim.set_clock(ahead_s)
            await asyncio.sleep(0.1)
            again = await callers.say("keyed", "once", key="k")
            assert (again.status, again.body) == (200, first.body)
            assert again.headers["idempotency-replayed"] == "true"
            assert (await callers.say("others", f"at {ahead_s}")).status == 200
            assert await is_ready(callers)
        await speaking
        assert await _ended_at_once(callers, await looking)
        assert await callers.messages("speaks") == [("user", "slowly"), ("assistant", SLOW_ANSWER)]
        assert (await callers.messages("keyed"))[0::2] == [("user", "once")]


class JumpingClock:
    """The time on the wall can be set; that since the start only goes on."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.steady = 1000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 300.0, -300.0])
async def test_leases_and_keys_bear_a_jump(tmp_path: Path, jump_s: float) -> None:
    clock = JumpingClock()
    store = await open_store(tmp_path / "dragoman.db", clock, writer=True)
    keyed = partial(turn, "c", mark=Mark("f", key="k"))
    claim = (await store.accept(keyed("r1"))).claim
    assert claim is not None
    clock.wall += jump_s
    assert list(await store.take_lost(limit=9)) == []
    assert await store.renew((claim,)) == frozenset()
    assert (await store.accept(keyed("r2"))).run == "r1"
    assert await store.append(claim, (TextAdded("behind"),), after=claim.seq) == 4
    clock.steady += LEASE_S + 1
    assert [(lost.run, lost.epoch) for lost in await store.take_lost(limit=9)] == [("r1", 2)]
    clock.wall -= 2 * jump_s
    assert list(await store.take_lost(limit=9)) == []
    assert [entry.seq for entry in await store.read(claim.tape, after=0)] == [1, 2, 3, 4, 5]
    await store.close()


# -- many unfinished runs at the start (G8) --------------------------------------------------------------------------


async def test_five_hundred_unfinished_runs_are_taken_up_before_the_first_answer(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    database = home / "dragoman.db"
    store = await open_store(database, SystemClock(), writer=True)
    await asyncio.gather(*(begin(store, f"c{number}", f"r{number}", "slowly") for number in range(UNFINISHED)))
    await store.close()
    async with served(LoggedServer(home, tmp_path / "log")) as callers:
        listened_at = time.time()
        first = await callers.say("fresh", "hello")
        assert first.status == 200
        status = await callers.get("/api/server")
        quiet_s = await callers.quiet(20)
        with closing(sqlite3.connect(database)) as connection:
            claims, last_at = connection.execute(
                "select count(*), max(at) / 1e6 from entries where kind = 'run_claimed' and body like '%\"epoch\":2%'"
            ).fetchone()
            (ended,) = connection.execute("select count(*) from runs where status = 'completed'").fetchone()
    tell(
        started_s=callers.server.started_in_s,
        taken_up_s=last_at - listened_at,
        live=status.body["live_runs"],
        first_answer_s=first.took_s,
        quiet_s=quiet_s,
    )
    assert (claims, ended) == (UNFINISHED, UNFINISHED + 1)
    assert last_at - listened_at <= TAKEN_UP_S
    assert first.took_s <= TAKEN_UP_S
