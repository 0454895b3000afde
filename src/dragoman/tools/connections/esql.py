"""ES|QL, Elasticsearch's piped query language: slips mended, a query run, its table within what a model should read.

Results are spelled as Kibana spells its tables (elastic spec 4.5, F6): `{columns: [{id, name, meta: {type}}], rows}`.
Source of the API: https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-esql-query
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from dragoman.tools.connections import elasticsearch_answers as answers
from dragoman.tools.connections.elasticsearch import QUERY_CHARS_MAX, DatasourceUid, Elasticsearch

ROWS_MAX = 100
TABLE_CHARS_MAX = 60_000
COLUMNS_MAX = 200
CELL_CHARS_MAX = 1_000
CELL_VALUES_MAX = 20
"""Of a cell that holds several values."""

FAILED = "The query failed to execute"
"""Word for word as elastic spec 4.5 has it."""

EsqlText = Annotated[
    str, Meta(min_length=1, max_length=QUERY_CHARS_MAX, description="The ES|QL query, such as FROM logs-* | LIMIT 10.")
]


class ExecuteQuery(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    query: EsqlText
    datasource_uid: DatasourceUid = ""


class _ColumnMeta(Struct, frozen=True):
    type: str


class Column(Struct, frozen=True):
    """`meta.type` is Kibana's word for the type of the field, not Elasticsearch's."""

    id: str
    name: str
    meta: _ColumnMeta


class Table(Struct, frozen=True):
    """What a query gave. `total` counts its rows, shown or not."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    total: int
    notice: str = ""


class Failure(Struct, frozen=True, rename="camel"):
    """Why a query gave nothing. `error_messages` are the places where it is wrong."""

    message: str
    error: answers.Fault
    error_messages: tuple[str, ...] | UnsetType = UNSET


class _EsqlColumn(Struct, frozen=True):
    name: str
    type: str


class _EsqlAnswer(Struct, frozen=True):
    columns: tuple[_EsqlColumn, ...]
    values: Sequence[Sequence[Any]]
    is_partial: bool = False


class Esql:
    """Runs queries on the Elasticsearch connections there are."""

    def __init__(self, elasticsearch: Elasticsearch) -> None:
        self._elasticsearch = elasticsearch

    async def execute(self, asked: ExecuteQuery) -> str:
        """`{columns, rows, notice?}`, or `{message, error, errorMessages?}`. Raises ToolFailed if nothing was asked."""
        query = corrected(asked.query)
        result = await self.run(asked.datasource_uid, query)
        if isinstance(result, Failure):
            return msgspec.json.encode(result).decode()
        mended = f"It was run as: {query}" if query != asked.query.strip() else ""
        shown = cut(result, rows_max=ROWS_MAX, chars_max=TABLE_CHARS_MAX)
        notice = " ".join(filter(None, (shown.notice, mended)))
        value: dict[str, Any] = {"columns": shown.columns, "rows": shown.rows}
        return msgspec.json.encode(value | ({"notice": notice} if notice else {})).decode()

    async def run(self, uid: str, query: str) -> Table | Failure:
        """Raises ToolFailed if Elasticsearch was not reached or does not know us."""
        connection = self._elasticsearch.connection(uid)
        answer = await self._elasticsearch.ask(
            connection, "POST", "/_query", params=(("drop_null_columns", "true"),), body={"query": query}
        )
        fault = answers.fault(answer) if 400 <= answer.status < 500 and answer.status != 401 else None
        if fault is not None:
            places = tuple(line.strip() for line in fault.reason.splitlines() if line.lstrip().startswith("line "))
            return Failure(FAILED, fault, places or UNSET)
        found = answers.decoded(connection.name, answers.opened(connection.name, answer), _EsqlAnswer)
        columns = [Column(one.name, one.name, _ColumnMeta(kibana_type(one.type))) for one in found.columns]
        notice = "Not all of the cluster answered, so rows may be missing." if found.is_partial else ""
        return Table(columns, found.values, len(found.values), notice)


# -- size ------------------------------------------------------------------------------------------------------------


