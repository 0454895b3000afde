"""Tunnels: which tools the principals' own programs lend, and for how long these count as connected.

One record for each owner, so that any process can give a turn the tools and hand out the calls. The calls are client
tools that runs wait for: their requests, claims and answers stand on the tapes (docs/decisions/0036).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import BadRequest, Conflict
from dragoman.core.names import Clock, Principal, ProjectId
from dragoman.core.operations import Operation, StartTurn
from dragoman.core.records import Record, Records
from dragoman.core.tunnel import TOOLSET, LendTools, PollTunnel, ToolsLent, TunnelWork
from dragoman.core.waits import ListWaitingCalls, WaitingCalls

KIND = "tunnel"
TOOLS_MAX = 64
TOOLS_BYTES_MAX = 256 * 1024
"""Of all of them together, as JSON."""
SEEN_EVERY_S = 10.0
"""A poll is written down at most this often: clients poll every five seconds."""
CONNECTED_S = 30.0
"""After the last poll that was written down a tunnel counts as connected for so long."""
LOOKED_S = 5.0
"""What other processes wrote is seen after this long at the latest."""
KNOWN_MAX = 4096
"""Owners whose tunnels are remembered for that time."""

Waiting = Callable[[Principal, ListWaitingCalls], Awaitable[WaitingCalls]]


class _Tunnel(Struct, frozen=True):
    """A record's body."""

    tools_hash: str
    tools: tuple[ToolSpec, ...]
    seen_at: float


class _Known(Struct, frozen=True):
    """What this process knows of an owner's tunnel, and when it looked (monotonic seconds)."""

    tunnel: _Tunnel | None
    looked_at: float


class Tunnels:
    def __init__(self, records: Records, waiting: Waiting, clock: Clock) -> None:
        self._records = records
        self._waiting = waiting
        self._clock = clock
        self._known: dict[tuple[ProjectId, str], _Known] = {}

    def handlers(self) -> Mapping[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {PollTunnel: self.poll, LendTools: self.lend}

    async def poll(self, principal: Principal, operation: PollTunnel) -> TunnelWork:
        """Raises Unavailable."""
        record, tunnel = await self._read(principal)
        if record is None or tunnel is None or tunnel.tools_hash != operation.tools_hash:
            return TunnelWork(send_tools=True)
        now = self._clock.now()
        if now - tunnel.seen_at >= SEEN_EVERY_S:
            try:
                await self._write(principal, replace(tunnel, seen_at=now), expect=record.version)
            except Conflict:
                pass  # another tunnel of the same owner said the same just now
        waiting = await self._waiting(principal, ListWaitingCalls(TOOLSET))
        free = [call for call in waiting.calls if not call.claimed_by and call.expires_at > now]
        return TunnelWork(call=free[0] if free else None)

    async def lend(self, principal: Principal, operation: LendTools) -> ToolsLent:
        if len(operation.tools) > TOOLS_MAX:
            raise BadRequest(f"A tunnel lends at most {TOOLS_MAX} tools; these are {len(operation.tools)}.")
        body = msgspec.json.encode(operation.tools)
        if len(body) > TOOLS_BYTES_MAX:
            raise BadRequest(f"The tools of a tunnel take {len(body):,} bytes; at most {TOOLS_BYTES_MAX:,} are kept.")
        names = [tool.name for tool in operation.tools]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise BadRequest(f"A tunnel cannot lend two tools called {repeated}.")
        tools = tuple(replace(tool, toolset=TOOLSET) for tool in operation.tools)
        await self._write(principal, _Tunnel(operation.tools_hash, tools, self._clock.now()), expect=None)
        return ToolsLent(len(tools))

    async def prepare(self, principal: Principal, turn: StartTurn) -> StartTurn:
        """The turn with the tools that the principal's connected tunnel lends. A tool of that name which the turn
        brings itself comes first."""
        tunnel = await self._connected(principal)
        if tunnel is None:
            return turn
        taken = {tool.name for tool in turn.client_tools}
        lent = tuple(tool for tool in tunnel.tools if tool.name not in taken)
        return replace(turn, client_tools=(*turn.client_tools, *lent))

    async def _connected(self, principal: Principal) -> _Tunnel | None:
        key = (principal.project, principal.owner)
        known = self._known.get(key)
        if known is None or self._clock.monotonic() - known.looked_at >= LOOKED_S:
            _, tunnel = await self._read(principal)
            self._remember(key, tunnel)
        else:
            tunnel = known.tunnel
        if tunnel is None or self._clock.now() - tunnel.seen_at > CONNECTED_S:
            return None
        return tunnel

    def _remember(self, key: tuple[ProjectId, str], tunnel: _Tunnel | None) -> None:
        self._known.pop(key, None)
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = _Known(tunnel, self._clock.monotonic())

    async def _read(self, principal: Principal) -> tuple[Record | None, _Tunnel | None]:
        record = await self._records.get(principal.project, KIND, principal.owner)
        return record, None if record is None else msgspec.json.decode(record.body, type=_Tunnel)

    async def _write(self, principal: Principal, tunnel: _Tunnel, *, expect: int | None) -> None:
        record = Record(
            project=principal.project,
            kind=KIND,
            id=principal.owner,
            body=msgspec.json.encode(tunnel).decode(),
            owner=principal.owner,
            created_by=principal.owner,
            updated_by=principal.owner,
        )
        await self._records.put(record, expect=expect)
        self._remember((principal.project, principal.owner), tunnel)
