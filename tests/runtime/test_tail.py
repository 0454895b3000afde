import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.names import RunId, Tape
from dragoman.runtime.tail import Tails

T = Tape(1)


def entries(first: int, last: int) -> list[Entry]:
    return [Entry(seq, RunId("r"), 0.0, ev.TextAdded(str(seq))) for seq in range(first, last + 1)]


def push(tails: Tails, first: int, last: int, *, tape: Tape = T, size: int = 1) -> None:
    tails.push(tape, entries(first, last), [size] * (last - first + 1))


def read(tails: Tails, after: int, *, limit: int = 1000, tape: Tape = T) -> list[int] | None:
    found = tails.read(tape, after=after, limit=limit)
    return None if found is None else [entry.seq for entry in found]


def head(value: int | None) -> Callable[[], Awaitable[int | None]]:
    async def look() -> int | None:
        return value

    return look


async def never() -> int | None:
    raise AssertionError("the log was asked although the tape is known")


# -- reading ---------------------------------------------------------------------------------------------------------


def test_what_was_pushed_is_read_as_the_same_objects():
    tails = Tails()
    pushed = entries(5, 7)
    tails.push(T, pushed, [1, 1, 1])
    found = tails.read(T, after=4, limit=10)
    assert found is not None
    assert [id(entry) for entry in found] == [id(entry) for entry in pushed]


def test_reading_goes_on_after_a_place_and_stops_at_the_limit():
    tails = Tails()
    push(tails, 1, 3)
    push(tails, 4, 10)
    assert read(tails, 0) == list(range(1, 11))
    assert read(tails, 8) == [9, 10]
    assert read(tails, 2, limit=3) == [3, 4, 5]
    assert read(tails, 10) == []
    assert read(tails, 99) == []
    assert read(tails, 0, limit=0) == []


def test_what_reaches_further_back_is_left_to_the_log():
    tails = Tails()
    assert read(tails, 0) is None
    push(tails, 5, 7)
    assert read(tails, 3) is None
    assert read(tails, 4) == [5, 6, 7]


def test_a_gap_starts_the_tail_anew():
    tails = Tails()
    push(tails, 1, 3)
    push(tails, 8, 9)
    assert read(tails, 2) is None
    assert read(tails, 7) == [8, 9]
    assert tails.chars == 2


def test_tapes_do_not_mix():
    tails = Tails()
    push(tails, 1, 3)
    push(tails, 1, 2, tape=Tape(2))
    assert read(tails, 0) == [1, 2, 3]
    assert read(tails, 0, tape=Tape(2)) == [1, 2]


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_a_tail_keeps_its_newest_entries():
    tails = Tails(entries_max=4)
    for seq in range(1, 5):
        push(tails, seq, seq)
    assert read(tails, 0) == [1, 2, 3, 4]
    push(tails, 5, 5)
    assert read(tails, 1) is None
    assert read(tails, 2) == [3, 4, 5]


def test_a_tail_keeps_so_many_characters():
    tails = Tails(chars_max=100)
    push(tails, 1, 2, size=50)
    assert read(tails, 0) == [1, 2]
    push(tails, 3, 3, size=1)
    assert read(tails, 0) is None
    assert read(tails, 1) == [2, 3]
    push(tails, 4, 4, size=1000)
    assert read(tails, 3) is None
    assert read(tails, 4) == []
    assert tails.chars == 0


def test_all_tails_together_keep_so_many_characters_and_the_longest_untouched_goes_first():
    tails = Tails(total_chars_max=100)
    for number in range(1, 4):
        push(tails, 1, 1, tape=Tape(number), size=30)
    push(tails, 2, 2, tape=Tape(1), size=30)
    assert read(tails, 0, tape=Tape(2)) is None
    assert read(tails, 0, tape=Tape(1)) == [1, 2]
    assert tails.chars == 90


def test_so_many_tapes_are_remembered():
    tails = Tails(tapes_max=2)
    for number in range(1, 5):
        push(tails, 1, 1, tape=Tape(number))
    assert len(tails) == 2
    assert [read(tails, 0, tape=Tape(number)) for number in range(1, 5)] == [None, None, [1], [1]]


