"""The house's own endpoints: runs, status, health, readiness, and its words for errors."""

import asyncio
import json
from typing import Any

import pytest

from dragoman.core import errors
from dragoman.core.errors import DragomanError
from dragoman.core.events import dump_event, kind_of
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, RunId, Scope, Tape
from dragoman.core.operations import CancelRun, FollowRun, ReadRun, ReadStatus, RunView, StartTurn
from dragoman.core.waits import DecideApproval, ListApprovals
from dragoman.edge.house import HOUSE, bearer
from dragoman.wire.dialect import Reply, Request
from tests.parts import ADMIN, Gate, ScriptedReplies, open_config, text_reply
from tests.stage import SetUp, Stage
from tests.streaming_client import Response

INTERNAL = "s3cret-internal-text"
REQUEST = Request("GET", "/api/server", {}, {}, {}, b"", "abcdef012345", "0" * 32, 1_700_000_000.0)


def fail(error: DragomanError, request: Request | None = REQUEST) -> Reply:
    return HOUSE.fail(error, request)


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BadRequest("No.", internal=INTERNAL), 400),
        (errors.TooLarge("No.", bytes_max=1), 413),
        (errors.NotAuthenticated("No.", internal=INTERNAL), 401),
        (errors.NotAllowed("No.", internal=INTERNAL), 403),
        (errors.NotFound("No.", what="run", internal=INTERNAL), 404),
        (errors.WrongMethod("No.", allowed=["GET"]), 405),
        (errors.Conflict("No.", internal=INTERNAL), 409),
        (errors.KeyReused("No.", internal=INTERNAL), 422),
        (errors.StillRunning("No."), 409),
        (errors.Expired("No.", internal=INTERNAL), 410),
        (errors.LimitReached("No.", limit="per_ip_rpm"), 429),
        (errors.NotOffered("No.", internal=INTERNAL), 501),
        (errors.Unavailable("No.", code="storage_full", internal=INTERNAL), 503),
        (errors.BackendFailed("No.", code="upstream_idle", internal=INTERNAL), 502),
        (errors.ToolFailed("No.", internal=INTERNAL), 502),
        (DragomanError("No.", internal=INTERNAL), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, DragomanError) else str(value),
)
def test_every_kind_of_error_has_its_status_and_shows_only_what_is_for_the_caller(
    error: DragomanError, status: int
) -> None:
    reply = fail(error)
    assert (reply.status, reply.media_type) == (status, "application/json")
    assert json.loads(reply.body) == {"error": {"code": error.code, "message": "No.", "request_id": "abcdef012345"}}


def test_a_request_that_could_not_be_read_has_no_id_in_its_answer() -> None:
    assert json.loads(fail(errors.Conflict("No."), None).body) == {"error": {"code": "conflict", "message": "No."}}


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.NotAuthenticated("No."), (("www-authenticate", "Bearer"),)),
        (errors.WrongMethod("No.", allowed=["GET", "HEAD"]), (("allow", "GET, HEAD"),)),
        (errors.NotAllowed("No."), ()),
    ],
)
def test_an_error_says_in_headers_what_to_do(error: DragomanError, headers: tuple[tuple[str, str], ...]) -> None:
    assert fail(error).headers == headers


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (2.0, "2"), (2.001, "3"), (2.5, "3"), (61.0, "61")]
)
def test_who_must_wait_is_never_told_to_come_back_too_early(seconds: float, told: str) -> None:
    for error in (
        errors.LimitReached("Wait.", limit="per_ip_rpm", retry_after_s=seconds),
        errors.Unavailable("Wait.", retry_after_s=seconds),
        errors.StillRunning("Wait.", retry_after_s=seconds),
    ):
        assert fail(error).headers == (("retry-after", told),)


# -- credentials and routes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["Bearer abc", "bearer abc", "BEARER   abc  "])
def test_a_credential_follows_bearer(value: str) -> None:
    assert bearer({"authorization": value}) == "abc"


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Bearer   ", "Basic abc", "abc", "Bearerabc"])
def test_any_other_header_proves_nobody(value: str | None) -> None:
    with pytest.raises(errors.NotAuthenticated) as refused:
        bearer({} if value is None else {"authorization": value})
    assert refused.value.detail == "Send a credential as `Authorization: Bearer …`."


