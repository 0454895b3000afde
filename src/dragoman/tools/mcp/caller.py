"""Calls of MCP servers' tools, whoever makes them: a workflow's agent, a tool of the registry, the command line.

name ─► the project's server, or a connection of the configuration
     ─► an address of the project's: resolved once, public, pinned
     ─► may the tool be used, and is it still what was pinned? (list of tools, remembered for a minute)
     ─► one connection, one call, one result
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from dragoman.core.errors import ToolFailed
from dragoman.core.names import Clock, ProjectId
from dragoman.tools.blotting import blotted, without_secrets
from dragoman.tools.mcp.definitions import Definition, allowed, fault_of
from dragoman.tools.mcp.pins import NOBODY, Pin, Pins, held
from dragoman.tools.mcp.results import Item, as_items, as_text
from dragoman.tools.mcp.servers import HTTP, SSE, STDIO, Server
from dragoman.tools.vetting import off_limits

if TYPE_CHECKING:
    from dragoman.tools.mcp.client import Session
    from dragoman.tools.mcp.network import Resolve

LISTED_S = 60.0
"""So long a list of tools is believed."""
LISTED_MAX = 256
"""Servers whose list, and whose transport, is remembered."""
CALLS_MAX = 16
"""Calls of one server at once."""
QUIET = (("mcp", logging.CRITICAL), ("httpx2", logging.WARNING), ("httpcore2", logging.WARNING))
"""How loud the SDK may be."""
NO_SERVER = "unknown_server"
EXTRA = "pip install 'dragoman[mcp]'"

T = TypeVar("T")


class ProjectServer(Protocol):
    """As `runtime.project_settings.McpServer`."""

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def transport(self) -> str: ...
    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...


class Found(Struct, frozen=True):
    """A server, and the project that its pin belongs to."""

    server: Server
    project: ProjectId

    @property
    def again(self) -> str:
        """The command that pins its tools."""
        of = f" --project {self.project}" if self.project else ""
        return f"dragoman mcp pin {self.server.name}{of}"


class _Listed(Struct, frozen=True):
    tools: Mapping[str, Definition]
    until: float
    """Of the monotonic clock."""


_Key = tuple[ProjectId, Server]


class McpCaller:
    """`servers` gives a project's own; `configured` are the connections, whatever their address. `denied` says which
    addresses no project's server may have."""

    def __init__(
        self,
        servers: Callable[[ProjectId], Awaitable[Sequence[ProjectServer]]],
        configured: Sequence[Server],
        pins: Pins,
        clock: Clock,
        *,
        denied: Callable[[str], bool] = off_limits,
        resolve: "Resolve | None" = None,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self.configured = {server.name: server for server in configured}
        self.pins = pins
        self._servers = servers
        self._clock = clock
        self._denied = denied
        self._resolve = resolve
        self._tls = tls
        self._trusted: ssl.SSLContext | None = None
        self._listed: dict[_Key, _Listed] = {}
        self._spoken: dict[_Key, str] = {}
        """The transport that a server was found to speak."""
        self._live: dict[_Key, int] = {}

    # -- calling ---------------------------------------------------------------------------------------------------

    async def call(
        self, project: ProjectId, server: str, tool: str, arguments: dict[str, Any], key: str, timeout_s: float
    ) -> str:
        """Its result as a JSON list of content items. `key` makes a repeat recognisable to the server. Raises
        ToolFailed."""
        found = await self.find(project, server)
        with blotted(found.server.headers):
            items = await self._called(found, tool, arguments, key, timeout_s)
        return without_secrets(as_items(items, of=f"{tool} of the MCP server {server}"), found.server.headers)

    async def say(self, server: Server, tool: str, arguments: dict[str, Any], key: str, *, expected: str) -> str:
        """The result of a connection's tool as text. `expected` is the digest of what the model was shown: a tool that
        was pinned anew since is not called."""
        found = Found(server, NOBODY)
        with blotted(server.headers):
            items = await self._called(found, tool, arguments, key, server.timeout_s, expected=expected)
        return without_secrets(as_text(items, of=f"{tool} of the MCP server {server.name}"), server.headers)

    async def tools(self, found: Found) -> tuple[Definition, ...]:
        """Those it has now and that may be used, asked for anew. Raises ToolFailed."""
        with self._counted(found):
            listed = await self._ask(found, self._listing(found), found.server.timeout_s)
        return tuple(tool for tool in listed.values() if allowed(found.server.tools, tool.name) and not fault_of(tool))

    async def _called(
        self, found: Found, tool: str, arguments: dict[str, Any], key: str, timeout_s: float, *, expected: str = ""
    ) -> list[Item]:
        if not allowed(found.server.tools, tool):
            raise ToolFailed(
                f"{tool} is not among the tools of {found.server.name} that its connection allows.", code="denied"
            )
        pin = await self.pins.get(found.project, found.server.name)
        if expected and (pin is None or (pinned := pin.tool(tool)) is None or pinned.digest != expected):
            raise ToolFailed(
                f"What is pinned of {found.server.name} changed since this server started, so {tool} was not called."
                " Restart the server.",
                code="changed",
            )

        async def work(session: "Session") -> list[Item]:
            if pin is not None:
                held(pin, tool, await self._now(found, session, tool), again=found.again)
            return await session.call(tool, arguments, key)

        with self._counted(found):
            if pin is not None and (known := self._remembered(found)) is not None:
                held(pin, tool, known.tools.get(tool), again=found.again)  # without connecting, if that is clear
            return await self._ask(found, work, min(timeout_s, found.server.timeout_s))

    async def _now(self, found: Found, session: "Session", tool: str) -> Definition | None:
        known = self._remembered(found)
        tools = known.tools if known is not None else await self._listing(found)(session)
        return tools.get(tool)

    # -- finding ---------------------------------------------------------------------------------------------------

    async def find(self, project: ProjectId, name: str) -> Found:
        """The project's own server of that name, else the connection. Raises ToolFailed naming what there is."""
        own = {each.name: each for each in await self._servers(project)}
        if given := own.get(name):
            return Found(Server(given.name, given.url, given.transport, tuple(given.headers)), project)
        if connection := self.configured.get(name):
            return Found(connection, NOBODY)
        names = [*own, *self.configured]
        closest = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"Did you mean {closest[0]}?" if closest else f"There are: {', '.join(names[:20]) or 'none'}."
        raise ToolFailed(f"There is no MCP server {name[:100]!a} in this project. {hint}", code=NO_SERVER)

    async def all(self, project: ProjectId) -> list[tuple[Found, Pin | None]]:
        """Every server that the project can reach by its name, with what is pinned of it."""
        own = [await self.find(project, each.name) for each in await self._servers(project)]
        names = {each.server.name for each in own}
        others = [Found(each, NOBODY) for each in self.configured.values() if each.name not in names]
        pinned = {NOBODY: await self.pins.all(NOBODY), project: await self.pins.all(project)}
        return [(each, pinned[each.project].get(each.server.name)) for each in (*own, *others)]

    # -- asking ----------------------------------------------------------------------------------------------------

    async def _ask(self, found: Found, work: "Callable[[Session], Awaitable[T]]", total_s: float) -> T:
        server = found.server
        sdk = await _loaded()
        transports = self._transports(found)
        vetted = None
        if transports != (STDIO,):
            vetted = await self._vetted(server)
        if self._trusted is None:
            self._trusted = await asyncio.to_thread(self._tls)
        answer, spoken = await sdk.ask(server, transports, vetted, self._trusted, work, total_s=total_s)
        _remember(self._spoken, (found.project, server), spoken)
        return answer

    def _transports(self, found: Found) -> tuple[str, ...]:
        server = found.server
        if server.command:
            return (STDIO,)
        if server.transport:
            return (server.transport,)
        return (SSE, HTTP) if self._spoken.get((found.project, server)) == SSE else (HTTP, SSE)

    async def _vetted(self, server: Server) -> Any:
        from dragoman.tools.mcp import network  # noqa: PLC0415 httpx2 comes with the extra

        if server.trusted:
            return network.Vetted(server.url)
        resolve = self._resolve or network.system_resolve
        return await network.vet(server.name, server.url, resolve=resolve, denied=self._denied)

    def _listing(self, found: Found) -> "Callable[[Session], Awaitable[Mapping[str, Definition]]]":
        async def listing(session: "Session") -> Mapping[str, Definition]:
            tools = {each.name: each for each in await session.tools()}
            _remember(self._listed, (found.project, found.server), _Listed(tools, self._clock.monotonic() + LISTED_S))
            return tools

        return listing

    def _remembered(self, found: Found) -> _Listed | None:
        listed = self._listed.get((found.project, found.server))
        return listed if listed is not None and self._clock.monotonic() < listed.until else None

    @contextmanager
    def _counted(self, found: Found) -> Generator[None]:
        key = (found.project, replace(found.server, headers=()))
        live = self._live.get(key, 0)
        if live >= CALLS_MAX:
            raise ToolFailed(
                f"The MCP server {found.server.name} is being called {CALLS_MAX} times at once already. Try again in a"
                " moment.",
                code="busy",
            )
        self._live[key] = live + 1
        try:
            yield
        finally:
            if self._live[key] == 1:
                del self._live[key]
            else:
                self._live[key] -= 1


def _remember(known: dict[_Key, T], key: _Key, value: T) -> None:
    if len(known) >= LISTED_MAX:
        known.clear()
    known[key] = value


async def _loaded() -> ModuleType:
    """The client. It takes a second to import, in which others go on. Raises ToolFailed without the extra."""
    try:
        return await asyncio.to_thread(_load)
    except ModuleNotFoundError as error:
        raise ToolFailed(
            f"MCP servers need an extra that is not installed: {EXTRA}", code="not_installed", internal=str(error)
        ) from None


def _load() -> ModuleType:
    from dragoman.tools.mcp import client  # noqa: PLC0415 the extra

    # What went wrong with a server is said in the result of the call; the SDK would write it down with a traceback.
    for name, level in QUIET:
        logging.getLogger(name).setLevel(level)
    return client
