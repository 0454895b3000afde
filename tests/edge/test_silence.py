"""The wheel: who has been silent for long enough is told to speak, nobody else is, and one timer does for all."""

import asyncio
from collections.abc import Iterator

import pytest

from dragoman.edge.silence import SLOTS, Wheel

SILENCE_S = 15.0
TICK_S = SILENCE_S / SLOTS


class Stream:
    """Notes when it was told to speak, and has then spoken."""

    def __init__(self, loop: "HeldLoop", *, sent_at: float = 0.0) -> None:
        self._loop = loop
        self.sent_at = sent_at
        self.slot = 0
        self.told: list[float] = []

    def speak_up(self) -> None:
        self.sent_at = self._loop.time()
        self.told.append(self.sent_at)


class HeldLoop:
    """An event loop's clock and timers, for a test to turn."""

    def __init__(self) -> None:
        self._now = 0.0
        self.late_s = 0.0
        """How much later than due timers go off: somebody else is busy."""
        self.timers: list[tuple[float, asyncio.TimerHandle]] = []

    def time(self) -> float:
        return self._now

    def call_at(self, at: float, callback: object) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(at, callback, (), self)  # type: ignore[arg-type] what a handle asks of its loop
        self.timers.append((at, handle))
        return handle

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.timers = [timer for timer in self.timers if timer[1] is not handle]

    def run_until(self, at: float) -> None:
        while self.timers and self.timers[0][0] + self.late_s <= at:
            due_at, handle = self.timers.pop(0)
            self._now = max(self._now, due_at + self.late_s)
            handle._run()
        self._now = at


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldLoop]:
    held = HeldLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: held)
    yield held


def test_a_silent_stream_is_told_again_and_again(loop: HeldLoop) -> None:
    wheel, stream = Wheel(), Stream(loop)
    wheel.add(stream)
    loop.run_until(4 * SILENCE_S + TICK_S)
    assert stream.told == pytest.approx([SILENCE_S, 2 * SILENCE_S, 3 * SILENCE_S, 4 * SILENCE_S])


def test_a_busy_machine_makes_it_late_but_not_later_and_later(loop: HeldLoop) -> None:
    wheel, stream = Wheel(), Stream(loop)
    loop.late_s = TICK_S / 4
    wheel.add(stream)
    loop.run_until(40 * SILENCE_S + TICK_S)
    assert len(stream.told) == 40


def test_after_a_long_sleep_of_the_machine_each_is_told_once(loop: HeldLoop) -> None:
    wheel, stream = Wheel(), Stream(loop)
    wheel.add(stream)
    loop.run_until(SILENCE_S / 2)
    loop._now = 100 * SILENCE_S
    loop.run_until(100 * SILENCE_S + TICK_S * SLOTS / 2)
    assert len(stream.told) == 1


def test_who_speaks_is_not_told_and_counts_from_there(loop: HeldLoop) -> None:
    wheel, stream = Wheel(), Stream(loop)
    wheel.add(stream)
    for at in range(1, 41):
        loop.run_until(float(at))
        stream.sent_at = loop.time()
    assert stream.told == []
    loop.run_until(40 + SILENCE_S + TICK_S)
    assert stream.told == pytest.approx([40 + SILENCE_S], abs=TICK_S)


@pytest.mark.parametrize("last", [0.0, 0.3, 0.9, 7.4, 14.4, 14.9])
def test_nobody_is_silent_for_more_than_a_tick_too_long(loop: HeldLoop, last: float) -> None:
    wheel, stream = Wheel(), Stream(loop)
    wheel.add(stream)
    loop.run_until(last)
    stream.sent_at = last
    loop.run_until(40.0)
    assert SILENCE_S - TICK_S / 2 <= stream.told[0] - last <= SILENCE_S + TICK_S


def test_a_thousand_streams_are_one_timer(loop: HeldLoop) -> None:
    wheel = Wheel()
    streams = [Stream(loop) for _ in range(1000)]
    for stream in streams:
        wheel.add(stream)
    loop.run_until(2.5 * SILENCE_S)
    assert (len(wheel), len(loop.timers)) == (1000, 1)
    assert {len(stream.told) for stream in streams} == {2}


def test_who_is_gone_is_not_told_and_an_empty_wheel_stands_still(loop: HeldLoop) -> None:
    wheel, stays, goes = Wheel(), Stream(loop), Stream(loop)
    wheel.add(stays)
    wheel.add(goes)
    loop.run_until(SILENCE_S + 5)
    wheel.remove(goes)
    loop.run_until(3 * SILENCE_S + TICK_S)
    assert (len(stays.told), len(goes.told)) == (3, 1)
    wheel.remove(stays)
    assert (len(wheel), loop.timers) == (0, [])
    wheel.add(goes)  # and turns again
    loop.run_until(5 * SILENCE_S + 2 * TICK_S)
    assert len(goes.told) == 3


def test_who_goes_because_it_was_told_is_gone(loop: HeldLoop) -> None:
    wheel = Wheel()

    class Fleeting(Stream):
        def speak_up(self) -> None:
            super().speak_up()
            wheel.remove(self)

    goes, stays = Fleeting(loop), Stream(loop)
    wheel.add(goes)
    wheel.add(stays)
    loop.run_until(3 * SILENCE_S + TICK_S)
    assert (len(goes.told), len(stays.told), len(wheel)) == (1, 3, 1)


async def test_how_long_silence_may_be_can_be_said() -> None:
    loop = asyncio.get_running_loop()
    spoken = asyncio.Event()

    class Quick:
        sent_at = loop.time()
        slot = 0

        def speak_up(self) -> None:
            spoken.set()

    wheel, stream = Wheel(silence_s=0.01), Quick()
    wheel.add(stream)
    async with asyncio.timeout(5):
        await spoken.wait()
    wheel.remove(stream)
