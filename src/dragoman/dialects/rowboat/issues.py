"""What is wrong with a body, as this wire says it: a list of issues in the form of the validator zod, behind a prefix
that clients go by (rowboat spec 1.2). Later generations say only that something is wrong (3.5)."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from dragoman.core.errors import BadRequest, FieldFault

INVALID_JSON = "Invalid JSON in request body"
INVALID_BODY = "Invalid request body: "
INVALID_REQUEST = "Invalid request"

ISSUES_MAX = 20
"""Told at once; an answer must not outgrow the request it refuses."""
SHOWN_CHARS_MAX = 100
"""Of a value that is shown because it is none of those expected, and of a key on the way to a fault."""

Path = tuple[str | int, ...]

MISSING = object()
"""The value of a member that is not there."""


class Issue(Struct, frozen=True):
    """`path` leads to the place, from the body down."""

    code: str
    expected: str
    received: str
    path: Path
    message: str


def kind_of(value: Any) -> str:
    """What JSON calls it; "undefined" for MISSING."""
    if value is MISSING:
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def wrong_type(path: Path, expected: str, value: Any) -> Issue:
    received = kind_of(value)
    message = "Required" if value is MISSING else f"Expected {expected}, received {received}"
    return Issue("invalid_type", expected, received, path, message)


def none_of(path: Path, options: Sequence[str], value: Any) -> Issue:
    """A text that is none of the options; what is no text is of the wrong type."""
    expected = " | ".join(f"'{option}'" for option in options)
    if not isinstance(value, str):
        return wrong_type(path, expected, value)
    received = value[:SHOWN_CHARS_MAX]
    return Issue("invalid_enum_value", expected, received, path, f"Expected {expected}, received '{received}'")


def too_big(path: Path, noun: str, size: int, size_max: int) -> Issue:
    return Issue(
        "too_big", f"at most {size_max} {noun}", str(size), path, f"There may be at most {size_max} {noun}, not {size}"
    )


def not_a_time(path: Path, value: Any) -> Issue:
    """A text that is no time; what is no text is of the wrong type."""
    if not isinstance(value, str):
        return wrong_type(path, "string", value)
    message = "Expected a time such as 2025-08-06T00:00:00.000Z"
    return Issue("invalid_string", "datetime", value[:SHOWN_CHARS_MAX], path, message)


def limit_of(fault: FieldFault) -> Issue:
    """A body that is JSON, and goes beyond what is read of it: depth, values, numbers, half characters."""
    path: Path = tuple(part[:SHOWN_CHARS_MAX] for part in fault.field.split(".") if part)
    return Issue("custom", "a body within the limits", fault.type, path, fault.message)


def invalid(issues: Sequence[Issue], *, silent: bool = False) -> BadRequest:
    """The refusal of a body. `silent`: it is not said what is wrong."""
    faults = [FieldFault(".".join(map(str, issue.path)), issue.message, issue.code) for issue in issues]
    if silent:
        return BadRequest(INVALID_REQUEST, faults=faults)
    told = msgspec.to_builtins(tuple(issues[:ISSUES_MAX]))
    return BadRequest(INVALID_BODY + json.dumps(told, indent=2, ensure_ascii=False), faults=faults)
