import asyncio

import pytest

from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.runtime.leases import ECHO_S, Bell, Leases
from dragoman.runtime.ports import LEASE_S, Claim
from tests.support import FixedClock


def claim(run: str, epoch: int = 1) -> Claim:
    return Claim(ProjectId("p"), ConversationId("c"), Tape(1), RunId(run), epoch, 3)


def test_a_lease_is_live_until_its_very_end():
    clock = FixedClock()
    leases = Leases(clock)
    leases.give({RunId("r"): 1})
    clock.move(LEASE_S - 0.001)
    assert leases.live() == {"r"}
    clock.move(0.001)
    assert leases.live() == frozenset()


def test_a_lease_lasts_as_long_as_it_was_told():
    clock = FixedClock()
    leases = Leases(clock, lease_s=2.0)
    leases.give({RunId("r"): 1})
    clock.move(1.5)
    leases.extend((claim("r"),))
    clock.move(1.5)
    assert leases.live() == {"r"}
    clock.move(1.0)
    assert leases.live() == frozenset()


def test_only_the_claim_it_was_given_for_extends_or_releases_it():
    clock = FixedClock()
    leases = Leases(clock)
    leases.give({RunId("r"): 2})
    clock.move(LEASE_S / 2)
    leases.extend((claim("r", 1), claim("other")))
    leases.release((claim("r", 1), claim("other")))
    assert leases.live() == {"r"}
    clock.move(LEASE_S / 2)
    assert leases.live() == frozenset()


def test_a_lease_that_ran_out_can_be_extended_until_somebody_looked():
    clock = FixedClock()
    leases = Leases(clock)
    leases.give({RunId("r"): 1})
    clock.move(LEASE_S * 2)
    leases.extend((claim("r"),))
    assert leases.live() == {"r"}
    clock.move(LEASE_S)
    assert leases.live() == frozenset()
    leases.extend((claim("r"),))
    assert leases.live() == frozenset()


def test_a_lease_ends_with_its_run_or_when_it_is_given_up():
    leases = Leases(FixedClock())
    for run in ("a", "b", "c"):
        leases.give({RunId(run): 1})
    leases.end((RunId("a"), RunId("nobody")))
    leases.release((claim("b"),))
    assert leases.live() == {"c"}


# -- the bell --------------------------------------------------------------------------------------------------------


async def test_a_ring_wakes_all_who_wait_and_each_once():
    bell = Bell()
    heard = [0, 0, 0]

    async def listen(which: int) -> None:
        while True:
            await bell.rung()
            heard[which] += 1

    tasks = [asyncio.create_task(listen(which)) for which in range(3)]
    for times in (1, 2, 3):
        for _ in range(5):
            await asyncio.sleep(0)
        bell.ring()
        for _ in range(5):
            await asyncio.sleep(0)
        assert heard == [times] * 3
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_what_rang_while_a_task_was_busy_it_hears_once_when_it_comes_back():
    bell = Bell()
    bell.ring()
    async with asyncio.timeout(5):
        await bell.rung()
        bell.ring()
        bell.ring()
        await bell.rung()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await bell.rung()


async def test_a_ring_of_long_ago_is_not_heard_by_a_task_that_comes_now(monkeypatch: pytest.MonkeyPatch):
    bell = Bell()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 100.0)
    bell.ring()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 100.0 + ECHO_S)
    waiting = asyncio.create_task(bell.rung())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    bell.ring()
    await waiting
