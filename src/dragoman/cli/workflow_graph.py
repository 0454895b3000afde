"""A workflow as a picture: Mermaid for pages that draw it, or SVG that stands by itself. Pure.

    row 0      [ Front Desk ]                  agents are boxes, dashed if they speak to other agents only
                 │        │
    row 1   [ Billing ]  ┌ Claim intake ┐      pipelines are frames around their steps
                         │ [ Extract  ] │
                         │ [ Register ] │
                         └──────────────┘

Each stands in the row of its distance from the start; what cannot be reached comes last. Edges go down where they can,
back at the side, and in a bow below where both ends are in one row.
"""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from msgspec import Struct

from dragoman.cli.terminal import printable, shorten
from dragoman.core.workflows import Member, Workflow

ROW_MAX = 6
"""Boxes side by side; more go into the next row."""
LABEL_CHARS_MAX = 30

PIPELINE = "pipeline "
"""Stands before the names of pipelines here, which may be those of agents."""

_CHAR, _LINE, _PAD, _GAP, _ROW_GAP = 7.6, 18.0, 12.0, 36.0, 64.0
"""Pixels: a character of 13 px sans-serif, at most about; a line of tools; inside boxes; between them; between rows."""
_STYLE = (
    "text{font:13px sans-serif;fill:#1b1f24}.tools{font-size:11px;fill:#57606a}.box{fill:#f6f8fa;stroke:#57606a}"
    ".start{fill:#ddf4ff;stroke:#0969da;stroke-width:2}.internal{stroke-dasharray:5 4}.frame{fill:#fff;stroke:#8c959f}"
    "path{fill:none;stroke:#57606a}path.calls{stroke-dasharray:4 3}"
)


class Box(Struct, frozen=True):
    """A rectangle with lines of text. Pixels; y grows downwards."""

    label: str
    about: str
    x: float
    y: float
    width: float
    height: float
    style: str
    tools: tuple[str, ...] = ()


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


# -- Mermaid ---------------------------------------------------------------------------------------------------------


def mermaid(workflow: Workflow, *, tools: bool = False) -> str:
    """A flowchart in the text that Mermaid draws."""
    ids = {name: f"n{at}" for at, name in enumerate(_units(workflow))}
    lines = ["flowchart TD", "  classDef internal stroke-dasharray: 5 4", f"  start(( )) --> {ids[_start(workflow)]}"]
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


# -- SVG -------------------------------------------------------------------------------------------------------------


def svg(workflow: Workflow, *, tools: bool = False) -> str:
    """An image that needs nothing else: no script, no font, no address."""
    drawing = _Drawing(workflow, tools)
    width, height = drawing.size
    title = escape(printable(workflow.name or "workflow"))
    body = "\n".join((*drawing.lines(), *(part for box in drawing.boxes for part in _box(box))))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" role="img">\n<title>{title}</title>\n<style>{_STYLE}</style>\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" style="fill:#57606a"/></marker></defs>\n{body}\n</svg>\n'
    )


class _Drawing:
    """Where everything stands."""

    def __init__(self, workflow: Workflow, tools: bool) -> None:
        self._workflow = workflow
        self._tools = tools
        self._members = {member.name: member for member in workflow.members}
        self._steps = {PIPELINE + pipeline.name: pipeline.steps for pipeline in workflow.pipelines}
        self._rows = rows(workflow)
        self.boxes: list[Box] = []
        self._units: dict[str, tuple[int, Box]] = {}
        sizes = [[self._size(name) for name in row] for row in self._rows]
        widths = [sum(width for width, _ in row) + _GAP * (len(row) - 1) for row in sizes]
        widest = max(widths, default=0)
        y = _GAP
        for at, (row, row_sizes, row_width) in enumerate(zip(self._rows, sizes, widths, strict=True)):
            x = _GAP + (widest - row_width) / 2
            for name, (width, height) in zip(row, row_sizes, strict=True):
                self._place(at, name, x, y, width, height)
                x += width + _GAP
            y += max(height for _, height in row_sizes) + _ROW_GAP
        self.size = (widest + 4 * _GAP, y)

    def _size(self, name: str) -> tuple[float, float]:
        if name not in self._steps:
            return _width((name, *self._shown_tools(name))), _height(len(self._shown_tools(name)))
        inner = [self._size_of_step(step) for step in self._steps[name] if step in self._members]
        label = _width((name.removeprefix(PIPELINE),))
        width = max((label, *(width for width, _ in inner))) + 2 * _PAD
        return width, _LINE + 2 * _PAD + sum(height + _PAD for _, height in inner)

    def _size_of_step(self, step: str) -> tuple[float, float]:
        return _width((step, *self._shown_tools(step))), _height(len(self._shown_tools(step)))

    def _shown_tools(self, name: str) -> tuple[str, ...]:
        return self._members[name].tools if self._tools else ()

    def _place(self, row: int, name: str, x: float, y: float, width: float, height: float) -> None:
        begins = name == _start(self._workflow)
        if name not in self._steps:
            box = self._agent(name, x, y, width, height, begins=begins)
        else:
            style = "frame start" if begins else "frame"
            about = next(each.description for each in self._workflow.pipelines if PIPELINE + each.name == name)
            box = Box(name.removeprefix(PIPELINE), about, x, y, width, height, style)
        self.boxes.append(box)
        self._units[name] = (row, box)
        below = y + _LINE + _PAD
        for step in self._steps.get(name, ()):
            if step in self._members:
                _, step_height = self._size_of_step(step)
                self.boxes.append(self._agent(step, x + _PAD, below, width - 2 * _PAD, step_height, begins=False))
                below += step_height + _PAD

    def _agent(self, name: str, x: float, y: float, width: float, height: float, *, begins: bool) -> Box:
        member = self._members[name]
        style = f"box{' start' if begins else ''}{' internal' if member.internal else ''}"
        return Box(name, member.description, x, y, width, height, style, self._shown_tools(name))

    def lines(self) -> Iterable[str]:
        for edge in edges(self._workflow):
            if edge.source not in self._units or edge.target not in self._units:
                continue
            (row, source), (other_row, target) = self._units[edge.source], self._units[edge.target]
            style = ' class="calls"' if edge.calls else ""
            yield f'<path{style} d="{_curve(source, target, other_row - row)}" marker-end="url(#tip)"/>'


