"""What a store with one writing process keeps of its claims outside its data: who holds a lease, and the bell.

Neither is worth a write to a disk: when the process is gone nobody holds a lease of it, and nobody waits for its bell.
"""

import asyncio
import math
import threading
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from dragoman.core.names import Clock, RunId
from dragoman.runtime.ports import LEASE_S, Claim

ECHO_S = 1.0
"""A task looks, finds nothing, and then comes to wait: what rings in between must not be lost on it."""


class Leases:
    """By run, the epoch they were given for and when they run out, on the clock that never goes back. Any thread may
    call."""

    def __init__(self, clock: Clock, *, lease_s: float = LEASE_S) -> None:
        self._clock = clock
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._held: dict[RunId, tuple[int, float]] = {}

    def give(self, runs: Mapping[RunId, int]) -> None:
        """To runs that were claimed under these epochs."""
        until = self._clock.monotonic() + self._lease_s
        with self._lock:
            for run, epoch in runs.items():
                self._held[run] = (epoch, until)

    def extend(self, claims: Iterable[Claim]) -> None:
        """Those that were given for these very claims, whether or not they ran out meanwhile."""
        until = self._clock.monotonic() + self._lease_s
        with self._lock:
            for claim in claims:
                if self._is_of(claim):
                    self._held[claim.run] = (claim.epoch, until)

    def release(self, claims: Iterable[Claim]) -> None:
        """Take back those that were given for these very claims."""
        with self._lock:
            for claim in claims:
                if self._is_of(claim):
                    del self._held[claim.run]

    def end(self, runs: Iterable[RunId]) -> None:
        """These runs have ended or are gone."""
        with self._lock:
            for run in runs:
                self._held.pop(run, None)

    def live(self) -> frozenset[RunId]:
        """Runs whose lease is live; those that ran out are forgotten."""
        now = self._clock.monotonic()
        with self._lock:
            self._held = {run: held for run, held in self._held.items() if held[1] > now}
            return frozenset(self._held)

    def _is_of(self, claim: Claim) -> bool:
        held = self._held.get(claim.run)
        return held is not None and held[0] == claim.epoch


class Bell:
    """Wakes all who wait. What rang while a task was busy it hears when it comes back; a task that was never here hears
    what rang in the last ECHO_S. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._rings = 0
        self._rang_at = -math.inf
        self._heard: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        """How many rings each task has heard of."""
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        self._rings += 1
        self._rang_at = asyncio.get_running_loop().time()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def rung(self) -> None:
        """Return when it has rung since this task was last here."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is None:
            raise RuntimeError("a bell is waited for in a task")
        heard = self._heard.get(task)
        echoes = heard is None and loop.time() - self._rang_at < ECHO_S
        if heard in (None, self._rings) and not echoes:
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
        self._heard[task] = self._rings
