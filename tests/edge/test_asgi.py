"""The application over its real parts: order of checks, answers, and what is on every one of them."""

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.access.ports import Project
from dragoman.core.errors import BadRequest
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, ProjectId, Scope
from dragoman.core.operations import ReadConversation
from dragoman.dialects.grip import DIALECT as GRIP
from dragoman.server.config_shapes import Server
from dragoman.wire.dialect import Request
from tests.edge.toy import TOY, Greet, greet
from tests.parts import ADMIN, Gate, ScriptedReplies, open_config, text_reply
from tests.streaming_client import Client, Response

CHAT = "/api/v1/chat"
STREAM = "/api/v1/chat/stream"
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def ask(text: str = "how is it?", key: str = "k") -> bytes:
    return json.dumps({"message": text, "session_key": key}).encode()


def secured(response: Response) -> bool:
    return all(response.headers.get(name) == value for name, value in SECURITY.items())


async def test_a_blocking_chat_is_answered_whole(stage: Any) -> None:
    async with stage() as s:
        answer = await s.client().request("POST", CHAT, body=ask())
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == {
        "response": "It is fine.",
        "iterations": 1,
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        "tool_calls_made": [],
        "session_key": "k",
    }


async def test_the_first_token_comes_before_the_answer_is_whole(stage: Any) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s, s.client().stream("POST", STREAM, body=ask()) as answer:
        await answer.until(b"event: start")
        model.gate.release()
        await answer.until(b'"It is "')
        assert b"fine" not in answer.body
        model.gate.open()
        assert (await answer.until(b"event: done")).count(b"event: done") == 1
        await answer.rest()
    assert len(model.prompts) == 1


