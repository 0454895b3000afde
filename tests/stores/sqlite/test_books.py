import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragoman.core import events as ev
from dragoman.core.names import ConversationId
from dragoman.core.operations import Mark
from dragoman.stores.sqlite.books import ROWS_MAX
from dragoman.stores.sqlite.store import SqliteStore, open_store
from tests.stores.talk import PROJECT, begin, say, turn
from tests.support import FixedClock


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
async def store(tmp_path: Path, clock: FixedClock) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "x.db", clock, writer=True)
    yield opened
    await opened.close()


@pytest.mark.parametrize("at", [1_700_000_000.123456789, 1_700_000_000.1, 0.000001, 4_102_444_800.999999])
async def test_a_time_is_the_same_from_memory_and_from_the_file(store: SqliteStore, clock: FixedClock, at: float):
    clock.at = at
    claim = await begin(store, "c", "r1")
    beside = await open_store(store.path, clock, writer=False)
    from_memory = [entry.at for entry in await store.read(claim.tape, after=0)]
    from_file = [entry.at for entry in await beside.read(claim.tape, after=0)]
    await beside.close()
    assert from_memory == from_file == [round(at, 6)] * 3


async def test_a_batch_may_name_more_conversations_than_one_look_up_takes(tmp_path: Path):
    before = await open_store(tmp_path / "y.db", FixedClock(), writer=True)
    known = [await say(before, f"known{number}", f"k{number}", "q", "a") for number in range(3)]
    await before.close()
    store = await open_store(tmp_path / "y.db", FixedClock(), writer=True)  # which remembers nothing
    names = [f"c{number}" for number in range(ROWS_MAX * 2 + 5)]
    accepted = await asyncio.gather(
        *(store.accept(turn(name, f"run-{name}")) for name in [*names, "known0", "known1", "known2"])
    )
    assert [one.created for one in accepted] == [True] * len(names) + [False] * 3
    assert [(one.tape, one.seq) for one in accepted[-3:]] == [(claim.tape, 7) for claim in known]
    assert len({one.tape for one in accepted}) == len(accepted)
    await store.close()


async def test_two_first_turns_of_one_conversation_in_one_batch_make_it_once(store: SqliteStore):
    accepted = await asyncio.gather(*(store.accept(turn("c", f"r{number}")) for number in range(3)))
    assert [(one.created, one.seq, one.claim is not None) for one in accepted] == [
        (True, 2, True),
        (False, 4, False),
        (False, 5, False),
    ]


async def test_a_conversation_made_and_deleted_in_one_batch_is_gone(store: SqliteStore):
    first, deleted, second = await asyncio.gather(
        store.accept(turn("c", "r1")),
        store.delete(PROJECT, ConversationId("c")),
        store.accept(turn("c", "r2")),
    )
    assert deleted == ["r1"]
    assert (first.created, second.created) == (True, True)
    assert list(await store.read(first.tape, after=0)) == []
    entries = await store.read(second.tape, after=0)
    assert [entry.event for entry in entries][0::2] == [turn("c", "r2").created, ev.RunClaimed(1)]


async def test_a_key_made_and_deleted_in_one_batch_is_gone(store: SqliteStore):
    keyed = Mark("f", key="k")
    first, _, second, third = await asyncio.gather(
        store.accept(turn("c", "r1", mark=keyed)),
        store.delete(PROJECT, ConversationId("c")),
        store.accept(turn("c", "r2", mark=keyed)),
        store.accept(turn("c", "r3", mark=keyed)),
    )
    assert [(one.run, one.replayed) for one in (first, second, third)] == [("r1", False), ("r2", False), ("r2", True)]


async def test_a_run_begun_and_ended_in_one_batch_is_read_back_whole(store: SqliteStore):
    claim = await begin(store, "c", "r1")
    appended, following = await asyncio.gather(
        store.append(claim, (ev.ReplyFinished("x"),), after=3),
        store.finish(claim, (ev.RunCancelled(),), after=4, weight=1),
    )
    assert (appended, following) == (4, None)
    info = await store.get(PROJECT, ConversationId("c"))
    assert info is not None
    assert (info.head, info.messages, info.live_run) == (5, 2, None)
