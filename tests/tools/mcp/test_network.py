"""The line to one server: addresses, limits, what is kept of a failure."""

from collections.abc import AsyncGenerator, Callable

import httpx2
import pytest

from dragoman.core.errors import ToolFailed
from dragoman.tools.mcp.network import GOODBYE_S, Line, Vetted, vet, web_client

URL = "https://mcp.example.com/mcp"


class Told(httpx2.AsyncBaseTransport):
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self, answer: Callable[[httpx2.Request], httpx2.Response]) -> None:
        self.requests: list[httpx2.Request] = []
        self.closed = False
        self._answer = answer

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self._answer(request)

    async def aclose(self) -> None:
        self.closed = True


class Pieces(httpx2.AsyncByteStream):
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        for piece in self._pieces:
            yield piece


def ok(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, stream=Pieces(b"a" * 60, b"b" * 40))


async def test_the_address_is_pinned_and_the_name_stays() -> None:
    told = Told(ok)
    line = Line("m", Vetted(URL, ["93.184.216.34"]), told)
    async with web_client(line, (), total_s=9.0) as client:
        await client.post(URL, content=b"x")

    (request,) = told.requests
    assert request.url.host == "93.184.216.34"
    assert request.headers["host"] == "mcp.example.com"
    assert request.extensions["sni_hostname"] == "mcp.example.com"
    assert told.closed


async def test_the_next_address_is_tried_only_if_nothing_was_sent() -> None:
    def second(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "1.0.0.1":
            raise httpx2.ConnectError("no")
        return ok(request)

    told = Told(second)
    async with web_client(Line("m", Vetted(URL, ["1.0.0.1", "1.0.0.2"]), told), (), total_s=9.0) as client:
        assert (await client.get(URL)).status_code == 200
    assert [request.url.host for request in told.requests] == ["1.0.0.1", "1.0.0.2"]

    def broken(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError("broke")

    told = Told(broken)
    async with web_client(Line("m", Vetted(URL, ["1.0.0.1", "1.0.0.2"]), told), (), total_s=9.0) as client:
        with pytest.raises(httpx2.ReadError):
            await client.get(URL)
    assert len(told.requests) == 1


async def test_when_no_address_takes_a_connection_the_last_error_is_told() -> None:
    def dead(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectTimeout(str(request.url.host))

    async with web_client(Line("m", Vetted(URL, ["1.0.0.1", "1.0.0.2"]), Told(dead)), (), total_s=9.0) as client:
        with pytest.raises(httpx2.ConnectTimeout, match=r"1\.0\.0\.2"):
            await client.get(URL)


@pytest.mark.parametrize(
    "url", ["https://other.example.com/mcp", "http://mcp.example.com/mcp", "https://mcp.example.com:444/mcp"]
)
async def test_no_other_place_is_asked(url: str) -> None:
    told = Told(ok)
    line = Line("m", Vetted(URL, ["93.184.216.34"]), told)
    async with web_client(line, (), total_s=9.0) as client:
        with pytest.raises(ToolFailed, match="sent us to another address"):
            await client.get(url)
    assert told.requests == []


async def test_the_bytes_of_all_answers_count_together() -> None:
    line = Line("m", Vetted(URL), Told(ok), bytes_max=200)
    async with web_client(line, (), total_s=9.0) as client:
        await client.get(URL)
        await client.get(URL)
        assert line.failure is None
        with pytest.raises(ToolFailed):
            await client.get(URL)
    assert line.failure is not None


async def test_saying_goodbye_may_not_take_long() -> None:
    told = Told(ok)
    async with web_client(Line("m", Vetted(URL), told), (), total_s=9.0) as client:
        await client.delete(URL)
        await client.get(URL)
    assert [request.extensions["timeout"]["read"] for request in told.requests] == [GOODBYE_S, 9.0]


async def test_statuses_of_refusals_are_kept() -> None:
    line = Line("m", Vetted(URL), Told(lambda _: httpx2.Response(405, stream=Pieces())))
    async with web_client(line, (), total_s=9.0) as client:
        await client.get(URL)
    assert line.statuses == [405]


async def test_vetting_gives_every_address_once_they_are_all_allowed() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        assert (host, port) == ("mcp.example.com", 8443)
        return ["93.184.216.34", "2606:2800::1"]

    vetted = await vet("m", "https://mcp.example.com:8443/mcp", resolve=resolve, denied=lambda each: each == "9.9.9.9")
    assert vetted.addresses == ("93.184.216.34", "2606:2800::1")
    with pytest.raises(ToolFailed):
        await vet("m", "https://9.9.9.9/", resolve=resolve, denied=lambda each: each == "9.9.9.9")
    assert (await vet("m", "https://8.8.8.8/", resolve=resolve, denied=lambda _: False)).addresses == ("8.8.8.8",)
