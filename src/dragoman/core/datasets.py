"""Datasets: what an outside search system holds, as far as somebody who is about to ask it must know."""

from msgspec import UNSET, Struct, UnsetType

from dragoman.core.operations import Operation


class FieldStats(Struct, frozen=True, gc=False):
    """Of `total` fields, so many were looked at."""

    analyzed: int
    total: int


class DatasetInfo(Struct, frozen=True):
    """Spelled, and in the order, as the Observability AI Assistant has it (elastic spec 3.3, F7).

    `fields` are `name:type`, or `name:type,type` where indices disagree. No `stats`: no field was looked at. `notice`
    says what was left out.
    """

    indices: tuple[str, ...]
    fields: tuple[str, ...]
    stats: FieldStats | UnsetType = UNSET
    notice: str | UnsetType = UNSET


class DescribeDataset(Operation[DatasetInfo], frozen=True):
    """The indices that fit `index` (names or parts of names, with commas between; "" = all) and those of their fields
    that `model` finds worth knowing. Nothing that fits is an empty answer, for which no model is asked.

    Raises NotFound(what="model"); NotOffered if no Elasticsearch is configured; BadRequest for an `index` that
    cannot be a name; ToolFailed if Elasticsearch fails.
    """

    index: str
    model: str
