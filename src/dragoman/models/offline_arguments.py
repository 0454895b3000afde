"""Arguments for a tool from what a person wrote, by the tool's JSON Schema. Pure; part of the offline router.

A value is only taken if the text gives it: as `name=value`, or as a thing that fits what the parameter's name and
description ask for. What is required and not given is reported, never made up.
"""

import re
from typing import Any, cast

from msgspec import Struct

from dragoman.core.agents import JsonSchema
from dragoman.models.offline_reading import Reading, split_name
from dragoman.models.offline_things import Parameter, Taking, thing_for

PARAMETERS_MAX = 40
"""More parameters of one tool are not looked at."""


class Filled(Struct, frozen=True):
    """`missing` are required parameters without a value, of `required` in all; `used` are the stems of words, and the
    markers, that became part of a value."""

    arguments: dict[str, Any]
    missing: tuple[str, ...]
    used: frozenset[str]
    required: int = 0


def fill(parameters: JsonSchema, reading: Reading) -> Filled:
    """Arguments for a tool with these parameters. Required ones have the first choice among what the text names."""
    properties = _properties(parameters)
    required = [name for name in _list(parameters.get("required")) if isinstance(name, str) and name in properties]
    taking = Taking(reading)
    arguments: dict[str, Any] = {}
    for name in [*required, *(name for name in properties if name not in required)][:PARAMETERS_MAX]:
        value = _value(name, properties[name], taking, required=name in required)
        if value is not None:
            arguments[name] = value
    return Filled(
        {name: arguments[name] for name in properties if name in arguments},
        tuple(name for name in required if name not in arguments),
        frozenset(taking.used),
        len(required),
    )


def _properties(parameters: JsonSchema) -> dict[str, JsonSchema]:
    found: Any = parameters.get("properties")
    if not isinstance(found, dict):
        return {}
    named = cast("dict[str, Any]", found)
    return {name: schema for name, schema in named.items() if isinstance(schema, dict)}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _types(schema: JsonSchema) -> set[str]:
    """Those a parameter may have, its alternatives included; none said = a text will do."""
    types: set[str] = set()
    for variant in (schema, *_list(schema.get("anyOf"))):
        kind: Any = cast("JsonSchema", variant).get("type") if isinstance(variant, dict) else None
        types.update([kind] if isinstance(kind, str) else _list(kind))
    return types or {"string"}


def _value(name: str, schema: JsonSchema, taking: Taking, *, required: bool) -> Any:
    text = taking.reading.text
    types = _types(schema)
    words = frozenset(split_name(name).lower().split())
    if not words:
        return None
    if "boolean" in types:
        return _flag(name, words, taking)
    said = _said_outright(name, taking)
    choices = [each for each in _list(schema.get("enum")) if isinstance(each, str)]
    if choices:
        return next(
            (each for each in choices if re.search(rf"\b{re.escape(each)}\b", said or text, re.IGNORECASE)), None
        )
    if "string" in types:
        about = str(schema.get("description") or "").lower()
        return said or thing_for(Parameter(name, words, about), taking, required=required)
    return _number(words, said, taking) if types & {"integer", "number"} else None


def _spelled(name: str) -> str:
    """A pattern for a name in any of its spellings: max_lines, maxLines, max lines."""
    return r"[ _-]?".join(map(re.escape, split_name(name).split()))


def _said_outright(name: str, taking: Taking) -> str | None:
    """The value of `name=value` or `name: value`."""
    found = taking.search(re.compile(rf"\b{_spelled(name)}\s*[=:]\s*(?:\"([^\"]*)\"|'([^']*)'|(\S+))", re.IGNORECASE))
    return next((group for group in found.groups() if group is not None), None) if found else None


_FLAGS = tuple(
    (frozenset(words.split()), re.compile(rf"\b(?:{asked})\b", re.IGNORECASE))
    for words, asked in (
        (
            "recursive recursively",
            "recursive(?:ly)?|all|every|everything|tree|sub-?folders|code ?base|whole|entire|project",
        ),
        ("case", r"case.?insensitive(?:ly)?|ignor\w* (?:the )?case|regardless of case"),
        ("size sizes", "sizes?|how (?:big|large)|bytes"),
        ("regex regexp", "regex(?:p|es)?|regular expression"),
        ("all", "all|every|everywhere|each"),
    )
)
"""What turns a flag on, by a word of the flag's name."""

_COUNT = re.compile(
    r"\b(?:first|top|last|at most|up to|limit(?: of| to)?)\s+(\d{1,6})\b"
    r"|\b(\d{1,6})\s+(?:lines|results|files|entries|rows|matches|series)\b",
    re.IGNORECASE,
)
_FROM_LINE = re.compile(r"\b(?:from|starting at|after|line)\s+(?:line\s+)?(\d{1,9})\b", re.IGNORECASE)


def _flag(name: str, words: frozenset[str], taking: Taking) -> bool | None:
    """True if the text asks for it. Nobody says what they do not want: else the tool's default stands."""
    pattern = next((pattern for known, pattern in _FLAGS if known & words), None)
    if pattern is None:
        pattern = re.compile(rf"\b{_spelled(name)}\b", re.IGNORECASE)
    return True if taking.search(pattern) else None


def _number(words: frozenset[str], said: str | None, taking: Taking) -> int | None:
    if said is not None:
        return int(said) if re.fullmatch(r"\d{1,9}", said) else None
    if words & {"limit", "count", "max", "top"}:
        found = taking.search(_COUNT)
    elif words & {"offset", "line"}:
        found = taking.search(_FROM_LINE)
    else:
        found = None
    return next(int(group) for group in found.groups() if group) if found else None
