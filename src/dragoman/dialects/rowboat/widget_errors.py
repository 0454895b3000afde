"""Every error of the tree as the chat widget is told it: `{"error": sentence}` (rowboat spec 8.1 and 1.2)."""

from math import ceil

from dragoman.core import errors
from dragoman.core.errors import DragomanError
from dragoman.dialects.rowboat.shapes import Refusal
from dragoman.wire.dialect import Headers, Reply, Request, json_reply

PREFIX = "/api/widget/v1"
SESSIONS = f"{PREFIX}/session/"

NO_BEARER = "Authorization header must be a Bearer token"
NO_SESSION = "Invalid session token"
NO_CLIENT = "Invalid client ID"
NO_USER = "Invalid jwt"
NO_CHAT = "Chat not found"
NOT_PUBLISHED = "No workflow id provided in request or project has no published workflow"
QUERY_LIMIT = "Query limit exceeded"

STATUSES = {
    "bad_request": 400,
    "too_large": 413,
    "not_authenticated": 403,
    "not_allowed": 403,
    "not_found": 404,
    "wrong_method": 405,
    "conflict": 409,
    "key_reused": 422,
    "still_running": 409,
    "expired": 410,
    "limit_reached": 429,
    "not_offered": 501,
    "upstream_idle": 504,
}

_NOT_FOUND = {
    "widget_chat": NO_CHAT,
    "conversation": NO_CHAT,
    "workflow": "Workflow not found",
    "published_workflow": NOT_PUBLISHED,
    "route": "Not Found",
}


def fail(error: DragomanError, request: Request | None) -> Reply:
    """The reply to a request that was refused; only `detail` is ever shown."""
    status, sentence = _told(error, request)
    return json_reply(Refusal(sentence), status=status, headers=_headers(error))


def _told(error: DragomanError, request: Request | None) -> tuple[int, str]:
    match error:
        case errors.NotAuthenticated():
            return _unproven(request)
        case errors.NotFound(what="widget_client"):
            return 403, NO_CLIENT
        case errors.NotFound(what=what):
            return 404, _NOT_FOUND.get(what, error.detail)
        case errors.LimitReached(limit=limit) if limit.endswith("_rpm"):
            return 429, QUERY_LIMIT
        case errors.WrongMethod(allowed=allowed):
            return 405, f"This endpoint takes {', '.join(allowed)}."
        case errors.TooLarge(bytes_max=bytes_max):
            return 413, f"The request body is too large: at most {bytes_max} bytes are taken."
        case errors.Unavailable():
            return 503, error.detail
        case errors.BackendFailed():
            return STATUSES.get(error.code, 502), error.detail
        case _:
            return STATUSES.get(error.code, 500), error.detail


def _unproven(request: Request | None) -> tuple[int, str]:
    """A visitor that its website speaks for is to bring a JWT; all others a session."""
    if request is not None and request.path.startswith(SESSIONS):
        return 403, NO_USER
    if request is None or not request.headers.get("authorization", "").startswith("Bearer "):
        return 400, NO_BEARER
    return 403, NO_SESSION


def _headers(error: DragomanError) -> Headers:
    match error:
        case errors.WrongMethod(allowed=allowed):
            return (("allow", ", ".join(allowed)),)
        case (
            errors.LimitReached(retry_after_s=s)
            | errors.Unavailable(retry_after_s=s)
            | errors.StillRunning(retry_after_s=s)
        ):
            return (("retry-after", str(max(1, ceil(s)))),)
        case _:
            return ()
