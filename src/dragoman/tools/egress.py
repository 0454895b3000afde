"""The one outbound HTTP client of tools: to named connections, along the paths they allow, within limits.

    Target (who, where, what may be asked) ─check─► one request ─► Answer, whatever its status
                                             └────► ToolFailed: denied, timeout, tool_failed

A model names a connection; it never writes a URL. So addresses are the operator's word, and private ones are fine:
a Prometheus lives at 10.x. Those that a project's people give are not: such a target is `guarded`, what its host
resolves to is checked against the special ranges, and nothing else is connected to (`vetting.py`).

Redirects are not followed, proxies of the environment not used, cookies not kept. Bodies are unpacked by us, piece by
piece, so that a small answer cannot unpack to a large one.
"""

import zlib
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp.abc import AbstractResolver
from msgspec import Struct
from yarl import URL

from dragoman.core.errors import ToolFailed
from dragoman.tools.patterns import glob
from dragoman.tools.vetting import AddressDenied, PeerDenied, Policy, denied, open_connector, vetted_url

CONNECT_S = 5.0
TOTAL_S = 30.0
BODY_BYTES_MAX = 10 * 1024 * 1024
"""As it comes, and after unpacking."""
HEADERS_BYTES_MAX = 64 * 1024
CHUNK_BYTES = 64 * 1024
PATH_CHARS_MAX = 2_000
INTERNAL_CHARS_MAX = 500

NOTHING_INSIDE = Policy()
"""What guarded targets are held to."""

_PATH_SAFE = "/!$&'()*+,;=:@-._~"
_PATH_REFUSED = frozenset("\\%?#")
_GZIP = 16 + zlib.MAX_WBITS


class Allowed(Struct, frozen=True):
    """One thing a target may be asked: a method, and a glob over paths (`*` within a segment, `**` across)."""

    method: str
    path: str


class Target(Struct, frozen=True):
    """An outside system. `name` is what sentences call it; `headers` go with every request and may be secrets.
    `guarded` = its url is not the operator's word."""

    name: str
    url: str
    allow: tuple[Allowed, ...]
    headers: tuple[tuple[str, str], ...] = ()
    guarded: bool = False

    def __repr__(self) -> str:
        return f"Target({self.name!r})"


class Answer(Struct, frozen=True):
    """What came back. `media_type` is lower case, without parameters."""

    status: int
    media_type: str
    body: bytes


class NotReached(ToolFailed):
    """No connection came about: nothing was sent, so nothing was done."""


class BrokeOff(ToolFailed):
    """It was sent, and perhaps received, but no whole answer came."""


def base_url(url: str, *, name: str) -> URL:
    """The address of a connection. Raises ValueError with a sentence that names it."""
    try:
        base = URL(url)
        port = base.port
    except ValueError:
        base, port = URL(), None
    if base.scheme not in ("http", "https") or not base.host or not port:
        raise ValueError(f"connection {name!r}: its url must look like http://host:port or https://host")
    if base.user is not None or base.password is not None:
        raise ValueError(f"connection {name!r}: put user and password into its headers, not into its url")
    if base.query_string or base.fragment:
        raise ValueError(f"connection {name!r}: its url may not have a ? or # part")
    return base


