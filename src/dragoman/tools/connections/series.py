"""Prometheus's answers, within what a model should read. Pure: bytes in, JSON text out."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct, field

from dragoman.core.errors import ToolFailed
from dragoman.tools.egress import Answer

SERIES_MAX = 50
POINTS_MAX = 1_000
"""Of one series."""
POINTS_TOTAL_MAX = 10_000
"""Of all series together: about 300 KB of JSON."""
WARNINGS_MAX = 5
TEXT_CHARS_MAX = 500
"""Of one error or warning."""

T = TypeVar("T")


class _Answer(Struct, frozen=True):
    """The envelope of the HTTP API, v1."""

    status: str
    data: Raw = Raw(b"null")
    error_type: str = field(name="errorType", default="")
    error: str = ""
    warnings: tuple[str, ...] = ()


class _Data(Struct, frozen=True):
    result_type: str = field(name="resultType")
    result: Raw


class _Series(Struct, frozen=True, omit_defaults=True):
    metric: dict[str, str]
    values: Sequence[Raw] = ()
    histograms: Sequence[Raw] = ()


class _Result(Struct, frozen=True, omit_defaults=True):
    """What the model reads."""

    result_type: str = field(name="resultType")
    result: Raw | Sequence[Raw] | Sequence[_Series]
    warnings: tuple[str, ...] = ()
    notice: str = ""


def query_result(name: str, answer: Answer) -> str:
    """`{"resultType", "result"}` as Prometheus spells them, cut to size; `notice` says what was cut.

    Raises ToolFailed with Prometheus's own words, or with what is wrong with the connection called `name`.
    """
    envelope = _opened(name, answer)
    data = _decoded(name, envelope.data, _Data)
    warnings = tuple(_clipped(text) for text in envelope.warnings[:WARNINGS_MAX])
    match data.result_type:
        case "matrix":
            every = _decoded(name, data.result, list[_Series])
            shown, notices = _cut_points(every[:SERIES_MAX])
        case "vector":
            every = _decoded(name, data.result, list[Raw])
            shown, notices = every[:SERIES_MAX], []
        case _:
            return _encoded(_Result(data.result_type, data.result, warnings))
    if len(every) > SERIES_MAX:
        most = f"Only the first {SERIES_MAX} of {len(every):,} series are shown: aggregate, or match fewer."
        notices = [most, *notices]
    if not every:
        notices = ["Nothing matched there and then. list_prometheus_metric_names shows which metrics there are."]
    return _encoded(_Result(data.result_type, shown, warnings, " ".join(notices)))


def names(name: str, answer: Answer) -> list[str]:
    """The names in an answer of /labels or /label/…/values. Raises ToolFailed as `query_result` does."""
    return _decoded(name, _opened(name, answer).data, list[str])


def _opened(name: str, answer: Answer) -> _Answer:
    try:
        envelope = msgspec.json.decode(answer.body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        envelope = None
    if envelope is not None and envelope.status == "success" and answer.status < 300:
        return envelope
    if answer.status in (401, 403):
        raise ToolFailed(
            f"{name} did not accept this server's credentials (status {answer.status}). "
            "Whoever runs the server must check the connection's headers."
        )
    if envelope is not None and envelope.error:
        kind = f" ({envelope.error_type})" if envelope.error_type else ""
        raise ToolFailed(f"{name} refused{kind}: {_clipped(envelope.error)}")
    if answer.status < 300:
        raise _not_prometheus(name)
    raise ToolFailed(f"{name} failed with status {answer.status} and no error text. Try again later.")


def _decoded(name: str, body: Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _not_prometheus(name) from None


def _not_prometheus(name: str) -> ToolFailed:
    return ToolFailed(f"{name} did not answer as Prometheus does. Whoever runs the server must check its url.")


def _cut_points(every: Sequence[_Series]) -> tuple[list[_Series], list[str]]:
    most = min(POINTS_MAX, POINTS_TOTAL_MAX // max(1, len(every)))
    longest = max((max(len(one.values), len(one.histograms)) for one in every), default=0)
    if longest <= most:
        return list(every), []
    shown = [_Series(one.metric, one.values[-most:], one.histograms[-most:]) for one in every]
    return shown, [f"Only the newest {most:,} points of each series are shown: take a larger stepSeconds."]


def _encoded(result: _Result) -> str:
    return msgspec.json.encode(result).decode()


def _clipped(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "…"
