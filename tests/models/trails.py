"""Runs around a model behind real sockets: what they leave on the tape, what they wait for, what the server sees."""

import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from dragoman.core import events as ev
from dragoman.models.fallback import Fallback
from dragoman.models.openai_chat import OpenAIChat, OpenAIChatOptions
from dragoman.models.retrying import Retrying
from dragoman.runtime.counters import Counters
from dragoman.runtime.ports import Model
from tests.runtime.scene import Scene, asked, scene_of
from tests.support import FixedClock
from tests.upstream import LAST_CHUNK, SSE_HEAD, Item, Upstream, chunk, reply

SOON_S = 0.03
"""A limit that a silent server surely passes while a test waits for it."""

STOP: Any = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
CALLS: Any = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


def piece(text: str) -> Any:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def frames(*data: Any) -> bytes:
    """As HTTP chunks of a streamed answer."""
    return b"".join(
        chunk(b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n\n") for each in data
    )


def whole(text: str | None, calls: Iterable[Any] = (), reason: str = "stop") -> bytes:
    message = {"content": text, "tool_calls": list(calls)}
    return json.dumps({"choices": [{"message": message, "finish_reason": reason}]}, ensure_ascii=False).encode()


def answer(text: str, *, stream: bool) -> bytes:
    """A good reply, as a server sends it in one go."""
    if stream:
        return SSE_HEAD + frames(piece(text), STOP, b"[DONE]") + LAST_CHUNK
    return reply(200, whole(text))


def call(id: str, name: str, arguments: str, index: int = 0) -> Any:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


def calling(*calls: Any, stream: bool) -> bytes:
    """A reply that asks for tools; streamed, each call comes in a frame of its own."""
    if stream:
        each = [{"choices": [{"index": 0, "delta": {"tool_calls": [one]}}]} for one in calls]
        return SSE_HEAD + frames(*each, CALLS, b"[DONE]") + LAST_CHUNK
    return reply(200, whole(None, calls, "tool_calls"))


class Pauses:
    """A clock, and a sleep that only moves it."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        self.slept: list[float] = []
        self.hook: Callable[[float], Awaitable[None]] | None = None
        """Awaited in each pause, to look or to hold it up."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.hook is not None:
            await self.hook(seconds)
        self.clock.move(seconds)


class Trial:
    """One process, whose model is wrapped as a configured one is."""

    def __init__(self, scene: Scene, counters: Counters, pauses: Pauses) -> None:
        self.scene = scene
        self.counters = counters
        """Of the model."""
        self.pauses = pauses

    async def trail(self, *, stream: bool) -> list[str]:
        """One turn, to its end."""
        await self.scene.drive(asked(deltas=stream))
        return await self.told()

    async def told(self) -> list[str]:
        return [tell(event) for event in await self.scene.events()]


def tell(event: ev.Event) -> str:
    """An event in a few words: its kind, and what matters of it."""
    match event:
        case ev.TextAdded(text=text) | ev.ThinkingAdded(text=text) | ev.ReplyFinished(text=text):
            shown = text
        case ev.RunFailed(code=code) | ev.ToolReturned(code=code):
            shown = code
        case _:
            shown = ""
    return f"{ev.kind_of(event)} {shown}".strip()


@asynccontextmanager
async def trial(
    upstream: Upstream, *others: Model, after_text: bool = False, scene: Any = None, **options: Any
) -> AsyncGenerator[Trial]:
    """`others` are fallen back on. `options` are the model's, `scene` the scene's."""
    pauses = Pauses()
    settings = OpenAIChatOptions(**{"url": upstream.url, "name": "gpt-x", "key": "secret-key"} | options)
    counters = Counters()
    chat = OpenAIChat(settings, clock=pauses.clock, counters=counters)
    model: Model = Retrying(chat, clock=pauses.clock, sleep=pauses.sleep, random=lambda: 0.5, after_text=after_text)
    if others:
        model = Fallback([model, *others], after_text=after_text)
    try:
        async with scene_of(model, **(scene or {})) as opened:
            yield Trial(opened, counters, pauses)
    finally:
        await chat.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def byte_by_byte(stream: bytes) -> list[Item]:
    return [stream[at : at + 1] for at in range(len(stream))]
