import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
from aiohttp import web

from dragoman.core.agents import ToolSpec
from dragoman.core.datasets import DatasetInfo, DescribeDataset, FieldStats
from dragoman.core.errors import BackendFailed, BadRequest, NotFound, NotOffered, ToolFailed, Unavailable
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId, Principal, ProjectId, Scope
from dragoman.runtime.ports import Model, Prompt, ReplyDone, ReplyPiece
from dragoman.runtime.tool_ports import Ask, CallContext, ToolOutcome
from dragoman.tools.connections import dataset_info
from dragoman.tools.connections.connection import Connection
from dragoman.tools.connections.dataset_info import PICK, DatasetHandlers
from dragoman.tools.connections.toolset import register_connections
from dragoman.tools.egress import Egress
from dragoman.tools.registry import Registry
from tests.elasticsearch_server import KEY, FakeElasticsearch
from tests.support import FixedClock
from tests.tools.conftest import Serve

PROJECT = ProjectId("default")
ZOOKEEPER, APACHE = "logs-zookeeper-default", "logs-apache-default"
FIELDS = {"@timestamp": "date", "message": "text", "service.name": "keyword"}
Get = Callable[..., Awaitable[ToolOutcome]]


class Chooser:
    """A model that picks fields. `picks` get name by id of the list it is shown; None = it only talks."""

    def __init__(self, *picks: Callable[[dict[str, str]], Any]) -> None:
        self.picks = list(picks)
        self.asked: list[tuple[tuple[Message, ...], tuple[ToolSpec, ...], str]] = []

    async def __call__(
        self, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...] = (), choice: str = ""
    ) -> ReplyDone:
        self.asked.append((messages, tools, choice))
        return answer(self.picks.pop(0) if len(self.picks) > 1 else self.picks[0], messages)


def answer(pick: Callable[[dict[str, str]], Any], messages: Sequence[Message]) -> ReplyDone:
    lines = [line for line in messages[-1].text.splitlines() if line.startswith("{")]
    listed = [msgspec.json.decode(line) for line in lines]
    ids = pick({one["id"]: one["field"] for one in listed})
    if ids is None:
        return ReplyDone("I cannot choose.")
    arguments = ids if isinstance(ids, str) else msgspec.json.encode({"fieldIds": ids}).decode()
    return ReplyDone("", (ToolCall(CallId("pick"), "select_relevant_fields", arguments),))


def named(*names: str) -> Callable[[dict[str, str]], Any]:
    return lambda listed: [short for short, name in listed.items() if name in names]


@pytest.fixture
def logs(es: FakeElasticsearch) -> FakeElasticsearch:
    es.add(ZOOKEEPER, FIELDS, stream=True)
    es.add(APACHE, FIELDS | {"service.name": "text", "url": "object"}, stream=True)
    return es


@pytest.fixture
def get(registry: Registry) -> Get:
    async def get(index: str, *, ask: Ask | None = None, messages: Sequence[Message] = ()) -> ToolOutcome:
        arguments = msgspec.json.encode({"index": index}).decode()
        context = CallContext(PROJECT, "run:call", messages=messages, ask=ask)
        return await registry.call(ToolCall(CallId("c"), "get_dataset_info", arguments), context)

    return get


def told(outcome: ToolOutcome) -> Any:
    assert not outcome.is_error, outcome
    return msgspec.json.decode(outcome.content)


# -- indices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "indices"),
    [
        ("zookeeper", [ZOOKEEPER]),
        ("logs", [APACHE, ZOOKEEPER]),
        ("logs*", [APACHE, ZOOKEEPER]),
        ("zookeeper,apache", [APACHE, ZOOKEEPER]),
        (" zookeeper , ", [ZOOKEEPER]),
        ("logs-*-default", [APACHE, ZOOKEEPER]),
    ],
)
async def test_F8_indices_are_found_by_a_part_of_their_name(
    logs: FakeElasticsearch, get: Get, index: str, indices: list[str]
) -> None:
    assert told(await get(index))["indices"] == indices


