"""Leases of `runtime.ports.Log`: renew, release, take_lost, reclaim; the same for every engine."""

import asyncio

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest
from dragoman.core.names import ConversationId, RunId, Tape
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from dragoman.runtime.ports import LEASE_S, Claim, StaleClaim
from tests.stores.conftest import Engine
from tests.stores.talk import PROJECT, append, begin, finish, say, wait
from tests.support import FixedClock

NOBODY = Claim(PROJECT, ConversationId("c"), Tape(99), RunId("nobody"), 1, 3)


async def lost(store: Engine, limit: int = 10) -> list[str]:
    """The runs that are taken over now."""
    return [claim.run for claim in await store.take_lost(limit=limit)]


async def test_a_run_is_lost_once_its_lease_ran_out(store: Engine, clock: FixedClock):
    old = await begin(store, "c", "r1")
    clock.move(LEASE_S - 0.5)
    assert await lost(store) == []
    clock.move(1.0)
    (new,) = await store.take_lost(limit=10)
    assert new == Claim(old.project, old.conversation, old.tape, old.run, 2, 4)
    (entry,) = await store.read(old.tape, after=3)
    assert (entry.seq, entry.run, entry.at, entry.event) == (4, "r1", clock.at, ev.RunClaimed(2))
    with pytest.raises(StaleClaim):
        await append(store, old, (ev.TextAdded("old"),))
    with pytest.raises(StaleClaim):
        await finish(store, old, (ev.RunCompleted(),))
    assert await store.append(new, (ev.TextAdded("new"),), after=new.seq) == 5
    view = await store.run(PROJECT, RunId("r1"))
    assert view is not None
    assert (view.status, view.epoch) == ("running", 2)


async def test_who_takes_over_has_a_lease(store: Engine, clock: FixedClock):
    await begin(store, "c", "r1")
    clock.move(LEASE_S + 1)
    assert await lost(store) == ["r1"]
    clock.move(LEASE_S - 1)
    assert await lost(store) == []
    clock.move(2.0)
    assert await lost(store) == ["r1"]


async def test_the_oldest_are_taken_first_and_so_many(store: Engine, clock: FixedClock):
    for number in range(5):
        await begin(store, f"c{9 - number}", f"r{number}")
    clock.move(LEASE_S + 1)
    assert await lost(store, limit=0) == []
    assert await lost(store, limit=2) == ["r0", "r1"]
    assert await lost(store, limit=2) == ["r2", "r3"]
    assert await lost(store, limit=2) == ["r4"]
    assert await lost(store, limit=2) == []


async def test_only_claimed_runs_are_lost(store: Engine, clock: FixedClock):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await say(store, "d", "r3", "q", "a")
    await begin(store, "e", "r4")
    await store.delete(PROJECT, ConversationId("e"))
    clock.move(LEASE_S + 1)
    assert await lost(store) == ["r1"]
    assert [view.id for view in await store.unfinished()] == ["r1"]
    assert len(await store.read(claim.tape, after=0)) == 5


async def test_a_turn_that_waited_gets_its_lease_when_it_begins(store: Engine, clock: FixedClock):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    clock.move(LEASE_S - 1)
    following = await finish(store, claim, (ev.RunCompleted(),))
    assert following is not None
    clock.move(LEASE_S - 1)
    assert await lost(store) == []
    clock.move(2.0)
    assert await lost(store) == ["r2"]


async def test_a_run_is_taken_over_once_however_many_try(store: Engine, clock: FixedClock):
    for number in range(6):
        await begin(store, f"c{number}", f"r{number}")
    clock.move(LEASE_S + 1)
    taken = await asyncio.gather(*(store.take_lost(limit=4) for _ in range(4)))
    runs = [claim.run for claims in taken for claim in claims]
    while more := await lost(store):
        runs += [RunId(run) for run in more]
    assert sorted(runs) == [f"r{number}" for number in range(6)]


# -- renewing --------------------------------------------------------------------------------------------------------


async def test_a_lease_that_is_renewed_does_not_run_out(store: Engine, clock: FixedClock):
    kept, dropped = await begin(store, "a", "r1"), await begin(store, "b", "r2")
    for _ in range(3):
        clock.move(LEASE_S - 1)
        assert await store.renew((kept,)) == frozenset()
    assert await lost(store) == ["r2"]
    assert await store.renew((kept, dropped)) == {"r2"}


async def test_a_claim_is_good_until_its_run_is_taken_over(store: Engine, clock: FixedClock):
    claim = await begin(store, "c", "r1")
    clock.move(LEASE_S * 3)
    assert await append(store, claim, (ev.TextAdded("x"),)) == 4
    assert await store.renew((claim,)) == frozenset()
    assert await lost(store) == []
    clock.move(LEASE_S + 1)
    assert await lost(store) == ["r1"]


async def test_renewing_tells_which_claims_are_good_no_more(store: Engine, clock: FixedClock):
    good = await begin(store, "a", "r1")
    ended = await say(store, "b", "r2", "q", "a")
    taken = await begin(store, "c", "r3")
    await store.reclaim(RunId("r3"))
    gone = await begin(store, "d", "r4")
    await store.delete(PROJECT, ConversationId("d"))
    assert await store.renew((good, ended, taken, gone, NOBODY)) == {"r2", "r3", "r4", "nobody"}
    assert await store.renew(()) == frozenset()