async def test_a_reader_that_hangs_up_changes_nothing_for_the_run(stage: Any) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s:
        async with s.client().stream("POST", STREAM, body=ask()) as answer:
            await answer.until(b"event: start")
        model.gate.open()
        await asyncio.wait_for(s.house.runs[0].settled(), 5)
        view = await s.house.desk.answer(ADMIN, ReadConversation(ConversationId("k")))
    assert [message.text for message in view.turns[0].answered] == ["It is fine."]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/health", {}, b"", 200),
        ("GET", "/ready", {}, b"", 200),
        ("GET", "/docs", {}, b"", 200),
        ("GET", "/nothing", {}, b"", 404),
        ("GET", "/api/v1/nothing", {}, b"", 404),
        ("PUT", CHAT, {}, b"", 405),
        ("HEAD", CHAT, {}, b"", 405),
        ("OPTIONS", CHAT, {}, b"", 405),
        ("POST", CHAT + "/", {}, b"", 307),
        ("POST", CHAT, {}, b"{", 400),
        ("POST", CHAT, {"content-length": "2000000"}, b"", 413),
        ("POST", CHAT, {"authorization": "Bearer wrong"}, b"{", 401),
        ("POST", CHAT, {"authorization": "Bearer \xe9"}, b"{}", 401),
        ("GET", "/api/runs/none", {}, b"", 404),
        ("GET", "/api/v1/cron", {}, b"", 501),
    ],
)
async def test_every_answer_carries_the_security_headers_and_a_request_id(
    stage: Any, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    async with stage() as s:
        answer = await s.client().request(method, path, headers=headers, body=body)
    assert answer.status == status
    assert len(answer.headers["x-request-id"]) == 12
    if path != "/docs":
        assert secured(answer)


@pytest.mark.parametrize(
    ("given", "echoed"), [("abc-1", True), ("a b", False), ("x" * 128, True), ("x" * 129, False), ("é", False)]
)
async def test_a_request_id_is_echoed_if_it_is_harmless(stage: Any, given: str, echoed: bool) -> None:
    async with stage() as s:
        answer = await s.client().request("GET", "/health", headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) is echoed


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/docs", "/docs/style.css", "/openapi/house.json"])
async def test_what_anybody_may_read_can_be_asked_for_with_get_and_head_only(stage: Any, path: str) -> None:
    async with stage() as s:
        got = await s.anonymous().request("GET", path)
        asked = await s.anonymous().request("HEAD", path)
        others = [await s.anonymous().request(method, path) for method in ("POST", "OPTIONS", "DELETE", "TRACE")]
    assert (got.status, asked.status, asked.body) == (200, 200, b"")
    assert asked.headers["content-type"] == got.headers["content-type"]
    assert int(asked.headers["content-length"]) == len(got.body) or path == "/metrics"
    assert [(answer.status, answer.headers["allow"]) for answer in others] == [(405, "GET, HEAD")] * 4
    assert json.loads(others[0].body) == {"error": {"code": "wrong_method", "message": "Method Not Allowed"}}


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "TRACE", "PROPFIND"])
async def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(stage: Any, method: str) -> None:
    async with stage() as s:
        answer = await s.client().request(method, "/api/v1/sessions/k")
    assert (answer.status, answer.headers["allow"], secured(answer)) == (405, "GET, DELETE", True)
    body = b'{"detail":"Method Not Allowed"}'
    assert (answer.body, answer.headers["content-length"]) == (b"" if method == "HEAD" else body, str(len(body)))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/nothing", {"detail": "Not Found"}),
        ("/api/v1/", {"detail": "Not Found"}),
        ("/api/v1", {"error": {"code": "not_found", "message": "Not Found"}}),
        ("/api/nothing", {"error": {"code": "not_found", "message": "Not Found"}}),
        ("/", {"error": {"code": "not_found", "message": "Not Found"}}),
        ("//api/v1/chat", {"error": {"code": "not_found", "message": "Not Found"}}),
        ("", {"error": {"code": "not_found", "message": "Not Found"}}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_an_unknown_path_is_answered_in_the_words_of_whose_prefix_it_has(
    stage: Any, method: str, path: str, body: dict[str, Any]
) -> None:
    async with stage() as s:
        answer = await s.anonymous().request(method, path)
    assert (answer.status, json.loads(answer.body), secured(answer)) == (404, body, True)


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/api/v1/chat/", "/api/v1/chat"),
        ("/api/v1/chat///?a=b&c=%20", "/api/v1/chat?a=b&c=%20"),
        ("/api/v1/tools/%D0%BA/execute/", "/api/v1/tools/%D0%BA/execute"),
        ("/api/v1/tools/a%0d%0aset-cookie:%20x/execute/", "/api/v1/tools/a%0D%0Aset-cookie:%20x/execute"),
        ("/api/v1/tools/a%3Fb%23c/execute/", "/api/v1/tools/a%3Fb%23c/execute"),
        ("/api/v1/tools/a%25b/execute/", "/api/v1/tools/a%25b/execute"),
    ],
)
async def test_a_trailing_slash_too_many_leads_to_the_same_path_without_it(
    stage: Any, target: str, location: str
) -> None:
    async with stage() as s:
        answer = await s.client().request("POST", target)
        there = await s.client().request("POST", answer.headers["location"])
    assert (answer.status, answer.headers["location"]) == (307, location)
    assert there.status in (400, 404)  # the route took it: no redirect, and not the 404 of a path without a route
    assert json.loads(there.body) != {"detail": "Not Found"}


RATE_HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


def rates(response: Response) -> tuple[str | None, ...]:
    return tuple(response.headers.get(name) for name in RATE_HEADERS)


