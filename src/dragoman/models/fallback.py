"""Several models in order: the next is asked when one fails. Fits `runtime.ports.Model`."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from dragoman.core.errors import BackendFailed
from dragoman.core.names import Clock
from dragoman.models.retrying import CONNECT_TOTAL_S, Retrying, no_end
from dragoman.runtime.ports import Model, Prompt, ReplyDone, ReplyPiece, Retracted

logger = logging.getLogger("dragoman.models")


def chained(
    models: Sequence[Model],
    *,
    clock: Clock,
    sleep: Callable[[float], Awaitable[None]],
    random: Callable[[], float],
) -> Model:
    """Each model with its retries, and all but the first to fall back on. What may be spent on servers that cannot be
    reached is shared among them. Raises ValueError if there is no model."""
    share_s = CONNECT_TOTAL_S / max(len(models), 1)
    retried = [Retrying(each, clock=clock, sleep=sleep, random=random, connect_total_s=share_s) for each in models]
    return retried[0] if len(retried) == 1 else Fallback(retried)


class Fallback:
    """Asks each model at most once a reply; what the last one raises is raised.

    Once text or thinking was shown it goes on only if `after_text`, and then takes back what was shown first. A name
    that a caller gave is meant for the first model: the others use their own.
    """

    def __init__(self, models: Sequence[Model], *, after_text: bool = False) -> None:
        """Raises ValueError if there is no model."""
        if not models:
            raise ValueError("at least one model is needed")
        self._models = tuple(models)
        self._after_text = after_text

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        """See the port."""
        for number, model in enumerate(self._models, 1):
            shown = False
            try:
                # Models are async generators: closing one closes its connection.
                asked = model.reply(prompt, stream=stream)
                async with aclosing(asked) as pieces:
                    async for piece in pieces:
                        yield piece
                        if isinstance(piece, ReplyDone):
                            return
                        shown = not isinstance(piece, Retracted)
                raise no_end()
            except BackendFailed as error:
                if number == len(self._models) or (shown and not self._after_text):
                    raise
                code = error.code
                logger.warning("model %d of %d failed, %s; asking the next", number, len(self._models), error)
            if shown:
                yield Retracted(code)
            prompt = replace(prompt, model_name="")

    async def close(self) -> None:
        """Each model once, even if it stands here twice."""
        for model in {id(model): model for model in self._models}.values():
            await model.close()
