"""A chat server on 127.0.0.1 that answers what a test laid out for it, and refuses what it did not.

Which answer a request gets is told by the tool it must call, or by its system message. One that nobody laid out an
answer for gets status 500. A text comes in words, one chunk each, as a model writes it.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Asked = dict[str, Any]
"""A request's body."""
When = Callable[[Asked], bool]

HISTORY = "<ConversationHistory>"
"""Stands in the system message of the request that rewrites a question."""


def choice_of(asked: Asked) -> str:
    """The tool that must be called; "" = none must."""
    choice: Any = asked.get("tool_choice")
    return str(choice["function"]["name"]) if isinstance(choice, dict) else ""


def forced(name: str) -> When:
    return lambda asked: choice_of(asked) == name


def plain(asked: Asked) -> bool:
    """The turn's own requests: no tool is forced and no question is rewritten."""
    return choice_of(asked) == "" and HISTORY not in asked["messages"][0]["content"]


def rewriting(asked: Asked) -> bool:
    return HISTORY in asked["messages"][0]["content"]


def of(when: When, requests: Sequence[Asked]) -> list[Asked]:
    return [asked for asked in requests if when(asked)]


class Laid:
    """An answer that waits for its request. `chunks` are SSE data; `steps` says when each may go out."""

    def __init__(self, when: When, chunks: Sequence[str], *, times: int, status: int = 200) -> None:
        self.when = when
        self.chunks = chunks
        self.left = times
        self.status = status
        self.steps: asyncio.Semaphore | None = None


def delta(**fields: Any) -> str:
    return json.dumps({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": fields}]})


def call_of(name: str, arguments: Any, call_id: str = "call_1") -> str:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, separators=(",", ":"))
    call = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": text}}
    return delta(content="", tool_calls=[call])


class Llm:
    """The server. `requests` are all that came, in order."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[Asked] = []
        self.unmatched: list[Asked] = []
        self._laid: list[Laid] = []
        self.gives_reasons = True
        """Whether a reply ends with its finish_reason, as those of real servers do."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def turns(self) -> list[Asked]:
        """The turn's own requests."""
        return of(plain, self.requests)

    def lay(self, when: When, *chunks: str, times: int = 1, status: int = 200) -> Laid:
        laid = Laid(when, chunks, times=times, status=status)
        self._laid.append(laid)
        return laid

    def says(self, text: str, *, when: When = plain, times: int = 1) -> Laid:
        return self.lay(when, *(delta(content=word) for word in re.findall(r"\s*\S+", text)), times=times)

    def calls(self, name: str, arguments: Any, *, when: When = plain, times: int = 1) -> Laid:
        return self.lay(when, call_of(name, arguments), times=times)

    def must_call(self, name: str, arguments: Any, *, times: int = 1) -> Laid:
        """Answers a request that forces this very tool."""
        return self.calls(name, arguments, when=forced(name), times=times)

    def titles(self, title: str) -> Laid:
        return self.must_call("title_conversation", {"title": title})

    def fails(self, *, when: When = plain, times: int = 1) -> Laid:
        return self.lay(when, times=times, status=500)

    def _ending(self, laid: Laid) -> Sequence[str]:
        """Nothing where the test has said it itself."""
        last: Any = json.loads(laid.chunks[-1]) if laid.chunks else {}
        if not self.gives_reasons or "error" in last or last["choices"][0].get("finish_reason"):
            return ()
        called = "tool_calls" in last["choices"][0]["delta"]
        return (
            json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if called else "stop"}]}),
        )

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked: Asked = await request.json()
        self.requests.append(asked)
        laid = next((each for each in self._laid if each.left and each.when(asked)), None)
        if laid is None:
            self.unmatched.append(asked)
            return web.json_response({"error": {"message": "nobody laid out an answer"}}, status=500)
        laid.left -= 1
        if laid.status != 200:
            return web.json_response({"error": {"message": "it failed"}}, status=laid.status)
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for chunk in (*laid.chunks, *self._ending(laid), "[DONE]"):
            if laid.steps is not None:
                await laid.steps.acquire()
            await answer.write(f"data: {chunk}\n\n".encode())
        await answer.write_eof()
        return answer


@asynccontextmanager
async def chat_server() -> AsyncGenerator[Llm]:
    llm = Llm()
    app = web.Application()
    app.router.add_post("/{path:.*}", llm.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    llm.port = runner.addresses[0][1]
    try:
        yield llm
    finally:
        await runner.cleanup()
