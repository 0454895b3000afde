"""An attempt's writes: they wait for a store that is away, follow each other, and say what they build on."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Unavailable
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.runtime.attempt import PATIENCE_S, WAIT_MAX_S, Attempt, insist
from dragoman.runtime.ports import Claim, Log
from tests.support import FixedClock

CLAIM = Claim(ProjectId("p"), ConversationId("c"), Tape(1), RunId("r"), 1, 3)


class Sleeps(list[float]):
    async def __call__(self, delay_s: float) -> None:
        self.append(delay_s)
        await asyncio.sleep(0)


class FlakyLog:
    """Takes what comes, after refusing as often as it was told; notes what each call built on."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.head = CLAIM.seq
        self.calls: list[tuple[int, tuple[ev.Event, ...]]] = []
        self.gate: asyncio.Event | None = None

    async def append(self, claim: Claim, events: Sequence[ev.Event], *, after: int) -> int:
        self.calls.append((after, tuple(events)))
        if self.gate is not None:
            await self.gate.wait()
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("away")
        self.head += len(events)
        return self.head

    async def finish(self, claim: Claim, events: Sequence[ev.Event], *, after: int, weight: int) -> Claim | None:
        await self.append(claim, events, after=after)
        return None


def attempt_over(log: FlakyLog, sleep: Sleeps) -> Attempt:
    return Attempt(CLAIM, cast("Log", log), FixedClock(), sleep)


async def test_a_write_is_repeated_until_the_store_is_back_and_builds_on_the_same_entry() -> None:
    log, sleep = FlakyLog(refusals=3), Sleeps()
    attempt = attempt_over(log, sleep)
    attempt.note(ev.TextAdded("a"))
    await attempt.commit()
    assert [after for after, _ in log.calls] == [3, 3, 3, 3]
    assert sleep == [0.05, 0.1, 0.2]
    attempt.note(ev.TextAdded("b"))
    await attempt.commit()
    assert log.calls[-1] == (4, (ev.TextAdded("b"),))


async def test_the_end_is_repeated_with_what_was_pending() -> None:
    log = FlakyLog(refusals=1)
    attempt = attempt_over(log, Sleeps())
    attempt.note(ev.ReplyFinished("x"))
    await attempt.finish(ev.RunCompleted())
    assert log.calls == [(3, (ev.ReplyFinished("x"), ev.RunCompleted()))] * 2


async def test_patience_has_an_end_and_waits_grow_to_a_bound() -> None:
    async def away() -> None:
        raise Unavailable("away")

    sleep = Sleeps()
    with pytest.raises(Unavailable):
        await insist(away, run="r", sleep=sleep)
    assert PATIENCE_S <= sum(sleep) <= PATIENCE_S + WAIT_MAX_S
    assert max(sleep) == WAIT_MAX_S


async def test_other_errors_are_not_waited_out() -> None:
    async def wrong() -> None:
        raise BadRequest("no")

    sleep = Sleeps()
    with pytest.raises(BadRequest):
        await insist(wrong, run="r", sleep=sleep)
    assert sleep == []


async def test_commits_at_the_same_time_follow_each_other_and_lose_nothing() -> None:
    log = FlakyLog()
    log.gate = asyncio.Event()
    attempt = attempt_over(log, Sleeps())

    async def say(text: str) -> None:
        attempt.note(ev.TextAdded(text))
        await attempt.commit()

    async with asyncio.TaskGroup() as group:
        for text in "abc":
            group.create_task(say(text))
        while not log.calls:
            await asyncio.sleep(0)
        log.gate.set()
    written = [event for _, events in log.calls for event in events]
    assert sorted(cast("Any", event).text for event in written) == ["a", "b", "c"]
    builds_on = 3
    for after, events in log.calls:
        assert after == builds_on
        builds_on += len(events)
    assert attempt.last == builds_on


async def test_a_reply_knows_where_it_began() -> None:
    attempt = attempt_over(FlakyLog(), Sleeps())
    attempt.note(ev.ReplyStarted("a", "m"))
    attempt.note(ev.TextAdded("x"))
    await attempt.commit()
    assert attempt.state.reply_seq == 4


async def test_confirming_writes_nothing() -> None:
    log = FlakyLog()
    attempt = attempt_over(log, Sleeps())
    await attempt.confirm()
    assert log.calls == [(3, ())] and attempt.last == 3
