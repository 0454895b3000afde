"""Webhooks, against servers on loopback: what is sent and signed, what comes of each answer, what is sent again."""

import asyncio
import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable
from time import monotonic

import pytest
from aiohttp import web

from dragoman.core.agents import Repeat
from dragoman.tools.connections.connection import Connection
from dragoman.tools.workflow.webhook import SAID_CHARS_MAX, SIGNED_S, TRIES_MAX, WAITS_S, request_id
from tests.tools.conftest import Serve
from tests.tools.workflow.staging import KEY, Bench, P, tool


class Receiver:
    """Answers as it is told, the last answer again and again, and notes each request."""

    def __init__(self, *answers: web.Response | Callable[[], web.Response]) -> None:
        self.answers = list(answers) or [lambda: web.json_response({"result": "shipped"})]
        self.requests: list[tuple[dict[str, str], bytes]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(({key.lower(): value for key, value in request.headers.items()}, await request.read()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer() if callable(answer) else answer


def said(status: int = 200, body: bytes = b'{"result": "x"}') -> Callable[[], web.Response]:
    return lambda: web.Response(status=status, body=body)


async def serving(bench: Bench, serve: Serve, *answers: Callable[[], web.Response]) -> Receiver:
    receiver = Receiver(*answers)
    await bench.set_webhook(await serve(receiver.answer) + "/tool_call?x=1")
    return receiver


def claims_of(token: str, secret: str) -> dict[str, object]:
    """By other code than ours."""
    signed, _, mac = token.rpartition(".")
    expected = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(mac + "==") == expected
    header, body = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in signed.split("."))
    assert header["alg"] == "HS256"
    return body


# -- what is sent ------------------------------------------------------------------------------------------------------


async def test_the_call_is_a_json_text_inside_a_json_text_and_signed(bench: Bench, serve: Serve):
    receiver = await serving(bench, serve)
    outcome = await bench.call(tool(), '{"order": "ü 42"}')
    assert (outcome.content, outcome.is_error) == ("shipped", False)

    ((headers, body),) = receiver.requests
    sent = json.loads(body)
    assert set(sent) == {"requestId", "content"}
    assert str(uuid.UUID(sent["requestId"])) == sent["requestId"]
    content = json.loads(sent["content"])
    assert content == {
        "toolCall": {
            "id": "call-1",
            "type": "function",
            "function": {"name": "look_up", "arguments": '{"order":"ü 42"}'},
        }
    }
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == KEY
    settings = await bench.settings.of(P)
    now = int(bench.clock.now())
    assert claims_of(headers["x-signature-jwt"], settings.secret) == {
        "requestId": sent["requestId"],
        "projectId": P,
        "bodyHash": hashlib.sha256(sent["content"].encode()).hexdigest(),
        "iss": "rowboat",
        "aud": settings.webhook,
        "sub": "tool-call-call-1",
        "jti": sent["requestId"],
        "iat": now,
        "exp": now + SIGNED_S,
    }


async def test_the_hash_alone_is_signed_where_that_is_wanted(bench: Bench, serve: Serve):
    receiver = await serving(bench, serve)
    await bench.settings.set_webhook_style(P, "minimal")
    await bench.call(tool())
    ((headers, body),) = receiver.requests
    expected = hashlib.sha256(json.loads(body)["content"].encode()).hexdigest()
    assert claims_of(headers["x-signature-jwt"], (await bench.settings.of(P)).secret) == {"bodyHash": expected}


def test_one_call_of_one_run_is_one_request():
    assert request_id("r:1") == request_id("r:1") != request_id("r:2")


# -- what comes of it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b'{"result": "plain"}', "plain"),
        (b'{"result": {"a": [1, "\xc3\xbc"]}, "more": 1}', '{"a":[1,"ü"]}'),
        (b'{"result": null}', "null"),
        (b'{"result": ""}', ""),
        (b'{"a": 1}', '{"a": 1}'),
        (b"[1, 2]", "[1, 2]"),
        (b'"text"', '"text"'),
        (b"true", "true"),
    ],
)
async def test_the_result_is_what_the_model_is_told(bench: Bench, serve: Serve, body: bytes, content: str):
    for status in (200, 201, 299):
        await serving(bench, serve, said(status, body))
        outcome = await bench.call(tool())
        assert (outcome.content, outcome.is_error) == (content, False)


