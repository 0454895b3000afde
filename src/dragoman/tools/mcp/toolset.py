"""The tools of pinned connections, for every agent: `{server}_{tool}`, in the toolset `mcp.{server}`.

What a model is shown comes from the pin: no server is asked when ours starts, and none can change what stands there.
"""

import logging
from collections.abc import Mapping, Sequence

from dragoman.core.agents import NO_ARGUMENTS, JsonSchema, ToolSpec
from dragoman.runtime.tool_ports import CallContext
from dragoman.tools.arguments import Arguments, Run
from dragoman.tools.mcp.caller import McpCaller
from dragoman.tools.mcp.definitions import Definition, allowed, registered_name
from dragoman.tools.mcp.pins import NOBODY, Pins
from dragoman.tools.mcp.servers import Server
from dragoman.tools.registry import Registry

logger = logging.getLogger("dragoman.tools")

TOOLSET = "mcp"
AFTER_S = 5.0
"""On top of a server's own limit, whose sentence says more, and for ending a program."""


async def register_mcp(registry: Registry, pins: Pins, caller: McpCaller, connections: Sequence[Server]) -> None:
    """Offer the pinned tools of these. One that cannot be offered is left out, with a warning: it is somebody else's
    text, and no reason not to start."""
    pinned = await pins.all(NOBODY)
    for server in connections:
        pin = pinned.get(server.name)
        for tool in pin.tools if pin is not None else ():
            if not allowed(server.tools, tool.name):
                continue
            try:
                registry.register(spec_of(server, tool), _run(caller, server, tool))
            except ValueError as error:
                logger.warning("mcp server %s: %s is not offered: %s", server.name, ascii(tool.name), error)


def spec_of(server: Server, tool: Definition) -> ToolSpec:
    """As models and people are shown it."""
    return ToolSpec(
        registered_name(server.name, tool.name),
        tool.description or f"The tool {tool.name} of the MCP server {server.name}.",
        _object(tool.parameters),
        repeat=tool.repeat,
        toolset=f"{TOOLSET}.{server.name}",
        timeout_s=server.timeout_s + AFTER_S,
    )


def _object(schema: Mapping[str, object]) -> JsonSchema:
    """Every tool takes an object, whatever its server says or forgets to say."""
    return NO_ARGUMENTS | dict(schema) | {"type": "object"}


def _run(caller: McpCaller, server: Server, tool: Definition) -> Run:
    async def run(arguments: Arguments, context: CallContext) -> str:
        return await caller.say(server, tool.name, arguments, context.key, expected=tool.digest)

    return run
