"""One request on its way: its headers and query as we read them, and what stands on its answer."""

from typing import Any

import pytest

from dragoman.core.errors import BadRequest
from dragoman.edge.exchange import QUERY_FIELDS_MAX, Exchange, headers_of, query_of
from dragoman.wire.dialect import Reply


def scope(*headers: tuple[bytes, bytes], query: bytes = b"") -> Any:
    return {"method": "GET", "path": "/x", "headers": list(headers), "query_string": query}


def test_repeated_headers_are_joined_but_for_those_that_mean_one_thing() -> None:
    raw = [(b"x-forwarded-for", b"1.1.1.1"), (b"authorization", b"Bearer a \t"), (b"authorization", b"Bearer b")]
    read = headers_of(scope(*raw, (b"x-forwarded-for", b" 2.2.2.2")))
    assert read == {"x-forwarded-for": "1.1.1.1, 2.2.2.2", "authorization": "Bearer a"}


@pytest.mark.parametrize(
    ("query", "read"),
    [
        (b"", {}),
        (b"a=1&b=%C3%A9+x&a=2&c=", {"a": "2", "b": "é x", "c": ""}),
        (b"&".join([b"a=1"] * QUERY_FIELDS_MAX), {"a": "1"}),
    ],
)
def test_a_query_is_read_and_of_repeated_fields_the_last(query: bytes, read: dict[str, str]) -> None:
    assert query_of(scope(query=query)) == read


def test_a_query_of_too_many_fields_is_refused() -> None:
    with pytest.raises(BadRequest, match="more than 100 fields"):
        query_of(scope(query=b"&".join([b"a=1"] * (QUERY_FIELDS_MAX + 1))))


async def test_what_a_reply_says_itself_stands_in_the_place_of_what_every_answer_says() -> None:
    exchange = Exchange(scope(), "0" * 32 + "abcdef012345", base="", path="/x")
    exchange.cors = [(b"access-control-allow-origin", b"*"), (b"vary", b"origin")]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await exchange.reply(Reply(200, b"{}", headers=(("cache-control", "max-age=5"), ("vary", "accept"))), send)
    start, body = sent
    names = [name for name, _ in start["headers"]]
    headers = dict(start["headers"])
    assert len(set(names)) == len(names)
    assert (headers[b"cache-control"], headers[b"vary"], headers[b"x-request-id"]) == (
        b"max-age=5",
        b"accept",
        b"abcdef012345",
    )
    assert (headers[b"access-control-allow-origin"], headers[b"content-length"], body["body"]) == (b"*", b"2", b"{}")
    assert exchange.status == 200
