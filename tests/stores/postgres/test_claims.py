import asyncio
import time

import pytest

from dragoman.core import events as ev
from dragoman.core.names import RunId
from dragoman.runtime.ports import LEASE_S, Claim, StaleClaim
from dragoman.stores.postgres.store import PostgresStore
from tests.stores.postgres.database import KEPT, connect, url_of
from tests.stores.postgres.replicas import all_listening, replicas
from tests.stores.talk import begin
from tests.support import FixedClock

X = (ev.TextAdded("x"),)
SHORT_S = 0.2
RUNS = 200


async def take_all(store: PostgresStore, taken: list[Claim], *, limit: int) -> None:
    while claims := await store.take_lost(limit=limit):
        taken += claims


async def test_of_two_that_take_over_each_run_is_taken_once():
    clock = FixedClock()
    async with replicas(3, clock=clock) as (dead, *living):
        await asyncio.gather(*(begin(dead, f"c{number}", f"r{number}") for number in range(RUNS)))
        clock.move(LEASE_S + 1)
        taken: list[list[Claim]] = [[], [], []]
        two = [living[0], living[1], living[1]]
        await asyncio.gather(*(take_all(store, mine, limit=7) for store, mine in zip(two, taken, strict=True)))
        for store in living:  # what one just looked at, the other has passed over
            await take_all(store, taken[0], limit=RUNS)
        every = [claim for claims in taken for claim in claims]
        assert sorted(claim.run for claim in every) == sorted(f"r{number}" for number in range(RUNS))
        assert {claim.epoch for claim in every} == {2}
        assert all(taken)
        for claim in every[:10]:
            assert [entry.seq for entry in await dead.read_run(claim)] == [2, 3, 4]


async def test_leases_run_out_on_the_clock_of_the_database():
    async with replicas(2, lease_s=SHORT_S) as (zombie, other):
        claim = await begin(zombie, "c", "r1")
        began = time.monotonic()
        while not (taken := await other.take_lost(limit=5)):
            await zombie.append(claim, (), after=3)  # which is no renewal
            assert time.monotonic() - began < 5
        assert time.monotonic() - began > SHORT_S * 0.9
        assert [(each.run, each.epoch) for each in taken] == [("r1", 2)]
        with pytest.raises(StaleClaim):
            await zombie.append(claim, X, after=3)
        with pytest.raises(StaleClaim):
            await zombie.finish(claim, (ev.RunCompleted(),), after=3, weight=1)
        assert await zombie.renew([claim]) == {"r1"}
        await zombie.release([claim])
        assert [entry.event for entry in await other.read(claim.tape, after=3)] == [ev.RunClaimed(2)]


async def test_a_lease_that_is_renewed_is_taken_by_nobody():
    async with replicas(2, lease_s=SHORT_S) as (owner, other):
        claim = await begin(owner, "c", "r1")
        until = time.monotonic() + 3 * SHORT_S
        while time.monotonic() < until:
            assert await owner.renew([claim]) == frozenset()
            assert await other.take_lost(limit=5) == ()
        assert await owner.append(claim, X, after=3) == 4


async def test_another_owners_live_lease_is_not_stolen():
    async with replicas(2) as (owner, other):
        claim = await begin(owner, "c", "r1")
        assert await other.reclaim(claim.run) is None
        assert await other.take_lost(limit=5) == ()
        again = await owner.reclaim(claim.run)
        assert again is not None
        assert again.epoch == 2
        await owner.release([again])
        theirs = await other.reclaim(claim.run)
        assert theirs is not None
        assert theirs.epoch == 3
        assert await owner.reclaim(claim.run) is None


async def test_a_run_without_a_lease_is_nobodys():
    async with replicas(2) as (owner, other):
        claim = await begin(owner, "c", "r1")
        admin = await connect(url_of(KEPT))
        await admin.execute("update runs set lease_until = null, owner = ''")
        await admin.close()
        assert [each.run for each in await other.take_lost(limit=5)] == [claim.run]


async def test_who_takes_over_waits_for_nobody():
    clock = FixedClock()
    async with replicas(2, clock=clock) as (owner, other):
        busy, lost = await begin(owner, "busy", "r1"), await begin(owner, "lost", "r2")
        clock.move(LEASE_S + 1)
        admin = await connect(url_of(KEPT))
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute("select 1 from conversations where tape = $1 for update", busy.tape)
        async with asyncio.timeout(2):
            assert [claim.run for claim in await other.take_lost(limit=5)] == [lost.run]
            assert await other.renew([busy]) == frozenset()
        await transaction.rollback()
        await admin.close()


async def test_a_run_renewed_while_it_is_looked_at_is_left_alone():
    clock = FixedClock()
    async with replicas(2, clock=clock) as (owner, other):
        claim = await begin(owner, "c", "r1")
        clock.move(LEASE_S + 1)
        admin = await connect(url_of(KEPT))
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute("update runs set lease_until = lease_until + 60000000")
        reclaiming = asyncio.ensure_future(other.reclaim(claim.run))
        await asyncio.sleep(0.05)
        assert not reclaiming.done()
        await transaction.commit()
        await admin.close()
        assert await asyncio.wait_for(reclaiming, 5) is None


async def test_what_is_asked_or_given_up_rings_the_bell_of_other_processes():
    async with replicas(2) as stores:
        owner, other = stores
        await all_listening(stores)
        claim = await begin(owner, "c", "r1")
        await owner.bell()  # what rang when they began to listen
        for ring in (lambda: other.ask(claim.run, ev.CancelAsked("me")), lambda: other.release([claim])):
            waiting = asyncio.ensure_future(owner.bell())
            await asyncio.sleep(0)
            began = time.monotonic()
            await ring()
            await asyncio.wait_for(waiting, 5)
            assert time.monotonic() - began < 0.9  # not by looking
        assert await owner.asked([claim]) == {"r1": 4}


async def test_a_bell_that_nobody_rings_is_answered_within_a_second():
    async with replicas(1) as (store,):
        await all_listening([store])
        await store.bell()
        began = time.monotonic()
        await store.bell()
        assert 0.9 < time.monotonic() - began < 2


async def test_many_claims_are_renewed_and_asked_about_at_once():
    async with replicas(1) as (store,):
        claims = await asyncio.gather(*(begin(store, f"c{number}", f"r{number}") for number in range(50)))
        await store.ask(RunId("r7"), ev.CancelAsked())
        await store.finish(claims[8], (ev.RunCompleted(),), after=3, weight=1)
        assert await store.renew(claims) == {"r8"}
        assert await store.asked(claims) == {"r7": 4}
        assert await store.renew([]) == frozenset()
        assert await store.asked([]) == {}
        await store.release([])
        await store.release(claims)
        assert len(await store.take_lost(limit=100)) == 49
