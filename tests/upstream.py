"""A scripted OpenAI-compatible server on 127.0.0.1, for tests (in process) and benches (its own process).

    python -m tests.upstream PORT

POST …/chat/completions answers "Echo: " and the last user message, unless that message holds directives:

    TOOL            one tool call, list_files {"path": "."}, if the request has tools; after its result "Tool said: …"
    TOOL:<name>     …of that tool;  TOOLARGS:<json>  …with these arguments
    WORDS<n>        an answer of n words
    HISTORY         role:content[:40] of every message that is not a system message
    EMPTY           an empty answer
    SLEEP<ms>       waits first
    GAP<ms>         waits before each further piece of a stream; GAP0 sends each piece by itself; without, all at once
    STATUS<n>       HTTP status n with an error body
    MIDFAIL         a stream breaks off after two words

`Upstream.script` queues raw bytes instead, for what no well-behaved server sends. GET …/models, /_stats; POST /_reset.
"""

import asyncio
import contextlib
import re
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tests.upstream_answers import DIRECTIVE, LAST_CHUNK, SSE_HEAD, Ask, answer, asks, chunk, quoted, reply

__all__ = ["LAST_CHUNK", "SSE_HEAD", "Seen", "Upstream", "chunk", "reply", "serving"]

REQUESTS_MAX = 10_000
"""So many requests are remembered; a bench forgets the oldest."""

