"""Every error of the tree as this wire says it.

Before an answer has begun: `{statusCode, error, message, attributes: {data: null}}` (Q20). A chat that cannot be begun
because of what its messages or its conversation are is answered with 200 and a stream that holds the error (Q12, Q19):
that is how this wire's callers know it.
"""

from math import ceil
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

from dragoman.core import errors
from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, DragomanError, FieldFault
from dragoman.dialects.elastic.requests import INTERNAL, PUBLIC, VALUES_MAX
from dragoman.wire import sse, structs
from dragoman.wire.dialect import Headers, Reply, Request
from dragoman.wire.ndjson import line

MEDIA_TYPE = "application/json; charset=utf-8"
STREAM_MEDIA_TYPE = "application/octet-stream"
"""Q1: of SSE and NDJSON alike."""
SSE_MEDIA_TYPE = "text/event-stream; charset=utf-8"
DONE = sse.frame("[DONE]")

TOKEN_LIMIT = "Token limit reached."
CANCELLED = "The answer was cancelled."
RETOLD = "The answer was begun anew and came out differently from what was already sent; please ask again."
INTERNAL_ERROR = "An internal server error occurred"
CONVERSATION_NOT_FOUND = "Conversation not found"
NOT_OWNED = "Cannot update conversation that is not owned by the user"

LACKS_SCOPE = "This credential lacks the scope "
"""How the refusal of a credential begins that may not use a route at all, whatever it is about."""
STREAM_FAULT = "said_in_stream"
"""`FieldFault.type` of what is wrong with a chat's messages and belongs into its stream."""

STATUSES = {
    "bad_request": 400,
    "too_large": 413,
    "not_authenticated": 401,
    "not_allowed": 403,
    "not_found": 404,
    "wrong_method": 404,
    "conflict": 409,
    "key_reused": 422,
    "still_running": 409,
    "expired": 410,
    "limit_reached": 429,
    "not_offered": 501,
}
NAMES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    410: "Gone",
    413: "Request Entity Too Large",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
}

Framing = Literal["sse", "ndjson"]


class Refusal(Struct, frozen=True):
    """`attributes` is `{"data": null}`, or `{"data": {}}` for what went wrong in the server."""

    statusCode: int
    error: str
    message: str
    attributes: dict[str, Any]


def refusal(status: int, message: str, headers: Headers = ()) -> Reply:
    attributes: dict[str, Any] = {"data": {} if status == 500 else None}
    body = Refusal(status, NAMES[status], message, attributes)
    return Reply(status, msgspec.json.encode(body), MEDIA_TYPE, headers)


def in_stream(detail: str, *, place: str) -> BadRequest:
    """What is wrong with the messages of a chat, to be said in its stream."""
    return BadRequest(detail, faults=(FieldFault(place, detail, STREAM_FAULT),))


def is_for_stream(error: BadRequest) -> bool:
    return any(fault.type == STREAM_FAULT for fault in error.faults)


def fail(error: DragomanError, request: Request | None) -> Reply:
    """The reply to a request that was refused; only `detail` is ever shown."""
    if request is not None and (reply := _stream_of_an_error(error, request)) is not None:
        return reply
    status = _status_of(error, request)
    return refusal(status, INTERNAL_ERROR if status == 500 else _sentence(error, request), _headers(error))


def _status_of(error: DragomanError, request: Request | None) -> int:
    if isinstance(error, errors.Unavailable):
        return 503
    if isinstance(error, errors.BackendFailed):
        return 502
    if isinstance(error, errors.NotFound) and error.what != "project" and _deletes_entry(request):
        return 500  # upstream's tests assert it (K1)
    return STATUSES.get(error.code, 500)


def _deletes_entry(request: Request | None) -> bool:
    return request is not None and request.method == "DELETE" and f"{INTERNAL}/kb/entries/" in request.path


def _sentence(error: DragomanError, request: Request | None) -> str:
    match error:
        case errors.NotFound():
            return _not_found(error, request)
        case errors.NotAllowed() if request is not None:
            return _not_allowed(error, request)
        case errors.WrongMethod():
            return NAMES[404]  # as the live system: it has no such route
        case errors.TooLarge():
            return f"Payload content length greater than maximum allowed: {error.bytes_max}"
        case _:
            return error.detail


def _not_found(error: errors.NotFound, request: Request | None) -> str:
    match error.what:
        case "route":
            return NAMES[404]
        case "model" if request is not None and (asked := _connector_of(request)):
            return f"No connector or inference endpoint found for ID '{asked}'"
        case "connector" if request is not None and (asked := _connector_of(request)):
            if "/api/actions/" in request.path:
                return f"Saved object [action/{asked}] not found"
            return f"No connector or inference endpoint found for ID '{asked}'"
        case "conversation":
            return CONVERSATION_NOT_FOUND
        case _:
            return error.detail


def _not_allowed(error: errors.NotAllowed, request: Request) -> str:
    if error.detail.startswith(LACKS_SCOPE):
        return f"API [{request.method} {request.path}] is unauthorized for user: {error.detail}"
    return error.detail


