"""Connections to one OpenAI-compatible server: where it is, what is sent with each request, and what one must not do.

A reply that nobody waits for any more must never be taken for the next one: what a server sends on an idle connection
costs it that connection.
"""

import re
import socket
from collections.abc import Callable

from aiohttp import ClientRequest, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from multidict import CIMultiDict
from yarl import URL

from dragoman.core.errors import BadRequest
from dragoman.runtime.counters import Counters

KEEPALIVE_S = 30.0
"""So long an idle connection is kept."""

OUR_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    # A compressed stream arrives in lumps, and on a local network costs more than it saves.
    "Accept-Encoding": "identity",
    "User-Agent": "dragoman",
}

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def open_session(
    headers: CIMultiDict[str],
    *,
    connect_s: float,
    connections_max: int,
    counters: Counters,
    refuses: Callable[[str], bool] | None = None,
) -> ClientSession:
    """Must be called in the running loop. Neither cookies nor the environment's proxies have a part in it. `refuses`
    says of an address that a name resolved to whether it is off limits."""
    resolver = None if refuses is None else _Guarded(refuses)
    connector = _Connector(limit=connections_max, keepalive_timeout=KEEPALIVE_S, resolver=resolver)
    connector.counters = counters
    return ClientSession(
        connector=connector,
        headers=headers,
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=None, connect=connect_s),
        trust_env=False,
    )


class _Connector(TCPConnector):
    """Hands out no connection on which something came after its last reply had ended."""

    counters: Counters

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or not protocol.should_close:
                return connection
            connection.close()
            self.counters.replies_unasked += 1


class _Guarded(AbstractResolver):
    """Looks names up, and gives no address that is off limits. What it gives is what is connected to: nothing is looked
    up a second time."""

    def __init__(self, refuses: Callable[[str], bool]) -> None:
        self._refuses = refuses
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if any(self._refuses(each["host"]) for each in found):
            raise OSError(f"{host} resolves to an address that is never reached")
        return found

    async def close(self) -> None:
        await self._resolver.close()


def endpoint(base: str, *, verbatim: bool = False) -> URL:
    """Where a server whose base is `…/v1` takes questions; `verbatim`: at this very address. Raises BadRequest."""
    try:
        url = URL(base)
    except ValueError as error:
        raise BadRequest(f"url: {base!r} is not a URL", internal=str(error)) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise BadRequest(f"url: {base!r} must begin with http:// or https:// and name a host")
    if url.user is not None or url.password is not None:
        raise BadRequest("url: must not hold a user or password; use `key` or `headers`")
    if verbatim:
        return url.with_fragment(None)
    path = url.raw_path.rstrip("/")
    if not path.endswith("/chat/completions"):
        path += "/chat/completions"
    return url.with_path(path, encoded=True).with_query(url.query)


def request_headers(extra: tuple[tuple[str, str], ...], key: str) -> CIMultiDict[str]:
    """Ours, the key ("" = none), and `extra`, which may take the place of ours. Raises BadRequest."""
    headers = CIMultiDict(OUR_HEADERS)
    if key:
        headers["Authorization"] = f"Bearer {key}"
    for name, value in extra:
        if not _HEADER_NAME.fullmatch(name):
            raise BadRequest(f"headers: {name!r} is not the name of a header")
        if not (value.isascii() and value.isprintable()):
            raise BadRequest(f"headers.{name}: a header's value is one line of printable ASCII")
        headers[name] = value
    return headers
