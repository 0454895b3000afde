"""The floor: the least that a server on this stack can do for a chat, which is to pass it on.

Raw ASGI on uvicorn, uvloop and httptools; an aiohttp client. A POST's body goes verbatim to the upstream's
`/v1/chat/completions`; the answer's bytes come back verbatim, a streamed answer's chunks as the client library hands
them over. No route, no credential, no parsing, nothing kept. Run it with `python -m bench.floor UPSTREAM_URL`.
"""

import logging
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvicorn
import uvloop

COMPLETIONS = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
BACKLOG = 2048
KEEP_ALIVE_S = 75

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Relay:
    """The ASGI app. Unlike a product it has no limits: it is there to be compared with, on loopback."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _body(receive)
        async with self._session.post(self._url, data=body, headers=JSON) as answer:
            media_type = answer.headers.get("content-type", "application/json").encode()
            if media_type.startswith(b"text/event-stream"):
                await _start(send, answer.status, [(b"content-type", media_type)])
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                return
            whole = await answer.read()
            length = str(len(whole)).encode()
            await _start(send, answer.status, [(b"content-type", media_type), (b"content-length", length)])
            await send({"type": "http.response.body", "body": whole})


async def _start(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


@asynccontextmanager
async def relay(upstream: str) -> AsyncGenerator[Relay]:
    """A relay to the upstream at this URL, as long as the block lasts."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Relay(session, upstream.rstrip("/") + COMPLETIONS)


async def serve(upstream: str, listener: socket.socket) -> None:
    """Serve until SIGTERM; says on stderr where it listens."""
    async with relay(upstream) as app:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        host, port = listener.getsockname()
        listener.listen(BACKLOG)  # so that who reads the next line can connect at once
        print(f"listening on http://{host}:{port}", file=sys.stderr, flush=True)
        await uvicorn.Server(config).serve(sockets=[listener])


def main() -> None:
    logging.disable(logging.INFO)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    uvloop.run(serve(sys.argv[1], listener))


if __name__ == "__main__":
    main()
