import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from aiohttp import web

from dragoman.runtime.tool_ports import ToolOutcome
from dragoman.tools.connections.connection import Connection
from dragoman.tools.connections.toolset import register_connections
from dragoman.tools.egress import Allowed, Egress
from dragoman.tools.registry import Registry
from tests.support import FixedClock
from tests.tools.conftest import Call, Serve

NOW = 1_700_000_000.0
SECRET = "Bearer hunter2"
EMPTY = b'{"status":"success","data":{"resultType":"vector","result":[]}}'

Offer = Callable[..., Awaitable[None]]


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    client = Egress()
    yield client
    await client.close()


@pytest.fixture
def offer(registry: Registry, egress: Egress) -> Callable[..., None]:
    """Offer the tools on one Prometheus, `prom`, at this address."""

    def offer(url: str, *, now: float = NOW, allow: tuple[Allowed, ...] = ()) -> None:
        connection = Connection("prom", "prometheus", url, (("Authorization", SECRET),), allow)
        register_connections(registry, [connection], egress, FixedClock(now))

    return offer


# -- what is asked ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def asked(serve: Serve, offer: Callable[..., None]) -> list[tuple[str, dict[str, str]]]:
    """What a stub that answers everything was asked: path and parameters."""
    seen: list[tuple[str, dict[str, str]]] = []

    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == SECRET
        given = dict(parse_qsl(await request.text())) if request.method == "POST" else dict(request.query)
        seen.append((f"{request.method} {request.path}", given))
        if request.method == "GET":
            return web.json_response({"status": "success", "data": ["b_total", "a_total", "c_bytes"]})
        return web.Response(body=EMPTY, content_type="application/json")

    offer(await serve(handler))
    return seen


@pytest.mark.parametrize(
    ("given", "path", "form"),
    [
        ({}, "query", {"time": "1700000000.000"}),
        ({"queryType": "instant", "endTime": "now-1h"}, "query", {"time": "1699996400.000"}),
        ({"queryType": "instant", "startTime": 5, "endTime": 7}, "query", {"time": "7.000"}),
        ({"queryType": "instant", "startTime": "5"}, "query", {"time": "5.000"}),
        ({"endTime": "now-1m"}, "query", {"time": "1699999940.000"}),
        ({"startTime": "", "endTime": ""}, "query", {"time": "1700000000.000"}),
        (
            {"queryType": "range"},
            "query_range",
            {"start": "1699996400.000", "end": "1700000000.000", "step": "36"},
        ),
        (
            {"startTime": "now-1h"},
            "query_range",
            {"start": "1699996400.000", "end": "1700000000.000", "step": "36"},
        ),
        (
            {"startTime": "1970-01-01T00:00:00Z", "endTime": 60, "stepSeconds": 15.0},
            "query_range",
            {"start": "0.000", "end": "60.000", "step": "15"},
        ),
        (
            {"startTime": "now-5s", "datasourceUid": "prom"},
            "query_range",
            {"start": "1699999995.000", "end": "1700000000.000", "step": "1"},
        ),
    ],
)
async def test_a_question_is_put_as_the_api_wants_it(
    asked: list[tuple[str, dict[str, str]]], call: Call, given: dict[str, Any], path: str, form: dict[str, str]
):
    outcome = await call("query_prometheus", expr='up{a="é&b"}', **given)
    assert not outcome.is_error, outcome
    assert asked == [(f"POST /api/v1/{path}", {"query": 'up{a="é&b"}', **form})]


@pytest.mark.parametrize(
    ("name", "given", "path", "params"),
    [
        ("list_prometheus_metric_names", {}, "label/__name__/values", {}),
        ("list_prometheus_label_names", {}, "labels", {}),
        ("list_prometheus_label_names", {"match": 'up{job="a"}'}, "labels", {"match[]": 'up{job="a"}'}),
        ("list_prometheus_label_values", {"labelName": "job"}, "label/job/values", {}),
        ("list_prometheus_label_values", {"labelName": "job", "match": "up"}, "label/job/values", {"match[]": "up"}),
    ],
)
async def test_names_are_asked_for_where_they_are(
    asked: list[tuple[str, dict[str, str]]],
    call: Call,
    name: str,
    given: dict[str, Any],
    path: str,
    params: dict[str, str],
):
    assert await call(name, **given) == ToolOutcome(
        '{"total":3,"names":["b_total","a_total","c_bytes"],"hasMore":false}'
    )
    assert asked == [(f"GET /api/v1/{path}", params)]


