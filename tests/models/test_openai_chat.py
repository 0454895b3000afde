import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import BackendFailed, BadRequest
from dragoman.core.messages import ToolCall, Usage, said
from dragoman.core.names import CallId
from dragoman.models import openai_chat
from dragoman.models.openai_chat import OpenAIChat, OpenAIChatOptions
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece, ThinkingPiece
from tests.support import FixedClock
from tests.upstream import LAST_CHUNK, SSE_HEAD, Upstream, chunk, reply, serving

LIST_FILES = ToolSpec("list_files", "List files.", {"type": "object", "properties": {}})
SOON_S = 0.03
"""A limit that a silent server surely passes while a test waits for it."""


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serving() as serving_upstream:
        yield serving_upstream


@asynccontextmanager
async def model(upstream: Upstream, **options: Any) -> AsyncIterator[OpenAIChat]:
    made = OpenAIChat(
        OpenAIChatOptions(**{"url": upstream.url, "name": "gpt-x", "key": "secret-key"} | options),
        clock=FixedClock(),
    )
    try:
        yield made
    finally:
        await made.close()


def prompt(text: str, *tools: ToolSpec) -> Prompt:
    return Prompt((said("user", text),), tools=tools)


async def ask(asked: OpenAIChat, text: str = "hi", *tools: ToolSpec, stream: bool = True) -> list[ReplyPiece]:
    async with asyncio.timeout(5):
        return [piece async for piece in asked.reply(prompt(text, *tools), stream=stream)]


async def fault(asked: OpenAIChat, *, stream: bool = True) -> BackendFailed:
    with pytest.raises(BackendFailed) as caught:
        await ask(asked, stream=stream)
    return caught.value


def sse(*data: Any) -> bytes:
    """Frames as HTTP chunks of a streamed answer."""
    return b"".join(
        chunk(b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n\n") for each in data
    )


def said_piece(text: str) -> Any:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
HELLO = SSE_HEAD + sse(said_piece("hello"))
WHOLE = b'{"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}]}'
DONE = ReplyDone("hello", finish_reason="stop", model_name="gpt-x")


# -- good replies --------------------------------------------------------------------------------------------------


async def test_a_reply_that_is_not_streamed_comes_at_once(upstream: Upstream) -> None:
    async with model(upstream) as asked:
        pieces = await ask(asked, "hi there", stream=False)
    assert pieces == [
        ReplyDone("Echo: hi there", usage=Usage(2, 3), finish_reason="stop", model_name="gpt-x"),
    ]
    seen = upstream.requests[0]
    assert (seen.method, seen.path, seen.json()["stream"]) == ("POST", "/v1/chat/completions", False)
    assert seen.headers["authorization"] == "Bearer secret-key"


async def test_a_streamed_reply_comes_in_pieces_and_ends_with_the_whole(upstream: Upstream) -> None:
    async with model(upstream) as asked:
        pieces = await ask(asked, "WORDS20 GAP0")
    words = " ".join(f"word{at}" for at in range(20))
    done = ReplyDone(words, usage=Usage(2, 20), finish_reason="stop", model_name="gpt-x")
    assert pieces[-1] == done
    assert len(pieces) > 2
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)) == words


async def test_words_of_one_network_read_come_as_one_piece(upstream: Upstream) -> None:
    async with model(upstream) as asked:
        upstream.script(SSE_HEAD + sse(said_piece("a"), said_piece("b"), STOP, b"[DONE]") + LAST_CHUNK, then="keep")
        assert await ask(asked) == [
            TextPiece("ab"),
            ReplyDone("ab", finish_reason="stop", model_name="gpt-x"),
        ]


