"""JSON -> values and structs, and the one error for all that can be wrong."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from dragoman.core.errors import BadRequest, FieldFault
from dragoman.wire import structs
from dragoman.wire.structs import DEPTH_MAX, VALUES_MAX


class Line(Struct):
    role: Literal["user", "assistant"]
    text: str


class Page(Struct):
    lines: list[Line]
    title: str = ""


def fault_of(body: bytes) -> tuple[str, FieldFault]:
    with pytest.raises(BadRequest) as caught:
        structs.parse(body)
    (fault,) = caught.value.faults
    return caught.value.detail, fault


def invalid_at(offset: int) -> tuple[str, FieldFault]:
    return (
        f"The body is not valid JSON (byte {offset}).",
        FieldFault(str(offset), "JSON decode error", "json_invalid"),
    )


def refusal(detail: str, kind: str, field: str = "") -> tuple[str, FieldFault]:
    return detail, FieldFault(field, detail, kind)


OUT_OF_RANGE = refusal("The body holds a number that is out of range.", "number_out_of_range")
TOO_DEEP = refusal(f"The body is nested deeper than {DEPTH_MAX} levels.", "too_deep")
TOO_MANY = refusal(f"The body has more than {VALUES_MAX} values.", "too_many_values")
NOT_UTF8 = refusal("The body is not valid UTF-8.", "not_utf8")


def lone_surrogate(field: str) -> tuple[str, FieldFault]:
    return refusal("The body holds a lone surrogate, which is no character.", "lone_surrogate", field)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)


@given(value=values)
def test_what_another_json_writer_wrote_is_read_back(value: Any) -> None:
    assert structs.parse(json.dumps(value).encode()) == value


@given(body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_value_or_one_bad_request(body: bytes) -> None:
    try:
        structs.parse(body)
    except BadRequest as error:
        assert len(error.faults) == 1


def test_of_repeated_keys_the_last_counts() -> None:
    assert structs.parse(b'{"a":1,"b":2,"a":3}') == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b'{"message":', 11),
        (b'{"a" 1}', 5),
        (b'{"a":1,}', 7),
        (b'{"a":"bc', 5),
        (b"nul", 0),
        (b"   ", 3),
        (b"{} x", 3),
        (b'{"a":"\x01"}', 6),
        (b'{"a":NaN}', 5),
        (b'{"a":-Infinity}', 6),
        (b"\xef\xbb\xbf{}", 0),
        ('{"é":'.encode(), 6),
    ],
)
def test_a_syntax_error_is_told_with_the_byte_where_it_is(body: bytes, offset: int) -> None:
    assert fault_of(body) == invalid_at(offset)


def test_an_empty_body_is_told_apart_from_bad_json() -> None:
    assert fault_of(b"") == refusal("The body is empty.", "empty")


@pytest.mark.parametrize("body", [b'{"a":"\xff"}', b"\x1f\x8b\x08\x00", '{"a":1}'.encode("utf-16"), b'"\xed\xa0\x80"'])
def test_bytes_that_are_no_utf8_text_are_told_apart_from_bad_json(body: bytes) -> None:
    assert fault_of(body) == NOT_UTF8


@pytest.mark.parametrize("number", [b"1e400", b"-1e999", b"1" * 5000])
def test_a_number_that_nothing_can_hold_is_refused(number: bytes) -> None:
    assert fault_of(b'{"a":' + number + b"}") == OUT_OF_RANGE


def test_an_integer_beyond_64_bits_is_kept_exactly() -> None:
    assert structs.parse(b"1234567890123456789012345678901234567890") == 1234567890123456789012345678901234567890


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (rb'"\ud800"', ""),
        (rb'{"a":"\ud800"}', "a"),
        (rb'{"a":"\udc00x"}', "a"),
        (rb'{"ok":1,"a":[0,{"b":"\ud800\u0041"}]}', "a.1.b"),
        (rb'{"a":{"\ud800":1}}', "a"),
        (rb'{"a":"\ud800","b":"\ud800"}', "a"),
    ],
)
def test_a_lone_surrogate_is_told_with_its_place(body: bytes, field: str) -> None:
    assert fault_of(body) == lone_surrogate(field)


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert structs.parse(rb'"\ud83d\ude00"') == "\U0001f600"


def test_nul_in_a_string_is_kept() -> None:
    assert structs.parse(rb'"a\u0000b"') == "a\0b"


# -- limits ----------------------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_a_body_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    structs.parse(nested(DEPTH_MAX))
    structs.parse(b"[" * DEPTH_MAX + b"1" + b"]" * DEPTH_MAX)  # a scalar is no level of its own
    assert fault_of(nested(DEPTH_MAX + 1)) == TOO_DEEP


def test_depth_counts_objects_and_arrays_alike() -> None:
    half = DEPTH_MAX // 2
    structs.parse(b'{"a":[' * half + b"]}" * half)
    assert fault_of(b'[{"a":[' + b'{"a":[' * (half - 1) + b"]}" * (half - 1) + b"]}]") == TOO_DEEP


@pytest.mark.parametrize("body", [nested(100_000), b"[" * 100_000, b'{"a":' * 50_000])
def test_nesting_that_no_reader_survives_is_refused(body: bytes) -> None:
    assert fault_of(body) == TOO_DEEP


def test_a_body_may_have_as_many_values_as_the_limit_and_no_more() -> None:
    structs.parse(b"[" + b"1," * (VALUES_MAX - 2) + b"1]")
    assert fault_of(b"[" + b"1," * (VALUES_MAX - 1) + b"1]") == TOO_MANY


def test_a_caller_may_set_another_limit_of_values() -> None:
    assert structs.parse(b"[1,2,3]", values_max=4) == [1, 2, 3]
    with pytest.raises(BadRequest, match="more than 4 values"):
        structs.parse(b"[1,2,[3]]", values_max=4)


# -- keeping surrogates ----------------------------------------------------------------------------------------------


def test_a_wire_that_answers_field_by_field_can_keep_lone_surrogates() -> None:
    assert structs.parse_keeping_surrogates(rb'{"a":"\ud800","b":1}') == {"a": "\ud800", "b": 1}


def test_keeping_surrogates_changes_nothing_else() -> None:
    assert structs.parse_keeping_surrogates(b'{"a":1}') == {"a": 1}
    with pytest.raises(BadRequest, match=r"byte 5"):
        structs.parse_keeping_surrogates(b'{"a" 1}')
    with pytest.raises(BadRequest, match="nested deeper"):
        structs.parse_keeping_surrogates(rb'["\ud800",' + nested(DEPTH_MAX) + b"]")


@pytest.mark.parametrize(("text", "has"), [("", False), ("aé\U0001f600\0", False), ("a\ud800", True), ("\udfff", True)])
def test_a_text_with_a_lone_surrogate_is_recognised(text: str, has: bool) -> None:
    assert structs.has_lone_surrogate(text) is has


# -- structs ---------------------------------------------------------------------------------------------------------


def test_a_struct_is_read_and_unknown_members_are_ignored() -> None:
    page = structs.decode(b'{"lines":[{"role":"user","text":"hi","x":1}],"y":2}', Page)
    assert page == Page([Line("user", "hi")])


@pytest.mark.parametrize(
    ("body", "detail", "field"),
    [
        (b'{"lines":[{"role":"user","text":7}]}', "lines.0.text: expected str, got int", "lines.0.text"),
        (b'{"lines":[{"role":"robot","text":""}]}', "lines.0.role: invalid enum value 'robot'", "lines.0.role"),
        (b'{"lines":[{"role":"user"}]}', "lines.0: object missing required field text", "lines.0"),
        (b"{}", "Object missing required field lines", ""),
        (b"[]", "Expected object, got array", ""),
    ],
)
def test_a_body_of_another_shape_is_refused_by_name(body: bytes, detail: str, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        structs.decode(body, Page)
    (fault,) = caught.value.faults
    assert (caught.value.detail, fault.field, fault.type) == (detail, field, "wrong_shape")


def test_a_body_that_is_no_json_is_refused_the_same_way_for_structs() -> None:
    with pytest.raises(BadRequest, match="byte 0"):
        structs.decode(b"nope", Page)
    with pytest.raises(BadRequest, match="more than 2 values"):
        structs.decode(b'{"lines":[1]}', Page, values_max=2)
