"""The one outbound HTTP client of tools: to named connections, along the paths they allow, within limits.

    Target (who, where, what may be asked) ─check─► one request ─► Answer, whatever its status
                                             └────► ToolFailed: denied, timeout, tool_failed

A model names a connection; it never writes a URL. So addresses are the operator's word, and private ones are fine:
a Prometheus lives at 10.x. No tool takes a URL from a model; one that did would need every address it resolves to
checked against the special ranges and pinned, which is not done here.

Redirects are not followed, proxies of the environment not used, cookies not kept. Bodies are unpacked by us, piece by
piece, so that a small answer cannot unpack to a large one.
"""

import zlib
from collections.abc import Sequence
from urllib.parse import quote, urlencode

import aiohttp
from msgspec import Struct
from yarl import URL

from dragoman.core.errors import ToolFailed
from dragoman.tools.patterns import glob

CONNECT_S = 5.0
TOTAL_S = 30.0
BODY_BYTES_MAX = 10 * 1024 * 1024
"""After unpacking."""
HEADERS_BYTES_MAX = 64 * 1024
CHUNK_BYTES = 64 * 1024
PATH_CHARS_MAX = 2_000
INTERNAL_CHARS_MAX = 500

_PATH_SAFE = "/!$&'()*+,;=:@-._~"
_PATH_REFUSED = frozenset("\\%?#")
_GZIP = 16 + zlib.MAX_WBITS


class Allowed(Struct, frozen=True):
    """One thing a target may be asked: a method, and a glob over paths (`*` within a segment, `**` across)."""

    method: str
    path: str


class Target(Struct, frozen=True):
    """An outside system. `name` is what sentences call it; `headers` go with every request and may be secrets."""

    name: str
    url: str
    allow: tuple[Allowed, ...]
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"Target({self.name!r})"


class Answer(Struct, frozen=True):
    """What came back. `media_type` is lower case, without parameters."""

    status: int
    media_type: str
    body: bytes


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
        self, *, connect_s: float = CONNECT_S, total_s: float = TOTAL_S, body_bytes_max: int = BODY_BYTES_MAX
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=connect_s)
        self._total_s = total_s
        self._body_bytes_max = body_bytes_max
        self._session: aiohttp.ClientSession | None = None

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
        target does not allow, `timeout`, or `tool_failed`.
        """
        url = _url(target, method, path, params)
        headers = dict(target.headers) | {"Accept-Encoding": "gzip"}
        if media_type:
            headers["Content-Type"] = media_type
        if key:
            headers["Idempotency-Key"] = key
        try:
            request = self._opened().request(method, url, data=body or None, headers=headers, allow_redirects=False)
            async with request as response:
                return await self._answer(target, response)
        except TimeoutError as error:
            raise self._too_slow(target, error) from None
        except aiohttp.ClientSSLError as error:
            raise _failed(
                f"{target.name} speaks no TLS at its url, or its certificate is not trusted.", error
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise _failed(f"{target.name} could not be reached. Is it running, and is its url right?", error) from None
        except (aiohttp.ClientError, OSError, zlib.error) as error:
            raise _failed(f"{target.name} broke off or did not answer in proper HTTP.", error) from None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": "dragoman"},
            )
        return self._session

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
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
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

    def _too_slow(self, target: Target, error: TimeoutError) -> ToolFailed:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            detail = f"{target.name} could not be reached in time. Is it running, and is its url right?"
        else:
            detail = f"{target.name} did not answer within {self._total_s:g} s. Ask for less, or try again later."
        return ToolFailed(detail, code="timeout", internal=_for_log(error))


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


def _failed(detail: str, error: Exception) -> ToolFailed:
    return ToolFailed(detail, internal=_for_log(error))


def _for_log(error: Exception) -> str:
    """Not its `repr`: that of aiohttp's response errors shows the headers of the request."""
    return f"{type(error).__name__}: {error}"[:INTERNAL_CHARS_MAX]
