"""What others ask of a run, `Log.ask`, `asked` and `bell`; the same for every engine."""

import asyncio
from collections.abc import Mapping

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest
from dragoman.core.names import CallId, RunId
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from tests.stores.conftest import Engine
from tests.stores.talk import append, begin, finish, say, wait
from tests.support import FixedClock

CALL = CallId("call_1")
KINDS = (
    ev.CancelAsked("me"),
    ev.ApprovalDecided(CALL, approved=True, decided_by="me", arguments_hash="h"),
    ev.ClientToolClaimed(CALL, "tab-1"),
    ev.ClientToolAnswered(CALL, "42"),
)


async def test_a_wish_stands_on_the_tape_of_the_run(store: Engine, clock: FixedClock):
    claim = await begin(store, "c", "r1")
    clock.move(1.0)
    assert await store.ask(RunId("r1"), ev.CancelAsked("me")) == 4
    (entry,) = await store.read(claim.tape, after=3)
    assert (entry.seq, entry.run, entry.at, entry.event) == (4, "r1", clock.at, ev.CancelAsked("me"))
    assert list(await store.read_run(claim))[2:] == [entry]


async def test_whatever_others_bring_is_told_from_what_the_owner_writes(store: Engine):
    """Each kind, and written twice: what an owner builds on is its own last entry, whoever wrote behind it."""
    claim = await begin(store, "c", "r1")
    last = claim.seq
    for number, asked in enumerate(KINDS):
        assert await store.ask(RunId("r1"), asked) == last + 1
        for _ in range(2):
            assert await store.append(claim, (ev.TextAdded(str(number)),), after=last) == last + 2
        last += 2
        assert await store.asked((claim,)) == {"r1": last - 1}
    assert [entry.event for entry in await store.read_run(claim)][2::2] == list(KINDS)
    assert {type(kind) for kind in KINDS} == set(ev.ASKS)


async def test_of_many_who_ask_at_once_each_has_a_place_of_its_own(store: Engine):
    claim = await begin(store, "c", "r1")
    seqs = await asyncio.gather(*(store.ask(RunId("r1"), ev.ClientToolClaimed(CALL, str(n))) for n in range(20)))
    assert sorted(seqs) == list(range(4, 24))
    entries = {entry.seq: entry.event for entry in await store.read(claim.tape, after=3)}
    assert [entries[seq] for seq in seqs] == [ev.ClientToolClaimed(CALL, str(n)) for n in range(20)]
    assert await store.asked((claim,)) == {"r1": 23}


async def test_only_a_run_at_work_can_be_asked(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await say(store, "d", "r3", "q", "a")
    for run in ("r2", "r3", "nobody"):
        assert await store.ask(RunId(run), ev.CancelAsked()) == 0
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
    assert await store.asked((first, second)) == {}
    await store.ask(RunId("r2"), ev.CancelAsked())
    await append(store, second, (ev.TextAdded("x"),))
    assert await store.asked((first, second)) == {"r2": 4}
    assert await store.asked((first,)) == {}
    assert await store.asked(()) == {}
    again = await store.reclaim(RunId("r2"))
    assert again is not None
    assert again.seq == 6
    assert await store.asked((again,)) == {}
    await store.ask(RunId("r2"), ev.CancelAsked())
    await store.ask(RunId("r2"), ev.ClientToolClaimed(CALL))
    assert await store.asked((again, second)) == {"r2": 8}


async def test_nothing_is_asked_of_a_run_that_ended(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await store.ask(RunId("r1"), ev.CancelAsked())
    following = await finish(store, claim, (ev.RunCancelled(),))
    assert following is not None
    assert await store.asked((claim, following)) == {}


async def test_a_wish_wakes_who_reads_the_tape(store: Engine):
    claim = await begin(store, "c", "r1")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(store.grown(claim.tape, after=3))
        await asyncio.sleep(0)
        await store.ask(RunId("r1"), ev.CancelAsked())


# -- the bell --------------------------------------------------------------------------------------------------------


async def test_asking_rings_the_bell_of_all_who_wait(store: Engine):
    claim = await begin(store, "c", "r1")
    heard: list[Mapping[RunId, int]] = []

    async def listen() -> None:
        while not (asked := await store.asked((claim,))):
            await store.bell()
        heard.append(asked)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(listen())
        await asyncio.sleep(0)
        await store.ask(RunId("r1"), ev.CancelAsked())
    assert heard == [{"r1": 4}] * 3


async def test_what_rang_while_one_was_busy_is_heard_afterwards(store: Engine):
    claim = await begin(store, "c", "r1")
    async with asyncio.timeout(5):
        await store.ask(RunId("r1"), ev.CancelAsked())
        await store.bell()
        assert await store.asked((claim,)) == {"r1": 4}


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
