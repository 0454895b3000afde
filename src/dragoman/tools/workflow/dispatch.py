"""Who runs a call of a workflow's tool (rowboat spec 4.5, Q18, Q19).

mocked in this turn by name ─► model          mocked by the test profile ─► model, but for searches
mock ─► model   MCP ─► server   webhook ─► HTTP   search ─► sources   missing ─► a sentence
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.errors import ToolFailed
from dragoman.core.messages import ToolCall
from dragoman.core.names import ProjectId
from dragoman.core.workflows import SEARCH, Staging, ToolKind, WorkflowTool
from dragoman.runtime.sources import Sources
from dragoman.runtime.tool_ports import CallContext, StagedCall, ToolOutcome
from dragoman.tools.arguments import Arguments, BadArguments, Run
from dragoman.tools.brought_schemas import BroughtCheckers
from dragoman.tools.registry import carried_out
from dragoman.tools.workflow.mock import invented
from dragoman.tools.workflow.search import searched
from dragoman.tools.workflow.webhook import Webhooks

CHECKERS_MAX = 256
"""Schemas that are remembered."""
_OUTSIDE = (ToolKind.WEBHOOK, ToolKind.MCP)


class McpCaller(Protocol):
    """Calls tools of MCP servers."""

    async def call(
        self, project: ProjectId, server: str, tool: str, arguments: dict[str, Any], key: str, timeout_s: float
    ) -> str:
        """Raises ToolFailed."""
        ...


class WorkflowToolbox:
    """Fits `runtime.tool_ports.WorkflowTools`."""

    def __init__(self, *, webhooks: Webhooks, mcp: McpCaller, sources: Sources) -> None:
        self._webhooks = webhooks
        self._mcp = mcp
        self._sources = sources
        self._checkers = BroughtCheckers(CHECKERS_MAX)

    async def call(self, call: ToolCall, staged: StagedCall, context: CallContext) -> ToolOutcome:
        """See `runtime.tool_ports.WorkflowTools.call`."""
        spec = staged.spec if staged.tool is None else staged.tool.spec
        if spec is None:
            return ToolOutcome(f"There is no tool {call.name[:100]!a}.", True, "unknown_tool")
        mocked = _mocked(call.name, staged)
        if mocked is not None:
            run = _mock(spec, mocked)
        elif staged.tool is not None:
            run = self._run(staged.tool, call)
        elif call.name == SEARCH:
            run = self._search(staged)
        else:
            return ToolOutcome(f"There is no tool {call.name[:100]!a}.", True, "unknown_tool")
        if mocked is not None or (staged.tool is not None and staged.tool.kind is ToolKind.MOCK):
            spec = msgspec.structs.replace(spec, repeat=Repeat.PURE)  # nothing happens but that a model is asked
        kind = staged.ran_by(call.name)
        outside = f"{kind} of workflow {staged.staging.workflow}" if kind in _OUTSIDE else ""
        return await carried_out(spec, self._check(spec, call), run, call, context, outside=outside)

    def _run(self, tool: WorkflowTool, call: ToolCall) -> Run:
        match tool.kind:
            case ToolKind.MOCK:
                return _mock(tool.spec, tool.instructions)
            case ToolKind.WEBHOOK:

                async def post(arguments: Arguments, context: CallContext) -> str:
                    return await self._webhooks.call(tool.spec, call, arguments, context)

                return post
            case ToolKind.MCP:

                async def ask_server(arguments: Arguments, context: CallContext) -> str:
                    return await self._mcp.call(
                        context.project, tool.server, tool.spec.name, arguments, context.key, tool.spec.timeout_s
                    )

                return ask_server
            case ToolKind.MISSING:

                async def refuse(arguments: Arguments, context: CallContext) -> str:
                    raise ToolFailed(tool.why or f"{tool.spec.name} cannot be run here.", code="missing")

                return refuse

    def _search(self, staged: StagedCall) -> Run:
        async def search(arguments: Arguments, context: CallContext) -> str:
            return await searched(self._sources, context.project, staged.member, str(arguments["query"]))

        return search

    def _check(self, spec: ToolSpec, call: ToolCall) -> Callable[[Arguments], None]:
        """A schema that is none, or takes too long, lets every object pass: who runs the tool looks at it too."""
        checker = self._checkers.of(spec.parameters)

        def check(arguments: Arguments) -> None:
            if checker is not None:
                checker.check(arguments, chars=len(call.arguments))
            if call.name == SEARCH and not str(arguments.get("query", "")).strip():
                raise BadArguments("The query is empty.")

        return check


def _mocked(name: str, staged: StagedCall) -> str | None:
    """What is gone by if the result is invented in this turn, None if it is not."""
    staging: Staging = staged.staging
    own = "" if staged.tool is None else staged.tool.instructions
    if not staged.mocks(name):
        return None
    return (staging.mocks[name] if name in staging.mocks else staging.mock_prompt) or own


def _mock(spec: ToolSpec, instructions: str) -> Run:
    async def invent(arguments: Arguments, context: CallContext) -> str:
        return await invented(spec, instructions, arguments, context)

    return invent
