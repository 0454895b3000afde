"""Names, schemas and repeat rules of a workflow's tools."""

from typing import Any

import pytest

from dragoman.core.agents import NO_ARGUMENTS, Repeat
from dragoman.core.errors import FieldFault
from dragoman.core.workflow_tools import NAME_CHARS_MAX, name_fault, repeat_of, schema_of, usable_name
from dragoman.core.workflows import ToolKind


@pytest.mark.parametrize("name", ["get_order", "a-1", "A" * NAME_CHARS_MAX])
def test_names_that_models_take(name: str):
    assert name_fault(name) == ""
    assert usable_name(name) == name


@pytest.mark.parametrize(
    ("name", "usable"), [("", "_"), ("get order", "get_order"), ("é.b", "__b"), ("A" * 65, "A" * 64)]
)
def test_names_that_they_do_not_take(name: str, usable: str):
    assert "letters, digits" in name_fault(name)
    assert usable_name(name) == usable


def test_what_reaches_an_outside_system_is_never_run_twice():
    assert {kind: repeat_of(kind) for kind in ToolKind} == {
        ToolKind.WEBHOOK: Repeat.ONCE,
        ToolKind.MCP: Repeat.ONCE,
        ToolKind.MOCK: Repeat.PURE,
        ToolKind.MISSING: Repeat.PURE,
    }


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (None, NO_ARGUMENTS),
        ({}, NO_ARGUMENTS),
        ({"properties": {"a": True}}, {"type": "object", "properties": {"a": True}}),
        (
            {"type": "object", "properties": None, "required": None, "additionalProperties": False},
            {"type": "object", "properties": {}, "additionalProperties": False},
        ),
    ],
)
def test_a_schema_is_one_of_an_object(given: dict[str, Any] | None, made: dict[str, Any]):
    faults: list[FieldFault] = []
    assert schema_of(given, "p", faults) == made
    assert faults == []


def test_every_fault_of_a_schema_is_named():
    faults: list[FieldFault] = []
    schema_of({"type": "string", "properties": {"a": 1, "b": {}}, "required": ["a", 2]}, "tools.0.parameters", faults)
    schema_of({"properties": []}, "p", faults)
    assert [fault.field for fault in faults] == [
        "tools.0.parameters.type",
        "tools.0.parameters.properties.a",
        "tools.0.parameters.required",
        "p.properties",
    ]
