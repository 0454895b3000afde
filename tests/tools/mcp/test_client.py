"""Calls over each transport of a server that is made with the SDK."""

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dragoman.core.errors import ToolFailed
from dragoman.tools.mcp.caller import McpCaller
from dragoman.tools.mcp.definitions import TOOLS_MAX
from dragoman.tools.mcp.servers import Server
from tests import mcp_program
from tests.certificates import server_tls
from tests.checkout import ROOT
from tests.tools.mcp.conftest import Make, P, at

pytest.importorskip("mcp", reason="the MCP SDK is not installed: pip install 'dragoman[mcp]'")

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ResourceLink, SamplingMessage, TextContent

from tests.mcp_server import PNG, Served, command, serving


def program(command: tuple[str, ...], **env: str) -> Server:
    given = {"PATH": os.environ["PATH"]} | env
    return Server("helpdesk", transport="stdio", command=command, env=tuple(given.items()), trusted=True)


async def said(make: Make, server: Server, tool: str, *, timeout_s: float = 20.0, **arguments: object) -> str:
    return await make(server).call(P, "helpdesk", tool, arguments, "run-1:call-1", timeout_s)


async def failing(make: Make, server: Server, tool: str, *, timeout_s: float = 20.0, **arguments: object) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await said(make, server, tool, timeout_s=timeout_s, **arguments)
    return caught.value


@pytest.fixture(params=["http", "sse", "stdio"])
def server(request: pytest.FixtureRequest) -> Server:
    if request.param == "stdio":
        return program(mcp_program.command())
    served: Served = request.getfixturevalue("served")
    return at(f"{served.url}/{'mcp' if request.param == 'http' else 'sse'}", transport=request.param)


async def test_a_call_gives_the_content_items(make: Make, server: Server) -> None:
    assert json.loads(await said(make, server, "echo", text="grüß")) == [{"type": "text", "text": "grüß"}]


async def test_a_program_that_the_sdk_made_is_a_server_too(make: Make) -> None:
    server = program(command(), PYTHONPATH=f"{ROOT}:{ROOT / 'src'}")
    assert json.loads(await said(make, server, "echo", text="grüß")) == [{"type": "text", "text": "grüß"}]


async def test_structured_content_and_pictures_are_items_too(make: Make, server: Server) -> None:
    (item,) = json.loads(await said(make, server, "find_ticket", number=7))
    assert json.loads(item["text"]) == {"number": 7, "state": "open"}
    assert json.loads(await said(make, server, "picture")) == [
        {"type": "text", "text": "a picture"},
        {"type": "image", "mimeType": "image/png", "bytes": len(PNG)},
    ]


async def test_a_result_that_is_an_error_is_told_in_its_words(make: Make, server: Server) -> None:
    error = await failing(make, server, "fail", text="no such customer")

    assert error.code == "tool_failed"
    assert error.detail.startswith("fail of the MCP server helpdesk failed:")
    assert "no such customer" in error.detail


async def test_a_tool_that_is_not_there_is_an_error(make: Make, server: Server) -> None:
    assert "nope" in (await failing(make, server, "nope")).detail


async def test_who_answers_too_late_is_left(make: Make, server: Server) -> None:
    error = await failing(make, server, "wait", seconds=20, timeout_s=1.0)

    assert error.code == "timeout"
    assert error.detail == (
        "The MCP server helpdesk did not answer within 1 s and was left. It may still have had its effect: look"
        " before you repeat it."
    )


async def test_an_answer_that_is_too_long_is_refused(make: Make, server: Server) -> None:
    error = await failing(make, server, "big", size=1024 * 1024)
    assert "Ask for less at a time." in error.detail or "event that is too long" in error.detail


async def test_nothing_is_read_beyond_the_limit_of_a_connection(make: Make, server: Server) -> None:
    error = await failing(make, server, "big", size=5 * 1024 * 1024)
    wanted = "sent an event that is too long" if server.transport == "sse" else "answered with more than 4 MiB"
    assert wanted in error.detail


async def test_the_key_travels_with_the_call(make: Make, server: Server) -> None:
    (item,) = json.loads(await said(make, server, "key"))
    assert item["text"].startswith("run-1:call-1 ")