def test_every_route_asks_for_a_scope_of_its_own_and_says_what_it_is() -> None:
    rows = [
        (route.method, route.path, route.scopes, type(route.decode(Request(**as_request("r1")))))
        for route in HOUSE.routes
    ]
    assert rows == [
        ("GET", "/api/runs/{run}", (Scope.CHAT_READ,), ReadRun),
        ("GET", "/api/runs/{run}/events", (Scope.CHAT_READ,), FollowRun),
        ("POST", "/api/runs/{run}/cancel", (Scope.RUNS_CANCEL,), CancelRun),
        ("GET", "/api/waiting", (Scope.TOOLS_APPROVE,), ListApprovals),
        ("POST", "/api/runs/{run}/approvals/{call:path}", (Scope.TOOLS_APPROVE,), DecideApproval),
        ("GET", "/api/server", (Scope.CHAT_READ,), ReadStatus),
    ]
    assert all(route.summary for route in HOUSE.routes)


def as_request(run: str) -> dict[str, Any]:
    fields = {name: getattr(REQUEST, name) for name in REQUEST.__struct_fields__}
    return fields | {"params": {"run": run, "call": "c"}, "body": b'{"approved":true,"arguments_hash":"h"}'}


# -- answers -------------------------------------------------------------------------------------------------------


async def get(s: Stage, path: str) -> Any:
    answer = await s.client().request("GET", path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return json.loads(answer.body)


async def test_a_timeline_shows_every_entry_as_it_stands_on_the_tape(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply('say "ключ"\n', "\x00"))
    async with stage(model=model) as s:
        await s.client().request("POST", "/api/v1/chat", body=b'{"message":"\\u0000 hi","session_key":"k"}')
        (run,) = await s.store.runs(ADMIN.project, limit=10)
        entries = await s.store.read_run(run)
        shown = await get(s, f"/api/runs/{run.id}")
    assert shown == {
        "id": run.id,
        "conversation": "k",
        "status": "completed",
        "attempts": 1,
        "started_at": s.clock.at,
        "ended_at": s.clock.at,
        "entries": [
            {"seq": entry.seq, "at": entry.at, "event": json.loads(dump_event(entry.event))} for entry in entries
        ],
    }
    assert [entry["event"]["kind"] for entry in shown["entries"]][-1] == "run_completed"


@pytest.mark.parametrize(
    ("status", "cancelling"), [("running", True), ("queued", True), ("cancelled", None), ("completed", None)]
)
def test_a_cancel_says_whether_the_end_is_still_to_come(status: str, cancelling: bool | None) -> None:
    (route,) = [route for route in HOUSE.routes if route.path.endswith("/cancel")]
    assert route.answer is not None
    reply = route.answer(RunView(RunId("r"), ConversationId("k"), Tape(1), status, 2, 1, 1.5), REQUEST)
    shown = {"id": "r", "conversation": "k", "status": status, "attempts": 2, "started_at": 1.5, "ended_at": None}
    assert (reply.status, json.loads(reply.body)) == (202, shown | ({"cancelling": True} if cancelling else {}))


async def test_a_run_can_be_cancelled_whatever_its_state_and_as_often_as_one_likes(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("never"))
    model.gate = Gate()
    async with stage(model=model) as s:
        live = await s.house.desk.answer(ADMIN, StartTurn(ConversationId("k"), (said("user", "hi"),)))
        waiting = await s.house.desk.answer(ADMIN, StartTurn(ConversationId("k"), (said("user", "ho"),)))
        answers = [
            await s.client().request("POST", f"/api/runs/{each.run}/cancel")
            for each in (waiting, waiting, live, live, waiting)
        ]
        storm = await asyncio.gather(*(s.client().request("POST", f"/api/runs/{live.run}/cancel") for _ in range(100)))
        kinds = [kind_of(entry.event) for entry in await s.store.read(live.tape, after=0)]
    assert [(answer.status, json.loads(answer.body)["status"]) for answer in answers] == [(202, "cancelled")] * 5
    assert {(answer.status, answer.body) for answer in storm} == {(202, answers[2].body)}
    assert kinds.count("run_cancelled") == 2
    assert model.closed == 1  # the model's connection is closed with the run


@pytest.mark.parametrize("run", ["none", "..", "%2e%2e", "%0a", "x" * 10_000, "%F0%9F%98%80", "%ff"])
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel")])
async def test_a_run_that_does_not_exist_is_not_found(stage: SetUp, run: str, method: str, rest: str) -> None:
    async with stage() as s:
        answer = await s.client().request(method, f"/api/runs/{run}{rest}")
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "not_found")


