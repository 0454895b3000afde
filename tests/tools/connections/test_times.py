from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.tools.connections.times import BadTime, unix_seconds

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", NOW),
        (" now ", NOW),
        ("now-1h", NOW - 3600),
        ("now-1h30m", NOW - 5400),
        ("now - 30m", NOW - 1800),
        ("now+1d", NOW + 86400),
        ("now-2w+1d", NOW - 13 * 86400),
        ("now-1M", NOW - 30 * 86400),
        ("now-1y", NOW - 365 * 86400),
        ("now-500ms", NOW - 0.5),
        ("now-90s", NOW - 90),
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T01:00:10+01:00", 10.0),
        ("1970-01-01T00:00:10.5Z", 10.5),
        ("1970-01-01 00:00:10", 10.0),
        ("1970-01-02", 86400.0),
        ("1700000000", NOW),
        ("1700000000.25", NOW + 0.25),
        ("1700000000000", NOW),
        ("1.7e9", NOW),
        (1700000000, NOW),
        (1700000000.5, NOW + 0.5),
        (1700000000000, NOW),
        (0, 0.0),
    ],
)
def test_times_as_models_write_them(text: str | float, seconds: float):
    assert unix_seconds(text, now=NOW) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "now-", "now-1", "now-1x", "now/d", "now-1h/h", "later-1h", "2026-13-01", "nan", "inf", "-inf",
     "1e300", "2026-01-01T00:00:00+99:00", "now-999999999y", "x" * 1000, float("nan"), float("inf"), 1e300],
)  # fmt: skip
def test_what_is_not_a_time_is_told_with_what_is(text: str | float):
    with pytest.raises(BadTime) as caught:
        unix_seconds(text, now=NOW)
    sentence = str(caught.value)
    assert sentence.endswith(
        " is not a time. Write RFC 3339 such as 2026-01-31T12:00:00Z, or now, now-1h, now-30m, or seconds since 1970."
    )
    assert len(sentence) < 250


@given(st.text() | st.floats() | st.from_regex(r"now([-+]\d{1,9}(ms|[smhdwMy]))*", fullmatch=True))
def test_anything_is_a_time_within_reach_or_told_off(text: str | float):
    try:
        seconds = unix_seconds(text, now=NOW)
    except BadTime:
        return
    assert abs(seconds) <= 253_402_300_799


@given(st.datetimes(timezones=st.timezones()))
def test_rfc_3339_is_read_as_it_is_written(at: datetime):
    assert unix_seconds(at.isoformat(), now=NOW) == pytest.approx(at.timestamp(), abs=1e-3)
