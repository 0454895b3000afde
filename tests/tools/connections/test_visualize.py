from typing import Any, get_args

import msgspec
import pytest

from dragoman.tools.connections import visualize
from dragoman.tools.connections.visualize import Intention
from tests.elasticsearch_server import FakeElasticsearch
from tests.tools.conftest import Call


async def visualized(call: Call, query: str, intention: str = "visualizeAuto") -> tuple[Any, Any]:
    outcome = await call("visualize_query", query=query, intention=intention)
    assert not outcome.is_error, outcome
    return msgspec.json.decode(outcome.content), msgspec.json.decode(outcome.shown)


async def test_F9_the_table_goes_to_the_screen(es: FakeElasticsearch, call: Call) -> None:
    es.add("test_index", {"bar": "keyword"}, {"bar": "foo"})
    content, shown = await visualized(call, "FROM test_index")
    assert list(content) == ["message"]
    assert content["message"] == (
        "The query gave 1 row with the columns bar. They go to the user's screen, where it can draw them; "
        "to read them yourself use execute_query. The query was:\nFROM test_index"
    )
    assert shown == {
        "columns": [{"id": "bar", "name": "bar", "meta": {"type": "string"}}],
        "rows": [["foo"]],
        "correctedQuery": "FROM test_index",
    }


async def test_the_query_is_mended_first(es: FakeElasticsearch, call: Call) -> None:
    es.add("a", {"bar": "keyword"}, {"bar": "foo"})
    _, shown = await visualized(call, "```\nFROM a\n```")
    assert shown["correctedQuery"] == "FROM a"
    assert es.seen[0].body == {"query": "FROM a"}


async def test_a_query_that_is_only_to_be_written_is_not_run(es: FakeElasticsearch, call: Call) -> None:
    content, shown = await visualized(call, "FROM a", "generateQueryOnly")
    assert content == {"message": "The query was not run. It is now in front of the user:\nFROM a"}
    assert shown == {"columns": [], "rows": [], "correctedQuery": "FROM a"}
    assert es.seen == []


async def test_a_mistake_is_told_to_both(es: FakeElasticsearch, call: Call) -> None:
    content, shown = await visualized(call, "FROM nope")
    error = {"type": "verification_exception", "reason": "Unknown index [nope]"}
    assert content == {"message": "The query failed to execute: FROM nope", "error": error}
    assert shown == {"columns": [], "rows": [], "correctedQuery": "FROM nope", "error": error}


async def test_a_screen_is_shown_more_rows_than_a_model(es: FakeElasticsearch, call: Call) -> None:
    es.add("a", {f"c{at:02}": "long" for at in range(32)}, *({"c00": at} for at in range(1_000)))
    content, shown = await visualized(call, "FROM a | LIMIT 1000")
    assert len(shown["rows"]) == visualize.SHOWN_ROWS_MAX
    assert "1,000 rows" in content["message"]
    assert "c29 and 2 more" in content["message"]


@pytest.mark.parametrize("intention", get_args(Intention))
async def test_every_intention_is_taken(es: FakeElasticsearch, call: Call, intention: str) -> None:
    es.add("a", {"bar": "keyword"})
    await visualized(call, "FROM a", intention)


async def test_no_other_is(es: FakeElasticsearch, call: Call) -> None:
    outcome = await call("visualize_query", query="FROM a", intention="visualizePie")
    assert outcome.code == "bad_arguments"
