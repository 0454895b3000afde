"""From the arguments a model wrote to the struct a tool takes: parse, bound, check against the schema, convert.

    JSON text ─parse─► object ─check─► object that fits the schema ─typed─► struct

A tool states its arguments once, as a frozen struct; `schema_of` makes the JSON Schema that the model is shown.
"""

from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Any, NoReturn, TypeVar, cast

import jsonschema_rs
import msgspec
from msgspec import Struct

from dragoman.core.agents import JsonSchema
from dragoman.runtime.tool_ports import CallContext, Told
from dragoman.tools.patterns import REGEX_CACHE_BYTES_MAX, REGEX_COMPILED_BYTES_MAX

ARGUMENTS_BYTES_MAX = 256 * 1024
ARGUMENTS_DEPTH_MAX = 64
FAULTS_MAX = 3
FAULT_CHARS_MAX = 300
NAMES_MAX = 20

Arguments = dict[str, Any]
"""A JSON object that fits its tool's schema: free-form until `typed` makes the tool's struct of it."""

Run = Callable[[Arguments, CallContext], Awaitable[str | Told]]
"""What carries a call out. Returns the text for the model, and perhaps what to show; raises ToolFailed with a sentence
for the model."""

S = TypeVar("S", bound=Struct)


class BadArguments(Exception):
    """`str()` is the sentence for the model: it names the place."""


def schema_of(struct_type: type[Struct]) -> JsonSchema:
    """The JSON Schema of a flat struct, self-contained: `{"type": "object", "properties": …}`."""
    _, components = msgspec.json.schema_components([struct_type])
    schema = components[struct_type.__name__]
    return {"type": "object", "properties": schema.get("properties", {})} | {
        key: schema[key] for key in ("required", "additionalProperties") if schema.get(key) not in (None, [])
    }


def typed(struct_type: type[S], run: Callable[[S, CallContext], Awaitable[str | Told]]) -> Run:
    """A `Run` for a tool that takes a struct."""

    async def run_typed(arguments: Arguments, context: CallContext) -> str | Told:
        # Not strict: to JSON Schema 2.0 is an integer. Everything else was already checked against the schema.
        return await run(msgspec.convert(arguments, struct_type, strict=False), context)

    return run_typed


def parse(text: str) -> Arguments:
    """The object in `text`; "" counts as {}. One repair: an object that was encoded twice, as a JSON string.

    Raises BadArguments.
    """
    parsed = _decode(text)
    if isinstance(parsed, str):
        parsed = _decode(parsed)
    if not isinstance(parsed, dict):
        raise BadArguments(f"The arguments must be a JSON object, not {_kind(parsed)}.")
    arguments = cast("Arguments", parsed)
    if _too_deep(arguments):
        raise BadArguments(f"The arguments are nested more than {ARGUMENTS_DEPTH_MAX} levels deep; flatten them.")
    return arguments


def _decode(text: str) -> object:
    if not text or text.isspace():
        return {}
    try:
        body = text.encode()
    except UnicodeEncodeError as error:
        raise BadArguments(f"The arguments hold half a character (a lone surrogate) at {error.start}.") from None
    if len(body) > ARGUMENTS_BYTES_MAX:
        raise BadArguments(f"The arguments are {len(body):,} bytes; at most {ARGUMENTS_BYTES_MAX:,} are taken.")
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise BadArguments(
            f"The arguments are nested more than {ARGUMENTS_DEPTH_MAX} levels deep; flatten them."
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadArguments(f"The arguments are not valid JSON: {_lower_first(_clipped(str(error)))}.") from None


def _kind(value: object) -> str:
    names = {"list": "an array", "str": "a string", "bool": "a boolean", "NoneType": "null"}
    return names.get(type(value).__name__, "a number")


def _too_deep(value: object) -> bool:
    """Walks level by level: the values were made by others and may be as deep as the interpreter allows."""
    level: list[object] = [value]
    for _ in range(ARGUMENTS_DEPTH_MAX):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: object) -> Iterator[object]:
    """What lies inside an array or object and is one itself."""
    if isinstance(value, dict):
        inside = cast("dict[str, object]", value).values()
    elif isinstance(value, list):
        inside = cast("list[object]", value)
    else:
        return
    yield from (child for child in inside if isinstance(child, dict | list))


_REFERENCING_ERROR = cast("type[Exception]", jsonschema_rs.ReferencingError)
"""The package's own stubs forget that it is one."""


class Checker:
    """A tool's JSON Schema, compiled once. Never looks anything up: a `$ref` to elsewhere is refused. Expressions take
    time linear in the text, as in `patterns.py`; one with look-around or back-references makes the schema none."""

    def __init__(self, schema: JsonSchema, *, expression_bytes_max: int = REGEX_COMPILED_BYTES_MAX) -> None:
        """Raises ValueError if it is not a JSON Schema. `expression_bytes_max`: of each, compiled."""
        options = jsonschema_rs.RegexOptions(size_limit=expression_bytes_max, dfa_size_limit=REGEX_CACHE_BYTES_MAX)
        try:
            self._validator = jsonschema_rs.validator_for(schema, retriever=_refuse_retrieval, pattern_options=options)
        except (jsonschema_rs.ValidationError, _REFERENCING_ERROR) as error:
            raise ValueError(f"not a usable JSON Schema: {_clipped(str(error))}") from None
        properties = schema.get("properties")
        named = cast("dict[str, object]", properties) if isinstance(properties, dict) else {}
        self._names = tuple(islice(named, NAMES_MAX))

    def check(self, arguments: Arguments) -> None:
        """Raises BadArguments naming the first few places that do not fit."""
        if self._validator.is_valid(arguments):
            return
        faults = [_fault(error) for error in islice(self._validator.iter_errors(arguments), FAULTS_MAX)]
        takes = f" It takes: {', '.join(self._names)}." if self._names else " It takes no arguments."
        raise BadArguments(f"The arguments do not fit: {'; '.join(faults)}.{takes}")


def _refuse_retrieval(uri: str) -> NoReturn:
    raise ValueError(f"schemas are not fetched: {uri}")


def _fault(error: jsonschema_rs.ValidationError) -> str:
    place = ".".join(str(step) for step in error.instance_path)
    message = _clipped(error.message)
    return f"{_clipped(place)}: {message}" if place else message


def _clipped(text: str) -> str:
    return text if len(text) <= FAULT_CHARS_MAX else text[:FAULT_CHARS_MAX] + "…"


def _lower_first(text: str) -> str:
    """msgspec's sentences continue ours; `JSON is …` keeps its capitals."""
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
