"""HTTP/1.1 at the socket: uvicorn's protocol with bounds on a request's head and on the time it may take to arrive."""

import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dragoman.edge.asgi import SECURITY_HEADERS

logger = logging.getLogger("dragoman.edge")

URL_BYTES_MAX = 16 * 1024
HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 200
HEAD_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 60.0


class _HeadTooLarge(Exception):
    """Ends the parsing of a request; the parser wraps it in an error of its own."""


class HttpProtocol(HttpToolsProtocol):
    """What is not HTTP, or has a head out of all proportion, is answered with 400 or 431 and the security headers.

    `late(now)` tells whether the peer takes too long over its request; the server asks every second or so, which costs
    less than a timer for each request.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._head_since: float | None = self.loop.time()
        self._body_since: float | None = None
        self._refusal = 400

    def late(self, now: float) -> bool:
        if self._head_since is not None:
            return now - self._head_since > HEAD_TIMEOUT_S
        return self._body_since is not None and now - self._body_since > BODY_TIMEOUT_S

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._head_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_BYTES_MAX:
            self._refusal = 414
            raise _HeadTooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEAD_BYTES_MAX or len(self.headers) > HEADERS_MAX:
            self._refusal = 431
            raise _HeadTooLarge

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._body_since, self._head_since = self._head_since, None

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._body_since = None

    def send_400_response(self, msg: str) -> None:
        status, body = {
            400: (b"400 Bad Request", b'{"detail":"Invalid HTTP request received."}'),
            414: (b"414 URI Too Long", b'{"detail":"The URL is too long (max %d bytes)"}' % URL_BYTES_MAX),
            431: (
                b"431 Request Header Fields Too Large",
                b'{"detail":"The request has too many headers (max %d of %d bytes)"}' % (HEADERS_MAX, HEAD_BYTES_MAX),
            ),
        }[self._refusal]
        lines = [b"HTTP/1.1 " + status, *(name + b": " + value for name, value in SECURITY_HEADERS)]
        lines += [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close", b"", body]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()
