"""Times and durations for people."""

import pytest

from dragoman.cli.times import ago, fine, iso, span, stamp


def test_times_are_utc():
    assert stamp(1_700_000_000.9) == "2023-11-14 22:13:20"
    assert iso(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert iso(None) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "2 h"),
        (172_799, "48 h"),
        (7_776_000, "90 d"),
        (-60, "60 s"),
    ],
)
def test_a_span_is_about_right(seconds: float, text: str):
    assert span(seconds) == text


def test_ago_knows_never():
    assert ago(None, now=5.0) == "never"
    assert ago(5.0, now=65.0) == "60 s ago"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0414, "41 ms"), (0.9999, "1.0 s"), (1.94, "1.9 s"), (99.9, "99.9 s"), (125, "2 min 5 s")],
)
def test_what_something_took_has_two_digits_that_matter(seconds: float, text: str):
    assert fine(seconds) == text
