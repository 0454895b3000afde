"""What tests of models share: asking one and collecting what it says."""

from collections.abc import AsyncGenerator, Sequence

import pytest

from dragoman.core.errors import BackendFailed
from dragoman.core.messages import said
from dragoman.runtime.ports import Model, Prompt, ReplyPiece

HI = Prompt((said("user", "hi"),))

Turn = Sequence[ReplyPiece | BackendFailed]
"""What one reply of a puppet says; an error ends it."""


class Puppet:
    """A model that says what it is told, reply by reply, and remembers what it was asked."""

    def __init__(self, *turns: Turn) -> None:
        self._turns = list(turns)
        self.asked: list[tuple[Prompt, bool]] = []
        self.abandoned = 0
        """Replies that were closed before their end."""
        self.closed = 0

    @property
    def calls(self) -> int:
        return len(self.asked)

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.asked.append((prompt, stream))
        try:
            for piece in self._turns.pop(0):
                if isinstance(piece, BackendFailed):
                    raise piece
                yield piece
        except GeneratorExit:
            self.abandoned += 1
            raise

    async def close(self) -> None:
        self.closed += 1


def failure(code: str = "upstream_failed", *, retryable: bool = True, after_s: float | None = None) -> BackendFailed:
    return BackendFailed("It failed.", code=code, retryable=retryable, retry_after_s=after_s)


async def ask(model: Model, prompt: Prompt = HI, *, stream: bool = True) -> list[ReplyPiece]:
    return [piece async for piece in model.reply(prompt, stream=stream)]


async def ask_in_vain(
    model: Model, prompt: Prompt = HI, *, stream: bool = True
) -> tuple[list[ReplyPiece], BackendFailed]:
    """What was said before it failed, and the failure."""
    pieces: list[ReplyPiece] = []
    with pytest.raises(BackendFailed) as caught:
        async for piece in model.reply(prompt, stream=stream):
            pieces.append(piece)
    return pieces, caught.value
