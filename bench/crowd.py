"""Many readers of event streams in one process: those that read and count, and those that never read."""

import asyncio
import re
import resource
import socket
from collections.abc import Iterable, Sequence
from typing import TypeVar, cast
from urllib.parse import urlsplit

from bench.targets import Failed

PORTS_PER_SOURCE = 20_000
"""Connections from one loopback address to one port: fewer than Linux has ephemeral ports, 28,232."""
OPEN_AT_ONCE = 200
FILES_SPARE = 256
DEAF_BUFFER_BYTES = 4096
"""Of a reader that never reads: small, so that what it does not take stays with the server, where it is measured."""
RECEIVE_BYTES = 1 << 18

T = TypeVar("T")

_IDS = re.compile(rb"^id: (\d+)$", re.MULTILINE)


def allow_files(count: int) -> None:
    """Let this process, and the servers it starts, have so many sockets. Raises Failed."""
    wanted = count + FILES_SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted > hard:
        raise Failed(f"{count} readers need {wanted} open files, and {hard} are allowed (`ulimit -Hn`).")
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def address_of(url: str) -> tuple[str, int]:
    where = urlsplit(url)
    if not where.hostname or not where.port:
        raise Failed(f"{url} has no port")
    return where.hostname, where.port


def request_for(url: str, path: str, headers: dict[str, str]) -> bytes:
    rows = [f"GET {path} HTTP/1.1", f"host: {urlsplit(url).netloc}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*rows, "", ""]).encode()


class Reader(asyncio.Protocol):
    """One reader that takes all it is sent and keeps only counts of it."""

    __slots__ = ("_crowd", "_request", "answered", "comments", "ended", "status", "told_when", "transport")

    def __init__(self, crowd: "Crowd", request: bytes) -> None:
        self._crowd = crowd
        self._request = request
        self.transport: asyncio.Transport | None = None
        self.status = b""
        self.comments = 0
        self.told_when = False
        """It was told when to come back: `retry:`."""
        self.ended = False
        """The answer came to its end, and did not just break off."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.status:
            self.status = data[:12]
            self._crowd.answered += 1
        self.comments += data.count(b": ping")
        self.told_when = self.told_when or b"retry:" in data
        self.ended = data.endswith(b"0\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.gone += 1
        if self._crowd.gone == len(self._crowd.readers):
            self._crowd.all_gone.set()


class Crowd:
    """Readers on one event loop."""

    def __init__(self) -> None:
        self.readers: list[Reader] = []
        self.answered = 0
        self.gone = 0
        self.all_gone = asyncio.Event()

    async def open(self, url: str, requests: Sequence[bytes], *, within_s: float = 60.0) -> None:
        """One reader for each request; returns once all have begun to be answered. Raises Failed."""
        loop = asyncio.get_running_loop()
        host, port = address_of(url)
        self.readers = [Reader(self, request) for request in requests]
        for first in range(0, len(requests), OPEN_AT_ONCE):
            source = f"127.0.0.{1 + first // PORTS_PER_SOURCE}"
            await asyncio.gather(
                *(
                    loop.create_connection(lambda reader=reader: reader, host, port, local_addr=(source, 0))
                    for reader in self.readers[first : first + OPEN_AT_ONCE]
                )
            )
        try:
            async with asyncio.timeout(within_s):
                while self.answered < len(requests):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise Failed(f"{self.answered} of {len(requests)} readers were answered in {within_s:g} s") from None
        refused = {reader.status for reader in self.readers} - {b"HTTP/1.1 200"}
        if refused:
            raise Failed(f"readers were answered with {refused}")

    @property
    def comments(self) -> int:
        return sum(reader.comments for reader in self.readers)

    def close(self) -> None:
        for reader in self.readers:
            if reader.transport is not None:
                reader.transport.abort()


class DeafReader:
    """Asks, and reads nothing until it is told to."""

    def __init__(self, url: str, request: bytes) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DEAF_BUFFER_BYTES)
        self._socket.connect(address_of(url))
        self._socket.sendall(request)
        self._socket.setblocking(False)

    def what_came(self) -> tuple[bytes, bool]:
        """All that lies ready; and whether the connection has ended."""
        came = b""
        try:
            while data := self._socket.recv(RECEIVE_BYTES):
                came += data
        except BlockingIOError:
            return came, False
        except ConnectionResetError:
            pass
        return came, True

    def close(self) -> None:
        self._socket.close()


def body_of(answer: bytes) -> bytes:
    """The body of an answer in chunks, as far as it came."""
    _, _, left = answer.partition(b"\r\n\r\n")
    pieces: list[bytes] = []
    while left:
        size, ends, left = left.partition(b"\r\n")
        if not ends or not int(size, 16):
            break
        pieces.append(left[: int(size, 16)])
        left = left[int(size, 16) + 2 :]
    return b"".join(pieces)


def ids_of(body: bytes) -> list[int]:
    """The ids of the whole frames in it."""
    whole, _, _ = body.rpartition(b"\n\n")
    return [int(found) for found in _IDS.findall(whole)]


def spread_over(runs: Iterable[T], count: int) -> list[T]:
    """Which run each of `count` readers follows, or by which request: as many for each."""
    known = list(runs)
    return [known[number % len(known)] for number in range(count)]
