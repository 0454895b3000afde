"""Changes that others cross with theirs: done again, on what stands there by then."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from dragoman.core.errors import Conflict, DragomanError

TRIES_MAX = 5

R = TypeVar("R")


async def uncrossed(
    change: Callable[[], Awaitable[R]],
    *,
    crossed: type[DragomanError] | tuple[type[DragomanError], ...] = Conflict,
    tries_max: int = TRIES_MAX,
) -> R:
    """What comes of `change`, which reads anew each time what it changes. Raises the last of `tries_max` `crossed`."""
    for _ in range(tries_max - 1):
        try:
            return await change()
        except crossed:
            pass  # somebody was faster
    return await change()
