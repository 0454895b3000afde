"""Budgets at their edges; the machine's tests show what an overrun does to a run."""

from dragoman.core.messages import Usage
from dragoman.runtime.budgets import Budget, WallTime, overrun


def code(budget: Budget, **spent: object) -> str | None:
    known = {"replies": 0, "usage": Usage(), "elapsed_s": 0.0, "tool": "t", "repeats": 0}
    failed = overrun(budget, **(known | spent))
    return failed.code if failed else None


def test_each_budget_holds_at_its_edge() -> None:
    assert code(Budget(), replies=24) is None
    assert code(Budget(), replies=25) == "step_limit"
    assert code(Budget(), repeats=5) is None
    assert code(Budget(), repeats=6) == "repeated_call"
    assert code(Budget(), elapsed_s=599.9) is None
    assert code(Budget(), elapsed_s=600.0) == "time_limit"
    assert code(Budget(llm_tokens=10), usage=Usage(5, 4)) is None
    assert code(Budget(llm_tokens=10), usage=Usage(5, 5)) == "token_limit"


def test_zero_means_unlimited() -> None:
    free = Budget(steps=0, wall_s=0, llm_tokens=0, same_call=0)
    assert code(free, replies=10**6, repeats=10**6, elapsed_s=1e9, usage=Usage(10**9, 0)) is None


def test_between_entries_of_others_the_tapes_times_count_and_between_ours_our_own_clock() -> None:
    time = WallTime()
    time.goes_on(100.0, None, counts=False)
    time.goes_on(103.0, None, counts=True)
    time.goes_on(110.0, None, counts=False)  # nobody was at work
    assert time.by(112.0, None) == 5.0
    time.take_up(7.0)
    assert time.by(9000.0, 8.0) == 4.0
    time.goes_on(9000.0, 9.0, counts=True)
    time.goes_on(20.0, 10.0, counts=True)  # set back
    assert time.by(20.5, 10.5) == 6.5


def test_a_clock_that_was_set_back_between_two_processes_gives_no_time() -> None:
    time = WallTime()
    time.goes_on(100.0, None, counts=True)
    time.goes_on(60.0, None, counts=True)
    assert time.by(61.0, None) == 101.0
