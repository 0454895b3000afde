"""A workflow as a graph: who hands over to whom, in which rows that is drawn, and its text for pages that draw Mermaid.
Pure. `workflow_drawing.py` makes an image of it.

Each agent and each pipeline, which is a frame around its steps, stands in the row of its distance from the start; what
cannot be reached comes last.
"""

from itertools import pairwise

from msgspec import Struct

from dragoman.core.workflows import Member, Workflow

ROW_MAX = 6
"""Boxes side by side; more go into the next row."""

PIPELINE = "pipeline "
"""Stands before the names of pipelines here, which may be those of agents."""


class Edge(Struct, frozen=True):
    """From one agent to another or to a pipeline; `calls` = that one reports back."""

    source: str
    target: str
    calls: bool


def edges(workflow: Workflow) -> tuple[Edge, ...]:
    """In the order of the agents, those to pipelines last."""
    internal = {member.name for member in workflow.members if member.internal}
    found = [
        Edge(member.name, name, name in internal)
        for member in workflow.members
        for name in member.agents
        if name != member.name
    ]
    found += [Edge(member.name, PIPELINE + name, True) for member in workflow.members for name in member.pipelines]
    return tuple(found)


def rows(workflow: Workflow) -> list[list[str]]:
    """Agents and pipelines by their distance from the start, at most ROW_MAX side by side; the unreached ones last."""
    following: dict[str, list[str]] = {name: [] for name in units(workflow)}
    for edge in edges(workflow):
        if edge.source in following and edge.target in following:
            following[edge.source].append(edge.target)
    seen: set[str] = set()
    found: list[list[str]] = []
    layer = [start_of(workflow)]
    while layer:
        layer = [name for name in dict.fromkeys(layer) if name not in seen and name in following]
        seen.update(layer)
        found.extend(layer[at : at + ROW_MAX] for at in range(0, len(layer), ROW_MAX))
        layer = [target for name in layer for target in following[name]]
    rest = [name for name in following if name not in seen]
    found.extend(rest[at : at + ROW_MAX] for at in range(0, len(rest), ROW_MAX))
    return found


def units(workflow: Workflow) -> list[str]:
    """What stands by itself: agents that are no steps, and pipelines, those with PIPELINE before their names."""
    agents = [member.name for member in workflow.members if not member.step]
    return list(dict.fromkeys((*agents, *(PIPELINE + pipeline.name for pipeline in workflow.pipelines))))


def start_of(workflow: Workflow) -> str:
    """The one of the units that begins."""
    agents = {member.name for member in workflow.members if not member.step}
    return workflow.start if workflow.start in agents else PIPELINE + workflow.start


# -- Mermaid ---------------------------------------------------------------------------------------------------------


def mermaid(workflow: Workflow, *, tools: bool = False) -> str:
    """A flowchart in the text that Mermaid draws."""
    ids = {name: f"n{at}" for at, name in enumerate(units(workflow))}
    lines = ["flowchart TD", "  classDef internal stroke-dasharray: 5 4", f"  start(( )) --> {ids[start_of(workflow)]}"]
    by_name = {member.name: member for member in workflow.members}
    for name, member in by_name.items():
        if not member.step:
            lines.append(f"  {_mermaid_node(ids[name], member, tools)}")
    for pipeline in workflow.pipelines:
        unit = ids[PIPELINE + pipeline.name]
        lines.append(f'  subgraph {unit}["{_quoted(pipeline.name)}"]')
        steps = [(f"{unit}s{at}", by_name[name]) for at, name in enumerate(pipeline.steps) if name in by_name]
        lines.extend(f"    {_mermaid_node(step, member, tools)}" for step, member in steps)
        lines.extend(f"    {before[0]} --> {after[0]}" for before, after in pairwise(steps))
        lines.append("  end")
    for edge in edges(workflow):
        if edge.source in ids and edge.target in ids:
            lines.append(f"  {ids[edge.source]} {'-.->' if edge.calls else '-->'} {ids[edge.target]}")
    return "\n".join(lines) + "\n"


def _mermaid_node(node: str, member: Member, tools: bool) -> str:
    label = "<br/>".join(map(_quoted, (member.name, *(member.tools if tools else ()))))
    return f'{node}["{label}"]{":::internal" if member.internal else ""}'


def _quoted(text: str) -> str:
    """Inside a label in quotes: what Mermaid would read as its own, or as HTML, as its number."""
    return "".join(char if char.isalnum() or char in " _-.,:/" else f"#{ord(char)};" for char in text)