async def test_thinking_is_told_from_text(upstream: Upstream) -> None:
    thought = {"choices": [{"delta": {"reasoning_content": "hm"}}]}
    upstream.script(SSE_HEAD + sse(thought, said_piece("yes"), STOP), then="close")
    async with model(upstream) as asked:
        assert await ask(asked) == [
            ThinkingPiece("hm"),
            TextPiece("yes"),
            ReplyDone("yes", finish_reason="stop", thinking="hm", model_name="gpt-x"),
        ]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_tool_call_is_part_of_the_whole_reply(upstream: Upstream, stream: bool) -> None:
    async with model(upstream) as asked:
        pieces = await ask(asked, 'TOOL:list_files TOOLARGS:{"path": "docs"}', LIST_FILES, stream=stream)
    call = ToolCall(CallId("call_1"), "list_files", '{"path": "docs"}')
    assert pieces == [ReplyDone("", (call,), Usage(3, 5), "tool_calls", model_name="gpt-x")]
    assert upstream.requests[0].json()["tools"][0]["function"]["name"] == "list_files"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_answer_is_an_answer(upstream: Upstream, stream: bool) -> None:
    async with model(upstream) as asked:
        pieces = await ask(asked, "EMPTY", stream=stream)
    assert pieces == [ReplyDone("", usage=Usage(1, 0), finish_reason="stop", model_name="gpt-x")]


async def test_a_server_that_does_not_stream_is_read_as_a_whole(upstream: Upstream) -> None:
    upstream.script(reply(200, WHOLE))
    async with model(upstream) as asked:
        assert await ask(asked) == [DONE]


async def test_a_server_that_streams_unasked_is_folded_into_one_reply(upstream: Upstream) -> None:
    upstream.script(HELLO + sse(STOP, b"[DONE]") + LAST_CHUNK)
    async with model(upstream) as asked:
        assert await ask(asked, stream=False) == [DONE]


async def test_a_stream_needs_no_content_type_to_be_read(upstream: Upstream) -> None:
    upstream.script(b"HTTP/1.1 200 OK\r\n\r\ndata: " + WHOLE.replace(b"message", b"delta") + b"\n\n")
    async with model(upstream) as asked:
        assert await ask(asked) == [TextPiece("hello"), DONE]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
async def test_a_stream_of_single_bytes_reads_the_same(upstream: Upstream, newline: bytes) -> None:
    stream = b"\xef\xbb\xbf: ping\n\ndata:" + json.dumps(said_piece("h\u00e9 \U0001f600"), ensure_ascii=False).encode()
    stream += b"\n\ndata: " + json.dumps(STOP).encode() + b"\n\n"
    stream = stream.replace(b"\n", newline)
    upstream.script(SSE_HEAD, *(chunk(stream[at : at + 1]) for at in range(len(stream))), LAST_CHUNK, then="keep")
    async with model(upstream) as asked:
        assert (await ask(asked))[-1] == ReplyDone("hé 😀", finish_reason="stop", model_name="gpt-x")


async def test_replies_share_one_connection(upstream: Upstream) -> None:
    async with model(upstream) as asked:
        for stream in (True, False, True):
            await ask(asked, stream=stream)
    assert upstream.counts["connections"] == 1


async def test_a_connection_is_kept_although_its_end_comes_a_moment_after_done(upstream: Upstream) -> None:
    async with model(upstream) as asked:
        for _ in range(2):
            upstream.script(HELLO + sse(STOP, b"[DONE]"), 0.0, LAST_CHUNK, then="keep")
            assert await ask(asked) == [TextPiece("hello"), DONE]
    assert upstream.counts["connections"] == 1


async def test_what_follows_done_is_passed_over(upstream: Upstream) -> None:
    async with model(upstream) as asked:
        for _ in range(2):
            upstream.script(HELLO + sse(STOP, b"[DONE]"), 0.0, sse(b"[DONE]", b"garbage"), 0.0, LAST_CHUNK, then="keep")
            assert await ask(asked) == [TextPiece("hello"), DONE]
    assert upstream.counts["connections"] == 1


async def test_extra_headers_and_parameters_are_sent(upstream: Upstream) -> None:
    async with model(upstream, headers=(("X-Team", "blue"),), params={"temperature": 0.5}) as asked:
        await ask(asked)
    seen = upstream.requests[0]
    assert (seen.headers["x-team"], seen.json()["temperature"]) == ("blue", 0.5)


