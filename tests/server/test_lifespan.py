"""The lifespan: every task has an owner that ends it, and draining waits for runs, but not for ever."""

import asyncio

import pytest

from dragoman.core.errors import Conflict
from dragoman.server.lifespan import drained, lifespan
from tests.parts import Gate, ScriptedReplies, text_reply
from tests.runtime.scene import scene_of, until, within


async def forever(log: list[str]) -> None:
    log.append("began")
    try:
        await asyncio.Event().wait()
    finally:
        log.append("ended")


async def test_what_still_runs_is_ended_and_waited_for_on_leaving() -> None:
    log: list[str] = []
    async with lifespan() as life:
        task = life.spawn(forever(log))
        await until(lambda: log == ["began"])
    assert (log, task.cancelled(), len(asyncio.all_tasks())) == (["began", "ended"], True, 1)


async def test_a_task_that_ended_is_not_held() -> None:
    async with lifespan() as life:
        await life.spawn(asyncio.sleep(0))
        await asyncio.sleep(0)
        assert not life._tasks


async def test_an_error_inside_comes_out_as_it_is() -> None:
    log: list[str] = []
    with pytest.raises(Conflict, match="in use"):
        async with lifespan() as life:
            life.spawn(forever(log))
            await until(lambda: log == ["began"])
            raise Conflict("The store is in use.")
    assert log == ["began", "ended"]


async def test_being_cancelled_inside_ends_what_runs_and_stays_a_cancellation() -> None:
    log: list[str] = []

    async def live() -> None:
        async with lifespan() as life:
            life.spawn(forever(log))
            await asyncio.Event().wait()

    living = asyncio.create_task(live())
    await until(lambda: log == ["began"])
    living.cancel()
    with pytest.raises(asyncio.CancelledError):
        await living
    assert log == ["began", "ended"]


async def test_a_task_that_fails_brings_everything_down() -> None:
    """Whatever is spawned takes care of its own failures; one that does not is a fault that must not go unnoticed."""
    log: list[str] = []

    async def fail() -> None:
        raise ZeroDivisionError("a fault of ours")

    with pytest.raises(ExceptionGroup) as raised:
        async with lifespan() as life:
            life.spawn(forever(log))
            await until(lambda: log == ["began"])
            life.spawn(fail())
            await asyncio.Event().wait()
    assert [str(error) for error in raised.value.exceptions] == ["a fault of ours"]
    assert log == ["began", "ended"]


async def test_nothing_begins_any_more_once_the_end_has_begun() -> None:
    log: list[str] = []

    async def last_words() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            late.append(life.spawn(forever(log)))

    late: list[asyncio.Task[None]] = []
    async with lifespan() as life:
        life.spawn(last_words())
        await asyncio.sleep(0)
    assert (log, late[0].cancelled()) == ([], True)


# -- draining --------------------------------------------------------------------------------------------------------


async def test_draining_waits_for_live_runs_and_those_behind_them() -> None:
    model = ScriptedReplies(text_reply("a"))
    model.gate = Gate()
    async with scene_of(model) as one, scene_of(model) as other:
        await one.start("live")
        await one.start("waits")
        await other.start("elsewhere")
        draining = asyncio.create_task(drained((one.runs, other.runs), within_s=5.0))
        await until(lambda: len(model.prompts) == 2)
        assert not draining.done()
        model.gate.open()
        assert await within(draining) is True
        assert (one.runs.live, other.runs.live, len(model.prompts)) == (0, 0, 3)


async def test_draining_gives_up_when_its_time_is_over(caplog: pytest.LogCaptureFixture) -> None:
    model = ScriptedReplies(text_reply("a"))
    model.gate = Gate()
    async with scene_of(model) as s:
        await s.start()
        assert await within(drained((s.runs,), within_s=0.01)) is False
        assert s.runs.live == 1
        assert caplog.messages == ["1 runs did not end in 0.01 s and are handed back; they go on elsewhere, or here"]


async def test_runs_that_leave_nothing_are_not_said_to_go_on(caplog: pytest.LogCaptureFixture) -> None:
    model = ScriptedReplies(text_reply("a"))
    model.gate = Gate()
    async with scene_of(model, lasting=False) as s:
        await s.start()
        assert await within(drained((s.runs,), within_s=0.01)) is False
        assert caplog.messages == [
            "1 runs that leave nothing behind did not end in 0.01 s; their callers are told to ask again"
        ]


async def test_with_nothing_to_do_draining_is_done_at_once() -> None:
    async with scene_of(ScriptedReplies()) as s:
        assert await drained((s.runs,), within_s=0.0) is True
