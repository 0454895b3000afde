"""Every error of the tree as this wire says it: `{"error": sentence}` (rowboat spec 1.2, 3.5). The chat widget has
words of its own (`widget_errors.py`)."""

from math import ceil

from dragoman.core import errors
from dragoman.core import events as ev
from dragoman.core.errors import DragomanError
from dragoman.dialects.rowboat import widget_errors
from dragoman.dialects.rowboat.decode import BAD_KEY, NO_BEARER, NO_KEY
from dragoman.dialects.rowboat.shapes import Refusal
from dragoman.wire.dialect import Headers, Reply, Request, json_reply

QUERY_LIMIT = "Query limit exceeded"
INTERNAL_ERROR = "Internal server error"
CANCELLED = "The turn was cancelled."
NO_CLIENT_TOOLS = "The turn waits for a tool that only a client can run, which this API has no way to ask for."
NO_ANSWER = "The turn ended without an answer for the user; please ask again."

RATE_LIMITS = frozenset({"per_ip_rpm", "per_credential_rpm", "per_project_rpm"})

STATUSES = {
    "bad_request": 400,
    "too_large": 413,
    "not_allowed": 403,
    "wrong_method": 405,
    "conflict": 409,
    "key_reused": 422,
    "still_running": 409,
    "expired": 410,
    "limit_reached": 429,
    "not_offered": 501,
    "upstream_idle": 504,
}
ENDS = {"upstream_idle": 504, "unavailable": 503, "retries_exhausted": 502}
"""Of turns that failed, by their codes."""
NOT_FOUND = {
    "route": "Not Found",
    "conversation": "Conversation not found",
    "workflow": "Workflow not found",
    "published_workflow": "No workflow id provided in request or project has no published workflow",
    "test_profile": "Test profile not found",
}


def fail(error: DragomanError, request: Request | None) -> Reply:
    """The reply to a request that was refused; only `detail` is ever shown."""
    if request is not None and request.path.startswith(f"{widget_errors.PREFIX}/"):
        return widget_errors.fail(error, request)
    return json_reply(Refusal(sentence_of(error)), status=status_of(error), headers=_headers(error))


def status_of(error: DragomanError) -> int:
    match error:
        case errors.NotAuthenticated():
            return 400 if error.detail in (NO_BEARER, NO_KEY) else 403
        case errors.NotFound():
            return 403 if error.what == "project" else 404  # Q11: a key is looked up by project and key
        case errors.Unavailable():
            return 503
        case errors.BackendFailed():
            return STATUSES.get(error.code, 502)
        case _:
            return STATUSES.get(error.code, 500)


def sentence_of(error: DragomanError) -> str:
    match error:
        case errors.NotAuthenticated():
            return error.detail if error.detail in (NO_BEARER, NO_KEY) else BAD_KEY
        case errors.NotFound(what="project"):
            return BAD_KEY
        case errors.NotFound():
            return NOT_FOUND.get(error.what, error.detail)
        case errors.LimitReached() if error.limit in RATE_LIMITS:
            return QUERY_LIMIT
        case _:
            return INTERNAL_ERROR if status_of(error) == 500 else error.detail


def _headers(error: DragomanError) -> Headers:
    match error:
        case errors.WrongMethod():
            return (("allow", ", ".join(error.allowed)),)
        case errors.LimitReached() | errors.Unavailable() | errors.StillRunning():
            return (("retry-after", str(max(1, ceil(error.retry_after_s)))),)
        case _:
            return ()


# -- turns that did not come to an answer ------------------------------------------------------------------------------


def refusal_of(end: ev.RunEnd) -> Reply:
    """Q6: never 200. What a model or an outside system spoiled is 502 (504 if it took too long), and so is a turn at
    which the server stopped each time, as on other wires; all else 500."""
    status = 500
    if isinstance(end, ev.RunFailed):
        status = ENDS.get(end.code, 502 if end.code.startswith("upstream_") else 500)
    return json_reply(Refusal(failure_of(end)), status=status)


def failure_of(end: ev.RunEnd) -> str:
    match end:
        case ev.RunFailed():
            return end.detail or INTERNAL_ERROR
        case ev.RunCancelled():
            return CANCELLED
        case ev.RunNeedsClient():
            return NO_CLIENT_TOOLS
        case ev.RunCompleted():
            return NO_ANSWER
