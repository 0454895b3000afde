"""A help desk as an MCP server, made with the SDK."""

from collections.abc import Generator
from contextlib import contextmanager

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from tests.mcp_server import Served, serving


@contextmanager
def helpdesk_of(tickets: list[tuple[str, str]]) -> Generator[Served]:
    """Tickets that are opened go into the list: what about, and how urgent."""
    server = MCPServer("helpdesk", log_level="CRITICAL")

    @server.tool()
    async def open_ticket(summary: str, priority: str = "normal") -> str:
        """Write a ticket."""
        if summary == "refuse":
            raise ToolError("No more tickets today.")
        tickets.append((summary, priority))
        return f"ticket T-{len(tickets)}"

    with serving(server) as served:
        yield served
