"""Grip's requests: what becomes of good ones, and every row about bad ones."""

import json
from typing import Any

import pytest

from dragoman.core.errors import BadRequest, DragomanError, FieldFault, NotAuthenticated, NotFound, NotOffered
from dragoman.core.messages import said
from dragoman.core.names import ConversationId
from dragoman.core.operations import (
    CallTool,
    DeleteConversation,
    ListConversations,
    ListTools,
    ReadConversation,
    ReadStatus,
    StartTurn,
)
from dragoman.dialects.grip import decode
from dragoman.wire.dialect import Request

NONCE = "0123456789abcdef0123456789abcdef"
MISSING_BODY = FieldFault("", "Field required", "missing")
NO_OBJECT = FieldFault(
    "", "Input should be a valid dictionary or object to extract fields from", "model_attributes_type"
)
NO_OBJECT_SENTENCE = "the body must be a JSON object, sent as application/json"
BAD_KEY = FieldFault("session_key", r"Value error, session_key must match ^[\w:.@-]+$", "value_error")


def request(
    body: Any = None,
    *,
    raw: bytes | None = None,
    content_type: str | None = "application/json",
    params: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
) -> Request:
    return Request(
        method="POST",
        path="/",
        params=params or {},
        query=query or {},
        headers={} if content_type is None else {"content-type": content_type},
        body=json.dumps(body).encode() if raw is None else raw,
        id="abcdef012345",
        nonce=NONCE,
        at=1_700_000_000.0,
    )


def refused(decoder: Any, asked: Request) -> tuple[str, tuple[FieldFault, ...]]:
    with pytest.raises(BadRequest) as caught:
        decoder(asked)
    return caught.value.detail, caught.value.faults


def turn(message: str, key: str, *, model: str = "", deltas: bool = False) -> StartTurn:
    return StartTurn(ConversationId(key), (said("user", message),), model=model, deltas=deltas, origin="grip")


# -- chat ----------------------------------------------------------------------------------------------------------


def test_a_message_with_key_and_model_starts_a_turn_in_that_session() -> None:
    asked = request({"message": "hi", "session_key": "s1", "model": "gpt-4"})
    assert decode.chat(asked) == turn("hi", "s1", model="gpt-4")


def test_the_stream_takes_the_same_body_and_asks_for_deltas() -> None:
    asked = request({"message": "hi", "session_key": "s1", "model": "gpt-4"})
    assert decode.chat_stream(asked) == turn("hi", "s1", model="gpt-4", deltas=True)


@pytest.mark.parametrize("body", [{"message": "hi"}, {"message": "hi", "session_key": None, "model": None}])
def test_without_a_key_the_session_is_named_api_and_twelve_hex_digits(body: dict[str, Any]) -> None:
    assert decode.chat(request(body)) == turn("hi", "api:0123456789ab")


def test_an_empty_model_means_the_default_one() -> None:
    assert decode.chat(request({"message": "hi", "session_key": "s", "model": ""})) == turn("hi", "s")


@pytest.mark.parametrize("message", [" ", "\n\t", "\0\x01", 'quotes " and \\', "\U0001f600 é"])
def test_any_text_of_at_least_one_character_is_a_message(message: str) -> None:
    assert decode.chat(request({"message": message, "session_key": "s"})) == turn(message, "s")


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "user:alice:project-planning",
        "user_bob",
        "user@bob",
        "..",
        "ключ",
        "日本",
        "é" * 128,
        "a-b.c@d:e_f",
        "9" * 128,
    ],
)
def test_a_key_of_word_characters_and_four_signs_is_taken_as_it_is(key: str) -> None:
    assert decode.chat(request({"message": "hi", "session_key": key})).conversation == key


def test_of_repeated_keys_in_a_body_the_last_counts() -> None:
    raw = b'{"message":1,"message":"hi","session_key":"s"}'
    assert decode.chat(request(raw=raw)) == turn("hi", "s")


