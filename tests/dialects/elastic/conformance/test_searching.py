"""F4-F9 of the Elastic spec (7.4): the tools over a connection of the kind `elasticsearch`."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.elastic.conformance.kit import (
    INTERNAL,
    Kibana,
    added,
    called,
    kibana_of,
    of_type,
    user,
)
from tests.dialects.elastic.conformance.llm import Llm, choice_of, plain
from tests.elasticsearch_server import KEY, FakeElasticsearch, elasticsearch

REFUSED = 'Only GET requests or POST requests to the "_search" endpoint are permitted through this assistant function.'
SPANS = {"service.name": "keyword", "@timestamp": "date"}
DATASET_INFO = f"{INTERNAL}/functions/get_dataset_info"


def tools_of(asked: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in asked.get("tools", ())]


@pytest.fixture
async def searched() -> AsyncIterator[FakeElasticsearch]:
    async with elasticsearch() as fake:
        fake.add("traces-apm", SPANS, *({"service.name": "synth-service-1"} for _ in range(15)))
        fake.add("logs-web.access", {"message": "text", "@timestamp": "date"}, {"message": "GET /"})
        fake.add("logs-synth", {"message": "text", "log.level": "keyword"}, {"message": "hello", "log.level": "info"})
        fake.add("test_index", {"bar": "keyword"}, *({"bar": "foo"} for _ in range(3)))
        for name in ("zookeeper", "apache"):
            fake.add(f"logs-{name}-default", {"message": "text"}, {"message": name}, stream=True)
        yield fake


@pytest.fixture
async def kibana(searched: FakeElasticsearch, llm: Llm, tmp_path: Path) -> AsyncIterator[Kibana]:
    key = KEY.removeprefix("ApiKey ")
    connection = f'[connections.es]\nkind = "elasticsearch"\nurl = "{searched.url}"\nkey = "{key}"\n'
    async with kibana_of(tmp_path, llm, connection) as scene:
        yield scene


async def ran(kibana: Kibana, llm: Llm, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The message that holds the result of a call which the user makes."""
    llm.says("Seen.")
    events = await kibana.complete([user("hi"), called(name, arguments, trigger="user")])
    assert len(of_type("messageAdd", events)) == 2
    told, answered = added(events)
    assert (told["name"], told["role"], answered["content"]) == (name, "user", "Seen.")
    return told


async def test_F4_a_search_is_made(kibana: Kibana, llm: Llm) -> None:
    body = {"size": 0, "aggs": {"services": {"terms": {"field": "service.name"}}}}
    told = await ran(kibana, llm, "elasticsearch", {"method": "POST", "path": "traces*/_search", "body": body})
    response = json.loads(told["content"])["response"]
    assert response["hits"]["total"]["value"] == 15
    assert response["aggregations"]["services"]["buckets"] == [{"key": "synth-service-1", "doc_count": 15}]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "_cluster/health"),
        ("GET", "traces-apm/_search?q=service.name:synth-service-1"),
        ("POST", "_search"),
        ("POST", "traces-apm/_search"),
        ("POST", "_search?scroll=1m"),
    ],
)
async def test_F5_what_only_reads_is_permitted(kibana: Kibana, llm: Llm, method: str, path: str) -> None:
    told = await ran(kibana, llm, "elasticsearch", {"method": method, "path": path})
    assert "error" not in json.loads(told["content"])


@pytest.mark.parametrize(("method", "path"), [("POST", "traces-apm/_doc"), ("POST", "traces-apm/custom_search")])
async def test_F5_what_may_write_is_refused(
    kibana: Kibana, llm: Llm, searched: FakeElasticsearch, method: str, path: str
) -> None:
    before = len(searched.seen)
    told = await ran(kibana, llm, "elasticsearch", {"method": method, "path": path})
    refused = json.loads(told["content"])
    assert refused["error"]["message"] == REFUSED
    assert len(searched.seen) == before and searched.writes == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_F5_other_methods_are_refused(kibana: Kibana, llm: Llm, searched: FakeElasticsearch, method: str) -> None:
    told = await ran(kibana, llm, "elasticsearch", {"method": method, "path": "traces-apm"})
    assert json.loads(told["content"])["error"]["message"]
    assert searched.writes == []


