"""What others ask of a run, `Log.ask`, `asked` and `bell`; the same for every engine."""

import asyncio

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest
from dragoman.core.names import RunId
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from tests.stores.conftest import Engine
from tests.stores.talk import append, begin, finish, say, wait
from tests.support import FixedClock


async def test_a_wish_stands_on_the_tape_of_the_run(store: Engine, clock: FixedClock):
    claim = await begin(store, "c", "r1")
    clock.move(1.0)
    assert await store.ask(RunId("r1"), ev.CancelAsked("me")) is True
    (entry,) = await store.read(claim.tape, after=3)
    assert (entry.seq, entry.run, entry.at, entry.event) == (4, "r1", clock.at, ev.CancelAsked("me"))
    assert list(await store.read_run(claim))[2:] == [entry]


async def test_only_a_run_at_work_can_be_asked(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await say(store, "d", "r3", "q", "a")
    for run in ("r2", "r3", "nobody"):
        assert await store.ask(RunId(run), ev.CancelAsked()) is False
    assert len(await store.read(claim.tape, after=0)) == 4


async def test_what_an_owner_writes_is_not_asked(store: Engine):
    await begin(store, "c", "r1")
    with pytest.raises(ValueError, match="owner"):
        await store.ask(RunId("r1"), ev.TextAdded("x"))
    with pytest.raises(BadRequest):
        await store.ask(RunId("r1"), ev.CancelAsked("\ud800"))


async def test_an_owner_writes_on_behind_its_own_last_entry(store: Engine):
    claim = await begin(store, "c", "r1")
    await store.ask(RunId("r1"), ev.CancelAsked("a"))
    assert await store.append(claim, (ev.ReplyStarted("a", "m"),), after=3) == 5
    await store.ask(RunId("r1"), ev.CancelAsked("b"))
    assert await store.append(claim, (ev.TextAdded("x"),), after=5) == 7
    await store.ask(RunId("r1"), ev.CancelAsked("c"))
    assert await store.finish(claim, (ev.RunCancelled("a"),), after=7, weight=1) is None
    view = await store.run(None, RunId("r1"))
    assert view is not None
    assert [type(entry.event) for entry in await store.read_run(view)][2:] == [
        ev.CancelAsked,
        ev.ReplyStarted,
        ev.CancelAsked,
        ev.TextAdded,
        ev.CancelAsked,
        ev.RunCancelled,
    ]


async def test_a_claim_hears_what_was_asked_since_it_was_given(store: Engine):
    first, second = await begin(store, "a", "r1"), await begin(store, "b", "r2")
    assert await store.asked((first, second)) == frozenset()
    await store.ask(RunId("r2"), ev.CancelAsked())
    await append(store, second, (ev.TextAdded("x"),))
    assert await store.asked((first, second)) == {"r2"}
    assert await store.asked((first,)) == frozenset()
    assert await store.asked(()) == frozenset()
    again = await store.reclaim(RunId("r2"))
    assert again is not None
    assert await store.asked((again,)) == frozenset()
    await store.ask(RunId("r2"), ev.CancelAsked())
    assert await store.asked((again,)) == {"r2"}


async def test_nothing_is_asked_of_a_run_that_ended(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await store.ask(RunId("r1"), ev.CancelAsked())
    following = await finish(store, claim, (ev.RunCancelled(),))
    assert following is not None
    assert await store.asked((claim, following)) == frozenset()


async def test_a_wish_wakes_who_reads_the_tape(store: Engine):
    claim = await begin(store, "c", "r1")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(store.grown(claim.tape, after=3))
        await asyncio.sleep(0)
        await store.ask(RunId("r1"), ev.CancelAsked())


# -- the bell --------------------------------------------------------------------------------------------------------


async def test_asking_rings_the_bell_of_all_who_wait(store: Engine):
    claim = await begin(store, "c", "r1")
    heard: list[frozenset[RunId]] = []

    async def listen() -> None:
        while not (asked := await store.asked((claim,))):
            await store.bell()
        heard.append(asked)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(listen())
        await asyncio.sleep(0)
        await store.ask(RunId("r1"), ev.CancelAsked())
    assert heard == [frozenset({"r1"})] * 3


async def test_what_rang_while_one_was_busy_is_heard_afterwards(store: Engine):
    claim = await begin(store, "c", "r1")
    async with asyncio.timeout(5):
        await store.ask(RunId("r1"), ev.CancelAsked())
        await store.bell()
        assert await store.asked((claim,)) == {"r1"}


# -- fuses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fuse", "kept"), [("ask.before_commit", 3), ("ask.after_commit", 4)])
async def test_a_wish_has_a_fuse_on_both_sides_of_its_commit(store: Engine, fuse: str, kept: int):
    claim = await begin(store, "c", "r1")
    fuses.arm(f"{fuse}=raise")
    try:
        with pytest.raises(FuseBlown):
            await store.ask(RunId("r1"), ev.CancelAsked())
    finally:
        fuses.arm("")
    assert len(await store.read(claim.tape, after=0)) == kept
    assert await store.append(claim, (ev.TextAdded("x"),), after=3) == kept + 1
