"""Counters: what is counted, and that they are shown by their names."""

from dragoman.core.messages import Usage
from dragoman.runtime.counters import Counters


def test_all_counters_begin_at_nothing() -> None:
    counts = Counters().all()
    assert {"runs", "replies", "tool_calls", "errors", "prompt_tokens", "completion_tokens", "recovered"} <= set(counts)
    assert set(counts.values()) == {0}


def test_a_reply_counts_with_its_llm_tokens() -> None:
    counters = Counters()
    counters.replied(Usage(10, 5))
    counters.replied(Usage(1, 2))
    shown = counters.all()
    assert (shown["replies"], shown["prompt_tokens"], shown["completion_tokens"]) == (2, 11, 7)


def test_what_was_shown_does_not_change_any_more() -> None:
    counters = Counters()
    shown = counters.all()
    counters.runs += 1
    assert (shown["runs"], counters.all()["runs"]) == (0, 1)


def test_a_call_counts_by_what_ran_it_and_what_came_of_it() -> None:
    counters = Counters()
    counters.tool_returned("webhook", "", is_error=False)
    counters.tool_returned("webhook", "timeout", is_error=True)
    counters.tool_returned("webhook", "timeout", is_error=True)
    assert counters.tool_outcomes == {("webhook", "ok"): 1, ("webhook", "timeout"): 2}
    assert counters.all()["tool_calls"] == 3
    assert "tool_outcomes" not in counters.all()


def test_codes_of_single_tools_make_no_series_of_their_own() -> None:
    counters = Counters()
    for number in range(50):
        counters.tool_returned("server", f"own_{number}", is_error=True)
    assert counters.tool_outcomes == {("server", "tool_failed"): 50}
