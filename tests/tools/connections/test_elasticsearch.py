from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from aiohttp import web

from dragoman.core.errors import ToolFailed
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId
from dragoman.runtime.tool_ports import ToolOutcome
from dragoman.tools.connections.connection import Connection
from dragoman.tools.connections.elasticsearch import ONLY_READS, checked_index
from dragoman.tools.connections.toolset import register_connections
from dragoman.tools.egress import PATH_CHARS_MAX, Allowed, Egress
from dragoman.tools.registry import Registry
from tests.elasticsearch_server import KEY, FakeElasticsearch
from tests.support import FixedClock
from tests.tools.conftest import CONTEXT, Call, Serve

NOW_MS = 1_700_000_000_000
TRACES = [
    {"_id": "1", "@timestamp": NOW_MS - 5_000, "service.name": "cart", "message": "timeout of redis"},
    {"_id": "2", "@timestamp": NOW_MS - 4_000, "service.name": "cart", "message": "ok"},
    {"_id": "3", "@timestamp": NOW_MS - 7_200_000, "service.name": "pay", "message": "timeout of bank"},
]
MAPPING = {"@timestamp": "date", "service.name": "keyword", "message": "text"}
AGGS = {"services": {"terms": {"field": "service.name"}}}


@pytest.fixture
def traces(es: FakeElasticsearch) -> FakeElasticsearch:
    es.add("traces-app", MAPPING, *TRACES)
    return es


def content_of(outcome: Any) -> Any:
    assert not outcome.is_error, outcome
    return msgspec.json.decode(outcome.content)


# -- elasticsearch: what may be asked --------------------------------------------------------------------------------


async def test_F4_a_search_with_an_aggregation(traces: FakeElasticsearch, call: Call) -> None:
    body = {"size": 0, "aggs": AGGS}
    told = content_of(await call("elasticsearch", method="POST", path="traces*/_search", body=body))
    assert told["response"]["hits"]["total"]["value"] == 3
    assert told["response"]["aggregations"]["services"]["buckets"] == [
        {"key": "cart", "doc_count": 2},
        {"key": "pay", "doc_count": 1},
    ]
    assert list(told) == ["response"]
    assert [(one.method, one.path, one.body) for one in traces.seen] == [("POST", "/traces*/_search", body)]


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", "/_cluster/health", "/_cluster/health"),
        ("GET", "_cluster/health", "/_cluster/health"),
        ("GET", "/_cat/indices?v", "/_cat/indices?v="),
        ("GET", "/_cat/indices/?format=json", "/_cat/indices?format=json"),
        ("GET", "/", "/"),
        ("GET", "", "/"),
        ("get", " /traces-app/_doc/1 ", "/traces-app/_doc/1"),
        ("GET", "/traces-app/_search?q=a%26b&size=1", "/traces-app/_search?q=a%26b&size=1"),
        ("POST", "/_search", "/_search"),
        ("POST", "/traces-app/_search", "/traces-app/_search"),
        ("POST", "/_search?scroll=1m", "/_search?scroll=1m"),
        ("POST", "/traces-app/_search?a=/_doc", "/traces-app/_search?a=%2F_doc"),
        ("POST", "/traces-app/%5fsearch", "/traces-app/_search"),
    ],
)
async def test_F5_what_only_reads_is_asked(
    traces: FakeElasticsearch, call: Call, method: str, path: str, sent: str
) -> None:
    content_of(await call("elasticsearch", method=method, path=path))
    assert traces.asked == [f"{method.upper()} {sent}"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/idx"),
        ("DELETE", "/idx"),
        ("PATCH", "/idx"),
        ("HEAD", "/idx"),
        ("POST", "/idx/_doc"),
        ("POST", "/idx/custom_search"),
        ("POST", "/idx/_search/"),
        ("POST", "/_search/scroll"),
        ("POST", "/_search/template"),
        ("POST", "/idx/_doc?x=/_search"),
        ("POST", "/idx/_doc?/_search"),
        ("POST", "/idx/_doc%2f_search"),
        ("POST", "/idx/_SEARCH"),
        ("POST", "/_query"),
        ("POST", ""),
        ("", "/idx"),
        ("GET /x", "/idx"),
    ],
)
async def test_F5_what_could_write_is_refused(es: FakeElasticsearch, call: Call, method: str, path: str) -> None:
    outcome = await call("elasticsearch", method=method, path=path)
    assert outcome == ToolOutcome(ONLY_READS, True, "denied")
    assert es.seen == []


