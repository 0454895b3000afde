"""What a process does for the runs it drives, however long their steps take: it keeps their leases and hears what is
asked of them.

A task of its own, so that a tool of ten minutes is as safe as one of ten milliseconds.
"""

import asyncio
import logging

from dragoman.core.errors import Unavailable
from dragoman.core.names import Clock
from dragoman.runtime.fuses import blow
from dragoman.runtime.ports import LEASE_S, Log
from dragoman.runtime.runs import Runs

logger = logging.getLogger("dragoman.runtime")


class Attending:
    """Renews at a third of the lease: two renewals may fail before a run can be taken over."""

    def __init__(self, log: Log, runs: Runs, clock: Clock, *, lease_s: float = LEASE_S) -> None:
        self._log = log
        self._runs = runs
        self._clock = clock
        self._every_s = lease_s / 3
        self._renewed_at = clock.monotonic()

    async def keep_attending(self) -> None:
        """Until cancelled."""
        while True:
            due_s = max(self._renewed_at + self._every_s - self._clock.monotonic(), 0.0)
            try:
                async with asyncio.timeout(due_s):
                    await self._log.bell()
            except TimeoutError:
                await self._guarded(renew=True)
            except Unavailable:
                await asyncio.sleep(min(self._every_s, 1.0))
            else:
                await self._guarded(renew=False)

    async def _guarded(self, *, renew: bool) -> None:
        try:
            if renew:
                await self.renew()
            await self.hear()
        except Unavailable as error:
            logger.warning("the store could not be asked about %d runs: %s", self._runs.live, error)
        except Exception:
            logger.exception("the runs of this process could not be looked after; next try in %g s", self._every_s)

    async def renew(self) -> None:
        self._renewed_at = self._clock.monotonic()
        claims = self._runs.claims()
        if not claims:
            return
        blow("heartbeat.tick")
        if lost := await self._log.renew(claims):
            await self._runs.let_go(lost)

    async def hear(self) -> None:
        claims = self._runs.claims()
        if claims and (asked := await self._log.asked(claims)):
            await self._runs.hear(asked)