# -- over HTTP -------------------------------------------------------------------------------------------------------


async def test_headers_go_with_every_request_but_not_those_of_the_request_itself(make: Make, served: Served) -> None:
    headers = (("X-Team", "checkout"), ("Host", "internal.example.com"), ("User-Agent", "me"))
    (item,) = json.loads(await said(make, at(f"{served.url}/mcp", headers=headers), "key"))

    assert item["text"] == "run-1:call-1 checkout 127.0.0.1"
    assert {each["x-team"] for _, _, each in served.requests} == {"checkout"}
    assert {each["user-agent"] for _, _, each in served.requests} == {"dragoman"}


async def test_what_is_secret_in_them_does_not_come_back(make: Make, served: Served) -> None:
    caller = make(at(f"{served.url}/mcp", headers=(("X-Team", "team-secret-4711"),)))
    (item,) = json.loads(await caller.call(P, "helpdesk", "key", {}, "k", 20.0))
    assert item["text"] == "k [secret] 127.0.0.1"

    configured = caller.configured["helpdesk"]
    expected = await pinned(caller, "key")
    assert await caller.say(configured, "key", {}, "k", expected=expected) == "k [secret] 127.0.0.1"
    with pytest.raises(ToolFailed, match=r"failed: .*\[secret\]"):
        await caller.call(P, "helpdesk", "fail", {"text": "not for team-secret-4711"}, "k", 20.0)


async def pinned(caller: McpCaller, tool: str) -> str:
    """Pin all that it has; the digest of one."""
    found = await caller.find(P, "helpdesk")
    pin = await caller.pins.put(found.project, "helpdesk", await caller.tools(found))
    one = pin.tool(tool)
    assert one is not None
    return one.digest


async def test_an_argument_that_travels_in_a_header_does(make: Make, served: Served) -> None:
    (item,) = json.loads(await said(make, at(f"{served.url}/mcp"), "region", place="Oslo"))

    assert item["text"] == "in Oslo"
    assert served.requests[-1][2]["mcp-param-place"] == "Oslo"


async def test_a_server_of_before_streamable_http_is_found_out(make: Make, helpdesk: MCPServer) -> None:
    with serving(helpdesk, over=("sse",)) as served:
        caller = make(at(f"{served.url}/sse"))
        for _ in range(2):
            text = await caller.call(P, "helpdesk", "echo", {"text": "a"}, "k", 20.0)
            assert json.loads(text) == [{"type": "text", "text": "a"}]
        posts = [path for method, path, _ in served.requests if method == "POST" and path == "/sse"]
        # Once: what it speaks is remembered.
        assert 1 <= len(posts) <= 2
        first = len(posts)
        await caller.call(P, "helpdesk", "echo", {"text": "a"}, "k", 20.0)
        assert len([p for m, p, _ in served.requests if m == "POST" and p == "/sse"]) == first


async def test_a_path_that_speaks_no_mcp_is_said(make: Make, served: Served) -> None:
    error = await failing(make, at(f"{served.url}/nothing"), "echo", text="a")
    assert error.detail.endswith("speaks no MCP at its url (status 404): is its path right?")


async def test_nobody_there_is_said(make: Make) -> None:
    error = await failing(make, at("http://127.0.0.1:1/mcp"), "echo", text="a")
    assert error.detail == "The MCP server helpdesk could not be reached. Is it running, and is its url right?"


async def test_a_certificate_that_nobody_trusts_is_said(make: Make, tmp_path: Path) -> None:
    context, certificate = server_tls(tmp_path)
    async with answering(b"", tls=context) as url:
        error = await failing(make, at(f"{url.replace('http:', 'https:')}/mcp", transport="http"), "echo", text="a")
        assert error.detail.endswith("speaks no TLS at its url, or its certificate is not trusted.")

        caller = make(
            at(f"{url.replace('http:', 'https:')}/mcp", transport="http"),
            tls=lambda: ssl.create_default_context(cafile=str(certificate)),
        )
        with pytest.raises(ToolFailed, match="broke off"):
            await caller.call(P, "helpdesk", "echo", {"text": "a"}, "k", 20.0)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "refuses us (status 401)"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "answered with status 503."),
        (b"HTTP/1.1 307 Go\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", "answered with a redirect"),
        (b"HTTP/1.1 302 Go\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", "answered with a redirect"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
            "sent its answer packed",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi", "answered with an error"),
        (b"hello\r\n\r\n", "did not answer in proper HTTP"),
        (b"", "broke off"),
    ],
)  # fmt: skip
async def test_what_is_no_mcp_is_said(make: Make, answer: bytes, sentence: str) -> None:
    async with answering(answer) as url:
        error = await failing(make, at(f"{url}/mcp", transport="http"), "echo", text="a")
    assert sentence in error.detail


