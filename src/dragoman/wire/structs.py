"""JSON bytes -> a value or a struct, or one BadRequest that says what is wrong and where.

msgspec does the reading. What it raises has three classes (DecodeError, UnicodeDecodeError, RecursionError) and does
not always say where; a body that it refuses is therefore read a second time, slowly, only to find the reason.

Every BadRequest raised here has exactly one fault. Its `type` is one of

    empty                 no bytes at all
    not_utf8              the bytes are no UTF-8 text (a compressed body, another encoding)
    json_invalid          not JSON; `field` is the byte offset of the fault, in digits
    lone_surrogate        half of a UTF-16 pair, which is no character; `field` is the path of the string or object
    number_out_of_range   a number that no double and no 64-bit integer holds
    too_deep              nested deeper than DEPTH_MAX
    too_many_values       more than `values_max` values
    wrong_shape           JSON, but not of the struct's shape; `field` is the path (`decode` only)

Of repeated keys in one object the last counts.
"""

import json
import re
from typing import Any, TypeVar, cast

import msgspec

from dragoman.core.errors import BadRequest, FieldFault

T = TypeVar("T")

DEPTH_MAX = 64
"""Arrays and objects inside each other."""

VALUES_MAX = 10_000
"""Values of any kind in one body; keys are not counted."""

_BYTE = re.compile(r"\(byte (\d+)\)\Z")
_PLACE = re.compile(r" - at `(?P<place>[^`]*)`\Z")
_STEP = re.compile(r"\[(\d+|\.\.\.)\]")


def parse(body: bytes, *, values_max: int = VALUES_MAX) -> Any:
    """The value a JSON text stands for. Raises BadRequest."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _reason(body, error) from None
    _measure(value, values_max)
    return value


def parse_keeping_surrogates(body: bytes, *, values_max: int = VALUES_MAX) -> Any:
    """As `parse`, but lone surrogates stay in their strings, for wires that answer for each field by itself.

    Such a string cannot be encoded: it must go no further than the reply that refuses it.
    """
    try:
        return parse(body, values_max=values_max)
    except BadRequest as error:
        if error.faults[0].type != "lone_surrogate":
            raise
    value = json.loads(body.decode())
    _measure(value, values_max)
    return value


def decode(body: bytes, shape: type[T], *, values_max: int = VALUES_MAX) -> T:
    """A struct of that shape. Raises BadRequest such as `messages.0.role: expected str, got int`."""
    value = parse(body, values_max=values_max)
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise _misshapen(str(error)) from None


def has_lone_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _measure(value: Any, values_max: int) -> None:
    """One walk, level by level. Raises BadRequest if the value is too deep or too wide."""
    values, depth = 1, 0
    level = [value]
    while level:
        below: list[Any] = []
        nested = False
        for item in level:
            if type(item) is dict:
                below.extend(cast("dict[str, Any]", item).values())
                nested = True
            elif type(item) is list:
                below.extend(cast("list[Any]", item))
                nested = True
        depth += nested
        values += len(below)
        if depth > DEPTH_MAX:
            raise _too_deep()
        if values > values_max:
            raise _refusal(f"The body has more than {values_max} values.", "too_many_values")
        level = below


# -- what was wrong --------------------------------------------------------------------------------------------------


def _refusal(detail: str, kind: str, *, field: str = "", message: str = "") -> BadRequest:
    return BadRequest(detail, faults=(FieldFault(field, message or detail, kind),))


def _too_deep() -> BadRequest:
    return _refusal(f"The body is nested deeper than {DEPTH_MAX} levels.", "too_deep")


def _invalid(offset: int) -> BadRequest:
    return _refusal(
        f"The body is not valid JSON (byte {offset}).", "json_invalid", field=str(offset), message="JSON decode error"
    )


def _reason(body: bytes, error: Exception) -> BadRequest:
    """Why msgspec refused this body."""
    if not body:
        return _refusal("The body is empty.", "empty")
    if isinstance(error, RecursionError):
        return _too_deep()
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return _refusal("The body is not valid UTF-8.", "not_utf8")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as fault:
        return _invalid(len(text[: fault.pos].encode()))
    except RecursionError:
        return _too_deep()
    except ValueError:  # an integer of thousands of digits
        return _out_of_range()
    place = _surrogate_place(value)
    if place is not None:
        return _refusal("The body holds a lone surrogate, which is no character.", "lone_surrogate", field=place)
    # The standard library also reads what is not JSON: NaN, Infinity.
    match = _BYTE.search(str(error))
    return _invalid(int(match[1])) if match else _out_of_range()


def _out_of_range() -> BadRequest:
    return _refusal("The body holds a number that is out of range.", "number_out_of_range")


def _surrogate_place(value: Any) -> str | None:
    """The path of the first string, or of the object with the first key, that holds a lone surrogate."""
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        place, item = stack.pop()
        if isinstance(item, str):
            if has_lone_surrogate(item):
                return place
        elif isinstance(item, dict):
            members = cast("dict[str, Any]", item)
            if any(map(has_lone_surrogate, members)):
                return place
            stack.extend((_below(place, key), members[key]) for key in reversed(members))
        elif isinstance(item, list):
            elements = cast("list[Any]", item)
            stack.extend((_below(place, str(at)), elements[at]) for at in reversed(range(len(elements))))
    return None


def _below(place: str, step: str) -> str:
    return f"{place}.{step}" if place else step


def _misshapen(text: str) -> BadRequest:
    """msgspec says ``Expected `str`, got `int` - at `$.messages[0].role` ``."""
    match = _PLACE.search(text)
    place = "" if match is None else _STEP.sub(r".\1", match["place"].removeprefix("$")).removeprefix(".")
    message = _PLACE.sub("", text).replace("`", "")
    sentence = message[:1].lower() + message[1:]
    return _refusal(f"{place}: {sentence}" if place else message, "wrong_shape", field=place, message=message)
