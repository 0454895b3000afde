"""Schemas of callers: those with an end are weighed and used, the others are none."""

import time
from typing import Any

import pytest

from dragoman.tools.arguments import BadArguments
from dragoman.tools.brought_schemas import (
    EXPRESSIONS_MAX,
    SCHEMA_BYTES_MAX,
    WORK_MAX,
    BroughtChecker,
    BroughtCheckers,
    weight,
)

NAME: dict[str, Any] = {"type": "string", "minLength": 2}


def doubling(levels: int) -> dict[str, Any]:
    steps: dict[str, Any] = {f"a{at}": {"anyOf": [{"$ref": f"#/$defs/a{at + 1}"}] * 2} for at in range(levels)}
    return {"$defs": steps | {f"a{levels}": NAME}, "properties": {"a": {"$ref": "#/$defs/a0"}}}


def test_what_is_referred_to_weighs_wherever_it_is_referred_to() -> None:
    once = {"$defs": {"n": NAME}, "properties": {"a": {"$ref": "#/$defs/n"}}}
    twice = {"$defs": {"n": NAME}, "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "#/$defs/n"}}}
    assert weight(twice) - weight(once) == 1 + weight(NAME)
    assert 2**40 < weight(doubling(40)) < 2**48
    assert weight({"properties": {"a": {"pattern": "a" * 100}}}) > 100
    assert weight({"patternProperties": {"a" * 100: {}}}) > 100


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"properties": {"a": {"$ref": "#"}}},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"},
        {"$dynamicRef": "#a"},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"properties": {"a": {"$id": "x:y", "$ref": "#/$defs/z"}}},
        {"$ref": "#/$defs/%61", "$defs": {"a": NAME}},
        {"patternProperties": {f"^a{at}$": NAME for at in range(EXPRESSIONS_MAX + 1)}},
        {"description": "x" * SCHEMA_BYTES_MAX},
        {"properties": {"a": {"pattern": "a(?=b)"}}},
        {"properties": {"a": {"pattern": "(a{1,99}){1,99}{1,99}"}}},
        {"type": "nonsense"},
    ],
    ids=range(12),
)
def test_a_schema_that_has_no_end_or_is_none_is_not_used(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"schema|parts|nothing at"):
        BroughtChecker(schema)


def test_one_that_goes_too_deep_is_not_used() -> None:
    schema: dict[str, Any] = NAME
    for _ in range(450):
        schema = {"not": schema}
    with pytest.raises(ValueError, match=r"deep|schema"):
        BroughtChecker(schema)


def test_what_is_usual_is_checked() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/action",
        "type": "object",
        "properties": {"id": NAME, "pattern": {"type": "string", "pattern": "^[a-z]+$"}},
        "required": ["id"],
    }
    checker = BroughtChecker(schema)
    checker.check({"id": "ab", "pattern": "ab"}, chars=20)
    for wrong in ({"id": "a"}, {"id": "ab", "pattern": "A"}, {}):
        with pytest.raises(BadArguments):
            checker.check(wrong, chars=20)
    referring = BroughtChecker({"$defs": {"n/a": NAME}, "properties": {"a": {"$ref": "#/$defs/n~1a"}}})
    with pytest.raises(BadArguments):
        referring.check({"a": "x"}, chars=9)


def test_what_would_take_too_long_is_left_to_the_caller() -> None:
    began = time.process_time()
    BroughtChecker(doubling(60)).check({"a": "x"}, chars=9)
    assert time.process_time() - began < 1.0
    checker = BroughtChecker({"properties": {"a": NAME}})
    most = WORK_MAX // weight({"properties": {"a": NAME}})
    checker.check({"a": "x"}, chars=most + 1)
    with pytest.raises(BadArguments):
        checker.check({"a": "x"}, chars=most)


def test_so_many_are_remembered_and_what_is_none_is_too() -> None:
    known = BroughtCheckers(2)
    first, none = known.of({"type": "object"}), known.of({"type": "nonsense"})
    assert first is not None and none is None
    assert known.of({"type": "object"}) is first and len(known._known) == 2
    assert known.of({"type": "object", "required": ["a"]}) is not None and len(known._known) == 1
    assert known.of({"type": "object"}) is not first
