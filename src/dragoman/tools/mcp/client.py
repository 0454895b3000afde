"""The MCP SDK, as we use it: one connection for one call, and every way it can fail as one sentence.

    where ─ stdio, HTTP, SSE ─► SDK transport ─► handshake ─► Session: tools(), call()

A connection per call: nothing is held between turns, a reply that comes too late has nobody to be mistaken by, and a
server that changed or moved is noticed. Over HTTP the SDK asks first whether the server speaks the revision of 2026,
which has no handshake; over stdio it does not, for there are servers that end when they are asked something else first.

Results are not held against the schema that the server gives for them: it is the server's word about itself, and its
expressions would run in our process. Sampling, roots and questions to people are not offered.
"""

import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import anyio
import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import TypeAdapter, ValidationError

from dragoman import __version__
from dragoman.core.errors import ToolFailed
from dragoman.tools.mcp.definitions import TOOLS_MAX, Definition, defined
from dragoman.tools.mcp.network import RECEIVED_BYTES_MAX, Line, Vetted, open_line, web_client
from dragoman.tools.mcp.results import Item, error_text, items_of
from dragoman.tools.mcp.servers import HTTP, SSE, STDIO, Server
from dragoman.tools.mcp.stdio import Program

logger = logging.getLogger("dragoman.tools")

KEY = "dragoman/key"
"""In the `_meta` of a call: text that is the same when a call is repeated."""
PAGES_MAX = 32
ERROR_CHARS_MAX = 500

NOT_SPOKEN = frozenset({400, 404, 405, 406, 410, 415, 501})
"""What a server answers a POST with that speaks SSE alone (MCP 2025-03-26, backwards compatibility)."""
REFUSED = frozenset({401, 403, 407})

T = TypeVar("T")

_Result = types.CallToolResult | types.InputRequiredResult
_results: TypeAdapter[_Result] = TypeAdapter(_Result)


class Session:
    """An open connection. `calling`: the server was asked for more than its tools, and may have done it."""

    def __init__(self, server: Server, client: Client) -> None:
        self._server = server
        self._client = client
        self.calling = False

    async def tools(self) -> tuple[Definition, ...]:
        """All of its tools. Raises ToolFailed if there are too many."""
        found: list[Definition] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            page = await self._client.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            found += [defined(tool.model_dump(by_alias=True, mode="json", exclude_none=True)) for tool in page.tools]
            cursor = page.next_cursor
            if len(found) > TOOLS_MAX:
                break
            if cursor is None:
                return tuple(found)
        raise ToolFailed(f"The MCP server {self._server.name} has more than {TOOLS_MAX} tools, which is too many.")

    async def call(self, tool: str, arguments: dict[str, Any], key: str) -> list[Item]:
        """The content items of its result. Raises ToolFailed with what the server says if that is an error."""
        try:
            result = await self._asked(tool, arguments, key)
        except MCPError as error:
            if error.code != types.HEADER_MISMATCH:
                raise
            # MCP 2026-07-28: some arguments go into headers too, which ones the list of tools says. Nothing was done.
            await self.tools()
            result = await self._asked(tool, arguments, key)
        if isinstance(result, types.InputRequiredResult):
            raise ToolFailed(
                f"{tool} of the MCP server {self._server.name} asks a person something; nobody is asked here."
            )
        items = items_of(result.model_dump(by_alias=True, mode="json", exclude_none=True))
        if result.is_error:
            said = error_text(items) or "it says no more"
            raise ToolFailed(f"{tool} of the MCP server {self._server.name} failed: {said}")
        return items

    async def _asked(self, tool: str, arguments: dict[str, Any], key: str) -> _Result:
        meta = cast("types.RequestParamsMeta", {KEY: key})
        params = types.CallToolRequestParams(name=tool, arguments=arguments, _meta=meta)
        self.calling = True
        return await self._client.session.send_request(types.CallToolRequest(params=params), _results)


