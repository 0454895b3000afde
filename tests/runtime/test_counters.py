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
