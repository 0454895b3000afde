"""Pruning: text as it grew is kept for a while after a run's end, for readers that come back; as a whole it stays.

Records that have expired go too.
"""

import asyncio
import logging

from dragoman.core.errors import DragomanError
from dragoman.core.names import Clock
from dragoman.core.records import Records
from dragoman.runtime.ports import Log

logger = logging.getLogger("dragoman.runtime")

PRUNE_EVERY_S = 600.0
RUNS_AT_ONCE = 200
"""Pruned in one transaction, so that no other write waits long for it."""
REST_S = 0.05


class Pruning:
    def __init__(
        self, log: Log, records: Records, clock: Clock, *, kept_s: float, every_s: float = PRUNE_EVERY_S
    ) -> None:
        """`kept_s`: how long after a run's end its deltas are kept; 0 = for ever."""
        self._log = log
        self._records = records
        self._clock = clock
        self._kept_s = kept_s
        self._every_s = every_s

    async def prune(self) -> int:
        """How many runs were pruned."""
        pruned = 0
        if self._kept_s <= 0:
            return 0
        ended_before = self._clock.now() - self._kept_s
        while count := await self._log.prune(ended_before=ended_before, limit=RUNS_AT_ONCE):
            pruned += count
            if count < RUNS_AT_ONCE:
                break
            await asyncio.sleep(REST_S)
        return pruned

    async def keep_pruning(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if pruned := await self.prune():
                    logger.info("%d runs ended long ago: their text as it grew was dropped", pruned)
                await self._records.forget_expired()
            except DragomanError as error:
                logger.warning("nothing could be pruned: %s", error)
            await asyncio.sleep(self._every_s)
