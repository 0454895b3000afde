"""What browsers are told of pages from elsewhere."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core.errors import DragomanError
from dragoman.edge.cors import OPEN_TO_ALL, Cors, options, preflight
from dragoman.wire.dialect import Dialect, Reply, Request

PAGE = "https://app.example.com"


def dialect(*cors: str) -> Dialect:
    def credential(headers: Mapping[str, str]) -> str:
        return ""

    def fail(error: DragomanError, request: Request | None) -> Reply:
        return Reply(500)

    return Dialect("toy", "A toy", ("/",), (), credential, fail, cors=cors)


@pytest.mark.parametrize(
    ("configured", "own", "origin", "told"),
    [
        ((), (), PAGE, None),
        ((PAGE,), (), PAGE, PAGE),
        ((), (PAGE,), PAGE, PAGE),
        (("*",), (), PAGE, "*"),
        ((), ("*",), PAGE, "*"),
        ((PAGE,), ("*",), "null", "*"),
        ((PAGE,), (), "https://app.example.com.evil.example", None),
        ((PAGE,), (), "http://app.example.com", None),
        ((PAGE,), (), "null", None),
        ((PAGE,), (), "", None),
        ((PAGE,), (), None, None),
        (("*",), (), None, None),
    ],
)
def test_a_page_is_told_that_it_may_if_it_may(
    configured: tuple[str, ...], own: tuple[str, ...], origin: str | None, told: str | None
) -> None:
    asked = {} if origin is None else {"origin": origin}
    headers = dict(Cors(configured).headers(dialect(*own), asked))
    assert headers.get(b"access-control-allow-origin") == (None if told is None else told.encode())
    assert (b"vary" in headers) == (told not in (None, "*"))  # else a cache would hand one page's answer to another
    assert (b"access-control-expose-headers" in headers) == (told is not None)
    assert b"access-control-allow-credentials" not in headers


def test_what_belongs_to_no_dialect_is_for_no_page() -> None:
    assert Cors(("*",)).headers(None, {"origin": PAGE}) == []


ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, content-type"}


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, "authorization, content-type"),
        ({"access-control-request-headers": ""}, None),
        ({"access-control-request-headers": "x-a\r\nset-cookie: b"}, None),
        ({"access-control-request-headers": "x" * 1025}, None),
        ({"access-control-request-headers": "x-é"}, None),
    ],
)
def test_a_browser_that_asks_first_is_told_what_it_may_send(changes: dict[str, str], allowed: str | None) -> None:
    reply = preflight(ASKS | changes, ("GET", "POST"))
    assert reply is not None
    headers: dict[str, Any] = dict(reply.headers)
    assert (reply.status, reply.body, reply.media_type) == (204, b"", "")
    assert headers["access-control-allow-methods"] == "GET, POST"
    assert headers["access-control-max-age"] == "600"
    assert headers.get("access-control-allow-headers") == allowed


def test_an_options_request_that_is_no_such_question_is_not_answered() -> None:
    assert preflight({"origin": PAGE}, ("GET",)) is None


def test_what_is_open_to_all_says_so() -> None:
    assert OPEN_TO_ALL[0] == (b"access-control-allow-origin", b"*")


@pytest.mark.parametrize("asked", [{}, {"origin": PAGE}])
def test_a_wire_may_tell_every_caller_the_same_whoever_was_allowed(asked: dict[str, str]) -> None:
    wire = replace(
        dialect(), cors_headers=(("access-control-allow-origin", "*"), ("access-control-allow-methods", "GET"))
    )
    told = Cors((PAGE,)).headers(wire, asked)
    assert told[:2] == [(b"access-control-allow-origin", b"*"), (b"access-control-allow-methods", b"GET")]
    assert [name for name, _ in told[2:]] == ([b"access-control-expose-headers"] if asked else [])
    reply = options(wire)
    assert reply is not None and (reply.status, reply.body, reply.media_type) == (200, b"{}", "application/json")


def test_other_wires_answer_options_only_to_pages_that_ask_first() -> None:
    assert options(dialect("*")) is options(None) is None