def test_the_length_of_a_message_counts_characters_not_bytes() -> None:
    longest = "é" * 100_000
    assert decode.chat(request({"message": longest, "session_key": "s"})) == turn(longest, "s")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;x=y",
        "application/problem+json",
        " application/json ",
    ],
)
def test_a_json_content_type_may_have_parameters_or_a_suffix(content_type: str) -> None:
    asked = request({"message": "hi", "session_key": "s"}, content_type=content_type)
    assert decode.chat(asked) == turn("hi", "s")


# -- chat refused ----------------------------------------------------------------------------------------------------

ROWS: list[tuple[str, Any, str, FieldFault]] = [
    ("missing", {}, "message is required", FieldFault("message", "Field required", "missing")),
    (
        "empty",
        {"message": ""},
        "message must have at least 1 character",
        FieldFault("message", "String should have at least 1 character", "string_too_short"),
    ),
    *(
        (
            f"not a string: {value}",
            {"message": value},
            "message must be a string",
            FieldFault("message", "Input should be a valid string", "string_type"),
        )
        for value in (7, None, True, ["hi"], {"text": "hi"})
    ),
    (
        "too long",
        {"message": "é" * 100_001},
        "message must have at most 100000 characters",
        FieldFault("message", "String should have at most 100000 characters", "string_too_long"),
    ),
    (
        "lone surrogate",
        {"message": "a\ud800"},
        "message must not hold a lone surrogate",
        FieldFault(
            "message",
            "Input should be a valid string, unable to parse raw data as a unicode string",
            "string_unicode",
        ),
    ),
    (
        "unknown field",
        {"message": "hi", "zzz": 1},
        "zzz is not a field of this request",
        FieldFault("zzz", "Extra inputs are not permitted", "extra_forbidden"),
    ),
    *(
        (f"bad key: {key!r}", {"message": "hi", "session_key": key}, r"session_key must match ^[\w:.@-]+$", BAD_KEY)
        for key in ("", "a b", "a/b", "abc\n", "\n", "a\0", "a+b", "user#1", "😀")
    ),
    (
        "long key",
        {"message": "hi", "session_key": "a" * 129},
        "session_key must have at most 128 characters",
        FieldFault("session_key", "String should have at most 128 characters", "string_too_long"),
    ),
    (
        "long and bad key",
        {"message": "hi", "session_key": " " * 129},
        "session_key must have at most 128 characters",
        FieldFault("session_key", "String should have at most 128 characters", "string_too_long"),
    ),
    (
        "key is a number",
        {"message": "hi", "session_key": 7},
        "session_key must be a string",
        FieldFault("session_key", "Input should be a valid string", "string_type"),
    ),
    (
        "long model",
        {"message": "hi", "model": "m" * 257},
        "model must have at most 256 characters",
        FieldFault("model", "String should have at most 256 characters", "string_too_long"),
    ),
    ("array", [], NO_OBJECT_SENTENCE, NO_OBJECT),
    ("string", "hi", NO_OBJECT_SENTENCE, NO_OBJECT),
    ("null", None, NO_OBJECT_SENTENCE, NO_OBJECT),
]


