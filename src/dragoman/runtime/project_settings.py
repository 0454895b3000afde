"""What a project is set to: its signing secret, the client id of its chat widget, its webhook, its MCP servers
(rowboat spec 6.2, 7.1, 8.1).

    record of the project {secret: sealed, client_id, webhook, …} ─► Settings       for who uses them, in memory only
    record of nobody      client id ─► project                                       to be found by the id alone

Secret and client id are made when they are first asked for, and by whichever process is first: the others take its. The
id's record is written before the project's, and counts only if that one agrees: after a crash in between, and after
the id was changed, it leads nowhere.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.names import Clock, ProjectId
from dragoman.core.records import Record, Records
from dragoman.runtime.crossing import uncrossed
from dragoman.runtime.ports import Sealer
from dragoman.runtime.reach import host_of, is_local, is_numeric, literal

RECORDS = "project_settings"
CLIENTS = "widget_client"
NOBODY = ProjectId("")
ONLY = "settings"
"""The id of the one record of its kind in a project."""

CACHED_S = 5.0
CACHED_MAX = 1000
"""Projects whose settings are remembered."""
CONNECTION = "connection:"
"""Begins a webhook that is a connection of the configuration file, by its name."""
MCP_SERVERS_MAX = 20
SERVER_NAME_CHARS_MAX = 100
HEADERS_MAX = 20
HEADER_CHARS_MAX = 8_000
"""Of a header's name and value together."""

Style = Literal["full", "minimal"]
Transport = Literal["", "http", "sse"]

