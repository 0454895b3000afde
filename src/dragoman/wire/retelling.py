"""Text on wires that cannot take back what they said, when a reply is begun again (design decision 5).

What was shown of a void reply is *owed*: the new attempt has to say it once more, unheard, and is heard from there on.
An attempt that says something else cannot be told on such a wire; nor can one that begins before what is *settled*:
a reply that was finished, or whatever else was shown and would have to be taken back.

    add("Hel") ─► "Hel"    reset(5)    add("He") ─► ""    add("llo") ─► "lo"    finish("Hello!", seq=9) ─► "!"
"""


class Retelling:
    """One reader's view of the reply that is being written. None in place of text: it cannot be told."""

    __slots__ = ("_matched", "_owed", "_settled", "_shown")

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._owed = ""
        self._matched = 0
        """How much of `_owed` the new attempt has said so far."""
        self._settled = 0

    def add(self, text: str) -> str | None:
        """What of this piece is new to the reader."""
        if self._owed:
            begins = self._matched
            self._matched = min(begins + len(text), len(self._owed))
            said = self._matched - begins
            if self._owed[begins : self._matched] != text[:said]:
                return None
            text = text[said:]
        if text:
            self._shown.append(text)
        return text

    def reset(self, from_seq: int) -> bool:
        """What stands on the tape from there on is void, and the reply begins anew. False: that cannot be told."""
        if from_seq <= self._settled:
            return False
        self._owed = "".join(self._shown)
        self._matched = 0
        return True

    def settle(self, seq: int) -> None:
        """What was shown of the entry of that seq cannot be taken back."""
        self._settled = seq

    def finish(self, text: str, *, seq: int) -> str | None:
        """The reply's whole text, in the entry of that seq; what of it the reader has not heard. The next piece is of
        another reply."""
        self._settled = seq
        shown = "".join(self._shown)
        self._shown, self._owed, self._matched = [], "", 0
        return text[len(shown) :] if text.startswith(shown) else None
