"""Something between a client and the server that a client need not know of: it cuts streams, or adds a credential."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from typing import Self

HEAD_BYTES_MAX = 64 * 1024
PIECE_BYTES = 64 * 1024
JOIN_S = 10.0

_RETRY_SOON = b"retry: 20\n\n"


class Between:
    """Listens on a loopback port and passes on to the server on another; each connection carries one request.

    `cut_after`: an event stream is cut off when so many events have gone through, in the midst of the connection, and
    readers are told before that they may come back at once. `headers`: what is put into each request.
    """

    def __init__(self, port: int, *, cut_after: int = 0, headers: dict[str, str] | None = None) -> None:
        self._server = port
        self._cut_after = cut_after
        self._added = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items()).encode()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.heads: list[bytes] = []
        """Of the requests that came."""
        self.cuts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *tuple(self._open)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(JOIN_S)

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._pass_on, client)

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server)) as server, contextlib.suppress(OSError):
            self._open |= {client, server}
            head, body = _head_of(client)
            if not head:
                return
            self.heads.append(head)
            line, _, rest = head.partition(b"\r\n")
            rest = re.sub(rb"(?im)^connection:[^\n]*\n", b"", rest)
            server.sendall(line + b"\r\n" + self._added + b"Connection: close\r\n" + rest + body)
            self._start(_copy, client, server)
            self._answer(client, server)
        self._open -= {client, server}

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        head, body = _head_of(server)
        streams = self._cut_after and b"text/event-stream" in head.lower()
        if streams:
            head += b"%x\r\n%s\r\n" % (len(_RETRY_SOON), _RETRY_SOON)
        client.sendall(head + body)
        events = body.count(b"\ndata: ")
        while not streams or events < self._cut_after:
            piece = server.recv(PIECE_BYTES)
            if not piece:
                return
            client.sendall(piece)
            events += piece.count(b"\ndata: ")
        self.cuts += 1
        client.shutdown(socket.SHUT_RDWR)


def _head_of(peer: socket.socket) -> tuple[bytes, bytes]:
    """Up to the empty line, and what came with it."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) < HEAD_BYTES_MAX:
        piece = peer.recv(PIECE_BYTES)
        if not piece:
            return b"", b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def _copy(client: socket.socket, server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := client.recv(PIECE_BYTES):
            server.sendall(piece)
        server.shutdown(socket.SHUT_WR)