@pytest.mark.parametrize("body", [b"", b"OK", b"{", b"\xff", b"<html>"])
async def test_an_answer_that_is_no_json_is_an_error_that_says_so(bench: Bench, serve: Serve, body: bytes):
    await serving(bench, serve, said(200, body))
    outcome = await bench.call(tool())
    assert outcome.is_error
    assert outcome.content.startswith(
        'The webhook answered 200 with something that is no JSON; it must answer {"result"'
    )


@pytest.mark.parametrize(
    ("status", "phrase"),
    [(400, "400 Bad Request"), (401, "401 Unauthorized"), (500, "500 Internal Server Error"), (599, "599")],
)
async def test_a_refusal_is_told_with_its_words(bench: Bench, serve: Serve, status: int, phrase: str):
    receiver = await serving(bench, serve, said(status, b"no such order " + b"x" * 1000))
    outcome = await bench.call(tool(repeat=Repeat.PURE))
    words = ("no such order " + "x" * 1000)[:SAID_CHARS_MAX]
    assert (outcome.content, outcome.is_error, outcome.code) == (
        f"Error: the webhook answered {phrase}. It said: {words}",
        True,
        "tool_failed",
    )
    assert len(receiver.requests) == 1


async def test_a_redirect_is_not_followed(bench: Bench, serve: Serve):
    receiver = await serving(bench, serve, lambda: web.Response(status=307, headers={"Location": "/x"}))
    outcome = await bench.call(tool(repeat=Repeat.PURE))
    assert "redirect" in outcome.content and len(receiver.requests) == 1


async def test_without_a_webhook_the_sentence_says_how_to_set_one(bench: Bench):
    outcome = await bench.call(tool())
    assert outcome.content == (
        "This project has no webhook, so the tool cannot be called. Somebody must set one: dragoman projects set"
        " PROJECT --webhook URL"
    )


# -- where it goes -----------------------------------------------------------------------------------------------------


async def test_a_project_cannot_point_its_webhook_inside(serve: Serve):
    receiver = Receiver()
    url = await serve(receiver.answer)
    bench = Bench(loopback=False)
    try:
        for host in ("127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"):
            await bench.set_webhook(url.replace("127.0.0.1", host))
            outcome = await bench.call(tool(repeat=Repeat.PURE))
            assert (outcome.is_error, outcome.code) == (True, "denied"), host
    finally:
        await bench.egress.close()
    assert receiver.requests == []


async def test_a_connection_is_the_operators_word_and_brings_its_headers(serve: Serve):
    receiver = Receiver()
    url = await serve(receiver.answer)
    bench = Bench(loopback=False, connections=(Connection("hook", "webhook", url + "/in", (("X-Pass", "word"),)),))
    try:
        await bench.settings.set_webhook(P, "connection:hook")
        assert (await bench.call(tool())).content == "shipped"
    finally:
        await bench.egress.close()
    ((headers, _),) = receiver.requests
    assert headers["x-pass"] == "word"
    assert claims_of(headers["x-signature-jwt"], (await bench.settings.of(P)).secret)["aud"] == url + "/in"


@pytest.mark.parametrize("status", [200, 500])
async def test_headers_that_come_back_are_told_to_nobody(serve: Serve, status: int):
    """The key of the operator's connection, and a signature that others could send again."""
    seen: list[str] = []

    async def echo(request: web.Request) -> web.Response:
        seen.append(request.headers["x-signature-jwt"])
        return web.json_response({"result": f"{request.headers['x-pass']} {seen[-1]}"}, status=status)

    hook = Connection("hook", "webhook", await serve(echo), (("X-Pass", "operators-own-key"),))
    bench = Bench(loopback=False, connections=(hook,))
    try:
        await bench.settings.set_webhook(P, "connection:hook")
        outcome = await bench.call(tool())
    finally:
        await bench.egress.close()
    assert len(seen) == 1
    assert "[secret]" in outcome.content
    assert "operators-own-key" not in outcome.content
    assert seen[0][:40] not in outcome.content


async def test_a_connection_that_is_gone_or_of_another_kind_is_told():
    bench = Bench(connections=(Connection("prom", "prometheus", "http://127.0.0.1:9"),))
    await bench.set_webhook("connection:prom")  # as if the configuration had been changed since
    outcome = await bench.call(tool())
    assert outcome.content.startswith("The project's webhook is the connection prom, and the configuration has none")


