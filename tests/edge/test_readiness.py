"""Readiness: the store is asked seldom, once at a time, and never waited for too long."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from dragoman.core.errors import DragomanError, Unavailable
from dragoman.edge.readiness import DRAINING, FAULT, PROBE_TIMEOUT_S, REMEMBERED_S, SLOW, Readiness, Unready
from dragoman.server.lifespan import lifespan
from tests.support import FixedClock

FULL = Unavailable("The disk is full.", code="storage_full", internal="database or disk is full")
WAIT_S = 5.0


class Prober:
    """A store that is asked, answers when it is let, and counts."""

    def __init__(self) -> None:
        self.called = 0
        self.at_once = 0
        self.most_at_once = 0
        self.fails: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def probe(self) -> None:
        self.called += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.may_answer.wait()
            if self.fails is not None:
                raise self.fails
        finally:
            self.at_once -= 1


class Scene:
    def __init__(self, readiness: Readiness, prober: Prober, clock: FixedClock) -> None:
        self.readiness = readiness
        self.prober = prober
        self.clock = clock

    async def why(self) -> Unready | None:
        return await asyncio.wait_for(self.readiness.why_not(), WAIT_S)


@asynccontextmanager
async def scene(
    *, draining: Callable[[], bool] = lambda: False, timeout_s: float = PROBE_TIMEOUT_S
) -> AsyncIterator[Scene]:
    prober, clock = Prober(), FixedClock()
    async with lifespan() as span:
        readiness = Readiness(draining=draining, probe=prober.probe, spawn=span.spawn, clock=clock, timeout_s=timeout_s)
        yield Scene(readiness, prober, clock)


async def test_who_asks_often_is_answered_from_memory() -> None:
    async with scene() as s:
        assert [await s.why() for _ in range(3)] == [None] * 3
        assert (s.prober.called, s.readiness.ready) == (1, True)
        s.clock.move(REMEMBERED_S)
        assert (await s.why(), s.prober.called) == (None, 2)


async def test_a_store_that_cannot_be_written_is_said_with_its_reason_until_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with scene() as s:
        s.prober.fails = FULL
        for _ in range(3):
            assert await s.why() == Unready("storage_full", "The disk is full.")
            assert not s.readiness.ready
            s.clock.move(REMEMBERED_S)
        s.prober.fails = None
        assert (await s.why(), s.readiness.ready) == (None, True)
    assert caplog.messages == [
        "not ready: storage_full: The disk is full. (database or disk is full)",
        "ready again",
    ]


async def test_many_who_ask_at_once_are_one_question() -> None:
    async with scene() as s:
        s.prober.fails = FULL
        s.prober.may_answer.clear()
        asking = [asyncio.create_task(s.readiness.why_not()) for _ in range(20)]
        await asyncio.sleep(0)
        s.prober.may_answer.set()
        answers = await asyncio.wait_for(asyncio.gather(*asking), WAIT_S)
        assert (set(answers), s.prober.called) == ({Unready("storage_full", "The disk is full.")}, 1)


async def test_a_store_that_takes_too_long_is_not_asked_again_before_it_has_answered() -> None:
    async with scene(timeout_s=0.01) as s:
        s.prober.may_answer.clear()
        assert await s.why() == SLOW
        s.clock.move(10 * REMEMBERED_S)
        assert [await s.why() for _ in range(3)] == [SLOW] * 3
        assert (s.prober.called, s.prober.most_at_once, s.readiness.ready) == (1, 1, False)
        s.prober.may_answer.set()
        while not s.readiness.ready:
            await asyncio.sleep(0)
        assert (await s.why(), s.prober.called) == (None, 1)  # its answer, late as it was, is fresh


async def test_a_server_that_stops_asks_nobody() -> None:
    stopping = False
    async with scene(draining=lambda: stopping) as s:
        assert await s.why() is None
        stopping = True
        assert (await s.why(), s.readiness.ready, s.prober.called) == (DRAINING, False, 1)


async def test_a_fault_of_ours_is_logged_and_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with scene() as s:
        s.prober.fails = ZeroDivisionError("s3cret")
        assert await s.why() == FAULT
    assert "s3cret" not in FAULT.detail and caplog.records[0].exc_info is not None


async def test_any_error_of_the_tree_is_a_reason() -> None:
    async with scene() as s:
        s.prober.fails = DragomanError("Not now.")
        assert await s.why() == Unready("error", "Not now.")


async def test_a_question_that_the_end_of_the_process_cut_short_leaves_nobody_waiting() -> None:
    async with scene() as s:
        s.prober.may_answer.clear()
        asking = asyncio.create_task(s.readiness.why_not())
        while not s.prober.at_once:
            await asyncio.sleep(0)
    await asyncio.wait_for(asking, WAIT_S)
    assert s.prober.at_once == 0
