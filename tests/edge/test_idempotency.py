"""Marks: which requests are the same one, and what an Idempotency-Key may be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.errors import BadRequest
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, Principal, ProjectId
from dragoman.core.operations import ListConversations, Mark, StartTurn
from dragoman.edge.idempotency import KEY_CHARS_MAX, NO_MARK, RETRY_WINDOW_S, key_of, mark_of
from dragoman.wire.dialect import Request

ANN = Principal(ProjectId("default"), "c_ann", "ann", frozenset())
BEN = Principal(ProjectId("default"), "c_ben", "ben", frozenset())
BODY = b'{"message":"hi","session_key":"k"}'


def request(**changes: Any) -> Request:
    given_: dict[str, Any] = {
        "method": "POST",
        "path": "/api/v1/chat",
        "params": {},
        "query": {},
        "headers": {},
        "body": BODY,
        "id": "abcdef012345",
        "nonce": "0" * 32,
        "at": 1_700_000_000.0,
    }
    return Request(**(given_ | changes))


def turn(**changes: Any) -> StartTurn:
    return StartTurn(ConversationId("k"), (said("user", "hi"),), **({"origin": "toy"} | changes))


def keyed(key: str = "abc", principal: Principal = ANN, **changes: Any) -> Mark:
    return mark_of(request(headers={"idempotency-key": key}, **changes), principal, turn())


def named(message_id: str = "m1", principal: Principal = ANN, operation: Any = None, **changes: Any) -> Mark:
    return mark_of(request(**changes), principal, operation or turn(message_id=message_id))


# -- without a key -----------------------------------------------------------------------------------------------------


def test_only_a_request_that_begins_a_turn_has_a_mark() -> None:
    assert mark_of(request(headers={"idempotency-key": ""}), ANN, ListConversations()) == NO_MARK


def test_every_turn_has_a_fingerprint_and_nothing_else_unless_it_asks_for_it() -> None:
    mark = mark_of(request(), ANN, turn())
    assert (len(mark.fingerprint), mark.key, mark.window_s) == (64, "", 0.0)


def test_a_fingerprint_tells_who_asks_where_and_what_apart() -> None:
    marks = [
        mark_of(request(), ANN, turn()),
        mark_of(request(), BEN, turn()),
        mark_of(request(path="/api/v1/chat/stream"), ANN, turn()),
        mark_of(request(method="PUT"), ANN, turn()),
        mark_of(request(body=BODY + b" "), ANN, turn()),
        mark_of(request(query={"a": "1"}), ANN, turn()),
        mark_of(request(query={"a": "2"}), ANN, turn()),
        named(),
    ]
    assert len({mark.fingerprint for mark in marks}) == len(marks)


def test_what_differs_from_try_to_try_is_no_part_of_the_fingerprint() -> None:
    again = request(id="x", nonce="1" * 32, at=0.0, headers={"x-request-id": "x", "x-stainless-retry-count": "1"})
    assert mark_of(again, ANN, turn()).fingerprint == mark_of(request(), ANN, turn()).fingerprint


def test_parts_cannot_run_together() -> None:
    split = [(b"", "/a"), (b"a", "/"), (b"/a", "")]
    assert len({mark_of(request(body=body, path=path), ANN, turn()).fingerprint for body, path in split}) == 3


@pytest.mark.parametrize(
    ("count", "window_s"),
    [
        ("1", RETRY_WINDOW_S),
        ("2", RETRY_WINDOW_S),
        ("02", RETRY_WINDOW_S),
        ("0", 0.0),
        ("", 0.0),
        ("-1", 0.0),
        ("1.0", 0.0),
        ("one", 0.0),
        ("٣", 0.0),
        ("9" * 5, 0.0),
    ],
)
def test_a_client_librarys_retry_is_looked_for_in_a_window(count: str, window_s: float) -> None:
    mark = mark_of(request(headers={"x-stainless-retry-count": count}), ANN, turn())
    assert mark.window_s == window_s


def test_with_a_key_no_window_is_needed() -> None:
    headers = {"idempotency-key": "abc", "x-stainless-retry-count": "1"}
    assert mark_of(request(headers=headers), ANN, turn()) == keyed()


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (r'"a\"b\\c"', 'a"b\\c'),
        ('"abc";v=1', "abc"),
        ("abc;v=1", "abc;v=1"),
        ('ab"c', 'ab"c'),
        ("a" * KEY_CHARS_MAX, "a" * KEY_CHARS_MAX),
        ('"' + "a" * KEY_CHARS_MAX + '"', "a" * KEY_CHARS_MAX),
        ("!", "!"),
        ("~", "~"),
    ],
)
def test_a_key_is_the_text_with_or_without_quotes(header: str, key: str) -> None:
    assert key_of(header) == key


@pytest.mark.parametrize(
    "header",
    [
        "",
        '""',
        '"',
        '"abc',
        '"abc" x',
        '"abc"x',
        '"a"b"',
        '"a\\b"',
        '"abc\\"',
        "a b",
        '"a b"',
        "abc, abc",
        '"abc", "abc"',
        "clé",
        '"clé"',
        "a\tb",
        "a\x7f",
        "a" * (KEY_CHARS_MAX + 1),
        '"' + "a" * (KEY_CHARS_MAX + 1) + '"',
    ],
)
def test_what_is_no_key_is_refused_and_not_read_as_another(header: str) -> None:
    with pytest.raises(BadRequest) as refused:
        keyed(header)
    assert refused.value.detail == (
        "Idempotency-Key must be 1 to 255 visible ASCII characters, with or without double quotes around them"
    )
    assert [fault.field for fault in refused.value.faults] == ["Idempotency-Key"]


@given(header=st.text(max_size=300))
def test_any_header_is_a_key_or_is_refused(header: str) -> None:
    try:
        key = key_of(header)
    except BadRequest:
        return
    assert 1 <= len(key) <= KEY_CHARS_MAX and all(33 <= ord(char) <= 126 for char in key)


@given(key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=KEY_CHARS_MAX))
def test_a_key_in_quotes_is_read_as_it_was_written(key: str) -> None:
    assert key_of('"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"') == key


def test_a_key_belongs_to_a_credential_a_method_and_a_path() -> None:
    marks = [
        keyed(),
        keyed("abd"),
        keyed(principal=BEN),
        keyed(path="/api/v1/chat/stream"),
        keyed(method="PUT"),
        named("abc"),
    ]
    assert len({mark.key for mark in marks}) == len(marks)


def test_the_same_key_with_another_body_or_query_is_the_same_key_and_another_request() -> None:
    first, body, query = keyed(), keyed(body=b"{}"), keyed(query={"a": "1"})
    assert first.key == body.key == query.key
    assert len({first.fingerprint, body.fingerprint, query.fingerprint}) == 3


def test_a_key_is_kept_as_a_hash() -> None:
    assert "abc" not in keyed().key and len(keyed().key) == 64


@pytest.mark.parametrize(
    ("body", "other"),
    [
        (BODY, b'{ "session_key" : "k",\n "message": "hi" }'),
        (b'{"a":{"x":[{"p":1,"q":2}],"y":0.10}}', b'{"a":{"y":0.1,"x":[{"q":2,"p":1}]}}'),
        (b'"caf\\u00e9"', '"café"'.encode()),
    ],
)
def test_json_that_says_the_same_is_the_same_request(body: bytes, other: bytes) -> None:
    assert keyed(body=body) == keyed(body=other)


@pytest.mark.parametrize(
    ("body", "other"),
    [
        (b"[1,2]", b"[2,1]"),
        (b'{"a":1}', b'{"a":"1"}'),
        (b'{"a":null}', b"{}"),
        (b"", b"null"),
        (b"\xff", b"\xfe"),
        (b'{"a":"\\ud800"}', b'{"a": "\\ud800"}'),
        (b"1e400", b"2e400"),
        (b"[" * 5000, b"[" * 5001),
        (b"9" * 5000, b"9" * 5001),
    ],
)
def test_what_says_something_else_or_is_no_json_is_another_request(body: bytes, other: bytes) -> None:
    assert keyed(body=body).fingerprint != keyed(body=other).fingerprint


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    )
)
def test_the_order_of_keys_and_the_blanks_between_them_never_matter(body: Any) -> None:
    assert keyed(body=json.dumps(body, indent=2).encode()) == keyed(body=json.dumps(body, sort_keys=True).encode())


@given(body=st.binary(max_size=60), path=st.text(max_size=20), query=st.dictionaries(st.text(), st.text(), max_size=2))
def test_no_request_is_without_a_mark(body: bytes, path: str, query: dict[str, str]) -> None:
    for headers in ({}, {"idempotency-key": "abc"}):
        mark = mark_of(request(body=body, path=path, query=query, headers=headers), ANN, turn())
        assert (len(mark.fingerprint), bool(mark.key)) == (64, bool(headers))


# -- message ids -------------------------------------------------------------------------------------------------------


def test_a_message_id_belongs_to_a_credential_and_a_dialect_wherever_it_is_sent() -> None:
    marks = [
        named(),
        named("m2"),
        named(principal=BEN),
        named(operation=turn(message_id="m1", origin="other")),
        keyed("m1"),
    ]
    assert len({mark.key for mark in marks}) == len(marks)
    assert named(path="/elsewhere", method="PUT") == named()


def test_what_wraps_a_message_may_change_and_the_message_may_not() -> None:
    assert named(body=b'{"jsonrpc":"2.0","id":1}') == named(body=b'{"jsonrpc":"2.0","id":2}')
    other = StartTurn(ConversationId("elsewhere"), (said("user", "hi"),), origin="toy", message_id="m1")
    assert named(operation=other) == named()
    changed = StartTurn(ConversationId("k"), (said("user", "ho"),), origin="toy", message_id="m1")
    assert (named(operation=changed).key, named(operation=changed).fingerprint == named().fingerprint) == (
        named().key,
        False,
    )


def test_a_message_that_no_store_takes_has_a_mark_all_the_same() -> None:
    half = StartTurn(ConversationId("k"), (said("user", "\ud800"),), message_id="\ud800")
    assert len(named(operation=half).key) == 64


def test_a_key_wins_over_a_message_id() -> None:
    both = mark_of(request(headers={"idempotency-key": "abc"}), ANN, turn(message_id="m1"))
    assert both == keyed()
