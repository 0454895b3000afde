"""Every error of the tree as this wire says it: `{"status":"error","message":M,"error":M}` (Q14)."""

from math import ceil

from msgspec import UNSET

from dragoman.core import errors
from dragoman.core.errors import DragomanError
from dragoman.dialects.grafana import shapes
from dragoman.wire.dialect import Headers, Reply, Request, json_reply

CHAT_NOT_FOUND = "Chat not found"
"""The reference page's own words."""
UNEXPECTED = "Something went wrong in the server; its log says more."

STATUSES = {
    "bad_request": 400,
    "too_large": 413,
    "not_authenticated": 401,
    "not_allowed": 403,
    "not_found": 404,
    "wrong_method": 405,
    "conflict": 409,
    "key_reused": 422,
    "still_running": 409,
    "expired": 410,
    "limit_reached": 429,
    "not_offered": 501,
}


def fail(error: DragomanError, request: Request | None) -> Reply:
    """The reply to a request that was refused; only `detail` is ever shown."""
    status = _status_of(error)
    sentence = UNEXPECTED if status == 500 else _sentence(error)
    name = "NOT_IMPLEMENTED" if status == 501 else UNSET
    body = shapes.ErrorBody(message=sentence, error=sentence, name=name)
    return json_reply(body, status=status, headers=_headers(error))


def _status_of(error: DragomanError) -> int:
    if isinstance(error, errors.Unavailable):
        return 503
    if isinstance(error, errors.BackendFailed):
        return 502
    return STATUSES.get(error.code, 500)


def _sentence(error: DragomanError) -> str:
    if isinstance(error, errors.NotFound):
        if error.what == "conversation":
            return CHAT_NOT_FOUND
        if error.what == "route":
            return "There is no such endpoint here."
    if isinstance(error, errors.WrongMethod):
        return f"This endpoint takes {', '.join(error.allowed)}."
    if isinstance(error, errors.TooLarge):
        return f"The request body is too large: at most {error.bytes_max} bytes are taken."
    return error.detail


def _headers(error: DragomanError) -> Headers:
    match error:
        case errors.NotAuthenticated():
            return (("www-authenticate", "Bearer"),)
        case errors.WrongMethod():
            return (("allow", ", ".join(error.allowed)),)
        case errors.LimitReached() | errors.Unavailable() | errors.StillRunning():
            return (("retry-after", str(max(1, ceil(error.retry_after_s)))),)
        case _:
            return ()
