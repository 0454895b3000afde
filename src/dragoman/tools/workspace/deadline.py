"""Blocking file work on a worker thread, which stops by itself when its time is up or nobody waits for it any more."""

import asyncio
from collections.abc import Callable
from time import monotonic

WALL_S = 10.0
"""How long one call may walk, read or search. What was found until then is still an answer."""


class Deadline:
    """Asked by the worker between two small steps. `clock` gives seconds that never go back."""

    def __init__(self, *, wall_s: float = WALL_S, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._ends = clock() + wall_s
        self._abandoned = False

    @property
    def passed(self) -> bool:
        return self._abandoned or self._clock() >= self._ends

    def abandon(self) -> None:
        """Nobody waits for the answer: stop at the next step. Safe to call from another thread."""
        self._abandoned = True


async def in_worker(work: Callable[[Deadline], str]) -> str:
    """Run `work` on a worker thread. A cancelled caller leaves at once; the worker stops at its next step."""
    deadline = Deadline()
    try:
        return await asyncio.to_thread(work, deadline)
    finally:
        deadline.abandon()