class Attempt:
    """One connection over one transport, and what is known of why it failed."""

    def __init__(self, server: Server, transport: str, vetted: Vetted | None, tls: ssl.SSLContext) -> None:
        self.server = server
        self.transport = transport
        self._vetted = vetted
        self._tls = tls
        self._line: Line | None = None
        self._program: Program | None = None
        self.session: Session | None = None

    @asynccontextmanager
    async def open(self, total_s: float) -> AsyncGenerator[Session]:
        transport = self._streams(total_s)
        mode = "auto" if self.transport == HTTP else "legacy"
        ours = types.Implementation(name="dragoman", version=__version__)
        async with Client(transport, mode=mode, cache=None, client_info=ours) as client:
            if self._line is not None:
                self._line.statuses.clear()
            self.session = Session(self.server, client)
            yield self.session

    @property
    def not_spoken(self) -> bool:
        """It failed because the server does not speak this transport, as far as can be told."""
        line = self._line
        return (
            self.session is None
            and line is not None
            and line.failure is None
            and bool(NOT_SPOKEN.intersection(line.statuses))
            and not REFUSED.intersection(line.statuses)
        )

    def failed(self, error: Exception) -> ToolFailed:
        """The one sentence for what went wrong."""
        causes = list(_leaves(error))
        kept = self._kept or next((each for each in causes if isinstance(each, ToolFailed)), None)
        if kept is not None:
            return kept
        complaint = self._program.complaint.decode("utf-8", "replace") if self._program is not None else ""
        internal = "; ".join([*(f"{type(each).__name__}: {each}"[:ERROR_CHARS_MAX] for each in causes), complaint])
        for sentence in (self._status(), *map(self._sentence, causes)):
            if sentence:
                code = "timeout" if any(isinstance(each, httpx2.TimeoutException) for each in causes) else "tool_failed"
                return ToolFailed(f"The MCP server {self.server.name} {sentence}", code=code, internal=internal)
        logger.warning("mcp server %s: the SDK failed in a way we do not know", self.server.name, exc_info=error)
        return ToolFailed(f"The MCP server {self.server.name} did not answer as MCP has it.", internal=internal)

    def too_slow(self, total_s: float) -> ToolFailed:
        if self._kept is not None:
            return self._kept
        if status := self._status():
            return ToolFailed(f"The MCP server {self.server.name} {status}")
        called = self.session is not None and self.session.calling
        effect = " It may still have had its effect: look before you repeat it." if called else ""
        return ToolFailed(
            f"The MCP server {self.server.name} did not answer within {total_s:g} s and was left.{effect}",
            code="timeout",
        )

    @property
    def _kept(self) -> ToolFailed | None:
        of_line = self._line.failure if self._line is not None else None
        return of_line or (self._program.failure if self._program is not None else None)

    def _status(self) -> str:
        statuses = self._line.statuses if self._line is not None else []
        if not statuses:
            return ""
        if refused := REFUSED.intersection(statuses):
            return f"refuses us (status {min(refused)}): its key or headers are not what it wants."
        if self.not_spoken:
            return f"speaks no MCP at its url (status {statuses[-1]}): is its path right?"
        return f"answered with status {statuses[-1]}."

    def _sentence(self, error: BaseException) -> str:
        match error:
            case MCPError(code=types.CONNECTION_CLOSED):
                return "ended before it had answered."
            case MCPError():
                return f"answered with an error: {error.message[:ERROR_CHARS_MAX]}"
            case httpx2.TimeoutException():
                return "did not answer in time. Is it running, and is its url right?"
            case httpx2.ConnectError():
                if isinstance(error.__cause__, Exception) and "SSL" in f"{error}{error.__cause__!r}":
                    return "speaks no TLS at its url, or its certificate is not trusted."
                return "could not be reached. Is it running, and is its url right?"
            case httpx2.SSEError():
                return "sent an event that is too long or none."
            case httpx2.HTTPError():
                return "broke off or did not answer in proper HTTP."
            case ValidationError() | ValueError():
                return "did not answer as MCP has it."
            case _:
                return ""

    @asynccontextmanager
    async def _streams(self, total_s: float) -> AsyncGenerator[Any]:
        if self.transport == STDIO:
            self._program = Program(self.server, bytes_max=RECEIVED_BYTES_MAX)
            async with self._program.streams() as streams:
                yield streams
            return
        assert self._vetted is not None
        self._line = open_line(self.server.name, self._vetted, self._tls)
        web = web_client(self._line, self.server.headers, total_s=total_s)
        url = str(self._vetted.url)
        if self.transport == SSE:
            # The SDK opens and closes the client that it is given.
            async with sse_client(url, httpx_client_factory=_giving(web)) as streams:
                yield streams
            return
        async with web, streamable_http_client(url, http_client=web, max_sse_event_size=RECEIVED_BYTES_MAX) as streams:
            yield streams


async def ask(
    server: Server,
    transports: tuple[str, ...],
    vetted: Vetted | None,
    tls: ssl.SSLContext,
    work: Callable[[Session], Awaitable[T]],
    *,
    total_s: float,
) -> tuple[T, str]:
    """Connect over the first of the transports that the server speaks, do the work, and close; what came of it, and
    that transport. Raises ToolFailed."""
    attempt = Attempt(server, transports[0], vetted, tls)
    within = anyio.move_on_after(total_s)
    with within:
        for transport in transports:
            attempt = Attempt(server, transport, vetted, tls)
            try:
                async with attempt.open(total_s) as session:
                    return await work(session), transport
            except Exception as error:
                if not attempt.not_spoken or transport == transports[-1]:
                    raise attempt.failed(error) from None
    raise attempt.too_slow(total_s)


def _giving(web: httpx2.AsyncClient) -> Callable[..., httpx2.AsyncClient]:
    def give(
        headers: dict[str, str] | None = None, timeout: httpx2.Timeout | None = None, auth: httpx2.Auth | None = None
    ) -> httpx2.AsyncClient:
        return web

    return give


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(each)
    else:
        yield error
