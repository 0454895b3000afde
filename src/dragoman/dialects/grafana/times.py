"""Times as this wire writes them: RFC 3339, in UTC."""

from datetime import UTC, datetime


def rfc3339(at: float) -> str:
    """To the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_s(at: float) -> str:
    """To the second, as Grafana's own API writes them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
