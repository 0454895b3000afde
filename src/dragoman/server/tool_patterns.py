"""Patterns in the agents' tables that match no tool: most likely a slip, and one that leaves a tool without its gate.
Pure."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from dragoman.core.agents import AgentSpec, ToolSpec
from dragoman.core.tunnel import TOOLSET as TUNNEL
from dragoman.core.workflows import Workflow
from dragoman.runtime.waiting import named
from dragoman.server.config_shapes import AgentTable

OF_CLIENTS = ("client.", f"{TUNNEL}.")
"""How patterns begin that mean tools which clients bring: those can be denied, and are not known at the start."""

NO_WORKFLOWS: Mapping[str, Workflow] = {}

_SO = {
    "tools": "so the agent holds none by it",
    "ask": "so nobody is asked before any call",
    "deny": "so it keeps none from being run",
}


def unmatched(
    agents: Mapping[str, AgentTable], tools: Sequence[ToolSpec], workflows: Mapping[str, Workflow] = NO_WORKFLOWS
) -> tuple[str, ...]:
    """A sentence for each pattern that matches none of these tools, which are all that the server has. Agents of
    workflows have those of their workflow besides."""
    if not tools:
        return ()
    found = [each for name, agent in agents.items() for each in _unmatched(f"agents.{name}", agent, tools)]
    for name, workflow in workflows.items():
        held = (*tools, *(tool.spec for tool in workflow.tools))
        for member in workflow.members:
            found.extend(_unmatched(f"workflows.{name}.agents.{member.name}", member.agent, held))
    return tuple(found)


def _unmatched(place: str, agent: AgentTable | AgentSpec, tools: Sequence[ToolSpec]) -> Iterator[str]:
    for key, pattern in _patterns(agent):
        if not named((pattern,), tools) and not (key == "deny" and pattern.startswith(OF_CLIENTS)):
            yield f'{place}.{key}: "{pattern}" matches no tool of this server, {_SO[key]}; {_hint(pattern, tools)}'


def _patterns(agent: AgentTable | AgentSpec) -> Iterator[tuple[str, str]]:
    for key, patterns in (("tools", agent.tools), ("ask", agent.ask), ("deny", agent.deny)):
        for pattern in patterns:
            yield key, pattern


def _hint(pattern: str, tools: Sequence[ToolSpec]) -> str:
    known = [name for tool in tools for name in (tool.name, f"{tool.toolset}.{tool.name}", f"{tool.toolset}.*")]
    near = get_close_matches(pattern, dict.fromkeys(known), n=1)
    return f'did you mean "{near[0]}"?' if near else "see: dragoman tools ls"