async def test_every_answer_to_a_request_that_met_a_limit_says_how_it_stands(stage: Any) -> None:
    async with stage(config=open_config(per_ip_rpm=60, per_credential_rpm=4)) as s:
        minted = await s.house.mint.create("reader", ADMIN.project, scopes=(Scope.CHAT_READ,))
        reader = {"authorization": f"Bearer {minted.text}"}
        met = [
            await s.anonymous().request("POST", CHAT, body=ask()),
            await s.anonymous().request("POST", CHAT, body=ask(), headers=reader),
            await s.client().request("POST", CHAT, body=b"{"),
            await s.client().request("GET", "/api/v1/cron"),
            await s.client().request("POST", CHAT, body=ask()),
            await s.client().request("GET", "/api/v1/sessions/none"),
            await s.client().request("GET", "/api/runs/none"),
            await s.client().request("POST", STREAM, body=ask()),
            await s.client().request("POST", CHAT, body=ask()),
        ]
        unmet = [
            await s.client().request("GET", "/api/v1/nothing"),
            await s.client().request("PUT", CHAT),
            await s.client().request("POST", CHAT + "/"),
            await s.client().request("POST", CHAT, headers={"content-length": "2000000"}),
            await s.client().request("GET", "/health"),
        ]
    assert [(answer.status, *rates(answer)) for answer in met] == [
        (401, "60", "59", "1"),
        (403, "60", "58", "2"),
        (400, "60", "57", "3"),
        (501, "60", "56", "4"),
        (200, "4", "3", "15"),
        (404, "4", "2", "30"),
        (404, "4", "1", "45"),
        (200, "4", "0", "60"),
        (429, "4", "0", "60"),
    ]
    assert [(answer.status, *rates(answer)) for answer in unmet] == [
        (status, None, None, None) for status in (404, 405, 307, 413, 200)
    ]


async def test_no_header_of_an_answer_is_said_twice(stage: Any) -> None:
    names: list[list[bytes]] = []

    async with stage(config=open_config(per_ip_rpm=1)) as s:

        async def tapped(scope: Any, receive: Any, send: Any) -> None:
            async def tap(message: Any) -> None:
                if message["type"] == "http.response.start":
                    names.append([name for name, _ in message["headers"]])
                await send(message)

            await s.house.app(scope, receive, tap)

        statuses = [
            (await Client(tapped).request(method, path)).status
            for method, path in (("POST", CHAT), ("POST", CHAT), ("GET", "/docs"), ("PUT", CHAT))
        ]
    assert statuses == [401, 429, 200, 405]
    assert [each for each in names if len(set(each)) < len(each)] == []


async def test_the_limit_per_address_wins_over_the_credential(stage: Any) -> None:
    async with stage(config=open_config(per_ip_rpm=3, per_credential_rpm=60)) as s:
        refused = [(await s.anonymous().request("POST", CHAT, body=b"{")).status for _ in range(4)]
        last = await s.client().request("POST", CHAT, body=ask())
        elsewhere = await s.client(peer="203.0.113.1").request("POST", CHAT, body=ask())
        health = await s.anonymous().request("GET", "/health")
        s.clock.move(float(last.headers["retry-after"]))
        again = await s.client().request("POST", CHAT, body=ask())
    assert refused == [401, 401, 401, 429]
    assert (last.status, json.loads(last.body)) == (429, {"detail": "Rate limit exceeded"})
    assert (last.headers["x-ratelimit-remaining"], last.headers["x-ratelimit-limit"]) == ("0", "3")
    assert 1 <= int(last.headers["retry-after"]) <= 60
    assert (elsewhere.status, health.status, again.status) == (200, 200, 200)


async def test_a_body_of_the_wrong_shape_counts_for_the_address_and_not_for_the_credential(stage: Any) -> None:
    async with stage(config=open_config(per_ip_rpm=60, per_credential_rpm=2)) as s:
        statuses = [
            (await s.client().request("POST", CHAT, body=body)).status
            for body in (b"{", b"[]", ask(), b"{", ask(), ask())
        ]
    assert statuses == [400, 400, 200, 400, 200, 429]


async def test_a_chunked_upload_cannot_get_past_the_body_limit(stage: Any) -> None:
    async with stage() as s:
        answer = await s.client().request("POST", CHAT, body=[b"x" * 600_000, b"x" * 600_000])
    assert (answer.status, json.loads(answer.body)) == (413, {"detail": "Request body too large (max 1048576 bytes)"})
    assert answer.headers["connection"] == "close" and secured(answer)