def _connector_of(request: Request) -> str:
    """The connector that the request names, wherever it does."""
    for name in ("id", "connectorId"):
        if named := request.params.get(name):
            return named
    named = request.query.get("connectorId") or fields_of(request).get("connectorId")
    return named if isinstance(named, str) else ""


def _headers(error: DragomanError) -> Headers:
    match error:
        case errors.NotAuthenticated():
            return (("www-authenticate", 'Basic realm="dragoman", Bearer, ApiKey'),)
        case errors.WrongMethod():
            return (("allow", ", ".join(error.allowed)),)
        case errors.LimitReached() | errors.Unavailable() | errors.StillRunning():
            return (("retry-after", str(max(1, ceil(error.retry_after_s)))),)
        case _:
            return ()


# -- what a stream ends with -------------------------------------------------------------------------------------------


class Failure(Struct, frozen=True):
    """Why a run did not answer. `code` only for errors that this wire has a name for (elastic spec 2.1)."""

    message: str
    code: str = ""


def failure_of(end: ev.RunFailed | ev.RunCancelled) -> Failure:
    if isinstance(end, ev.RunCancelled):
        return Failure(CANCELLED)
    if end.code.startswith("upstream_"):
        return Failure(f"Error calling connector: {end.detail}")
    match end.code:
        case "reply_cut" | "token_limit":
            detail = end.detail if end.detail.startswith(TOKEN_LIMIT) else f"{TOKEN_LIMIT} {end.detail}"
            return Failure(detail, "tokenLimitReachedError")
        case "step_limit" | "repeated_call":
            return Failure(end.detail, "functionLimitExceededError")
        case "not_found":
            return Failure(end.detail, "notFoundError")
        case _:
            return Failure(end.detail or INTERNAL_ERROR, "internalError")


def detail_of(error: DragomanError) -> str:
    """What is said in a stream of an error that ends it."""
    return INTERNAL_ERROR if _status_of(error, None) == 500 else error.detail


def code_of(error: DragomanError) -> str:
    return "notFoundError" if isinstance(error, errors.NotFound) else "internalError"


# -- a stream that holds nothing but an error --------------------------------------------------------------------------


def sse_error(message: str) -> bytes:
    """Q19, and the frame that ends every stream (Q2)."""
    return sse.frame(msgspec.json.encode({"error": {"message": message}})) + DONE


def ndjson_error(message: str, *, code: str = "", meta: dict[str, Any] | None = None) -> bytes:
    """`code` only for errors of the assistant's own (elastic spec 2)."""
    said: dict[str, Any] = {"message": message, **({"code": code} if code else {}), "meta": meta or {}}
    return line(msgspec.json.encode({"error": said, "type": "chatCompletionError"}))


def framing_of(request: Request) -> Framing:
    """What a chat request wants its stream to be."""
    inside = request.path.endswith("/chat/complete") and PUBLIC in request.path
    return "sse" if inside and request.query.get("format", "openai") != "default" else "ndjson"


def accepts_sse_alone(request: Request) -> bool:
    """Q1: nothing else will do for the caller."""
    ranges = request.headers.get("accept", "").split(",")
    return all(each.partition(";")[0].strip().lower() == "text/event-stream" for each in ranges)


def _stream_of_an_error(error: DragomanError, request: Request) -> Reply | None:
    """None if the error is no stream's."""
    if request.method != "POST" or not request.path.endswith(("/chat/complete", "/chat", "/chat/recall")):
        return None
    message, code = "", ""
    match error:
        case BadRequest() if is_for_stream(error):
            message = error.detail
        case errors.NotFound(what="conversation") if _continues(request):
            message, code = CONVERSATION_NOT_FOUND, "notFoundError"
        case errors.NotAllowed() if _continues(request) and not error.detail.startswith(LACKS_SCOPE):
            message = NOT_OWNED
        case _:
            pass
    if not message or wants_one_piece(request):
        return None
    if framing_of(request) == "ndjson":
        return Reply(200, ndjson_error(message, code=code), STREAM_MEDIA_TYPE)
    return Reply(200, sse_error(message), SSE_MEDIA_TYPE if accepts_sse_alone(request) else STREAM_MEDIA_TYPE)


def fields_of(request: Request) -> dict[str, Any]:
    """The members of the body, {} if it is no object."""
    try:
        value = structs.parse(request.body, values_max=VALUES_MAX)
    except BadRequest:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _continues(request: Request) -> bool:
    fields = fields_of(request)
    return truth(fields.get("persist")) and bool(fields.get("conversationId"))


def wants_one_piece(request: Request) -> bool:
    """`isStream` said no, and this is an internal route: on the public one it means nothing."""
    if f"{INTERNAL}/chat/complete" not in request.path:
        return False
    return not truth(fields_of(request).get("isStream", True))


def truth(value: Any) -> bool:
    """What this wire's flags mean, whatever they are given as: of texts only "true" is (Q8); lists and objects are."""
    if isinstance(value, str):
        return value == "true"
    return bool(value) or isinstance(value, list | dict)