@pytest.mark.parametrize(
    ("given", "content"),
    [
        ({"regex": "_total$"}, '{"total":2,"names":["b_total","a_total"],"hasMore":false}'),
        ({"regex": "zzz"}, '{"total":0,"names":[],"hasMore":false}'),
        ({"limit": 2}, '{"total":3,"names":["b_total","a_total"],"hasMore":true}'),
        ({"limit": 2, "page": 2}, '{"total":3,"names":["c_bytes"],"hasMore":false}'),
        ({"limit": 2, "page": 3}, '{"total":3,"names":[],"hasMore":false}'),
    ],
)
async def test_metric_names_are_narrowed_and_paged(
    asked: list[tuple[str, dict[str, str]]], call: Call, given: dict[str, Any], content: str
):
    assert await call("list_prometheus_metric_names", **given) == ToolOutcome(content)


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("query_prometheus", {}, 'The arguments do not fit: "expr" is a required property.'),
        ("query_prometheus", {"expr": ""}, "The arguments do not fit: expr: "),
        ("query_prometheus", {"expr": "up", "queryType": "Range"}, "The arguments do not fit: queryType: "),
        ("query_prometheus", {"expr": "up", "startTime": "yesterday"}, "'yesterday' is not a time. Write RFC 3339"),
        ("query_prometheus", {"expr": "up", "startTime": None}, "The arguments do not fit: startTime: "),
        ("query_prometheus", {"expr": "up", "stepSeconds": -1}, "The arguments do not fit: stepSeconds: "),
        ("query_prometheus", {"expr": "x" * 10_001}, "The arguments do not fit: expr: "),
        ("list_prometheus_metric_names", {"regex": "a(?=b)"}, "The regular expression is not valid here"),
        ("list_prometheus_label_values", {"labelName": "../../admin"}, "The arguments do not fit: labelName: "),
        ("list_prometheus_label_values", {"labelName": "a\n"}, "The arguments do not fit: labelName: "),
    ],
)
async def test_what_cannot_be_asked_is_told_and_not_asked(
    asked: list[tuple[str, dict[str, str]]], call: Call, name: str, given: dict[str, Any], sentence: str
):
    outcome = await call(name, **given)
    assert outcome.code == "bad_arguments"
    assert outcome.content.startswith(sentence)
    assert asked == []


async def test_a_datasource_that_is_not_there_is_told(asked: list[tuple[str, dict[str, str]]], call: Call):
    assert await call("query_prometheus", expr="up", datasourceUid="porm") == ToolOutcome(
        "There is no datasource 'porm'. Did you mean prom?", True, "tool_failed"
    )
    assert asked == []


async def test_the_configuration_may_allow_less(serve: Serve, offer: Callable[..., None], call: Call):
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"status": "success", "data": []})

    offer(await serve(handler), allow=(Allowed("GET", "/api/v1/labels"),))
    assert (await call("list_prometheus_label_names")).is_error is False
    assert await call("query_prometheus", expr="up") == ToolOutcome(
        "prom may not be asked for that: the path is not one its configuration allows.", True, "denied"
    )


# -- what may go wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (500, b"<html>trace at 10.0.0.5</html>", "prom failed with status 500 and no error text. Try again later."),
        (
            200,
            b"<html>Login</html>",
            "prom did not answer as Prometheus does. Whoever runs the server must check its url.",
        ),
        (
            302,
            b"",
            "prom answered with a redirect, which is not followed; its url must be where it really is.",
        ),
        (200, b"x" * (11 * 1024 * 1024), "prom answered with more than 10 MiB. Ask for less at a time."),
        (
            503,
            b'{"status":"error","errorType":"timeout","error":"query timed out"}',
            "prom refused (timeout): query timed out",
        ),
    ],
    ids=["500", "html", "redirect", "huge", "busy"],
)
async def test_a_fault_is_told_by_the_connections_name(
    serve: Serve, offer: Callable[..., None], call: Call, status: int, body: bytes, sentence: str
):
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={"Location": "/elsewhere"})

    offer(await serve(handler))
    assert await call("query_prometheus", expr="up") == ToolOutcome(sentence, True, "tool_failed")


