"""What no single key shows: that names refer to something, that addresses and kinds are known."""

import pkgutil
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

from dragoman import dialects
from dragoman.access.projects import check_project_id
from dragoman.core.errors import BadRequest
from dragoman.models.openai_request import OURS
from dragoman.models.retrying import CONNECT_TOTAL_S
from dragoman.server import masking_rules, workflow_tables
from dragoman.server.config_reading import Faults, nearest
from dragoman.server.config_shapes import (
    ASSISTANT,
    OFFLINE,
    AgentTable,
    Config,
    ConnectionTable,
    ModelTable,
    OfflineModel,
    OpenAIModel,
    ScriptedModel,
    Server,
    StoreTable,
    Timeouts,
)
from dragoman.server.quantities import parse_address, show_duration

SYSTEMS: Mapping[str, str] = {
    "grafana": "Grafana Assistant",
    "elastic": "Elastic Observability AI Assistant",
    "grip": "Grip AI",
    "rowboat": "Rowboat",
}
"""The four systems this project exists for, by the name of their dialect."""

LEASE_MIN_S, LEASE_MAX_S = 1, 600
"""Below, a busy server loses its runs to its neighbours; above, nobody would wait for it."""

DRAIN_MAX_S = 600
"""Nobody updates a server that takes longer to stop."""

APPROVAL_MAX_S = 86_400
"""A run that waits keeps its conversation from going on."""

MCP = "mcp"
WEBHOOK = "webhook"
CONNECTION_KINDS = ("prometheus", "elasticsearch", MCP, WEBHOOK)
MCP_TRANSPORTS = ("http", "sse", "stdio")
MCP_TIMEOUT_MAX_S = 600
"""A turn may not take longer either, unless it is told to."""

REFUSED_KINDS: Mapping[str, Mapping[str, str]] = {
    "models": {"provider": 'kind "provider" is not part of this version; use kind "openai" for any compatible server'},
    "connections": {
        kind: f'kind "{kind}" is not part of this version; known are: {", ".join(CONNECTION_KINDS)}'
        for kind in ("grafana",)
    },
}
"""Kinds that are documented and cannot be had yet, with what to say."""


_BASE_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
"""Lower case, no path, not even a slash (RFC 6454, 6.2). Browser extensions have schemes of their own."""


