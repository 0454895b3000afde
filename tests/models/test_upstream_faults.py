"""What a run makes of each fault of a model server, over real sockets: streamed and at once, the whole trail of events.

The sections are the rows R30 to R35 of the reliability plan; R36 is in `test_upstream_floods.py`, R37 to R39 are in
`test_upstream_calls.py`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BackendFailed
from dragoman.core.messages import Usage, said
from dragoman.models.openai_chat import OpenAIChat, OpenAIChatOptions
from dragoman.runtime.ports import Prompt, ReplyDone, TextPiece
from tests.certificates import server_tls
from tests.models.asking import Puppet, ask_in_vain
from tests.models.trails import (
    SOON_S,
    STOP,
    answer,
    byte_by_byte,
    frames,
    free_port,
    piece,
    tell,
    trial,
    whole,
)
from tests.support import FixedClock
from tests.upstream import LAST_CHUNK, SSE_HEAD, Upstream, chunk, reply, serving

pytestmark = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "at-once"])

BEGUN = ["run_claimed", "reply_started"]
HELLO = SSE_HEAD + frames(piece("hello"))
HALF = reply(200, whole("hello"))[:-5]


def failed(code: str, *before: str) -> list[str]:
    return [*BEGUN, *before, f"run_failed {code}"]


def completed(text: str, *, stream: bool) -> list[str]:
    shown = [f"text_added {text}"] if stream else []
    return [*BEGUN, *shown, f"reply_finished {text}", "run_completed"]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serving() as serving_upstream:
        yield serving_upstream


# -- R30: a server that is not there -------------------------------------------------------------------------------

ABSENT = ["refused", "no such name", "no TLS", "reset in the handshake", "closed", "reset"]


def absent(upstream: Upstream, how: str) -> dict[str, Any]:
    """Make it so, three times over; the options of the model that asks it."""
    for _ in range(3):
        if how in ("closed", "reset"):
            upstream.script(then="close" if how == "closed" else "reset")
    match how:
        case "refused":
            return {"url": f"http://127.0.0.1:{free_port()}/v1"}
        case "no such name":
            return {"url": "http://no-such-host.invalid/v1"}
        case "no TLS" | "reset in the handshake":
            upstream.resets_strangers = how != "no TLS"
            return {"url": upstream.url.replace("http:", "https:")}
        case _:
            return {}


@pytest.mark.parametrize("how", ABSENT)
async def test_a_server_that_is_not_there_is_tried_three_times(upstream: Upstream, how: str, stream: bool) -> None:
    async with trial(upstream, **absent(upstream, how)) as t:
        assert await t.trail(stream=stream) == failed("upstream_unreachable")
        assert t.pauses.slept == [0.5, 2.0]


@pytest.mark.parametrize("how", ABSENT)
async def test_then_the_next_model_is_asked(upstream: Upstream, how: str, stream: bool) -> None:
    local = Puppet([*([TextPiece("hi")] if stream else []), ReplyDone("hi")])
    async with trial(upstream, local, **absent(upstream, how)) as t:
        assert await t.trail(stream=stream) == completed("hi", stream=stream)
    assert local.calls == 1


@pytest.mark.parametrize("speaks", [True, False], ids=["its certificate is nobody's", "it is silent"])
async def test_a_handshake_that_fails_or_never_ends_is_unreachable(
    upstream: Upstream, stream: bool, speaks: bool, tmp_path: Path
) -> None:
    met = 0

    async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        if speaks:
            writer.close()
        else:
            await hang.wait()
            writer.close()

    hang = asyncio.Event()
    server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=server_tls(tmp_path)[0] if speaks else None)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    limit = {} if speaks else {"connect_s": SOON_S}
    try:
        async with trial(upstream, url=url, **limit) as t:
            assert await t.trail(stream=stream) == failed("upstream_unreachable")
            assert t.pauses.slept == [0.5, 2.0]
            assert met == (0 if speaks else 3)  # a certificate that is refused ends it before anything is said
    finally:
        hang.set()
        server.close()
        await server.wait_closed()


# -- R31: a server that is asked too often -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "slept"),
    [
        ("0", [0.5, 2.0]),
        ("3", [3.0, 3.0]),
        ("30", [30.0, 30.0]),
        ("Tue, 14 Nov 2023 22:13:30 GMT", [10.0, 2.0]),  # the clock stands at 22:13:20, and our sleep moves it
        ("Tue, 14 Nov 2023 20:00:00 GMT", [0.5, 2.0]),
        ("in a while", [0.5, 2.0]),
        ("-7", [0.5, 2.0]),
        ("1e400", [0.5, 2.0]),
    ],
)
async def test_advice_to_wait_is_followed(upstream: Upstream, header: str, slept: list[float], stream: bool) -> None:
    for _ in range(2):
        upstream.script(reply(429, b"slow down", headers={"retry-after": header}), then="keep")
    upstream.script(answer("hi", stream=stream), then="keep")
    async with trial(upstream) as t:
        assert await t.trail(stream=stream) == completed("hi", stream=stream)
        assert t.pauses.slept == slept
    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ("120", "The model server is asked too often. Try again in 120 s."),
        ("30.1", "The model server is asked too often. Try again in 31 s."),
        ("Tue, 14 Nov 2023 22:15:20 GMT", "The model server is asked too often. Try again in 120 s."),
    ],
)
async def test_advice_to_wait_longer_than_a_run_can_is_handed_on_at_once(
    upstream: Upstream, header: str, detail: str, stream: bool
) -> None:
    upstream.script(reply(429, b"slow down", headers={"retry-after": header}))
    async with trial(upstream) as t:
        assert await t.trail(stream=stream) == failed("upstream_limited")
        assert (await t.scene.events())[-1] == ev.RunFailed("upstream_limited", detail)
        assert t.pauses.slept == []
    assert len(upstream.requests) == 1


async def test_a_server_that_stays_limited_is_asked_three_times_and_never_at_once(
    upstream: Upstream, stream: bool
) -> None:
    for _ in range(3):
        upstream.script(reply(429, b"slow down", headers={"retry-after": "0"}), then="keep")
    async with trial(upstream) as t:
        assert await t.trail(stream=stream) == failed("upstream_limited")
        assert (len(upstream.requests), t.pauses.slept) == (3, [0.5, 2.0])


# -- R32: a server that answers something else ---------------------------------------------------------------------

HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"
ERROR = b'{"error":{"message":"the engine died","type":"server_error"}}'


@pytest.mark.parametrize(
    ("said_instead", "code", "requests"),
    [
        (reply(500, b"{}"), "upstream_failed", 3),
        (reply(502, HTML, media_type="text/html"), "upstream_failed", 3),
        (reply(503, b""), "upstream_failed", 3),
        (reply(504, HTML, media_type="text/html"), "upstream_failed", 3),
        (reply(529, ERROR), "upstream_failed", 3),
        (reply(401, ERROR), "upstream_refused", 1),
        (reply(404, HTML, media_type="text/html"), "upstream_refused", 1),
        (reply(200, ERROR), "upstream_failed", 3),
        (reply(200, b'{"error":{"code":429,"message":"x"}}'), "upstream_limited", 3),
        (reply(200, b'{"error":{"code":400,"message":"x"}}'), "upstream_refused", 1),
        (reply(200, b"data: " + ERROR + b"\n\n", media_type="text/event-stream"), "upstream_failed", 3),
        (reply(200, b"event: error\ndata: out\n\n", media_type="text/event-stream"), "upstream_failed", 3),
        (reply(200, HTML, media_type="text/html"), "upstream_malformed", 1),
        (reply(200, HTML), "upstream_malformed", 3),
        (reply(200, b""), "upstream_malformed", 3),
        (reply(200, b" \n "), "upstream_malformed", 3),
        (reply(200, b"", media_type="text/event-stream"), "upstream_malformed", 3),
        (reply(200, b": ping\n\n", media_type="text/event-stream"), "upstream_malformed", 3),
        (reply(200, b"[]"), "upstream_malformed", 3),
        (reply(200, b"{}"), "upstream_truncated", 3),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "upstream_malformed", 1),
        (b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n", "upstream_malformed", 1),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "upstream_malformed", 1),
    ],
)
async def test_whatever_is_no_reply_is_mapped(
    upstream: Upstream, said_instead: bytes, code: str, requests: int, stream: bool
) -> None:
    for _ in range(3):
        upstream.script(said_instead, then="keep" if b"content-length" in said_instead else "close")
    async with trial(upstream) as t:
        assert await t.trail(stream=stream) == failed(code)
        event = (await t.scene.events())[-1]
        assert isinstance(event, ev.RunFailed)
        assert "engine" not in event.detail
        assert "html" not in event.detail
    assert len(upstream.requests) == requests


FAULTS_IN_MID_STREAM = [
    (frames(ERROR), "upstream_failed"),
    (frames(b"{"), "upstream_malformed"),
    (b"", "upstream_truncated"),
    (LAST_CHUNK, "upstream_truncated"),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS_IN_MID_STREAM)
async def test_once_text_was_shown_nothing_is_asked_again_in_silence(
    upstream: Upstream, fault: bytes, code: str, stream: bool
) -> None:
    """What was at most prepared, because nobody reads along, is asked for again."""
    upstream.script(HELLO + fault)
    upstream.script(answer("hello again", stream=stream))
    async with trial(upstream) as t:
        trail = await t.trail(stream=stream)
    if stream:
        assert trail == failed(code, "text_added hello")
        assert len(upstream.requests) == 1
    else:
        assert trail == completed("hello again", stream=False)


@pytest.mark.parametrize(("fault", "code"), FAULTS_IN_MID_STREAM)
async def test_where_text_may_be_taken_back_the_tape_says_so(
    upstream: Upstream, fault: bytes, code: str, stream: bool
) -> None:
    upstream.script(HELLO + fault)
    upstream.script(answer("hello again", stream=stream))
    async with trial(upstream, after_text=True) as t:
        trail = await t.trail(stream=stream)
    taken_back = ["text_added hello", "attempt_reset", "reply_started"] if stream else []
    assert trail == [*BEGUN, *taken_back, *completed("hello again", stream=stream)[2:]]


@pytest.mark.parametrize("after_text", [True, False])
async def test_another_model_does_not_go_on_where_the_first_broke_off(
    upstream: Upstream, after_text: bool, stream: bool
) -> None:
    for _ in range(3):
        upstream.script(HELLO)
    local = Puppet([*([TextPiece("hi")] if stream else []), ReplyDone("hi")])
    async with trial(upstream, local, after_text=after_text) as t:
        trail = await t.trail(stream=stream)
    if not stream:
        assert trail == completed("hi", stream=False)
    elif after_text:
        taken_back = ["text_added hello", "attempt_reset", "reply_started"]
        assert trail == [*BEGUN, *taken_back * 3, *completed("hi", stream=True)[2:]]
    else:
        assert trail == failed("upstream_truncated", "text_added hello")


SECRETS = ("key-0123456789abcdef", "Bearer tok-0123456789abcdef", "p4ssw0rd/with+odd=chars")


@pytest.mark.parametrize(
    "echo",
    [
        lambda head: reply(500, head),
        lambda head: reply(400, b"x" * 8000 + head * 20),
        lambda head: reply(401, b'{"error":{"message":"' + head.replace(b"/", b"\\/") + b'"}}'),
        lambda head: reply(302, b"", headers={"location": "/login?" + head.decode().replace("\r\n", "&")}),
        lambda head: reply(200, head, media_type="text/html"),
        lambda head: reply(200, head),
        lambda head: reply(200, b'{"error":"' + head.replace(b"\r\n", b" ") + b'"}'),
        lambda head: SSE_HEAD + chunk(b"data: " + head.replace(b"\r\n", b" ") + b"\n\n"),
        lambda head: SSE_HEAD + chunk(b"event: error\ndata: " + head.replace(b"\r\n", b" ") + b"\n\n"),
        lambda head: SSE_HEAD + chunk(head),
        lambda head: SSE_HEAD + head,
        lambda head: b"HTTP/1.1 200 OK\r\n" + head.replace(b":", b"") + b"\r\n\r\n",
        lambda head: b"HTTP/1.1 500 " + head.replace(b"\r\n", b" ") + b"\r\n\r\n",
        lambda head: head + b"\r\n\r\n",
    ],
)
async def test_nothing_of_our_headers_comes_back_in_events_or_logs(
    upstream: Upstream, echo: Any, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    head = f"authorization: Bearer {SECRETS[0]}\r\nx-auth: {SECRETS[1]}\r\nx-team: {SECRETS[2]}".encode()
    for _ in range(3):
        upstream.script(echo(head))
    headers = (("X-Auth", SECRETS[1]), ("X-Team", SECRETS[2]))
    async with trial(upstream, key=SECRETS[0], headers=headers) as t:
        trail = await t.trail(stream=stream)
        event = (await t.scene.events())[-1]
    assert trail[-1].startswith("run_failed upstream_")
    assert caplog.messages
    shown = "\n".join((*caplog.messages, caplog.text, str(event)))
    assert [secret for secret in (*SECRETS, "tok-0123456789abcdef", "0123456789", "p4ssw0rd") if secret in shown] == []
    assert max(map(len, caplog.messages)) < 1200


# -- R33: a server that is silent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", ["not at all", "with its head", "with half an answer"])
async def test_a_server_that_falls_silent_is_idle_and_its_socket_is_closed(
    upstream: Upstream, begun: str, stream: bool
) -> None:
    head = SSE_HEAD if stream else HALF[: HALF.index(b"\r\n\r\n") + 4]
    spoken = {"not at all": b"", "with its head": head, "with half an answer": HELLO if stream else HALF}[begun]
    shown = stream and begun == "with half an answer"
    for _ in range(3):
        upstream.script(spoken, then="hang")
    async with trial(upstream, first_s=5.0 if spoken else SOON_S, idle_s=SOON_S) as t:
        before = ["text_added hello"] if shown else []
        assert await t.trail(stream=stream) == failed("upstream_idle", *before)
        assert len(upstream.requests) == (1 if shown else 3)
        async with asyncio.timeout(5):
            for seen in upstream.requests:
                await seen.peer_closed.wait()


@pytest.mark.parametrize("sign", [b": ping\n\n", b":\n", b"\n", b" ", b"retry: 1000\n\n"])
async def test_any_byte_shows_that_a_server_is_alive(upstream: Upstream, sign: bytes, stream: bool) -> None:
    """A slow model behind a gateway that sends keep-alives: comments in a stream, white space before JSON."""
    alive = chunk(sign if stream else b" ")
    end = b"\n\n" if stream else b""
    good = frames(piece("hello"), STOP) if stream else chunk(whole("hello"))
    head = SSE_HEAD if stream else b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/json\r\n\r\n"
    signs = [part for _ in range(8) for part in (alive, SOON_S)]
    upstream.script(head, *signs, *([chunk(end)] if end else []), good + LAST_CHUNK)
    async with trial(upstream, idle_s=7 * SOON_S) as t:
        assert await t.trail(stream=stream) == completed("hello", stream=stream)


async def test_limits_of_time_are_each_models_own(upstream: Upstream, stream: bool) -> None:
    for _ in range(2):
        upstream.script(3 * SOON_S, answer("hi", stream=stream))
    hasty = OpenAIChat(OpenAIChatOptions(url=upstream.url, name="a", first_s=SOON_S, idle_s=SOON_S), clock=FixedClock())
    patient = OpenAIChat(OpenAIChatOptions(url=upstream.url, name="b"), clock=FixedClock())
    prompt = Prompt((said("user", "hi"),))
    with pytest.raises(BackendFailed) as caught:
        await anext(hasty.reply(prompt, stream=stream))
    assert caught.value.code == "upstream_idle"
    assert [each async for each in patient.reply(prompt, stream=stream)][-1] == ReplyDone("hi", model_name="b")
    await hasty.close()
    await patient.close()


# -- R34: streams that are odd, and streams that are broken --------------------------------------------------------


def three_kilobytes(*, stream: bool) -> tuple[bytes, str]:
    """An answer of that length, and its text."""
    words = [f"wörd{at} 😀 " for at in range(28 if stream else 220)]
    text = "".join(words)
    body = SSE_HEAD + frames(*map(piece, words), STOP, b"[DONE]") + LAST_CHUNK if stream else reply(200, whole(text))
    assert len(body) > 3000
    return body, text


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
async def test_an_answer_that_comes_byte_by_byte_reads_the_same(
    upstream: Upstream, newline: bytes, stream: bool
) -> None:
    body, text = three_kilobytes(stream=stream)
    if stream:
        head, _, rest = body.partition(b"\r\n\r\n")
        data = b"".join(line for line in rest.split(b"\r\n") if line.startswith(b"data:")).replace(b"\n", newline)
        body = head + b"\r\n\r\n" + chunk(b"\xef\xbb\xbf" + data) + LAST_CHUNK
    upstream.script(*byte_by_byte(body), then="keep")
    async with trial(upstream) as t:
        await t.trail(stream=stream)
        events = await t.scene.events()
    assert "".join(event.text for event in events if isinstance(event, ev.TextAdded)) == (text if stream else "")
    assert events[-2:] == [ev.ReplyFinished(text), ev.RunCompleted()]


USAGE = {"prompt_tokens": 3, "completion_tokens": 1}


@pytest.mark.parametrize(
    "body",
    [
        frames(piece("hi"), STOP),
        frames(piece("hi"), STOP, b"[DONE]", b"[DONE]"),
        frames(piece("h"), {"choices": []}, {"x": 1}, piece("i"), STOP, {"choices": [], "usage": USAGE}, b"[DONE]"),
        frames({"choices": [{"delta": {"role": "assistant", "refusal": None, "x": [{}]}}]}, piece("hi"), STOP),
        chunk(b"".join(b"data:" + json.dumps(each).encode() + b"\n\n" for each in (piece("h"), piece("i"), STOP))),
    ],
)
async def test_streams_of_all_habits_are_read(upstream: Upstream, body: bytes, stream: bool) -> None:
    """Also where no stream was asked for."""
    upstream.script(SSE_HEAD + body + LAST_CHUNK)
    async with trial(upstream) as t:
        trail = await t.trail(stream=stream)
    assert trail[-2:] == ["reply_finished hi", "run_completed"]


@pytest.mark.parametrize("bad", [b"{", b"\xff", b'{"choices":[{"delta":{"content":"\xc3"}}]}', b"nothing"])
async def test_a_chunk_that_cannot_be_read_is_never_skipped(upstream: Upstream, bad: bytes, stream: bool) -> None:
    good = frames(STOP, b"[DONE]") + LAST_CHUNK
    for _ in range(3):
        upstream.script(HELLO + frames(bad) + good if stream else reply(200, bad))
    async with trial(upstream) as t:
        before = ["text_added hello"] if stream else []
        assert await t.trail(stream=stream) == failed("upstream_malformed", *before)


# -- R35: connections that break -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framing", "then", "every"),
    [
        ("chunked", "close", 1),
        ("chunked", "reset", 11),
        ("length", "close", 11),
        ("length", "reset", 11),
        ("until closed", "close", 11),
        ("until closed", "reset", 11),
    ],
)
async def test_an_answer_cut_at_any_byte_is_never_taken_for_whole(
    upstream: Upstream, framing: str, then: Any, every: int, stream: bool
) -> None:
    body, text = three_kilobytes(stream=stream)
    head, _, rest = body.partition(b"\r\n\r\n")
    if stream:
        rest = b"".join(line for line in rest.split(b"\r\n") if line.startswith(b"data:"))
    finished = rest.index(b'"stop"}]}\n\n') + len(b'"stop"}]}\n') if stream else len(rest) - 1
    framed = {
        "chunked": b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(rest),
        "length": b"content-length: %d\r\n\r\n" % len(rest),
        "until closed": b"connection: close\r\n\r\n",
    }[framing]
    media_type = b"text/event-stream" if stream else b"application/json"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: " + media_type + b"\r\n" + framed
    whole_reply = head + rest
    codes: set[str] = set()
    model = OpenAIChat(OpenAIChatOptions(url=upstream.url, name="gpt-x"), clock=FixedClock())
    last = len(head) + finished
    for cut in sorted({*range(0, last, every), *range(last - 20, last + 1)}):
        upstream.script(whole_reply[:cut], then=then)
        pieces, error = await ask_in_vain(model, stream=stream)
        assert all(isinstance(each, TextPiece) for each in pieces)
        assert text.startswith("".join(each.text for each in pieces if isinstance(each, TextPiece)))
        assert error.retryable
        codes.add(error.code)
    await model.close()
    assert codes <= {"upstream_truncated", "upstream_malformed", "upstream_unreachable"}


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_what_was_said_before_the_break_stays_and_is_marked_as_no_answer(
    upstream: Upstream, then: Any, stream: bool
) -> None:
    heard = asyncio.Event()
    for _ in range(3):
        upstream.script(HELLO if stream else HALF, heard, then=then)
    async with trial(upstream) as t:

        async def heard_it() -> None:
            heard.set()

        t.scene.store.hooks["after_append"] = heard_it
        if not stream:
            heard.set()
        before = ["text_added hello"] if stream else []
        assert await t.trail(stream=stream) == failed("upstream_truncated", *before)
        sentence = "The model's answer broke off before its end. Ask again."
        assert (await t.scene.events())[-1] == ev.RunFailed("upstream_truncated", sentence, Usage())


def test_a_trail_tells_what_matters(stream: bool) -> None:
    assert tell(ev.RunFailed("upstream_idle", "…")) == "run_failed upstream_idle"
