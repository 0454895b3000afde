"""The tasks of a store: they live as long as it does, and no request and no lifespan knows of them."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from dragoman.core.errors import Unavailable

logger = logging.getLogger("dragoman.stores.postgres")

R = TypeVar("R")


class Tasks:
    """Owns what it starts: `close` ends it all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work that nobody waits for."""
        task = self._start(work)
        task.add_done_callback(_mourn)
        return task

    def answer(self, work: Coroutine[Any, Any, R]) -> "asyncio.Future[R]":
        """Work that goes on if who waits for it goes away. Unavailable if it is ended by `close`."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        # By a callback: a task that is cancelled before its first step never runs a line.
        self._start(work).add_done_callback(lambda task: _hand_over(task, future))
        return future

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _start(self, work: Coroutine[Any, Any, R]) -> "asyncio.Task[R]":
        # Not a task group: a store is opened and closed by whoever likes, in whatever task.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _mourn(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a task of the store failed for a reason that is ours", exc_info=error)


def _hand_over(task: "asyncio.Task[R]", future: "asyncio.Future[R]") -> None:
    error = Unavailable("The store is closed.") if task.cancelled() else task.exception()
    if future.done():
        return  # who waited went away
    if error is None:
        future.set_result(task.result())
    else:
        future.set_exception(error)