Item = bytes | float | asyncio.Event
"""Of a raw script: bytes to send, seconds to wait, or an event to wait for."""
Then = Literal["keep", "close", "reset", "hang"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Seen(Struct):
    """One request, and what became of it."""

    method: str
    path: str
    head: bytes
    body: bytes
    peer_closed: asyncio.Event
    """Set when the client's side of the connection was seen to end."""
    bytes_sent: int = 0

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Upstream:
    """The server with its ledger. `url` is the base to configure a model with."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: deque[Seen] = deque(maxlen=REQUESTS_MAX)
        self.counts = {"chat": 0, "stream": 0, "errors": 0, "connections": 0, "bytes_sent": 0}
        self.connections: set[_Connection] = set()
        self.scripts: deque[tuple[Iterable[Item], Then]] = deque()
        self.resets_strangers = False
        """Whoever does not speak HTTP gets a reset instead of an orderly end."""
        self._arrived = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self, loop), "127.0.0.1", port, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.drop(reset=True)
        while self.connections:
            await asyncio.sleep(0)

    def script(self, *items: Item, then: Then = "close") -> None:
        """The next chat request is answered with these bytes and nothing else; several calls queue up."""
        self.script_from(items, then=then)

    def script_from(self, items: Iterable[Item], *, then: Then = "close") -> None:
        """As `script`, of any iterable: it may be endless, and is read only as fast as the client reads."""
        self.scripts.append((items, then))

    async def request(self, number: int = 1) -> Seen:
        """The nth request, as soon as it came (within 5 s)."""
        async with asyncio.timeout(5):
            while len(self.requests) < number:
                self._arrived.clear()
                await self._arrived.wait()
        return self.requests[number - 1]

    def note(self, seen: Seen) -> None:
        self.requests.append(seen)
        self._arrived.set()


class _Connection(asyncio.Protocol):
    """One connection of a client: its requests are answered one after the other."""

    def __init__(self, upstream: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self._upstream = upstream
        self._loop = loop
        self._transport: Any = None
        self._unread = b""
        self._busy = False
        self._seen: list[Seen] = []
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._upstream.connections.add(self)
        self._upstream.counts["connections"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.connections.discard(self)
        for seen in self._seen:
            seen.peer_closed.set()
        self._writable.set()
        if self._task is not None:
            self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def drop(self, *, reset: bool = False) -> None:
        if reset:  # no lingering: the peer gets a RST instead of a FIN
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if not self._unread[:1].isalpha():  # TLS, for instance
            self.drop(reset=self._upstream.resets_strangers)
            return
        self._next()

    def _next(self) -> None:
        while not self._busy:
            end = self._unread.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._unread[:end]
            length = _LENGTH.search(head)
            body_end = end + 4 + (int(length[1]) if length else 0)
            if len(self._unread) < body_end:
                return
            body, self._unread = self._unread[end + 4 : body_end], self._unread[body_end:]
            method, path, _ = head[: head.index(b"\r\n")].decode("latin-1").split(" ", 2)
            self._busy = True
            self._serve(Seen(method, path, head, body, asyncio.Event()))

    def _serve(self, seen: Seen) -> None:
        if seen.path.partition("?")[0].endswith("/chat/completions"):
            self._seen.append(seen)
            self._upstream.note(seen)
            if self._upstream.scripts:
                items, then = self._upstream.scripts.popleft()
                self._task = self._loop.create_task(self._play(seen, items, then))
            else:
                self._chat(seen)
        elif seen.path == "/_stats":
            self._end(seen, reply(200, quoted(self._upstream.counts)))
        elif seen.path == "/_reset":
            self._upstream.counts.update(dict.fromkeys(self._upstream.counts, 0))
            self._end(seen, reply(200, b"{}"))
        elif seen.path.endswith("/models"):
            self._end(seen, reply(200, b'{"object":"list","data":[{"id":"fake","object":"model"}]}'))
        else:
            self._end(seen, reply(404, b'{"error":{"message":"no such path"}}'))

    def _write(self, seen: Seen, part: bytes) -> None:
        seen.bytes_sent += len(part)
        self._upstream.counts["bytes_sent"] += len(part)
        self._transport.write(part)

    def _end(self, seen: Seen, part: bytes) -> None:
        """The last bytes of an answer; the connection is free for the next request."""
        self._write(seen, part)
        self._busy = False
        if self._unread:
            self._next()

    # -- raw scripts -----------------------------------------------------------------------------------------------

    async def _play(self, seen: Seen, items: Iterable[Item], then: Then) -> None:
        for item in items:
            if isinstance(item, bytes):
                self._write(seen, item)
                await asyncio.sleep(0)
                await self._writable.wait()
            elif isinstance(item, asyncio.Event):
                await item.wait()
            else:
                await asyncio.sleep(item)
        if then == "keep":
            self._busy = False
        elif then != "hang":
            self.drop(reset=then == "reset")

    # -- answers ---------------------------------------------------------------------------------------------------

    def _chat(self, seen: Seen) -> None:
        try:
            ask = asks.decode(seen.body)
        except msgspec.DecodeError as error:
            self._end(seen, reply(400, quoted({"error": {"message": str(error)}})))
            return
        users = [message.content for message in ask.messages if message.role == "user"]
        asked = users[-1] if users else ""
        asked = asked if isinstance(asked, str) else str(asked)
        told: dict[str, str] = {name: word or number for name, word, number in DIRECTIVE.findall(asked)}
        counts = self._upstream.counts
        counts["chat"] += 1
        counts["stream"] += ask.stream
        if "SLEEP" in told:
            delay_s = int(told["SLEEP"]) / 1000
            self._timer = self._loop.call_later(delay_s, self._speak, seen, ask, asked, told)
        else:
            self._speak(seen, ask, asked, told)

    def _speak(self, seen: Seen, ask: Ask, asked: str, told: dict[str, str]) -> None:
        if "STATUS" in told:
            self._upstream.counts["errors"] += 1
            body = {"error": {"message": "fake upstream error", "type": "fake_error", "code": told["STATUS"]}}
            self._end(seen, reply(int(told["STATUS"]), quoted(body)))
            return
        said = answer(ask, asked, told)
        model = quoted(ask.model)
        if not ask.stream:
            self._end(seen, reply(200, said.whole(model)))
            return
        pieces = said.pieces(model)
        if "MIDFAIL" in told:
            self._write(seen, SSE_HEAD + b"".join(pieces[:3]))
            self.drop()
            return
        pieces += said.ending(model, with_usage=bool((ask.stream_options or {}).get("include_usage")))
        pieces[0] = SSE_HEAD + pieces[0]
        if "GAP" in told:
            self._pace(seen, deque(pieces), int(told["GAP"]) / 1000)
        else:
            self._end(seen, b"".join(pieces))

    def _pace(self, seen: Seen, pieces: deque[bytes], gap_s: float) -> None:
        part = pieces.popleft()
        if not pieces:
            self._end(seen, part)
            return
        self._write(seen, part)
        if gap_s:
            self._timer = self._loop.call_later(gap_s, self._pace, seen, pieces, gap_s)
        else:
            self._timer = self._loop.call_soon(self._pace, seen, pieces, gap_s)


@asynccontextmanager
async def serving() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    await upstream.start()
    try:
        yield upstream
    finally:
        await upstream.close()


async def main(port: int) -> None:
    upstream = Upstream()
    await upstream.start(port)
    print(f"upstream on {upstream.url}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await upstream.close()


if __name__ == "__main__":
    runner: Any = asyncio
    with contextlib.suppress(ImportError):
        import uvloop as runner
    runner.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
