"""Tools on a Prometheus, or anything that speaks its HTTP API v1. Named, and their arguments spelled, as mcp-grafana's.

Source of the API: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from collections.abc import Sequence
from math import ceil
from typing import Annotated, Literal
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from dragoman.core.errors import ToolFailed
from dragoman.core.names import Clock
from dragoman.tools.connections import series
from dragoman.tools.connections.connection import Connections
from dragoman.tools.connections.times import BadTime, unix_seconds
from dragoman.tools.egress import Allowed, Egress
from dragoman.tools.patterns import BadPattern, regex

KIND = "prometheus"
ALLOW = (
    Allowed("POST", "/api/v1/query"),
    Allowed("POST", "/api/v1/query_range"),
    Allowed("GET", "/api/v1/labels"),
    Allowed("GET", "/api/v1/label/*/values"),
)
EXPR_CHARS_MAX = 10_000
RANGE_S_DEFAULT = 3600
POINTS_DEFAULT = 100
"""How many points a range query aims at when no step is given."""
STEP_S_MAX = 366 * 86400
NAMES_LIMIT_DEFAULT = 100
NAMES_LIMIT_MAX = 1_000
PAGE_MAX = 100_000

DatasourceUid = Annotated[str, Meta(description="Which Prometheus; leave out if there is only one.")]
TimeText = Annotated[
    str | float | UnsetType, Meta(description="RFC 3339, or relative such as now-1h, or seconds since 1970.")
]
NamesLimit = Annotated[int, Meta(ge=1, le=NAMES_LIMIT_MAX, description="How many to return at most.")]
Page = Annotated[int, Meta(ge=1, le=PAGE_MAX, description="Which page of that many, counted from 1.")]
Selector = Annotated[
    str, Meta(max_length=EXPR_CHARS_MAX, description='Only of series that fit this selector, such as up{job="api"}.')
]


class QueryPrometheus(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    expr: Annotated[str, Meta(min_length=1, max_length=EXPR_CHARS_MAX, description="The PromQL expression.")]
    datasource_uid: DatasourceUid = ""
    query_type: Annotated[
        Literal["instant", "range"] | UnsetType,
        Meta(description="instant: values at one time. range: values over time; the default when startTime is given."),
    ] = UNSET
    start_time: TimeText = UNSET
    end_time: TimeText = UNSET
    step_seconds: Annotated[
        int, Meta(ge=0, le=STEP_S_MAX, description="Seconds between the points of a range; 0 for about 100 points.")
    ] = 0


class ListMetricNames(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    datasource_uid: DatasourceUid = ""
    regex: Annotated[str, Meta(description="Only names in which this regular expression is found.")] = ""
    limit: NamesLimit = NAMES_LIMIT_DEFAULT
    page: Page = 1


class ListLabelNames(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    datasource_uid: DatasourceUid = ""
    match: Selector = ""
    limit: NamesLimit = NAMES_LIMIT_DEFAULT
    page: Page = 1


class ListLabelValues(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    label_name: Annotated[
        str, Meta(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=200, description="The label, such as job.")
    ]
    datasource_uid: DatasourceUid = ""
    match: Selector = ""
    limit: NamesLimit = NAMES_LIMIT_DEFAULT
    page: Page = 1


class _Names(Struct, frozen=True, rename="camel"):
    """`total` counts all, shown or not."""

    total: int
    names: Sequence[str]
    has_more: bool


class Prometheus:
    """Asks the Prometheus connections there are."""

    def __init__(self, connections: Connections, egress: Egress, clock: Clock) -> None:
        self._connections = connections
        self._egress = egress
        self._clock = clock

    async def query(self, asked: QueryPrometheus) -> str:
        """`{"resultType", "result"}`; see `series.query_result`."""
        connection = self._connections.only(KIND, uid=asked.datasource_uid)
        path, form = self._question(asked)
        answer = await self._egress.request(
            connection.target(ALLOW),
            "POST",  # an expression may be longer than what proxies take in a path
            path,
            body=urlencode(form).encode(),
            media_type="application/x-www-form-urlencoded",
        )
        return series.query_result(connection.name, answer)

    async def metric_names(self, asked: ListMetricNames) -> str:
        try:
            fits = regex(asked.regex) if asked.regex else None
        except BadPattern as error:
            raise ToolFailed(str(error), code="bad_arguments") from None
        every = await self._names(asked.datasource_uid, "/api/v1/label/__name__/values", match="")
        return _page([one for one in every if fits is None or fits(one)], limit=asked.limit, page=asked.page)

    async def label_names(self, asked: ListLabelNames) -> str:
        every = await self._names(asked.datasource_uid, "/api/v1/labels", match=asked.match)
        return _page(every, limit=asked.limit, page=asked.page)

    async def label_values(self, asked: ListLabelValues) -> str:
        path = f"/api/v1/label/{asked.label_name}/values"
        every = await self._names(asked.datasource_uid, path, match=asked.match)
        return _page(every, limit=asked.limit, page=asked.page)

    async def _names(self, uid: str, path: str, *, match: str) -> list[str]:
        connection = self._connections.only(KIND, uid=uid)
        params = [("match[]", match)] if match else []
        answer = await self._egress.request(connection.target(ALLOW), "GET", path, params=params)
        return series.names(connection.name, answer)

    def _question(self, asked: QueryPrometheus) -> tuple[str, list[tuple[str, str]]]:
        now = self._clock.now()
        try:
            start = None if asked.start_time in (UNSET, "") else unix_seconds(asked.start_time, now=now)
            end = None if asked.end_time in (UNSET, "") else unix_seconds(asked.end_time, now=now)
        except BadTime as error:
            raise ToolFailed(str(error), code="bad_arguments") from None
        if asked.query_type == "instant" or (asked.query_type is UNSET and start is None):
            at = end if end is not None else start if start is not None else now
            return "/api/v1/query", [("query", asked.expr), ("time", _number(at))]
        end = now if end is None else end
        start = end - RANGE_S_DEFAULT if start is None else start
        step = asked.step_seconds or max(1, ceil((end - start) / POINTS_DEFAULT))
        bounds = [("start", _number(start)), ("end", _number(end)), ("step", str(step))]
        return "/api/v1/query_range", [("query", asked.expr), *bounds]


def _page(every: list[str], *, limit: int, page: int) -> str:
    first = (page - 1) * limit
    shown = every[first : first + limit]
    return msgspec.json.encode(_Names(len(every), shown, first + len(shown) < len(every))).decode()


def _number(seconds: float) -> str:
    return f"{seconds:.3f}"
