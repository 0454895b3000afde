"""The MCP servers of the configuration, as `tools.mcp` takes them."""

from collections.abc import Mapping

from dragoman.server.config_checks import MCP
from dragoman.server.config_shapes import Config
from dragoman.tools.mcp.servers import STDIO, Server

PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR", "TZ")
"""Variables that every command is given. All others hold what is nobody's business until `env` names them."""


def mcp_servers(config: Config, env: Mapping[str, str]) -> tuple[Server, ...]:
    """The connections of the kind `mcp`, with their secrets, in the configuration's order."""
    return tuple(
        Server(
            name,
            table.url,
            STDIO if table.command else table.transport,
            table.request_headers,
            table.command,
            tuple((key, env[key]) for key in dict.fromkeys((*PASSED_ON, *table.env)) if key in env)
            if table.command
            else (),
            float(table.timeout_s),
            table.tools,
            trusted=True,
        )
        for name, table in config.connections.items()
        if table.kind == MCP
    )