async def test_a_tape_that_somebody_waits_on_stays_and_wakes_him():
    tails = Tails(tapes_max=2)
    push(tails, 1, 1)
    waiting = asyncio.ensure_future(tails.grown(T, after=1, look=never))
    await asyncio.sleep(0)
    for number in range(2, 10):
        push(tails, 1, 1, tape=Tape(number))
    assert not waiting.done()
    push(tails, 2, 2)
    await asyncio.wait_for(waiting, 5)
    assert read(tails, 1) == [2]


async def test_waiting_on_ever_new_tapes_leaves_nothing_behind():
    tails = Tails(tapes_max=3)
    for number in range(1, 50):
        await tails.grown(Tape(number), after=0, look=head(5))
    assert len(tails) <= 4
    for number in range(50, 100):
        await tails.grown(Tape(number), after=0, look=head(None))
    assert len(tails) <= 4
    assert tails.chars == 0


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(0, 40)), max_size=60))
def test_whatever_is_pushed_a_read_is_a_true_end_of_the_tape(pushes: list[tuple[int, int, int]]):
    tails = Tails(tapes_max=2, entries_max=6, chars_max=60, total_chars_max=100)
    heads = {1: 0, 2: 0, 3: 0}
    for number, count, size in pushes:
        first = heads[number] + 1
        heads[number] += count
        push(tails, first, heads[number], tape=Tape(number), size=size)
        assert len(tails) <= 2
        assert tails.chars <= 100
        for tape, last in heads.items():
            for after in range(last + 1):
                assert read(tails, after, tape=Tape(tape)) in (None, list(range(after + 1, last + 1)))


# -- waiting ---------------------------------------------------------------------------------------------------------


async def test_waiting_ends_at_once_when_there_is_more():
    tails = Tails()
    push(tails, 1, 3)
    await asyncio.wait_for(tails.grown(T, after=2, look=never), 5)


async def test_a_push_wakes_everybody_who_waits_on_that_tape():
    tails = Tails()
    push(tails, 1, 1)
    push(tails, 1, 1, tape=Tape(2))
    here = [asyncio.ensure_future(tails.grown(T, after=1, look=never)) for _ in range(50)]
    there = asyncio.ensure_future(tails.grown(Tape(2), after=1, look=never))
    await asyncio.sleep(0)
    push(tails, 2, 2)
    await asyncio.wait_for(asyncio.gather(*here), 5)
    assert not there.done()
    tails.forget(Tape(2))
    await asyncio.wait_for(there, 5)


