"""HTTP/1.1 at the socket: uvicorn's protocol with bounds on a request's head, on the time it may take to arrive, and on
what an answer that is not taken may hold, and for how long."""

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from dragoman.edge.exchange import SECURITY_HEADERS

URL_BYTES_MAX = 16 * 1024
HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 200
UNPARSED_BYTES_MAX = URL_BYTES_MAX + HEAD_BYTES_MAX
"""What may come in without the parser getting anywhere: it keeps a header until its line ends, however long that is."""
HEAD_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 60.0

SEND_BUFFER_BYTES = 64 * 1024
"""Asked of the kernel for each connection; Linux doubles it, for its own book-keeping. For a peer on the same machine
that never reads, the kernel takes 3.8 MB if left to itself, and with this 130 KiB at most (measured)."""
WRITE_BUFFER_BYTES = 16 * 1024
"""What may wait here behind the kernel's buffer before writers are made to wait."""
WRITE_TIMEOUT_S = 30.0
"""A peer that takes nothing of what it is sent for so long is cut off (promise G9)."""
KEEP_ALIVE_IDLE_S, KEEP_ALIVE_EVERY_S, KEEP_ALIVE_PROBES = 20, 5, 4
"""When to ask a silent peer whether it is still there, how often, and how many times to ask in vain: 40 s in all."""

_REFUSALS = {
    400: (b"400 Bad Request", b'{"detail":"Invalid HTTP request received."}'),
    414: (b"414 URI Too Long", b'{"detail":"The URL is too long (max %d bytes)"}' % URL_BYTES_MAX),
    431: (
        b"431 Request Header Fields Too Large",
        b'{"detail":"The request has too many headers (max %d of %d bytes)"}' % (HEADERS_MAX, HEAD_BYTES_MAX),
    ),
}