def test_the_refusal_is_the_one_that_callers_know() -> None:
    assert ONLY_READS == (
        'Only GET requests or POST requests to the "_search" endpoint are permitted through this assistant function.'
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "http://evil.example/_search",
        "//evil.example/_search",
        "https:evil/../_search",
        "/../_search",
        "/a/../../_search",
        "/a/./_search",
        "/%2e%2e/_search",
        "/a%2f..%2f/_search",
        "/a/%2e/_search",
        "\\\\evil\\x/_search",
        "/a\r\nHost: evil/_search",
        "/a\u2028b/_search",
        "/a#b/_search",
        "/idx/_doc#/_search",
        "/a%25/_search",
        "/" + "x" * PATH_CHARS_MAX + "/_search",
        "/_search?" + "&".join(f"a{number}=1" for number in range(60)),
    ],
)
async def test_no_path_leaves_the_connection(es: FakeElasticsearch, call: Call, method: str, path: str) -> None:
    outcome = await call("elasticsearch", method=method, path=path)
    assert outcome.is_error
    assert outcome.code in ("bad_arguments", "denied")
    assert es.seen == []


async def test_paths_stay_below_the_base_of_the_connection(
    registry: Registry, egress: Egress, call: Call, serve: Serve
):
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.json_response({})

    connection = Connection("es", "elasticsearch", f"{await serve(handler)}/proxy/es/")
    register_connections(registry, [connection], egress, FixedClock())
    for path in ("/", "a/<b-{now}>/_search", "/c,-d*/_mapping"):
        content_of(await call("elasticsearch", method="GET", path=path))
    assert seen == ["/proxy/es/", "/proxy/es/a/%3Cb-%7Bnow%7D%3E/_search", "/proxy/es/c,-d*/_mapping"]


async def test_what_the_configuration_allows_counts_besides(es: FakeElasticsearch, egress: Egress):
    registry = Registry()
    narrow = (Allowed("GET", "/_cluster/health"),)
    connection = Connection("es", "elasticsearch", es.url, (("Authorization", KEY),), narrow)
    register_connections(registry, [connection], egress, FixedClock())
    codes: list[str] = []
    for path in ("/_cluster/health", "/_cat/indices"):
        arguments = f'{{"method":"GET","path":"{path}"}}'
        codes.append((await registry.call(ToolCall(CallId("c"), "elasticsearch", arguments), CONTEXT)).code)
    assert codes == ["", "denied"]
    assert es.asked == ["GET /_cluster/health"]


# -- elasticsearch: what comes back ------------------------------------------------------------------------------------


async def test_what_is_no_json_comes_as_text(traces: FakeElasticsearch, call: Call) -> None:
    told = content_of(await call("elasticsearch", method="GET", path="/_cat/indices?v"))
    assert told == {"response": "health index docs.count\ngreen traces-app 3\n"}


async def test_a_document_that_is_not_there_is_an_answer(traces: FakeElasticsearch, call: Call) -> None:
    told = content_of(await call("elasticsearch", method="GET", path="/traces-app/_doc/9"))
    assert told == {"response": {"_index": "traces-app", "_id": "9", "found": False}}


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/nope/_search", "es refused (index_not_found_exception): no such index [nope]"),
        (
            "/_nope",
            "es refused (illegal_argument_exception): no handler found for uri [/_nope] and method [GET]",
        ),
    ],
)
async def test_errors_come_in_its_own_words(es: FakeElasticsearch, call: Call, path: str, sentence: str) -> None:
    assert await call("elasticsearch", method="GET", path=path) == ToolOutcome(sentence, True, "tool_failed")


async def test_a_large_answer_is_cut(es: FakeElasticsearch, call: Call) -> None:
    es.add("big", {"text": "text"}, *({"_id": str(number), "text": "x" * 1_000} for number in range(200)))
    told = content_of(await call("elasticsearch", method="POST", path="/big/_search", body={"size": 200}))
    assert len(told["response"]["hits"]["hits"]) == 20
    assert told["response"]["hits"]["total"]["value"] == 200
    assert told["notice"] == "Only the first 20 items of each array are shown: ask for fewer, or for fewer fields."


async def test_a_key_that_is_not_taken_says_whose_move_it_is(es: FakeElasticsearch, egress: Egress) -> None:
    other = Registry()
    connection = Connection("es", "elasticsearch", es.url, (("Authorization", "ApiKey wrong-secret"),))
    register_connections(other, [connection], egress, FixedClock())
    outcome = await other.call(ToolCall(CallId("c"), "get_cluster_health", "{}"), CONTEXT)
    assert outcome.content == (
        "es did not accept this server's credentials (status 401). "
        "Whoever runs the server must check the connection's key."
    )


@pytest.mark.parametrize("status", [200, 400])
async def test_secrets_never_reach_the_model(registry: Registry, egress: Egress, call: Call, serve: Serve, status: int):
    async def echo(request: web.Request) -> web.Response:
        told = f"sent: {dict(request.headers)}"
        return web.json_response({"error": told} if status == 400 else {"told": told}, status=status)

    headers = (("Authorization", KEY), ("X-Tenant", "tenant-secret"))
    connection = Connection("es", "elasticsearch", await serve(echo), headers)
    register_connections(registry, [connection], egress, FixedClock())
    outcome = await call("elasticsearch", method="GET", path="/_nodes")
    assert "Authorization" in outcome.content
    assert KEY.split()[1] not in outcome.content
    assert "tenant-secret" not in outcome.content


