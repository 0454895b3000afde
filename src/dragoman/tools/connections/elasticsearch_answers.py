"""Elasticsearch's answers, within what a model should read. Pure: bytes in, values or JSON text out."""

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct

from dragoman.core.errors import ToolFailed
from dragoman.tools.egress import Answer

CHARS_MAX = 60_000
"""Of one answer, as JSON."""
ITEMS_STEPS = (100, 20, 5, 1)
"""How many items of each array stay, at the first of these at which an answer is small enough."""
REASON_CHARS_MAX = 1_000
CAUSES_MAX = 5
SECRET_CHARS_MIN = 6
"""What is shorter would be found everywhere, and protects nothing."""

T = TypeVar("T")


class Fault(Struct, frozen=True):
    """Why Elasticsearch refused, in its own words."""

    type: str
    reason: str


class _Cause(Struct, frozen=True):
    """One link of the chain in which Elasticsearch tells what went wrong."""

    type: str | None = None
    reason: str | None = None
    caused_by: "_Cause | None" = None
    root_cause: tuple["_Cause", ...] = ()


class _Failure(Struct, frozen=True):
    error: _Cause | str


def without_secrets(answer: Answer, headers: Sequence[tuple[str, str]]) -> Answer:
    """The answer with what is secret in the connection's headers struck out: a proxy may tell what it was sent."""
    body = answer.body
    for _, value in headers:
        for secret in (value, value.partition(" ")[2]):
            if len(secret) >= SECRET_CHARS_MIN:
                body = body.replace(secret.encode(), b"***")
    return answer if body is answer.body else Answer(answer.status, answer.media_type, body)


def opened(name: str, answer: Answer) -> Answer:
    """The answer, if it is none of a failure. Raises ToolFailed in Elasticsearch's own words."""
    found = None if answer.status < 300 else fault(answer)
    if answer.status == 401 or (answer.status == 403 and found is None):
        raise ToolFailed(
            f"{name} did not accept this server's credentials (status {answer.status}). "
            "Whoever runs the server must check the connection's key."
        )
    if found is not None:
        kind = f" ({found.type})" if found.type else ""
        raise ToolFailed(f"{name} refused{kind}: {found.reason}")
    # A document that is not there is told with status 404 and no error.
    if answer.status < 300 or (answer.status == 404 and answer.media_type.endswith("json")):
        return answer
    raise ToolFailed(f"{name} failed with status {answer.status} and no error text. Try again later.")


def fault(answer: Answer) -> Fault | None:
    """What went wrong, if the answer says so as Elasticsearch does."""
    try:
        error = msgspec.json.decode(answer.body, type=_Failure).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(error, str):
        return Fault("", _clipped(error))
    reasons = [error.reason, *(cause.reason for cause in error.root_cause)]
    cause = error.caused_by
    while cause is not None and len(reasons) < CAUSES_MAX:
        reasons.append(cause.reason)
        cause = cause.caused_by
    told = list(dict.fromkeys(reason for reason in reasons[:CAUSES_MAX] if reason))
    return Fault(error.type or "", _clipped(": ".join(told) or "it gave no reason"))


def decoded(name: str, answer: Answer, kind: type[T]) -> T:
    """Raises ToolFailed if that is no Elasticsearch's answer."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ToolFailed(
            f"{name} did not answer as Elasticsearch does. Whoever runs the server must check its url."
        ) from None


def value_of(answer: Answer) -> Any:
    """JSON as it is, anything else (`_cat` without `format=json`) as text."""
    if answer.media_type.endswith("json"):
        try:
            return msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    return answer.body.decode("utf-8", "replace")


def shortened(value: Any) -> tuple[Any, str]:
    """The value within CHARS_MAX, and what was cut; "" = nothing."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) <= CHARS_MAX:
        return value, ""
    if not isinstance(value, str):
        for most in ITEMS_STEPS:
            cut = _first_items(value, most)
            if len(msgspec.json.encode(cut)) <= CHARS_MAX:
                return cut, f"Only the first {most} items of each array are shown: ask for fewer, or for fewer fields."
    most_shown = f"Only the first {CHARS_MAX:,} of {len(text):,} characters are shown, as text: ask for less."
    return text[:CHARS_MAX], most_shown


def _first_items(value: Any, most: int) -> Any:
    if isinstance(value, list):
        return [_first_items(item, most) for item in cast("list[Any]", value)[:most]]
    if isinstance(value, dict):
        return {name: _first_items(item, most) for name, item in cast("dict[str, Any]", value).items()}
    return value


def _clipped(text: str) -> str:
    return text if len(text) <= REASON_CHARS_MAX else text[:REASON_CHARS_MAX] + "…"