@pytest.mark.parametrize(("body", "detail", "row"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_each_fault_has_grips_own_row_under_a_sentence(body: Any, detail: str, row: FieldFault) -> None:
    assert refused(decode.chat, request(body)) == (detail, (row,))
    assert refused(decode.chat_stream, request(body)) == (detail, (row,))


def test_several_faults_are_all_listed_declared_fields_first() -> None:
    detail, rows = refused(decode.chat, request({"zzz": 1, "model": 5, "message": "", "session_key": "a b", "yyy": 2}))
    assert detail == (
        "message must have at least 1 character; session_key must match ^[\\w:.@-]+$; model must be a string; "
        "zzz is not a field of this request; yyy is not a field of this request"
    )
    assert rows == (
        FieldFault("message", "String should have at least 1 character", "string_too_short"),
        BAD_KEY,
        FieldFault("model", "Input should be a valid string", "string_type"),
        FieldFault("zzz", "Extra inputs are not permitted", "extra_forbidden"),
        FieldFault("yyy", "Extra inputs are not permitted", "extra_forbidden"),
    )


def test_a_sentence_names_a_handful_of_faults_and_counts_the_rest() -> None:
    detail, rows = refused(decode.chat, request({"message": "hi"} | {f"x{at}": at for at in range(9)}))
    named = "; ".join(f"x{at} is not a field of this request" for at in range(5))
    assert detail == f"{named}; and 4 more"
    assert len(rows) == 9


def test_lone_surrogates_in_several_places_are_told_field_by_field() -> None:
    raw = rb'{"message":"\ud800","session_key":"\udc00","zzz":"\ud800"}'
    _, rows = refused(decode.chat, request(raw=raw))
    sentence = "Input should be a valid string, unable to parse raw data as a unicode string"
    assert rows == (
        FieldFault("message", sentence, "string_unicode"),
        FieldFault("session_key", sentence, "string_unicode"),
        FieldFault("zzz", "Extra inputs are not permitted", "extra_forbidden"),
    )


@pytest.mark.parametrize("rest", [b"", rb',"message":"\udc00","zzz":1', b',"session_key":"a b"'])
def test_a_lone_surrogate_in_the_name_of_a_field_makes_the_whole_body_bad(rest: bytes) -> None:
    sentence = "Input should be a valid string, unable to parse raw data as a unicode string"
    row = FieldFault("", sentence, "string_unicode")
    asked = request(raw=rb'{"\ud800":1' + rest + b"}")
    assert refused(decode.chat, asked) == ("the body must not hold a lone surrogate", (row,))


def test_an_unknown_field_without_a_name_is_told_as_such() -> None:
    row = FieldFault("", "Extra inputs are not permitted", "extra_forbidden")
    asked = request({"message": "hi", "": 1})
    assert refused(decode.chat, asked) == ("an empty name is not a field of this request", (row,))


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", None]
)
def test_a_body_of_another_content_type_is_no_object(content_type: str | None) -> None:
    asked = request({"message": "hi"}, content_type=content_type)
    assert refused(decode.chat, asked) == (NO_OBJECT_SENTENCE, (NO_OBJECT,))


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
def test_an_empty_body_is_a_missing_one(content_type: str | None) -> None:
    asked = request(raw=b"", content_type=content_type)
    assert refused(decode.chat, asked) == ("the body is required", (MISSING_BODY,))


def test_bad_json_is_told_with_its_offset_as_the_field() -> None:
    asked = request(raw=b'{"message":')
    row = FieldFault("11", "JSON decode error", "json_invalid")
    assert refused(decode.chat, asked) == ("The body is not valid JSON (byte 11).", (row,))


@pytest.mark.parametrize("raw", [b'{"message":"\xff"}', b"\x1f\x8b\x08\x00\x00"])
def test_a_body_that_is_no_text_gets_the_released_servers_sentence_and_no_rows(raw: bytes) -> None:
    assert refused(decode.chat, request(raw=raw)) == ("There was an error parsing the body", ())


def test_a_body_too_deep_to_read_is_refused_as_a_whole() -> None:
    detail, rows = refused(decode.chat, request(raw=b'{"message":' + b"[" * 5000))
    assert detail == "The body is nested deeper than 64 levels."
    assert [(row.field, row.type) for row in rows] == [("", "too_deep")]


# -- credential ------------------------------------------------------------------------------------------------------


def test_the_credential_is_what_follows_bearer_and_one_space() -> None:
    assert decode.credential({"authorization": "Bearer drg_abc.def"}) == "drg_abc.def"


@pytest.mark.parametrize("blanks", [" ", "\t", " \t  "])
def test_blanks_after_the_credential_are_no_part_of_it(blanks: str) -> None:
    assert decode.credential({"authorization": f"Bearer abc{blanks}"}) == "abc"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer \t ",
        "bearer abc",
        "BEARER abc",
        "Bearer  abc",
        "Bearer\tabc",
        "Basic abc",
        "abc",
        "Bearer é",
        " Bearer abc",
    ],
)
def test_any_other_header_proves_nobody(header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    with pytest.raises(NotAuthenticated) as caught:
        decode.credential(headers)
    assert caught.value.detail == "Authentication required"


def test_a_credential_in_the_query_is_not_looked_for() -> None:
    with pytest.raises(NotAuthenticated):
        decode.credential({"x-query": "token=abc"})


# -- sessions --------------------------------------------------------------------------------------------------------


def test_all_sessions_are_listed_without_paging() -> None:
    assert decode.sessions(request()) == ListConversations()


@pytest.mark.parametrize("key", ["my-session", "user:alice", "ключ", "a/b c", "é" * 128])
def test_the_key_of_a_path_names_the_session_whatever_its_letters(key: str) -> None:
    asked = request(params={"key": key})
    assert decode.session(asked) == ReadConversation(ConversationId(key), turns=False)
    assert decode.session_messages(asked) == ReadConversation(ConversationId(key))
    assert decode.delete_session(asked) == DeleteConversation(ConversationId(key))


@pytest.mark.parametrize("key", ["", "a" * 129, "a\0b", "a\ud800"])
def test_a_key_that_no_session_can_have_is_not_found(key: str) -> None:
    for decoder in (decode.session, decode.session_messages, decode.delete_session):
        with pytest.raises(NotFound) as caught:
            decoder(request(params={"key": key}))
        assert (caught.value.detail, caught.value.what) == ("Session not found", "conversation")


# -- tools and status ------------------------------------------------------------------------------------------------


def test_the_tools_of_the_default_agent_are_listed() -> None:
    assert decode.tools(request()) == ListTools()


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ({}, "{}"),
        ({"parameters": {}}, "{}"),
        ({"parameters": {"path": ".", "n": 1.5}, "more": 1}, '{"path":".","n":1.5}'),
        ({"parameters": {"n": 10**40}}, '{"n":10000000000000000000000000000000000000000}'),
    ],
)
def test_a_tool_is_called_with_its_parameters_and_other_fields_are_ignored(body: Any, arguments: str) -> None:
    asked = request(body, params={"name": "list_files"})
    assert decode.execute_tool(asked) == CallTool("list_files", arguments)


