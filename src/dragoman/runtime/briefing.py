"""The system message of a turn that has a `Briefing`, and what such a turn is offered (elastic spec 1.7, 3.3).

    the agent's instructions ── instructions of the turn ── notes of the application ── # User instructions

The same text comes of the same things: who asks beforehand what the model would be told is told just that.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from dragoman.core.agents import AgentSpec, ToolSpec
from dragoman.core.knowledge import FunctionList, FunctionShown, ListFunctions, ListInstructions
from dragoman.core.names import Principal
from dragoman.core.operations import Instruction, Operation, StartTurn
from dragoman.runtime.history import CHARS_PER_TOKEN
from dragoman.runtime.knowledge import KnowledgeBase
from dragoman.runtime.tool_ports import Tools

INSTRUCTIONS_TOKENS_MAX = 1000
"""Of all user instructions of a turn together, in estimated LLM tokens."""
HEADING = "# User instructions\nWhat the user wants of you in each answer. Go by it as far as the above allows."


def system_text(
    instructions: Sequence[str], notes: Sequence[str], asked: Sequence[Instruction], kept: Sequence[Instruction]
) -> str:
    """The system message. Of two user instructions with the same id the first counts, and those that were `asked` for
    come first; one that does not fit beside those before it is left out."""
    blocks = [text for text in (*instructions, *notes, _user_part((*asked, *kept))) if text]
    return "\n\n".join(blocks)


def _user_part(instructions: Sequence[Instruction]) -> str:
    room = INSTRUCTIONS_TOKENS_MAX * CHARS_PER_TOKEN
    seen: set[str] = set()
    shown: list[str] = []
    for instruction in instructions:
        text = instruction.text.strip()
        if not text or (instruction.id and instruction.id in seen):
            continue
        seen.add(instruction.id)
        if len(text) <= room:
            room -= len(text)
            shown.append(text)
    return "\n\n".join((HEADING, *shown)) if shown else ""


class Briefings:
    """`internal` names tools that are listed although no model is offered them."""

    def __init__(
        self,
        knowledge: KnowledgeBase,
        tools: Tools,
        agents: Mapping[str, AgentSpec],
        *,
        default_agent: str,
        internal: Sequence[str] = ("context",),
    ) -> None:
        self._knowledge = knowledge
        self._tools = tools
        self._agents = agents
        self._default_agent = default_agent
        self._internal = tuple(internal)

    def handlers(self) -> Mapping[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {ListFunctions: self.functions}

    async def brief(self, principal: Principal, turn: StartTurn) -> StartTurn:
        """The turn with its system message, if it has a briefing. Raises Unavailable."""
        briefing = turn.briefing
        if briefing is None:
            return turn
        agent = self._agent(turn.agent)
        kept = await self._kept(principal)
        instructions = (agent.instructions, *turn.instructions)
        return replace(turn, system=system_text(instructions, briefing.notes, briefing.instructions, kept))

    async def functions(self, principal: Principal, operation: ListFunctions) -> FunctionList:
        agent = self._agent("")
        offered = self._tools.specs(agent.tools)
        internal = [spec for name in self._internal if (spec := self._tools.spec(name)) is not None]
        text = system_text((agent.instructions,), operation.notes, operation.instructions, await self._kept(principal))
        shown = (*(_shown(spec, internal=True) for spec in internal), *(_shown(spec) for spec in offered))
        return FunctionList(shown, text)

    def _agent(self, name: str) -> AgentSpec:
        return self._agents.get(name) or self._agents[self._default_agent]

    async def _kept(self, principal: Principal) -> tuple[Instruction, ...]:
        kept = await self._knowledge.instructions(principal, ListInstructions())
        return tuple(Instruction(each.id, each.text) for each in kept.items)


def _shown(spec: ToolSpec, *, internal: bool = False) -> FunctionShown:
    return FunctionShown(spec.name, spec.description, spec.parameters, internal)
