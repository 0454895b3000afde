from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from msgspec.structs import replace

from dragoman.models.fallback import Fallback, chained
from dragoman.models.retrying import CONNECT_TOTAL_S, Retrying
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, Retracted, TextPiece, ThinkingPiece
from tests.models.asking import HI, Puppet, ask, ask_in_vain, failure
from tests.support import FixedClock

DONE = ReplyDone("yes")


def refused() -> Puppet:
    return Puppet([failure("upstream_refused", retryable=False)])


async def test_a_good_reply_of_the_first_is_all_that_is_asked_for() -> None:
    first, second = Puppet([TextPiece("yes"), DONE]), Puppet()
    assert await ask(Fallback([first, second])) == [TextPiece("yes"), DONE]
    assert (first.calls, second.calls) == (1, 0)


async def test_any_failure_before_something_was_shown_leads_to_the_next() -> None:
    first, second, third = refused(), Puppet([failure()]), Puppet([TextPiece("yes"), DONE])
    assert await ask(Fallback([first, second, third])) == [TextPiece("yes"), DONE]
    assert (first.calls, second.calls, third.calls) == (1, 1, 1)


async def test_the_last_ones_failure_is_raised() -> None:
    first, second = refused(), Puppet([failure("upstream_limited", after_s=7.0)])
    pieces, error = await ask_in_vain(Fallback([first, second]))
    assert (pieces, error.code, error.retry_after_s) == ([], "upstream_limited", 7.0)


async def test_a_model_that_stops_without_an_end_leads_to_the_next() -> None:
    assert await ask(Fallback([Puppet([]), Puppet([DONE])])) == [DONE]


async def test_a_name_the_caller_gave_is_for_the_first_only() -> None:
    first, second = refused(), Puppet([DONE])
    named = replace(HI, model_name="gpt-y")
    await ask(Fallback([first, second]), named, stream=False)
    assert (first.asked, second.asked) == ([(named, False)], [(HI, False)])


@pytest.mark.parametrize("shown", [TextPiece("ye"), ThinkingPiece("hm")])
async def test_once_something_was_shown_the_failure_is_raised(shown: ReplyPiece) -> None:
    first, second = Puppet([shown, failure()]), Puppet()
    pieces, error = await ask_in_vain(Fallback([first, second]))
    assert (pieces, error.code, second.calls) == ([shown], "upstream_failed", 0)


async def test_if_it_may_it_takes_back_what_was_shown_and_asks_the_next() -> None:
    first, second = Puppet([TextPiece("ye"), failure()]), Puppet([TextPiece("yes"), DONE])
    assert await ask(Fallback([first, second], after_text=True)) == [
        TextPiece("ye"),
        Retracted("upstream_failed"),
        TextPiece("yes"),
        DONE,
    ]


async def test_what_a_model_itself_took_back_counts_as_not_shown() -> None:
    first, second = Puppet([TextPiece("ye"), Retracted("inner"), failure()]), Puppet([DONE])
    assert await ask(Fallback([first, second])) == [TextPiece("ye"), Retracted("inner"), DONE]


async def test_with_retries_around_each_model_the_calls_are_attempts_times_models() -> None:
    async def sleep(_: float) -> None: ...

    puppets = [Puppet(*([failure()] for _ in range(3))) for _ in range(2)]
    retried = [Retrying(each, clock=FixedClock(), sleep=sleep, random=lambda: 0.5) for each in puppets]
    await ask_in_vain(Fallback(retried))
    assert [each.calls for each in puppets] == [3, 3]


class Absent(Puppet):
    """Swallows what is sent to it, so that each attempt takes as long as one may wait for a connection."""

    def __init__(self, clock: FixedClock, connect_s: float) -> None:
        super().__init__(*([failure("upstream_unreachable")] for _ in range(9)))
        self._clock = clock
        self._connect_s = connect_s

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self._clock.move(self._connect_s)
        async for piece in super().reply(prompt, stream=stream):
            yield piece


@pytest.mark.parametrize(
    ("connect_s", "models", "calls"),
    [(0.01, 1, [3]), (5.0, 1, [2]), (15.0, 1, [1]), (0.01, 2, [3, 3]), (5.0, 2, [1, 1]), (5.0, 3, [1, 1, 1])],
)
@pytest.mark.parametrize("random", [0.0, 1.0])
async def test_servers_that_are_not_there_cost_fifteen_seconds_together(
    connect_s: float, models: int, calls: list[int], random: float
) -> None:
    clock = FixedClock()

    async def sleep(seconds: float) -> None:
        clock.move(seconds)

    puppets = [Absent(clock, connect_s) for _ in range(models)]
    began = clock.at
    _, error = await ask_in_vain(chained(puppets, clock=clock, sleep=sleep, random=lambda: random))
    assert ([each.calls for each in puppets], error.code) == (calls, "upstream_unreachable")
    assert clock.at - began <= CONNECT_TOTAL_S


async def test_one_model_has_nothing_to_fall_back_on() -> None:
    async def sleep(_: float) -> None: ...

    assert isinstance(chained([Puppet()], clock=FixedClock(), sleep=sleep, random=lambda: 0.5), Retrying)
    with pytest.raises(ValueError, match=r"^at least one model is needed$"):
        chained([], clock=FixedClock(), sleep=sleep, random=lambda: 0.5)


async def test_closing_the_iterator_closes_the_models() -> None:
    first = Puppet([TextPiece("ye"), DONE])
    async with aclosing(Fallback([first]).reply(HI, stream=True)) as pieces:
        assert await anext(pieces) == TextPiece("ye")
    assert first.abandoned == 1


async def test_closing_it_closes_each_model_once() -> None:
    first, second = Puppet(), Puppet()
    await Fallback([first, second, first]).close()
    assert (first.closed, second.closed) == (1, 1)


def test_no_models_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^at least one model is needed$"):
        Fallback([])
