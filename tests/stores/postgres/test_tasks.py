import asyncio
import logging

import pytest

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
