"""An MCP server for tests, made with the SDK, over each of its transports.

    python -m tests.mcp_server            speaks over stdin and stdout; tests.mcp_program is one that starts sooner

In a test, `serving(tools())` is a server over HTTP at `url/mcp` and, older, at `url/sse`.
"""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

PNG = bytes(range(60))


def tools(*, name: str = "helpdesk") -> MCPServer:
    """What the tests call."""
    server = MCPServer(name, log_level="CRITICAL")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def echo(text: str) -> str:
        """Say it again."""
        return text

    @server.tool(annotations=ToolAnnotations(idempotent_hint=True))
    async def find_ticket(number: int) -> dict[str, Any]:
        """Look a ticket up."""
        return {"number": number, "state": "open"}

    @server.tool(structured_output=False)
    async def key(context: Context[Any]) -> str:
        """What the caller's key is, and its headers."""
        meta: Any = context.request_context.meta or {}
        headers = context.headers or {}
        return f"{meta.get('dragoman/key')} {headers.get('x-team')} {headers.get('host', '').partition(':')[0]}"

    @server.tool(structured_output=False)
    async def region(place: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Place"})]) -> str:
        """Has an argument that travels in a header too."""
        return f"in {place}"

    @server.tool()
    async def fail(text: str) -> str:
        """Fail."""
        raise ToolError(text)

    @server.tool()
    async def wait(seconds: float) -> str:
        """Take long."""
        await asyncio.sleep(seconds)
        return "done"

    @server.tool(structured_output=False)
    async def big(size: int) -> str:
        """Say much."""
        return "x" * size

    @server.tool(structured_output=False)
    async def picture() -> list[Any]:
        """A picture and a word about it."""
        return ["a picture", Image(data=PNG, format="png")]

    @server.tool(structured_output=False)
    async def environment() -> str:
        """The names of its variables."""
        return " ".join(sorted(os.environ))

    return server


def change(server: MCPServer, description: str) -> None:
    """`echo` is another tool from now on."""

    async def echo(text: str) -> str:
        return text

    server.remove_tool("echo")
    server.add_tool(echo, description=description, annotations=ToolAnnotations(read_only_hint=True))


@dataclass
class Served:
    """`requests` are method, path and headers of each that came."""

    url: str
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list[tuple[str, str, dict[str, str]]])

    def asked(self, method: str) -> int:
        return sum(1 for each, _, _ in self.requests if each == method)


@contextmanager
def serving(server: MCPServer, *, over: tuple[str, ...] = ("http", "sse")) -> Generator[Served]:
    """In a thread with a loop of its own, on a free port of loopback."""
    http = server.streamable_http_app()
    routes: list[BaseRoute] = [*http.routes] if "http" in over else []
    routes += server.sse_app().routes if "sse" in over else []
    with served_app(Starlette(routes=routes, lifespan=http.router.lifespan_context)) as served:
        yield served


class Prompt(uvicorn.Server):
    """Ends within 10 ms of being told to, and not within 100: there are a hundred of them."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            await asyncio.sleep(0.01)


@contextmanager
def served_app(app: ASGIApp) -> Generator[Served]:
    served = Served("")

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            served.requests.append((scope["method"], scope["path"], headers))
        await app(scope, receive, send)

    listening = socket.create_server(("127.0.0.1", 0))
    served.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    config = uvicorn.Config(
        watched, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1, lifespan="on"
    )
    running = Prompt(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        running.should_exit = True
        running.force_exit = True
        thread.join(10)
        listening.close()


def command() -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.mcp_server")


if __name__ == "__main__":
    tools().run("stdio")