def prepare_listener(listener: socket.socket) -> None:
    """Set what the connections it accepts inherit: small buffers, and no patience with peers that are gone.

    TCP_USER_TIMEOUT ends a connection whose peer acknowledges nothing, or lets nothing in, for so long: also when all
    that is unsent lies with the kernel, where we do not see it. Where a system lacks it, that takes minutes.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_USER_TIMEOUT", int(WRITE_TIMEOUT_S * 1000)),
        ("TCP_KEEPIDLE", KEEP_ALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEP_ALIVE_EVERY_S),
        ("TCP_KEEPCNT", KEEP_ALIVE_PROBES),
    ):
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


class _HeadTooLarge(Exception):
    """Ends the parsing of a request; the parser wraps it in an error of its own."""


_INTERIM = b"HTTP/1.1 1"
"""How an answer begins after which the real one comes: 100 Continue."""
_LENGTH = b"\r\ncontent-length: "
_LINGER_NEVER = struct.pack("ii", 1, 0)
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
_BYTES_ACKED = slice(120, 128)
"""Where `tcpi_bytes_acked` lies in `struct tcp_info` (linux/tcp.h, since 4.1)."""


def _progress(transport: asyncio.Transport, unsent_bytes: int) -> int:
    """A number that changes when the peer takes something: what it has acknowledged; else what is still unsent."""
    if _TCP_INFO is None:
        return unsent_bytes
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _BYTES_ACKED.stop)
    except OSError:
        return unsent_bytes
    return int.from_bytes(info[_BYTES_ACKED], sys.byteorder)


class _Joining:
    """What an answer is written to: a head that announces its body's length waits for the body, and both go in one
    write. Each write costs a system call and wakes the peer; whoever announces a length has the body at hand."""

    __slots__ = ("_began", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._began = False
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif not self._began and not data.startswith(_INTERIM):
            self._began = True
            if _LENGTH in data:
                self._head = data
                return
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()


class HttpProtocol(HttpToolsProtocol):
    """What is not HTTP, or has a head out of all proportion, is answered with 400, 414 or 431 and the security headers.

    `late(now)` tells whether the peer takes too long over its request, `stuck(now)` whether it takes nothing of its
    answer; the server asks every second or so, which costs less than a timer for each.
    """

    # uvicorn's own attributes are just few enough for Python to share their names between all connections.
    __slots__ = (
        "_body_since",
        "_head_bytes",
        "_head_since",
        "_refusal",
        "_refused",
        "_taken",
        "_taken_at",
        "_unparsed_bytes",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._unparsed_bytes = 0
        self._head_since: float | None = self.loop.time()
        self._body_since: float | None = None
        self._refusal = 400
        self._refused = False
        self._taken = 0
        self._taken_at: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] as uvicorn has it
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        super().connection_made(transport)

    def late(self, now: float) -> bool:
        if self._head_since is not None:
            # An answer that is owed to an earlier request is not cut short for the sake of the next one's head.
            return self._unanswered is None and now - self._head_since > HEAD_TIMEOUT_S
        return self._body_since is not None and now - self._body_since > BODY_TIMEOUT_S

    def stuck(self, now: float) -> bool:
        """Something waits to be sent, here and not only in the kernel, and for WRITE_TIMEOUT_S none of it was taken."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if not unsent_bytes:
            self._taken_at = None
            return False
        # A slow peer is no dead one. The kernel takes more from us only once a third of its buffer is free, but it can
        # tell every byte that was acknowledged.
        taken = _progress(self.transport, unsent_bytes)
        if self._taken_at is None or taken != self._taken:
            self._taken, self._taken_at = taken, now
        return now - self._taken_at > WRITE_TIMEOUT_S

    def cut(self) -> None:
        """Close at once and drop what is unsent: a plain close would leave the kernel to go on trying with its part."""
        with suppress(OSError):
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NEVER)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._refused:
            return
        if self._unparsed_bytes > UNPARSED_BYTES_MAX:
            self._refusal = 431
            self.send_400_response("")
        elif self._is_idle and self.timeout_keep_alive_task is None:
            # What came was no request: a blank line, or the rest of a body whose request is answered already. uvicorn
            # takes it for one and stops its timer; without another the connection could stay for ever.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    @property
    def _unanswered(self) -> RequestResponseCycle | None:
        """The last request, if its answer is not complete."""
        last = cast("RequestResponseCycle | None", self.cycle)  # None until the first request, says uvicorn's code
        return None if last is None or last.response_complete else last

    @property
    def _is_idle(self) -> bool:
        """Every request so far was read and answered, and the connection may carry another."""
        waiting = self._head_since is not None or self._body_since is not None
        return not waiting and self._unanswered is None and not self.transport.is_closing()

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
        self._head_bytes += len(name) + len(value) + 4
        if self._head_since is not None:
            super().on_header(name, value)
        # Else it is a trailer, after a body in chunks. A proxy that vouches for headers does not vouch for it, and the
        # application may not have looked at its headers yet: it is counted and dropped (RFC 9110, 6.5.1).
        if self._head_bytes > HEAD_BYTES_MAX or len(self.headers) > HEADERS_MAX:
            self._refusal = 431
            raise _HeadTooLarge

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # its head announces a body that never comes
            self.cycle.transport = cast("asyncio.Transport", _Joining(self.transport))
        self._unparsed_bytes = 0
        self._body_since, self._head_since = self._head_since, None

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._unparsed_bytes = 0
        self._body_since = None

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for another protocol is answered in this one (RFC 9110, 7.8): nothing an operator could mend."""

    def send_400_response(self, msg: str) -> None:
        """Answer with the refusal and close; but first what is owed to requests before this one (pipelining)."""
        self._refused = True
        last = self._unanswered
        if last is not None and not last.more_body:
            # What is broken comes after it: the connection ends with its answer.
            last.keep_alive = False
            return
        if last is not None and (last.response_started or self.pipeline):
            # Its own body is broken, and a second answer would land in the midst of another's bytes.
            self.transport.close()
            return
        status, body = _REFUSALS[self._refusal]
        lines = [b"HTTP/1.1 " + status, *(name + b": " + value for name, value in SECURITY_HEADERS)]
        lines += [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close", b"", body]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()
