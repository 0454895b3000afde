from typing import Any

import pytest

from dragoman.models.offline_arguments import PARAMETERS_MAX, Filled, fill
from dragoman.models.offline_reading import read


def schema(*required: str, **properties: Any) -> Any:
    return {"type": "object", "properties": properties, "required": list(required)}


def filled(said: str, /, *required: str, **properties: Any) -> Filled:
    return fill(schema(*required, **properties), read(said))


STRING = {"type": "string"}
INTEGER = {"type": "integer"}
BOOLEAN = {"type": "boolean"}


def test_what_is_required_and_not_given_is_reported_and_never_made_up() -> None:
    found = filled("read it", "path", "mode", path=STRING, mode=STRING)
    assert (found.arguments, found.missing) == ({}, ("path", "mode"))


def test_required_parameters_have_the_first_choice_and_arguments_stand_in_the_schemas_order() -> None:
    found = filled("search for 'x' in 'y'", "text", query=STRING, text=STRING)
    assert list(found.arguments.items()) == [("query", "y"), ("text", "x")]


@pytest.mark.parametrize(
    "text",
    ["max_lines=7", "maxLines: 7", "max lines = 7", 'max-lines="7"', "the first 7 lines", "limit to 7", "7 results"],
)
def test_numbers_are_taken_from_what_is_said_of_them(text: str) -> None:
    assert filled(text, maxLines=INTEGER).arguments == {"maxLines": 7}


@pytest.mark.parametrize("text", ["maxLines=seven", "maxLines=99999999999", "7", "line 7"])
def test_other_numbers_are_left_alone(text: str) -> None:
    assert filled(text, maxLines=INTEGER).arguments == {}


def test_a_line_to_begin_at_is_an_offset() -> None:
    assert filled("read a.txt from line 40", offset=INTEGER).arguments == {"offset": 40}


@pytest.mark.parametrize(
    ("name", "text", "asked"),
    [
        ("recursive", "list everything", True),
        ("recursive", "list files", False),
        ("ignore_case", "search ignoring case", True),
        ("ignore_case", "search", False),
        ("sizes", "how big are they", True),
        ("regex", "as a regular expression", True),
        ("replace_all", "replace it everywhere", True),
        ("includeShardStats", "include shard stats too", True),
        ("includeShardStats", "is it healthy", False),
    ],
)
def test_a_flag_is_set_if_the_text_asks_for_it_and_else_left_to_the_tool(name: str, text: str, asked: bool) -> None:
    assert filled(text, **{name: BOOLEAN}).arguments == ({name: True} if asked else {})


def test_one_of_a_set_of_choices_is_taken_when_it_is_named() -> None:
    choices = {"type": "string", "enum": ["instant", "range"]}
    assert filled("an Instant query", kind=choices).arguments == {"kind": "instant"}
    assert filled("kind=range, not instant", kind=choices).arguments == {"kind": "range"}
    assert filled("a query", kind=choices).arguments == {}


def test_a_value_said_outright_goes_before_anything_else() -> None:
    assert filled("read a.txt path='b c.txt'", "path", path=STRING).arguments == {"path": "b c.txt"}


def test_a_parameter_of_several_types_may_be_a_text() -> None:
    time = {"anyOf": [{"type": "string"}, {"type": "number"}], "description": "RFC 3339 or relative"}
    assert filled("over the last 2 days", startTime=time).arguments == {"startTime": "now-2d"}
    assert filled("read a.txt", path={"type": ["string", "null"]}).arguments == {"path": "a.txt"}
    assert filled("read a.txt", path={}).arguments == {"path": "a.txt"}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"properties": None},
        {"properties": []},
        {"properties": {"a": 1, "b": {"type": "object"}, "c": {"type": 7}, "d": {"enum": [1]}}, "required": "a"},
        {"properties": {"a": {"anyOf": [1, {"type": "array"}]}}, "required": ["z", [], {}]},
        {"properties": {"_": {"type": "boolean"}, "": {"type": "string"}}, "required": [{}]},
    ],
)
def test_schemas_of_any_kind_are_survived(parameters: Any) -> None:
    assert fill(parameters, read("read a.txt")) == Filled({}, (), frozenset())


def test_only_so_many_parameters_are_looked_at() -> None:
    found = filled("max=7 " * 3, **{f"p{at}": STRING for at in range(PARAMETERS_MAX)}, max=INTEGER)
    assert found.arguments == {}


def test_words_that_became_arguments_are_told() -> None:
    found = filled("search for banana over the last hour", "query", query=STRING, startTime=STRING)
    assert found.arguments == {"query": "banana", "startTime": "now-1h"}
    assert {"banana", "last", "hour"} <= found.used
