"""Documents into Elasticsearch, by the configured connection."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from dragoman.core.connectors import Executed
from dragoman.core.errors import BadRequest
from dragoman.tools.connections.connection import Connection
from dragoman.tools.connectors.index import DOCUMENTS_MAX
from tests.elasticsearch_server import KEY, FakeElasticsearch, elasticsearch, source_of
from tests.tools.conftest import Serve
from tests.tools.connectors.rig import CLOSED, Notes, Rig, rigged


def es(url: str) -> tuple[Connection, ...]:
    return (Connection("prom", "prometheus", CLOSED), Connection("es", "elasticsearch", url, (("Authorization", "k"),)))


async def test_documents_are_indexed(serve: Serve):
    notes = Notes(web.json_response({"errors": False, "items": [{"index": {"status": 201}}]}))
    async with rigged(connections=es(await serve(notes.take))) as rig:
        config = {"index": "logs", "refresh": True, "executionTimeField": "at"}
        got = await rig(".index", config, {}, documents=[{"a": 1}, {"b": "ü"}])

    assert got == Executed("c", True, data={"errors": False, "items": ({"index": {"status": 201}},)})
    [(method, path, headers, body)] = notes.seen
    assert (method, path) == ("POST", "/_bulk?refresh=true")
    assert (headers["authorization"], headers["content-type"]) == ("k", "application/x-ndjson")
    assert body == (
        '{"index":{"_index":"logs"}}\n{"a":1,"at":"2023-11-14T22:13:20.000Z"}\n'
        '{"index":{"_index":"logs"}}\n{"b":"ü","at":"2023-11-14T22:13:20.000Z"}\n'
    )


@pytest.fixture
async def searched() -> AsyncIterator[FakeElasticsearch]:
    async with elasticsearch() as fake:
        fake.add("logs", {"message": "text", "count": "long", "@timestamp": "date"})
        yield fake


async def test_what_was_indexed_is_found(searched: FakeElasticsearch):
    connection = Connection("es", "elasticsearch", searched.url, (("Authorization", KEY),))
    async with rigged(connections=(connection,)) as rig:
        config = {"index": "logs", "executionTimeField": "@timestamp"}
        got = await rig(".index", config, {}, documents=[{"message": "full", "count": 1}, {"message": "empty"}])
        assert (got.ok, [item["index"]["status"] for item in got.data["items"]]) == (True, [201, 201])

        mixed = [{"message": "good", "count": 2}, {"message": "bad", "count": "many"}]
        got = await rig(".index", config, {}, documents=mixed)
        assert (got.ok, got.service_message) == (False, "failed to parse field [count] of type [long]")
        got = await rig(".index", {"index": "gone"}, {}, documents=[{}])
        assert (got.ok, got.service_message) == (False, "no such index [gone]")

    written = [source_of(document) for document in searched.indices["logs"]]
    at = "2023-11-14T22:13:20.000Z"
    assert written[:2] == [{"message": "full", "count": 1, "@timestamp": at}, {"message": "empty", "@timestamp": at}]
    assert [document["message"] for document in written[2:]] == ["good"]


async def test_without_the_right_key_nothing_is_written(searched: FakeElasticsearch):
    async with rigged(connections=es(searched.url)) as rig:
        got = await rig(".index", {"index": "logs"}, {}, documents=[{"message": "x"}])
    assert (got.ok, got.service_message) == (False, "es answered with status 401")
    assert searched.indices["logs"] == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            web.json_response({"errors": True, "items": [{"index": {"error": {"reason": "mapper_parsing"}}}]}),
            "mapper_parsing",
        ),
        (web.json_response({"errors": True, "items": [{"index": {"error": "text"}}]}), "text"),
        (web.json_response({"errors": True}), "some documents were refused"),
        (web.Response(status=403), "es answered with status 403"),
        (web.Response(text="<html>"), "es did not answer as Elasticsearch does"),
    ],
)
async def test_documents_that_are_refused(serve: Serve, answer: web.Response, said: str):
    async with rigged(connections=es(await serve(Notes(answer).take))) as rig:
        got = await rig(".index", {"index": "i"}, {}, documents=[{}])
    assert (got.ok, got.message, got.service_message) == (False, "error indexing documents", said)


async def test_without_elasticsearch_it_says_so(rig: Rig):
    got = await rig(".index", {"index": "i"}, {}, documents=[{}])
    assert (got.ok, got.service_message) == (
        False,
        'It cannot be done: no Elasticsearch is configured; add a connection of kind "elasticsearch" to the'
        " configuration.",
    )
    assert rig.executor.lacking(".index")
    assert not rig.executor.lacking(".slack")
    async with rigged(connections=es(CLOSED)) as connected:
        assert not connected.executor.lacking(".index")
        assert not (await connected(".index", {"index": "i"}, {}, documents=[{}])).ok
        for documents in ([], [{}] * (DOCUMENTS_MAX + 1), [{"x": "a" * 1024 * 1024}]):
            with pytest.raises(BadRequest, match=r"params\.documents"):
                await connected(".index", {"index": "i"}, {}, documents=documents)
