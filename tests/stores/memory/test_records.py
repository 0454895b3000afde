"""What only this engine does; the rest is in tests/stores/test_records.py."""

import pytest
from msgspec.structs import replace

from dragoman.core.errors import Unavailable
from dragoman.core.names import ProjectId
from dragoman.core.records import Record
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

CODE = Record(ProjectId("p"), "code", "c1", "{}", key="k")


async def test_what_was_looked_for_and_has_expired_takes_no_room():
    clock = FixedClock()
    records = MemoryRecords(clock)
    await records.put(replace(CODE, expires_at=clock.at + 1), expect=0)
    clock.move(1)
    assert await records.find(CODE.project, "code", "k") is None
    assert await records.forget_expired() == 0


async def test_everything_is_gone_when_it_closes():
    records = MemoryRecords(FixedClock())
    await records.put(CODE, expect=0)
    records.close()
    with pytest.raises(Unavailable):
        await records.get(CODE.project, "code", "c1")
