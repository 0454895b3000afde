import pytest

from dragoman.core.errors import Conflict, NotFound
from dragoman.runtime.crossing import TRIES_MAX, uncrossed

GONE = NotFound("It is gone.", what="thing")


class Crossed:
    """A change that comes to nothing a number of times."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.times = times
        self.error = error or Conflict("Somebody was faster.")
        self.tries = 0

    async def change(self) -> str:
        self.tries += 1
        if self.tries <= self.times:
            raise self.error
        return "changed"


@pytest.mark.parametrize("times", [0, 1, TRIES_MAX - 1])
async def test_it_is_tried_again_until_nobody_was_faster(times: int) -> None:
    crossed = Crossed(times)
    assert await uncrossed(crossed.change) == "changed"
    assert crossed.tries == times + 1


async def test_in_the_end_the_refusal_is_told() -> None:
    crossed = Crossed(TRIES_MAX)
    with pytest.raises(Conflict, match="Somebody was faster"):
        await uncrossed(crossed.change)
    assert crossed.tries == TRIES_MAX


async def test_only_what_means_that_somebody_was_faster_counts() -> None:
    crossed = Crossed(1, GONE)
    with pytest.raises(NotFound):
        await uncrossed(crossed.change)
    assert crossed.tries == 1
    assert await uncrossed(Crossed(2, GONE).change, crossed=(Conflict, NotFound)) == "changed"