async def test_the_log_is_asked_about_a_tape_never_heard_of():
    tails = Tails()
    await asyncio.wait_for(tails.grown(T, after=3, look=head(4)), 5)
    await asyncio.wait_for(tails.grown(Tape(2), after=3, look=head(None)), 5)
    waiting = asyncio.ensure_future(tails.grown(Tape(3), after=3, look=head(3)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    push(tails, 4, 4, tape=Tape(3))
    await asyncio.wait_for(waiting, 5)


async def test_what_is_committed_while_the_log_is_asked_is_not_missed():
    tails = Tails()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def look() -> int | None:
        asked.set()
        await answer.wait()
        return 3  # as it was before the push below

    waiting = asyncio.ensure_future(tails.grown(T, after=3, look=look))
    await asyncio.wait_for(asked.wait(), 5)
    push(tails, 4, 4)
    answer.set()
    await asyncio.wait_for(waiting, 5)
    assert read(tails, 3) == [4]


async def test_a_tape_forgotten_while_the_log_is_asked_ends_the_wait():
    tails = Tails()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def look() -> int | None:
        asked.set()
        await answer.wait()
        return 3

    waiting = asyncio.ensure_future(tails.grown(T, after=3, look=look))
    await asyncio.wait_for(asked.wait(), 5)
    tails.forget(T)
    answer.set()
    await asyncio.wait_for(waiting, 5)
    assert read(tails, 3) is None


async def test_a_wait_that_is_cancelled_or_fails_leaves_nothing():
    tails = Tails()

    async def fails() -> int | None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await tails.grown(T, after=0, look=fails)
    assert len(tails) == 0
    push(tails, 1, 1)
    waiting = asyncio.ensure_future(tails.grown(T, after=1, look=never))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    push(tails, 2, 2)
    assert read(tails, 1) == [2]


def test_a_forgotten_tape_leaves_nothing():
    tails = Tails()
    push(tails, 1, 3)
    tails.forget(T)
    tails.forget(T)
    assert (len(tails), tails.chars, read(tails, 0)) == (0, 0, None)


# -- where others write too ------------------------------------------------------------------------------------------


async def waiting_at(tails: Tails, after: int) -> "asyncio.Task[None]":
    task = asyncio.ensure_future(tails.grown(T, after=after, look=head(after)))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_news_from_elsewhere_wakes_and_sends_to_the_log():
    tails = Tails()
    push(tails, 1, 3)
    waiting = await waiting_at(tails, 3)
    assert tails.awaited() == [T]
    assert tails.heard(T, 5) is True
    await asyncio.wait_for(waiting, 5)
    assert tails.awaited() == []
    assert (read(tails, 0), read(tails, 3), read(tails, 5)) == (None, None, [])
    assert tails.chars == 0
    assert (tails.head(T), tails.head(Tape(2))) == (5, None)
    push(tails, 6, 7)
    assert (read(tails, 4), read(tails, 5)) == (None, [6, 7])


async def test_old_news_and_news_of_strangers_changes_nothing():
    tails = Tails()
    push(tails, 1, 3)
    waiting = await waiting_at(tails, 3)
    assert tails.heard(T, 2) is False
    assert tails.heard(T, 3) is False
    assert tails.heard(Tape(2), 9) is False
    await asyncio.sleep(0)
    assert not waiting.done()
    assert (len(tails), read(tails, 0)) == (1, [1, 2, 3])
    waiting.cancel()


async def test_what_is_pushed_after_it_was_heard_of_is_read_from_the_log():
    tails = Tails()
    push(tails, 1, 3)
    waiting = await waiting_at(tails, 3)
    tails.heard(T, 9)
    push(tails, 4, 5)  # ours, which another's overtook
    await asyncio.wait_for(waiting, 5)
    assert (read(tails, 3), read(tails, 5), read(tails, 9)) == (None, None, [])
    push(tails, 10, 10)
    assert (read(tails, 8), read(tails, 9)) == (None, [10])


async def test_what_one_finds_in_the_log_wakes_the_others_who_wait():
    tails = Tails()
    answers: list[asyncio.Future[int | None]] = []

    def look() -> "asyncio.Future[int | None]":
        answers.append(asyncio.get_running_loop().create_future())
        return answers[-1]

    first, second = [asyncio.ensure_future(tails.grown(T, after=3, look=look)) for _ in range(2)]
    await asyncio.sleep(0)
    answers[0].set_result(3)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not first.done()
    answers[1].set_result(4)  # looked a moment later
    await asyncio.wait_for(asyncio.gather(first, second), 5)
    push(tails, 4, 4)
    assert read(tails, 4) == []


def test_what_was_heard_counts_for_a_while_only():
    tails = Tails(sure_s=0.0)
    push(tails, 1, 3)
    while time.monotonic() == time.monotonic():
        pass
    assert read(tails, 3) is None
    assert read(tails, 0) is None
    tails = Tails(sure_s=60.0)
    push(tails, 1, 3)
    assert (read(tails, 3), read(tails, 0)) == ([], [1, 2, 3])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ours"), st.integers(1, 3)),
            st.tuples(st.just("theirs"), st.integers(1, 3)),
            st.tuples(st.sampled_from(["push", "tell", "lose", "lie", "forget"]), st.just(0)),
            st.tuples(st.just("read"), st.integers(0, 12)),
        ),
        max_size=40,
    )
)
def test_whatever_is_heard_in_whatever_order_nothing_is_read_that_the_log_does_not_say(steps: list[tuple[str, int]]):
    tails = Tails(entries_max=5)
    log = 0
    ours: list[tuple[int, int]] = []
    theirs: list[int] = []
    for step, number in steps:
        match step:
            case "ours":
                ours.append((log + 1, log + number))
                log += number
            case "theirs":
                log += number
                theirs.append(log)
            case "push" if ours:
                push(tails, *ours.pop(0))
            case "tell" if theirs:
                tails.heard(T, theirs.pop())
            case "lose" if theirs:
                theirs.pop()
            case "lie":
                tails.heard(T, log + 3)
            case "forget":
                tails.forget(T)
            case "read":
                found = read(tails, number)
                assert found is None or found == list(range(number + 1, number + 1 + len(found)))
                assert not found or found[-1] <= log
            case _:
                pass
