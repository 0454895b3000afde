"""Durations as people write them, `5s` or `90d`, and addresses to listen on. Pure."""

import re
from ipaddress import ip_address

from msgspec import Struct

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
DURATION_S_MAX = 100 * 365 * 86_400.0
PORT_MAX = 65_535

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError with a sentence."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * UNITS_S[match[2]] if match else 0.0
    if match is None or seconds > DURATION_S_MAX:
        raise ValueError(f'"{text}" is not a duration; write a number with its unit: 500ms, 5s, 10m, 12h or 90d')
    return seconds


def show_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back: 600.0 -> `10m`."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / UNITS_S[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"


class Address(Struct, frozen=True):
    """Where to listen. `host` is an address or a name, IPv6 without brackets; port 0 = any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Only this machine can connect. A name other than localhost may resolve to anything, so it is not."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """HOST:PORT, with IPv6 in brackets. Raises ValueError with a sentence."""
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    is_host = bool(host) and not re.search(r"[\s/\[\]]", host) and bracketed == (":" in host)
    if not colon or not is_host or re.fullmatch(r"[0-9]{1,5}", port) is None or int(port) > PORT_MAX:
        raise ValueError(f'"{text}" is not an address; write HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080')
    return Address(host, int(port))
