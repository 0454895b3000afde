from contextlib import aclosing
from typing import Any

import pytest

from dragoman.models.retrying import REPLY_TOTAL_S, Retrying
from dragoman.runtime.ports import ReplyDone, ReplyPiece, Retracted, TextPiece, ThinkingPiece
from tests.models.asking import HI, Puppet, ask, ask_in_vain, failure
from tests.support import FixedClock

DONE = ReplyDone("yes")


class Waiting:
    """A clock and a sleep that moves it."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.move(seconds)


class SlowPuppet(Puppet):
    """Takes `took_s` on the clock before it says anything."""

    def __init__(self, waiting: Waiting, took_s: float, *turns: Any) -> None:
        super().__init__(*turns)
        self._waiting = waiting
        self._took_s = took_s

    async def reply(self, prompt: Any, *, stream: bool) -> Any:
        self._waiting.clock.move(self._took_s)
        async for piece in super().reply(prompt, stream=stream):
            yield piece


def retrying(model: Puppet, waiting: Waiting, *, random: float = 0.5, **options: Any) -> Retrying:
    return Retrying(model, clock=waiting.clock, sleep=waiting.sleep, random=lambda: random, **options)


async def test_a_good_reply_is_handed_on_and_asked_for_once() -> None:
    puppet, waiting = Puppet([ThinkingPiece("hm"), TextPiece("yes"), DONE]), Waiting()
    assert await ask(retrying(puppet, waiting), stream=False) == [ThinkingPiece("hm"), TextPiece("yes"), DONE]
    assert (puppet.asked, waiting.pauses) == ([(HI, False)], [])


async def test_a_moments_failure_is_asked_again_after_growing_pauses() -> None:
    puppet, waiting = Puppet([failure()], [failure()], [DONE]), Waiting()
    assert await ask(retrying(puppet, waiting)) == [DONE]
    assert (puppet.calls, waiting.pauses) == (3, [0.5, 2.0])


@pytest.mark.parametrize(("random", "pauses"), [(0.0, [0.25, 1.0]), (1.0, [0.75, 3.0])])
async def test_pauses_are_jittered_by_half(random: float, pauses: list[float]) -> None:
    puppet, waiting = Puppet([failure()], [failure()], [DONE]), Waiting()
    await ask(retrying(puppet, waiting, random=random))
    assert waiting.pauses == pauses


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
async def test_it_never_asks_more_often_than_it_may_and_raises_the_last_failure(attempts: int) -> None:
    failures = [failure(f"upstream_{number}") for number in range(attempts)]
    puppet, waiting = Puppet(*([each] for each in failures)), Waiting()
    pieces, error = await ask_in_vain(retrying(puppet, waiting, attempts=attempts))
    assert (pieces, error is failures[-1], puppet.calls) == ([], True, attempts)


async def test_pauses_stop_growing() -> None:
    puppet, waiting = Puppet(*([failure()] for _ in range(6))), Waiting()
    await ask_in_vain(retrying(puppet, waiting, attempts=6))
    assert waiting.pauses == [0.5, 2.0, 8.0, 30.0, 30.0]


async def test_what_asking_again_cannot_help_is_raised_at_once() -> None:
    puppet, waiting = Puppet([failure("upstream_refused", retryable=False)]), Waiting()
    _, error = await ask_in_vain(retrying(puppet, waiting))
    assert (error.code, puppet.calls, waiting.pauses) == ("upstream_refused", 1, [])


async def test_a_model_that_stops_without_an_end_is_asked_again() -> None:
    puppet, waiting = Puppet([], [DONE]), Waiting()
    assert await ask(retrying(puppet, waiting)) == [DONE]
    assert puppet.calls == 2


async def test_a_model_that_never_ends_its_reply_is_truncated() -> None:
    puppet, waiting = Puppet([TextPiece("half")]), Waiting()
    pieces, error = await ask_in_vain(retrying(puppet, waiting))
    assert (pieces, error.code) == ([TextPiece("half")], "upstream_truncated")


# -- advice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("advised", "pause"), [(0.0, 0.5), (0.1, 0.5), (3.0, 3.0), (30.0, 30.0)])
async def test_advice_to_wait_is_followed_but_never_shortens_the_pause(advised: float, pause: float) -> None:
    puppet, waiting = Puppet([failure("upstream_limited", after_s=advised)], [DONE]), Waiting()
    assert await ask(retrying(puppet, waiting)) == [DONE]
    assert waiting.pauses == [pause]


async def test_advice_beyond_the_longest_pause_is_handed_to_the_caller_at_once() -> None:
    puppet, waiting = Puppet([failure("upstream_limited", after_s=30.1)]), Waiting()
    _, error = await ask_in_vain(retrying(puppet, waiting))
    assert (error.retry_after_s, puppet.calls, waiting.pauses) == (30.1, 1, [])


# -- servers that are not there ------------------------------------------------------------------------------------


async def test_quick_connection_failures_use_all_attempts() -> None:
    waiting = Waiting()
    puppet = SlowPuppet(waiting, 0.01, *([failure("upstream_unreachable")] for _ in range(3)))
    await ask_in_vain(retrying(puppet, waiting))
    assert puppet.calls == 3


@pytest.mark.parametrize(("took_s", "calls"), [(4.1, 3), (4.2, 2), (7.2, 2), (7.3, 1)])
async def test_slow_connection_failures_stop_within_fifteen_seconds(took_s: float, calls: int) -> None:
    waiting = Waiting()
    puppet = SlowPuppet(waiting, took_s, *([failure("upstream_unreachable")] for _ in range(3)))
    began = waiting.clock.at
    await ask_in_vain(retrying(puppet, waiting))
    assert puppet.calls == calls
    assert waiting.clock.at - began <= 15.0


async def test_other_slow_failures_use_all_attempts() -> None:
    waiting = Waiting()
    puppet = SlowPuppet(waiting, 60.0, *([failure("upstream_idle")] for _ in range(3)))
    await ask_in_vain(retrying(puppet, waiting))
    assert puppet.calls == 3


async def test_what_would_take_longer_than_one_good_reply_may_is_not_tried() -> None:
    waiting = Waiting()
    puppet = SlowPuppet(waiting, 250.0, *([failure("upstream_idle")] for _ in range(3)))
    began = waiting.clock.at
    await ask_in_vain(retrying(puppet, waiting))
    assert puppet.calls == 2
    assert waiting.clock.at - began <= REPLY_TOTAL_S


# -- after something was shown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [TextPiece("ye"), ThinkingPiece("hm")])
async def test_once_something_was_shown_the_failure_is_raised(shown: ReplyPiece) -> None:
    puppet, waiting = Puppet([shown, failure()]), Waiting()
    pieces, error = await ask_in_vain(retrying(puppet, waiting))
    assert (pieces, error.code, puppet.calls) == ([shown], "upstream_failed", 1)


@pytest.mark.parametrize("shown", [TextPiece("ye"), ThinkingPiece("hm")])
async def test_if_it_may_it_takes_back_what_was_shown_and_asks_again(shown: ReplyPiece) -> None:
    puppet, waiting = Puppet([shown, failure()], [failure()], [TextPiece("yes"), DONE]), Waiting()
    assert await ask(retrying(puppet, waiting, after_text=True)) == [
        shown,
        Retracted("upstream_failed"),
        TextPiece("yes"),
        DONE,
    ]
    assert puppet.calls == 3


async def test_what_the_model_itself_took_back_counts_as_not_shown() -> None:
    puppet, waiting = Puppet([TextPiece("ye"), Retracted("inner"), failure()], [DONE]), Waiting()
    assert await ask(retrying(puppet, waiting)) == [TextPiece("ye"), Retracted("inner"), DONE]


# -- the rest ------------------------------------------------------------------------------------------------------


async def test_closing_the_iterator_closes_the_models() -> None:
    puppet, waiting = Puppet([TextPiece("ye"), DONE]), Waiting()
    async with aclosing(retrying(puppet, waiting).reply(HI, stream=True)) as pieces:
        assert await anext(pieces) == TextPiece("ye")
    assert puppet.abandoned == 1


async def test_closing_it_closes_the_model() -> None:
    puppet = Puppet()
    await retrying(puppet, Waiting()).close()
    assert puppet.closed == 1


async def test_errors_that_are_no_failures_of_the_model_are_not_retried() -> None:
    class Broken(Puppet):
        async def reply(self, prompt: Any, *, stream: bool) -> Any:
            self.asked.append((prompt, stream))
            raise ZeroDivisionError
            yield

    puppet = Broken()
    with pytest.raises(ZeroDivisionError):
        await ask(retrying(puppet, Waiting()))
    assert puppet.calls == 1


def test_no_attempts_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^attempts must be at least 1$"):
        retrying(Puppet(), Waiting(), attempts=0)
