"""Recovery: take up runs whose lease ran out, whoever had it. At start these are the runs a dead process left behind.

Later sweeps find those of other processes that died, or gave their runs back, and those that were put down because the
store could not be written. Each is taken by one process only (`Log.take_lost`).
"""

import asyncio
import logging

from dragoman.core.errors import Unavailable
from dragoman.runtime.counters import Counters
from dragoman.runtime.fuses import blow
from dragoman.runtime.ports import Store
from dragoman.runtime.runs import Runs

logger = logging.getLogger("dragoman.runtime")

SWEEP_EVERY_S = 2.0
AT_ONCE = 100
"""Runs taken up together, so that the store can commit their claims together."""


class Recovery:
    def __init__(self, store: Store, runs: Runs, counters: Counters, *, sweep_every_s: float = SWEEP_EVERY_S) -> None:
        self._store = store
        self._runs = runs
        self._counters = counters
        self._sweep_every_s = sweep_every_s

    async def sweep(self) -> int:
        """Take up every run that is nobody's; how many."""
        taken = 0
        while not self._runs.closing:
            claims = await self._store.take_lost(limit=AT_ONCE)
            blow("reaper.mid")
            for claim in claims:
                logger.info("run %s: taken up again (epoch %d)", claim.run, claim.epoch)
                self._counters.recovered += 1
                self._runs.drive(claim)
            taken += len(claims)
            if len(claims) < AT_ONCE:
                break
        return taken

    async def keep_sweeping(self) -> None:
        """Until cancelled: now and then, and when somebody rings."""
        while True:
            try:
                async with asyncio.timeout(self._sweep_every_s):
                    await self._store.bell()
            except TimeoutError:
                pass
            except Unavailable:
                await asyncio.sleep(self._sweep_every_s)
            try:
                await self.sweep()
            except Unavailable as error:
                logger.warning("no runs could be taken up: %s", error)
            except Exception:
                logger.exception("a recovery sweep failed; the next one is in %g s", self._sweep_every_s)
