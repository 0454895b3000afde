"""What an MCP server is to us: where it is, how it is spoken to, and who vouches for it."""

from msgspec import Struct

KIND = "mcp"
"""Of connections in the configuration."""
HTTP = "http"
"""Streamable HTTP (MCP 2025-03-26 and later)."""
SSE = "sse"
"""HTTP with SSE, of MCP 2024-11-05."""
STDIO = "stdio"
TIMEOUT_S = 30.0


class Server(Struct, frozen=True):
    """One server. Either `url` or `command` is set; `transport` "" = HTTP, and SSE if it does not speak that.

    `headers` go with every request and may hold secrets. `env` is what the command is given besides a few harmless
    variables. `tools` are patterns of those that may be used. `trusted`: the configuration names it, so it may be
    anywhere; any other must have public addresses and no command.
    """

    name: str
    url: str = ""
    transport: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    timeout_s: float = TIMEOUT_S
    tools: tuple[str, ...] = ("*",)
    trusted: bool = False

    def __repr__(self) -> str:
        return f"Server({self.name!r})"

    @property
    def where(self) -> str:
        """For people."""
        return self.url or " ".join(self.command)
