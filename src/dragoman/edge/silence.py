"""One timer for all streams that must not be silent for long: a wheel of slots, one of which comes due at each tick.

A timer for each would be set and cancelled with every frame, and cost more than all else that an idle reader does.
"""

import asyncio
from typing import Protocol

SILENCE_S = 15.0
"""A sign of life goes out after this long without a frame, so that no proxy takes the connection for dead."""
SLOTS = 150
"""Ticks in SILENCE_S. A sign of life may come late by one; and all that fall into one are given at a stretch, while
everybody else waits."""


class Silent(Protocol):
    """A stream on the wheel."""

    sent_at: float
    """When it last sent something, on the event loop's clock."""
    slot: int
    """The wheel's own."""

    def speak_up(self) -> None:
        """Give a sign of life. Must not raise."""
        ...


class Wheel:
    """A stream lies in the slot that comes due when it would have been silent for `silence_s`. If it has sent something
    meanwhile it is moved on; sending itself touches nothing here. The wheel turns while there is anything on it."""

    def __init__(self, *, silence_s: float | None = None) -> None:
        """`silence_s` = SILENCE_S, unless it is given."""
        self._silence_s = SILENCE_S if silence_s is None else silence_s
        self._tick_s = self._silence_s / SLOTS
        self._slots: list[set[Silent]] = [set() for _ in range(SLOTS + 1)]
        self._now = 0
        self._count = 0
        self._due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, stream: Silent) -> None:
        self._put(stream, SLOTS)
        self._count += 1
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._due_at = loop.time() + self._tick_s
            self._timer = loop.call_at(self._due_at, self._tick)

    def remove(self, stream: Silent) -> None:
        self._slots[stream.slot].discard(stream)
        self._count -= 1
        if not self._count and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _put(self, stream: Silent, ticks: int) -> None:
        stream.slot = (self._now + ticks) % len(self._slots)
        self._slots[stream.slot].add(stream)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time()
        self._due_at = max(self._due_at + self._tick_s, at)  # not from now: else it is a little late each time
        self._timer = loop.call_at(self._due_at, self._tick)
        self._now = (self._now + 1) % len(self._slots)
        due, self._slots[self._now] = self._slots[self._now], set()
        for stream in due:
            left = int((stream.sent_at + self._silence_s - at) / self._tick_s + 0.5)
            self._put(stream, left if 0 < left < SLOTS else SLOTS)
            if left <= 0:
                stream.speak_up()
