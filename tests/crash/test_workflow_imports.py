"""Workflows are taken in and published while processes are killed, race each other, find the disk full or the store
locked: no version is half there, each has a number of its own, and what is published is there.

`CRASH_TIER=N` kills more often.
"""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.names import ProjectId
from dragoman.core.records import Record
from dragoman.core.simulations import Status
from dragoman.runtime.simulation_runs import SILENT_S, SimulationRuns
from dragoman.runtime.workflows import LINES, NUMBER_TRIES_MAX
from dragoman.server.assemble import SystemClock
from dragoman.server.house import House
from tests.checkout import ROOT
from tests.crash.homes import Home, Template, opened, template, why_no_postgres
from tests.crash.outside import outside_world
from tests.crash.relay import Publisher, take_in
from tests.crash.scripts import Script
from tests.crash.storage_disk import SmallDisk
from tests.crash.test_storage_faults import FULL, LOCKED, disk
from tests.support import FixedClock

__all__ = ["disk"]

pytestmark = pytest.mark.timeout(90)

NIGHTLY = os.environ.get("CRASH_TIER", "P") == "N"
PROJECT = ProjectId("amber")
IMPORTERS = 3
ROUNDS = 12 if NIGHTLY else 2
LIVES_S = (0.02, 0.5)
"""From when all importers are at work until one of them is killed."""
READY_S = 20.0


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
async def made(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Template]:
    if request.param == "postgres" and (why := await why_no_postgres()):
        pytest.skip(why)
    async with template(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def home(made: Template, tmp_path: Path) -> AsyncIterator[Home]:
    (home,) = await made.homes(tmp_path / "trial", upstream="http://127.0.0.1:9", lease_s=5)
    yield home
    await made.discard(home)


async def looked(house: House, taken: list[str]) -> list[str]:
    """What is wrong with the versions, of which these were acknowledged."""
    found: list[str] = []
    publisher = Publisher(PROJECT, lambda name, text: found.append(text))
    publisher.taken, publisher.unknown = taken, 1  # who was last is not known of several
    await publisher.look(house)
    return found


# -- at each write -----------------------------------------------------------------------------------------------------


class Stopped(Exception):
    """The process is gone."""


class Stopping:
    """Records whose nth write is the last thing that happens, before it is done or afterwards."""

    def __init__(self, records: Any, nth: int, *, after: bool, error: Callable[[], Exception] = Stopped) -> None:
        self._records = records
        self._left = nth
        self._after = after
        self._error = error

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._records, name)
        if name not in ("put", "delete"):
            return method

        async def stopping(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise self._error()
            result = await method(*args, **kwargs)
            if self._left == 0:
                raise self._error()
            return result

        return stopping


@pytest.mark.parametrize("after", [False, True], ids=["before_commit", "after_commit"])
async def test_a_crash_at_any_write_leaves_a_whole_version_or_none(home: Home, after: bool) -> None:
    """Body, line, pointer: in this order, each in a transaction of its own."""
    for nth in (1, 2, 3):
        async with opened(home.path, writer=False) as house:
            before = await house.workflows.versions(PROJECT)
            live = await house.workflows.live(PROJECT)
            house.workflows._records = Stopping(house.records, nth, after=after)
            with pytest.raises(Stopped):
                await take_in(house, PROJECT, 2)
        async with opened(home.path, writer=False) as house:
            assert await looked(house, []) == []
            lines = await house.workflows.versions(PROJECT)
            there = nth > 2 or (nth == 2 and after)
            assert len(lines) == len(before) + there
            assert (await house.workflows.live(PROJECT) != live) == (nth == 3 and after)
            again = await take_in(house, PROJECT, 3)
            assert await house.workflows.live(PROJECT) == again
            assert (await house.workflows.versions(PROJECT))[-1].number == len(lines) + 1


async def test_a_disk_that_is_full_at_any_write_is_told_and_leaves_a_whole_version_or_none(home: Home) -> None:
    def full() -> Unavailable:
        return Unavailable(FULL, code="storage_full")

    for nth in (1, 2, 3):
        async with opened(home.path, writer=False) as house:
            records = house.workflows._records
            house.workflows._records = Stopping(house.records, nth, after=False, error=full)
            with pytest.raises(Unavailable, match="disk is full"):
                await take_in(house, PROJECT, 2)
            house.workflows._records = records
            assert await looked(house, []) == []
            await take_in(house, PROJECT, 3)
            assert await looked(house, []) == []


# -- several processes -------------------------------------------------------------------------------------------------


def importer(home: Home) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.crash.importing", str(home.path), PROJECT]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, bufsize=0)


def ready(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == b"ready\n"


def said_by(process: subprocess.Popen[bytes]) -> list[str]:
    """Whole lines, once it is dead."""
    assert process.stdout is not None
    with process.stdout as said:
        return [line.decode().strip() for line in said.read().splitlines(keepends=True) if line.endswith(b"\n")]


async def test_importers_that_race_and_are_killed_leave_whole_versions_in_a_row(home: Home) -> None:
    rng = random.Random(20261121)
    taken: list[str] = []
    conflicts = 0
    for _ in range(ROUNDS):
        importers = [importer(home) for _ in range(IMPORTERS)]
        try:
            assert all(map(ready, importers))
            for each in importers:
                await asyncio.sleep(rng.uniform(*LIVES_S))
                each.kill()
        finally:
            for each in importers:
                each.kill()
                each.wait()
        said = [line for each in importers for line in said_by(each)]
        conflicts += said.count("conflict")
        taken += [line for line in said if line != "conflict"]
        async with opened(home.path, writer=False) as house:
            assert await looked(house, taken) == []
    assert len(taken) > ROUNDS * IMPORTERS
    assert conflicts == 0, f"{conflicts} of {len(taken) + conflicts} imports were refused for others' sake"


class Losing:
    """Records where somebody else has just taken a version in, whenever a number is about to be written down."""

    def __init__(self, records: Any, times: int) -> None:
        self._records = records
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    async def put(self, record: Record, *, expect: int | None) -> Record:
        if record.kind == LINES and self._times:
            self._times -= 1
            taken = msgspec.structs.replace(record, id=f"{self._times:024x}")
            await self._records.put(taken, expect=expect)
        return await self._records.put(record, expect=expect)


@pytest.mark.parametrize(("times", "kept"), [(NUMBER_TRIES_MAX - 1, True), (NUMBER_TRIES_MAX, False)])
async def test_who_loses_number_after_number_to_others_gets_the_next(home: Home, times: int, kept: bool) -> None:
    async with opened(home.path, writer=False) as house:
        house.workflows._records = Losing(house.records, times)
        if kept:
            await take_in(house, PROJECT, 2)
            assert (await house.workflows.versions(PROJECT))[-1].number == times + 2
        else:
            with pytest.raises(Conflict):
                await take_in(house, PROJECT, 2)


# -- a store that cannot be written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", ["sqlite"], indirect=True)
async def test_a_locked_store_is_told_and_nothing_of_the_workflow_is_kept(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waited for a moment here; that it is 5 s elsewhere is what `test_storage_faults.py` looks at."""
    monkeypatch.setattr("dragoman.stores.sqlite.connection.BUSY_TIMEOUT_S", 0.5)
    async with opened(home.path, writer=False) as house:
        with closing(sqlite3.connect(home.database, isolation_level=None)) as other:
            other.execute("begin immediate")
            began = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                await take_in(house, PROJECT, 2)
            assert caught.value.detail == LOCKED and 0.4 < time.monotonic() - began < 15
            other.execute("rollback")
        assert len(await house.workflows.versions(PROJECT)) == 1
        await take_in(house, PROJECT, 2)
        assert await looked(house, []) == []


@pytest.mark.parametrize("made", ["sqlite"], indirect=True)
async def test_a_full_disk_is_told_and_what_was_there_is_whole(disk: SmallDisk, made: Template) -> None:
    (home,) = await made.homes(disk.path / "trial", upstream="http://127.0.0.1:9", lease_s=5)
    async with opened(home.path, writer=False) as house:
        taken = [await take_in(house, PROJECT, 2)]
        disk.fill()
        with pytest.raises(Unavailable) as caught:
            for edition in range(3, 500):
                taken.append(await take_in(house, PROJECT, edition))
        assert caught.value.detail == FULL
        assert await looked(house, taken) == []
        disk.clear()
        taken.append(await take_in(house, PROJECT, 1000))
        assert await looked(house, taken) == []


# -- simulations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", ["sqlite"], indirect=True)
async def test_a_simulation_whose_process_was_killed_has_failed_once_it_was_silent_for_long(
    made: Template, tmp_path: Path
) -> None:
    """What its process wrote last says that it runs; nobody is left to write anything else."""
    slow = Script("s.1", first_ms=10_000).message()
    suite = tmp_path / "suite.toml"
    suite.write_text(f"[simulations.slow]\nsays = [{slow!r}]\nchecks = {{ contains = ['w0'] }}\n")
    async with outside_world(tmp_path) as outside:
        (home,) = await made.homes(tmp_path / "trial", upstream=outside.url, lease_s=5)
        command = [sys.executable, "-m", "dragoman", "--home", str(home.path)]
        command += ["--config", str(home.path / "dragoman.toml"), "simulate", "run", str(suite), "--project", PROJECT]
        process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
        async with asyncio.timeout(READY_S):
            while not outside.connections:
                await asyncio.sleep(0.02)
        process.kill()
        assert await process.wait() == -9
    clock = FixedClock()
    clock.move(SystemClock().now() - clock.now())
    async with opened(home.path, writer=False) as house:
        runs = SimulationRuns(house.records, clock)
        (run,) = await runs.ls(PROJECT)
        assert run.status is Status.RUNNING and not run.results
        clock.move(SILENT_S + 60)
        (run,) = await runs.ls(PROJECT)
        assert run.status is Status.FAILED and "its process is gone" in run.detail
