import asyncio
from collections.abc import AsyncIterator

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import LimitReached, Unavailable
from dragoman.core.names import ConversationId, RunId
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from dragoman.stores.memory import MemoryStore
from tests.stores.talk import PROJECT, append, begin, created, finish, say, turn, wait
from tests.support import FixedClock


@pytest.fixture
async def small() -> AsyncIterator[MemoryStore]:
    store = MemoryStore(FixedClock(), tapes_max=3)
    yield store
    await store.close()


async def ids(store: MemoryStore) -> list[str]:
    return [info.id for info in (await store.page(PROJECT, after="", limit=0)).items]


async def test_past_its_limit_the_conversation_that_ended_longest_ago_is_dropped(small: MemoryStore):
    for name in ("a", "b", "c"):
        await say(small, name, f"{name}1", "q", "a")
    await say(small, "a", "a2", "q", "a")
    assert await ids(small) == ["a", "b", "c"]
    await say(small, "d", "d1", "q", "a")
    assert await ids(small) == ["a", "c", "d"]
    assert await small.run(None, RunId("b1")) is None
    await small.put_messages(created("e"), ev.MessagesImported(()), at=1.0, updated_at=1.0, run=RunId("e1"))
    assert await ids(small) == ["a", "d", "e"]


async def test_a_conversation_at_work_is_not_dropped(small: MemoryStore):
    live = await begin(small, "a", "a1")
    await wait(small, "a", "a2")
    for name in ("b", "c", "d", "e"):
        await say(small, name, f"{name}1", "q", "a")
    assert await ids(small) == ["a", "d", "e"]
    assert await append(small, live, (ev.TextAdded("x"),)) == 5


async def test_while_all_are_at_work_a_new_one_is_refused(small: MemoryStore):
    claims = [await begin(small, name, f"{name}1") for name in ("a", "b", "c")]
    with pytest.raises(LimitReached) as refused:
        await small.accept(turn("d", "d1"))
    assert refused.value.limit == "tapes_max"
    assert await ids(small) == ["a", "b", "c"]
    assert (await small.accept(turn("a", "a2"))).claim is None
    await finish(small, claims[1], (ev.RunCompleted(),), weight=1)
    await begin(small, "d", "d1")
    assert await ids(small) == ["a", "c", "d"]


async def test_who_waits_on_a_dropped_conversation_is_woken(small: MemoryStore):
    claim = await say(small, "a", "a1", "q", "a")
    waiting = asyncio.ensure_future(small.grown(claim.tape, after=6))
    for name in ("b", "c", "d"):
        await say(small, name, f"{name}1", "q", "a")
    await asyncio.wait_for(waiting, 5)
    assert await small.get(PROJECT, ConversationId("a")) is None


async def test_a_closed_store_has_nothing_and_says_so():
    store = MemoryStore(FixedClock())
    claim = await begin(store, "a", "a1")
    await store.close()
    for attempt in (
        store.accept(turn("b", "b1")),
        append(store, claim, ()),
        store.read(claim.tape, after=0),
        store.get(PROJECT, ConversationId("a")),
        store.projects(),
    ):
        with pytest.raises(Unavailable, match="closed"):
            await attempt


@pytest.mark.parametrize(("fuse", "kept"), [("append.before_commit", 3), ("append.after_commit", 4)])
async def test_a_fuse_blows_on_its_side_of_the_write(small: MemoryStore, fuse: str, kept: int):
    claim = await begin(small, "a", "a1")
    fuses.arm(f"{fuse}=raise")
    try:
        with pytest.raises(FuseBlown):
            await append(small, claim, (ev.TextAdded("x"),))
    finally:
        fuses.arm("")
    assert len(await small.read(claim.tape, after=0)) == kept
