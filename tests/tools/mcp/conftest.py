"""What the tests of MCP share: a caller with records in memory, and servers made with the SDK.

Where that is not installed, those of the tests are skipped that need it: it is imported by them, and here at last.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from dragoman.core.names import ProjectId
from dragoman.runtime.project_settings import McpServer
from dragoman.stores.memory.records import MemoryRecords
from dragoman.tools.mcp.caller import McpCaller
from dragoman.tools.mcp.pins import Pins
from dragoman.tools.mcp.servers import Server
from tests.support import FixedClock

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from tests.mcp_server import Served

P = ProjectId("p-1")

Make = Callable[..., McpCaller]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def pins(clock: FixedClock) -> Pins:
    return Pins(MemoryRecords(clock))


@pytest.fixture
def make(pins: Pins, clock: FixedClock) -> Make:
    """A caller: `own` are the project's servers, the others connections."""

    def make(*configured: Server, own: Sequence[McpServer] = (), **given: object) -> McpCaller:
        async def servers(project: ProjectId) -> Sequence[McpServer]:
            return own if project == P else ()

        return McpCaller(servers, configured, pins, clock, **given)  # pyright: ignore[reportArgumentType] - as given

    return make


@pytest.fixture
def helpdesk() -> "MCPServer":
    from tests.mcp_server import tools  # noqa: PLC0415 only for those that need it

    return tools()


@pytest.fixture
def served(helpdesk: "MCPServer") -> "Iterator[Served]":
    from tests.mcp_server import serving  # noqa: PLC0415 as above

    with serving(helpdesk) as served:
        yield served


def at(url: str, **given: object) -> Server:
    """A connection."""
    return Server("helpdesk", url, trusted=True, **given)  # pyright: ignore[reportArgumentType] - as given
