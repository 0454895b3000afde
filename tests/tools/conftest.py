"""What the tests of tools share: calling a registered tool, and an HTTP server on loopback that obeys the test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ProjectId
from dragoman.runtime.tool_ports import CallContext, ToolOutcome
from dragoman.tools.registry import Registry

Call = Callable[..., Awaitable[ToolOutcome]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]

CONTEXT = CallContext(ProjectId("default"), "run-1:call-1")


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def call(registry: Registry) -> Call:
    async def call(name: str, arguments: str | None = None, **given: Any) -> ToolOutcome:
        text = msgspec.json.encode(given).decode() if arguments is None else arguments
        return await registry.call(ToolCall(CallId("call-1"), name, text), CONTEXT)

    return call


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server whose every path is answered by a handler; its address."""
    runners: list[web.AppRunner] = []

    async def serve(handler: Handler) -> str:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}"

    yield serve
    for runner in runners:
        await runner.cleanup()
