"""HTTP/1.1 over real sockets: what is refused, what is bounded, and when a connection ends."""

import asyncio
import json
import logging
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from dragoman.edge.exchange import SECURITY_HEADERS
from dragoman.edge.http import (
    BODY_TIMEOUT_S,
    HEAD_BYTES_MAX,
    HEAD_TIMEOUT_S,
    HEADERS_MAX,
    SEND_BUFFER_BYTES,
    UNPARSED_BYTES_MAX,
    URL_BYTES_MAX,
    WRITE_BUFFER_BYTES,
    WRITE_TIMEOUT_S,
    HttpProtocol,
    prepare_listener,
)
from tests.server_process import ServerProcess
from tests.stage import SetUp

WAIT_S = 5.0
"""Nothing here takes longer; a wait that does has hung."""

App = Callable[[Any, Any, Any], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def refusal(status: str, detail: str) -> bytes:
    """A whole answer of the protocol itself, byte for byte."""
    body = json.dumps({"detail": detail}, separators=(",", ":")).encode()
    lines = [
        f"HTTP/1.1 {status}".encode(),
        *(name + b": " + value for name, value in SECURITY_HEADERS),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"connection: close",
        b"",
        body,
    ]
    return b"\r\n".join(lines)


NOT_HTTP = refusal("400 Bad Request", "Invalid HTTP request received.")
URL_TOO_LONG = refusal("414 URI Too Long", "The URL is too long (max 16384 bytes)")
HEAD_TOO_LARGE = refusal(
    "431 Request Header Fields Too Large", "The request has too many headers (max 200 of 65536 bytes)"
)


class Watched(HttpProtocol):
    """Tells whenever it was connected or has dealt with data."""

    def __init__(self, *args: Any, told: asyncio.Event, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._told = told

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._told.set()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._told.set()


class Listening:
    """An application behind our protocol, on a loopback port of its own."""

    def __init__(self, port: int, state: ServerState, told: asyncio.Event) -> None:
        self._port = port
        self._state = state
        self._told = told

    @property
    def protocol(self) -> Any:
        """The server's end of the one connection there is."""
        (protocol,) = self._state.connections
        return protocol

    async def dealt(self) -> None:
        """Wait until the server has dealt with something new."""
        await asyncio.wait_for(self._told.wait(), WAIT_S)
        self._told.clear()

    @asynccontextmanager
    async def wire(self) -> AsyncIterator["Wire"]:
        """A connection, accepted."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self.dealt()
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await asyncio.wait_for(writer.wait_closed(), WAIT_S)


class Answer:
    def __init__(self, head: bytes, body: bytes) -> None:
        first, *rows = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = dict(row.split(": ", 1) for row in rows if row)
        self.body = body

    @property
    def seen(self) -> dict[str, Any]:
        """What the application saw of the request."""
        assert self.status == 200, (self.status, self.body)
        return json.loads(self.body)


class Wire:
    """A client that sends whatever it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> Answer:
        async with asyncio.timeout(WAIT_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = Answer(head, b"").headers.get("content-length", "0")
            return Answer(head, await self._reader.readexactly(int(length)))

    async def until(self, text: bytes) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self._reader.readuntil(text)

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(WAIT_S):
            return await self._reader.read()


@asynccontextmanager
async def listening(app: App) -> AsyncIterator[Listening]:
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    config.load()
    state = ServerState()
    told = asyncio.Event()
    listener = socket.socket()
    prepare_listener(listener)
    listener.bind(("127.0.0.1", 0))
    server = await asyncio.get_running_loop().create_server(
        lambda: Watched(config=config, server_state=state, app_state={}, told=told), sock=listener
    )
    try:
        yield Listening(listener.getsockname()[1], state, told)
    finally:
        server.close()
        for protocol in list(state.connections):
            protocol.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=WAIT_S)


async def read(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        body += message["body"]
        if not message["more_body"]:
            return body


async def respond(send: Any, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was asked."""
    try:
        body = await read(receive)
    except ConnectionResetError:
        return
    seen = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": body.decode("latin-1"),
        "version": scope["http_version"],
    }
    await respond(send, json.dumps(seen).encode())


async def hasty(scope: Any, receive: Any, send: Any) -> None:
    """Answers without looking at the body."""
    await respond(send, b"no")


class Slow:
    """Begins its answer, and ends it when it is let."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"done"})


def head(*headers: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *headers, b"", b""))


# -- what is understood ----------------------------------------------------------------------------------------------


async def test_a_request_arrives_as_it_was_sent_and_the_connection_stays() -> None:
    async with listening(echo) as server, server.wire() as wire:
        for body in (b"one", b"two"):
            wire.send(head(b"Host: x", b"X-A: 1", b"x-a: 2", b"content-length: 3", first=b"POST /a?b HTTP/1.1") + body)
            assert (await wire.answer()).seen == {
                "method": "POST",
                "path": "/a",
                "query": "b",
                "headers": [["host", "x"], ["x-a", "1"], ["x-a", "2"], ["content-length", "3"]],
                "body": body.decode(),
                "version": "1.1",
            }


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%20b%2Fc", "/a b/c", ""),
        (b"/%zz%", "/%zz%", ""),
        (b"/%ff%fe", "/\ufffd\ufffd", ""),
        (b"/%ed%a0%80", "/\ufffd\ufffd\ufffd", ""),
        (b"/%00%0d%0a", "/\x00\r\n", ""),
        (b"/../../etc/passwd", "/../../etc/passwd", ""),
        (b"//host/x", "//host/x", ""),
        (b"http://other.example/p?q=1", "/p", "q=1"),
        (b"/a#fragment", "/a", ""),
        (b"/?" + b"q" * 1000, "/", "q" * 1000),
    ],
)
async def test_a_target_of_any_form_is_a_path_and_a_query(target: bytes, path: str, query: str) -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(head(b"host: x", first=b"GET " + target + b" HTTP/1.1"))
        seen = (await wire.answer()).seen
    assert (seen["path"], seen["query"]) == (path, query)


@pytest.mark.parametrize("headers", [(), (b"connection: keep-alive",)])
async def test_an_answer_in_http_1_0_ends_the_connection(headers: tuple[bytes, ...]) -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(head(*headers, first=b"GET / HTTP/1.0"))
        answer = await wire.answer()
        assert (answer.seen["version"], answer.headers["connection"]) == ("1.0", "close")
        assert await wire.rest() == b""


class Recording:
    """A connection of which each write is known."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def recorded(server: Listening) -> Recording:
    recording = Recording(server.protocol.transport)
    server.protocol.transport = recording
    return recording


async def test_an_answer_of_one_piece_is_written_at_once() -> None:
    async with listening(echo) as server, server.wire() as wire:
        recording = recorded(server)
        for sent in (1, 2):
            wire.send(GET)
            answer = await wire.answer()
            assert len(recording.written) == sent
            assert recording.written[-1].startswith(b"HTTP/1.1 200 OK\r\n")
            assert recording.written[-1].endswith(b"\r\n\r\n" + answer.body)


async def test_a_caller_that_waits_to_be_told_to_go_on_is_told_before_the_answer() -> None:
    async with listening(echo) as server, server.wire() as wire:
        recording = recorded(server)
        wire.send(head(b"host: x", b"expect: 100-continue", b"content-length: 2", first=b"POST / HTTP/1.1"))
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b"hi")
        assert (await wire.answer()).seen["body"] == "hi"
        assert len(recording.written) == 2


async def test_the_head_of_an_answer_that_grows_goes_out_by_itself() -> None:
    go_on = asyncio.Event()

    async def growing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-run-id", b"r")]})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"word"})

    async with listening(growing) as server, server.wire() as wire:
        wire.send(GET)
        assert b"x-run-id: r" in await wire.until(b"\r\n\r\n")
        go_on.set()
        assert await wire.until(b"0\r\n\r\n") == b"4\r\nword\r\n0\r\n\r\n"


async def test_the_head_of_an_answer_whose_body_never_comes_is_sent_before_the_connection_ends() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        raise RuntimeError("no body")

    async with listening(failing) as server, server.wire() as wire:
        wire.send(GET)
        assert await wire.rest() == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


async def test_an_answer_to_head_that_announces_a_body_is_not_kept_waiting_for_it() -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(head(b"host: x", first=b"HEAD / HTTP/1.1"))
        assert b"content-length: " in await wire.until(b"\r\n\r\n")


async def test_requests_sent_at_once_are_answered_in_order() -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(b"".join(head(first=b"GET /%d HTTP/1.1" % number) for number in range(20)))
        assert [(await wire.answer()).seen["path"] for _ in range(20)] == [f"/{number}" for number in range(20)]


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"TLS/1.0"])
async def test_who_asks_for_another_protocol_is_answered_in_this_one(
    protocol: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    asked = head(
        b"host: x",
        b"connection: Upgrade",
        b"upgrade: " + protocol,
        b"sec-websocket-version: 13",
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    async with listening(echo) as server, server.wire() as wire:
        wire.send(asked)
        assert (await wire.answer()).seen["method"] == "GET"
        wire.send(GET)
        assert (await wire.answer()).seen["method"] == "GET"
    assert caplog.records == []


async def test_trailers_do_not_become_headers() -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(
            head(b"x-forwarded-for: 198.51.100.1", b"transfer-encoding: chunked", first=b"POST / HTTP/1.1")
            + b"2\r\nhi\r\n0\r\nx-forwarded-for: 127.0.0.1\r\nauthorization: Bearer x\r\n\r\n"
        )
        seen = (await wire.answer()).seen
        assert seen["headers"] == [["x-forwarded-for", "198.51.100.1"], ["transfer-encoding", "chunked"]]
        assert seen["body"] == "hi"


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"hello there\r\n\r\n",
        bytes.fromhex("16030100c8010000c40303"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/3.7\r\n\r\n",
        b"CONNECT host:443 HTTP/1.1\r\n\r\n",
        "GET /ключ HTTP/1.1\r\n\r\n".encode(),
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        head(b"x : 1"),
        head(b"x: a", b" folded"),
        head(b"x: a\x00b"),
        head(b"x\xff: a"),
        head(b"transfer-encoding: chunked", b"content-length: 3", first=b"POST / HTTP/1.1") + b"0\r\n\r\n",
        head(b"content-length: 3", b"transfer-encoding: chunked", first=b"POST / HTTP/1.1") + b"0\r\n\r\n",
        head(b"content-length: 3", b"content-length: 4", first=b"POST / HTTP/1.1") + b"abcd",
        head(b"content-length: -1", first=b"POST / HTTP/1.1"),
        head(b"content-length: 3x", first=b"POST / HTTP/1.1"),
        head(b"content-length: \xb2", first=b"POST / HTTP/1.1"),
        head(b"content-length: " + b"9" * 30, first=b"POST / HTTP/1.1"),
        head(b"transfer-encoding: identity", first=b"POST / HTTP/1.1"),
        head(b"transfer-encoding: chunked", first=b"POST / HTTP/1.1") + b"zz\r\n",
        head(b"transfer-encoding: chunked", first=b"POST / HTTP/1.1") + b"f" * 20 + b"\r\n",
        head(b"transfer-encoding: chunked", first=b"POST / HTTP/1.1") + b"1\r\nabc\r\n",
    ],
)
async def test_what_is_not_http_is_refused_in_our_own_words_and_the_connection_closed(sent: bytes) -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(sent)
        assert await wire.rest() == NOT_HTTP


@pytest.mark.parametrize(("size", "refused"), [(URL_BYTES_MAX, False), (URL_BYTES_MAX + 1, True)])
async def test_a_url_has_a_greatest_length(size: int, refused: bool) -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(b"GET /" + b"u" * (size - 1) + b" HTTP/1.1\r\n\r\n")
        if refused:
            assert await wire.rest() == URL_TOO_LONG
        else:
            assert len((await wire.answer()).seen["path"]) == URL_BYTES_MAX


@pytest.mark.parametrize(("count", "refused"), [(HEADERS_MAX, False), (HEADERS_MAX + 1, True)])
async def test_headers_have_a_greatest_number(count: int, refused: bool) -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(head(*[b"a: b"] * count))
        if refused:
            assert await wire.rest() == HEAD_TOO_LARGE
        else:
            assert len((await wire.answer()).seen["headers"]) == HEADERS_MAX


@pytest.mark.parametrize(("more", "refused"), [(0, False), (1, True)])
async def test_headers_have_a_greatest_size_together(more: int, refused: bool) -> None:
    half = HEAD_BYTES_MAX // 2
    async with listening(echo) as server, server.wire() as wire:
        wire.send(head(b"a: " + b"x" * (half - 5), b"b: " + b"x" * (half - 5 + more)))
        if refused:
            assert await wire.rest() == HEAD_TOO_LARGE
        else:
            assert len((await wire.answer()).seen["headers"]) == 2


CHUNKED = head(b"transfer-encoding: chunked", first=b"POST / HTTP/1.1")


@pytest.mark.parametrize(
    "beginning",
    [b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n", CHUNKED + b"0\r\nx: ", CHUNKED + b"1;x="],
    ids=["header value", "header name", "trailer", "chunk extension"],
)
async def test_a_line_that_never_ends_is_not_gathered_for_ever(beginning: bytes) -> None:
    async with listening(echo) as server, server.wire() as wire:
        for sent in (beginning, b"y" * (UNPARSED_BYTES_MAX - len(beginning))):
            wire.send(sent)
            await server.dealt()
        assert not server.protocol.transport.is_closing()
        wire.send(b"y" * (len(beginning) + 1))
        assert await wire.rest() == HEAD_TOO_LARGE


async def test_what_is_refused_for_two_reasons_is_answered_once() -> None:
    async with listening(echo) as server, server.wire() as wire:
        server.protocol.data_received(b"\x00" * 2 * UNPARSED_BYTES_MAX)
        server.protocol.data_received(b"\x00")
        assert await wire.rest() == NOT_HTTP


async def test_a_head_that_comes_in_single_bytes_is_a_head() -> None:
    async with listening(echo) as server, server.wire() as wire:
        for byte in head(b"x: 1", first=b"GET /slow HTTP/1.1"):
            wire.send(bytes([byte]))
            await server.dealt()
        assert (await wire.answer()).seen["path"] == "/slow"


async def test_a_body_of_many_pieces_is_not_taken_for_a_line() -> None:
    size = 4 * UNPARSED_BYTES_MAX
    async with listening(echo) as server, server.wire() as wire:
        wire.send(head(b"content-length: %d" % size, first=b"POST / HTTP/1.1"))
        for _ in range(size // 1024):
            wire.send(b"b" * 1024)
        assert len((await wire.answer()).seen["body"]) == size


# -- refused behind others -------------------------------------------------------------------------------------------


async def test_what_is_broken_behind_a_request_does_not_cost_it_its_answer() -> None:
    app = Slow()
    async with listening(app) as server, server.wire() as wire:
        wire.send(GET + b"\x00\x01\r\n\r\n")
        assert (await wire.until(b"begun ")).count(b"HTTP/1.1 ") == 1
        await server.dealt()
        wire.send(b"and more of it")
        await server.dealt()
        app.go_on.set()
        assert await wire.rest() == b"done"


async def test_broken_data_with_a_request_is_answered_for_the_request_only() -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(GET + GET + b"\x00\x01\r\n\r\n")
        answers = [await wire.answer(), await wire.answer()]
        assert [answer.status for answer in answers] == [200, 200]
        assert await wire.rest() == b""


async def test_a_body_that_breaks_while_it_is_answered_ends_the_connection_without_a_second_answer() -> None:
    app = Slow()
    async with listening(app) as server, server.wire() as wire:
        wire.send(CHUNKED)
        await wire.until(b"begun ")
        wire.send(b"zz\r\n")
        assert await wire.rest() == b""
        app.go_on.set()


async def test_a_body_that_breaks_behind_an_answer_under_way_puts_nothing_into_it() -> None:
    app = Slow()
    async with listening(app) as server, server.wire() as wire:
        wire.send(GET)
        await wire.until(b"begun ")
        wire.send(CHUNKED + b"zz\r\n")
        assert await wire.rest() == b""
        app.go_on.set()


# -- time ------------------------------------------------------------------------------------------------------------


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET / HT", b"GET / HTTP/1.1\r\nx: 1\r\n"])
async def test_a_head_must_arrive_in_time(sent: bytes) -> None:
    async with listening(echo) as server, server.wire() as wire:
        if sent:
            wire.send(sent)
            await server.dealt()
        late = server.protocol.late
        assert (late(now()), late(now() + HEAD_TIMEOUT_S)) == (False, True)


async def test_the_next_head_on_a_connection_must_arrive_in_time_too() -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(GET)
        await wire.answer()
        assert not server.protocol.late(now() + 10 * HEAD_TIMEOUT_S)
        await server.dealt()
        wire.send(b"GET / HT")
        await server.dealt()
        assert (server.protocol.late(now()), server.protocol.late(now() + HEAD_TIMEOUT_S)) == (False, True)


async def test_a_body_must_arrive_in_time_but_has_more_of_it() -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(head(b"content-length: 9", first=b"POST / HTTP/1.1") + b"half")
        await server.dealt()
        late = server.protocol.late
        assert (late(now() + HEAD_TIMEOUT_S), late(now() + BODY_TIMEOUT_S)) == (False, True)
        wire.send(b"other")
        assert (await wire.answer()).seen["body"] == "halfother"
        assert not late(now() + 10 * BODY_TIMEOUT_S)


async def test_a_slow_head_behind_an_answer_under_way_does_not_cut_that_short() -> None:
    app = Slow()
    async with listening(app) as server, server.wire() as wire:
        wire.send(GET + b"GET / HT")
        await wire.until(b"begun ")
        late = server.protocol.late
        assert not late(now() + 10 * HEAD_TIMEOUT_S)
        app.go_on.set()
        await wire.until(b"done")
        assert late(now() + HEAD_TIMEOUT_S)


async def test_blank_lines_do_not_keep_an_idle_connection_for_ever() -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(GET)
        await wire.answer()
        await server.dealt()
        wire.send(b"\r\n")
        await server.dealt()
        assert server.protocol.timeout_keep_alive_task is not None
        wire.send(GET)
        assert (await wire.answer()).status == 200


async def test_the_rest_of_a_body_that_nobody_wanted_does_not_keep_a_connection_for_ever() -> None:
    async with listening(hasty) as server, server.wire() as wire:
        wire.send(head(b"content-length: 9", first=b"POST / HTTP/1.1") + b"half")
        assert (await wire.answer()).body == b"no"
        await server.dealt()
        assert server.protocol.late(now() + BODY_TIMEOUT_S)
        wire.send(b"other")
        await server.dealt()
        assert not server.protocol.late(now() + 10 * BODY_TIMEOUT_S)
        assert server.protocol.timeout_keep_alive_task is not None
        wire.send(GET)
        assert (await wire.answer()).body == b"no"


# -- answers that are not taken --------------------------------------------------------------------------------------


class Pouring:
    """Answers with more than any buffer holds, in pieces, or at once."""

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once
        self.sent_bytes = 0
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % POURED)]})
        piece = b"x" * (POURED if self._at_once else POURED // 1024)
        while self.sent_bytes < POURED:
            self.sent_bytes += len(piece)
            await send(
                {"type": "http.response.body", "body": piece, "more_body": self.sent_bytes < POURED},
            )
        self.ended.set()


POURED = 64 * 1024 * 1024


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def deaf_reader(app: App, *requests: bytes) -> AsyncIterator[tuple[Any, socket.socket]]:
    """The server's end of a connection whose other end asked and reads nothing; and that end."""
    async with listening(app) as server:
        with socket.create_connection(("127.0.0.1", server._port)) as end:
            await server.dealt()
            end.setblocking(False)
            end.sendall(b"".join(requests) or GET)
            protocol = server.protocol
            await until(lambda: protocol.transport.get_write_buffer_size() > WRITE_BUFFER_BYTES)
            yield protocol, end


def on_linux(option: str) -> int:
    return getattr(socket, option, 0)


async def test_accepted_connections_inherit_what_bounds_them() -> None:
    async with listening(echo) as server, server.wire():
        transport = server.protocol.transport
        end = transport.get_extra_info("socket")
        assert SEND_BUFFER_BYTES <= end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER_BYTES
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert transport.get_write_buffer_limits()[1] == WRITE_BUFFER_BYTES
        if sys.platform == "linux":
            names = ("TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
            assert [end.getsockopt(socket.IPPROTO_TCP, on_linux(name)) for name in names] == [30_000, 20, 5, 4]


async def test_who_writes_to_a_deaf_reader_is_made_to_wait_with_little_in_memory() -> None:
    app = Pouring()
    async with deaf_reader(app) as (protocol, _):
        await until(lambda: protocol.flow.write_paused)
        assert protocol.transport.get_write_buffer_size() <= WRITE_BUFFER_BYTES + POURED // 1024
        assert app.sent_bytes < POURED // 4


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_peer_that_takes_nothing_is_stuck_when_its_time_is_over(at_once: bool) -> None:
    async with deaf_reader(Pouring(at_once=at_once)) as (protocol, _):
        began = now()
        assert not protocol.stuck(began)
        assert (protocol.stuck(began + WRITE_TIMEOUT_S), protocol.stuck(began + WRITE_TIMEOUT_S + 1)) == (False, True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what was acknowledged")
async def test_a_peer_that_takes_a_little_now_and_then_is_not_stuck() -> None:
    async with deaf_reader(Pouring()) as (protocol, end):
        began = now()
        assert not protocol.stuck(began)
        assert protocol.stuck(began + 40)
        for _ in range(64):
            await asyncio.get_running_loop().sock_recv(end, 4096)
        await until(lambda: not protocol.stuck(began + 41))
        assert (protocol.stuck(began + 71), protocol.stuck(began + 72)) == (False, True)


async def test_a_peer_that_took_everything_is_not_stuck_however_long_it_is_silent() -> None:
    async with listening(echo) as server, server.wire() as wire:
        wire.send(GET)
        await wire.answer()
        assert not server.protocol.stuck(now()) and not server.protocol.stuck(now() + 10 * WRITE_TIMEOUT_S)


def kernel_knows(ours: int, theirs: int) -> bool:
    """Whether the kernel still has a socket at our port for a peer at theirs."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{ours:04X}") and row[2].endswith(f":{theirs:04X}") for row in rows)


@pytest.mark.parametrize("at_once", [False, True])
async def test_who_is_cut_off_leaves_nothing_behind(at_once: bool) -> None:
    app = Pouring(at_once=at_once)
    async with deaf_reader(app) as (protocol, end):
        ours, theirs = end.getpeername()[1], end.getsockname()[1]
        assert sys.platform != "linux" or kernel_knows(ours, theirs)
        protocol.cut()
        async with asyncio.timeout(WAIT_S):
            await app.ended.wait()  # whoever wrote was let go
        await until(lambda: protocol not in protocol.connections)
        if sys.platform == "linux":
            await until(lambda: not kernel_knows(ours, theirs))
        with pytest.raises(ConnectionResetError):
            while await asyncio.get_running_loop().sock_recv(end, 1 << 20):
                pass


async def test_an_answer_that_was_given_up_by_its_writer_can_be_cut_off_too() -> None:
    app = Pouring(at_once=True)
    async with deaf_reader(app, head(b"connection: close")) as (protocol, _):
        assert protocol.transport.is_closing() and app.ended.is_set()
        began = now()
        assert (protocol.stuck(began), protocol.stuck(began + 31)) == (False, True)
        protocol.cut()
        await until(lambda: not protocol.connections)


# -- with the whole application behind it ------------------------------------------------------------------------------

CHAT = b"POST /api/v1/chat HTTP/1.1"


def secured(answer: Answer) -> bool:
    rows = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}
    return rows.items() <= answer.headers.items() and len(answer.headers["x-request-id"]) == 12


async def test_a_connection_goes_on_after_a_bad_request(stage: SetUp) -> None:
    async with stage() as s, listening(s.house.app) as server, server.wire() as wire:
        as_json = (b"authorization: Bearer " + s.credential.encode(), b"content-type: application/json")
        for body, status in ((b"{", 400), (b'{"message":"hi"}', 200), (b"\xff", 400), (b'{"message":"hi"}', 200)):
            wire.send(head(*as_json, b"content-length: %d" % len(body), first=CHAT) + body)
            answer = await wire.answer()
            assert (answer.status, secured(answer), answer.headers.get("connection")) == (status, True, None)


async def test_a_body_that_is_too_large_is_not_awaited_and_ends_the_connection(stage: SetUp) -> None:
    async with stage() as s, listening(s.house.app) as server, server.wire() as wire:
        wire.send(head(b"content-length: 10000000", b"expect: 100-continue", first=CHAT))
        answer = await wire.answer()
        assert (answer.status, secured(answer), answer.headers["connection"]) == (413, True, "close")
        assert await wire.rest() == b""


@pytest.mark.parametrize(
    ("target", "status"), [(b"/api/v1/chat", 405), (b"/api/v1/sessions", 401), (b"/", 404), (b"/ws", 404)]
)
async def test_a_websocket_is_refused_like_any_request(stage: SetUp, target: bytes, status: int) -> None:
    asked = (b"connection: Upgrade", b"upgrade: websocket", b"sec-websocket-version: 13")
    async with stage() as s, listening(s.house.app) as server, server.wire() as wire:
        wire.send(head(*asked, first=b"GET " + target + b" HTTP/1.1"))
        answer = await wire.answer()
    assert (answer.status, secured(answer)) == (status, True)


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
async def test_an_answer_to_head_is_that_to_get_without_its_body(stage: SetUp, method: bytes) -> None:
    async with stage() as s, listening(s.house.app) as server, server.wire() as wire:
        for _ in range(2):
            wire.send(head(first=method + b" /health HTTP/1.1"))
            start = await wire.until(b"\r\n\r\n")
            assert start.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\ncontent-length: 15\r\n" in start
            if method == b"GET":
                assert await wire.until(b"}") == b'{"status":"ok"}'


async def test_no_target_breaks_a_header_of_its_answer(stage: SetUp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with stage() as s, listening(s.house.app) as server, server.wire() as wire:
        wire.send(head(first=b"GET /api/v1/tools/%0d%0ax:%20y%d0%ba/execute/?q HTTP/1.1"))
        answer = await wire.answer()
        assert (answer.status, answer.headers["location"]) == (307, "/api/v1/tools/%0D%0Ax:%20y%D0%BA/execute?q")
        wire.send(GET)
        assert (await wire.answer()).status == 404
    assert caplog.records == []


async def test_a_real_server_refuses_in_the_same_words(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "home") as process:
        for sent, answered in (
            (b"\x00\x01\r\n\r\n", NOT_HTTP),
            (head(*[b"a: b"] * (HEADERS_MAX + 1)), HEAD_TOO_LARGE),
            (b"GET / HTTP/1.1\r\nx: ".ljust(UNPARSED_BYTES_MAX + 1, b"y"), HEAD_TOO_LARGE),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
            writer.write(sent)
            async with asyncio.timeout(WAIT_S):
                assert await reader.read() == answered
            writer.close()
            await writer.wait_closed()
        assert process.stop() == 0
