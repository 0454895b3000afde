"""The house's own endpoints: runs by id, health, readiness, metrics. They belong to no dialect. Approvals:
`approvals.py`."""

from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from math import ceil
from typing import Any
from urllib.parse import quote

from msgspec import UNSET, Struct, UnsetType
from starlette.types import Scope as AsgiScope

from dragoman.core import errors
from dragoman.core.names import RunId, Scope
from dragoman.core.operations import CancelRun, ReadRun, ReadStatus, RunView, Status, Timeline
from dragoman.edge import approvals
from dragoman.edge.authenticate import Door, Passed
from dragoman.edge.following import CURSORS, ENTRIES, RunExpired, entry_json, follow
from dragoman.edge.metrics import MEDIA_TYPE, Metrics
from dragoman.edge.readiness import Readiness
from dragoman.runtime.readers import OPEN
from dragoman.wire.dialect import Dialect, Reply, Request, Route, json_reply

STATUSES: dict[str, int] = {
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


def _status_of(error: errors.DragomanError) -> int:
    if isinstance(error, errors.Unavailable):
        return 503
    if isinstance(error, errors.BackendFailed):
        return 502
    return STATUSES.get(error.code, 500)


class Fault(Struct, frozen=True):
    code: str
    message: str
    request_id: str | UnsetType = UNSET


class Refusal(Struct, frozen=True):
    """`run` and `read` only if a run's events are kept no longer: what became of it, and where to read that."""

    error: Fault
    run: dict[str, Any] | UnsetType = UNSET
    read: str | UnsetType = UNSET


def _fail(error: errors.DragomanError, request: Request | None) -> Reply:
    headers: list[tuple[str, str]] = []
    if isinstance(error, errors.NotAuthenticated):
        headers.append(("www-authenticate", "Bearer"))
    if isinstance(error, errors.WrongMethod):
        headers.append(("allow", ", ".join(error.allowed)))
    if isinstance(error, errors.LimitReached | errors.Unavailable | errors.StillRunning):
        headers.append(("retry-after", str(max(1, ceil(error.retry_after_s)))))
    answer = Refusal(Fault(error.code, error.detail, UNSET if request is None else request.id))
    if isinstance(error, RunExpired):
        answer = Refusal(answer.error, _run_json(error.run), f"/api/runs/{quote(error.run.id, safe='')}")
    return json_reply(answer, status=_status_of(error), headers=tuple(headers))


def bearer(headers: Mapping[str, str]) -> str:
    """The credential of `Authorization: Bearer …`. Raises NotAuthenticated."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        raise errors.NotAuthenticated("Send a credential as `Authorization: Bearer …`.")
    return text


def _run_id(request: Request) -> RunId:
    return RunId(request.params["run"])


def _run_json(run: RunView) -> dict[str, object]:
    return {
        "id": run.id,
        "conversation": run.conversation,
        "status": run.status,
        "attempts": run.epoch,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
    }


def _timeline(timeline: Timeline, request: Request) -> Reply:
    entries = b",".join(map(entry_json, timeline.entries))
    head = json_reply(_run_json(timeline.run)).body
    return Reply(200, head[:-1] + b',"entries":[' + entries + b"]}")


def _cancelled(run: RunView, request: Request) -> Reply:
    cancelling: dict[str, object] = {"cancelling": True} if run.status in OPEN else {}
    return json_reply(_run_json(run) | cancelling, status=202)


def _status(status: Status, request: Request) -> Reply:
    return json_reply(status)


HOUSE = Dialect(
    name="house",
    title="Dragoman itself",
    prefixes=("/",),
    routes=(
        Route(
            "GET",
            "/api/runs/{run}",
            lambda request: ReadRun(_run_id(request)),
            answer=_timeline,
            scopes=(Scope.CHAT_READ,),
            summary="A run's timeline: every event of it, in order",
        ),
        Route(
            "GET",
            "/api/runs/{run}/events",
            follow,
            stream=ENTRIES,
            scopes=(Scope.CHAT_READ,),
            summary="A run's events as they come, from behind Last-Event-ID, ?from= or ?starting_after=",
            asks=CURSORS,
        ),
        Route(
            "POST",
            "/api/runs/{run}/cancel",
            lambda request: CancelRun(_run_id(request)),
            answer=_cancelled,
            scopes=(Scope.RUNS_CANCEL,),
            status=202,
            summary="Stop a run; asking twice is harmless, and `cancelling` says that its end is still to come",
        ),
        *approvals.ROUTES,
        Route(
            "GET",
            "/api/server",
            lambda request: ReadStatus(),
            answer=_status,
            scopes=(Scope.CHAT_READ,),
            summary="What this process is and has done since it started",
        ),
    ),
    credential=bearer,
    fail=_fail,
    refusal=Refusal,
)

_METRICS_ROUTE = Route("GET", "/metrics", lambda request: ReadStatus(), answer=_status, scopes=(Scope.METRICS_READ,))


class OpenEndpoints:
    """Endpoints that answer before any check: what probes and scrapers ask for."""

    def __init__(self, door: Door, metrics: Metrics, readiness: Readiness) -> None:
        self._door = door
        self._metrics = metrics
        self._readiness = readiness

    def table(self) -> dict[str, Callable[[AsgiScope], Awaitable[Reply]]]:
        return {"/health": self.health, "/ready": self.ready, "/metrics": self.metrics}

    async def health(self, scope: AsgiScope) -> Reply:
        return Reply(200, b'{"status":"ok"}')

    async def ready(self, scope: AsgiScope) -> Reply:
        why = await self._readiness.why_not()
        if why is None:
            return Reply(200, b'{"status":"ready"}')
        body = {"status": "unready", "reason": why.reason, "detail": why.detail}
        return json_reply(body, status=503, headers=(("retry-after", "5"),))

    async def metrics(self, scope: AsgiScope) -> Reply:
        """Open to loopback; others need the scope metrics:read. What came through a proxy is not loopback."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        client = scope.get("client")
        if not client or not _is_loopback(client[0]) or "x-forwarded-for" in headers or "forwarded" in headers:
            await self._door.admit_principal(HOUSE, _METRICS_ROUTE, headers, Passed())
        await self._readiness.why_not()  # for its gauge
        return Reply(200, self._metrics.text(), MEDIA_TYPE)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