def installed_dialects() -> tuple[str, ...]:
    """Names of the installed dialects, without importing them."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(dialects.__path__) if module.ispkg))


def complete(config: Config, *, folder: Path) -> Config:
    """Fill in what goes without saying: the offline model, the one agent, which of several is the default, and where a
    script lies (`folder` is the config file's)."""
    models = {name: _absolute(table, folder) for name, table in config.models.items()} or {OFFLINE: OfflineModel()}
    agents = config.agents or {ASSISTANT: AgentTable()}
    defaults = msgspec.structs.replace(
        config.defaults,
        model=config.defaults.model or _only(models, "main"),
        agent=config.defaults.agent or _only(agents, ASSISTANT),
    )
    return msgspec.structs.replace(config, models=models, agents=agents, defaults=defaults)


def check(config: Config, faults: Faults) -> None:
    """Note every fault of a completed config."""
    _check_server(config, faults)
    _check_defaults(config, faults)
    for name, table in config.models.items():
        _check_model(name, table, config.models, faults)
    for name, agent in config.agents.items():
        if agent.model and agent.model not in config.models:
            faults.add(f"agents.{name}.model", _no_such("model", agent.model, config.models))
        if not 1 <= agent.approval_s <= APPROVAL_MAX_S:
            faults.add(f"agents.{name}.approval", f"must be from 1s to {show_duration(APPROVAL_MAX_S)}")
    for name in config.workflows:
        if name in config.agents:
            faults.add(f"workflows.{name}", "an agent has this name too, and callers ask for either by it; rename one")
    workflow_tables.read_workflows(config, faults)
    for name, connection in config.connections.items():
        _check_connection(f"connections.{name}", connection, faults)
    masking_rules.finders(config.anonymization.rules, faults)


def _absolute(table: ModelTable, folder: Path) -> ModelTable:
    if isinstance(table, ScriptedModel):
        return msgspec.structs.replace(table, file=str(folder / table.file))
    return table


def _only(names: Iterable[str], usual: str) -> str:
    """The default among names: the usual one, or the only one; "" if that is not clear."""
    known = list(names)
    if usual in known:
        return usual
    return known[0] if len(known) == 1 else ""


def _check_server(config: Config, faults: Faults) -> None:
    try:
        parse_address(config.server.listen)
    except ValueError as error:
        faults.add("server.listen", str(error))
    for text in config.server.trusted_proxies:
        try:
            ip_network(text, strict=False)
        except ValueError:
            faults.add("server.trusted_proxies", f'"{text}" is neither an address nor a network such as 10.0.0.0/8')
    _check_addresses(config.server, faults)
    known = installed_dialects()
    for name in config.server.dialects:
        if name not in known:
            faults.add("server.dialects", _no_dialect(name, known))
    for name in config.dialects:
        if name not in known:
            faults.add(f"dialects.{name}", _no_dialect(name, known))
    if config.server.drain_s > DRAIN_MAX_S:
        faults.add("server.drain", "must be at most 10m")
    _check_store(config.store, faults)
    if not config.workspace.root:
        faults.add("workspace.root", 'must name a folder; the default is "workspace"')


def _check_addresses(server: Server, faults: Faults) -> None:
    """How callers reach us, and from where."""
    if server.public_url:
        _check_url("server.public_url", server.public_url, faults)
    if server.base_path and _BASE_PATH.fullmatch(server.base_path) is None:
        faults.add(
            "server.base_path", f'"{server.base_path}" is not a path such as /grafana, without a slash at its end'
        )
    for origin in server.cors_origins:
        if origin != "*" and _ORIGIN.fullmatch(origin) is None:
            faults.add(
                "server.cors_origins",
                f'"{origin}" is not an origin as browsers send it, such as https://app.example.com or'
                ' http://localhost:3000; "*" allows every page',
            )


def _check_store(store: StoreTable, faults: Faults) -> None:
    scheme, colon, rest = store.url.partition(":")
    if store.is_postgres:
        try:
            parts = urlsplit(store.url)
            named = bool(parts.path.strip("/"))
            clear = parts.password is not None or "password" in parse_qs(parts.query)
        except ValueError:
            named, clear = False, False
        if not named:
            faults.add("store.url", "must name a database: postgresql://USER@HOST:PORT/DATABASE")
        if clear:
            faults.add("store.url", 'holds a password in clear; write it as store.password = "${PGPASSWORD}"')
    elif scheme != "sqlite" or not colon or not rest.strip("/"):
        faults.add(
            "store.url",
            f'"{store.url}" is not a store; write "sqlite:dragoman.db" or "postgresql://USER@HOST/DATABASE"',
        )
    if not LEASE_MIN_S <= store.lease_s <= LEASE_MAX_S:
        faults.add("store.lease", f"must be from {LEASE_MIN_S} s to {LEASE_MAX_S} s")
    if store.wakeups and not (store.is_postgres and store.wakeups.startswith(("redis://", "rediss://", "unix://"))):
        faults.add("store.wakeups", "is a redis:// URL, and for a store in PostgreSQL only")
    elif "@" in store.wakeups:
        faults.add("store.wakeups", "may hold no password: wake-ups carry nothing, so a Redis without one will do")


def _no_dialect(name: str, known: Iterable[str]) -> str:
    if name in SYSTEMS:
        return f"the dialect {name} ({SYSTEMS[name]}) is not part of this version; installed are: {', '.join(known)}"
    return _no_such("dialect", name, known)


def _check_defaults(config: Config, faults: Faults) -> None:
    defaults = config.defaults
    try:
        check_project_id(defaults.project)
    except BadRequest as error:
        faults.add("defaults.project", error.detail)
    for key, name, known in (
        ("model", defaults.model, list(config.models)),
        ("agent", defaults.agent, [*config.agents, *config.workflows]),
    ):
        if not name:
            faults.add(f"defaults.{key}", f"is not set, and there are several: {', '.join(known)}")
        elif name not in known:
            faults.add(f"defaults.{key}", _no_such(key, name, known))
    if defaults.workflow and defaults.workflow not in config.workflows:
        faults.add("defaults.workflow", _no_such("workflow", defaults.workflow, config.workflows))


def _check_model(name: str, table: ModelTable, models: Mapping[str, ModelTable], faults: Faults) -> None:
    path = f"models.{name}"
    for other in table.fallback:
        if other not in models:
            faults.add(f"{path}.fallback", _no_such("model", other, models))
        elif other == name:
            faults.add(f"{path}.fallback", "names the model itself, which has failed by then")
    match table:
        case OpenAIModel(url=url):
            _check_url(f"{path}.url", url, faults)
            if not table.model_name:
                faults.add(f"{path}.name", "must say what the server calls the model")
            _check_timeouts(f"{path}.timeout", table.timeout, faults)
            for key in OURS:
                if key in table.params:
                    faults.add(f"{path}.params.{key}", "is set by this program; take it out")
        case ScriptedModel(file=file):
            if not Path(file).is_file():
                faults.add(f"{path}.file", f"there is no file {file}")
        case OfflineModel():
            pass


def _check_timeouts(path: str, timeouts: Timeouts, faults: Faults) -> None:
    for key, seconds in (
        ("connect", timeouts.connect_s),
        ("first", timeouts.first_s),
        ("idle", timeouts.idle_s),
        ("total", timeouts.total_s),
    ):
        if not seconds:
            faults.add(f"{path}.{key}", "must be longer than nothing")
    if timeouts.connect_s > CONNECT_TOTAL_S:
        most = show_duration(CONNECT_TOTAL_S)
        faults.add(f"{path}.connect", f"must be {most} at most: longer nobody waits for a server that is not there")


def _check_connection(path: str, table: ConnectionTable, faults: Faults) -> None:
    if table.kind not in CONNECTION_KINDS:
        refused = REFUSED_KINDS["connections"].get(table.kind)
        faults.add(
            f"{path}.kind", refused or f'there is no kind "{table.kind}"; {nearest(table.kind, CONNECTION_KINDS)}'
        )
    if table.kind == MCP:
        _check_mcp(path, table, faults)
    elif not table.url:
        faults.add(f"{path}.url", "is missing")
    else:
        _check_url(f"{path}.url", table.url, faults)
    if table.kind != MCP:
        for key, given in (("transport", table.transport), ("command", table.command), ("env", table.env)):
            if given:
                faults.add(f"{path}.{key}", f'is for the kind "{MCP}"; take it out')


def _check_mcp(path: str, table: ConnectionTable, faults: Faults) -> None:
    if table.transport and table.transport not in MCP_TRANSPORTS:
        faults.add(
            f"{path}.transport",
            f'there is no transport "{table.transport}"; {nearest(table.transport, MCP_TRANSPORTS)}',
        )
    elif table.url and table.command:
        faults.add(path, "has both url and command; a server is reached either way")
    elif table.command or table.transport == "stdio":
        if not table.command or not table.command[0]:
            faults.add(f"{path}.command", 'must name a program: command = ["uvx", "mcp-server-time"]')
        if table.transport not in ("", "stdio"):
            faults.add(f"{path}.transport", f'is "{table.transport}", and a command speaks stdio')
        if table.key or table.headers:
            faults.add(path, "has no use for key and headers: a command is given its secrets by env")
    elif not table.url:
        faults.add(f"{path}.url", "is missing; a server that is a program on this machine has a command instead")
    else:
        _check_url(f"{path}.url", table.url, faults)
        if table.env:
            faults.add(f"{path}.env", "is for a command; take it out")
    for name, value in table.request_headers:
        if not (value.isascii() and value.isprintable()):
            faults.add(path, f"the header {name} must be one line of printable ASCII")
    if not 0 < table.timeout_s <= MCP_TIMEOUT_MAX_S:
        faults.add(f"{path}.timeout", f"must be longer than nothing and {show_duration(MCP_TIMEOUT_MAX_S)} at most")


def _check_url(path: str, url: str, faults: Faults) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        faults.add(path, f'"{url}" is not a URL')
        return
    if not usable:
        faults.add(path, f'"{url}" is not a URL that begins with http:// or https://')
    elif parts.username or parts.password:
        faults.add(path, "must not hold a password; put it into `key` or `headers` as ${NAME}")
    elif parts.query or parts.fragment:
        faults.add(path, "must end with its path: no ? and no #")


def _no_such(what: str, name: str, known: Iterable[str]) -> str:
    return f'there is no {what} "{name}"; {nearest(name, known)}'
