"""Addresses that nothing is sent to on a project's word: each range at both its ends, in whatever clothes."""

from ipaddress import ip_address

import pytest

from dragoman.tools.special_ranges import denied

DENIED_V4 = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("168.63.129.16", "168.63.129.16"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "255.255.255.255"),
]
DENIED_V6 = [
    ("::", "::ffff:ffff"),
    ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
    ("100::", "100::ffff:ffff:ffff:ffff"),
    ("2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
]


@pytest.mark.parametrize(("first", "last"), DENIED_V4 + DENIED_V6)
def test_a_range_is_denied_from_its_first_address_to_its_last(first: str, last: str):
    assert denied(first) and denied(last)
    assert denied(ip_address(first)) and denied(ip_address(last))


@pytest.mark.parametrize(
    "address",
    [
        *("1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
        *("168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0"),
        *("192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0"),
        *("198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0"),
        *("223.255.255.255", "8.8.8.8", "2606:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001::1"),
        *("2001:200::", "2001:db7:ffff::", "2001:db9::", "3ffe:ffff::", "3fff:1000::", "5eff::", "5f01::", "fbff::"),
    ],
)
def test_what_stands_beside_a_range_is_not(address: str):
    assert not denied(address)


CLOTHES = {
    "mapped": "::ffff:{v4}",
    "NAT64": "64:ff9b::{v4}",
    "6to4": "2002:{hex}::1",
    "Teredo, its server": "2001:0:{hex}:0:0:f7f7:f7f7",
    "Teredo, who is behind it": "2001:0:808:808:0:0:{inverted}",
}


def dressed(form: str, v4: str) -> str:
    number = int(ip_address(v4))
    pair = f"{number >> 16:x}:{number & 0xFFFF:x}"
    inverted = f"{(number >> 16) ^ 0xFFFF:x}:{(number & 0xFFFF) ^ 0xFFFF:x}"
    return form.format(v4=v4, hex=pair, inverted=inverted)


@pytest.mark.parametrize("form", CLOTHES.values(), ids=CLOTHES)
@pytest.mark.parametrize("v4", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.100.100.200"])
def test_an_address_in_the_clothes_of_another_is_judged_by_what_it_is(form: str, v4: str):
    assert denied(dressed(form, v4))


@pytest.mark.parametrize("form", CLOTHES.values(), ids=CLOTHES)
def test_a_public_one_in_such_clothes_stays_public(form: str):
    assert not denied(dressed(form, "8.8.4.4"))


@pytest.mark.parametrize("address", ["::ffff:7f00:1", "0:0:0:0:0:ffff:a9fe:a9fe", "fe80::1%eth0", "::1%lo", "::7f00:1"])
def test_spellings_make_no_difference(address: str):
    assert denied(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "8.8.8.8/32", "010.8.8.8"])
def test_what_is_no_address_is_denied(text: str):
    assert denied(text)
