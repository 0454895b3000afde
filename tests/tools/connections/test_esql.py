from typing import Any

import msgspec
import pytest
from aiohttp import web

from dragoman.runtime.tool_ports import ToolOutcome
from dragoman.tools.connections import esql
from dragoman.tools.connections.connection import Connection
from dragoman.tools.connections.esql import Column, Table, corrected, cut, kibana_type
from dragoman.tools.connections.toolset import register_connections
from dragoman.tools.egress import Egress
from dragoman.tools.registry import Registry
from tests.elasticsearch_server import FakeElasticsearch
from tests.support import FixedClock
from tests.tools.conftest import Call, Serve

# -- execute_query -----------------------------------------------------------------------------------------------------


def rows_of(number: int) -> list[dict[str, Any]]:
    return [{"_id": str(at), "bar": f"foo{at}", "size": at} for at in range(number)]


async def test_F6_a_query_gives_columns_and_rows(es: FakeElasticsearch, call: Call) -> None:
    es.add("logs", {"bar": "keyword", "size": "long"}, *rows_of(12))
    outcome = await call("execute_query", query="FROM logs | LIMIT 10")
    assert not outcome.is_error
    told = msgspec.json.decode(outcome.content)
    assert list(told) == ["columns", "rows"]
    assert told["columns"] == [
        {"id": "bar", "name": "bar", "meta": {"type": "string"}},
        {"id": "size", "name": "size", "meta": {"type": "number"}},
    ]
    assert told["rows"] == [[f"foo{at}", at] for at in range(10)]
    assert [(one.method, one.path, one.body) for one in es.seen] == [
        ("POST", "/_query?drop_null_columns=true", {"query": "FROM logs | LIMIT 10"})
    ]


async def test_no_more_rows_than_a_model_should_read(es: FakeElasticsearch, call: Call) -> None:
    es.add("logs", {"bar": "keyword"}, *rows_of(250))
    told = msgspec.json.decode((await call("execute_query", query="FROM logs")).content)
    assert len(told["rows"]) == esql.ROWS_MAX
    assert told["notice"] == "Only the first 100 of 250 rows are shown: narrow the query or aggregate."


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (
            "FRM logs",
            {
                "message": "The query failed to execute",
                "error": {
                    "type": "parsing_exception",
                    "reason": "line 1:1: mismatched input 'FRM' expecting {'from', 'row'}",
                },
                "errorMessages": ["line 1:1: mismatched input 'FRM' expecting {'from', 'row'}"],
            },
        ),
        (
            "FROM logs | KEEP bar, a, b",
            {
                "message": "The query failed to execute",
                "error": {
                    "type": "verification_exception",
                    "reason": "Found 2 problem\nline 2:6: Unknown column [a]\nline 2:6: Unknown column [b]",
                },
                "errorMessages": ["line 2:6: Unknown column [a]", "line 2:6: Unknown column [b]"],
            },
        ),
        (
            "FROM nope",
            {
                "message": "The query failed to execute",
                "error": {"type": "verification_exception", "reason": "Unknown index [nope]"},
            },
        ),
    ],
)
async def test_a_mistake_comes_back_in_its_own_words(
    es: FakeElasticsearch, call: Call, query: str, told: dict[str, Any]
) -> None:
    es.add("logs", {"bar": "keyword"})
    outcome = await call("execute_query", query=query)
    assert (msgspec.json.decode(outcome.content), outcome.is_error) == (told, False)


async def test_a_mended_query_is_told(es: FakeElasticsearch, call: Call) -> None:
    es.add("logs", {"bar": "keyword"}, *rows_of(1))
    told = msgspec.json.decode((await call("execute_query", query="```esql\nFROM logs | LIMIT 1\n```")).content)
    assert told["rows"] == [["foo0"]]
    assert told["notice"] == "It was run as: FROM logs | LIMIT 1"


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (401, {"error": {"type": "security_exception", "reason": "no"}}, "es did not accept this server's credentials"),
        (503, {"error": {"type": "unavailable", "reason": "later"}}, "es refused (unavailable): later"),
        (502, {}, "es failed with status 502 and no error text. Try again later."),
        (200, {"took": 1}, "es did not answer as Elasticsearch does."),
    ],
)
async def test_what_is_no_mistake_of_the_query_is_an_error(
    registry: Registry, egress: Egress, call: Call, serve: Serve, status: int, body: Any, sentence: str
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    register_connections(registry, [Connection("es", "elasticsearch", await serve(handler))], egress, FixedClock())
    outcome = await call("execute_query", query="FROM logs")
    assert (outcome.content[: len(sentence)], outcome.is_error) == (sentence, True)


async def test_rows_that_may_be_missing_are_told(registry: Registry, egress: Egress, call: Call, serve: Serve) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"is_partial": True, "columns": [], "values": []})

    register_connections(registry, [Connection("es", "elasticsearch", await serve(handler))], egress, FixedClock())
    assert await call("execute_query", query="FROM logs") == ToolOutcome(
        '{"columns":[],"rows":[],"notice":"Not all of the cluster answered, so rows may be missing."}'
    )