def rows(workflow: Workflow) -> list[list[str]]:
    """Agents and pipelines by their distance from the start, at most ROW_MAX side by side; the unreached ones last."""
    units = _units(workflow)
    following: dict[str, list[str]] = {name: [] for name in units}
    for edge in edges(workflow):
        if edge.source in following and edge.target in following:
            following[edge.source].append(edge.target)
    seen: set[str] = set()
    found: list[list[str]] = []
    layer = [_start(workflow)]
    while layer:
        layer = [name for name in dict.fromkeys(layer) if name not in seen and name in following]
        seen.update(layer)
        found.extend(layer[at : at + ROW_MAX] for at in range(0, len(layer), ROW_MAX))
        layer = [target for name in layer for target in following[name]]
    rest = [name for name in units if name not in seen]
    found.extend(rest[at : at + ROW_MAX] for at in range(0, len(rest), ROW_MAX))
    return found


def _units(workflow: Workflow) -> list[str]:
    agents = [member.name for member in workflow.members if not member.step]
    return list(dict.fromkeys((*agents, *(PIPELINE + pipeline.name for pipeline in workflow.pipelines))))


def _start(workflow: Workflow) -> str:
    agents = {member.name for member in workflow.members if not member.step}
    return workflow.start if workflow.start in agents else PIPELINE + workflow.start


def _width(labels: Sequence[str]) -> float:
    return max(len(shorten(label, chars_max=LABEL_CHARS_MAX)) for label in labels) * _CHAR + 2 * _PAD


def _height(tools: int) -> float:
    return _LINE * (1 + tools) + _PAD


def _curve(source: Box, target: Box, rows_down: int) -> str:
    if rows_down > 0:
        x, y = source.x + source.width / 2, source.y + source.height
        to_x, to_y = target.x + target.width / 2, target.y
        half = (to_y - y) / 2
        return f"M{x:.1f},{y:.1f} C{x:.1f},{y + half:.1f} {to_x:.1f},{to_y - half:.1f} {to_x:.1f},{to_y:.1f}"
    if rows_down == 0:
        x, y = source.x + source.width * 0.7, source.y + source.height
        to_x, to_y = target.x + target.width * 0.3, target.y + target.height
        low = max(y, to_y) + _ROW_GAP / 2
        return f"M{x:.1f},{y:.1f} C{x:.1f},{low:.1f} {to_x:.1f},{low:.1f} {to_x:.1f},{to_y:.1f}"
    x, y = source.x + source.width, source.y + source.height / 2
    to_x, to_y = target.x + target.width, target.y + target.height / 2
    side = max(x, to_x) + _GAP
    return f"M{x:.1f},{y:.1f} C{side:.1f},{y:.1f} {side:.1f},{to_y:.1f} {to_x:.1f},{to_y:.1f}"


def _box(box: Box) -> Iterable[str]:
    middle = box.x + box.width / 2
    about = printable(f"{box.label}: {box.about}" if box.about else box.label)
    yield (
        f'<g><title>{escape(about)}</title><rect class="{box.style}" x="{box.x:.1f}" y="{box.y:.1f}"'
        f' width="{box.width:.1f}" height="{box.height:.1f}" rx="6"/>'
    )
    for at, text in enumerate((box.label, *box.tools)):
        style = ' class="tools"' if at else ""
        shown = escape(shorten(text, chars_max=LABEL_CHARS_MAX))
        yield f'<text{style} x="{middle:.1f}" y="{box.y + _LINE * (at + 1):.1f}" text-anchor="middle">{shown}</text>'
    yield "</g>"