def cut(table: Table, *, rows_max: int, chars_max: int) -> Table:
    """The table's beginning, as much of it as may be shown; its notice says what was left out."""
    columns = table.columns[:COLUMNS_MAX]
    rows: list[list[Any]] = []
    chars = 0
    for row in table.rows[:rows_max]:
        shown = [_cell(cell) for cell in row[:COLUMNS_MAX]]
        chars += len(msgspec.json.encode(shown))
        if chars > chars_max and rows:
            break
        rows.append(shown)
    notices = [table.notice]
    if len(rows) < table.total:
        notices.append(
            f"Only the first {len(rows):,} of {table.total:,} rows are shown: narrow the query or aggregate."
        )
    if len(columns) < len(table.columns):
        notices.append(
            f"Only the first {len(columns)} of {len(table.columns):,} columns are shown: KEEP those you need."
        )
    return Table(columns, rows, table.total, " ".join(filter(None, notices)))


def _cell(cell: Any) -> Any:
    if isinstance(cell, str):
        return cell if len(cell) <= CELL_CHARS_MAX else cell[:CELL_CHARS_MAX] + "…"
    if isinstance(cell, list):
        return [_cell(value) for value in cast("list[Any]", cell)[:CELL_VALUES_MAX]]
    return cell


# -- types -----------------------------------------------------------------------------------------------------------

_KIBANA_TYPES = {
    **dict.fromkeys(("keyword", "text", "version", "constant_keyword", "wildcard", "semantic_text"), "string"),
    **dict.fromkeys(("long", "integer", "short", "byte", "double", "float", "half_float", "scaled_float"), "number"),
    **dict.fromkeys(("unsigned_long", "counter_long", "counter_integer", "counter_double"), "number"),
    **dict.fromkeys(("date", "date_nanos"), "date"),
    **{kind: kind for kind in ("boolean", "ip", "geo_point", "geo_shape", "_source", "null")},
}


def kibana_type(esql_type: str) -> str:
    return _KIBANA_TYPES.get(esql_type, "unknown")


# -- slips -----------------------------------------------------------------------------------------------------------

_FENCE = re.compile(r"\A```\w*\s*\n(.*?)\n?```\Z", re.DOTALL)
_TOKEN = re.compile(
    r'"""(?:.*?)"""'  # what stands in one of these is nobody's slip
    r'|"(?:\\.|[^"\\\n])*"'
    r"|`(?:``|[^`])*`"
    r"|//[^\n]*|/\*.*?\*/"
    r"|'(?P<single>(?:\\.|[^'\\\n])*)'",
    re.DOTALL,
)
_LIKE = re.compile(r'(\bLIKE\s+)"((?:\\.|[^"\\\n])*)"', re.IGNORECASE)


def corrected(query: str) -> str:
    """The query without slips that models make and that have one meaning only; else as it is.

    - a Markdown fence around it;
    - 'text' for "text": a single quote cannot stand anywhere in ES|QL;
    - SQL's wildcards in LIKE (`%`, and then `_`) for ES|QL's (`*`, `?`), if the pattern has none of those.
    """
    query = query.strip()
    fenced = _FENCE.match(query)
    if fenced:
        query = fenced[1].strip()
    mended = _TOKEN.sub(_double_quoted, query)
    return _with_wildcards(mended)


def _double_quoted(token: re.Match[str]) -> str:
    single = token["single"]
    if single is None:
        return token[0]
    return '"' + re.sub(r'(?<!\\)"', r"\"", single.replace("\\'", "'")) + '"'


def _with_wildcards(query: str) -> str:
    """Only where LIKE itself stands outside of texts and comments."""
    spans = [token.span() for token in _TOKEN.finditer(query)]

    def mended(like: re.Match[str]) -> str:
        pattern = like[2]
        if any(start <= like.start() < end for start, end in spans):
            return like[0]
        if "%" not in pattern or re.search(r"[*?\\]", pattern):
            return like[0]
        return f'{like[1]}"{pattern.replace("%", "*").replace("_", "?")}"'

    return _LIKE.sub(mended, query)
