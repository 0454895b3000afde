"""Limits at the door: who is calling (by address), how often, and how much they may send."""

import ipaddress
from collections.abc import Mapping, Sequence

from starlette.types import Receive

from dragoman.core.errors import TooLarge

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class CallerGone(Exception):
    """The caller hung up before its request was read."""


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses or networks of trusted proxies. Raises ValueError naming the bad one."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def caller_address(peer: str, headers: Mapping[str, str], trusted: Sequence[Network]) -> str:
    """The address limits go by: the peer, or what trusted proxies say of it.

    X-Forwarded-For is read from the right, past trusted proxies, to the first address that is not one of them; anything
    to the left of it was written by the caller and counts for nothing. An IPv6 address stands for its /64.
    """
    address = peer
    if trusted and trusts(peer, trusted):
        for hop in reversed(headers.get("x-forwarded-for", "").split(",")):
            hop = hop.strip()
            if _parse(hop) is None:
                break
            address = hop
            if not trusts(hop, trusted):
                break
    if ":" not in address:
        return address
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def trusts(address: str, trusted: Sequence[Network]) -> bool:
    """Whether the address is one of a trusted proxy."""
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in trusted)


def refuse_large(headers: Mapping[str, str], *, bytes_max: int) -> None:
    """Raises TooLarge if the announced length is over the limit: before anything of the body is read."""
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > bytes_max):
        raise too_large(bytes_max)


def too_large(bytes_max: int) -> TooLarge:
    return TooLarge(f"Request body too large (max {bytes_max} bytes)", bytes_max=bytes_max)


async def read_body(receive: Receive, *, bytes_max: int) -> bytes:
    """The whole body. Counts what arrives, so that a chunked upload cannot go past the limit. Raises TooLarge."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerGone
    body: bytes = message.get("body", b"")
    if len(body) > bytes_max:
        raise too_large(bytes_max)
    if not message.get("more_body", False):
        return body
    chunks = [body]
    size = len(body)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise too_large(bytes_max)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
