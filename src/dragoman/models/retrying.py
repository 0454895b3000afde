"""A model that is asked again when it fails for a moment. Fits `runtime.ports.Model`."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from dragoman.core.errors import BackendFailed
from dragoman.core.names import Clock
from dragoman.runtime.ports import Model, Prompt, ReplyDone, ReplyPiece, Retracted

logger = logging.getLogger("dragoman.models")

FIRST_PAUSE_S = 0.5
PAUSE_FACTOR = 4.0
"""0.5 s, then 2 s: each give or take half of it, so that callers who failed together do not return together."""

PAUSE_S_MAX = 30.0
"""The longest pause. A server that advises a longer one is not waited for: its advice stays in the error."""

CONNECT_TOTAL_S = 15.0
"""All that is spent on a server that cannot be reached, its failed attempts and the pauses together."""

REPLY_TOTAL_S = 600.0
"""The same for whatever else goes wrong: as long as one reply may take that goes well."""


def no_end() -> BackendFailed:
    """For a model that stopped without ReplyDone: the port says that there was no reply then."""
    return BackendFailed(
        "The model ended without an answer. Ask again.",
        code="upstream_truncated",
        retryable=True,
        internal="no ReplyDone",
    )


class Retrying:
    """Asks `model` up to `attempts` times; only errors that say `retryable` are worth another.

    Once text or thinking was shown it asks again only if `after_text`, and then takes back what was shown first.
    """

    def __init__(
        self,
        model: Model,
        *,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
        attempts: int = 3,
        connect_total_s: float = CONNECT_TOTAL_S,
        after_text: bool = False,
    ) -> None:
        """`random` gives numbers from 0 to 1. Raises ValueError if `attempts` is not positive."""
        if attempts < 1:
            raise ValueError("attempts must be at least 1")
        self._model = model
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._attempts = attempts
        self._connect_total_s = connect_total_s
        self._after_text = after_text

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        """See the port."""
        spent_s = unreachable_s = 0.0
        for attempt in range(1, self._attempts + 1):
            shown = False
            began = self._clock.monotonic()
            try:
                # Models are async generators: closing one closes its connection.
                asked = self._model.reply(prompt, stream=stream)
                async with aclosing(asked) as pieces:
                    async for piece in pieces:
                        yield piece
                        if isinstance(piece, ReplyDone):
                            return
                        shown = not isinstance(piece, Retracted)
                raise no_end()
            except BackendFailed as error:
                took_s = self._clock.monotonic() - began
                pause_s = self._pause_s(error, attempt)
                # The next attempt is expected to take as long as this one.
                spent_s += took_s + (pause_s or 0.0)
                if spent_s + took_s > REPLY_TOTAL_S:
                    pause_s = None
                if error.code == "upstream_unreachable":
                    unreachable_s += took_s + (pause_s or 0.0)
                    if unreachable_s + took_s > self._connect_total_s:
                        pause_s = None
                if pause_s is None or (shown and not self._after_text):
                    raise
                code = error.code
                logger.warning("attempt %d of %d failed, %s; again in %.1f s", attempt, self._attempts, error, pause_s)
            if shown:
                yield Retracted(code)
            await self._sleep(pause_s)

    async def close(self) -> None:
        await self._model.close()

    def _pause_s(self, error: BackendFailed, attempt: int) -> float | None:
        """How long to wait before the next attempt; None if there is to be none."""
        if not error.retryable or attempt == self._attempts:
            return None
        pause_s = min(FIRST_PAUSE_S * PAUSE_FACTOR ** (attempt - 1) * (0.5 + self._random()), PAUSE_S_MAX)
        if error.retry_after_s is None:
            return pause_s
        return max(pause_s, error.retry_after_s) if error.retry_after_s <= PAUSE_S_MAX else None