async def test_while_draining_new_requests_are_told_to_come_back_and_live_ones_finish(stage: Any) -> None:
    model = ScriptedReplies(text_reply("done"))
    model.gate = Gate()
    async with stage(model=model) as s, s.client().stream("POST", STREAM, body=ask()) as answer:
        await answer.until(b"event: start")
        s.house.app.draining = True
        refused = await s.client().request("POST", CHAT, body=ask())
        ready = await s.anonymous().request("GET", "/ready")
        alive = await s.anonymous().request("GET", "/health")
        model.gate.open()
        await answer.until(b"event: done")
    assert (refused.status, ready.status, alive.status) == (503, 503, 200)
    assert int(refused.headers["retry-after"]) >= 1


async def test_metrics_are_open_to_loopback_only(stage: Any) -> None:
    async with stage() as s:
        await s.client().request("POST", CHAT, body=ask())
        near = await s.anonymous().request("GET", "/metrics")
        far = await s.anonymous(peer="203.0.113.9").request("GET", "/metrics")
        through_proxy = await s.anonymous().request("GET", "/metrics", headers={"x-forwarded-for": "127.0.0.1"})
        with_scope = await s.client(peer="203.0.113.9").request("GET", "/metrics")
    assert (near.status, far.status, through_proxy.status, with_scope.status) == (200, 401, 401, 200)
    assert b"dragoman_runs_total 1.0" in near.body
    assert b'dragoman_http_requests_total{dialect="grip",route="POST /api/v1/chat",status="200"} 1.0' in near.body


async def test_an_answer_that_began_a_run_says_which(stage: Any) -> None:
    async with stage() as s:
        whole = await s.client().request("POST", CHAT, body=ask())
        streamed = await s.client().request("POST", STREAM, body=ask())
        other = await s.client().request("GET", "/api/v1/sessions")
        runs = await s.store.runs(ADMIN.project, limit=2)
    assert [streamed.headers["x-run-id"], whole.headers["x-run-id"]] == [run.id for run in runs]
    assert "x-run-id" not in other.headers


async def test_a_run_can_be_read_and_cancelled_by_its_id(stage: Any) -> None:
    model = ScriptedReplies(text_reply("never"))
    model.gate = Gate()
    async with stage(model=model) as s, s.client().stream("POST", STREAM, body=ask()) as answer:
        await answer.until(b"event: start")
        info = await s.store.get(ADMIN.project, ConversationId("k"))
        cancelled = await s.client().request("POST", f"/api/runs/{info.live_run}/cancel")
        again = await s.client().request("POST", f"/api/runs/{info.live_run}/cancel")
        timeline = await s.client().request("GET", f"/api/runs/{info.live_run}")
        rest = await answer.rest()
    assert [(r.status, json.loads(r.body)["status"]) for r in (cancelled, again)] == [(202, "cancelled")] * 2
    kinds = [entry["event"]["kind"] for entry in json.loads(timeline.body)["entries"]]
    assert kinds == ["turn_received", "run_claimed", "cancel_asked", "run_cancelled"]
    assert rest.endswith(b'event: error\ndata: {"detail": "Agent execution failed"}\n\n')
    assert model.closed == 1


async def test_turns_on_one_conversation_wait_for_each_other_and_see_each_other(stage: Any) -> None:
    model = ScriptedReplies(text_reply("a"))
    async with stage(model=model) as s:
        answers = await asyncio.gather(*(s.client().request("POST", CHAT, body=ask(f"m{n}")) for n in range(5)))
        view = await s.house.desk.answer(ADMIN, ReadConversation(ConversationId("k")))
    assert [answer.status for answer in answers] == [200] * 5
    asked = [turn.asked[0] for turn in view.turns]
    assert [prompt.messages[-1] for prompt in model.prompts] == asked
    for earlier, prompt in enumerate(model.prompts):
        users = [message for message in prompt.messages if message.role == "user"]
        assert users == asked[: earlier + 1]


