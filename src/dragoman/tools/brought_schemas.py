"""JSON Schemas that callers bring for tools of their own: arguments are checked against them in bounded time.

A schema of a few lines can take for ever: `allOf` of twice the same `$ref`, thirty levels of that, is a billion looks,
and an expression that backtracks is no better. So a schema is weighed before it is used, with everything it refers to
in its place, and what is too heavy for the arguments at hand is not checked here: the caller, whose tool it is, does
so itself. Expressions run on the engine that takes time linear in the text (`patterns.py`).
"""

import hashlib
from typing import cast

import msgspec

from dragoman.core.agents import JsonSchema
from dragoman.tools.arguments import Arguments, Checker

SCHEMA_BYTES_MAX = 64 * 1024
EXPRESSIONS_MAX = 50
EXPRESSION_BYTES_MAX = 32 * 1024
"""Of each, compiled."""
WORK_MAX = 5_000_000
"""Of a schema's weight times the characters of the arguments: some tens of milliseconds."""

_EXPRESSIONS = "patternProperties"
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_NAMES = ("$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor")
"""What makes a reference mean another place than its path in the schema."""


class BroughtChecker:
    """A `Checker` that knows how much it can take."""

    def __init__(self, schema: JsonSchema) -> None:
        """Raises ValueError if it is not a JSON Schema, or none that can be used here."""
        if len(msgspec.json.encode(schema)) > SCHEMA_BYTES_MAX:
            raise ValueError(f"a schema may have {SCHEMA_BYTES_MAX:,} bytes of JSON")
        self._weight = weight(schema)
        self._checker = Checker(schema, expression_bytes_max=EXPRESSION_BYTES_MAX)

    def check(self, arguments: Arguments, *, chars: int) -> None:
        """`chars`: how long they are as JSON. Raises BadArguments."""
        if self._weight * chars <= WORK_MAX:
            self._checker.check(arguments)


class BroughtCheckers:
    """Remembers those of `known_max` schemas; with one more it begins anew."""

    def __init__(self, known_max: int) -> None:
        self._known_max = known_max
        self._known: dict[bytes, BroughtChecker | None] = {}

    def of(self, schema: JsonSchema) -> BroughtChecker | None:
        """None = the schema is none that can be used here."""
        key = hashlib.sha256(msgspec.json.encode(schema, order="sorted")).digest()
        if key not in self._known:
            if len(self._known) >= self._known_max:
                self._known.clear()
            try:
                self._known[key] = BroughtChecker(schema)
            except ValueError:
                self._known[key] = None
        return self._known[key]


def weight(schema: JsonSchema) -> int:
    """How many parts it has once everything it refers to stands in its place, expressions by their length. Raises
    ValueError if that has no end, if it refers to anything but its own parts, or has too many expressions."""
    scales = _Scales(schema)
    try:
        return scales.weigh(schema)
    except RecursionError:
        raise ValueError("a schema that goes so deep cannot be weighed") from None


class _Scales:
    def __init__(self, root: JsonSchema) -> None:
        self._root = root
        self._known: dict[str, int] = {}
        self._under_way: set[str] = set()
        self._named = self._refers = False
        self._expressions = 0

    def weigh(self, part: object) -> int:
        if isinstance(part, dict):
            fields = cast("dict[str, object]", part)
            return 1 + sum(self._field(name, value) for name, value in fields.items())
        if isinstance(part, list):
            return 1 + sum(map(self.weigh, cast("list[object]", part)))
        return 1

    def _field(self, name: str, value: object) -> int:
        if name == _EXPRESSIONS and isinstance(value, dict):
            named = cast("dict[str, object]", value)
            return self.weigh(named) + sum(map(self._expression, named))
        if not isinstance(value, str):
            return self.weigh(value)
        if name in _REFERENCES or name in _NAMES:
            self._refers = self._refers or name in _REFERENCES
            self._named = self._named or name in _NAMES
            if self._refers and self._named:
                raise ValueError("a schema whose parts have names of their own cannot be weighed")
        if name in _REFERENCES:
            return self._referred(name, value)
        return self._expression(value) if name == "pattern" else 1

    def _expression(self, text: str) -> int:
        self._expressions += 1
        if self._expressions > EXPRESSIONS_MAX:
            raise ValueError(f"a schema may have {EXPRESSIONS_MAX} expressions")
        return 1 + len(text)

    def _referred(self, name: str, pointer: str) -> int:
        known = self._known.get(pointer)
        if known is not None:
            return known
        if name != "$ref" or pointer in self._under_way:
            raise ValueError("a schema that refers to itself has no weight")
        self._under_way.add(pointer)
        weighed = self._known[pointer] = self.weigh(self._at(pointer))
        self._under_way.discard(pointer)
        return weighed

    def _at(self, pointer: str) -> object:
        place: object = self._root
        if pointer == "#":
            return place
        if not pointer.startswith("#/"):
            raise ValueError("a schema may refer to its own parts only")
        for step in pointer[2:].split("/"):
            if "%" in step or not isinstance(place, dict):
                raise ValueError(f"there is nothing at {pointer[:100]}")
            place = cast("dict[str, object]", place).get(step.replace("~1", "/").replace("~0", "~"))
        return place