async def test_F8_nothing_that_fits_is_an_empty_answer_and_no_model_is_asked(logs: FakeElasticsearch, get: Get) -> None:
    ask = Chooser(named())
    outcome = await get("foobarbaz", ask=ask)
    assert outcome.content == '{"indices":[],"fields":[]}'
    assert ask.asked == []
    assert logs.asked == ["GET /_resolve/index/*foobarbaz*,*:*foobarbaz*?expand_wildcards=open"]


async def test_all_indices_come_without_fields(logs: FakeElasticsearch, get: Get) -> None:
    ask = Chooser(named())
    assert told(await get("", ask=ask)) == {"indices": [APACHE, ZOOKEEPER], "fields": []}
    assert ask.asked == []
    assert logs.asked == ["GET /_resolve/index/*,*:*?expand_wildcards=open"]


async def test_an_index_of_just_that_name_is_the_only_one(es: FakeElasticsearch, get: Get) -> None:
    es.add("orders", {"id": "long"})
    es.add("orders-old", {"old": "long"})
    assert told(await get("orders"))["fields"] == ["id:long"]
    assert told(await get("order"))["indices"] == ["orders", "orders-old"]
    es.aliases["current"] = "orders"
    assert told(await get("current")) == {
        "indices": ["current"],
        "fields": ["id:long"],
        "stats": {"analyzed": 1, "total": 1},
    }


async def test_one_cluster_may_be_named(logs: FakeElasticsearch, get: Get) -> None:
    await get("west:logs")
    assert logs.asked == ["GET /_resolve/index/west:*logs*?expand_wildcards=open"]


async def test_no_more_indices_than_a_model_should_read(es: FakeElasticsearch, get: Get) -> None:
    for number in range(510):
        es.add(f"i-{number:03}", {"a": "long"})
    content = told(await get("i-"))
    assert len(content["indices"]) == dataset_info.INDICES_MAX
    assert content["notice"] == "Only the first 500 of 510 indices are shown."


@pytest.mark.parametrize("index", ["a/b", "..", "../_cluster/health", "a?b", "a#b", "a%2fb"])
async def test_an_index_is_no_path(logs: FakeElasticsearch, get: Get, index: str) -> None:
    outcome = await get(index)
    asked_below = [path for path in logs.asked if not path.startswith("GET /_resolve/index/*")]
    assert asked_below == []
    assert outcome.is_error or outcome.content == '{"indices":[],"fields":[]}'


@pytest.mark.parametrize(("status", "is_error"), [(404, False), (500, True)])
async def test_a_refusal_to_resolve(
    registry: Registry, egress: Egress, get: Get, serve: Serve, status: int, is_error: bool
):
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"error": {"type": "t", "reason": "no such index"}}, status=status)

    register_connections(registry, [Connection("es", "elasticsearch", await serve(handler))], egress, FixedClock())
    outcome = await get("x")
    expected = "es refused (t): no such index" if is_error else '{"indices":[],"fields":[]}'
    assert (outcome.content, outcome.is_error) == (expected, is_error)


# -- fields ------------------------------------------------------------------------------------------------------------


async def test_F7_the_model_picks_the_fields(logs: FakeElasticsearch, get: Get) -> None:
    ask = Chooser(named("service.name", "message"))
    outcome = await get("logs*", ask=ask, messages=HISTORY)
    assert outcome.content == (
        f'{{"indices":["{APACHE}","{ZOOKEEPER}"],"fields":["message:text","service.name:text,keyword"],'
        '"stats":{"analyzed":3,"total":3}}'
    )
    ((messages, tools, choice),) = ask.asked
    assert [message.role for message in messages] == ["system", "user", "assistant", "tool", "user"]
    assert "You choose fields" in messages[0].text
    assert messages[1:4] == HISTORY[1:4]
    assert '{"field":"@timestamp","id":"0"}' in messages[4].text
    assert (tools, choice) == ((PICK,), "select_relevant_fields")
    assert logs.asked[1] == (
        "GET /*logs*,*:*logs*/_field_caps?fields=%2A&ignore_unavailable=true&allow_no_indices=true"
    )


