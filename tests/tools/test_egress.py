import asyncio
import gzip
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack

import pytest
from aiohttp import web

from dragoman.core.errors import ToolFailed
from dragoman.tools.egress import BODY_BYTES_MAX, PATH_CHARS_MAX, Allowed, Answer, Egress, Target, base_url
from tests.tools.conftest import Serve

ANYTHING = (Allowed("GET", "/**"), Allowed("POST", "/**"))
SECRET = "Bearer hunter2"

RawServe = Callable[[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]], Awaitable[str]]


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    client = Egress()
    yield client
    await client.close()


@pytest.fixture
async def serve_raw() -> AsyncIterator[RawServe]:
    """A server that speaks just the bytes the test writes."""
    async with asyncio.TaskGroup() as group:
        servers: list[asyncio.Server] = []

        async def serve_raw(handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> str:
            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    await reader.readuntil(b"\r\n\r\n")
                    await handler(reader, writer)
                finally:
                    writer.close()

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                group.create_task(handle(reader, writer))

            server = await asyncio.start_server(connected, "127.0.0.1", 0)
            servers.append(server)
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        yield serve_raw
        for server in servers:
            server.close()


def target(url: str, *, allow: tuple[Allowed, ...] = ANYTHING) -> Target:
    return Target("prom", url, allow, (("Authorization", SECRET),))


async def refused(egress: Egress, url: str, method: str = "GET", path: str = "/x", **given: object) -> tuple[str, str]:
    with pytest.raises(ToolFailed) as caught:
        await egress.request(target(url), method, path, **given)  # pyright: ignore[reportArgumentType] - passed on as given
    assert SECRET not in caught.value.internal
    assert "127.0.0.1" not in caught.value.detail
    return caught.value.detail, caught.value.code


async def test_a_request_carries_what_it_was_given_and_an_answer_what_came_back(egress: Egress, serve: Serve):
    seen: list[tuple[str, str, bytes, dict[str, str]]] = []

    async def handler(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen.append((request.method, request.raw_path, await request.read(), headers))
        return web.Response(body=b'{"a":1}', status=418, headers={"Content-Type": "Application/JSON; charset=utf-8"})

    url = await serve(handler)
    answer = await egress.request(
        target(url + "/base/"),
        "POST",
        "/a b/ü",
        params=[("q", "x&y"), ("q", "é")],
        body=b"k=v",
        media_type="application/x-www-form-urlencoded",
        key="run:call",
    )
    assert answer == Answer(418, "application/json", b'{"a":1}')
    ((method, path, body, headers),) = seen
    assert (method, path, body) == ("POST", "/base/a%20b/%C3%BC?q=x%26y&q=%C3%A9", b"k=v")
    assert headers["authorization"] == SECRET
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["idempotency-key"] == "run:call"
    assert headers["accept-encoding"] == "gzip"


async def test_environment_proxies_and_netrc_are_not_used(
    egress: Egress, serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="direct")

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    answer = await egress.request(target(await serve(handler)), "GET", "/x")
    assert answer.body == b"direct"


async def test_cookies_are_not_kept(egress: Egress, serve: Serve):
    cookies: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        cookies.append(dict(request.cookies))
        response = web.Response()
        response.set_cookie("a", "b")
        return response

    url = (await serve(handler)).replace("127.0.0.1", "localhost")  # cookies of bare addresses are never kept
    await egress.request(target(url), "GET", "/x")
    await egress.request(target(url), "GET", "/x")
    assert cookies == [{}, {}]


# -- what may be asked -----------------------------------------------------------------------------------------------

NARROW = (Allowed("GET", "/api/v1/labels"), Allowed("GET", "/api/v1/label/*/values"), Allowed("POST", "/api/**"))


async def test_the_address_itself_may_be_allowed(egress: Egress, serve: Serve):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=request.raw_path)

    base = f"{await serve(handler)}/base"
    assert (await egress.request(target(base, allow=(Allowed("GET", "/**"),)), "GET", "/")).body == b"/base/"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/labels"),
        ("GET", "/api/v1/label/job/values"),
        ("POST", "/api/anything/below"),
    ],
)
async def test_what_the_target_allows_is_asked(egress: Egress, serve: Serve, method: str, path: str):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} {request.raw_path}")

    answer = await egress.request(target(await serve(handler), allow=NARROW), method, path)
    assert answer.body.decode() == f"{method} {path}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/admin/tsdb/delete_series"),
        ("DELETE", "/api/v1/labels"),
        ("get", "/api/v1/labels"),
        ("GET", "/api/v1/label/a/b/values"),
        ("GET", "/api/v1/label/../values"),
        ("GET", "/api/v1/label/./values"),
        ("GET", "/api/v1/label//values"),
        ("GET", "/api/v1/label/%2e%2e/values"),
        ("GET", "/api/v1/label/a%2Fb/values"),
        ("GET", "/api/v1/label/a\\..\\b/values"),
        ("GET", "/api/v1/label/a?x=/values"),
        ("GET", "/api/v1/label/a#/values"),
        ("GET", "/api/v1/label/a\r\nHost: x/values"),
        ("GET", "/api/v1/label/a\0/values"),
        ("GET", "/api/v1/label/\u2028/values"),
        ("GET", "api/v1/labels"),
        ("GET", "//127.0.0.1/api/v1/labels"),
        ("GET", "http://127.0.0.1/api/v1/labels"),
        ("GET", "@127.0.0.1/api/v1/labels"),
        ("GET", ""),
        ("GET", "/"),
        ("POST", "/api/../admin"),
        ("POST", "/api/x/../../admin"),
        ("POST", "/api/" + "x" * PATH_CHARS_MAX),
    ],
)
async def test_what_the_target_does_not_allow_never_leaves(egress: Egress, serve: Serve, method: str, path: str):
    async def handler(request: web.Request) -> web.Response:
        raise AssertionError("must not be asked")

    with pytest.raises(ToolFailed) as caught:
        await egress.request(target(await serve(handler), allow=NARROW), method, path)
    assert (caught.value.detail, caught.value.code) == (
        "prom may not be asked for that: the path is not one its configuration allows.",
        "denied",
    )


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (url, "connection 'c': its url must look like http://host:port or https://host")
        for url in ("", "prom:9090", "ftp://h/", "file:///etc/passwd", "unix:///run/x.sock", "http://", "http:///x",
                    "//h/x", "http://h:0", "http://h:99999", "http://h:x", "gopher://h", "data:,x", "http+unix://x/y")
    ]
    + [
        ("http://u:p@h", "connection 'c': put user and password into its headers, not into its url"),
        ("http://u@h", "connection 'c': put user and password into its headers, not into its url"),
        ("http://h/?a=b", "connection 'c': its url may not have a ? or # part"),
        ("http://h/#a", "connection 'c': its url may not have a ? or # part"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_told(url: str, sentence: str):
    with pytest.raises(ValueError) as caught:
        base_url(url, name="c")
    assert str(caught.value) == sentence


@pytest.mark.parametrize("url", ["http://127.0.0.1:9090", "https://prom.example/base/", "http://[::1]:9090/x"])
def test_an_address_that_can_be_used_is_taken(url: str):
    assert str(base_url(url, name="c")).rstrip("/") == url.rstrip("/")


def test_a_target_does_not_show_its_headers():
    assert repr(target("http://h")) == "Target('prom')"


# -- what may come back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(egress: Egress, serve: Serve, status: int):
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    assert await refused(egress, await serve(handler)) == (
        "prom answered with a redirect, which is not followed; its url must be where it really is.",
        "tool_failed",
    )
    assert asked == ["/x"]


async def test_nobody_there_is_told(egress: Egress):
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    assert await refused(egress, f"http://127.0.0.1:{port}") == (
        "prom could not be reached. Is it running, and is its url right?",
        "tool_failed",
    )


async def test_a_server_without_tls_is_told_where_https_is_asked_for(egress: Egress, serve: Serve):
    async def handler(request: web.Request) -> web.Response:
        raise AssertionError("must not be asked")

    url = (await serve(handler)).replace("http://", "https://")
    assert await refused(egress, url) == (
        "prom speaks no TLS at its url, or its certificate is not trusted.",
        "tool_failed",
    )


async def test_a_name_nobody_knows_is_told(egress: Egress):
    detail, code = await refused(egress, "http://nobody.invalid")
    assert (detail, code) == ("prom could not be reached. Is it running, and is its url right?", "tool_failed")


async def test_a_connection_that_does_not_come_about_is_given_up():
    with socket.socket() as listening, ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):  # fill the queue of connections nobody accepts: the next one is left hanging
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        egress = Egress(connect_s=0.05)
        try:
            assert await refused(egress, f"http://127.0.0.1:{listening.getsockname()[1]}") == (
                "prom could not be reached in time. Is it running, and is its url right?",
                "timeout",
            )
        finally:
            await egress.close()


async def test_a_slow_answer_is_given_up(serve: Serve):
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    egress = Egress(total_s=0.05)
    try:
        assert await refused(egress, await serve(handler)) == (
            "prom did not answer within 0.05 s. Ask for less, or try again later.",
            "timeout",
        )
    finally:
        release.set()
        await egress.close()


async def test_a_body_that_drips_is_given_up(serve: Serve):
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await release.wait()
        return response

    egress = Egress(total_s=0.05)
    try:
        assert (await refused(egress, await serve(handler)))[1] == "timeout"
    finally:
        release.set()
        await egress.close()


TOO_LARGE = ("prom answered with more than 10 MiB. Ask for less at a time.", "tool_failed")


@pytest.mark.parametrize("packed", [False, True])
async def test_a_body_of_the_largest_size_is_taken_and_one_byte_more_is_not(egress: Egress, serve: Serve, packed: bool):
    async def handler(request: web.Request) -> web.Response:
        body = b"x" * (BODY_BYTES_MAX + (1 if request.path == "/more" else 0))
        if packed:
            return web.Response(body=gzip.compress(body, 1), headers={"Content-Encoding": "gzip"})
        return web.Response(body=body)

    url = await serve(handler)
    assert len((await egress.request(target(url), "GET", "/most")).body) == BODY_BYTES_MAX
    assert await refused(egress, url, path="/more") == TOO_LARGE


async def test_a_small_answer_cannot_unpack_to_a_large_one(egress: Egress, serve: Serve):
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    assert len(bomb) < 500_000

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    url = await serve(handler)
    tracemalloc.start()
    try:
        assert await refused(egress, url) == TOO_LARGE
        assert tracemalloc.get_traced_memory()[1] < 2.5 * BODY_BYTES_MAX
    finally:
        tracemalloc.stop()


async def test_what_unpacks_to_nothing_has_an_end_too(serve: Serve):
    """Packings of nothing, one behind the other: there would be work for as long as they come."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Encoding": "gzip"})
        await response.prepare(request)
        while True:
            await response.write(gzip.compress(b"") * 500)

    egress = Egress(body_bytes_max=100_000, total_s=5.0)
    try:
        with pytest.raises(ToolFailed, match="answered with more than"):
            await egress.request(target(await serve(handler)), "GET", "/x")
    finally:
        await egress.close()


async def test_a_packed_answer_in_several_members_is_one_body(egress: Egress, serve: Serve):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"a" * 9) + gzip.compress(b"b"), headers={"Content-Encoding": "gzip"})

    assert (await egress.request(target(await serve(handler)), "GET", "/x")).body == b"a" * 9 + b"b"


BROKEN = ("prom broke off or did not answer in proper HTTP.", "tool_failed")


@pytest.mark.parametrize(
    "body",
    [b"not gzip", gzip.compress(b"whole")[:-4], gzip.compress(b"whole")[:5], gzip.compress(b"a") + b"rest"],
    ids=["other", "without its end", "without a body", "with more behind it"],  # gzip writes the time into its bytes
)
async def test_a_packed_answer_that_is_broken_is_told(egress: Egress, serve: Serve, body: bytes):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    assert await refused(egress, await serve(handler)) == BROKEN


async def test_a_packing_we_did_not_offer_is_told(egress: Egress, serve: Serve):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"x", headers={"Content-Encoding": "br"})

    assert (await refused(egress, await serve(handler)))[0] == "prom sent its answer packed in a way we did not offer."


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x16\x03\x01\x02\x00garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
    ],
    ids=["nothing", "tls", "short", "chunk", "header", "status"],
)
async def test_what_is_not_http_is_told(egress: Egress, serve_raw: RawServe, said: bytes):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    assert await refused(egress, await serve_raw(handler)) == BROKEN


async def test_too_many_headers_are_refused(egress: Egress, serve: Serve):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(headers={f"X-{number}": "y" * 4000 for number in range(20)})

    assert await refused(egress, await serve(handler)) == ("prom sent more than 64 KiB of headers.", "tool_failed")


async def test_a_client_that_was_closed_opens_again(egress: Egress, serve: Serve):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    url = await serve(handler)
    await egress.close()
    assert (await egress.request(target(url), "GET", "/x")).body == b"ok"
    await egress.close()
    assert (await egress.request(target(url), "GET", "/x")).body == b"ok"
