import asyncio
import threading

import pytest

from dragoman.tools.workspace.deadline import Deadline, in_worker


def test_time_is_up_at_the_end_of_the_span_and_not_before():
    now = 100.0
    deadline = Deadline(wall_s=5, clock=lambda: now)
    now = 104.9
    assert not deadline.passed
    now = 105.0
    assert deadline.passed


def test_what_nobody_waits_for_is_over():
    deadline = Deadline(wall_s=5, clock=lambda: 0.0)
    deadline.abandon()
    assert deadline.passed


async def test_the_work_is_done_on_another_thread():
    assert await in_worker(lambda _: str(threading.get_ident())) != str(threading.get_ident())


async def test_a_cancelled_caller_leaves_at_once_and_the_worker_stops_at_its_next_step():
    loop = asyncio.get_running_loop()
    started = asyncio.Event()
    stopped = threading.Event()
    pause = threading.Event()

    def work(deadline: Deadline) -> str:
        loop.call_soon_threadsafe(started.set)
        while not deadline.passed:
            pause.wait(0.001)
        stopped.set()
        return "nobody reads this"

    task = asyncio.create_task(in_worker(work))
    await asyncio.wait_for(started.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.wait(5)