CONTEXT_CALL = ToolCall(CallId("c0"), "context", "{}")
HISTORY = (
    said("system", "You are an assistant."),
    said("user", "What is in my logs?"),
    Message("assistant", (CONTEXT_CALL,)),
    Message("tool", (ToolResult(CallId("c0"), '{"learnings":[]}'),)),
    Message("assistant", (Text("Let me see."), ToolCall(CallId("c1"), "get_dataset_info", '{"index":"logs*"}'))),
)


async def test_a_call_without_a_result_is_not_shown_to_the_model(logs: FakeElasticsearch, get: Get) -> None:
    two = (*HISTORY[-1].parts, ToolCall(CallId("c2"), "get_cluster_health", "{}"))
    messages = (*HISTORY[:-1], Message("assistant", two), Message("tool", (ToolResult(CallId("c2"), "{}"),)))
    ask = Chooser(named())
    await get("logs", ask=ask, messages=messages)
    assert ask.asked[0][0][1:-1] == HISTORY[1:4]


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ("", []),  # it found none that matters
        ("message 2 2", ["message:text", "service.name:text,keyword"]),  # a name, and one twice
        ("2 999", ["service.name:text,keyword"]),
    ],
)
async def test_what_the_model_says_counts(logs: FakeElasticsearch, get: Get, given: str, fields: list[str]) -> None:
    content = told(await get("logs", ask=Chooser(lambda listed: given.split())))
    assert (content["fields"], content["stats"]) == (fields, {"analyzed": 3, "total": 3})
    assert "notice" not in content


ALL_FIELDS = ["@timestamp:date", "message:text", "service.name:text,keyword"]


@pytest.mark.parametrize("given", [None, ["999", "nope"], "not JSON", '{"fieldIds": "0"}', "{}"])
async def test_a_model_that_is_no_help_costs_nothing(
    logs: FakeElasticsearch, get: Get, given: list[str] | str | None
) -> None:
    assert told(await get("logs", ask=Chooser(lambda listed: given)))["fields"] == ALL_FIELDS


async def test_without_anybody_to_ask_the_first_fields_come(es: FakeElasticsearch, get: Get) -> None:
    es.add("wide", {f"f{number:03}": "long" for number in range(150)})
    content = told(await get("wide"))
    assert content["fields"] == [f"f{number:03}:long" for number in range(100)]
    assert content["stats"] == {"analyzed": 100, "total": 150}
    assert content["notice"] == "No model chose among the fields: only 100 of 150 are shown."