class Egress:
    """The client. Make it anywhere, use it on one event loop, close it there."""

    def __init__(
        self,
        *,
        connect_s: float = CONNECT_S,
        total_s: float = TOTAL_S,
        body_bytes_max: int = BODY_BYTES_MAX,
        policy: Policy = NOTHING_INSIDE,
        resolver: Callable[[], AbstractResolver] | None = None,
    ) -> None:
        """`policy` is for guarded targets. `resolver` makes what looks names up, in the running loop."""
        self._connect_s = connect_s
        self._total_s = total_s
        self._body_bytes_max = body_bytes_max
        self._policy = policy
        self._resolver = resolver
        self._sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = {}
        """By whether their targets are guarded, and whether their connections are used again."""

    async def request(
        self,
        target: Target,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        media_type: str = "",
        key: str = "",
    ) -> Answer:
        """Ask once. `path` is plain text below the target's address; `params` go into its query.

        `key` makes a repeat recognisable to the target (`Idempotency-Key`). Raises ToolFailed: `denied` for what the
        target does not allow, `timeout`, or `tool_failed`; NotReached if nothing was sent.
        """
        if target.guarded:
            vetted_url(target.url, name=target.name, policy=self._policy)
        url = _url(target, method, path, params)
        headers = _headers(target, media_type, key)
        return await self._ask(target, method, url, headers, body, total_s=self._total_s, reuse=True)

    async def post(
        self,
        target: Target,
        body: bytes,
        *,
        media_type: str,
        key: str,
        headers: Sequence[tuple[str, str]] = (),
        total_s: float = TOTAL_S,
    ) -> Answer:
        """Post once, to the very address of the target, over a connection of its own: on one that was used before, a
        request may get lost because the other side is closing it. Raises as `request` does."""
        if target.guarded:
            url = vetted_url(target.url, name=target.name, policy=self._policy)
        else:
            url = base_url(target.url, name=target.name)
        sent = _headers(target, media_type, key) | dict(headers)
        return await self._ask(target, "POST", url, sent, body, total_s=total_s, reuse=False)

    async def _ask(
        self,
        target: Target,
        method: str,
        url: URL,
        headers: dict[str, str],
        body: bytes,
        *,
        total_s: float,
        reuse: bool,
    ) -> Answer:
        session = self._opened(guarded=target.guarded, reuse=reuse)
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=self._connect_s)
        try:
            request = session.request(
                method, url, data=body or None, headers=headers, allow_redirects=False, timeout=timeout
            )
            async with request as response:
                return await self._answer(target, response)
        except TimeoutError as error:
            raise _too_slow(target, error, total_s) from None
        except aiohttp.ClientSSLError as error:
            raise ToolFailed(
                f"{target.name} speaks no TLS at its url, or its certificate is not trusted.", internal=_for_log(error)
            ) from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressDenied):
                raise denied(target.name) from None
            raise NotReached(
                f"{target.name} could not be reached. Is it running, and is its url right?", internal=_for_log(error)
            ) from None
        except PeerDenied:
            raise denied(target.name) from None
        except (aiohttp.ClientError, OSError, zlib.error) as error:
            raise BrokeOff(
                f"{target.name} broke off or did not answer in proper HTTP.", internal=_for_log(error)
            ) from None

    async def close(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def _opened(self, *, guarded: bool, reuse: bool) -> aiohttp.ClientSession:
        session = self._sessions.get((guarded, reuse))
        if session is None:
            resolver = None if self._resolver is None else self._resolver()
            policy = self._policy if guarded else None
            session = self._sessions[guarded, reuse] = aiohttp.ClientSession(
                connector=open_connector(policy=policy, reuse=reuse, resolver=resolver),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": "dragoman"},
            )
        return session

    async def _answer(self, target: Target, response: aiohttp.ClientResponse) -> Answer:
        if sum(len(name) + len(value) + 4 for name, value in response.raw_headers) > HEADERS_BYTES_MAX:
            raise ToolFailed(f"{target.name} sent more than {HEADERS_BYTES_MAX // 1024} KiB of headers.")
        if 300 <= response.status < 400:
            raise ToolFailed(
                f"{target.name} answered with a redirect, which is not followed; its url must be where it really is.",
                internal=f"status {response.status}",
            )
        body = await self._body(target, response)
        return Answer(response.status, response.content_type.lower(), body)

    async def _body(self, target: Target, response: aiohttp.ClientResponse) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise ToolFailed(f"{target.name} sent its answer packed in a way we did not offer.", internal=encoding)
        unpack = _Plain() if encoding == "identity" else _Gunzip()
        body = bytearray()
        received = 0
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            received += len(chunk)
            self._check_size(target, received)  # packed, much can come that unpacks to nothing
            rest = chunk
            while rest:
                piece, rest = unpack.some(rest)
                body += piece
                self._check_size(target, len(body))
        body += unpack.last()
        self._check_size(target, len(body))
        return bytes(body)

    def _check_size(self, target: Target, size: int) -> None:
        if size > self._body_bytes_max:
            most_mib = self._body_bytes_max / (1024 * 1024)
            raise ToolFailed(f"{target.name} answered with more than {most_mib:g} MiB. Ask for less at a time.")


class _Plain:
    def some(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""

    def last(self) -> bytes:
        return b""


class _Gunzip:
    """Unpacks gzip, also of several members, at most CHUNK_BYTES at a time."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)
        self._began = False

    def some(self, data: bytes) -> tuple[bytes, bytes]:
        """A piece, and the input that is left for the next one."""
        if self._stream.eof:
            self._stream = zlib.decompressobj(_GZIP)
        self._began = True
        piece = self._stream.decompress(data, CHUNK_BYTES)
        return piece, self._stream.unconsumed_tail or self._stream.unused_data

    def last(self) -> bytes:
        """What zlib still holds: less than one piece. Raises zlib.error if the end is missing."""
        rest = self._stream.flush()
        if self._began and not self._stream.eof:
            raise zlib.error("the packed answer ends too early")
        return rest


def _url(target: Target, method: str, path: str, params: Sequence[tuple[str, str]]) -> URL:
    if not _is_plain(path) or not any(
        method == allowed.method and glob(allowed.path)(path) for allowed in target.allow
    ):
        raise ToolFailed(
            f"{target.name} may not be asked for that: the path is not one its configuration allows.",
            code="denied",
            internal=f"{method} {path[:PATH_CHARS_MAX]!a}",
        )
    text = str(base_url(target.url, name=target.name)).rstrip("/") + quote(path, safe=_PATH_SAFE)
    query = urlencode(params)
    return URL(f"{text}?{query}" if query else text, encoded=True)


def _is_plain(path: str) -> bool:
    """No way to mean another path than the one that is compared with what is allowed."""
    if not path.startswith("/") or len(path) > PATH_CHARS_MAX:
        return False
    if any(char in _PATH_REFUSED or not char.isprintable() for char in path):
        return False
    return path == "/" or not any(segment in ("", ".", "..") for segment in path[1:].split("/"))


def _headers(target: Target, media_type: str, key: str) -> dict[str, str]:
    headers = dict(target.headers) | {"Accept-Encoding": "gzip"}
    if media_type:
        headers["Content-Type"] = media_type
    if key:
        headers["Idempotency-Key"] = key
    return headers


def _too_slow(target: Target, error: TimeoutError, total_s: float) -> ToolFailed:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NotReached(
            f"{target.name} could not be reached in time. Is it running, and is its url right?",
            code="timeout",
            internal=_for_log(error),
        )
    return ToolFailed(
        f"{target.name} did not answer within {total_s:g} s. Ask for less, or try again later.",
        code="timeout",
        internal=_for_log(error),
    )


def _for_log(error: Exception) -> str:
    """Not its `repr`: that of aiohttp's response errors shows the headers of the request."""
    return f"{type(error).__name__}: {error}"[:INTERNAL_CHARS_MAX]