async def test_renewing_writes_nothing_on_a_tape(store: Engine):
    claim = await begin(store, "c", "r1")
    before = await store.read(claim.tape, after=0)
    await store.renew((claim,))
    await store.release((claim,))
    assert await store.read(claim.tape, after=0) == before


async def test_an_old_owner_renews_nothing_of_the_new_ones(store: Engine, clock: FixedClock):
    old = await begin(store, "c", "r1")
    await store.reclaim(RunId("r1"))
    clock.move(LEASE_S - 1)
    assert await store.renew((old,)) == {"r1"}
    clock.move(2.0)
    assert await lost(store) == ["r1"]


# -- releasing -------------------------------------------------------------------------------------------------------


async def test_a_lease_given_up_lets_the_run_be_taken_at_once(store: Engine):
    first, second = await begin(store, "a", "r1"), await begin(store, "b", "r2")
    await store.release((second,))
    assert await lost(store) == ["r2"]
    await store.release((first, NOBODY))
    assert await lost(store) == ["r1"]


async def test_what_was_given_up_is_still_good_until_it_is_taken(store: Engine):
    claim = await begin(store, "c", "r1")
    await store.release((claim,))
    assert await append(store, claim, (ev.TextAdded("x"),)) == 4
    assert await store.renew((claim,)) == frozenset()
    assert await lost(store) == []


async def test_an_old_owner_gives_up_nothing_of_the_new_ones(store: Engine):
    old = await begin(store, "c", "r1")
    await store.reclaim(RunId("r1"))
    await store.release((old,))
    assert await lost(store) == []


async def test_releasing_rings_the_bell(store: Engine):
    claim = await begin(store, "c", "r1")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(store.bell())
        await asyncio.sleep(0)
        await store.release((claim,))


# -- reclaiming ------------------------------------------------------------------------------------------------------


async def test_our_own_live_run_can_be_reclaimed(store: Engine, clock: FixedClock):
    old = await begin(store, "c", "r1")
    clock.move(LEASE_S - 1)
    new = await store.reclaim(RunId("r1"))
    assert new == Claim(old.project, old.conversation, old.tape, old.run, 2, 4)
    clock.move(LEASE_S - 1)
    assert await lost(store) == []
    clock.move(2.0)
    assert await lost(store) == ["r1"]


async def test_a_claim_builds_on_its_own_entry_and_not_on_its_forerunners(store: Engine):
    old = await begin(store, "c", "r1")
    await append(store, old, (ev.TextAdded("x"),))
    new = await store.reclaim(RunId("r1"))
    assert new is not None
    assert new.seq == 5
    for after in (3, 4, 6):
        with pytest.raises(StaleClaim):
            await store.append(new, (ev.TextAdded("y"),), after=after)
    assert await store.append(new, (ev.TextAdded("x"),), after=5) == 6


async def test_of_two_that_claim_at_once_one_is_stale(store: Engine):
    await begin(store, "c", "r1")
    claims = await asyncio.gather(*(store.reclaim(RunId("r1")) for _ in range(3)))
    assert sorted(claim.epoch for claim in claims if claim is not None) == [2, 3, 4]
    written: list[int] = []
    for claim in claims:
        assert claim is not None
        try:
            written.append(await store.append(claim, (ev.TextAdded(str(claim.epoch)),), after=claim.seq))
        except StaleClaim:
            assert claim.epoch < 4
    assert written == [7]


async def test_a_run_that_no_engine_can_name_is_refused(store: Engine):
    for attempt in (store.reclaim(RunId("a\0")), store.ask(RunId("\ud800"), ev.CancelAsked())):
        with pytest.raises(BadRequest):
            await attempt


# -- fuses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fuse", "epoch"), [("claim.before_commit", 1), ("claim.after_commit", 2)])
async def test_a_claim_has_a_fuse_on_both_sides_of_its_commit(store: Engine, clock: FixedClock, fuse: str, epoch: int):
    await begin(store, "a", "r1")
    await begin(store, "b", "r2")
    clock.move(LEASE_S + 1)
    for attempt, run in ((store.reclaim(RunId("r2")), "r2"), (store.take_lost(limit=1), "r1")):
        fuses.arm(f"{fuse}=raise")
        try:
            with pytest.raises(FuseBlown):
                await attempt
        finally:
            fuses.arm("")
        view = await store.run(None, RunId(run))
        assert view is not None
        assert view.epoch == epoch


async def test_nothing_lost_passes_no_fuse(store: Engine):
    await begin(store, "a", "r1")
    fuses.arm("claim.before_commit=raise,claim.after_commit=raise,ask.before_commit=raise,ask.after_commit=raise")
    try:
        assert await lost(store) == []
        assert await store.reclaim(RunId("nobody")) is None
        assert await store.ask(RunId("nobody"), ev.CancelAsked()) == 0
    finally:
        fuses.arm("")
