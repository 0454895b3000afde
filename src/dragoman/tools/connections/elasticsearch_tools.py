"""The tools on an Elasticsearch as models see them."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct

from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.names import Clock
from dragoman.runtime.tool_ports import CallContext, Told
from dragoman.tools.arguments import schema_of, typed
from dragoman.tools.connections.connection import Connections
from dragoman.tools.connections.dataset_info import PICK_S, Datasets, GetDatasetInfo
from dragoman.tools.connections.elasticsearch import (
    AskElasticsearch,
    ClusterHealth,
    Elasticsearch,
    QueryElasticsearch,
)
from dragoman.tools.connections.esql import Esql, ExecuteQuery
from dragoman.tools.connections.visualize import Visualize, VisualizeQuery
from dragoman.tools.egress import TOTAL_S, Egress
from dragoman.tools.registry import Registry

TOOLSET = "connections"
ASK_S = TOTAL_S + 5.0
"""Above the client's own limit, whose sentence says more."""
LOOK_S = 2 * TOTAL_S + PICK_S + 5.0
"""Two questions to Elasticsearch and one to the model."""

S = TypeVar("S", bound=Struct)

ELASTICSEARCH = ToolSpec(
    "elasticsearch",
    "Ask any reading endpoint of Elasticsearch's HTTP API: GET for any path, such as /_cat/indices?v or "
    "/_cluster/settings, or POST with a body for a path that ends in /_search. Returns JSON with response, which is "
    "what Elasticsearch answered. Nothing can be written. To search documents by text use query_elasticsearch; for "
    "ES|QL use execute_query; for field names use get_dataset_info.",
    schema_of(AskElasticsearch),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=ASK_S,
    examples=(
        "GET /_cat/indices?v",
        "Call the Elasticsearch API endpoint /_cluster/settings",
        "POST to /logs-*/_search with a terms aggregation",
        "Show the shard allocation of Elasticsearch",
    ),
    keywords=("elasticsearch", "api", "endpoint", "shards", "nodes", "aggregation", "aggregations", "mapping", "_cat"),
)
GET_DATASET_INFO = ToolSpec(
    "get_dataset_info",
    "Find out which indices and data streams an Elasticsearch holds and which fields they have. Set index to a name, "
    'part of a name, or glob such as logs-*, several with commas; "" lists all indices, without fields. Returns JSON '
    "with indices, fields as name:type (those that matter for the conversation) and stats. No indices means that "
    "nothing fits. Use it before a query instead of guessing names.",
    schema_of(GetDatasetInfo),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=LOOK_S,
    examples=(
        "Which fields does logs-* have?",
        "What indices and data streams are in Elasticsearch?",
        "Show the fields of the index metrics-*",
        "What can I search for in traces-*?",
    ),
    keywords=("index", "indices", "indexes", "fields", "field", "mapping", "dataset", "datasets", "streams", "columns"),
)
EXECUTE_QUERY = ToolSpec(
    "execute_query",
    "Run an ES|QL query on Elasticsearch and read its result: JSON with columns and rows, at most 100 rows; a notice "
    "says what was cut. A mistake comes back as error and errorMessages in Elasticsearch's own words, so mend the "
    "query and try again. Aggregate with STATS rather than read many rows. Look names up with get_dataset_info.",
    schema_of(ExecuteQuery),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=ASK_S,
    examples=(
        'Run the ES|QL query "FROM logs-* | STATS COUNT(*) BY host.name"',
        'Execute the ESQL "FROM metrics-* | LIMIT 10"',
        "Use ES|QL to count the documents by service",
    ),
    keywords=("esql", "es|ql", "query", "run", "execute", "elasticsearch", "stats", "rows", "columns"),
)
VISUALIZE_QUERY = ToolSpec(
    "visualize_query",
    "Run an ES|QL query on Elasticsearch and show its table or chart to the user, whose screen draws it as intention "
    "says; you are told how many rows and which columns it has. Use it when the user wants to see something. To read "
    "the rows yourself use execute_query.",
    schema_of(VisualizeQuery),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=ASK_S,
    examples=(
        'Visualize the ES|QL query "FROM logs-* | STATS COUNT(*) BY host.name" as visualizeBar',
        'Draw a chart of the ESQL "FROM metrics-* | LIMIT 10" with visualizeAuto',
        "Plot errors per service from Elasticsearch",
    ),
    keywords=("esql", "visualize", "visualise", "chart", "plot", "draw", "bar", "line", "donut", "visualization"),
)
QUERY_ELASTICSEARCH = ToolSpec(
    "query_elasticsearch",
    "Search documents in Elasticsearch, such as logs: Lucene query text or Query DSL as JSON text, in an index, data "
    "stream or pattern, between two times. Times are RFC 3339, relative such as now-1h, or seconds since 1970, and "
    "are compared with @timestamp. Returns JSON with total and documents, newest first, 10 unless limit says "
    "otherwise, at most 100.",
    schema_of(QueryElasticsearch),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=ASK_S,
    examples=(
        "Search Elasticsearch for timeout",
        "Show the error logs of the last hour",
        "Find log lines that mention connection refused",
        "Query elasticsearch for status:500 in logs-*",
        "Which log messages came in the last 15 minutes?",
    ),
    keywords=(
        *("search", "query", "elasticsearch", "logs", "log", "lines", "messages", "documents", "errors", "exceptions"),
        *("lucene", "last", "hour", "minutes"),
    ),
)
GET_CLUSTER_HEALTH = ToolSpec(
    "get_cluster_health",
    "Get the health of the Elasticsearch cluster right now: JSON with cluster_name, status (green, yellow: replicas "
    "are missing, red: data is missing), number_of_nodes, and how many shards are active, relocating, initializing "
    "and unassigned. It needs no arguments.",
    schema_of(ClusterHealth),
    repeat=Repeat.PURE,
    toolset=TOOLSET,
    timeout_s=ASK_S,
    examples=(
        "Is my Elasticsearch cluster healthy right now?",
        "What is the status of the Elasticsearch cluster?",
        "How healthy is the cluster?",
        "Is the cluster green?",
        "How many nodes does the Elasticsearch cluster have?",
        "Are there unassigned shards?",
    ),
    keywords=(
        *("cluster", "health", "healthy", "status", "green", "yellow", "red", "elasticsearch", "nodes", "shards"),
        *("unassigned", "replicas"),
    ),
)


def register_elasticsearch(registry: Registry, connections: Connections, egress: Egress, clock: Clock) -> None:
    """Offer the tools on the Elasticsearch connections among these."""
    elasticsearch = Elasticsearch(connections, egress, clock)
    esql = Esql(elasticsearch)
    registry.register(ELASTICSEARCH, typed(AskElasticsearch, _plain(elasticsearch.request)))
    registry.register(GET_DATASET_INFO, typed(GetDatasetInfo, Datasets(elasticsearch).get))
    registry.register(EXECUTE_QUERY, typed(ExecuteQuery, _plain(esql.execute)))
    registry.register(VISUALIZE_QUERY, typed(VisualizeQuery, _plain(Visualize(esql).visualize)))
    registry.register(QUERY_ELASTICSEARCH, typed(QueryElasticsearch, _plain(elasticsearch.search)))
    registry.register(GET_CLUSTER_HEALTH, typed(ClusterHealth, _plain(elasticsearch.health)))


def _plain(run: Callable[[S], Awaitable[str | Told]]) -> Callable[[S, CallContext], Awaitable[str | Told]]:
    """For tools that only read and so need not know who calls."""

    async def run_plain(asked: S, _: CallContext) -> str | Told:
        return await run(asked)

    return run_plain
