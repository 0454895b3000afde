"""What all requests of this wire have in common: the credential, the space, what a write must carry, strict bodies and
queries (WIRE.md, Q6, Q7, Q10, Q11)."""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from dragoman.core.errors import BadRequest, FieldFault, NotAuthenticated
from dragoman.core.names import ConversationId
from dragoman.wire import structs
from dragoman.wire.dialect import Parameter, Request, Route

PUBLIC = "/api/observability_ai_assistant"
INTERNAL = "/internal/observability_ai_assistant"
IN_SPACE = "/s/{space}"
DEFAULT_SPACE = "default"
"""Means the project of whoever asks."""

VALUES_MAX = 200_000
"""JSON values of one body: callers send whole conversations, some ten values a message."""

XSRF_HEADERS = ("kbn-xsrf", "kbn-version", "x-elastic-internal-origin")
"""One of these must come with a write; browsers let no other site's page send it."""

XSRF = Parameter(
    "kbn-xsrf",
    "Whatever its value, a write must have it; kbn-version or x-elastic-internal-origin will do",
    where="header",
    required=True,
)

READS = ("GET", "HEAD")

NO_XSRF = "Request must contain a kbn-xsrf header."
NO_JSON = "The body must be JSON, sent with the header content-type: application/json."
NO_CREDENTIAL = "Send a credential: HTTP Basic (any name, the credential as password), ApiKey or Bearer."

T = TypeVar("T")

_JSON_MEDIA_TYPE = re.compile(r"\s*application/(?:[^;\s]+\+)?json\s*(?:;|\Z)", re.IGNORECASE)
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field (?P<name>.*)", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field (?P<name>.*)", re.DOTALL)


# -- who asks, and where -----------------------------------------------------------------------------------------------


def credential(headers: Mapping[str, str]) -> str:
    """The credential's text: the password of Basic, whatever the name; that of Bearer; of ApiKey what stands behind the
    colon of `base64(id:key)`, or the text as it is. Raises NotAuthenticated."""
    scheme, _, text = headers.get("authorization", "").strip(" \t").partition(" ")
    text = text.strip(" \t")
    match scheme.lower():
        case "basic":
            secret = _behind_colon(text) or ""
        case "apikey":
            secret = _behind_colon(text) or text
        case "bearer":
            secret = text
        case _:
            secret = ""
    if not secret or not secret.isascii():
        raise NotAuthenticated(NO_CREDENTIAL)
    return secret


def _behind_colon(text: str) -> str | None:
    """None if that is no base64 of a text with a colon."""
    try:
        decoded = b64decode(text, validate=True).decode()
    except (NotBase64, ValueError):
        return None
    return decoded.partition(":")[2]


def project(request: Request) -> str:
    """Q11: the space in the path, or that it asks about; "" = that of the credential. Two that differ are none."""
    named = (request.params.get("space", ""), request.params.get("about", ""))
    return "/".join(dict.fromkeys(space for space in named if space not in ("", DEFAULT_SPACE)))


def uuid_of(digits: str) -> ConversationId:
    """32 random hex digits as a UUID of version 4 (RFC 9562, 5.4)."""
    variant = "89ab"[int(digits[16], 16) % 4]
    return ConversationId(f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}")


def on_this_wire(route: Route[Any]) -> Route[Any]:
    """The route with what holds for all of them: the same path inside a space (Q11), and the header that every write
    asks for, told in its document (Q10)."""
    asks = route.asks if route.method == "GET" else (*route.asks, XSRF)
    return replace(route, also=(IN_SPACE + route.path,), asks=asks)


# -- bodies and queries ------------------------------------------------------------------------------------------------


def write(request: Request) -> None:
    """Check a write that needs no body. Raises BadRequest (Q10)."""
    if not any(request.headers.get(name) for name in XSRF_HEADERS):
        raise BadRequest(NO_XSRF)


def body(request: Request, shape: type[T]) -> T:
    """The body of a write as that struct, which must forbid unknown fields. Raises BadRequest (Q6, Q7, Q10)."""
    write(request)
    if request.body and _JSON_MEDIA_TYPE.match(request.headers.get("content-type", "")) is None:
        raise BadRequest(NO_JSON)
    try:
        return structs.decode(request.body, shape, values_max=VALUES_MAX)
    except BadRequest as error:
        raise _told(error) from None


def query(request: Request, *names: str) -> Mapping[str, str]:
    """The query, which may hold these fields only. Of a write it is looked at behind what a write must carry. Raises
    BadRequest (Q7, Q10)."""
    if request.method not in READS:
        write(request)
    if unknown := [name for name in request.query if name not in names]:
        raise excess(*(f"query.{name}" for name in unknown))
    return request.query


def invalid(place: str, what: str) -> BadRequest:
    """`place` is a path such as `messages.0.message`; "" = the whole body."""
    path = "/" + place.replace(".", "/") if place else "/"
    return BadRequest(f"Failed to validate: \n  in {path}: {what}", faults=(FieldFault(place, what),))


def excess(*places: str) -> BadRequest:
    return BadRequest(
        "Excess keys are not allowed:\n" + "\n".join(places),
        faults=tuple(FieldFault(place, "is not a known field", "excess") for place in places),
    )


def _told(error: BadRequest) -> BadRequest:
    fault = error.faults[0]
    if fault.type != "wrong_shape":
        return BadRequest(f"Failed to validate: {error.detail}", faults=error.faults)
    if unknown := _UNKNOWN_FIELD.fullmatch(fault.message):
        return excess(_below(fault.field, unknown["name"]))
    if missing := _MISSING_FIELD.fullmatch(fault.message):
        return invalid(_below(fault.field, missing["name"]), "undefined does not match the expected type")
    return invalid(fault.field, fault.message[:1].lower() + fault.message[1:])


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