async def test_no_key_sends_no_authorization_and_a_key_is_trimmed(upstream: Upstream) -> None:
    for key, sent in (("", None), (" secret-key\r\n", "Bearer secret-key")):
        async with model(upstream, key=key) as asked:
            await ask(asked)
        assert upstream.requests[-1].headers.get("authorization") == sent


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "upstream_refused", False),
        (401, "upstream_refused", False),
        (404, "upstream_refused", False),
        (422, "upstream_refused", False),
        (429, "upstream_limited", True),
        (500, "upstream_failed", True),
        (503, "upstream_failed", True),
        (529, "upstream_failed", True),
    ],
)
async def test_a_status_becomes_a_fault_and_the_connection_lives_on(
    upstream: Upstream, status: int, code: str, retryable: bool, stream: bool
) -> None:
    body = b'{"error":{"message":"you sent secret-key"}}'
    async with model(upstream) as asked:
        upstream.script(reply(status, body, headers={"retry-after": "7"}), then="keep")
        error = await fault(asked, stream=stream)
        await ask(asked)
    assert (error.code, error.retryable) == (code, retryable)
    assert error.internal == f'status {status}: {{"error":{{"message":"you sent [secret]"}}}}'
    assert error.retry_after_s == (7.0 if retryable else None)
    assert upstream.counts["connections"] == 1


async def test_of_a_long_error_only_the_beginning_is_kept(upstream: Upstream) -> None:
    upstream.script(reply(500, b"x" * 100_000, media_type="text/html"))
    async with model(upstream) as asked:
        assert (await fault(asked)).internal == "status 500: " + "x" * 500


async def test_an_error_that_never_ends_its_body_is_still_told(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_chat, "REFUSAL_S", SOON_S)
    upstream.script(b"HTTP/1.1 500 X\r\ncontent-length: 100\r\n\r\nhalf", then="hang")
    async with model(upstream) as asked:
        assert (await fault(asked)).internal == "status 500: half"


async def test_a_redirect_is_not_followed(upstream: Upstream) -> None:
    upstream.script(reply(307, b"", headers={"location": f"{upstream.url}/elsewhere"}))
    async with model(upstream) as asked:
        error = await fault(asked)
    assert (error.code, error.retryable, error.internal) == (
        "upstream_refused",
        False,
        f"status 307: location {upstream.url}/elsewhere",
    )
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        (reply(200, b"<html>hello</html>", media_type="text/html"), False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (reply(200, b""), True),
        (reply(200, b"", media_type="text/event-stream"), True),
        (reply(200, b"{"), True),
        (reply(200, b"data: {\n\n", media_type="text/event-stream"), True),
    ],
)
async def test_what_is_no_chat_reply_is_malformed(
    upstream: Upstream, answer: bytes, retryable: bool, stream: bool
) -> None:
    upstream.script(answer)
    async with model(upstream) as asked:
        error = await fault(asked, stream=stream)
    assert (error.code, error.retryable) == ("upstream_malformed", retryable)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("error_body", [b'{"error":{"message":"overloaded"}}', b'{"error":"overloaded"}'])
async def test_an_error_inside_a_good_status_is_a_failure(upstream: Upstream, error_body: bytes, stream: bool) -> None:
    upstream.script(reply(200, error_body))
    async with model(upstream) as asked:
        assert (await fault(asked, stream=stream)).code == "upstream_failed"


