"""Times in UTC, to the millisecond or the second."""

import pytest

from dragoman.dialects.grafana.times import rfc3339, rfc3339_s


@pytest.mark.parametrize(
    ("at", "to_the_millisecond", "to_the_second"),
    [
        (1_700_000_000.0, "2023-11-14T22:13:20.000Z", "2023-11-14T22:13:20Z"),
        (1_700_000_000.1239, "2023-11-14T22:13:20.123Z", "2023-11-14T22:13:20Z"),
        (0.0, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z"),
    ],
)
def test_times_are_in_utc(at: float, to_the_millisecond: str, to_the_second: str) -> None:
    assert (rfc3339(at), rfc3339_s(at)) == (to_the_millisecond, to_the_second)
