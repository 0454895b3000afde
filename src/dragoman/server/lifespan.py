"""Start, drain, stop: owns the task group in which runs live."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dragoman.runtime.runs import Runs

logger = logging.getLogger("dragoman.server")


class Lifespan:
    """Every task of the process that outlives a request is spawned here and ended here."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task for `work`. Once all are cancelled it is cancelled before its first step: nothing begins any more."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._ending:
            task.cancel()
        return task

    def cancel_all(self) -> None:
        self._ending = True
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def lifespan() -> AsyncGenerator[Lifespan]:
    """Leaving it cancels what still runs and waits for it. What is raised inside comes out as it is."""
    raised: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        span = Lifespan(group)
        try:
            yield span
        except BaseException as error:  # a task group would wrap it; callers catch errors of the tree
            raised = error
        finally:
            span.cancel_all()
    if raised is not None:
        raise raised


async def drained(runs: Sequence[Runs], *, within_s: float) -> bool:
    """Wait until no run is live; False if some still were after `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            for each in runs:
                await each.settled()
    except TimeoutError:
        lasting = sum(each.live for each in runs if each.lasting)
        lost = sum(each.live for each in runs if not each.lasting)
        if lasting:
            said = "%d runs did not end in %g s and are handed back; they go on elsewhere, or here"
            logger.warning(said, lasting, within_s)
        if lost:
            said = "%d runs that leave nothing behind did not end in %g s; their callers are told to ask again"
            logger.warning(said, lost, within_s)
        return False
    return True