# -- size --------------------------------------------------------------------------------------------------------------


def table(*rows: list[Any], columns: int = 1) -> Table:
    meta = msgspec.convert({"id": "a", "name": "a", "meta": {"type": "string"}}, Column)
    return Table([meta] * columns, list(rows), len(rows))


def test_a_table_that_fits_is_left_alone() -> None:
    given = table([1, None, 2.5, True, ["a", "b"], 2**63])
    assert cut(given, rows_max=1, chars_max=100) == given


def test_cells_are_cut() -> None:
    shown = cut(table(["x" * 2_000, ["y"] * 30]), rows_max=1, chars_max=10_000)
    assert shown.rows == [["x" * esql.CELL_CHARS_MAX + "…", ["y"] * esql.CELL_VALUES_MAX]]


def test_rows_are_cut_where_the_room_ends_but_one_is_always_shown() -> None:
    rows = [["x" * 100]] * 10
    shown = cut(table(*rows), rows_max=10, chars_max=320)
    assert len(shown.rows) == 3
    assert shown.notice == "Only the first 3 of 10 rows are shown: narrow the query or aggregate."
    assert len(cut(table(*rows), rows_max=10, chars_max=10).rows) == 1


def test_columns_are_cut_with_their_cells() -> None:
    shown = cut(table(list(range(300)), columns=300), rows_max=1, chars_max=10_000)
    assert (len(shown.columns), len(shown.rows[0])) == (esql.COLUMNS_MAX, esql.COLUMNS_MAX)
    assert shown.notice == "Only the first 200 of 300 columns are shown: KEEP those you need."


@pytest.mark.parametrize(
    ("esql_type", "kibana"),
    [
        ("keyword", "string"),
        ("text", "string"),
        ("long", "number"),
        ("counter_double", "number"),
        ("date", "date"),
        ("date_nanos", "date"),
        ("boolean", "boolean"),
        ("ip", "ip"),
        ("tomorrow", "unknown"),
    ],
)
def test_types_are_told_in_kibanas_words(esql_type: str, kibana: str) -> None:
    assert kibana_type(esql_type) == kibana


# -- slips -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "mended"),
    [
        (" FROM a \n", "FROM a"),
        ("```\nFROM a\n```", "FROM a"),
        ("```esql\nFROM a\n| LIMIT 1\n```", "FROM a\n| LIMIT 1"),
        ("FROM a | WHERE b == 'c'", 'FROM a | WHERE b == "c"'),
        ("FROM a | WHERE b == ''", 'FROM a | WHERE b == ""'),
        ("FROM a | WHERE b == 'say \"x\"'", 'FROM a | WHERE b == "say \\"x\\""'),
        ("FROM a | WHERE b == 'say \\\"x\\\"'", 'FROM a | WHERE b == "say \\"x\\""'),
        ("FROM a | WHERE b == 'it\\'s'", 'FROM a | WHERE b == "it\'s"'),
        ('FROM a | WHERE b LIKE "x%"', 'FROM a | WHERE b LIKE "x*"'),
        ('FROM a | WHERE b not like "%x_y%"', 'FROM a | WHERE b not like "*x?y*"'),
        ("FROM a | WHERE b LIKE '%x'", 'FROM a | WHERE b LIKE "*x"'),
    ],
)
def test_a_slip_is_mended(query: str, mended: str) -> None:
    assert corrected(query) == mended
    assert corrected(mended) == mended


@pytest.mark.parametrize(
    "query",
    [
        "FROM logs-* | WHERE @timestamp >= NOW() - 15 minutes | STATS c = COUNT(*) BY service.name | SORT c DESC",
        'FROM a | WHERE b == "it\'s" AND c == "that\'s"',
        'FROM a | WHERE b == """it\'s "x" \'y\'"""',
        "FROM a | EVAL `it's` = 1 | KEEP `it's`",
        "FROM a // it's a note, and that's all\n| LIMIT 1",
        "FROM a /* it's, that's */ | LIMIT 1",
        'FROM a | WHERE b LIKE "my_index*"',
        'FROM a | WHERE b LIKE "100\\\\%"',
        'FROM a | WHERE b LIKE "x%*"',
        'FROM a | WHERE b LIKE "under_score"',
        'FROM a | WHERE b RLIKE "x%"',
        'FROM a | WHERE b == "x% LIKE \\"y%\\""',
        'FROM a // LIKE "x%"\n| LIMIT 1',
        "FROM a | WHERE b == 'never closed",
    ],
)
def test_what_may_be_meant_is_left_alone(query: str) -> None:
    assert corrected(query) == query
