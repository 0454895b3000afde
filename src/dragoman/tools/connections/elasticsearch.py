"""Tools on an Elasticsearch: its HTTP API as far as it reads, a search, and the cluster's health.

    a path that a model wrote ─only what reads─► below the connection's address ─► Elasticsearch's words, cut to size

`elasticsearch` is the Observability AI Assistant's (elastic spec 4.5), `query_elasticsearch` is mcp-grafana's. Searches
run with the connection's key, whoever asks. Source of the API: https://www.elastic.co/docs/api/doc/elasticsearch/
"""

from collections.abc import Sequence
from typing import Annotated, Any, cast
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from dragoman.core.errors import ToolFailed
from dragoman.core.names import Clock
from dragoman.tools.connections import elasticsearch_answers as answers
from dragoman.tools.connections.connection import Connection, Connections
from dragoman.tools.connections.times import BadTime, unix_seconds
from dragoman.tools.egress import PATH_CHARS_MAX, Allowed, Answer, Egress

KIND = "elasticsearch"
ALLOW = (Allowed("GET", "/**"), Allowed("POST", "/**/_search"), Allowed("POST", "/_query"))
"""All that any tool here asks. What a model writes is held to less: see `Elasticsearch.request`."""

ONLY_READS = (
    'Only GET requests or POST requests to the "_search" endpoint are permitted through this assistant function.'
)
"""Word for word as elastic spec 4.5 has it."""

QUERY_CHARS_MAX = 10_000
PARAMETERS_MAX = 50
DOCUMENTS_DEFAULT = 10
DOCUMENTS_MAX = 100
TIME_FIELD = "@timestamp"

DatasourceUid = Annotated[str, Meta(description="Which Elasticsearch; leave out if there is only one.")]
TimeText = Annotated[
    str | float | UnsetType, Meta(description="RFC 3339, or relative such as now-1h, or seconds since 1970.")
]