async def test_a_full_queue_refuses_and_drops_nothing(stage: Any) -> None:
    model = ScriptedReplies(text_reply("a"))
    model.gate = Gate()
    async with stage(model=model, config=open_config(queue_per_conversation=2)) as s:
        calls = [asyncio.create_task(s.client().request("POST", CHAT, body=ask(f"m{n}"))) for n in range(4)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        refused = done.pop().result()
        model.gate.open()
        statuses = sorted([(await call).status for call in calls])
    assert refused.status == 429 and "retry-after" in refused.headers
    assert statuses == [200, 200, 200, 429]


async def test_a_conversation_deleted_while_it_is_answered_does_not_come_back(stage: Any) -> None:
    model = ScriptedReplies(text_reply("late"))
    model.gate = Gate()
    async with stage(model=model) as s, s.client().stream("POST", STREAM, body=ask()) as answer:
        await answer.until(b"event: start")
        deleted = await s.client().request("DELETE", "/api/v1/sessions/k")
        model.gate.open()
        rest = await answer.rest()
        listed = await s.client().request("GET", "/api/v1/sessions")
    assert deleted.status == 200
    assert rest.endswith(b'event: error\ndata: {"detail": "Agent execution failed"}\n\n')
    assert json.loads(listed.body) == {"sessions": [], "count": 0}


async def test_readers_of_one_conversation_are_bounded(stage: Any) -> None:
    model = ScriptedReplies(text_reply("a"))
    model.gate = Gate()
    config = open_config(readers_per_conversation=1)
    async with stage(model=model, config=config) as s, s.client().stream("POST", STREAM, body=ask()) as answer:
        await answer.until(b"event: start")
        refused = await s.client().request("POST", STREAM, body=ask())
        model.gate.open()
        await answer.rest()
    assert refused.status == 429


async def test_a_credential_without_the_scope_is_refused(stage: Any) -> None:
    async with stage() as s:
        minted = await s.house.mint.create("reader", ADMIN.project, scopes=(Scope.CHAT_READ,))
        answer = await s.anonymous().request(
            "POST", CHAT, body=ask(), headers={"authorization": f"Bearer {minted.text}"}
        )
    assert (answer.status, json.loads(answer.body)) == (403, {"detail": "This credential lacks the scope chat:run."})


async def test_projects_do_not_see_each_other(stage: Any) -> None:
    async with stage() as s:
        await s.client().request("POST", CHAT, body=ask())
        await s.store.put_project(Project(ProjectId("other"), "other", 0.0))
        minted = await s.house.mint.create("o", ProjectId("other"))
        other = {"authorization": f"Bearer {minted.text}"}
        read = await s.anonymous().request("GET", "/api/v1/sessions/k", headers=other)
        listed = await s.anonymous().request("GET", "/api/v1/sessions", headers=other)
        again = await s.anonymous().request("POST", CHAT, body=ask("mine"), headers=other)
    assert (read.status, json.loads(listed.body), again.status) == (404, {"sessions": [], "count": 0}, 200)
    assert s.model.prompts[-1].messages[-1] == said("user", "mine")
    assert all("how is it?" not in message.text for message in s.model.prompts[-1].messages)


async def test_a_message_over_the_configured_length_is_refused_and_not_kept(stage: Any) -> None:
    async with stage(config=open_config(message_chars=5)) as s:
        longest = await s.client().request("POST", CHAT, body=ask("\u00e9" * 5))
        longer = await s.client().request("POST", CHAT, body=ask("\u00e9" * 6))
        listed = await s.client().request("GET", "/api/v1/sessions/k")
    assert (longest.status, longer.status) == (200, 400)
    assert json.loads(longer.body) == {"detail": "A message may have at most 5 characters; this one has 6."}
    assert json.loads(listed.body)["message_count"] == 2


# -- under which address ---------------------------------------------------------------------------------------------


def below(base: str, **server: Any) -> Any:
    return replace(open_config(), server=Server(base_path=base, **server))


async def test_everything_is_also_served_below_the_base_path(stage: Any) -> None:
    async with stage(config=below("/sub/path")) as s:
        answers = {
            path: (await s.client().request(method, f"{base}{path}", body=body)).status
            for base in ("/sub/path", "")
            for method, path, body in (
                ("POST", CHAT, ask()),
                ("GET", "/api/v1/sessions/k", b""),
                ("GET", "/health", b""),
                ("GET", "/docs", b""),
                ("GET", "/api/server", b""),
            )
        }
        unknown = await s.client().request("GET", "/sub/path/api/v1/nothing")
        beside = await s.client().request("POST", f"/sub/paths{CHAT}", body=ask())
        moved = await s.client().request("POST", f"/sub/path{CHAT}/?a=b")
    assert set(answers.values()) == {200}
    assert (unknown.status, json.loads(unknown.body)) == (404, {"detail": "Not Found"})  # in the dialect's own words
    assert beside.status == 404
    assert moved.headers["location"] == f"/sub/path{CHAT}?a=b"


async def test_a_repeat_is_the_same_request_with_or_without_the_base_path(stage: Any) -> None:
    key = {"idempotency-key": "k1"}
    async with stage(config=below("/sub")) as s:
        first = await s.client().request("POST", CHAT, body=ask(), headers=key)
        again = await s.client().request("POST", f"/sub{CHAT}", body=ask(), headers=key)
    assert (again.headers["x-run-id"], again.headers["idempotency-replayed"]) == (first.headers["x-run-id"], "true")


@pytest.mark.parametrize(
    ("server", "path", "headers", "origin"),
    [
        ({}, "/toy/card", {"host": "h:8080"}, "http://h:8080"),
        ({}, "/toy/card", {}, "http://127.0.0.1:8080"),
        ({}, "/toy/card", {"host": "h", "x-forwarded-proto": "https"}, "http://h"),
        ({"base_path": "/sub"}, "/sub/toy/card", {"host": "h"}, "http://h/sub"),
        ({"base_path": "/sub"}, "/toy/card", {"host": "h"}, "http://h"),
        (
            {"trusted_proxies": ("127.0.0.1",)},
            "/toy/card",
            {"host": "h", "x-forwarded-proto": "https"},
            "https://h",
        ),
        ({"public_url": "https://a.example/b/"}, "/toy/card", {"host": "h"}, "https://a.example/b"),
    ],
)
async def test_an_answer_can_name_the_address_that_the_caller_used(
    stage: Any, server: dict[str, Any], path: str, headers: dict[str, str], origin: str
) -> None:
    async with stage(dialects=(TOY,), config=replace(open_config(), server=Server(**server))) as s:
        s.house.desk._open_handlers = {Greet: greet}
        answer = await s.anonymous().request("GET", path, headers=headers)
    assert json.loads(answer.body) == {"text": f"hello {origin}"}


# -- pages of other origins ------------------------------------------------------------------------------------------

PAGE = "https://app.example.com"
ASKS = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}


