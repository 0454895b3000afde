"""Recovery: take up runs that nobody drives. At start these are the runs a dead process left behind.

Later sweeps find runs that were put down because the store could not be written. A run is taken up only if two sweeps
in a row see it undriven: between the commit that accepts a run and the call that drives it, it looks like a lost one.
"""

import asyncio
import logging

from dragoman.core.names import RunId
from dragoman.runtime.counters import Counters
from dragoman.runtime.ports import Store
from dragoman.runtime.runs import Runs

logger = logging.getLogger("dragoman.runtime")

SWEEP_EVERY_S = 5.0
AT_ONCE = 100
"""Runs taken up together, so that the store can commit their claims together."""


class Recovery:
    """For a store with one writing process: an unfinished run that this process does not drive is driven by nobody."""

    def __init__(self, store: Store, runs: Runs, counters: Counters, *, sweep_every_s: float = SWEEP_EVERY_S) -> None:
        self._store = store
        self._runs = runs
        self._counters = counters
        self._sweep_every_s = sweep_every_s
        self._suspects: set[RunId] = set()

    async def at_start(self) -> int:
        """Take up every unfinished run; how many there were. Called before the first request is let in."""
        views = await self._store.unfinished()
        for first in range(0, len(views), AT_ONCE):
            try:
                async with asyncio.TaskGroup() as group:
                    for view in views[first : first + AT_ONCE]:
                        group.create_task(self._take_up(view.id))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None  # the store's; it says the same to all of them
        return len(views)

    async def sweep(self) -> None:
        undriven = {view.id for view in await self._store.unfinished() if not self._runs.drives(view.id)}
        for run in undriven & self._suspects:
            await self._take_up(run)
        self._suspects = undriven - self._suspects

    async def keep_sweeping(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._sweep_every_s)
            try:
                await self.sweep()
            except Exception:
                logger.exception("a recovery sweep failed; the next one is in %g s", self._sweep_every_s)

    async def _take_up(self, run: RunId) -> None:
        if self._runs.drives(run):
            return
        claim = await self._store.reclaim(run)
        if claim is None:
            return
        logger.info("run %s: taken up again (epoch %d)", run, claim.epoch)
        self._counters.recovered += 1
        self._runs.drive(claim)
