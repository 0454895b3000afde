"""Pins: the tools of an MCP server as somebody looked at them and agreed to.

A server can say something else of its tools from one day to the next: a description that talks models into things, a
parameter that takes what was not asked for. What is pinned is held against what the server says now, tool by tool, and
a tool that changed is not called until somebody looked again.

Pins of the configuration's connections belong to no project, those of a project's own servers to it.
"""

import hashlib

import msgspec
from msgspec import Struct

from dragoman.core.errors import BadRequest, ToolFailed
from dragoman.core.names import ProjectId
from dragoman.core.records import Record, Records
from dragoman.tools.mcp.definitions import Definition

RECORDS = "mcp_pin"
NOBODY = ProjectId("")
PIN_BYTES_MAX = 1024 * 1024


class Pin(Struct, frozen=True, omit_defaults=True):
    """`digest` is of all definitions. `pinned_at`, Unix seconds, is the record's."""

    server: str
    tools: tuple[Definition, ...]
    digest: str
    pinned_at: float = 0.0

    def tool(self, name: str) -> Definition | None:
        return next((each for each in self.tools if each.name == name), None)


class Pins:
    def __init__(self, records: Records) -> None:
        self._records = records

    async def get(self, project: ProjectId, server: str) -> Pin | None:
        """`project` "" = of the configuration's connections."""
        record = await self._records.find(project, RECORDS, server)
        return None if record is None else _pin(record)

    async def all(self, project: ProjectId) -> dict[str, Pin]:
        """By the servers' names."""
        page = await self._records.page(project, RECORDS, limit=0, offset=0)
        return {record.key: _pin(record) for record in page.items}

    async def put(self, project: ProjectId, server: str, tools: tuple[Definition, ...], *, by: str = "") -> Pin:
        """In the place of what was pinned before. Raises BadRequest if it is too much."""
        digests = msgspec.json.encode(sorted((each.name, each.digest) for each in tools))
        pin = Pin(server, tools, hashlib.sha256(digests).hexdigest())
        body = msgspec.json.encode(pin).decode()
        if len(body.encode()) > PIN_BYTES_MAX:
            raise BadRequest(
                f"The tools of {server} are {len(body):,} bytes of text; at most {PIN_BYTES_MAX:,} can be pinned. Name"
                " those that are wanted: tools = [patterns] of the connection."
            )
        record = Record(project, RECORDS, _id(server), body, key=server, wide=True, created_by=by, updated_by=by)
        return _pin(await self._records.put(record, expect=None))

    async def remove(self, project: ProjectId, server: str) -> bool:
        """False if nothing was pinned."""
        return await self._records.delete(project, RECORDS, _id(server))


def held(pin: Pin, tool: str, now: Definition | None, *, again: str) -> None:
    """Raises ToolFailed unless the tool is as it was pinned. `again` is the command that pins."""
    pinned = pin.tool(tool)
    if pinned is None:
        raise ToolFailed(
            f"{tool} is not among the tools of {pin.server} that were pinned. Have somebody look at it, and pin it:"
            f" {again}",
            code="not_pinned",
        )
    if now is None:
        raise ToolFailed(f"The MCP server {pin.server} no longer has a tool {tool}.", code="unknown_tool")
    if now.digest != pinned.digest:
        raise ToolFailed(
            f"{tool} of the MCP server {pin.server} is no longer what was pinned, so it was not called. Have somebody"
            f" look at what changed, and pin it again: {again}",
            code="changed",
        )


def _id(server: str) -> str:
    return hashlib.sha256(server.encode()).hexdigest()[:32]


def _pin(record: Record) -> Pin:
    return msgspec.structs.replace(_pins.decode(record.body), pinned_at=record.updated_at)


_pins = msgspec.json.Decoder(Pin)