def allowing(*origins: str) -> Any:
    return replace(open_config(), server=Server(cors_origins=origins))


@pytest.mark.parametrize(("allowed", "told"), [((PAGE, "http://other"), PAGE), (("*",), "*")])
async def test_a_page_that_may_call_is_told_so_with_every_answer(
    stage: Any, allowed: tuple[str, ...], told: str
) -> None:
    async with stage(config=allowing(*allowed)) as s:
        page = {"origin": PAGE}
        answers = [
            await s.client().request("POST", CHAT, body=ask(), headers=page),
            await s.client().request("POST", STREAM, body=ask(), headers=page),
            await s.anonymous().request("POST", CHAT, body=ask(), headers=page),
            await s.client().request("GET", "/api/v1/nothing", headers=page),
            await s.client().request("GET", "/api/runs/none", headers=page),
            await s.client().request("POST", CHAT, body=b"{", headers=page),
        ]
        others = [
            await s.client().request("POST", CHAT, body=ask()),
            await s.client().request("GET", "/health", headers=page),
            await s.client().request("GET", "/metrics", headers=page),
        ]
    assert [answer.status for answer in answers] == [200, 200, 401, 404, 404, 400]
    assert {answer.headers.get("access-control-allow-origin") for answer in answers} == {told}
    assert all("x-run-id" in answer.headers["access-control-expose-headers"] for answer in answers)
    assert {answer.headers.get("access-control-allow-origin") for answer in others} == {None}


