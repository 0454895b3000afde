"""The contract a dialect fills in, as far as it does something."""

import msgspec
import pytest

from dragoman.core.operations import ReadStatus, Status
from dragoman.wire.dialect import Dialect, Reply, Request, Route, Streamed, json_reply


def test_a_json_reply_is_compact_utf_8_without_a_charset() -> None:
    reply = json_reply({"text": "ключ", "n": [1, None]}, status=201, headers=(("retry-after", "1"),))
    assert reply == Reply(201, '{"text":"ключ","n":[1,null]}'.encode(), "application/json", (("retry-after", "1"),))


def test_a_json_reply_of_a_struct_keeps_the_order_of_its_fields() -> None:
    class Pair(msgspec.Struct):
        second: int
        first: int

    assert json_reply(Pair(2, 1)).body == b'{"second":2,"first":1}'


def test_a_route_counts_and_asks_for_a_credential_unless_it_says_otherwise() -> None:
    def answer(status: Status, request: Request) -> Reply:
        return Reply(200)

    route = Route("GET", "/x", lambda request: ReadStatus(), answer=answer)
    assert (route.counted, route.open, route.scopes) == (True, False, ())
    assert (route.accept, route.collect, route.stream) == (None, None, None)


@pytest.mark.parametrize("shape", [Request, Reply, Route, Streamed, Dialect])
def test_what_a_dialect_says_cannot_be_changed_afterwards(shape: type[msgspec.Struct]) -> None:
    assert shape.__struct_config__.frozen
