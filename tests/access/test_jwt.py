"""Tokens that are signed here: RFC 7515's own example, and whatever somebody may try."""

import base64
import hmac
import json

import jwt as pyjwt
import pytest

from dragoman.access.jwt import REFUSED, SKEW_S, TEXT_CHARS_MAX, sign, verify
from dragoman.core.errors import NotAuthenticated

SECRET = "5f0c9b1d7a3e48f6a2c4d8e0917b3c5d5f0c9b1d7a3e48f6a2c4d8e0917b3c5d"
NOW = 1_700_000_000.0

A1_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
A1_SIGNED = (
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
    ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
)
A1_MAC = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
"""RFC 7515, appendix A.1. Its key is no text, so it is handed to the library past us."""


def coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def made(header: object, claims: object, *, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token with any header, signed by other code than ours."""
    signed = f"{coded(json.dumps(header).encode())}.{coded(json.dumps(claims).encode())}"
    return f"{signed}.{coded(hmac.new(secret.encode(), signed.encode(), digest).digest())}"


HS256 = {"alg": "HS256", "typ": "JWT"}


def test_the_example_of_rfc_7515_is_read(monkeypatch: pytest.MonkeyPatch):
    key = base64.urlsafe_b64decode(A1_KEY + "==")
    decode = pyjwt.decode
    monkeypatch.setattr(pyjwt, "decode", lambda text, _, **given: decode(text, key, **given))
    claims = verify(f"{A1_SIGNED}.{A1_MAC}", "x", now=1_300_819_380.0 - 1)
    assert claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}


def test_what_others_sign_is_understood_and_what_we_sign_others_understand():
    assert verify(made(HS256, {"a": [1, "ü", None]}), SECRET, now=NOW) == {"a": [1, "ü", None]}
    assert sign({"userId": "u1", "n": 2}, SECRET) == made_compact({"userId": "u1", "n": 2})


def made_compact(claims: object) -> str:
    signed = ".".join(coded(json.dumps(part, separators=(",", ":")).encode()) for part in (HS256, claims))
    return f"{signed}.{coded(hmac.new(SECRET.encode(), signed.encode(), 'sha256').digest())}"


def refused(text: str, *, secret: str = SECRET, now: float = NOW) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        verify(text, secret, now=now)
    assert caught.value.detail == REFUSED  # says never which part was wrong


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "nOnE"},
        {"alg": ""},
        {"alg": None},
        {},
        {"typ": "JWT"},
        {"alg": ["HS256"]},
        {"alg": "hs256"},
        {"alg": "HS512"},
        {"alg": "RS256"},
        {"alg": "ES256"},
        {"alg": "HS256 "},
        ["HS256"],
        "HS256",
        None,
    ],
)
def test_no_other_algorithm_can_be_asked_for_even_with_the_right_mac(header: object):
    refused(made(header, {"a": 1}))


def test_a_token_without_a_signature_is_none():
    signed = made({"alg": "none"}, {"a": 1}).rpartition(".")[0]
    for text in (signed, f"{signed}.", f"{signed}.{coded(b'')}", made(HS256, {"a": 1}).rpartition(".")[0] + "."):
        refused(text)


def test_another_hash_under_our_name_is_none():
    for digest in ("sha384", "sha512", "sha1"):
        refused(made(HS256, {"a": 1}, digest=digest))


def test_another_secret_proves_nothing_nor_does_an_empty_one():
    refused(made(HS256, {"a": 1}, secret=SECRET[::-1]))
    refused(made(HS256, {"a": 1}, secret=""), secret="")


def test_no_letter_of_it_can_be_changed():
    text = made(HS256, {"userId": "u1", "exp": NOW + 100})
    for place, letter in enumerate(text):
        for other in "A.~":
            if other != letter:
                changed = text[:place] + other + text[place + 1 :]
                if place == len(text) - 1 and other != "." and _same_bytes(text, changed):
                    continue  # the last letter of a MAC holds two bits that mean nothing
                refused(changed)


def _same_bytes(one: str, other: str) -> bool:
    try:
        return base64.urlsafe_b64decode(one.rpartition(".")[2] + "=") == base64.urlsafe_b64decode(
            other.rpartition(".")[2] + "="
        )
    except ValueError:
        return False


@pytest.mark.parametrize(
    "text", ["", ".", "..", "...", "a.b", "a.b.c.d", "ü.ü.ü", "a b.c.d", "\x00.\x00.\x00", "=.=.=", "💥"]
)
def test_what_is_no_token_is_refused(text: str):
    refused(text)


@pytest.mark.parametrize("claims", [[], "x", 1, None, True])
def test_claims_are_an_object(claims: object):
    refused(made(HS256, claims))


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"exp": NOW + 1}, True),
        ({"exp": NOW}, True),
        ({"exp": NOW - SKEW_S + 0.5}, True),
        ({"exp": NOW - SKEW_S}, False),
        ({"exp": NOW - SKEW_S - 1}, False),
        ({"exp": 0}, False),
        ({"exp": str(NOW + 1)}, False),
        ({"exp": True}, False),
        ({"exp": [NOW + 1]}, False),
        ({"exp": None}, True),
        ({"nbf": NOW}, True),
        ({"nbf": NOW + SKEW_S - 0.5}, True),
        ({"nbf": NOW + SKEW_S}, False),
        ({"nbf": "0"}, False),
        ({"exp": NOW + 1, "nbf": NOW - 1}, True),
    ],
)
def test_it_is_good_for_as_long_as_it_says(claims: dict[str, object], good: bool):
    text = made(HS256, claims)
    if good:
        assert verify(text, SECRET, now=NOW) == claims
    else:
        refused(text)


def test_it_may_be_so_long_and_no_longer():
    def of_length(chars: int) -> str:
        for filling in range(chars):
            text = sign({"a": "x" * filling}, SECRET)
            if len(text) >= chars:
                return text
        raise AssertionError("no such length")

    most = of_length(TEXT_CHARS_MAX)
    assert len(most) == TEXT_CHARS_MAX
    verify(most, SECRET, now=NOW)
    refused(of_length(TEXT_CHARS_MAX + 1))


def test_claims_that_go_too_deep_are_refused():
    signed = f"{coded(json.dumps(HS256).encode())}.{coded(b'[' * 4000 + b']' * 1000)}"
    refused(f"{signed}.{coded(hmac.new(SECRET.encode(), signed.encode(), 'sha256').digest())}")