async def test_a_page_that_may_not_call_is_told_nothing(stage: Any) -> None:
    async with stage(config=allowing(PAGE)) as s:
        other = {"origin": "https://evil.example"}
        answers = [
            await s.client().request("POST", CHAT, body=ask(), headers=other),
            await s.anonymous().request("OPTIONS", CHAT, headers=ASKS | other),
        ]
    assert [answer.status for answer in answers] == [200, 405]
    assert [[name for name in answer.headers if name.startswith("access-control")] for answer in answers] == [[], []]


async def test_a_browser_may_ask_before_it_calls(stage: Any) -> None:
    async with stage(config=allowing(PAGE)) as s:
        answer = await s.anonymous().request("OPTIONS", "/api/v1/sessions/k", headers=ASKS)
        without = await s.anonymous().request("OPTIONS", "/api/v1/sessions/k", headers={"origin": PAGE})
        nowhere = await s.anonymous().request("OPTIONS", "/api/v1/nothing", headers=ASKS)
        trace = await s.anonymous().request("TRACE", "/api/v1/sessions/k", headers=ASKS)
    assert (answer.status, answer.body, secured(answer)) == (204, b"", True)
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-methods"] == "GET, DELETE"
    assert answer.headers["access-control-allow-headers"] == "authorization"
    assert [each.status for each in (without, nowhere, trace)] == [405, 404, 405]


async def test_nothing_is_said_to_pages_unless_somebody_allowed_it(stage: Any) -> None:
    async with stage() as s:
        answers = [
            await s.client().request("POST", CHAT, body=ask(), headers={"origin": PAGE}),
            await s.anonymous().request("OPTIONS", CHAT, headers=ASKS),
        ]
    assert [answer.status for answer in answers] == [200, 405]
    assert [[name for name in answer.headers if name.startswith("access-control")] for answer in answers] == [[], []]


async def test_a_dialect_may_be_open_to_pages_by_itself_and_opens_no_other(stage: Any) -> None:
    async with stage(dialects=(replace(TOY, cors=("*",)), GRIP)) as s:
        own = await s.anonymous().request("OPTIONS", "/toy/talks/t", headers=ASKS)
        other = await s.anonymous().request("OPTIONS", CHAT, headers=ASKS)
    assert (own.status, own.headers["access-control-allow-origin"]) == (204, "*")
    assert other.status == 405


OPEN_HEADERS = (("access-control-allow-origin", "*"), ("access-control-allow-headers", "X-A"))


async def test_a_dialect_may_tell_every_caller_the_same_with_every_answer(stage: Any) -> None:
    async with stage(dialects=(replace(TOY, cors_headers=OPEN_HEADERS), GRIP)) as s:
        asked = await s.anonymous().request("OPTIONS", "/toy/talks/t")
        answers = [
            await s.client().request("POST", "/toy/talks/t", body=b"{}"),
            await s.client().request("POST", "/toy/talks/t", body=b'{"mode":"stream"}'),
            await s.anonymous().request("POST", "/toy/talks/t", body=b"{}"),
            await s.anonymous().request("PUT", "/toy/talks/t"),
            await s.anonymous().request("GET", "/toy/nothing"),
        ]
        nowhere = await s.anonymous().request("OPTIONS", "/toy/nothing")
        other = await s.anonymous().request("OPTIONS", CHAT)
    assert (asked.status, asked.body, secured(asked)) == (200, b"{}", True)
    assert [answer.status for answer in answers] == [200, 200, 401, 405, 404]
    for answer in (asked, *answers, nowhere):
        assert OPEN_HEADERS == tuple((name, answer.headers[name]) for name, _ in OPEN_HEADERS)
    assert (nowhere.status, other.status) == (404, 405)


