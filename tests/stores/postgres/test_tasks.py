import asyncio
import logging

import pytest

from dragoman.core.errors import Unavailable
from dragoman.stores.postgres.tasks import Tasks


async def test_what_still_runs_is_ended_with_its_owner():
    tasks = Tasks()
    never = asyncio.Event()
    ended: list[str] = []

    async def wait() -> None:
        try:
            await never.wait()
        finally:
            ended.append("wait")

    async def be_quick() -> None:
        ended.append("quick")

    waiting, quick = tasks.spawn(wait()), tasks.spawn(be_quick())
    await asyncio.wait_for(quick, 5)
    await tasks.close()
    assert ended == ["quick", "wait"]
    assert waiting.cancelled()
    await tasks.close()


async def test_a_task_that_fails_is_heard_of(caplog: pytest.LogCaptureFixture):
    tasks = Tasks()

    async def fail() -> None:
        raise KeyError("oh")

    with caplog.at_level(logging.ERROR):
        await asyncio.wait([tasks.spawn(fail())])
        await asyncio.sleep(0)
    assert "for a reason that is ours" in caplog.text


async def test_work_goes_on_when_who_waits_goes_away():
    tasks = Tasks()
    go_on, done = asyncio.Event(), asyncio.Event()

    async def work(answer: int) -> int:
        await go_on.wait()
        done.set()
        return 1 // answer

    waiting = [asyncio.ensure_future(_await(tasks.answer(work(answer)))) for answer in (1, 0, 1, 0)]
    await asyncio.sleep(0)
    for task in waiting[2:]:
        task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert await waiting[0] == 1
    with pytest.raises(ZeroDivisionError):
        await waiting[1]
    assert all(task.cancelled() for task in waiting[2:])
    assert done.is_set()


@pytest.mark.parametrize("steps", [0, 1])
async def test_who_waits_for_what_is_ended_is_told(steps: int):
    tasks = Tasks()
    answer = tasks.answer(asyncio.sleep(60, 1))
    for _ in range(steps):
        await asyncio.sleep(0)
    await tasks.close()
    with pytest.raises(Unavailable, match="closed"):
        await answer


async def _await(answer: "asyncio.Future[int]") -> int:
    return await answer
