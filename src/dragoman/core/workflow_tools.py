"""The tools of a workflow as they are written down, in whichever format: names, schemas, what runs them. Pure."""

import re
from typing import Any, cast

from dragoman.core.agents import NO_ARGUMENTS, JsonSchema, Repeat
from dragoman.core.errors import FieldFault
from dragoman.core.workflows import ToolKind

NAME_CHARS_MAX = 64
"""What providers take as the name of a function."""

_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{NAME_CHARS_MAX}}}")
_NOT_OF_NAMES = re.compile(r"[^A-Za-z0-9_-]")


def name_fault(name: str) -> str:
    """Why no model can be offered a tool of this name; "" = one can."""
    if _NAME.fullmatch(name):
        return ""
    return f"must be 1 to {NAME_CHARS_MAX} letters, digits, _ or -: models take no other name"


def usable_name(name: str) -> str:
    """The nearest name that a model can be offered. For tools that cannot be run anyway."""
    return _NOT_OF_NAMES.sub("_", name)[:NAME_CHARS_MAX] or "_"


def repeat_of(kind: ToolKind) -> Repeat:
    """The repeat rule where nobody said one: what reaches an outside system is never run twice."""
    return Repeat.ONCE if kind in (ToolKind.WEBHOOK, ToolKind.MCP) else Repeat.PURE


def schema_of(parameters: dict[str, Any] | None, place: str, faults: list[FieldFault]) -> JsonSchema:
    """The schema of an object. Nothing at all is a tool without arguments; what is missing is filled in."""
    if not parameters:
        return NO_ARGUMENTS
    schema: JsonSchema = {"type": "object", "properties": {}, **parameters}
    if schema["type"] != "object":
        faults.append(FieldFault(f"{place}.type", 'must be "object": arguments have names'))
    properties = schema["properties"]
    if properties is None:
        schema["properties"] = {}
    elif not isinstance(properties, dict):
        faults.append(FieldFault(f"{place}.properties", "must be an object with a schema for each argument"))
    else:
        for name, each in cast("dict[str, object]", properties).items():
            if not isinstance(each, dict | bool):
                faults.append(FieldFault(f"{place}.properties.{name}", "must be a schema, an object"))
    required = schema.get("required", [])
    if required is None:
        del schema["required"]
    elif not isinstance(required, list) or not all(isinstance(name, str) for name in cast("list[object]", required)):
        faults.append(FieldFault(f"{place}.required", "must be a list of names"))
    return schema