# -- what is sent again ------------------------------------------------------------------------------------------------

AWAY = [502, 503, 504]


@pytest.mark.parametrize("status", AWAY)
@pytest.mark.parametrize("repeat", [Repeat.PURE, Repeat.IDEMPOTENT])
async def test_who_is_away_is_asked_again_where_that_does_no_harm(
    bench: Bench, serve: Serve, status: int, repeat: Repeat
):
    receiver = await serving(bench, serve, said(status), said(status), said())
    assert (await bench.call(tool(repeat=repeat))).content == "x"
    assert len(receiver.requests) == TRIES_MAX and bench.slept == list(WAITS_S)
    first, *others = [(headers["idempotency-key"], body) for headers, body in receiver.requests]
    assert others == [first, first]


async def test_after_the_last_try_its_failure_is_told(bench: Bench, serve: Serve):
    receiver = await serving(bench, serve, said(503))
    assert "503 Service Unavailable" in (await bench.call(tool(repeat=Repeat.PURE))).content
    assert len(receiver.requests) == TRIES_MAX


@pytest.mark.parametrize("status", AWAY)
async def test_what_may_be_done_only_once_is_not_sent_again(bench: Bench, serve: Serve, status: int):
    receiver = await serving(bench, serve, said(status), said())
    assert (await bench.call(tool(repeat=Repeat.ONCE))).is_error
    assert len(receiver.requests) == 1 and bench.slept == []


@pytest.mark.parametrize(("repeat", "tries"), [(Repeat.ONCE, 1), (Repeat.IDEMPOTENT, 2)])
async def test_a_connection_that_breaks_off_may_have_done_it(bench: Bench, repeat: Repeat, tries: int):
    tried = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tried
        tried += 1
        await reader.readuntil(b"\r\n\r\n")
        if tried > 1:
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"result":1}')
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    await bench.set_webhook(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    outcome = await bench.call(tool(repeat=repeat))
    server.close()
    assert (tried, outcome.is_error) == (tries, tries == 1)


@pytest.mark.parametrize("repeat", list(Repeat))
async def test_who_was_never_reached_is_tried_again_whatever_the_tool(bench: Bench, repeat: Repeat):
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    await bench.set_webhook(f"http://127.0.0.1:{port}/")
    outcome = await bench.call(tool(repeat=repeat))
    assert outcome.content == "The webhook could not be reached. Is it running, and is its url right?"
    assert bench.slept == list(WAITS_S)


async def test_no_try_begins_after_the_time_is_up(bench: Bench, serve: Serve):
    receiver = await serving(bench, serve, said(503))
    await bench.call(tool(repeat=Repeat.PURE, timeout_s=sum(WAITS_S)))
    assert len(receiver.requests) == 2 and bench.slept == [WAITS_S[0]]


@pytest.mark.parametrize(("repeat", "content"), [(Repeat.ONCE, ""), (Repeat.IDEMPOTENT, "x")])
async def test_a_try_that_hangs_leaves_time_for_another_where_there_may_be_one(
    bench: Bench, serve: Serve, monkeypatch: pytest.MonkeyPatch, repeat: Repeat, content: str
):
    """The clock stands still meanwhile: what a try may take is the client's to measure."""
    monkeypatch.setattr("dragoman.tools.workflow.webhook.TOTAL_S", 0.1)
    release = asyncio.Event()
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            await release.wait()
        return web.json_response({"result": "x"})

    await bench.set_webhook(await serve(handler))
    began = monotonic()
    outcome = await bench.call(tool(repeat=repeat, timeout_s=1.0))
    took_s = monotonic() - began
    release.set()
    assert (outcome.is_error, asked) == ((False, 2) if content else (True, 1))
    assert outcome.content == content if content else outcome.code == "timeout"
    assert took_s < 0.95 if content else took_s >= 0.95


@pytest.mark.parametrize("repeat", [Repeat.ONCE, Repeat.IDEMPOTENT])
async def test_a_webhook_that_takes_too_long_is_given_up(bench: Bench, serve: Serve, repeat: Repeat):
    release = asyncio.Event()
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        await release.wait()
        return web.Response()

    await bench.set_webhook(await serve(handler))
    outcome = await bench.call(tool(repeat=repeat, timeout_s=0.1))
    release.set()
    assert (outcome.is_error, outcome.code, asked) == (True, "timeout", 1)