_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_SECRET = re.compile(r"[0-9a-f]{64}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class McpServer(Struct, frozen=True):
    """An MCP server of a project's. `headers` go with every request and may be secrets. `transport` "" = HTTP, and SSE
    if it does not speak that."""

    name: str
    url: str
    transport: Transport = ""
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"McpServer({self.name!r})"


class Settings(Struct, frozen=True):
    """A project's. Never shown whole: `secret` is what its webhooks' requests and its users' tokens are signed with,
    64 hex digits. `client_id` is public: 16 bytes in base64url. `webhook` is an address, `connection:NAME`, or "".
    `webhook_style`: how much is said in a webhook's signed token."""

    secret: str
    client_id: str
    webhook: str = ""
    webhook_style: Style = "full"
    mcp_servers: tuple[McpServer, ...] = ()

    def __repr__(self) -> str:
        return f"Settings({self.client_id!r})"


class _Server(Struct, frozen=True, omit_defaults=True):
    """`headers` is sealed JSON, "" = none."""

    name: str
    url: str
    transport: Transport = ""
    headers: str = ""


class _Body(Struct, frozen=True, omit_defaults=True):
    secret: str
    client_id: str
    webhook: str = ""
    webhook_style: Style = "full"
    mcp_servers: tuple[_Server, ...] = ()


class _Kept(Struct, frozen=True):
    version: int
    body: _Body


class ProjectSettings:
    """`webhooks` are the names of the configuration's connections that are webhooks. `new_secret` gives 64 hex digits,
    `new_client_id` 16 bytes in base64url, each from a source of randomness."""

    def __init__(
        self,
        records: Records,
        sealer: Sealer,
        new_secret: Callable[[], str],
        new_client_id: Callable[[], str],
        *,
        clock: Clock,
        webhooks: Collection[str] = (),
    ) -> None:
        self._records = records
        self._sealer = sealer
        self._new_secret = new_secret
        self._new_client_id = new_client_id
        self._clock = clock
        self._webhooks = tuple(webhooks)
        self._cached: dict[ProjectId, tuple[Settings, float]] = {}

    # -- reading ---------------------------------------------------------------------------------------------------

    async def of(self, project: ProjectId) -> Settings:
        """They are made if there are none; as they stood CACHED_S ago at the most. Raises Unavailable if the secret was
        sealed with another key."""
        cached = self._fresh(project)
        if cached is not None:
            return cached
        kept = await self._kept_or_made(project)
        return self._remember(project, self._opened(project, kept.body))

    async def project_of_client(self, client_id: str) -> ProjectId | None:
        """Whose widget that is; None for an id that is none, or is one no more."""
        if _CLIENT_ID.fullmatch(client_id) is None:
            return None
        record = await self._records.get(NOBODY, CLIENTS, client_id)
        if record is None:
            return None
        project = ProjectId(msgspec.json.decode(record.body, type=str))
        cached = self._fresh(project)
        if cached is not None and cached.client_id == client_id:
            return project
        kept = await self._kept(project)  # also where a new id was made since by another process
        if kept is None or kept.body.client_id != client_id:
            return None
        self._remember(project, self._opened(project, kept.body))
        return project

    # -- changing --------------------------------------------------------------------------------------------------

    async def set_webhook(self, project: ProjectId, webhook: str) -> None:
        """ "" = none. Raises BadRequest for what can be no webhook."""
        if webhook.startswith(CONNECTION):
            self._check_connection(webhook.removeprefix(CONNECTION))
        elif webhook:
            check_outside(webhook, field="The webhook")
        await self._change(project, lambda body: replace(body, webhook=webhook))

    async def set_webhook_style(self, project: ProjectId, style: Style) -> None:
        await self._change(project, lambda body: replace(body, webhook_style=style))

    async def put_mcp_server(self, project: ProjectId, server: McpServer) -> None:
        """Set one up, or over the one of its name. Raises BadRequest, also if there are as many as may be."""
        _check_server(server)
        sealed = ""
        if server.headers:
            sealed = self._sealer.seal(msgspec.json.encode(server.headers), _place_of_headers(project, server.name))
        kept = _Server(server.name, server.url, server.transport, sealed)

        def put(body: _Body) -> _Body:
            others = tuple(each for each in body.mcp_servers if each.name != server.name)
            if len(others) >= MCP_SERVERS_MAX:
                raise BadRequest(f"A project has {MCP_SERVERS_MAX} MCP servers at most; remove one first.")
            return replace(body, mcp_servers=tuple(sorted((*others, kept), key=lambda each: each.name)))

        await self._change(project, put)

    async def remove_mcp_server(self, project: ProjectId, name: str) -> None:
        """Raises NotFound."""

        def without(body: _Body) -> _Body:
            others = tuple(each for each in body.mcp_servers if each.name != name)
            if len(others) == len(body.mcp_servers):
                raise NotFound(f"The project has no MCP server {name[:SERVER_NAME_CHARS_MAX]!r}.", what="mcp_server")
            return replace(body, mcp_servers=others)

        await self._change(project, without)

    async def rotate_secret(self, project: ProjectId) -> None:
        """A new secret; the old one signs and proves nothing any more. It helps too where that cannot be read."""
        sealed = self._sealed(project)
        await self._change(project, lambda body: replace(body, secret=sealed))

    async def rotate_client(self, project: ProjectId) -> None:
        """A new client id; the old one is nobody's."""
        client_id = await self._new_client(project)
        gone = ""

        def rotated(body: _Body) -> _Body:
            nonlocal gone
            gone = body.client_id
            return replace(body, client_id=client_id)

        await self._change(project, rotated)
        await self._records.delete(NOBODY, CLIENTS, gone)

    # -- within ----------------------------------------------------------------------------------------------------

    async def _kept_or_made(self, project: ProjectId) -> _Kept:
        kept = await self._kept(project)
        if kept is not None:
            return kept
        body = _Body(self._sealed(project), await self._new_client(project))
        try:
            return await self._put(project, body, expect=0)
        except Conflict:  # somebody was faster
            await self._records.delete(NOBODY, CLIENTS, body.client_id)
        kept = await self._kept(project)
        if kept is None:
            raise NotFound(f"There is no project {project}.", what="project")
        return kept

    async def _change(self, project: ProjectId, change: Callable[[_Body], _Body]) -> None:
        async def changed() -> _Kept:
            kept = await self._kept_or_made(project)
            return await self._put(project, change(kept.body), expect=kept.version)

        await uncrossed(changed)
        self._cached.pop(project, None)

    async def _kept(self, project: ProjectId) -> _Kept | None:
        record = await self._records.get(project, RECORDS, ONLY)
        return None if record is None else _Kept(record.version, _bodies.decode(record.body))

    async def _put(self, project: ProjectId, body: _Body, *, expect: int) -> _Kept:
        record = Record(project, RECORDS, ONLY, msgspec.json.encode(body).decode(), wide=True)
        written = await self._records.put(record, expect=expect)
        return _Kept(written.version, body)

    async def _new_client(self, project: ProjectId) -> str:
        client_id = self._new_client_id()
        if _CLIENT_ID.fullmatch(client_id) is None:
            raise RuntimeError("new_client_id must give 16 bytes in base64url")
        await self._records.put(
            Record(NOBODY, CLIENTS, client_id, msgspec.json.encode(project).decode(), wide=True), expect=0
        )
        return client_id

    def _sealed(self, project: ProjectId) -> str:
        secret = self._new_secret()
        if _SECRET.fullmatch(secret) is None:
            raise RuntimeError("new_secret must give 64 hex digits")
        return self._sealer.seal(secret.encode(), _place_of_secret(project))

    def _opened(self, project: ProjectId, body: _Body) -> Settings:
        secret = self._sealer.open(body.secret, _place_of_secret(project)).decode()
        servers = tuple(self._opened_server(project, server) for server in body.mcp_servers)
        return Settings(secret, body.client_id, body.webhook, body.webhook_style, servers)

    def _opened_server(self, project: ProjectId, server: _Server) -> McpServer:
        headers: tuple[tuple[str, str], ...] = ()
        if server.headers:
            plain = self._sealer.open(server.headers, _place_of_headers(project, server.name))
            headers = msgspec.json.decode(plain, type=tuple[tuple[str, str], ...])
        return McpServer(server.name, server.url, server.transport, headers)

    def _fresh(self, project: ProjectId) -> Settings | None:
        cached = self._cached.get(project)
        return None if cached is None or self._clock.monotonic() >= cached[1] else cached[0]

    def _remember(self, project: ProjectId, settings: Settings) -> Settings:
        if len(self._cached) >= CACHED_MAX:
            self._cached.clear()
        self._cached[project] = (settings, self._clock.monotonic() + CACHED_S)
        return settings

    def _check_connection(self, name: str) -> None:
        if name in self._webhooks:
            return
        there = f"There are: {', '.join(self._webhooks)}." if self._webhooks else "There is none."
        raise BadRequest(
            f'{CONNECTION}{name[:SERVER_NAME_CHARS_MAX]} is no connection of kind "webhook" in the configuration.'
            f" {there}"
        )


_bodies = msgspec.json.Decoder(_Body)


def check_outside(url: str, *, field: str) -> None:
    """Raises BadRequest for what is no address, and for one that names this machine or a private network: what lies
    there is reached by connections of the configuration file alone. Where a name leads is looked at when it is used."""
    host = host_of(url, field=field)
    name = host.lower().rstrip(".")
    address = literal(name)
    if address is None and is_numeric(name):
        raise BadRequest(f"{field}: write {host[:100]} as a name, or as an address of four numbers.")
    inside = is_local(name) if address is None else not address.is_global
    if inside:
        raise BadRequest(
            f"{field}: {host} is this machine or a private network. What lies there is for the operator to open: set it"
            f" up as a connection in the configuration file, and name that ({CONNECTION}NAME for a webhook)."
        )


def _check_server(server: McpServer) -> None:
    name = server.name
    if not name.strip() or len(name) > SERVER_NAME_CHARS_MAX or not name.isprintable():
        raise BadRequest(f"The name of an MCP server has 1 to {SERVER_NAME_CHARS_MAX} printable characters.")
    check_outside(server.url, field="The MCP server's url")
    check_headers(server.headers)


def check_headers(headers: Sequence[tuple[str, str]]) -> None:
    """Raises BadRequest."""
    if len(headers) > HEADERS_MAX:
        raise BadRequest(f"At most {HEADERS_MAX} headers are taken.")
    for name, value in headers:
        if _HEADER_NAME.fullmatch(name) is None:
            raise BadRequest(f"{name[:100]!a} is not the name of a header.")
        if not (value.isascii() and value.isprintable()) or len(name) + len(value) > HEADER_CHARS_MAX:
            raise BadRequest(
                f"The header {name[:100]}: its value is one line of printable ASCII, {HEADER_CHARS_MAX} characters at"
                " most with its name."
            )


def _place_of_secret(project: ProjectId) -> str:
    return f"project secret {project}"


def _place_of_headers(project: ProjectId, server: str) -> str:
    return f"mcp server {project} {server}"
