import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dragoman.core.errors import BackendFailed, BadRequest
from dragoman.core.messages import said
from dragoman.models.openai_chat import OpenAIChat, OpenAIChatOptions
from dragoman.models.openai_connection import endpoint, request_headers
from dragoman.runtime.counters import Counters
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece
from tests.support import FixedClock
from tests.upstream import LAST_CHUNK, SSE_HEAD, Upstream, chunk, reply, serving

HI = Prompt((said("user", "hi"),))
STRAY = b'{"choices":[{"message":{"content":"of somebody else"},"finish_reason":"stop"}]}'


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serving() as serving_upstream:
        yield serving_upstream


async def ask(model: OpenAIChat, *, stream: bool) -> list[ReplyPiece]:
    async with asyncio.timeout(5):
        return [piece async for piece in model.reply(HI, stream=stream)]


# -- what nobody asked for -----------------------------------------------------------------------------------------


def streamed(body: bytes) -> bytes:
    return SSE_HEAD + chunk(b"data: " + body.replace(b"message", b"delta") + b"\n\n") + LAST_CHUNK


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_reply_nobody_asked_for_is_never_taken_for_the_next_one(
    upstream: Upstream, stream: bool, whole: bool, at_once: bool
) -> None:
    """A late answer to a question that was given up, for instance: it would show one caller's words to another."""
    make = streamed if stream else lambda body: reply(200, body)
    stray = make(STRAY) if whole else make(STRAY)[:20]
    good = make(STRAY.replace(b"of somebody else", b"mine"))
    told = asyncio.Event()
    upstream.script(*([good + stray] if at_once else [good, told, stray]), then="keep")
    counters = Counters()
    model = OpenAIChat(OpenAIChatOptions(url=upstream.url, name="gpt-x"), clock=FixedClock(), counters=counters)
    assert (await ask(model, stream=stream))[-1] == ReplyDone("mine", model_name="gpt-x")
    (first,) = upstream.requests
    told.set()
    async with asyncio.timeout(5):
        while first.bytes_sent < len(good + stray):
            await asyncio.sleep(0)
    other = OpenAIChat(OpenAIChatOptions(url=upstream.url, name="gpt-x"), clock=FixedClock())
    await ask(other, stream=False)  # by now what was sent before has been read
    await other.close()
    upstream.script(good, then="keep")
    try:
        assert (await ask(model, stream=stream))[-1] == ReplyDone("mine", model_name="gpt-x")
    except BackendFailed as error:
        assert (whole, error.retryable) == (False, True)
    assert counters.replies_unasked == (whole and not at_once)
    await model.close()


async def test_a_connection_on_which_nothing_came_is_used_again(upstream: Upstream) -> None:
    counters = Counters()
    model = OpenAIChat(OpenAIChatOptions(url=upstream.url, name="gpt-x"), clock=FixedClock(), counters=counters)
    for _ in range(3):
        await ask(model, stream=True)
    await model.close()
    assert (upstream.counts["connections"], counters.replies_unasked) == (1, 0)


# -- where and with what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "detail"),
    [
        ("ftp://x/v1", "url: 'ftp://x/v1' must begin with http:// or https:// and name a host"),
        ("127.0.0.1:80", "url: '127.0.0.1:80' must begin with http:// or https:// and name a host"),
        ("", "url: '' must begin with http:// or https:// and name a host"),
        ("http://[x/v1", "url: 'http://[x/v1' is not a URL"),
        ("http://u:p@x/v1", "url: must not hold a user or password; use `key` or `headers`"),
    ],
)
def test_a_base_that_is_no_url_is_refused(base: str, detail: str) -> None:
    with pytest.raises(BadRequest) as caught:
        endpoint(base)
    assert caught.value.detail == detail


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/deployments/a%2Fb?api-version=1", "/deployments/a%2Fb/chat/completions?api-version=1"),
    ],
)
async def test_the_path_is_put_behind_the_base(upstream: Upstream, base: str, path: str) -> None:
    url = upstream.url.removesuffix("/v1") + base
    model = OpenAIChat(OpenAIChatOptions(url=url, name="gpt-x"), clock=FixedClock())
    await ask(model, stream=False)
    await model.close()
    assert upstream.requests[0].path == path


def test_a_header_that_is_configured_takes_the_place_of_ours() -> None:
    headers = request_headers((("user-agent", "ops"), ("X-Team", "blue")), "k")
    assert dict(headers) == {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Accept-Encoding": "identity",
        "user-agent": "ops",
        "Authorization": "Bearer k",
        "X-Team": "blue",
    }
    assert "Authorization" not in request_headers((), "")


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ((("a b", "c"),), "headers: 'a b' is not the name of a header"),
        ((("a", "b\r\nc"),), "headers.a: a header's value is one line of printable ASCII"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(headers: Any, detail: str) -> None:
    with pytest.raises(BadRequest) as caught:
        request_headers(headers, "")
    assert caught.value.detail == detail
