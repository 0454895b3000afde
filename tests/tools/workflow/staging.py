"""What tests of workflows' tools share: a toolbox over real sources and settings, and calls as a turn stages them."""

from itertools import count
from typing import Any

import msgspec

from dragoman.access.sealing import Sealer
from dragoman.core.agents import AgentSpec, Repeat, ToolSpec
from dragoman.core.messages import Message, ToolCall
from dragoman.core.names import CallId, ProjectId
from dragoman.core.workflows import Member, Staging, ToolKind, WorkflowTool
from dragoman.runtime.ports import ReplyDone
from dragoman.runtime.project_settings import ProjectSettings
from dragoman.runtime.sources import Sources
from dragoman.runtime.tool_ports import CallContext, StagedCall, ToolOutcome
from dragoman.stores.memory.knowledge import MemoryKnowledge
from dragoman.stores.memory.records import MemoryRecords
from dragoman.tools.connections.connection import Connection
from dragoman.tools.egress import Egress
from dragoman.tools.vetting import Policy
from dragoman.tools.workflow.dispatch import WorkflowToolbox
from dragoman.tools.workflow.webhook import Webhooks
from tests.support import FixedClock

P = ProjectId("p")
KEY = "run-1:call-1"
ORDER = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
NOTHING_MOCKED = Staging("v")
MEMBER = Member(AgentSpec("Desk", ""))


def tool(
    kind: ToolKind = ToolKind.WEBHOOK, repeat: Repeat = Repeat.ONCE, timeout_s: float = 5.0, **more: Any
) -> WorkflowTool:
    spec = ToolSpec("look_up", "Looks an order up.", ORDER, repeat=repeat, timeout_s=timeout_s)
    return WorkflowTool(spec, kind, **more)


class Asked:
    """A model that notes what it was asked, and says `text`."""

    def __init__(self, text: str = "invented", *, fails: Exception | None = None) -> None:
        self.text = text
        self.fails = fails
        self.asked: list[tuple[tuple[Message, ...], str]] = []

    async def __call__(
        self, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...] = (), choice: str = "", plain: str = ""
    ) -> ReplyDone:
        self.asked.append((messages, plain))
        if self.fails is not None:
            raise self.fails
        return ReplyDone(self.text)


class McpCalled:
    """Notes what MCP servers are asked for."""

    def __init__(self) -> None:
        self.called: list[tuple[object, ...]] = []
        self.fails: Exception | None = None

    async def call(
        self, project: ProjectId, server: str, tool: str, arguments: dict[str, Any], key: str, timeout_s: float
    ) -> str:
        self.called.append((project, server, tool, arguments, key, timeout_s))
        if self.fails is not None:
            raise self.fails
        return "from the server"


class Bench:
    """`loopback` = project's webhooks may be on this machine, as they never may outside of tests."""

    def __init__(self, *, loopback: bool = True, connections: tuple[Connection, ...] = ()) -> None:
        nonces, numbers = count(1), count(1)
        self.clock = FixedClock()
        self.slept: list[float] = []
        self.records = MemoryRecords(self.clock)
        self.settings = ProjectSettings(
            self.records,
            Sealer(b"k", lambda size: next(nonces).to_bytes(size, "big")),
            lambda: "5f0c9b1d7a3e48f6" * 4,
            lambda: f"client{next(numbers):016d}",
            clock=self.clock,
            webhooks=[each.name for each in connections],
        )
        self.sources = Sources(self.records, MemoryKnowledge(self.clock), new_id=lambda: f"{next(numbers):024x}")
        policy = Policy(denied=lambda address: address != "127.0.0.1", itself=True) if loopback else Policy()
        self.egress = Egress(policy=policy, connect_s=2.0)
        self.mcp = McpCalled()
        self.webhooks = Webhooks(self.egress, self.settings, connections, clock=self.clock, sleep=self._sleep)
        self.toolbox = WorkflowToolbox(webhooks=self.webhooks, mcp=self.mcp, sources=self.sources)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.move(seconds)

    async def set_webhook(self, url: str) -> None:
        """Past the check of addresses, which refuses those of this machine."""
        await self.settings.of(P)
        record = await self.records.get(P, "project_settings", "settings")
        assert record is not None
        body = msgspec.json.decode(record.body) | {"webhook": url}
        await self.records.put(
            msgspec.structs.replace(record, body=msgspec.json.encode(body).decode()), expect=record.version
        )
        self.clock.move(10)

    async def call(
        self,
        tool: WorkflowTool | None,
        arguments: str = '{"order": "42"}',
        *,
        name: str = "look_up",
        staging: Staging = NOTHING_MOCKED,
        member: Member = MEMBER,
        spec: ToolSpec | None = None,
        ask: Asked | None = None,
    ) -> ToolOutcome:
        return await self.toolbox.call(
            ToolCall(CallId("call-1"), name, arguments),
            StagedCall(member, staging, tool, spec),
            CallContext(P, KEY, ask=ask),
        )
