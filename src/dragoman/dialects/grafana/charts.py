"""A tool's result -> a chart, if it is a time series as Prometheus tells it: `{"resultType":"matrix","result":[…]}`.

A client draws what it gets, so points that no axis holds (NaN, Inf) are left out, and a chart that would make too long
a line is thinned until it fits.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Literal

import msgspec
from msgspec import Struct

from dragoman.core.messages import ToolCall

CHART_BYTES_MAX = 600 * 1024
"""Of JSON. A client's line buffer holds 1 MiB (Q8)."""
TITLE_CHARS_MAX = 200
NAME_CHARS_MAX = 300
MATRIX_WITHIN_CHARS = 200
"""How near its beginning a result says what it is."""
TIME_MAX = 1e11
"""Unix seconds; a later point is not a time."""


class ChartPoint(Struct, frozen=True):
    """`ts` is Unix milliseconds."""

    ts: int
    v: float


class ChartSeries(Struct, frozen=True):
    name: str
    labels: dict[str, str]
    points: tuple[ChartPoint, ...]


class TimeRange(Struct, frozen=True):
    start: int
    end: int


class Chart(Struct, frozen=True, rename="camel"):
    chart_type: Literal["line"]
    title: str
    time_range: TimeRange
    series: tuple[ChartSeries, ...]


class _Series(Struct, frozen=True):
    metric: dict[str, str] = {}
    values: tuple[tuple[float, str], ...] = ()


class _Matrix(Struct, frozen=True, rename="camel"):
    result_type: Literal["matrix"]
    result: tuple[_Series, ...]


class _Asked(Struct, frozen=True):
    expr: str


_decoder = msgspec.json.Decoder(_Matrix)


def chart_of(call: ToolCall | None, content: str) -> Chart | None:
    """The chart of what `call` returned; None if it is no time series, or one without a point to draw."""
    if '"matrix"' not in content[:MATRIX_WITHIN_CHARS]:
        return None
    try:
        matrix = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    title = _title(call)
    series = tuple(_series(each, title) for each in matrix.result)
    series = tuple(each for each in series if each.points)
    return _fitting(title, series) if series else None


def _title(call: ToolCall | None) -> str:
    """The expression that was asked for, or the tool's name."""
    if call is None:
        return "Time series"
    try:
        asked = msgspec.json.decode(call.arguments, type=_Asked).expr
    except (msgspec.DecodeError, UnicodeEncodeError):
        return call.name
    return _clipped(" ".join(asked.split()), TITLE_CHARS_MAX) or call.name


def _series(series: _Series, title: str) -> ChartSeries:
    points = tuple(
        ChartPoint(round(at * 1000), value)
        for at, text in series.values
        if (value := _number(text)) is not None and abs(at) < TIME_MAX
    )
    return ChartSeries(_name(series.metric) or title, series.metric, points)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def _name(metric: dict[str, str]) -> str:
    """As PromQL writes it: name{label="value"}."""
    labels = ", ".join(f'{key}="{value}"' for key, value in metric.items() if key != "__name__")
    return _clipped(metric.get("__name__", "") + (f"{{{labels}}}" if labels else ""), NAME_CHARS_MAX)


def _fitting(title: str, series: Sequence[ChartSeries]) -> Chart | None:
    """All of it, or every second point of each series and so on; at last fewer series."""
    series = tuple(series)
    while series:
        points = [point for each in series for point in each.points]
        bounds = TimeRange(min(point.ts for point in points), max(point.ts for point in points))
        chart = Chart("line", title, bounds, series)
        if len(msgspec.json.encode(chart)) <= CHART_BYTES_MAX:
            return chart
        if max(len(each.points) for each in series) > 2:
            series = tuple(ChartSeries(each.name, each.labels, _thinned(each.points)) for each in series)
        else:
            series = series[: len(series) // 2]
    return None


def _thinned(points: tuple[ChartPoint, ...]) -> tuple[ChartPoint, ...]:
    """Every second point, the last one always: it is what is looked at."""
    return points[::2] if len(points) % 2 else (*points[::2], points[-1])


def _clipped(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
