"""The outside world of the servers under test: a model's server and a server on which tools take effect.

Both live in the harness, which nobody kills, and keep ledgers of what really happened.
"""

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from tests.crash.ledgers import Bill, Effect, Ledger
from tests.crash.scripts import OPENING, Script, hash_of, read_script, title_of

# Connections that are cut, by us or by a server that dies, are the purpose here and no error.
logging.getLogger("aiohttp.server").addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], ConnectionError))
)

_encode = msgspec.json.Encoder().encode
HOOK = "/tool_call"
RELAY = "of the relay"
"""Stands in what the agents of the workflow are told (`relay.py`)."""
SSE_HEADERS = {"content-type": "text/event-stream"}


class _Function(Struct):
    name: str


class _Called(Struct):
    function: _Function


class _Message(Struct):
    role: str
    content: Any = None
    tool_calls: list[_Called] = []


class _Ask(Struct):
    messages: list[_Message]
    stream: bool = False
    tool_choice: str | _Called = ""


class _Call(Struct):
    tool: str
    arguments: str


class _Hooked(Struct):
    content: str


class _HookedFunction(Struct):
    name: str
    arguments: str


class _HookedTool(Struct):
    function: _HookedFunction


class _HookedCall(Struct):
    toolCall: _HookedTool


_asks = msgspec.json.Decoder(_Ask)
_calls = msgspec.json.Decoder(_Call)


class Outside:
    """`url`: the base of both. The model's API is below `/v1`, effects are posted to `/effect`."""

    def __init__(self, folder: Path) -> None:
        self.bills: Ledger[Bill] = Ledger(folder / "bills.jsonl", synced=False)
        self.effects: Ledger[Effect] = Ledger(folder / "effects.jsonl")
        self.url = ""
        self._asked: Counter[tuple[str, int]] = Counter()
        self._numbers = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/effect", self._effect)
        app.router.add_post(HOOK, self._hook)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self.bills.close()
        self.effects.close()

    @property
    def connections(self) -> int:
        """Open at this moment."""
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0

    # -- the tools' end --------------------------------------------------------------------------------------------

    async def _effect(self, request: web.Request) -> web.Response:
        return web.Response(body=await self._took_effect(request, _calls.decode(await request.read())))

    async def _hook(self, request: web.Request) -> web.Response:
        """The webhook of the projects' workflows (rowboat spec 7.1)."""
        content = msgspec.json.decode(await request.read(), type=_Hooked).content
        call = msgspec.json.decode(content, type=_HookedCall).toolCall.function
        done = await self._took_effect(request, _Call(call.name, call.arguments))
        return web.Response(body=_encode({"result": done.decode()}), content_type="application/json")

    async def _took_effect(self, request: web.Request, call: _Call) -> bytes:
        arrived = time.time()
        arguments = msgspec.json.decode(call.arguments)
        key = request.headers.get("Idempotency-Key", "")
        self.effects.add(Effect(arrived, call.tool, key, arguments["token"], hash_of(call.arguments)))
        if arguments["ms"]:
            await asyncio.sleep(arguments["ms"] / 1000)
        return b"done " + arguments["place"].encode()

    # -- the model's end -------------------------------------------------------------------------------------------

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        opened = time.time()
        ask = _asks.decode(await request.read())
        if isinstance(ask.tool_choice, _Called):
            return await _title(request, ask)
        script, reply, turns = _place(ask)
        if script is None:
            return web.json_response({"error": {"message": "no script"}}, status=400)
        self._numbers += 1
        number = self._numbers
        self._asked[script.token, reply] += 1
        asked = self._asked[script.token, reply]
        fault = script.fault if asked == 1 and reply == script.replies else ""
        prompt_tokens = sum(len(str(message.content or "").split()) for message in ask.messages)
        answer = _Answer(script, reply, asked, prompt_tokens)
        sent, whole = 0, False
        response: web.StreamResponse | None = None
        try:
            if script.first_ms:
                await asyncio.sleep(script.first_ms / 1000)
            if fault == "refuse":
                return web.json_response({"error": {"message": "overloaded"}}, status=503)
            if not ask.stream:
                if fault:
                    _cut(request)
                body = answer.whole()
                sent, whole = len(body), True
                return web.Response(body=body, content_type="application/json")
            response = web.StreamResponse(headers=SSE_HEADERS)
            await response.prepare(request)
            async for piece in answer.paced(cut=bool(fault)):
                await response.write(piece)
                sent += len(piece)
            if fault:
                _cut(request)
            whole = True
            await response.write_eof()
            return response
        except (ConnectionError, asyncio.CancelledError):
            whole = False
            raise
        finally:
            self.bills.add(
                Bill(
                    number,
                    script.token,
                    reply,
                    asked,
                    opened,
                    time.time(),
                    sent,
                    whole,
                    fault,
                    prompt_tokens,
                    script.completion_tokens(reply),
                    turns,
                )
            )


