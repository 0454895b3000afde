"""A tunnel, as operations: a program on somebody's own machine lends its tools to the assistant while it is connected.

It asks for work now and then (short polls); what it is to do are calls that runs wait for (`core.waits`).
"""

from msgspec import Struct

from dragoman.core.agents import ToolSpec
from dragoman.core.operations import Operation
from dragoman.core.waits import WaitingCall

TOOLSET = "tunnel"
"""`ToolSpec.toolset` of lent tools."""


class TunnelWork(Struct, frozen=True):
    """`send_tools`: which tools there are is not known, or not of this hash; `call` is the next to run, if any."""

    send_tools: bool = False
    call: WaitingCall | None = None


class PollTunnel(Operation[TunnelWork], frozen=True):
    """Say that the tunnel is open, and ask what is to be done. `tools_hash` names the set of tools that it lends."""

    tools_hash: str


class ToolsLent(Struct, frozen=True):
    count: int


class LendTools(Operation[ToolsLent], frozen=True):
    """Say which tools the tunnel lends; they replace those of before. Raises BadRequest."""

    tools: tuple[ToolSpec, ...]
    tools_hash: str
