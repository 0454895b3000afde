"""GCRA: never more than the burst plus the rate's share of the time, and a promised wait is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.access.rate_limit import NEVER_S, Limit, Limiter, Verdict, limit_of, take

MINUTE = Limit(60, 60)


def test_sixty_a_minute_pass_at_once_and_the_sixty_first_waits_a_second():
    arrival_s = NEVER_S
    remaining: list[int] = []
    for _ in range(60):
        verdict = take(arrival_s, 1, 1000.0, MINUTE)
        assert verdict.allowed
        remaining.append(verdict.remaining)
        arrival_s = verdict.arrival_s

    assert remaining == list(range(59, -1, -1))
    assert take(arrival_s, 1, 1000.0, MINUTE) == Verdict(False, 1060.0, 0, 1.0, 60.0)


def test_a_refused_request_is_not_counted():
    full_s = 1060.0
    for _ in range(100):
        full_s = take(full_s, 1, 1000.0, MINUTE).arrival_s

    assert full_s == 1060.0
    assert take(full_s, 1, 1001.0, MINUTE).allowed


def test_a_first_request_leaves_the_rest_of_the_burst():
    assert take(NEVER_S, 1, 50.0, MINUTE) == Verdict(True, 51.0, 59, 0.0, 1.0)


def test_a_cost_counts_as_that_many_requests():
    assert take(NEVER_S, 10, 50.0, MINUTE) == Verdict(True, 60.0, 50, 0.0, 10.0)


def test_a_cost_over_the_burst_passes_once_the_bucket_is_whole():
    limit = Limit(60, 5)
    first = take(NEVER_S, 50, 100.0, limit)
    assert (first.allowed, first.remaining) == (True, 0)
    again = take(first.arrival_s, 50, 100.0, limit)
    assert (again.allowed, again.retry_after_s) == (False, 5.0)


def test_a_clock_set_back_an_hour_delays_by_at_most_one_burst():
    arrival_s = take(NEVER_S, 60, 10_000.0, MINUTE).arrival_s
    verdict = take(arrival_s, 1, 10_000.0 - 3600, MINUTE)

    assert (verdict.allowed, verdict.retry_after_s) == (False, 1.0)


def test_a_limit_of_zero_is_none():
    assert limit_of(0) is None
    assert limit_of(7) == Limit(7, 7)


limits = st.builds(Limit, per_minute=st.integers(1, 6000), burst=st.integers(1, 200))
steps = st.lists(st.tuples(st.floats(-120, 120), st.integers(1, 20)), min_size=1, max_size=120)


@given(limits, steps)
def test_no_interval_lets_more_pass_than_burst_and_rate_allow_whatever_the_clock_does(limit, steps):
    """Time that a clock set back lives through twice is counted only forwards, as the one who waits does."""
    now_s, forward_s, arrival_s = 5_000.0, 0.0, NEVER_S
    passed: list[tuple[float, int]] = []
    for moved_s, cost in steps:
        now_s += moved_s
        forward_s += max(0.0, moved_s)
        cost = min(cost, limit.burst)
        verdict = take(arrival_s, cost, now_s, limit)
        arrival_s = verdict.arrival_s
        if verdict.allowed:
            passed.append((forward_s, cost))

    for first, (begin_s, _) in enumerate(passed):
        total = 0
        for end_s, cost in passed[first:]:
            total += cost
            assert total <= limit.burst + (end_s - begin_s) * limit.per_minute / 60 + 0.001


@given(limits, st.lists(st.floats(0, 3), min_size=1, max_size=80), st.integers(1, 20))
def test_whoever_waits_as_told_passes_next_time(limit, pauses_s, cost):
    now_s, arrival_s = 1_000.0, NEVER_S
    for pause_s in pauses_s:
        now_s += pause_s
        verdict = take(arrival_s, cost, now_s, limit)
        if not verdict.allowed:
            assert verdict.retry_after_s > 0
            now_s += verdict.retry_after_s
            verdict = take(verdict.arrival_s, cost, now_s, limit)
            assert verdict.allowed
        arrival_s = verdict.arrival_s


@given(limits, st.lists(st.floats(0, 1), min_size=2, max_size=60))
def test_remaining_says_how_many_more_would_pass_at_once(limit, pauses_s):
    now_s, arrival_s = 1_000.0, NEVER_S
    for pause_s in pauses_s:
        now_s += pause_s
        verdict = take(arrival_s, 1, now_s, limit)
        arrival_s = verdict.arrival_s
        if verdict.remaining:
            assert take(arrival_s, verdict.remaining, now_s, limit).allowed
        assert not take(arrival_s, verdict.remaining + 1, now_s, limit).allowed


def test_keys_do_not_share_a_budget():
    limiter = Limiter()
    one = Limit(60, 1)

    assert limiter.take("a", limit=one, now_s=1.0).allowed
    assert not limiter.take("a", limit=one, now_s=1.0).allowed
    assert limiter.take("b", limit=one, now_s=1.0).allowed


def test_keys_whose_budget_is_whole_are_forgotten():
    limiter = Limiter(keys_max=100)
    for number in range(100):
        limiter.take(f"old {number}", limit=MINUTE, now_s=1.0)
    assert len(limiter) == 100

    limiter.take("new", limit=MINUTE, now_s=10.0)
    assert len(limiter) == 1


def test_a_flood_of_new_keys_stays_within_the_bound_and_forgets_those_seen_first():
    limiter = Limiter(keys_max=100)
    one = Limit(1, 1)
    for number in range(1000):
        limiter.take(f"key {number}", limit=one, now_s=1.0)
        assert len(limiter) <= 100

    assert not limiter.take("key 999", limit=one, now_s=1.0).allowed
    assert limiter.take("key 0", limit=one, now_s=1.0).allowed


@pytest.mark.parametrize("keys", [900, 1024])
def test_a_small_table_is_not_swept(keys):
    limiter = Limiter()
    for number in range(keys):
        limiter.take(f"key {number}", limit=MINUTE, now_s=float(number) * 100)

    assert len(limiter) == keys
