"""Points in time as models write them: RFC 3339, relative to now, or Unix seconds. Pure."""

import re
from datetime import UTC, datetime

UNIX_MILLISECONDS_FROM = 100_000_000_000
"""A number this large is in milliseconds: as seconds it would be after the year 5000."""
UNIX_S_MAX = 253_402_300_799
"""The last second of the year 9999."""
TIME_CHARS_MAX = 64

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "M": 30 * 86400, "y": 365 * 86400}
_RELATIVE = re.compile(r"now((?:\s*[-+]\s*(?:\d{1,9}(?:ms|[smhdwMy]))+)*)")
_OFFSET = re.compile(r"([-+]?)\s*(\d+)(ms|[smhdwMy])")


class BadTime(Exception):
    """`str()` is a sentence with the forms that are taken."""


def unix_seconds(text: str | float, *, now: float) -> float:
    """Seconds since the Unix epoch. A time without a zone is UTC. Raises BadTime."""
    if not isinstance(text, str):
        return _unix(text)
    text = text.strip()
    if len(text) > TIME_CHARS_MAX:
        raise BadTime(_sentence(text))
    relative = _RELATIVE.fullmatch(text)
    if relative:
        return _bounded(now + _offset(relative[1]), text)
    try:
        return _unix(float(text))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadTime(_sentence(text)) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _offset(text: str) -> float:
    """`-1h30m+5s` in seconds: a part without a sign has that of the part before it."""
    seconds, sign = 0.0, 1
    for part in _OFFSET.finditer(text):
        sign = {"-": -1, "+": 1}.get(part[1], sign)
        seconds += sign * int(part[2]) * _UNITS_S[part[3]]
    return seconds


def _unix(number: float) -> float:
    if abs(number) >= UNIX_MILLISECONDS_FROM:
        number /= 1000
    return _bounded(number, str(number))


def _bounded(seconds: float, text: str) -> float:
    if not abs(seconds) <= UNIX_S_MAX:  # also refuses what is not a number
        raise BadTime(_sentence(text))
    return seconds


def _sentence(text: str) -> str:
    return (
        f"{text[:TIME_CHARS_MAX]!a} is not a time. Write RFC 3339 such as 2026-01-31T12:00:00Z, or now, now-1h, "
        "now-30m, or seconds since 1970."
    )
