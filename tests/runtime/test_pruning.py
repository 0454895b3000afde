"""Pruning goes through all that is due, in portions, and goes on after the store was away."""

import asyncio
from typing import cast

from dragoman.core.errors import Unavailable
from dragoman.core.names import ProjectId
from dragoman.core.records import Record
from dragoman.runtime.ports import Log
from dragoman.runtime.pruning import RUNS_AT_ONCE, Pruning
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

CLOCK = FixedClock(1000.0)


class OldRuns:
    """So many runs that ended long ago."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.called: list[float] = []

    async def prune(self, *, ended_before: float, limit: int) -> int:
        self.called.append(ended_before)
        if self.count < 0:
            raise Unavailable("away")
        pruned = min(self.count, limit)
        self.count -= pruned
        return pruned


async def test_everything_that_is_due_goes_in_portions() -> None:
    log = OldRuns(RUNS_AT_ONCE + 7)
    assert await Pruning(cast("Log", log), MemoryRecords(CLOCK), CLOCK, kept_s=100).prune() == RUNS_AT_ONCE + 7
    assert log.called == [900.0, 900.0]


async def test_zero_keeps_everything() -> None:
    log = OldRuns(3)
    assert await Pruning(cast("Log", log), MemoryRecords(CLOCK), CLOCK, kept_s=0).prune() == 0
    assert log.called == []


async def test_records_that_have_expired_go_too() -> None:
    gone = asyncio.Event()

    class Watched(MemoryRecords):
        async def forget_expired(self) -> int:
            forgotten = await super().forget_expired()
            if forgotten:
                gone.set()
            return forgotten

    records = Watched(CLOCK)
    await records.put(Record(ProjectId("p"), "code", "c", "{}", expires_at=999.0), expect=0)
    pruning = Pruning(cast("Log", OldRuns(0)), records, CLOCK, kept_s=0)
    task = asyncio.create_task(pruning.keep_pruning())
    await asyncio.wait_for(gone.wait(), 5)
    task.cancel()
