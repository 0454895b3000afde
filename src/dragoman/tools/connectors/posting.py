"""Outbound HTTP of connectors: one request to an address that somebody set up while the server runs.

The address is checked where it is used, each address that its name resolves to as well, and those are what is connected
to: nothing is looked up twice. Redirects are not followed, proxies of the environment not used, cookies not kept.
"""

import asyncio
import socket
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from yarl import URL

from dragoman.core.names import Clock
from dragoman.runtime.reach import Reach, never

CONNECT_S = 5.0
TOTAL_S = 30.0
ANSWER_BYTES_MAX = 64 * 1024
"""So much of an answer is read; the rest is of no use to anybody here."""
RETRY_AFTER_S_MAX = 24 * 3600.0


class Posted(Struct, frozen=True):
    """What came back. `retry_after_s` None = it did not say."""

    status: int
    body: bytes
    retry_after_s: float | None = None


class PostFailed(Exception):
    """Nothing usable came back. `str()` is a sentence; `retry` = it may be otherwise in a moment."""

    def __init__(self, sentence: str, *, retry: bool = True) -> None:
        super().__init__(sentence)
        self.retry = retry


class Posting:
    """The client. Make it anywhere, use it on one event loop, close it there."""

    def __init__(self, reach: Reach, clock: Clock, *, total_s: float = TOTAL_S) -> None:
        self._reach = reach
        self._clock = clock
        self._total_s = total_s
        self._session: aiohttp.ClientSession | None = None

    async def send(self, method: str, url: str, *, headers: Sequence[tuple[str, str]], body: bytes = b"") -> Posted:
        """Raises BadRequest for an address that may not be reached, PostFailed."""
        host = self._reach.check_url(url, field="the connector's url")
        try:
            request = self._opened().request(
                method, URL(url), data=body or None, headers=list(headers), allow_redirects=False
            )
            async with asyncio.timeout(self._total_s), request as response:
                kept = await self._some(response.content)
                wait_s = self._retry_after_s(response.headers.get("Retry-After", ""))
                return Posted(response.status, kept, wait_s)
        except TimeoutError:
            raise PostFailed(f"{host} did not answer within {self._total_s:g} s") from None
        except aiohttp.ClientSSLError:
            raise PostFailed(f"{host} speaks no TLS there, or its certificate is not trusted", retry=False) from None
        except (aiohttp.ClientConnectorError, OSError):
            raise PostFailed(f"{host} could not be reached") from None
        except (aiohttp.ClientError, ValueError):
            raise PostFailed(f"{host} broke off or did not answer in proper HTTP") from None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_Guarded()),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                trust_env=False,
                auto_decompress=False,
                headers={"User-Agent": "dragoman", "Accept-Encoding": "identity"},
            )
        return self._session

    async def _some(self, content: aiohttp.StreamReader) -> bytes:
        kept = bytearray()
        async for chunk in content.iter_chunked(ANSWER_BYTES_MAX):
            kept += chunk
            if len(kept) >= ANSWER_BYTES_MAX:
                break
        return bytes(kept[:ANSWER_BYTES_MAX])

    def _retry_after_s(self, value: str) -> float | None:
        """RFC 9110, 10.2.3: seconds or a date. None for anything else, or what is too far away to be meant."""
        try:
            wait_s = float(int(value)) if value.isdigit() else parsedate_to_datetime(value).timestamp()
        except (ValueError, OverflowError):
            return None
        wait_s = wait_s if value.isdigit() else max(0.0, wait_s - self._clock.now())
        return wait_s if wait_s <= RETRY_AFTER_S_MAX else None


class _Guarded(AbstractResolver):
    """Looks names up, and gives none that is off limits."""

    def __init__(self) -> None:
        self._resolver: aiohttp.ThreadedResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if self._resolver is None:
            self._resolver = aiohttp.ThreadedResolver()
        found = await self._resolver.resolve(host, port, family)
        if any(never(each["host"]) for each in found):
            raise OSError(f"{host} resolves to an address that is never reached")
        return found

    async def close(self) -> None:
        pass
