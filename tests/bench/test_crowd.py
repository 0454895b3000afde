import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from bench.crowd import Crowd, DeafReader, address_of, body_of, ids_of, request_for, spread_over
from bench.targets import Failed

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
FRAME = b"id: 1\ndata: {}\n\n"


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize(
    ("came", "body"),
    [
        (b"", b""),
        (HEAD, b""),
        (HEAD + chunk(b"ab") + chunk(b"c") + b"0\r\n\r\n", b"abc"),
        (HEAD + chunk(b"ab") + b"5\r\nc", b"abc"),
        (HEAD + chunk(b"ab") + b"5", b"ab"),
    ],
)
def test_a_body_is_read_as_far_as_it_came(came: bytes, body: bytes) -> None:
    assert body_of(came) == body


def test_only_whole_frames_have_an_id() -> None:
    assert ids_of(b"id: 3\ndata: x\n\n: ping\n\nid: 14\ndata: y\n\nid: 15\nda") == [3, 14]
    assert ids_of(b"id: 3") == []


def test_readers_are_spread_evenly() -> None:
    assert spread_over(["a", "b"], 5) == ["a", "b", "a", "b", "a"]


def test_a_url_without_a_port_is_refused() -> None:
    assert address_of("http://127.0.0.1:80") == ("127.0.0.1", 80)
    with pytest.raises(Failed, match="has no port"):
        address_of("http://127.0.0.1")


class Streaming:
    """A server that streams one comment and one frame to everybody, and ends when it is told to."""

    def __init__(self, status: bytes = b"200 OK") -> None:
        self._head = HEAD.replace(b"200 OK", status)
        self.go_on = asyncio.Event()
        self.asked: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self._head + chunk(b": ping\n\n") + chunk(FRAME))
        await self.go_on.wait()
        writer.write(chunk(b"retry: 2000\n\n") + b"0\r\n\r\n")
        writer.close()


async def test_a_crowd_counts_what_its_readers_hear_and_how_they_end() -> None:
    streaming, crowd = Streaming(), Crowd()
    async with await asyncio.start_server(streaming, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await crowd.open(url, [request_for(url, f"/{number}", {"x-a": "b"}) for number in range(20)], within_s=5)
        assert (crowd.answered, crowd.comments, crowd.gone) == (20, 20, 0)
        assert sorted(streaming.asked)[0] == f"GET /0 HTTP/1.1\r\nhost: {url[7:]}\r\nx-a: b\r\n\r\n".encode()
        streaming.go_on.set()
        async with asyncio.timeout(5):
            await crowd.all_gone.wait()
    assert all(reader.ended and reader.told_when for reader in crowd.readers)


async def test_a_crowd_that_is_refused_says_with_what() -> None:
    streaming = Streaming(b"429 Too Many Requests")
    streaming.go_on.set()
    async with await asyncio.start_server(streaming, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Failed, match="429"):
            await Crowd().open(url, [request_for(url, "/", {})])


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_a_deaf_reader_reads_only_when_it_is_told_to(listener: socket.socket) -> None:
    reader = DeafReader(f"http://127.0.0.1:{listener.getsockname()[1]}", b"asked")
    end, _ = listener.accept()
    with end:
        assert (end.recv(100), reader.what_came()) == (b"asked", (b"", False))
        end.sendall(b"said")
    deadline, came, ended = time.monotonic() + 5, b"", False
    while not ended and time.monotonic() < deadline:
        more, ended = reader.what_came()
        came += more
    assert (came, ended) == (b"said", True)
    reader.close()
