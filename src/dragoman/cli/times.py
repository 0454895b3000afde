"""Times and durations for people. UTC, so that two people see the same."""

from datetime import UTC, datetime

DAY_S = 86_400.0


def stamp(at: float) -> str:
    """2026-11-21 08:57:04."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def iso(at: float | None) -> str | None:
    """For programs: 2026-11-21T08:57:04Z."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """About how long: 45 s, 12 min, 3 h, 90 d."""
    seconds = abs(seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * DAY_S:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / DAY_S:.0f} d"


def ago(at: float | None, *, now: float) -> str:
    return "never" if at is None else f"{span(now - at)} ago"


def fine(seconds: float) -> str:
    """How long something took: 41 ms, 1.9 s, 2 min 5 s."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {seconds % 60:.0f} s"