async def test_who_never_answers_is_left(make: Make) -> None:
    async with answering(None) as url:
        error = await failing(make, at(f"{url}/mcp"), "echo", text="a", timeout_s=0.5)
    assert error.detail == "The MCP server helpdesk did not answer within 0.5 s and was left."


async def test_being_cancelled_closes_the_connection(make: Make, served: Served) -> None:
    asked = asyncio.create_task(said(make, at(f"{served.url}/mcp", transport="http"), "wait", seconds=20))
    while not any(b["mcp-method"] == "tools/call" for _, _, b in served.requests if "mcp-method" in b):
        await asyncio.sleep(0.02)
    asked.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert time.monotonic() - began < 3.0


async def test_too_many_tools_are_refused(make: Make, helpdesk: MCPServer, served: Served) -> None:
    for number in range(TOOLS_MAX):
        helpdesk.add_tool(lambda: "", name=f"more-{number}", description="more")
    caller = make(at(f"{served.url}/mcp"))
    with pytest.raises(ToolFailed, match=f"more than {TOOLS_MAX} tools"):
        await caller.tools(await caller.find(P, "helpdesk"))


# -- servers that mean no good ---------------------------------------------------------------------------------------


def events(*lines: str) -> bytes:
    body = "\n".join((*lines, "", "")).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_a_server_cannot_send_us_elsewhere(make: Make, transport: str) -> None:
    """Neither by the event that says where to post, nor by naming who could let us in."""
    async with listening() as (elsewhere, visits):
        endpoint = events("event: endpoint", f"data: {elsewhere}/messages")
        metadata = f'WWW-Authenticate: Bearer resource_metadata="{elsewhere}/.well-known/oauth-protected-resource"'
        refusal = f"HTTP/1.1 401 No\r\n{metadata}\r\nContent-Length: 0\r\n\r\n".encode()
        async with answering(endpoint if transport == "sse" else refusal) as url:
            error = await failing(make, at(f"{url}/mcp", transport=transport), "echo", text="a", timeout_s=0.5)
    wanted = "did not answer within 0.5 s" if transport == "sse" else "refuses us (status 401)"
    assert wanted in error.detail
    assert visits == []


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
async def test_nothing_of_ours_answers_what_a_server_asks(make: Make, helpdesk: MCPServer) -> None:
    async def roots(context: Context[Any]) -> str:
        """Ask the caller which folders it has."""
        return str(await context.session.list_roots())

    async def sample(context: Context[Any]) -> str:
        """Have the caller's model say something, at the caller's cost."""
        hi = SamplingMessage(role="user", content=TextContent(type="text", text="hi"))
        return str(await context.session.create_message(messages=[hi], max_tokens=10))

    async def link() -> list[Any]:
        """Name a place."""
        return [ResourceLink(type="resource_link", uri="http://127.0.0.1:1/secret", name="here")]

    for tool in (roots, sample, link):
        helpdesk.add_tool(tool, structured_output=False)
    with serving(helpdesk, over=("sse",)) as served:
        server = at(f"{served.url}/sse", transport="sse")
        for name in ("roots", "sample"):
            assert "not supported" in (await failing(make, server, name)).detail
        (item,) = json.loads(await said(make, server, "link"))
    assert item == {"type": "resource_link", "uri": "http://127.0.0.1:1/secret", "name": "here"}  # named, not fetched


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A place that nobody should come to, and what those said that did."""
    visits: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", visits
    finally:
        server.close()


@asynccontextmanager
async def answering(answer: bytes | None, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Whoever connects is told this, whatever they say; None = nothing, ever."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
