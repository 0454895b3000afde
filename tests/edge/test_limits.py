"""Who calls, and how much they may send."""

import asyncio
from typing import Any

import pytest

from dragoman.core.errors import TooLarge
from dragoman.edge.limits import CallerGone, caller_address, networks, read_body, refuse_large

TRUSTED = networks(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "1.2.3.4", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", "forged, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", None, "203.0.113.9"),
        ("::1", "2001:db8::1", "2001:db8::/64"),
        ("", None, ""),
    ],
)
def test_the_address_that_limits_go_by(peer: str, forwarded: str | None, address: str) -> None:
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    assert caller_address(peer, headers, TRUSTED) == address


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert caller_address("10.0.0.1", {"x-forwarded-for": "1.2.3.4"}, ()) == "10.0.0.1"


def receiver(*messages: dict[str, Any]) -> Any:
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    for message in messages:
        inbox.put_nowait(message)
    return inbox.get


def chunk(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize(
    ("announced", "refused"), [("10", False), ("11", True), ("9" * 40, True), ("x", False), ("", False), ("²", False)]
)
def test_an_announced_length_over_the_limit_is_refused_before_reading(announced: str, refused: bool) -> None:
    if not refused:
        refuse_large({"content-length": announced}, bytes_max=10)
        return
    with pytest.raises(TooLarge, match=r"Request body too large \(max 10 bytes\)"):
        refuse_large({"content-length": announced}, bytes_max=10)


async def test_a_body_at_the_limit_passes_in_any_number_of_chunks() -> None:
    assert await read_body(receiver(chunk(b"x" * 10, False)), bytes_max=10) == b"x" * 10
    chunks = [chunk(b"x", True)] * 9 + [chunk(b"x", False)]
    assert await read_body(receiver(*chunks), bytes_max=10) == b"x" * 10


async def test_chunks_cannot_get_past_the_limit() -> None:
    with pytest.raises(TooLarge):
        await read_body(receiver(chunk(b"x" * 6, True), chunk(b"x" * 5, True)), bytes_max=10)
    with pytest.raises(TooLarge):
        await read_body(receiver(chunk(b"x" * 11, False)), bytes_max=10)


async def test_a_caller_that_hangs_up_in_its_request_is_noticed() -> None:
    with pytest.raises(CallerGone):
        await read_body(receiver(chunk(b"x", True), {"type": "http.disconnect"}), bytes_max=10)