# -- get_cluster_health ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["green", "red"])
async def test_health_comes_as_it_is(traces: FakeElasticsearch, call: Call, status: str) -> None:
    traces.status = status
    told = content_of(await call("get_cluster_health", "{}"))
    assert (told["cluster_name"], told["status"], told["number_of_nodes"]) == ("fake", status, 1)
    assert traces.asked == ["GET /_cluster/health"]


async def test_what_is_no_elasticsearch_is_told(registry: Registry, egress: Egress, call: Call, serve: Serve) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<h1>hello</h1>", content_type="text/html")

    register_connections(registry, [Connection("es", "elasticsearch", await serve(page))], egress, FixedClock())
    outcome = await call("get_cluster_health")
    assert outcome.content == ("es did not answer as Elasticsearch does. Whoever runs the server must check its url.")


async def test_one_of_several_must_be_named(es: FakeElasticsearch, egress: Egress) -> None:
    registry = Registry()
    both = [Connection(name, "elasticsearch", es.url, (("Authorization", KEY),)) for name in ("logs", "metrics")]
    register_connections(registry, both, egress, FixedClock())

    async def ask(arguments: str) -> ToolOutcome:
        return await registry.call(ToolCall(CallId("c"), "get_cluster_health", arguments), CONTEXT)

    assert (await ask("{}")).content == "Say which one with datasourceUid: logs, metrics."
    assert not (await ask('{"datasourceUid":"metrics"}')).is_error


# -- query_elasticsearch -----------------------------------------------------------------------------------------------


async def test_documents_are_found_newest_first(traces: FakeElasticsearch, call: Call) -> None:
    told = content_of(await call("query_elasticsearch", "{}"))
    assert told["total"] == 3
    assert [one["_id"] for one in told["documents"]] == ["2", "1", "3"]
    assert told["documents"][0] == {
        "_index": "traces-app",
        "_id": "2",
        "_source": {"@timestamp": NOW_MS - 4_000, "service.name": "cart", "message": "ok"},
    }
    assert traces.asked == ["POST /*/_search?ignore_unavailable=true&allow_no_indices=true"]


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({"query": "timeout"}, ["1", "3"]),
        ({"query": "service.name:pay"}, ["3"]),
        ({"query": '{"term": {"service.name": "cart"}}'}, ["2", "1"]),
        ({"query": '{"query": {"term": {"service.name": "cart"}}, "size": 1}'}, ["2"]),
        ({"query": "timeout", "startTime": "now-1h"}, ["1"]),
        ({"endTime": "now-1h"}, ["3"]),
        ({"startTime": "2023-11-14T22:13:16Z", "endTime": ""}, ["2"]),
        ({"limit": 1}, ["2"]),
        ({"index": "traces-*,nope"}, ["2", "1", "3"]),
        ({"index": "nope-*"}, []),
    ],
)
async def test_a_search_is_narrowed(
    traces: FakeElasticsearch, call: Call, given: dict[str, Any], ids: Sequence[str]
) -> None:
    told = content_of(await call("query_elasticsearch", **given))
    assert [one["_id"] for one in told["documents"]] == ids


async def test_aggregations_of_a_whole_request_come_with_it(traces: FakeElasticsearch, call: Call) -> None:
    query = msgspec.json.encode({"size": 0, "aggs": AGGS}).decode()
    told = content_of(await call("query_elasticsearch", query=query))
    assert told["documents"] == []
    assert told["aggregations"]["services"]["buckets"][0] == {"key": "cart", "doc_count": 2}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"startTime": "yesterday"}, "'yesterday' is not a time."),
        ({"index": "a/_doc"}, "index is a name or pattern such as logs-*"),
        ({"index": "x/_update_by_query?"}, "index is a name or pattern such as logs-*"),
        ({"index": ".."}, "Write a path below the address of Elasticsearch"),
        ({"limit": 101}, "The arguments do not fit"),
    ],
)
async def test_a_bad_question_is_not_asked(
    es: FakeElasticsearch, call: Call, given: dict[str, Any], sentence: str
) -> None:
    outcome = await call("query_elasticsearch", **given)
    assert (outcome.content[: len(sentence)], outcome.code) == (sentence, "bad_arguments")
    assert es.seen == []


async def test_what_was_not_counted_or_searched_is_told(registry: Registry, egress: Egress, call: Call, serve: Serve):
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(
            {"timed_out": True, "hits": {"total": {"value": 10_000, "relation": "gte"}, "hits": []}}
        )

    register_connections(registry, [Connection("es", "elasticsearch", await serve(handler))], egress, FixedClock())
    assert content_of(await call("query_elasticsearch")) == {
        "total": 10_000,
        "documents": [],
        "notice": "More match than the total says: it is counted no further. "
        "It took too long, so not everything was searched.",
    }


def test_an_index_is_one_part_of_a_path() -> None:
    assert checked_index(" logs-*,remote:x ") == "logs-*,remote:x"
    with pytest.raises(ToolFailed):
        checked_index("a\\b")
