import socket
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Struct, UnsetType

from dragoman.core.names import ProjectId
from dragoman.runtime.tool_ports import CallContext
from dragoman.tools.arguments import (
    ARGUMENTS_BYTES_MAX,
    ARGUMENTS_DEPTH_MAX,
    BadArguments,
    Checker,
    parse,
    schema_of,
    typed,
)


class Asked(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    first_name: Annotated[str, Meta(description="Who.", max_length=5)]
    times: Annotated[int, Meta(ge=1, le=9)] = 1
    kind: Literal["a", "b"] | UnsetType = UNSET
    loud: bool = False


def nested(levels: int) -> str:
    """An object with `levels` containers in all."""
    return '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        (' {"a": [1, "ä", null]} ', {"a": [1, "ä", None]}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('"{}"', {}),
        ('{"a": "{\\"b\\": 1}"}', {"a": '{"b": 1}'}),
    ],
)
def test_an_object_is_taken_also_empty_and_encoded_twice(text: str, arguments: dict[str, object]):
    assert parse(text) == arguments


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1]", "The arguments must be a JSON object, not an array."),
        ("null", "The arguments must be a JSON object, not null."),
        ("true", "The arguments must be a JSON object, not a boolean."),
        ("12", "The arguments must be a JSON object, not a number."),
        ('"[1]"', "The arguments must be a JSON object, not an array."),
        ('"\\"{}\\""', "The arguments must be a JSON object, not a string."),
        (
            '{"a": 1,}',
            "The arguments are not valid JSON: JSON is malformed: trailing comma in object (byte 8).",
        ),
        ('{"a": "\ud800"}', "The arguments hold half a character (a lone surrogate) at 7."),
    ],
)
def test_what_is_no_object_is_told_with_its_place(text: str, sentence: str):
    with pytest.raises(BadArguments) as caught:
        parse(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("text", ["{", "{'a': 1}", "{a: 1}", "```json\n{}\n```", "NaN", '{"a":"\\ud800"}', "\ufeff{}"])
def test_what_is_no_json_is_refused(text: str):
    with pytest.raises(BadArguments, match=r"^The arguments are not valid JSON: "):
        parse(text)


def test_arguments_of_the_largest_size_are_taken_and_one_byte_more_is_not():
    largest = '{"a":"' + "é" * ((ARGUMENTS_BYTES_MAX - 8) // 2) + '"}'
    assert len(largest.encode()) == ARGUMENTS_BYTES_MAX
    assert len(parse(largest)["a"]) == (ARGUMENTS_BYTES_MAX - 8) // 2
    with pytest.raises(BadArguments) as caught:
        parse(largest + " ")
    assert str(caught.value) == "The arguments are 262,145 bytes; at most 262,144 are taken."


def test_arguments_of_the_greatest_depth_are_taken_and_one_level_more_is_not():
    assert "a" in parse(nested(ARGUMENTS_DEPTH_MAX))
    with pytest.raises(BadArguments, match="more than 64 levels deep"):
        parse(nested(ARGUMENTS_DEPTH_MAX + 1))


@pytest.mark.parametrize("text", ['{"a":' * 50_000, '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"])
def test_absurd_depth_is_refused_without_harm(text: str):
    with pytest.raises(BadArguments):
        parse(text)


@given(st.text())
def test_any_text_is_an_object_or_told_off(text: str):
    try:
        assert isinstance(parse(text), dict)
    except BadArguments as error:
        assert str(error).endswith(".")


@given(st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5)))
def test_encoding_twice_changes_nothing(arguments: dict[str, object]):
    text = msgspec.json.encode(arguments).decode()
    assert parse(msgspec.json.encode(text).decode()) == parse(text)


def test_a_struct_is_the_schema():
    assert schema_of(Asked) == {
        "type": "object",
        "properties": {
            "firstName": {"type": "string", "description": "Who.", "maxLength": 5},
            "times": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
            "kind": {"enum": ["a", "b"]},
            "loud": {"type": "boolean", "default": False},
        },
        "required": ["firstName"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, 'The arguments do not fit: "firstName" is a required property. It takes: firstName, times, kind, loud.'),
        (
            {"firstName": 1, "times": 0},
            'The arguments do not fit: firstName: 1 is not of type "string"; '
            "times: 0 is less than the minimum of 1. It takes: firstName, times, kind, loud.",
        ),
        (
            {"firstName": "x", "loudly": True},
            "The arguments do not fit: Additional properties are not allowed ('loudly' was unexpected). "
            "It takes: firstName, times, kind, loud.",
        ),
    ],
)
def test_a_misfit_is_told_with_its_place_and_what_is_taken(arguments: dict[str, object], sentence: str):
    with pytest.raises(BadArguments) as caught:
        Checker(schema_of(Asked)).check(arguments)
    assert str(caught.value) == sentence


def test_a_deep_place_is_spelled_as_a_path_and_long_values_are_clipped():
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}
    with pytest.raises(BadArguments) as caught:
        Checker(schema).check({"a": [1, "x" * 10_000]})
    sentence = str(caught.value)
    assert sentence.startswith('The arguments do not fit: a.1: "xxx')
    assert len(sentence) < 400


def test_undeclared_properties_are_the_schemas_business():
    Checker({"type": "object", "properties": {}}).check({"anything": 1})
    with pytest.raises(BadArguments) as caught:
        Checker({"type": "object", "additionalProperties": False}).check({"anything": 1})
    assert str(caught.value).endswith(" It takes no arguments.")


def test_an_unusable_schema_is_refused():
    with pytest.raises(ValueError, match="not a usable JSON Schema"):
        Checker({"type": "objekt"})


def test_a_schema_that_lies_elsewhere_is_refused_and_not_fetched():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        host, port = listening.getsockname()
        with pytest.raises(ValueError, match="not a usable JSON Schema"):
            Checker({"$ref": f"http://{host}:{port}/schema.json"})
        with pytest.raises(BlockingIOError):
            listening.accept()


async def test_a_typed_tool_gets_its_struct_and_whole_floats_as_integers():
    async def run(asked: Asked, context: CallContext) -> str:
        return f"{asked!r} {context.key}"

    arguments = {"firstName": "Ada", "times": 2.0}
    Checker(schema_of(Asked)).check(arguments)
    assert await typed(Asked, run)(arguments, CallContext(ProjectId("p"), "r:c")) == (
        "Asked(first_name='Ada', times=2, kind=UNSET, loud=False) r:c"
    )