async def test_what_does_not_speak_http_is_malformed(upstream: Upstream) -> None:
    upstream.script(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    async with model(upstream) as asked:
        assert (await fault(asked)).code == "upstream_malformed"


# -- broken connections --------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/v1", "http://no-such-host.invalid/v1"])
async def test_a_server_that_is_not_there_is_unreachable(upstream: Upstream, url: str) -> None:
    async with model(upstream, url=url.format(port=free_port())) as asked:
        error = await fault(asked)
    assert (error.code, error.retryable) == ("upstream_unreachable", True)
    assert error.detail == (
        "The model server could not be reached. Check that it runs and that the model's url is right."
    )


async def test_a_server_without_tls_behind_https_is_unreachable(upstream: Upstream) -> None:
    async with model(upstream, url=upstream.url.replace("http:", "https:")) as asked:
        assert (await fault(asked)).code == "upstream_unreachable"


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_connection_that_breaks_before_the_reply_is_unreachable(upstream: Upstream, then: Any) -> None:
    upstream.script(then=then)
    async with model(upstream) as asked:
        error = await fault(asked)
    assert (error.code, error.retryable) == ("upstream_unreachable", True)


async def test_a_server_that_does_not_take_connections_in_time_is_unreachable() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        fillers = [socket.socket() for _ in range(8)]  # fill the queue, so that further ones are not answered
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            options = OpenAIChatOptions(url=f"http://127.0.0.1:{port}/v1", name="gpt-x", connect_s=SOON_S)
            asked = OpenAIChat(options, clock=FixedClock())
            error = await fault(asked)
            await asked.close()
        finally:
            for filler in fillers:
                filler.close()
    assert (error.code, error.retryable) == ("upstream_unreachable", True)
    assert error.detail.startswith("The model server could not be reached within 0.03 s.")


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_stream_that_breaks_keeps_what_was_said_and_is_truncated(upstream: Upstream, then: Any) -> None:
    heard = asyncio.Event()
    upstream.script(HELLO, heard, then=then)
    pieces: list[ReplyPiece] = []
    async with model(upstream) as asked:
        with pytest.raises(BackendFailed) as caught:
            async for piece in asked.reply(prompt("hi"), stream=True):
                pieces.append(piece)
                heard.set()
    assert pieces == [TextPiece("hello")]
    assert (caught.value.code, caught.value.retryable) == ("upstream_truncated", True)


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_whole_reply_that_breaks_is_truncated(upstream: Upstream, then: Any) -> None:
    upstream.script(reply(200, WHOLE)[:-10], then=then)
    async with model(upstream) as asked:
        assert (await fault(asked, stream=False)).code == "upstream_truncated"


async def test_a_stream_that_ends_well_but_without_finish_reason_is_truncated(upstream: Upstream) -> None:
    async with model(upstream) as asked:
        upstream.script(HELLO + LAST_CHUNK, then="keep")
        assert (await fault(asked)).code == "upstream_truncated"
        upstream.script(HELLO + sse(b"[DONE]") + LAST_CHUNK, then="keep")
        assert (await fault(asked)).code == "upstream_truncated"


async def test_mid_failure_of_the_scripted_server_is_truncated(upstream: Upstream) -> None:
    async with model(upstream) as asked:
        with pytest.raises(BackendFailed) as caught:
            await ask(asked, "MIDFAIL WORDS9")
    assert caught.value.code == "upstream_truncated"


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_break_after_the_finish_reason_does_no_harm(upstream: Upstream, then: Any) -> None:
    upstream.script(HELLO + sse(STOP), then=then)
    async with model(upstream) as asked:
        assert await ask(asked) == [TextPiece("hello"), DONE]


async def test_a_stream_cut_at_any_byte_is_never_taken_for_whole(upstream: Upstream) -> None:
    stream = HELLO + sse(STOP, b"[DONE]") + LAST_CHUNK
    finished = stream.index(b'"stop"}]}\n\n') + len(b'"stop"}]}\n\n')
    codes: set[str] = set()
    async with model(upstream) as asked:
        for at in range(len(SSE_HEAD), finished):
            upstream.script(stream[:at], then="close")
            codes.add((await fault(asked)).code)
        upstream.script(stream[:finished], then="close")
        assert await ask(asked) == [TextPiece("hello"), DONE]
    assert codes == {"upstream_truncated"}


# -- time ----------------------------------------------------------------------------------------------------------


async def test_a_stream_that_does_not_begin_is_idle(upstream: Upstream) -> None:
    upstream.script(then="hang")
    async with model(upstream, first_s=SOON_S) as asked:
        error = await fault(asked)
    assert (error.code, error.retryable) == ("upstream_idle", True)
    assert error.detail == "The model took too long to answer (0.03 s without a byte). Ask again."
    await (await upstream.request()).peer_closed.wait()


async def test_a_reply_that_comes_at_once_may_take_as_long_as_a_pause(upstream: Upstream) -> None:
    async with model(upstream, first_s=SOON_S, idle_s=5.0) as asked:
        upstream.script(2 * SOON_S, reply(200, WHOLE))
        assert await ask(asked, stream=False) == [DONE]
    async with model(upstream, first_s=SOON_S, idle_s=SOON_S) as asked:
        upstream.script(then="hang")
        assert (await fault(asked, stream=False)).code == "upstream_idle"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reply_that_falls_silent_is_idle_and_its_socket_is_closed(upstream: Upstream, stream: bool) -> None:
    upstream.script(HELLO if stream else reply(200, WHOLE)[:-5], then="hang")
    async with model(upstream, idle_s=SOON_S) as asked:
        error = await fault(asked, stream=stream)
        assert (error.code, error.retryable) == ("upstream_idle", True)
        async with asyncio.timeout(5):
            await (await upstream.request()).peer_closed.wait()


async def test_comments_show_that_a_server_is_alive(upstream: Upstream) -> None:
    pings = [part for _ in range(6) for part in (chunk(b": ping\n\n"), SOON_S)]
    upstream.script(SSE_HEAD, *pings, sse(said_piece("hello"), STOP, b"[DONE]"))
    async with model(upstream, idle_s=4 * SOON_S) as asked:
        assert await ask(asked) == [TextPiece("hello"), DONE]


async def test_a_reply_that_goes_on_and_on_ends_at_the_limit_for_all_of_it(upstream: Upstream) -> None:
    def drip() -> Iterator[bytes | float]:
        yield SSE_HEAD
        while True:
            yield sse(said_piece(" "))
            yield SOON_S / 10

    upstream.script_from(drip())
    async with model(upstream, total_s=2 * SOON_S) as asked:
        error = await fault(asked)
    assert (error.code, error.detail) == (
        "upstream_idle",
        "The model took too long to answer (over 0.06 s in all). Ask for less at once.",
    )


async def test_a_slow_reader_is_not_the_servers_fault(upstream: Upstream) -> None:
    read = asyncio.Event()
    upstream.script(HELLO, read, sse(STOP, b"[DONE]") + LAST_CHUNK)
    async with model(upstream, idle_s=SOON_S) as asked:
        pieces: list[ReplyPiece] = []
        async for piece in asked.reply(prompt("hi"), stream=True):
            pieces.append(piece)
            # Our side is busy for longer than the server may be silent.
            await asyncio.sleep(3 * SOON_S)
            read.set()
    assert pieces == [TextPiece("hello"), DONE]


async def test_after_the_finish_reason_a_silent_server_is_not_waited_for(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_chat, "AFTER_FINISH_S", SOON_S)
    upstream.script(HELLO + sse(STOP), then="hang")
    async with model(upstream) as asked:
        assert await ask(asked) == [TextPiece("hello"), DONE]
        async with asyncio.timeout(5):
            await (await upstream.request()).peer_closed.wait()


async def test_after_done_a_silent_server_is_not_waited_for(upstream: Upstream) -> None:
    upstream.script(HELLO + sse(STOP, b"[DONE]"), then="hang")
    async with model(upstream) as asked:
        assert await ask(asked) == [TextPiece("hello"), DONE]
        async with asyncio.timeout(5):
            await (await upstream.request()).peer_closed.wait()


# -- closing -------------------------------------------------------------------------------------------------------


async def test_closing_the_iterator_closes_the_socket_at_once(upstream: Upstream) -> None:
    upstream.script(HELLO, then="hang")
    async with model(upstream) as asked:
        async with aclosing(asked.reply(prompt("hi"), stream=True)) as pieces:
            assert await anext(pieces) == TextPiece("hello")
        async with asyncio.timeout(1):
            await (await upstream.request()).peer_closed.wait()


@pytest.mark.parametrize("stream", [True, False])
async def test_cancelling_the_asker_closes_the_socket_before_and_after_the_first_byte(
    upstream: Upstream, stream: bool
) -> None:
    async with model(upstream) as asked:
        for number, head in enumerate((b"", HELLO if stream else reply(200, WHOLE)[:-5]), 1):
            upstream.script(head, then="hang")
            task = asyncio.ensure_future(ask(asked, stream=stream))
            seen = await upstream.request(number)
            while seen.bytes_sent < len(head):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(1):
                await seen.peer_closed.wait()


async def test_a_closed_model_says_so_and_closing_twice_is_harmless(upstream: Upstream) -> None:
    async with model(upstream) as asked:
        await ask(asked)
        await asked.close()
        await asked.close()
        error = await fault(asked)
    assert (error.code, error.detail) == (
        "upstream_unreachable",
        "The server is stopping. Ask again in a moment.",
    )


# -- bounds --------------------------------------------------------------------------------------------------------


async def test_an_endless_line_is_not_read_to_its_end(upstream: Upstream) -> None:
    def endless() -> Iterator[bytes]:
        yield SSE_HEAD
        while True:
            yield chunk(b"x" * 65536)

    upstream.script_from(endless())
    async with model(upstream) as asked:
        error = await fault(asked)
        assert (error.code, error.retryable) == ("upstream_too_long", False)
        async with asyncio.timeout(5):
            seen = await upstream.request()
            await seen.peer_closed.wait()
    # What the kernel's buffers and ours take beyond the bound of a line.
    assert seen.bytes_sent < openai_chat.LINE_BYTES_MAX + 16 * 1024 * 1024


async def test_endless_text_stops_at_its_bound(upstream: Upstream) -> None:
    def endless() -> Iterator[bytes]:
        yield SSE_HEAD
        piece = sse(said_piece("x" * 1000)) * 16
        while True:
            yield piece

    upstream.script_from(endless())
    async with model(upstream) as asked:
        assert (await fault(asked)).code == "upstream_too_long"


async def test_an_endless_whole_reply_is_not_read_to_its_end(upstream: Upstream) -> None:
    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        while True:
            yield chunk(b" " * 65536)

    upstream.script_from(endless())
    async with model(upstream) as asked:
        error = await fault(asked, stream=False)
    assert error.detail == "The model's reply is over our limit of 12582912 bytes. Ask for less at once."


@pytest.mark.parametrize("stream", [True, False])
async def test_huge_arguments_are_cut_and_the_reply_goes_on(upstream: Upstream, stream: bool) -> None:
    function = {"name": "a", "arguments": "x" * 1_000_000}
    said_fields = {"content": "so", "tool_calls": [{"index": 0, "id": "c", "function": function}]}
    choice = {"delta" if stream else "message": said_fields, "finish_reason": "tool_calls"}
    body = json.dumps({"choices": [choice]}).encode()
    upstream.script(SSE_HEAD + sse(body) if stream else reply(200, body))
    async with model(upstream) as asked:
        done = (await ask(asked, stream=stream))[-1]
    assert isinstance(done, ReplyDone)
    assert (done.text, done.finish_reason, len(done.calls[0].arguments)) == ("so", "tool_calls", 256 * 1024 + 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_of_too_many_calls_the_first_are_taken_and_the_log_says_so(
    upstream: Upstream, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    many = [{"index": at, "id": f"c{at}", "function": {"name": "a", "arguments": "{}"}} for at in range(1000)]
    choice = {"delta" if stream else "message": {"tool_calls": many}, "finish_reason": "tool_calls"}
    body = json.dumps({"choices": [choice]}).encode()
    upstream.script(SSE_HEAD + sse(body) if stream else reply(200, body))
    async with model(upstream) as asked:
        (done,) = await ask(asked, stream=stream)
    assert isinstance(done, ReplyDone)
    assert [each.id for each in done.calls] == [f"c{at}" for at in range(32)]
    assert caplog.messages == ["a model asked for 968 calls more than the 32 of one reply"]


# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["schlüssel", "line\r\nX-Evil: 1", "nul\0", "half\udcff"])
async def test_a_key_that_no_header_can_carry_is_a_refusal(upstream: Upstream, key: str) -> None:
    async with model(upstream, key=key) as asked:
        error = await fault(asked)
    assert (error.code, error.retryable) == ("upstream_refused", False)
    assert upstream.counts["connections"] == 0


def test_options_that_cannot_be_used_are_refused_by_name() -> None:
    with pytest.raises(BadRequest) as caught:
        OpenAIChat(OpenAIChatOptions(url="http://x/v1", name="gpt-x", params={"stream": True}), clock=FixedClock())
    assert caught.value.detail == "params.stream: this is ours to set; take it out"


def test_options_do_not_show_their_secrets() -> None:
    options = OpenAIChatOptions(url="http://x/v1", name="gpt-x", key="secret-key", headers=(("a", "secret"),))
    assert repr(options) == "OpenAIChatOptions(url='http://x/v1', name='gpt-x', …)"
