"""A workflow as an image: SVG that stands by itself. Pure.

    row 0      [ Front Desk ]                  agents are boxes, dashed if they speak to other agents only
                 ↕        │
    row 1   [ Billing ]  ┌ Claim intake ┐      pipelines are frames around their steps
                         │ [ Extract  ] │
                         │ [ Register ] │
                         └──────────────┘

No line crosses a box: one that passes a row has a lane in it, which it shares with all that go the same way to the same
end. Two agents that hand over to each other have one line with two tips; a line within a row is a bow below it.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from math import fsum

from msgspec import Struct

from dragoman.cli.terminal import columns, printable, shorten
from dragoman.cli.workflow_graph import PIPELINE, Edge, edges, rows, start_of
from dragoman.core.workflows import Workflow

LABEL_CHARS_MAX = 30
TIP = 8.0
"""Pixels from the point of an arrow to its back."""
SWEEPS = 6
"""How often the rows are ordered anew, each time by the row above and then by the row below."""

_CHAR, _LINE, _PAD, _GAP, _ROW_GAP, _LANE_GAP = 7.6, 18.0, 12.0, 36.0, 64.0, 14.0
"""Pixels: a column of 13 px sans-serif, at most about; a line of tools; inside boxes; between them; between rows; at
the sides of a lane."""
_PORTS_FROM, _PORTS_TO = 0.15, 0.85
"""The part of a box's side where lines to other rows begin and end; those within a row use the rest."""
_STYLE = (
    "text{font:13px sans-serif;fill:#1b1f24}.tools{font-size:11px;fill:#57606a}.box{fill:#f6f8fa;stroke:#57606a}"
    ".start{fill:#ddf4ff;stroke:#0969da;stroke-width:2}.internal{stroke-dasharray:5 4}.frame{fill:#fff;stroke:#8c959f}"
    "path{fill:none;stroke:#57606a}.calls{stroke-dasharray:4 3}path.tip{fill:#57606a;stroke:none}"
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


class Route(Struct, frozen=True):
    """A line between two rows, from the upper end to the lower one. `stops` are what it meets row by row, units and
    lanes, both ends included."""

    edge: Edge
    down: bool
    both: bool
    """With a tip at either end."""
    row: int
    stops: tuple[str, ...]


def svg(workflow: Workflow, *, tools: bool = False) -> str:
    """An image that needs nothing else: no script, no font, no address."""
    drawing = _Drawing(workflow, tools)
    width, height = drawing.size
    title = escape(printable(workflow.name or "workflow"))
    body = "\n".join((*drawing.lines(), *(part for box in drawing.boxes for part in _box(box))))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" role="img">\n<title>{title}</title>\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )


# -- which way the lines go ------------------------------------------------------------------------------------------


def routes(workflow: Workflow, row_of: Mapping[str, int]) -> tuple[list[Route], list[Edge]]:
    """The lines between rows, and those within one."""
    found: list[Route] = []
    within: list[Edge] = []
    drawn: set[Edge] = set()
    known = [edge for edge in edges(workflow) if edge.source in row_of and edge.target in row_of]
    for edge in known:
        if edge in drawn:
            continue
        start, end = row_of[edge.source], row_of[edge.target]
        if start == end:
            within.append(edge)
            continue
        back = Edge(edge.target, edge.source, edge.calls)
        both = back in known
        drawn.update((edge, back) if both else (edge,))
        upper, lower = (edge.source, edge.target) if start < end else (edge.target, edge.source)
        way = f"{'both' if both else 'down' if start < end else 'up'} {edge.calls}"
        # Lines with two tips are not bundled: nobody could tell which ends belong together.
        end_of_lane = f"{upper}\0{lower}" if both else edge.target
        lane = f"\0{way} {end_of_lane}"
        between = abs(start - end) - 1
        found.append(Route(edge, start < end, both, min(start, end), (upper, *[lane] * between, lower)))
    return found, within


def ordered(layers: Sequence[Sequence[str]], found: Sequence[Route]) -> list[list[str]]:
    """The rows with their lanes, each in the order in which its lines cross few others."""
    order = [list(layer) for layer in layers]
    above: list[dict[str, set[str]]] = [{} for _ in order]
    below: list[dict[str, set[str]]] = [{} for _ in order]
    for route in found:
        for at, (upper, lower) in enumerate(pairwise(route.stops), start=route.row):
            below[at].setdefault(upper, set()).add(lower)
            above[at + 1].setdefault(lower, set()).add(upper)
        for at, lane in enumerate(route.stops[1:-1], start=route.row + 1):
            if lane not in order[at]:
                order[at].append(lane)
    for _ in range(SWEEPS):
        for at in range(1, len(order)):
            order[at] = _by_neighbours(order[at], above[at], order[at - 1])
        for at in range(len(order) - 2, -1, -1):
            order[at] = _by_neighbours(order[at], below[at], order[at + 1])
    return order


def _by_neighbours(row: list[str], neighbours: Mapping[str, set[str]], other: list[str]) -> list[str]:
    """By the middle of those that each is joined to; one that is joined to none stays about where it is."""
    places = {item: (at + 0.5) / len(other) for at, item in enumerate(other)}

    def place(at: int) -> float:
        near = neighbours.get(row[at])
        return fsum(places[item] for item in near) / len(near) if near else (at + 0.5) / len(row)

    return [row[at] for at in sorted(range(len(row)), key=place)]


# -- where everything stands -----------------------------------------------------------------------------------------


class _Drawing:
    def __init__(self, workflow: Workflow, tools: bool) -> None:
        self._workflow = workflow
        self._tools = tools
        self._members = {member.name: member for member in workflow.members}
        self._steps = {PIPELINE + pipeline.name: pipeline.steps for pipeline in workflow.pipelines}
        self.boxes: list[Box] = []
        layers = rows(workflow)
        self._row_of = {name: at for at, row in enumerate(layers) for name in row}
        self._routes, self._within = routes(workflow, self._row_of)
        order = ordered(layers, self._routes)
        self._x: list[dict[str, float]] = []
        """Of each row the middles of its units and lanes."""
        self._bands: list[tuple[float, float]] = []
        """Top and bottom of each row."""
        self._units: dict[str, Box] = {}
        widths = [_row_width([self._size(item)[0] for item in row]) for row in order]
        widest = max(widths, default=0)
        y = _GAP
        for row, width in zip(order, widths, strict=True):
            y = self._row(row, _GAP + (widest - width) / 2, y)
        self.size = (widest + 2 * _GAP, y)
        self._ports = self._all_ports()

    def _row(self, row: Sequence[str], x: float, y: float) -> float:
        """Place a row; where the next one begins."""
        middles: dict[str, float] = {}
        before: float | None = None
        bottom = y
        for item in row:
            width, height = self._size(item)
            x += 0 if before is None else _between(before, width)
            middles[item] = x + width / 2
            if width:
                self._place(item, x, y, width, height)
            x += width
            before = width
            bottom = max(bottom, y + height)
        self._x.append(middles)
        self._bands.append((y, bottom))
        return bottom + _ROW_GAP

    def _size(self, item: str) -> tuple[float, float]:
        """Of a unit; a lane has neither width nor height."""
        if item not in self._row_of:
            return 0, 0
        if item not in self._steps:
            return self._size_of_agent(item)
        inner = [self._size_of_agent(step) for step in self._steps[item] if step in self._members]
        label = _width((item.removeprefix(PIPELINE),))
        width = max((label, *(width for width, _ in inner))) + 2 * _PAD
        return width, _LINE + 2 * _PAD + sum(height + _PAD for _, height in inner)

    def _size_of_agent(self, name: str) -> tuple[float, float]:
        tools = self._shown_tools(name)
        return _width((name, *tools)), _LINE * (1 + len(tools)) + _PAD

    def _shown_tools(self, name: str) -> tuple[str, ...]:
        return self._members[name].tools if self._tools else ()

    def _place(self, name: str, x: float, y: float, width: float, height: float) -> None:
        begins = name == start_of(self._workflow)
        if name not in self._steps:
            box = self._agent(name, x, y, width, height, begins=begins)
        else:
            style = "frame start" if begins else "frame"
            about = next(each.description for each in self._workflow.pipelines if PIPELINE + each.name == name)
            box = Box(name.removeprefix(PIPELINE), about, x, y, width, height, style)
        self.boxes.append(box)
        self._units[name] = box
        below = y + _LINE + _PAD
        for step in self._steps.get(name, ()):
            if step in self._members:
                _, step_height = self._size_of_agent(step)
                self.boxes.append(self._agent(step, x + _PAD, below, width - 2 * _PAD, step_height, begins=False))
                below += step_height + _PAD

    def _agent(self, name: str, x: float, y: float, width: float, height: float, *, begins: bool) -> Box:
        member = self._members[name]
        style = f"box{' start' if begins else ''}{' internal' if member.internal else ''}"
        return Box(name, member.description, x, y, width, height, style, self._shown_tools(name))

    # -- lines -----------------------------------------------------------------------------------------------------

    def _all_ports(self) -> dict[tuple[str, bool, str], float]:
        """Where lines meet boxes: x by the unit, whether it is its lower side, and what lies on the other side."""
        sides: dict[tuple[str, bool], dict[str, float]] = {}
        for route in self._routes:
            last = route.row + len(route.stops) - 1
            upper, lower = route.stops[0], route.stops[-1]
            sides.setdefault((upper, True), {})[_port(route, 1)] = self._x[route.row + 1][route.stops[1]]
            sides.setdefault((lower, False), {})[_port(route, -2)] = self._x[last - 1][route.stops[-2]]
        found: dict[tuple[str, bool, str], float] = {}
        for (unit, under), others in sides.items():
            box = self._units[unit]
            from_x, room = box.x + _PORTS_FROM * box.width, (_PORTS_TO - _PORTS_FROM) * box.width
            for at, other in enumerate(sorted(others, key=lambda other: (others[other], other))):
                found[unit, under, other] = from_x + room * (at + 0.5) / len(others)
        return found

    def lines(self) -> Iterable[str]:
        for route in self._routes:
            points = self._points(route)
            yield _line(route.edge, _smooth(points))
            if route.down or route.both:
                yield _tip(points[-1], -TIP)
            if route.both or not route.down:
                yield _tip(points[0], TIP)
        for edge in self._within:
            bow, end = self._bow(edge)
            yield _line(edge, bow)
            yield _tip(end, TIP)

    def _points(self, route: Route) -> list[tuple[float, float]]:
        """Where a line enters and leaves each row, from its upper end to its lower one."""
        upper, lower = route.stops[0], route.stops[-1]
        xs = [self._x[at][stop] for at, stop in enumerate(route.stops, start=route.row)]
        xs[0] = self._ports[upper, True, _port(route, 1)]
        xs[-1] = self._ports[lower, False, _port(route, -2)]
        bands = self._bands[route.row : route.row + len(xs)]
        found = [point for x, (top, bottom) in zip(xs, bands, strict=True) for point in ((x, top), (x, bottom))]
        box = self._units[upper]
        return [(xs[0], box.y + box.height), *found[1:-1]]

    def _bow(self, edge: Edge) -> tuple[str, tuple[float, float]]:
        """Below the row, from one box to another of it; and where it ends."""
        source, target = self._units[edge.source], self._units[edge.target]
        right = source.x < target.x
        x = source.x + source.width * (1 - _PORTS_FROM / 2 if right else _PORTS_FROM / 2)
        to_x = target.x + target.width * (_PORTS_FROM / 2 if right else 1 - _PORTS_FROM / 2)
        _, bottom = self._bands[self._row_of[edge.source]]
        low = bottom + _ROW_GAP / 2
        end = (to_x, target.y + target.height)
        path = (
            f"M{_at((x, source.y + source.height))} L{_at((x, bottom))} C{_at((x, low))} {_at((to_x, low))}"
            f" {_at((to_x, bottom))} L{_at(end)}"
        )
        return path, end


def _port(route: Route, at: int) -> str:
    """What tells lines apart that meet a box at the same side: to where, and how they are drawn."""
    return f"{route.stops[at]}\0{route.both}{route.down}{route.edge.calls}"


def _line(edge: Edge, path: str) -> str:
    return f'<path class="{"edge calls" if edge.calls else "edge"}" d="{path}"/>'


def _tip(point: tuple[float, float], back: float) -> str:
    """A triangle: all lines meet boxes from straight below or above, so that it needs no turning."""
    x, y = point
    return f'<path class="tip" d="M{_at((x - 4, y + back))} L{_at((x + 4, y + back))} L{_at(point)} z"/>'


def _smooth(points: Sequence[tuple[float, float]]) -> str:
    """Straight through the rows, curved between them."""
    drawn = f"M{_at(points[0])}"
    for before, after in pairwise(points):
        middle = (before[1] + after[1]) / 2
        curve = f" C{_at((before[0], middle))} {_at((after[0], middle))} {_at(after)}"
        drawn += f" L{_at(after)}" if before[0] == after[0] else curve
    return drawn


def _at(point: tuple[float, float]) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"


def _width(labels: Sequence[str]) -> float:
    return max(columns(shorten(label, chars_max=LABEL_CHARS_MAX)) for label in labels) * _CHAR + 2 * _PAD


def _between(width: float, other: float) -> float:
    """The room between two neighbours of a row; lanes have no width."""
    return _GAP if width and other else _LANE_GAP


def _row_width(widths: Sequence[float]) -> float:
    return sum(widths) + sum(_between(before, after) for before, after in pairwise(widths))


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