def _place(ask: _Ask) -> tuple[Script | None, int, tuple[str, ...]]:
    """The script of the newest turn, which reply of it is asked for, and the turns' tokens."""
    if any(message.role == "system" and RELAY in str(message.content) for message in ask.messages):
        return _place_in_relay(ask)
    script, reply = None, 1
    turns: list[str] = []
    for message in ask.messages:
        if message.role == "user":
            script, reply = read_script(str(message.content)), 1
            turns.append("" if script is None else script.token)
        elif message.role == "assistant" and not _opens(message):
            reply += 1
    return script, reply, tuple(turns)


def _place_in_relay(ask: _Ask) -> tuple[Script | None, int, tuple[str, ...]]:
    """The same where several agents answer. Each is told what the others said, in one way or another; and whatever is
    said in the turn begins with its place."""
    script, reply = None, 1
    turns: list[str] = []
    for message in ask.messages:
        content = str(message.content or "")
        if message.role == "user" and (said := read_script(content)) is not None:
            script, reply = said, 1
            turns.append(script.token)
        elif script is not None:
            places = re.findall(rf"(?<![\w.]){re.escape(script.token)}/(\d+)", content)
            reply = max([reply, *(int(place) + 1 for place in places)])
    return script, reply, tuple(turns)


def _opens(message: _Message) -> bool:
    return any(called.function.name == OPENING for called in message.tool_calls)


async def _title(request: web.Request, ask: _Ask) -> web.StreamResponse:
    """Titles stand in no ledger: they may be asked for as often as somebody likes."""
    script = read_script(str(ask.messages[-1].content).partition("user: ")[2].partition("\n")[0])
    arguments = _encode({"title": title_of(script.token if script else "nothing")}).decode()
    call = {
        "index": 0,
        "id": "t",
        "type": "function",
        "function": {"name": "title_conversation", "arguments": arguments},
    }
    response = web.StreamResponse(headers=SSE_HEADERS)
    await response.prepare(request)
    await response.write(_chunk({"tool_calls": [call]}) + _chunk({}, "tool_calls") + b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("cut on purpose")


class _Answer:
    def __init__(self, script: Script, reply: int, asked: int, prompt_tokens: int) -> None:
        self._script = script
        self._text = script.text(reply, asked)
        self._calls = [
            {"index": at, "id": f"call_{reply}_{at}", "type": "function", "function": {"name": tool, "arguments": text}}
            for at, (tool, text) in enumerate(script.calls(reply))
        ]
        told = script.completion_tokens(reply)
        self._usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": told,
            "total_tokens": prompt_tokens + told,
        }
        self._finish = "tool_calls" if self._calls else "stop"

    def whole(self) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": self._text}
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"index": 0, "message": message, "finish_reason": self._finish}
        return _encode({"id": "c", "object": "chat.completion", "choices": [choice], "usage": self._usage})

    async def paced(self, *, cut: bool) -> AsyncIterator[bytes]:
        """The stream's pieces; only half of them if it is `cut`."""
        pieces = [_chunk({"content": word}) for word in re.findall(r"\S+\s*", self._text)]
        if self._calls:
            pieces.append(_chunk({"tool_calls": self._calls}))
        pieces.append(_chunk({}, self._finish))
        pieces.append(b"data: " + _encode({"id": "c", "choices": [], "usage": self._usage}) + b"\n\ndata: [DONE]\n\n")
        if cut:
            pieces = pieces[: len(pieces) // 2]
        if not self._script.gap_ms:
            yield b"".join(pieces)
            return
        for at, piece in enumerate(pieces):
            if at:
                await asyncio.sleep(self._script.gap_ms / 1000)
            yield piece


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + _encode({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}) + b"\n\n"


@asynccontextmanager
async def outside_world(folder: Path) -> AsyncIterator[Outside]:
    outside = Outside(folder)
    await outside.start()
    try:
        yield outside
    finally:
        await outside.close()
