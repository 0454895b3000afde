"""Servers that never stop: R36 of the reliability plan, streamed and at once.

    FLOOD=full python -m pytest tests/models/test_upstream_floods.py -s

sends as much as the plan says (ten million deltas, a line of a gigabyte), with the server in a process of its own, and
prints what it cost; without, the floods are just large enough to reach every bound. What memory a flood takes is then
what Python allocates meanwhile, and not what the process grows by: that also tells of the tests that ran before.
"""

import asyncio
import multiprocessing
import os
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from msgspec import Struct

from dragoman.core.errors import BackendFailed
from dragoman.models.openai_chat import STREAM_BYTES_MAX, WHOLE_BYTES_MAX, OpenAIChat, OpenAIChatOptions
from dragoman.runtime.ports import ReplyDone, TextPiece, ThinkingPiece
from dragoman.wire.sse import LINE_BYTES_MAX
from tests.models.asking import HI
from tests.models.trails import SOON_S, frames, piece
from tests.support import FixedClock
from tests.upstream import SSE_HEAD, Upstream, chunk, serving

FULL = os.environ.get("FLOOD") == "full"
DELTAS = 10_000_000 if FULL else 30_000
LINE_BYTES = 1_000_000_000 if FULL else 2 * LINE_BYTES_MAX
TEXT_CHARS_MAX = 1024 * 1024 if FULL else 16 * 1024
GROWTH_BYTES_MAX = 16 * 1024 * 1024
MEBIBYTE = 1024 * 1024

WHOLE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


# -- what is sent --------------------------------------------------------------------------------------------------


