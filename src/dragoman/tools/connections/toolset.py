"""The connections tools as models see them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.names import Clock
from dragoman.runtime.tool_ports import CallContext
from dragoman.tools.arguments import schema_of, typed
from dragoman.tools.connections.connection import Connection, Connections
from dragoman.tools.connections.datasources import GetDatasource, ListDatasources, get_datasource, list_datasources
from dragoman.tools.connections.elasticsearch import KIND as ELASTICSEARCH_KIND
from dragoman.tools.connections.elasticsearch_tools import register_elasticsearch
from dragoman.tools.connections.prometheus import (
    KIND,
    ListLabelNames,
    ListLabelValues,
    ListMetricNames,
    Prometheus,
    QueryPrometheus,
)
from dragoman.tools.egress import TOTAL_S, Egress
from dragoman.tools.registry import Registry

TOOLSET = "connections"
LOOK_UP_S = 5.0
ASK_S = TOTAL_S + 5.0
"""Above the client's own limit, whose sentence says more."""

S = TypeVar("S", bound=Struct)

LIST_DATASOURCES = ToolSpec(
    "list_datasources",
    "List the datasources (connections to outside systems such as Prometheus) that are configured, with uid, name, "
    "type and host, and their total. Set type to see only those of one type. Use it to count datasources, or to learn "
    "the uid that other tools ask for as datasourceUid.",
    schema_of(ListDatasources),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=LOOK_UP_S,
    examples=(
        "How many datasources do I have?",
        "List my data sources",
        "Which connections are there?",
        "What systems are you connected to?",
        "Which datasources are configured?",
        "Do I have a Prometheus datasource?",
    ),
    keywords=("datasources", "data", "sources", "datasource", "connections", "connected", "configured", "systems"),
)
GET_DATASOURCE = ToolSpec(
    "get_datasource",
    "Look up one datasource by uid or name: returns its uid, name, type and host. Without arguments it returns the "
    "only datasource there is. To see all of them use list_datasources.",
    schema_of(GetDatasource),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=LOOK_UP_S,
    examples=(
        "Show me the datasource prom",
        "What type is the datasource called metrics?",
        "Give me the details of one data source",
        "What is the address of the prometheus datasource?",
    ),
    keywords=("datasource", "details", "uid", "type", "host", "address", "one", "called"),
)
QUERY_PROMETHEUS = ToolSpec(
    "query_prometheus",
    "Run a PromQL expression on Prometheus. Without times it gives the current values; with startTime (and endTime, "
    "stepSeconds) it gives values over time. Times are RFC 3339, relative such as now-1h, or seconds since 1970. "
    "Returns JSON with resultType and result as Prometheus gives them, at most 50 series; a notice says what was cut. "
    "A mistake in the expression comes back in Prometheus's own words. Look names up with "
    "list_prometheus_metric_names rather than guess them.",
    schema_of(QueryPrometheus),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=ASK_S,
    examples=(
        "Which targets are up?",
        "Query prometheus for up",
        "What is the CPU usage right now?",
        "Show the request rate over the last hour",
        "Which pods restarted?",
        "How much memory does the server use?",
        "Run the PromQL rate(http_requests_total[5m])",
        "What is the error rate since this morning?",
    ),
    keywords=(
        *("query", "promql", "prometheus", "metric", "metrics", "value", "rate", "cpu", "memory", "latency", "errors"),
        *("requests", "usage", "up", "down", "targets", "pods", "restarts", "graph", "trend", "last", "hour"),
    ),
)
LIST_METRIC_NAMES = ToolSpec(
    "list_prometheus_metric_names",
    "List the names of the metrics that a Prometheus holds, sorted, a page at a time, with their total. Set regex to "
    "see only names in which it is found, such as http_.*_total. Use it before query_prometheus when you do not know "
    "what a metric is called.",
    schema_of(ListMetricNames),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=ASK_S,
    examples=(
        "Which metrics are there?",
        "List all metric names",
        "What metrics about http exist?",
        "How many metrics does Prometheus have?",
        "Find metrics whose name contains memory",
    ),
    keywords=("metric", "metrics", "names", "available", "exist", "prometheus", "list"),
)
LIST_LABEL_NAMES = ToolSpec(
    "list_prometheus_label_names",
    "List the names of the labels in a Prometheus, sorted, with their total. Set match to a selector such as "
    'up{job="api"} to see only the labels of those series.',
    schema_of(ListLabelNames),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=ASK_S,
    examples=("Which labels are there?", "List the label names", "What labels does the metric up have?"),
    keywords=("label", "labels", "names", "dimensions", "prometheus"),
)
LIST_LABEL_VALUES = ToolSpec(
    "list_prometheus_label_values",
    "List the values that one label has in a Prometheus, sorted, with their total: all jobs, all instances, all pods. "
    "Set match to a selector to see only the values in those series.",
    schema_of(ListLabelValues),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=ASK_S,
    examples=(
        "Which jobs are monitored?",
        "List all instances",
        "What values does the label job have?",
        "Which namespaces are there?",
    ),
    keywords=("label", "values", "jobs", "job", "instances", "instance", "namespaces", "monitored", "prometheus"),
)


def register_connections(registry: Registry, connections: Sequence[Connection], egress: Egress, clock: Clock) -> None:
    """Offer the tools on these connections; those on Prometheus or Elasticsearch only if there is one.

    Raises ValueError, with a sentence for whoever wrote the configuration, if a connection cannot be used.
    """
    known = Connections(connections)

    async def list_known(asked: ListDatasources) -> str:
        return list_datasources(known, asked)

    async def get_known(asked: GetDatasource) -> str:
        return get_datasource(known, asked)

    registry.register(LIST_DATASOURCES, typed(ListDatasources, _plain(list_known)))
    registry.register(GET_DATASOURCE, typed(GetDatasource, _plain(get_known)))
    if any(connection.kind == KIND for connection in connections):
        prometheus = Prometheus(known, egress, clock)
        registry.register(QUERY_PROMETHEUS, typed(QueryPrometheus, _plain(prometheus.query)))
        registry.register(LIST_METRIC_NAMES, typed(ListMetricNames, _plain(prometheus.metric_names)))
        registry.register(LIST_LABEL_NAMES, typed(ListLabelNames, _plain(prometheus.label_names)))
        registry.register(LIST_LABEL_VALUES, typed(ListLabelValues, _plain(prometheus.label_values)))
    if any(connection.kind == ELASTICSEARCH_KIND for connection in connections):
        register_elasticsearch(registry, known, egress, clock)


def _plain(run: Callable[[S], Awaitable[str]]) -> Callable[[S, CallContext], Awaitable[str]]:
    """For tools that only read and so need not know who calls."""

    async def run_plain(asked: S, _: CallContext) -> str:
        return await run(asked)

    return run_plain
