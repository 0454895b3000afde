"""What tests of every layer share: a clock one can set."""


class FixedClock:
    """A Clock that stands still until it is moved."""

    def __init__(self, at: float = 1_700_000_000.0) -> None:
        self.at = at
        self._jumped_s = 0.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - self._jumped_s

    def move(self, seconds: float) -> None:
        self.at += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.at += seconds
        self._jumped_s += seconds
