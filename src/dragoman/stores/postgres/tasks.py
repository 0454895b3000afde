"""The tasks of a store: they live as long as it does, and no request and no lifespan knows of them."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger("dragoman.stores.postgres")


class Tasks:
    """Owns what it spawns: `close` ends it all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # Not a task group: a store is opened and closed by whoever likes, in whatever task.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of the store failed for a reason that is ours", exc_info=error)