# -- what a dialect wants looked at in another order -------------------------------------------------------------------

IN_PROJECT = "/toy/in/default/talks/t"


async def test_a_dialect_may_tell_its_projects_limit_before_a_credential_that_is_none(stage: Any) -> None:
    limited = replace(TOY, limits_first=True)
    async with stage(dialects=(limited, GRIP), config=open_config(per_project_rpm=2)) as s:
        strangers = [await s.anonymous().request("POST", IN_PROJECT, body=b"{") for _ in range(3)]
        known = [await s.client().request("POST", IN_PROJECT, body=b"{}") for _ in range(3)]
        foreign = await s.client().request("POST", IN_PROJECT.replace("default", "ops"), body=b"{}")
        other = await s.anonymous().request("POST", IN_PROJECT.replace("default", "ops"), body=b"{}")
        third = await s.anonymous().request("POST", IN_PROJECT.replace("default", "ops"), body=b"{}")
        unnamed = await s.client().request("POST", "/toy/talks/t", body=b"{}")
        elsewhere = await s.client().request("POST", CHAT, body=ask())
    assert [answer.status for answer in strangers] == [401, 401, 429]
    assert [answer.status for answer in known] == [200, 200, 429]  # strangers took nothing from who is at home
    assert rates(known[-1]) == ("2", "0", "60")
    assert (foreign.status, other.status, third.status) == (404, 401, 429)  # elsewhere it is a stranger too
    assert (unnamed.status, elsewhere.status) == (429, 429)  # by the budget of the project on every wire


async def test_where_a_dialect_does_not_ask_for_it_strangers_use_up_no_projects_budget(stage: Any) -> None:
    async with stage(dialects=(TOY,), config=open_config(per_project_rpm=1)) as s:
        strangers = [await s.anonymous().request("POST", IN_PROJECT, body=b"{}") for _ in range(3)]
        known = await s.client().request("POST", IN_PROJECT, body=b"{}")
    assert [answer.status for answer in (*strangers, known)] == [401, 401, 401, 200]


def fault_first(request: Request) -> None:
    if request.body == b"{" and request.query == {"a": "b"}:
        raise BadRequest("That is no body.")


async def test_a_route_may_fault_a_body_before_the_credential_that_does_not_let_it_in(stage: Any) -> None:
    first, *others = TOY.routes
    wire = replace(TOY, routes=(replace(first, precheck=fault_first), *others))
    async with stage(dialects=(wire,)) as s:
        minted = await s.house.mint.create("reader", ADMIN.project, scopes=(Scope.CHAT_READ,))
        reader = {"authorization": f"Bearer {minted.text}"}
        target = f"{IN_PROJECT}?a=b"
        faulted = [
            await s.anonymous().request("POST", target, body=b"{"),
            await s.anonymous().request("POST", target, body=b"{", headers={"authorization": "Bearer wrong"}),
            await s.anonymous().request("POST", target, body=b"{", headers=reader),
            await s.client().request("POST", target.replace("default", "ops"), body=b"{"),
        ]
        passed = [
            await s.anonymous().request("POST", target, body=b"{}"),
            await s.anonymous().request("POST", target, body=b"{}", headers=reader),
            await s.client().request("POST", target.replace("default", "ops"), body=b"{}"),
            await s.client().request("POST", target, body=b"{}"),
        ]
        large = await s.anonymous().request("POST", target, body=[b"x" * 600_000, b"x" * 600_000])
    assert [(answer.status, json.loads(answer.body)) for answer in faulted] == [
        (400, {"error": "That is no body."})
    ] * 4
    assert [answer.status for answer in passed] == [401, 403, 404, 200]
    assert b"too large" in large.body