async def test_a_prometheus_that_is_not_there_is_told(offer: Callable[..., None], call: Call):
    offer("http://nobody.invalid:9090")
    assert await call("query_prometheus", expr="up") == ToolOutcome(
        "prom could not be reached. Is it running, and is its url right?", True, "tool_failed"
    )


# -- a real one ------------------------------------------------------------------------------------------------------


@pytest.fixture
def real(prometheus: str, offer: Callable[..., None]) -> str:
    offer(prometheus, now=time.time())
    return prometheus


async def answered(call: Call, name: str, **given: Any) -> dict[str, Any]:
    outcome = await call(name, **given)
    assert not outcome.is_error, outcome
    return msgspec.json.decode(outcome.content)


@pytest.mark.service
async def test_a_real_prometheus_says_that_it_is_up(real: str, call: Call):
    result = await answered(call, "query_prometheus", expr="up")
    (series,) = result.pop("result")
    assert result == {"resultType": "vector"}
    assert series["metric"] == {"__name__": "up", "instance": real.removeprefix("http://"), "job": "itself"}
    assert series["value"][1] == "1"


@pytest.mark.service
async def test_a_real_prometheus_gives_values_over_time(real: str, call: Call):
    result = await answered(call, "query_prometheus", expr="up", startTime="now-1m", stepSeconds=1)
    (series,) = result.pop("result")
    assert result == {"resultType": "matrix"}
    assert series["metric"]["job"] == "itself"
    assert {value for _, value in series["values"]} == {"1"}


@pytest.mark.service
async def test_a_real_prometheus_computes(real: str, call: Call):
    result = await answered(call, "query_prometheus", expr="scalar(vector(6) * 7)")
    assert (result["resultType"], result["result"][1]) == ("scalar", "42")


@pytest.mark.service
async def test_a_real_prometheus_explains_a_mistake_in_its_own_words(real: str, call: Call):
    outcome = await call("query_prometheus", expr="sum(up")
    assert outcome == ToolOutcome(
        'prom refused (bad_data): invalid parameter "query": 1:7: parse error: unclosed left parenthesis',
        True,
        "tool_failed",
    )


@pytest.mark.service
async def test_a_real_prometheus_refuses_too_many_points_in_its_own_words(real: str, call: Call):
    outcome = await call("query_prometheus", expr="up", startTime="now-1d", stepSeconds=1)
    assert outcome.is_error
    assert outcome.content.startswith("prom refused (bad_data): exceeded maximum resolution of 11,000 points")


@pytest.mark.service
async def test_a_real_prometheus_with_nothing_to_show_says_where_to_look(real: str, call: Call):
    assert await answered(call, "query_prometheus", expr="no_such_metric") == {
        "resultType": "vector",
        "result": [],
        "notice": "Nothing matched there and then. list_prometheus_metric_names shows which metrics there are.",
    }


@pytest.mark.service
async def test_more_series_than_are_shown_are_cut_from_a_real_answer(real: str, call: Call):
    result = await answered(call, "query_prometheus", expr='{__name__=~".+"}')
    assert len(result["result"]) == 50
    assert result["notice"].startswith("Only the first 50 of ")


@pytest.mark.service
async def test_a_real_prometheus_lists_names_and_values(real: str, call: Call):
    metrics = await answered(call, "list_prometheus_metric_names", regex="^prometheus_build_")
    assert metrics == {"total": 1, "names": ["prometheus_build_info"], "hasMore": False}
    labels = await answered(call, "list_prometheus_label_names", match="up")
    assert labels == {"total": 3, "names": ["__name__", "instance", "job"], "hasMore": False}
    jobs = await answered(call, "list_prometheus_label_values", labelName="job")
    assert jobs == {"total": 1, "names": ["itself"], "hasMore": False}


@pytest.mark.service
async def test_a_bad_selector_is_explained_by_a_real_prometheus(real: str, call: Call):
    outcome = await call("list_prometheus_label_names", match="up{")
    assert outcome.is_error
    assert outcome.content.startswith("prom refused (bad_data): ")
    assert outcome.content.endswith("parse error: unexpected end of input inside braces")
