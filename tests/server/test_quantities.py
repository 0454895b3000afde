"""Durations and addresses as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.server.quantities import DURATION_S_MAX, Address, parse_address, parse_duration, show_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("5s", 5.0),
        (" 10m ", 600.0),
        ("12h", 43_200.0),
        ("90d", 7_776_000.0),
        ("1.5h", 5400.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_a_number_with_its_unit(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 s", "s", "-5s", "5w", "1h30m", "1e3s", "٥s", "5s\n5s", "999999999d"])
def test_anything_else_is_refused_with_examples(text: str):
    with pytest.raises(ValueError) as caught:
        parse_duration(text)
    assert str(caught.value) == (
        f'"{text}" is not a duration; write a number with its unit: 500ms, 5s, 10m, 12h or 90d'
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "500ms"), (5.0, "5s"), (600.0, "10m"), (90.0, "90s"), (86_400.0, "1d"), (1.5, "1.5s"), (0.0, "0ms")],
)
def test_a_duration_is_shown_as_short_as_it_goes(seconds: float, text: str):
    assert show_duration(seconds) == text


@given(st.integers(0, 10_000_000).map(lambda millis: millis / 1000))
def test_what_is_shown_reads_back(seconds: float):
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds, rel=1e-5, abs=1e-9)
    assert seconds < DURATION_S_MAX


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080), True),
        ("localhost:0", Address("localhost", 0), True),
        ("[::1]:80", Address("::1", 80), True),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535), False),
        ("[::]:1", Address("::", 1), False),
        ("dragoman.internal:8080", Address("dragoman.internal", 8080), False),
        ("127.1.2.3:1", Address("127.1.2.3", 1), True),
    ],
)
def test_an_address_is_read_shown_and_known_as_loopback(text: str, address: Address, loopback: bool):
    assert parse_address(text) == address
    assert str(address) == text
    assert address.loopback is loopback


@pytest.mark.parametrize(
    "text",
    ["", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "::1:80", "h:65536", "h:-1", "h:8o", "a b:1", "[h]:1", "h/x:1"],
)
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(ValueError) as caught:
        parse_address(text)
    assert str(caught.value) == f'"{text}" is not an address; write HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080'