async def test_F6_query_is_not_offered_and_its_parts_are(kibana: Kibana, llm: Llm) -> None:
    """A divergence: no orchestration turns language into ES|QL; the model writes it and runs it itself."""
    llm.calls("execute_query", {"query": "FROM test_index | LIMIT 10"})
    llm.says("Hello from user")
    events = await kibana.complete([user("hello")])
    assert "query" not in tools_of(llm.requests[0]) and "execute_query" in tools_of(llm.requests[0])
    rows = json.loads(added(events)[-2]["content"])
    assert rows["columns"][0].keys() == {"id", "name", "meta"}
    assert rows["columns"][0]["meta"].keys() >= {"type"} and rows["rows"] == [["foo"]] * 3
    assert (len(llm.requests), added(events)[-1]["content"]) == (2, "Hello from user")


async def test_F7_the_model_chooses_the_fields_that_matter(kibana: Kibana, llm: Llm) -> None:
    def chosen(asked: dict[str, Any]) -> bool:
        return choice_of(asked) == "select_relevant_fields"

    llm.calls("get_dataset_info", {"index": "logs-synth"})
    llm.must_call("select_relevant_fields", {"fieldIds": ["0", "1", "2"]})
    llm.says("Two fields.")
    events = await kibana.complete([user("which fields are there?")])
    first, choosing, last = llm.requests
    assert (plain(first), chosen(choosing), plain(last)) == (True, True, True)
    assert [len(each["messages"]) for each in (first, last)] == [4, 6]
    assert first["messages"][0] == last["messages"][0] != choosing["messages"][0]
    assert choosing["messages"][-1]["role"] == "user" and "log.level" in choosing["messages"][-1]["content"]
    assert len(of_type("messageAdd", events)) == 5
    told = json.loads(added(events)[-2]["content"])
    assert list(told)[:2] == ["indices", "fields"] and set(told) <= {"indices", "fields", "stats"}
    assert told["indices"] == ["logs-synth"] and set(told["fields"]) <= {"message:text", "log.level:keyword"}


@pytest.mark.parametrize(
    ("index", "found"),
    [
        ("logs-zookeeper*", {"logs-zookeeper-default"}),
        ("logs-*-default", {"logs-zookeeper-default", "logs-apache-default"}),
        ("logs-zookeeper*,logs-apache*", {"logs-zookeeper-default", "logs-apache-default"}),
        ("zookeeper", {"logs-zookeeper-default"}),
        ("zookeeper,apache", {"logs-zookeeper-default", "logs-apache-default"}),
    ],
)
async def test_F8_dataset_info_is_read_directly(kibana: Kibana, llm: Llm, index: str, found: set[str]) -> None:
    llm.must_call("select_relevant_fields", {"fieldIds": ["0"]}, times=5)
    answer = await kibana.get(f"{DATASET_INFO}?index={index}&connectorId={kibana.connector_id}")
    assert (answer.status, set(answer.json["indices"])) == (200, found)


async def test_F8_of_nothing_the_model_is_not_asked(kibana: Kibana, llm: Llm) -> None:
    answer = await kibana.get(f"{DATASET_INFO}?index=foobarbaz&connectorId={kibana.connector_id}")
    assert (answer.status, answer.json) == (200, {"indices": [], "fields": []})
    assert llm.requests == []


async def test_F9_a_query_is_shown_with_its_rows(kibana: Kibana, llm: Llm) -> None:
    arguments = {"query": "FROM test_index", "intention": "visualizeAuto"}
    told = await ran(kibana, llm, "visualize_query", arguments)
    assert "FROM test_index" in json.loads(told["content"])["message"]
    shown = json.loads(told["data"])
    assert (shown["columns"][0]["id"], shown["rows"][0][0]) == ("bar", "foo")
    assert shown["correctedQuery"] == "FROM test_index"
    assert "correctedQuery" not in json.dumps(llm.requests)
