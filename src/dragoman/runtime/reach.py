"""Which hosts connectors may reach: what the configuration names, and never the places where clouds keep credentials.

People set connectors up while the server runs, so an address is not the operator's word here. Private networks and
loopback are fine: what connectors are for often lives there. Pure; whoever connects asks about each address that a name
resolves to, and connects to no other.
"""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from dragoman.core.errors import BadRequest

URL_CHARS_MAX = 2000
SETTING = "connectors.hosts"

NEVER = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # link-local: AWS, Azure, Google Cloud and others answer on 169.254.169.254
            "fe80::/10",
            "fd00:ec2::254/128",  # AWS over IPv6
            "fd20:ce::254/128",  # Google Cloud over IPv6
            "100.100.100.200/32",  # Alibaba Cloud
            "168.63.129.16/32",  # Azure's wire server
            "192.0.0.192/32",  # Oracle Cloud
            "0.0.0.0/8",
            "::/128",
        ),
    )
)
"""Networks that no connector reaches, whatever the configuration says."""
LOOPBACK = IPv6Address("::1")
_TRANSLATED = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
"""Whose last 32 bits are an IPv4 address (RFC 6052, 8215, 4291)."""
NEVER_NAMES = ("metadata.google.internal", "metadata.goog")

_NAME = re.compile(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]?")
"""A host's name in the letters that go over the wire, or an IPv6 address."""
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?")
"""What some resolvers take for an IPv4 address: 2852039166, 0xa9.0xfe.0xa9fe."""


class Reach:
    """`hosts` are names or globs such as `*.example.com`; "*" = every host."""

    def __init__(self, hosts: Sequence[str] = ("*",)) -> None:
        self._hosts = tuple(host.lower() for host in hosts)

    def check_url(self, url: str, *, field: str) -> str:
        """Its host. Raises BadRequest, with a sentence that names the field, for what may not be reached."""
        host = host_of(url, field=field)
        self.check_host(host, field=field)
        return host

    def check_host(self, host: str, *, field: str) -> None:
        """Raises BadRequest."""
        _check_letters(host, field=field)
        name = host.lower().rstrip(".")
        if not any(fnmatchcase(name, pattern) for pattern in self._hosts):
            raise BadRequest(f"{field}: {host} is not one of the hosts that connectors may reach ({SETTING}).")
        address = literal(name)
        refused = name in NEVER_NAMES if address is None else never(address)
        if refused or (address is None and is_numeric(name)):
            raise BadRequest(f"{field}: {host} is an address that connectors never reach.")


def host_of(url: str, *, field: str) -> str:
    """The host of an address that somebody gave, as it goes over the wire. Raises BadRequest for what is no plain
    http(s) address: nothing that one reader takes for another host than the next."""
    parts = None
    if len(url) <= URL_CHARS_MAX and url.isprintable() and " " not in url and "\\" not in url:
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 raises ValueError if it is none
            if "[" in parts.netloc and literal(parts.hostname or "") is None:
                parts = None
        except ValueError:
            parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest(f"{field} must be an address such as https://host/path; {URL_CHARS_MAX} characters at most.")
    if parts.username is not None or parts.password is not None:
        raise BadRequest(f"{field} may not hold a user or password; put them into the secrets.")
    _check_letters(parts.hostname, field=field)
    return parts.hostname


def _check_letters(host: str, *, field: str) -> None:
    if _NAME.fullmatch(host) is None:
        # Clients turn ①⑥⑨ or a full-width dot into what they look like, behind our back.
        raise BadRequest(
            f"{field}: {host[:100]!a} is not the name of a host; write it with letters, digits, dots and -, others as"
            " xn--…"
        )


def is_numeric(host: str) -> bool:
    """Whether some resolvers take it for an IPv4 address."""
    return _NUMERIC.fullmatch(host) is not None


def is_local(host: str) -> bool:
    """Whether it is a name that this machine goes by everywhere (RFC 6761, 6.3)."""
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is written as, if it is none to be looked up."""
    try:
        return ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def never(address: str | IPv4Address | IPv6Address) -> bool:
    """No connector reaches it, also if it is an IPv4 address in an IPv6 one's clothes."""
    if isinstance(address, str):
        parsed = literal(address)
        if parsed is None:
            return True
        address = parsed
    if isinstance(address, IPv6Address):
        if any(never(inner) for inner in _inside(address)):
            return True
    return any(address in network for network in NEVER)


def _inside(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that it may stand for."""
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address != LOOPBACK and any(address in network for network in _TRANSLATED):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
