"""An in-process, full-duplex ASGI client: chunks arrive as they are sent, and closing a stream is a disconnect.

Stock ASGI test transports collect the whole body before they hand anything out, which hides every streaming bug.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import unquote

WAIT_S = 5.0
"""Nothing in a test takes longer; a wait that does has hung."""


class Response:
    """An answer. `chunks` are the body's messages just as the app sent them."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
        self.status = status
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        self.body: bytes = body


class Stream(Response):
    """An answer whose body is still coming."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], outbox: "asyncio.Queue[Any]") -> None:
        super().__init__(status, headers)
        self._outbox = outbox
        self.ended = False

    async def chunk(self) -> bytes:
        """The next chunk; b"" once the body has ended."""
        if self.ended:
            return b""
        message = await asyncio.wait_for(self._outbox.get(), WAIT_S)
        if isinstance(message, BaseException):
            raise message
        self.ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        self.body += body
        return body or (b"" if self.ended else await self.chunk())

    async def rest(self) -> bytes:
        """Everything that is still to come."""
        parts: list[bytes] = []
        while not self.ended:
            parts.append(await self.chunk())
        return b"".join(parts)

    async def until(self, text: bytes) -> bytes:
        """What has come in all once it holds `text`; fails if the body ends before."""
        while text not in self.body:
            assert not self.ended, f"the stream ended without {text!r}: {self.body!r}"
            await self.chunk()
        return self.body


class Client:
    """Calls an ASGI app as a server would. `peer` is the caller's address."""

    def __init__(self, app: Any, *, peer: str = "127.0.0.1", headers: dict[str, str] | None = None) -> None:
        self._app = app
        self._peer = peer
        self._headers = headers or {}

    def _scope(self, method: str, target: str, headers: Iterable[tuple[str, str]]) -> dict[str, Any]:
        raw_path, _, query = target.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            "client": (self._peer, 50000),
            "server": ("127.0.0.1", 8080),
            "state": {},
        }

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        target: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | list[bytes] = b"",
    ) -> AsyncGenerator[Stream]:
        """Leaving the block disconnects. `body` as a list is sent in those chunks, without a content-length."""
        sent = {**self._headers, **(headers or {})}
        if isinstance(body, bytes):
            if body or method in ("POST", "PUT", "PATCH"):
                sent.setdefault("content-length", str(len(body)))
            body = [body]
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        outbox: asyncio.Queue[Any] = asyncio.Queue()
        for position, chunk in enumerate(body, start=1):
            inbox.put_nowait({"type": "http.request", "body": chunk, "more_body": position < len(body)})

        async def run() -> None:
            try:
                await self._app(self._scope(method, target, sent.items()), inbox.get, outbox.put)
            except BaseException as error:
                outbox.put_nowait(error)
                raise

        task = asyncio.create_task(run())
        try:
            start = await asyncio.wait_for(outbox.get(), WAIT_S)
            if isinstance(start, BaseException):
                raise start
            assert start["type"] == "http.response.start"
            yield Stream(start["status"], start["headers"], outbox)
        finally:
            inbox.put_nowait({"type": "http.disconnect"})
            with suppress(Exception):
                await asyncio.wait_for(task, WAIT_S)

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | list[bytes] = b"",
    ) -> Response:
        async with self.stream(method, target, headers=headers, body=body) as response:
            await response.rest()
            return response
