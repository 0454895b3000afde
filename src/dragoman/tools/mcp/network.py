"""The network as the MCP SDK is let at it: one server, at addresses that were looked at, and for so many bytes.

    url ─parse─► name ─resolve, once─► addresses ─all allowed?─► `Line`, an httpx2 transport to these addresses alone

The names stay in `Host`, in TLS and in the certificate's check. Redirects are refused, proxies of the environment not
used, packed answers not asked for and not taken. What went wrong is kept (`failure`), for the SDK turns much of it into
errors that no longer say so.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import httpx2

from dragoman.core.errors import BadRequest, ToolFailed
from dragoman.runtime.reach import host_of, is_numeric, literal
from dragoman.tools.vetting import check_port

CONNECT_S = 5.0
RECEIVED_BYTES_MAX = 4 * 1024 * 1024
"""Of one connection: shaking hands, the list of tools, a result."""
GOODBYE_S = 2.0
"""For telling a server that its session is over."""

_OF_THE_REQUEST = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "user-agent"}
)
"""Headers that nobody sets but the client itself: where a request goes, where it ends, who sends it."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, for a port. Raises OSError."""
Denied = Callable[[str], bool]
"""Whether an address is off limits."""


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """What the system's resolver says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class Vetted:
    """Where a name leads, once its addresses were looked at. `addresses` () = as the system resolves it each time."""

    def __init__(self, url: str, addresses: Sequence[str] = ()) -> None:
        self.url = httpx2.URL(url)
        self.addresses = tuple(addresses)


async def vet(name: str, url: str, *, resolve: Resolve, denied: Denied) -> Vetted:
    """Look at an address that somebody gave while the server runs. The name is resolved this once.

    Raises ToolFailed, `denied`: for what is no plain http(s) URL, for ports of other services, and if any address of
    it is off limits.
    """
    try:
        host = host_of(url, field="its url")
    except BadRequest as error:
        raise ToolFailed(f"The MCP server {name} cannot be reached: {error.detail}", code="denied") from None
    parts = urlsplit(url)
    port = parts.port if parts.port is not None else (443 if parts.scheme == "https" else 80)
    check_port(port, name=f"The MCP server {name}")
    address = literal(host)
    if address is None and is_numeric(host.rstrip(".")):
        raise ToolFailed(f"The MCP server {name} cannot be reached: write {host[:100]} as a name.", code="denied")
    try:
        async with asyncio.timeout(CONNECT_S):
            found = [str(address)] if address is not None else await resolve(host, port)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise ToolFailed(
            f"The MCP server {name} could not be found: {host} is no name that leads anywhere.", internal=str(error)
        ) from None
    if not found or any(denied(each) for each in found):
        raise ToolFailed(
            f"The MCP server {name} is at an address that is not reached for projects: {host} is not on the public"
            " internet. Whoever runs this server can make it a connection of its configuration.",
            code="denied",
        )
    return Vetted(url, found)


class Line(httpx2.AsyncBaseTransport):
    """To one server. `failure` is what went wrong first and `statuses` are those of refusals, for a good sentence."""

    def __init__(
        self, name: str, vetted: Vetted, inner: httpx2.AsyncBaseTransport, *, bytes_max: int = RECEIVED_BYTES_MAX
    ) -> None:
        self._name = name
        self._vetted = vetted
        self._inner = inner
        self._left = bytes_max
        self._bytes_max = bytes_max
        self.failure: ToolFailed | None = None
        self.statuses: list[int] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        wanted, url = self._vetted.url, request.url
        if (url.scheme, url.host, url.port) != (wanted.scheme, wanted.host, wanted.port):
            raise self._fail(f"The MCP server {self._name} sent us to another address, which is not followed.")
        if request.method == "DELETE":
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), GOODBYE_S)
        response = await self._sent(request)
        if 300 <= response.status_code < 400 and "location" in response.headers:
            await response.aclose()
            raise self._fail(
                f"The MCP server {self._name} answered with a redirect, which is not followed; its url must be where"
                " it really is."
            )
        if response.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            await response.aclose()
            raise self._fail(f"The MCP server {self._name} sent its answer packed, which we did not offer.")
        if response.status_code >= 400:
            self.statuses.append(response.status_code)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Counted(response.stream, self._count),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        """To the first address that takes a connection; nothing was sent to those that do not."""
        if not self._vetted.addresses:
            return await self._inner.handle_async_request(request)
        extensions = dict(request.extensions) | {"sni_hostname": request.url.host}
        last: Exception | None = None
        for address in self._vetted.addresses:
            pinned = httpx2.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions=extensions,
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                last = error
        assert last is not None
        raise last

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise self._fail(
                f"The MCP server {self._name} answered with more than {self._bytes_max // (1024 * 1024)} MiB. Ask for"
                " less at a time."
            )

    def _fail(self, detail: str) -> ToolFailed:
        self.failure = self.failure or ToolFailed(detail)
        return self.failure


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, count: Callable[[int], None]) -> None:
        self._stream = stream
        self._count = count

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for piece in self._stream:
            self._count(len(piece))
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


def web_client(line: Line, headers: Sequence[tuple[str, str]], *, total_s: float) -> httpx2.AsyncClient:
    """The client that the SDK is given. Reading may take as long as the call; connecting may not."""
    kept = [(name, value) for name, value in headers if name.lower() not in _OF_THE_REQUEST]
    return httpx2.AsyncClient(
        headers=[("User-Agent", "dragoman"), ("Accept-Encoding", "identity"), *kept],
        timeout=httpx2.Timeout(total_s, connect=CONNECT_S),
        transport=line,
        trust_env=False,
    )


def open_line(name: str, vetted: Vetted, tls: ssl.SSLContext, *, bytes_max: int = RECEIVED_BYTES_MAX) -> Line:
    """With connections of its own, which are closed with it."""
    return Line(name, vetted, httpx2.AsyncHTTPTransport(verify=tls, trust_env=False), bytes_max=bytes_max)