@pytest.mark.parametrize("parameters", [None, [], "x", 1])
def test_parameters_that_are_no_object_are_refused(parameters: Any) -> None:
    asked = request({"parameters": parameters}, params={"name": "list_files"})
    row = FieldFault("parameters", "Input should be a valid dictionary", "dict_type")
    assert refused(decode.execute_tool, asked) == ("parameters must be an object", (row,))


def test_a_tool_call_without_a_body_is_refused() -> None:
    asked = request(raw=b"", params={"name": "list_files"})
    assert refused(decode.execute_tool, asked) == ("the body is required", (MISSING_BODY,))


def test_health_asks_the_store_nothing_and_status_does() -> None:
    assert decode.health(request()) == ReadStatus(counted=False)
    assert decode.status(request()) == ReadStatus()


# -- not offered -----------------------------------------------------------------------------------------------------


def error_of(decoder: Any, asked: Request) -> DragomanError:
    with pytest.raises(DragomanError) as caught:
        decoder(asked)
    return caught.value


def test_a_route_that_is_not_offered_says_its_sentence() -> None:
    error = error_of(decode.not_offered("Not here; look there."), request())
    assert (type(error), error.detail) == (NotOffered, "Not here; look there.")


def test_a_memory_search_without_a_query_is_a_missing_field() -> None:
    row = FieldFault("query -> q", "Field required", "missing")
    assert refused(decode.search_memory, request()) == ("q is required", (row,))


@pytest.mark.parametrize("query", ["", "q" * 501])
def test_a_memory_search_takes_one_to_five_hundred_characters(query: str) -> None:
    assert refused(decode.search_memory, request(query={"q": query})) == ("Query must be 1-500 characters", ())


@pytest.mark.parametrize("query", ["q", "é" * 500])
def test_a_memory_search_that_is_well_asked_is_declined(query: str) -> None:
    error = error_of(decode.search_memory, request(query={"q": query}))
    assert type(error) is NotOffered


def test_unknown_fields_are_told_up_to_a_bound() -> None:
    _, rows = refused(decode.chat, request({"message": "hi"} | {f"{'x' * 300}{n}": n for n in range(101)}))
    assert [len(row.field) for row in rows] == [200] * 100
