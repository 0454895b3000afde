"""What this process remembers of conversations it has just served: their earlier turns, ready for the next prompt.

A cache beside the log, never a second source: it holds only what was read from a tape or committed to it, and is used
only if nothing stands on the tape between the last turn it knows and the turn that asks. Whoever finds nothing here
reads the log, and gets the same.
"""

from collections import OrderedDict

from dragoman.core.names import Tape
from dragoman.core.operations import TurnView

TAPES_MAX = 1024
CHARS_MAX = 16 * 1024 * 1024
"""Characters of messages remembered of all tapes together."""


class _Remembered:
    __slots__ = ("chars", "end_seq", "turns", "weights", "whole")

    def __init__(self, end_seq: int, turns: tuple[TurnView, ...], weights: tuple[int, ...], *, whole: bool) -> None:
        self.end_seq = end_seq
        self.turns = turns
        self.weights = weights
        self.whole = whole
        self.chars = sum(weights)


class Past:
    """Earlier turns by tape, those longest unused forgotten first. Belongs to one event loop."""

    def __init__(self, *, tapes_max: int = TAPES_MAX, chars_max: int = CHARS_MAX) -> None:
        self._tapes_max = tapes_max
        self._chars_max = chars_max
        self._tapes: OrderedDict[Tape, _Remembered] = OrderedDict()
        self._chars = 0

    def before(self, tape: Tape, seq: int, *, chars_max: int) -> tuple[tuple[TurnView, ...], tuple[int, ...]] | None:
        """The turns before the one received at `seq`, with the characters of each; None if they must be read, also
        because those that are known do not reach back `chars_max`: the turn before may have had a smaller measure."""
        known = self._tapes.get(tape)
        if known is None or known.end_seq != seq - 1 or not (known.whole or known.chars > chars_max):
            return None
        self._tapes.move_to_end(tape)
        return known.turns, known.weights

    def keep(
        self, tape: Tape, end_seq: int, turns: tuple[TurnView, ...], weights: tuple[int, ...], *, whole: bool
    ) -> None:
        """Remember the turns of a tape up to the entry `end_seq`, the last one's end. `whole` = none is older."""
        self.forget(tape)
        known = self._tapes[tape] = _Remembered(end_seq, turns, weights, whole=whole)
        self._chars += known.chars
        while self._tapes and (len(self._tapes) > self._tapes_max or self._chars > self._chars_max):
            self.forget(next(iter(self._tapes)))

    def forget(self, tape: Tape) -> None:
        known = self._tapes.pop(tape, None)
        if known is not None:
            self._chars -= known.chars

    def __len__(self) -> int:
        return len(self._tapes)


def newest(
    turns: tuple[TurnView, ...], weights: tuple[int, ...], *, chars_max: int
) -> tuple[tuple[TurnView, ...], tuple[int, ...]]:
    """The newest turns until their weights pass `chars_max`, the one that passes it included: as `Log.history` does."""
    first, chars = len(turns), 0
    while first > 0 and chars <= chars_max:
        first -= 1
        chars += weights[first]
    return turns[first:], weights[first:]