class AskElasticsearch(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`method` is no enum: what else a model tries is answered with `ONLY_READS`, as its own clients expect."""

    method: Annotated[str, Meta(max_length=10, description="GET, or POST for a path that ends in /_search.")]
    path: Annotated[
        str,
        Meta(
            max_length=2 * PATH_CHARS_MAX,
            description="The endpoint, such as /logs-*/_search or /_cat/indices?v, with its query string.",
        ),
    ]
    body: Annotated[dict[str, Any] | UnsetType, Meta(description="The request's body, a JSON object.")] = UNSET
    datasource_uid: DatasourceUid = ""


class QueryElasticsearch(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    index: Annotated[
        str, Meta(max_length=1_000, description="Index, data stream or glob such as logs-*; leave out for all.")
    ] = ""
    query: Annotated[
        str,
        Meta(
            max_length=QUERY_CHARS_MAX,
            description="Lucene query text such as status:500 AND host:web1, or Query DSL as JSON text; it may hold "
            "aggs. Leave out for all documents.",
        ),
    ] = ""
    start_time: TimeText = UNSET
    end_time: TimeText = UNSET
    limit: Annotated[int, Meta(ge=0, le=DOCUMENTS_MAX, description="How many documents to return at most.")] = (
        DOCUMENTS_DEFAULT
    )
    datasource_uid: DatasourceUid = ""


class ClusterHealth(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    datasource_uid: DatasourceUid = ""


class _Total(Struct, frozen=True):
    value: int
    relation: str = "eq"


class _Hit(Struct, frozen=True, omit_defaults=True):
    """Goes to the model as it came, but for what is of no use to it."""

    index: str = field(name="_index", default="")
    id: str = field(name="_id", default="")
    score: float | None = field(name="_score", default=None)
    source: Raw = field(name="_source", default=Raw(b"{}"))
    fields: Raw | UnsetType = UNSET


class _Hits(Struct, frozen=True):
    total: _Total | int = 0
    hits: tuple[_Hit, ...] = ()


class _Found(Struct, frozen=True):
    hits: _Hits = _Hits()
    aggregations: Raw | UnsetType = UNSET
    timed_out: bool = False


class Elasticsearch:
    """Asks the Elasticsearch connections there are."""

    def __init__(self, connections: Connections, egress: Egress, clock: Clock) -> None:
        self._connections = connections
        self._egress = egress
        self._clock = clock

    def connection(self, uid: str) -> Connection:
        """Raises ToolFailed, which says how to name one."""
        return self._connections.only(KIND, uid=uid)

    async def ask(
        self,
        connection: Connection,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        body: object = UNSET,
    ) -> Answer:
        """Its answer, also one of a failure, without anything secret. Raises ToolFailed if there is none."""
        answer = await self._egress.request(
            connection.target(ALLOW),
            method,
            path,
            params=params,
            body=b"" if body is UNSET else msgspec.json.encode(body),
            media_type="" if body is UNSET else "application/json",
        )
        return answers.without_secrets(answer, connection.headers)

    async def request(self, asked: AskElasticsearch) -> str:
        """`{"response": …}`: JSON as it came, or text; `notice` says what was cut."""
        method = asked.method.strip().upper()
        path, params = requested(method, asked.path)
        connection = self.connection(asked.datasource_uid)
        answer = answers.opened(
            connection.name, await self.ask(connection, method, path, params=params, body=asked.body)
        )
        value, notice = answers.shortened(answers.value_of(answer))
        return msgspec.json.encode({"response": value} | ({"notice": notice} if notice else {})).decode()

    async def health(self, asked: ClusterHealth) -> str:
        """`GET /_cluster/health` as it came: `cluster_name`, `status`, `number_of_nodes`, …"""
        connection = self.connection(asked.datasource_uid)
        answer = answers.opened(connection.name, await self.ask(connection, "GET", "/_cluster/health"))
        return msgspec.json.encode(answers.decoded(connection.name, answer, dict[str, Any])).decode()

    async def search(self, asked: QueryElasticsearch) -> str:
        """`{"total", "documents", "aggregations"?, "notice"?}`, newest documents first."""
        connection = self.connection(asked.datasource_uid)
        path, _ = requested("POST", f"/{checked_index(asked.index) or '*'}/_search")
        params = (("ignore_unavailable", "true"), ("allow_no_indices", "true"))
        answer = await self.ask(connection, "POST", path, params=params, body=self._search_body(asked))
        found = answers.decoded(connection.name, answers.opened(connection.name, answer), _Found)
        total = found.hits.total if isinstance(found.hits.total, _Total) else _Total(found.hits.total)
        value: dict[str, Any] = {"total": total.value, "documents": found.hits.hits}
        if found.aggregations is not UNSET:
            value["aggregations"] = found.aggregations
        shown, cut = answers.shortened(msgspec.json.decode(msgspec.json.encode(value)))
        notices = [
            "More match than the total says: it is counted no further." if total.relation != "eq" else "",
            "It took too long, so not everything was searched." if found.timed_out else "",
            cut,
        ]
        notice = " ".join(filter(None, notices))
        told = cast("dict[str, Any]", shown) if isinstance(shown, dict) else {"response": shown}
        return msgspec.json.encode(told | ({"notice": notice} if notice else {})).decode()

    def _search_body(self, asked: QueryElasticsearch) -> dict[str, Any]:
        given = _query_dsl(asked.query)
        wrapped = given is not None and bool(given.keys() & {"query", "aggs", "aggregations"})
        body: dict[str, Any] = {
            "size": asked.limit,
            "sort": [{TIME_FIELD: {"order": "desc", "unmapped_type": "date"}}],
        }
        if wrapped and given is not None:
            body |= given
            clause = given.get("query")
        else:
            clause = given or ({"query_string": {"query": asked.query}} if asked.query.strip() else None)
        body["size"] = min(asked.limit, body["size"]) if isinstance(body["size"], int) else asked.limit
        within = self._within(asked)
        body["query"] = {"bool": {"must": [clause] if clause else [], "filter": [within] if within else []}}
        return body

    def _within(self, asked: QueryElasticsearch) -> dict[str, Any] | None:
        """The range of times that is asked about."""
        now = self._clock.now()
        try:
            bounds = {
                name: round(unix_seconds(given, now=now) * 1000)
                for name, given in (("gte", asked.start_time), ("lte", asked.end_time))
                if given is not UNSET and given != ""
            }
        except BadTime as error:
            raise ToolFailed(str(error), code="bad_arguments") from None
        return {"range": {TIME_FIELD: {**bounds, "format": "epoch_millis"}}} if bounds else None


def requested(method: str, written: str) -> tuple[str, list[tuple[str, str]]]:
    """The path below the connection's address, in plain text, and the query's parameters, of what a model wrote.

    Raises ToolFailed: `denied` for what could change something, `bad_arguments` for what is no such path.
    """
    path, _, query = written.strip().partition("?")
    path = path if path.startswith("/") else f"/{path}"
    names = [unquote(name) for name in path[1:].split("/")]
    if method not in ("GET", "POST") or (method == "POST" and names[-1] != "_search"):
        raise ToolFailed(ONLY_READS, code="denied")
    if names[-1] == "" and len(names) > 1:
        names.pop()
    if "://" in path or "#" in path or any(name in (".", "..") or "/" in name for name in names):
        raise _no_path("Write a path below the address of Elasticsearch, such as /logs-*/_search.")
    if "" in names and len(names) > 1:
        raise _no_path("The path has two slashes in a row, so a name is missing in it.")
    if len(path) > PATH_CHARS_MAX:
        raise _no_path(f"The path has more than {PATH_CHARS_MAX:,} characters: use a pattern such as logs-*.")
    try:
        params = parse_qsl(query, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise _no_path(f"The query string has more than {PARAMETERS_MAX} parameters.") from None
    return "/" + "/".join(names), params


def checked_index(written: str) -> str:
    """What a model wrote for an index, to be one part of a path. Raises ToolFailed."""
    index = written.strip()
    if any(char in "/?#%\\" for char in index):
        raise _no_path("index is a name or pattern such as logs-*, without any of / ? # % \\ in it.")
    return index


def _no_path(sentence: str) -> ToolFailed:
    return ToolFailed(sentence, code="bad_arguments")


def _query_dsl(text: str) -> dict[str, Any] | None:
    """The object, if the text is one in JSON: Lucene's syntax never is."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
