"""The error tree: says whose move it is.

    DragomanError
    ├── BadRequest            the caller must change what it sends            bad_request
    │   └── TooLarge          …by sending less                                too_large
    ├── NotAuthenticated      the caller must prove who it is                 not_authenticated
    ├── NotAllowed            the caller's credential does not reach this     not_allowed
    ├── NotFound              nothing of that name here                       not_found
    ├── WrongMethod           this path takes other methods                   wrong_method
    ├── Conflict              the thing is in a state that forbids this       conflict
    │   ├── KeyReused         …the key of this request means another one      key_reused
    │   └── StillRunning      …the same request is being answered; wait       still_running
    ├── Expired               it was here and is no longer kept               expired
    ├── LimitReached          the caller should wait                          limit_reached
    ├── NotOffered            we know what is meant and do not do it          not_offered
    ├── Unavailable           we must recover first; try again later          unavailable
    └── BackendFailed         a model or outside system failed                upstream_…
        └── ToolFailed        a tool failed; the model is told                tool_failed

Every error carries two texts: `detail` is for the caller and names no internals; `internal` is for the log.
Each dialect maps `code` (or the class) to its own status and body in one table.
"""

from collections.abc import Sequence

from msgspec import Struct


class FieldFault(Struct, frozen=True):
    """One thing wrong with a request. `field` is a path such as `messages.0.role`; "" is the whole body."""

    field: str
    message: str
    type: str = "invalid"


class DragomanError(Exception):
    """Root of everything we raise on purpose."""

    code = "error"

    def __init__(self, detail: str, *, internal: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.internal = internal

    def __str__(self) -> str:
        return f"{self.detail} ({self.internal})" if self.internal else self.detail


class BadRequest(DragomanError):
    """The request cannot be understood or breaks a rule. `faults` lists every place that is wrong, in order."""

    code = "bad_request"

    def __init__(self, detail: str, *, faults: Sequence[FieldFault] = (), internal: str = "") -> None:
        super().__init__(detail, internal=internal)
        self.faults = tuple(faults)


class TooLarge(BadRequest):
    """The body is over the limit; `bytes_max` says which."""

    code = "too_large"

    def __init__(self, detail: str, *, bytes_max: int) -> None:
        super().__init__(detail)
        self.bytes_max = bytes_max


class NotAuthenticated(DragomanError):
    code = "not_authenticated"


class NotAllowed(DragomanError):
    code = "not_allowed"


class NotFound(DragomanError):
    """`what` names the kind of thing, such as route, conversation, run, tool, model, agent, workflow, project."""

    code = "not_found"

    def __init__(self, detail: str, *, what: str, internal: str = "") -> None:
        super().__init__(detail, internal=internal)
        self.what = what


class WrongMethod(DragomanError):
    code = "wrong_method"

    def __init__(self, detail: str, *, allowed: Sequence[str]) -> None:
        super().__init__(detail)
        self.allowed = tuple(allowed)


class Conflict(DragomanError):
    code = "conflict"


class KeyReused(Conflict):
    """An idempotency key came with another request than the first time (draft-ietf-httpapi-idempotency-key-header-07,
    2.7: 422)."""

    code = "key_reused"


class StillRunning(Conflict):
    """A repeat of a request whose answer is still being made (the same draft: 409)."""

    code = "still_running"

    def __init__(self, detail: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Expired(DragomanError):
    """What a reader wants to resume is kept no longer; `detail` says what is still to be had, and where."""

    code = "expired"


class LimitReached(DragomanError):
    """A limit of ours. `limit` names its config key; `retry_after_s` is when it is worth trying again."""

    code = "limit_reached"

    def __init__(self, detail: str, *, limit: str, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.limit = limit
        self.retry_after_s = retry_after_s


class NotOffered(DragomanError):
    code = "not_offered"


class Unavailable(DragomanError):
    """Draining, no store, disk full. `code` may be narrowed, e.g. `storage_full`."""

    code = "unavailable"

    def __init__(
        self, detail: str, *, code: str = "unavailable", retry_after_s: float = 5.0, internal: str = ""
    ) -> None:
        super().__init__(detail, internal=internal)
        self.code = code
        self.retry_after_s = retry_after_s


class BackendFailed(DragomanError):
    """A model or outside system failed. Codes of models: upstream_unreachable, upstream_refused (4xx),
    upstream_limited (429), upstream_failed (5xx), upstream_idle (a timeout), upstream_malformed, upstream_truncated,
    upstream_too_long (over a size limit of ours). `retryable` = the same question may well succeed a moment later."""

    code = "upstream_failed"

    def __init__(
        self,
        detail: str,
        *,
        code: str = "upstream_failed",
        retryable: bool = False,
        retry_after_s: float | None = None,
        internal: str = "",
    ) -> None:
        super().__init__(detail, internal=internal)
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class ToolFailed(BackendFailed):
    """A tool could not do it. `detail` goes to the model as the tool's result, so it says what to do otherwise."""

    def __init__(self, detail: str, *, code: str = "tool_failed", internal: str = "") -> None:
        super().__init__(detail, code=code, internal=internal)
