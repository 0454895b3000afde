"""Prometheus results as rows of text. Pure; part of the offline router.

Known shapes, all from https://prometheus.io/docs/prometheus/latest/querying/api/: the API's `{"status", "data"}`, its
`data` alone, and a bare list of series under `data`, as mcp-grafana gives it.
"""

from typing import Any, cast


def rows_of(value: dict[str, Any]) -> list[str] | None:
    """One row per series, or None if this is no such result."""
    kind: Any = value.get("resultType")
    result: Any = value.get("result")
    if kind is None and isinstance(value.get("data"), dict):
        data = cast("dict[str, Any]", value["data"])
        kind, result = data.get("resultType"), data.get("result")
    elif kind is None:
        kind, result = "", value.get("data")
    if kind in ("scalar", "string") and _is_sample(result):
        return [str(result[1])]
    if not isinstance(result, list):
        return None
    series = cast("list[dict[str, Any]]", result)
    if not all(map(_is_series, series)) or not (series or kind):
        return None
    return [_row(each) for each in series]


def _row(series: dict[str, Any]) -> str:
    labels = cast("dict[str, Any]", series["metric"])
    inside = ", ".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
    title = str(labels.get("__name__", "")) + (f"{{{inside}}}" if inside else "") or "all together"
    if _is_sample(series.get("value")):
        return f"{title} = {series['value'][1]}"
    samples = series.get("values")
    if not isinstance(samples, list) or not samples or not all(map(_is_sample, cast("list[Any]", samples))):
        return f"{title}: no samples"
    points = [str(sample[1]) for sample in cast("list[Any]", samples)]
    numbers = [number for number in map(_number, points) if number is not None]
    spread = f", least {min(numbers):g}, most {max(numbers):g}" if numbers else ""
    return f"{title}: from {points[0]} to {points[-1]}{spread} ({len(points):,} points)"


def _is_series(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(cast("dict[str, Any]", value).get("metric"), dict)


def _is_sample(value: Any) -> bool:
    """`[time, "value"]`."""
    return isinstance(value, list) and len(cast("list[Any]", value)) == 2


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number else None