async def test_a_model_that_fails_or_is_silent_does_not_stop_the_tool(
    logs: FakeElasticsearch, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(messages: object, tools: object = (), choice: str = "") -> ReplyDone:
        raise BackendFailed("The model is away.")

    async def is_down(messages: object, tools: object = (), choice: str = "") -> ReplyDone:
        raise Unavailable("The server is stopping.")

    async def is_silent(messages: object, tools: object = (), choice: str = "") -> ReplyDone:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(dataset_info, "PICK_S", 0.02)
    for ask in (fails, is_down, is_silent):
        assert told(await get("logs", ask=ask))["fields"] == ALL_FIELDS


async def test_many_fields_are_shown_in_pieces_and_no_more_than_five(es: FakeElasticsearch, get: Get) -> None:
    es.add("wide", {f"f{number:04}": "long" for number in range(1_300)})
    ask = Chooser(lambda listed: list(listed)[:1])
    content = told(await get("wide", ask=ask))
    assert content["fields"] == ["f0000:long", "f0250:long", "f0500:long", "f0750:long", "f1000:long"]
    assert content["stats"] == {"analyzed": 1_250, "total": 1_300}
    assert len(ask.asked) == 5


async def test_one_piece_that_fails_is_told_apart(es: FakeElasticsearch, get: Get) -> None:
    es.add("wide", {f"f{number:04}": "long" for number in range(500)})
    content = told(await get("wide", ask=Chooser(named("f0001"), lambda listed: None)))
    assert content["fields"] == ["f0001:long", *(f"f{number:04}:long" for number in range(250, 350))]
    assert content["notice"] == "No model chose among the fields: only 101 of 500 are shown."


# -- outside of a turn -------------------------------------------------------------------------------------------------

PRINCIPAL = Principal(PROJECT, "credential-1", "ada", frozenset({Scope.CHAT_RUN}))


class OneModel:
    """Fits `runtime.ports.Models`: the model `main`, which picks `message`."""

    def __init__(self, *, silent: bool = False, gone: bool = False) -> None:
        """`gone`: it is deleted right after somebody looked whether it is there."""
        self.prompts: list[Prompt] = []
        self.silent = silent
        self.gone = gone

    async def knows(self, project: ProjectId, name: str) -> bool:
        return (project, name) == (PROJECT, "main")

    async def choose(self, project: ProjectId, name: str) -> tuple[Model, str]:
        return self, name if self.gone else ""

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        assert stream
        self.prompts.append(prompt)
        if not self.silent:
            yield answer(named("message"), prompt.messages)

    async def close(self) -> None: ...


def handlers(es: FakeElasticsearch, egress: Egress, models: OneModel, *names: str) -> DatasetHandlers:
    connections = [Connection(name, "elasticsearch", es.url, (("Authorization", KEY),)) for name in names]
    prometheus = Connection("prom", "prometheus", "http://127.0.0.1:1")
    return DatasetHandlers([prometheus, *connections], egress, FixedClock(), models)


async def test_F8_a_dataset_is_described_with_the_model_that_is_named(logs: FakeElasticsearch, egress: Egress) -> None:
    models = OneModel()
    asked = handlers(logs, egress, models, "es", "other").handlers()[DescribeDataset]
    assert await asked(PRINCIPAL, DescribeDataset("zookeeper", "main")) == DatasetInfo(
        (ZOOKEEPER,), ("message:text",), FieldStats(3, 3)
    )
    (prompt,) = models.prompts
    assert (prompt.model_name, prompt.choice, prompt.tools) == ("", "select_relevant_fields", (PICK,))
    assert [message.role for message in prompt.messages] == ["system", "user"]


async def test_F8_nothing_that_fits_asks_no_model(logs: FakeElasticsearch, egress: Egress) -> None:
    models = OneModel()
    described = await handlers(logs, egress, models, "es").describe(PRINCIPAL, DescribeDataset("foobarbaz", "main"))
    assert described == DatasetInfo((), ())
    assert models.prompts == []


async def test_a_model_that_says_nothing_leaves_the_first_fields(logs: FakeElasticsearch, egress: Egress) -> None:
    asked = handlers(logs, egress, OneModel(silent=True), "es")
    assert (await asked.describe(PRINCIPAL, DescribeDataset("logs", "main"))).fields == tuple(ALL_FIELDS)


async def test_field_names_meant_for_a_model_that_is_gone_are_told_to_no_other(
    logs: FakeElasticsearch, egress: Egress
) -> None:
    models = OneModel(gone=True)
    described = await handlers(logs, egress, models, "es").describe(PRINCIPAL, DescribeDataset("logs", "main"))
    assert described.fields == tuple(ALL_FIELDS)
    assert models.prompts == []


async def test_what_cannot_be_described(logs: FakeElasticsearch, egress: Egress) -> None:
    with pytest.raises(NotFound) as missing:
        await handlers(logs, egress, OneModel(), "es").describe(PRINCIPAL, DescribeDataset("logs", "nope"))
    assert missing.value.what == "model"
    with pytest.raises(NotOffered, match="No Elasticsearch connection is configured"):
        await handlers(logs, egress, OneModel()).describe(PRINCIPAL, DescribeDataset("logs", "main"))
    for index in ("a/b", "x" * 20_000):  # the caller's own doing
        with pytest.raises(BadRequest):
            await handlers(logs, egress, OneModel(), "es").describe(PRINCIPAL, DescribeDataset(index, "main"))
    away = DatasetHandlers([Connection("es", "elasticsearch", "http://127.0.0.1:1")], egress, FixedClock(), OneModel())
    with pytest.raises(ToolFailed):
        await away.describe(PRINCIPAL, DescribeDataset("logs", "main"))
