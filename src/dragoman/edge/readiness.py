"""Readiness: whether a turn could be taken now, and if not, why. What /ready answers, and the gauge beside it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from msgspec import Struct

from dragoman.core.errors import DragomanError
from dragoman.core.names import Clock
from dragoman.runtime.runs import Spawn

logger = logging.getLogger("dragoman.edge")

PROBE_TIMEOUT_S = 2.0
"""A store that takes longer over one small commit cannot take turns at the pace of those who ask."""
REMEMBERED_S = 1.0
"""How long the store's answer is good for, so that nobody makes it write by asking often."""


class Unready(Struct, frozen=True):
    """Why not: a code for programs, a sentence for people."""

    reason: str
    detail: str


DRAINING = Unready("draining", "The server is stopping; it takes no new requests.")
SLOW = Unready("storage_slow", f"The store did not answer within {PROBE_TIMEOUT_S:g} s.")
FAULT = Unready("error", "The store could not be asked; the server's log has the details.")


class Readiness:
    """Asks the store whether it could commit: at most one question at a time, and none while an answer is fresh.

    A question that takes too long is not called off: a thread that waits for a disk cannot be, and the next question
    would only queue up behind it. Until it is answered, the answer is `SLOW`.
    """

    def __init__(
        self,
        *,
        draining: Callable[[], bool],
        probe: Callable[[], Awaitable[None]],
        spawn: Spawn,
        clock: Clock,
        timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        """`probe` raises an error of the tree that says why not. `spawn`: its task outlives the request that asked."""
        self._draining = draining
        self._probe = probe
        self._spawn = spawn
        self._clock = clock
        self._timeout_s = timeout_s
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._fresh_until = 0.0
        self._found: Unready | None = None

    @property
    def ready(self) -> bool:
        """As last found, without asking."""
        return self._found is None and not self._draining()

    async def why_not(self) -> Unready | None:
        """None if requests can be served. Takes PROBE_TIMEOUT_S at most."""
        if self._draining():
            return DRAINING
        if self._asking is None:
            if self._clock.monotonic() < self._fresh_until:
                return self._found
            self._asked_at = self._clock.monotonic()
            self._asking = self._spawn(self._ask())
        left_s = self._asked_at + self._timeout_s - self._clock.monotonic()
        _, overdue = await asyncio.wait([self._asking], timeout=max(left_s, 0.0))
        if overdue:
            self._find(SLOW)
        return self._found

    async def _ask(self) -> None:
        try:
            await self._probe()
        except DragomanError as error:
            self._find(Unready(error.code, error.detail), internal=error.internal)
        except Exception:
            logger.exception("the store could not be asked whether it takes turns")
            self._find(FAULT)
        else:
            self._find(None)
        finally:
            self._fresh_until = self._clock.monotonic() + REMEMBERED_S
            self._asking = None

    def _find(self, found: Unready | None, *, internal: str = "") -> None:
        """Log it when it is news."""
        if found != self._found:
            if found is None:
                logger.warning("ready again")
            else:
                logger.warning("not ready: %s: %s%s", found.reason, found.detail, f" ({internal})" if internal else "")
        self._found = found
