"""Pinned tools in the registry."""

import logging

import msgspec
import pytest

from dragoman.core.agents import Repeat
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId
from dragoman.runtime.tool_ports import CallContext, ToolOutcome
from dragoman.tools.mcp.definitions import Definition
from dragoman.tools.mcp.pins import NOBODY, Pins
from dragoman.tools.mcp.toolset import AFTER_S, register_mcp, spec_of
from dragoman.tools.registry import Registry
from tests.support import FixedClock
from tests.tools.mcp.conftest import Make, P, at

pytest.importorskip("mcp", reason="the MCP SDK is not installed: pip install 'dragoman[mcp]'")

from mcp.server.mcpserver import MCPServer

from tests.mcp_server import Served, change

CONTEXT = CallContext(P, "run-1:call-1")


async def call(registry: Registry, name: str, **arguments: object) -> ToolOutcome:
    return await registry.call(ToolCall(CallId("c"), name, msgspec.json.encode(arguments).decode()), CONTEXT)


async def test_the_pinned_tools_of_connections_are_offered(make: Make, served: Served, pins: Pins) -> None:
    server = at(f"{served.url}/mcp", timeout_s=9.0)
    caller = make(server)
    await pins.put(NOBODY, "helpdesk", await caller.tools(await caller.find(P, "helpdesk")))
    served.requests.clear()
    registry = Registry()
    await register_mcp(registry, pins, caller, (server, at("http://127.0.0.1:1/mcp")))
    assert served.requests == []

    specs = {spec.name: spec for spec in registry.specs(("mcp.helpdesk.*",))}
    assert {name: specs[f"helpdesk_{name}"].repeat for name in ("echo", "find_ticket", "fail")} == {
        "echo": Repeat.PURE,
        "find_ticket": Repeat.IDEMPOTENT,
        "fail": Repeat.ONCE,
    }
    echo = specs["helpdesk_echo"]
    assert (echo.description, echo.toolset, echo.timeout_s) == ("Say it again.", "mcp.helpdesk", 9.0 + AFTER_S)
    assert (await call(registry, "helpdesk_echo", text="a")).content == "a"
    assert (await call(registry, "helpdesk_key")).content.startswith("run-1:call-1 ")
    assert (await call(registry, "helpdesk_echo")).code == "bad_arguments"
    failed = await call(registry, "helpdesk_fail", text="no such customer")
    assert (failed.is_error, "no such customer" in failed.content) == (True, True)


async def test_one_that_changed_is_an_error_the_model_is_told(
    make: Make, served: Served, helpdesk: MCPServer, pins: Pins, clock: FixedClock
) -> None:
    server = at(f"{served.url}/mcp")
    caller = make(server)
    await pins.put(NOBODY, "helpdesk", await caller.tools(await caller.find(P, "helpdesk")))
    registry = Registry()
    await register_mcp(registry, pins, caller, (server,))
    change(helpdesk, "Other.")
    clock.move(3600)

    outcome = await call(registry, "helpdesk_echo", text="a")
    assert (outcome.code, "dragoman mcp pin helpdesk" in outcome.content) == ("changed", True)


async def test_one_that_cannot_be_offered_keeps_nobody_from_starting(
    make: Make, pins: Pins, caplog: pytest.LogCaptureFixture
) -> None:
    server = at("http://127.0.0.1:1/mcp", tools=("a", "b", "bad"))
    await pins.put(
        NOBODY,
        "helpdesk",
        (
            Definition("a", "1"),
            Definition("a", "2"),
            Definition("bad", "3", parameters={"properties": 7}),
            Definition("other", "4"),
            Definition("b", "5"),
        ),
    )
    registry = Registry()
    with caplog.at_level(logging.WARNING, "dragoman.tools"):
        await register_mcp(registry, pins, make(server), (server,))

    assert [spec.name for spec in registry.specs(("*",))] == ["helpdesk_a", "helpdesk_b"]
    assert [record.getMessage().split(":")[1] for record in caplog.records] == [
        " 'a' is not offered",
        " 'bad' is not offered",
    ]


def test_a_tool_without_a_description_or_an_object_gets_one() -> None:
    spec = spec_of(at("http://h/mcp"), Definition("a", "1", parameters={"type": "string"}))
    assert spec.description == "The tool a of the MCP server helpdesk."
    assert spec.parameters == {"type": "object", "properties": {}}