def deltas(*data: Any, per_write: int = 200) -> Iterator[bytes]:
    """So many frames, these in turn."""
    yield SSE_HEAD
    group = frames(*data) * per_write
    for _ in range(DELTAS // (per_write * len(data))):
        yield group


def thinking() -> Iterator[bytes]:
    return deltas({"choices": [{"delta": {"reasoning": "hm"}}]})


def text() -> Iterator[bytes]:
    return deltas(piece("so "))


def text_one_by_one() -> Iterator[bytes]:
    return deltas(piece("so "), per_write=1)


def nothing() -> Iterator[bytes]:
    return deltas({"choices": [{"delta": {"content": ""}}]}, {"choices": []}, {})


def comments() -> Iterator[bytes]:
    yield SSE_HEAD
    part = chunk(b": ping\n\n" * 2000)
    for _ in range(DELTAS // 250):
        yield part


def calls() -> Iterator[bytes]:
    call = {"index": 0, "function": {"name": "a", "arguments": "xy"}}
    return deltas({"choices": [{"delta": {"tool_calls": [call]}}]})


def many_calls() -> Iterator[bytes]:
    yield SSE_HEAD
    for first in range(0, DELTAS // 2, 100):
        many = [
            {"index": at, "id": f"c{at}", "function": {"name": "a", "arguments": "{}"}}
            for at in range(first, first + 100)
        ]
        yield frames({"choices": [{"delta": {"tool_calls": many}}]})


def line() -> Iterator[bytes]:
    yield SSE_HEAD
    part = chunk(b"x" * 65536)
    for _ in range(LINE_BYTES // 65536):
        yield part


def text_of_a_line() -> Iterator[bytes]:
    yield SSE_HEAD + chunk(b'data: {"choices":[{"delta":{"content":"')
    yield from line_parts()


def line_parts() -> Iterator[bytes]:
    part = chunk(b"x" * 65536)
    for _ in range(LINE_BYTES // 65536):
        yield part


def body_of_space() -> Iterator[bytes]:
    yield WHOLE_HEAD
    part = chunk(b" " * 65536)
    for _ in range(max(LINE_BYTES, 2 * WHOLE_BYTES_MAX) // 65536):
        yield part


def body_of_text() -> Iterator[bytes]:
    yield WHOLE_HEAD + chunk(b'{"choices":[{"message":{"content":"')
    for _ in range(2 * WHOLE_BYTES_MAX // 65536):
        yield chunk(b"x" * 65536)


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    each.__name__: each
    for each in (
        *(thinking, text, text_one_by_one, nothing, comments, calls, many_calls),
        *(line, text_of_a_line, body_of_space, body_of_text),
    )
}


# -- who sends and who measures ------------------------------------------------------------------------------------


class Cost(Struct):
    """What taking a flood came to."""

    ended: str
    chars: int
    growth_bytes: int
    cpu_s: float


@asynccontextmanager
async def flooded(flood: str) -> AsyncIterator[str]:
    """The url of a server that sends one."""
    if FULL:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(flood, theirs), daemon=True)
        process.start()
        try:
            yield await asyncio.to_thread(ours.recv)
        finally:
            process.kill()
            process.join()
    else:
        async with serving() as upstream:
            _script(upstream, flood)
            yield upstream.url


def _script(upstream: Upstream, flood: str) -> None:
    for _ in range(2):
        upstream.script_from(FLOODS[flood](), then="hang")


def _serve(flood: str, pipe: Any) -> None:
    async def serve() -> None:
        async with serving() as upstream:
            _script(upstream, flood)
            pipe.send(upstream.url)
            await asyncio.Event().wait()

    asyncio.run(serve())


async def take(flood: str, *, stream: bool, **options: Any) -> Cost:
    async with flooded(flood) as url:
        limits = {"text_chars_max": TEXT_CHARS_MAX, "idle_s": 5.0}
        settings = OpenAIChatOptions(**({"url": url, "name": "gpt-x"} | limits | options))
        model = OpenAIChat(settings, clock=FixedClock())
        chars, ended = 0, ""
        began = process_time()
        with growing() as growth:
            try:
                async for each in model.reply(HI, stream=stream):
                    if isinstance(each, TextPiece | ThinkingPiece):
                        chars += len(each.text)
                    elif isinstance(each, ReplyDone):
                        ended = "done"
            except BackendFailed as error:
                ended = f"{error.code}: {error.detail}"
        cost = Cost(ended, chars, growth.most, process_time() - began)
        await model.close()
    if FULL:
        print(
            f"\n{flood}, {'streamed' if stream else 'at once'}: {cost.ended[:60]} after {cost.chars:,} characters; "
            f"memory +{cost.growth_bytes / MEBIBYTE:.1f} MiB, {cost.cpu_s:.1f} s of CPU"
        )
    return cost


class Growth(Struct):
    """By how many bytes memory grew at most while it was watched."""

    most: int = 0


@contextmanager
def growing() -> Iterator[Growth]:
    """Watches what is allocated within. A full flood tells what the whole process came to, as its operator sees it."""
    growth = Growth()
    if FULL:
        before = _rss()
        yield growth
        growth.most = _rss(highest=True) - before
        return
    tracemalloc.start()
    try:
        yield growth
        growth.most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _rss(*, highest: bool = False) -> int:
    """Bytes of memory in use; `highest` = the most since it was asked last without. 0 where there is no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if not highest:
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back (proc_pid_clear_refs(5))
    return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024


# -- the bounds ----------------------------------------------------------------------------------------------------

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "at-once"])
in_time = pytest.mark.timeout(900 if FULL else 30)


@both_ways
@in_time
@pytest.mark.parametrize(
    ("flood", "what"), [("text", "answer"), ("text_one_by_one", "answer"), ("thinking", "thinking")]
)
async def test_endless_text_is_shown_to_its_bound_and_no_further(flood: str, what: str, stream: bool) -> None:
    cost = await take(flood, stream=stream)
    assert cost.ended == (
        f"upstream_too_long: The model's {what} is over our limit of {TEXT_CHARS_MAX} characters. Ask for less at once."
    )
    assert cost.chars == (TEXT_CHARS_MAX if stream else 0)
    assert cost.growth_bytes <= GROWTH_BYTES_MAX


@both_ways
@in_time
@pytest.mark.parametrize("flood", ["nothing", "comments", "calls", "many_calls"])
async def test_an_endless_stream_that_shows_nothing_ends_at_the_bound_of_its_bytes(flood: str, stream: bool) -> None:
    most = STREAM_BYTES_MAX if FULL else 256 * 1024
    cost = await take(flood, stream=stream, stream_bytes_max=most)
    assert cost.ended == (
        f"upstream_too_long: The model's stream is over our limit of {most} bytes. Ask for less at once."
    )
    assert cost.growth_bytes <= GROWTH_BYTES_MAX


@both_ways
@in_time
@pytest.mark.parametrize("flood", ["line", "text_of_a_line"])
async def test_a_line_without_end_is_read_to_its_bound(flood: str, stream: bool) -> None:
    cost = await take(flood, stream=stream)
    assert cost.ended == (
        f"upstream_too_long: The model's line is over our limit of {LINE_BYTES_MAX} bytes. Ask for less at once."
    )
    assert cost.growth_bytes <= GROWTH_BYTES_MAX


@both_ways
@in_time
@pytest.mark.parametrize("flood", ["body_of_space", "body_of_text"])
async def test_a_body_without_end_is_read_to_its_bound(flood: str, stream: bool) -> None:
    cost = await take(flood, stream=stream)
    assert cost.ended == (
        f"upstream_too_long: The model's reply is over our limit of {WHOLE_BYTES_MAX} bytes. Ask for less at once."
    )
    assert cost.growth_bytes <= GROWTH_BYTES_MAX


@both_ways
@pytest.mark.parametrize("drop", [b" ", b"\n", b": ping\n\n", b"data: {}\n\n"])
async def test_a_drip_that_shows_nothing_ends_with_the_time_for_a_reply(drop: bytes, stream: bool) -> None:
    """No second time either: asked again the server would do the same."""

    def drip() -> Iterator[bytes | float]:
        yield SSE_HEAD if stream else WHOLE_HEAD
        while True:
            yield chunk(drop if stream else b" ")
            yield SOON_S / 10

    async with serving() as upstream:
        upstream.script_from(drip())
        options = OpenAIChatOptions(url=upstream.url, name="gpt-x", total_s=0.2)
        model = OpenAIChat(options, clock=FixedClock())
        with pytest.raises(BackendFailed) as caught:
            await anext(model.reply(HI, stream=stream))
        assert (caught.value.code, caught.value.retryable) == ("upstream_idle", False)
        assert caught.value.detail == "The model took too long to answer (over 0.2 s in all). Ask for less at once."
        async with asyncio.timeout(5):
            await (await upstream.request()).peer_closed.wait()
        await model.close()


def test_a_reply_has_ten_minutes_a_mebibyte_of_text_and_two_of_a_line() -> None:
    options = OpenAIChatOptions(url="", name="")
    assert (options.total_s, options.text_chars_max, options.line_bytes_max) == (600.0, MEBIBYTE, 2 * MEBIBYTE)