async def test_the_status_is_told_to_who_may_read(stage: SetUp) -> None:
    async with stage() as s:
        await s.client().request("POST", "/api/v1/chat", body=b'{"message":"hi"}')
        shown = await get(s, "/api/server")
        refused = await s.anonymous().request("GET", "/api/server")
    assert (shown["conversations"], shown["live_runs"], shown["counters"]["runs"]) == (1, 0, 1)
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (401, "not_authenticated")


async def test_health_is_told_to_anybody_also_while_the_server_stops(stage: SetUp) -> None:
    async with stage(config=open_config(per_ip_rpm=1)) as s:
        s.house.app.draining = True
        answers = [await s.anonymous(peer="203.0.113.1").request("GET", "/health") for _ in range(3)]
    assert [(answer.status, answer.body) for answer in answers] == [(200, b'{"status":"ok"}')] * 3


async def test_readiness_ends_when_the_server_begins_to_stop(stage: SetUp) -> None:
    async with stage() as s:
        ready = await s.anonymous().request("GET", "/ready")
        s.house.app.draining = True
        unready = await s.anonymous().request("GET", "/ready")
    assert (ready.status, json.loads(ready.body)) == (200, {"status": "ready"})
    assert unready.status == 503
    assert json.loads(unready.body) == {
        "status": "unready",
        "reason": "draining",
        "detail": "The server is stopping; it takes no new requests.",
    }
    assert unready.headers["retry-after"] == "5"


async def test_readiness_ends_while_the_store_cannot_be_written(stage: SetUp) -> None:
    async with stage() as s:

        async def probe() -> None:
            raise errors.Unavailable("The disk is full.", code="storage_full", internal=INTERNAL)

        s.store.probe = probe
        unready = await s.anonymous().request("GET", "/ready")
        alive = await s.anonymous().request("GET", "/health")
        del s.store.probe
        s.clock.move(1.0)
        ready = await s.anonymous().request("GET", "/ready")
    assert (unready.status, alive.status, ready.status) == (503, 200, 200)
    assert json.loads(unready.body) == {"status": "unready", "reason": "storage_full", "detail": "The disk is full."}


@pytest.mark.parametrize("peer", ["203.0.113.9", "10.0.0.1", "::2", "not-an-address", ""])
async def test_metrics_ask_everybody_but_loopback_for_the_scope(stage: SetUp, peer: str) -> None:
    async with stage() as s:
        minted = await s.house.mint.create("reader", ADMIN.project, scopes=(Scope.CHAT_READ,))
        other = {"authorization": f"Bearer {minted.text}"}
        answers = [
            await s.anonymous(peer=peer).request("GET", "/metrics"),
            await s.anonymous(peer=peer).request("GET", "/metrics", headers=other),
            await s.client(peer=peer).request("GET", "/metrics"),
        ]
    assert [answer.status for answer in answers] == [401, 403, 200]


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1"])
@pytest.mark.parametrize(("header", "status"), [("", 200), ("x-forwarded-for", 401), ("forwarded", 401)])
async def test_a_request_that_came_through_a_proxy_is_not_from_loopback(
    stage: SetUp, peer: str, header: str, status: int
) -> None:
    async with stage() as s:
        headers = {header: "for=127.0.0.1"} if header else {}
        answer: Response = await s.anonymous(peer=peer).request("GET", "/metrics", headers=headers)
    assert answer.status == status
