"""Metrics: readable by Prometheus, moved by what happens, bounded in number."""

import asyncio
from collections.abc import Iterable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dragoman.core.errors import BackendFailed
from dragoman.core.messages import Usage
from dragoman.edge.house import HOUSE
from dragoman.edge.metrics import BUCKETS_S, MEDIA_TYPE, Metrics
from dragoman.edge.routes import Mounted
from dragoman.runtime.counters import Counters
from tests.parts import Gate, LedgerTools, ScriptedReplies, call_reply, text_reply
from tests.stage import SetUp

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

CHAT = b'{"message":"how is it?","session_key":"k"}'
COUNTERS = tuple(Counters().all())
CREATED = "_created"
"""Series that the client library adds to say since when it counts."""


def read(text: bytes) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation and family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples
            samples[key] = sample.value
    return samples


def runtime(samples: Samples) -> dict[str, float]:
    return {name: samples[f"dragoman_{name}_total", ()] for name in COUNTERS}


def requests(samples: Samples) -> dict[tuple[str, str, str], float]:
    """By dialect, route and status."""
    found = (
        (dict(labels), value) for (name, labels), value in samples.items() if name == "dragoman_http_requests_total"
    )
    return {(labels["dialect"], labels["route"], labels["status"]): value for labels, value in found}


def metrics(counters: Counters | None = None, live: Iterable[int] = (0,)) -> Metrics:
    left = list(live)
    gauge = ("Runs being driven now.", lambda: float(left.pop(0) if len(left) > 1 else left[0]))
    return Metrics(counters or Counters(), gauges={"live_runs": gauge})


def test_the_text_is_what_its_media_type_says() -> None:
    assert MEDIA_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    text = metrics().text()
    assert text.endswith(b"\n")
    assert runtime(read(text)) == dict.fromkeys(COUNTERS, 0.0)


def test_the_runtimes_numbers_are_read_when_they_are_asked_for() -> None:
    counters = Counters()
    shown = metrics(counters, live=(2, 1))
    before = read(shown.text())
    counters.runs += 1
    counters.replied(Usage(10, 5))
    after = read(shown.text())
    assert (before["dragoman_live_runs", ()], after["dragoman_live_runs", ()]) == (2.0, 1.0)
    assert runtime(after) == dict.fromkeys(COUNTERS, 0.0) | {
        "runs": 1.0,
        "replies": 1.0,
        "prompt_tokens": 10.0,
        "completion_tokens": 5.0,
    }


def test_a_request_is_counted_under_its_dialect_its_route_and_its_status() -> None:
    shown = metrics()
    status = Mounted(HOUSE, next(route for route in HOUSE.routes if route.path == "/api/server"))
    for code in (200, 200, 401):
        shown.answered(status, code, 0.003)
    shown.answered(None, 404, 0.2)
    samples = read(shown.text())
    assert requests(samples) == {
        ("house", "GET /api/server", "200"): 2.0,
        ("house", "GET /api/server", "401"): 1.0,
        ("", "", "404"): 1.0,
    }
    labels = (("dialect", "house"), ("route", "GET /api/server"))
    assert samples["dragoman_http_request_seconds_count", labels] == 3.0
    assert samples["dragoman_http_request_seconds_sum", labels] == pytest.approx(0.009)


@pytest.mark.parametrize(("seconds", "first"), [(0.0, 0.005), (0.005, 0.005), (0.0051, 0.02), (299.0, 300.0)])
def test_the_time_of_a_request_falls_into_its_bucket_and_all_wider_ones(seconds: float, first: float) -> None:
    shown = metrics()
    shown.answered(None, 200, seconds)
    found = {
        float(dict(labels)["le"]): value
        for (name, labels), value in read(shown.text()).items()
        if name == "dragoman_http_request_seconds_bucket"
    }
    assert found == {bucket: float(bucket >= first) for bucket in (*BUCKETS_S, float("inf"))}


def test_a_route_that_is_gone_does_not_lend_its_name_to_the_next() -> None:
    shown = metrics()
    for route in HOUSE.routes * 20:
        shown.answered(Mounted(HOUSE, route), 200, 0.0)  # each gone at once, and its place in memory free for the next
    assert requests(read(shown.text())) == {
        ("house", f"{route.method} {route.path}", "200"): 20.0 for route in HOUSE.routes
    }


async def test_a_chat_moves_the_counters(stage: SetUp) -> None:
    model = ScriptedReplies(call_reply(("look", "{}")), text_reply("It is fine."))
    async with stage(model=model, tools=LedgerTools({"look": "seen"})) as s:
        await s.client().request("POST", "/api/v1/chat", body=CHAT)
        samples = read((await s.anonymous().request("GET", "/metrics")).body)
    assert runtime(samples) == dict.fromkeys(COUNTERS, 0.0) | {
        "runs": 1.0,
        "replies": 2.0,
        "tool_calls": 1.0,
        "prompt_tokens": 20.0,
        "completion_tokens": 10.0,
    }
    assert requests(samples) == {("grip", "POST /api/v1/chat", "200"): 1.0}


async def test_a_failed_chat_counts_as_an_error(stage: SetUp) -> None:
    model = ScriptedReplies([BackendFailed("It failed.")])
    async with stage(model=model) as s:
        await s.client().request("POST", "/api/v1/chat", body=CHAT)
        samples = read((await s.anonymous().request("GET", "/metrics")).body)
    assert (samples["dragoman_runs_total", ()], samples["dragoman_errors_total", ()]) == (1.0, 1.0)
    assert requests(samples) == {("grip", "POST /api/v1/chat", "502"): 1.0}


async def test_a_run_that_is_being_driven_is_live_until_it_ends(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("done"))
    model.gate = Gate()
    async with stage(model=model) as s:
        async with s.client().stream("POST", "/api/v1/chat/stream", body=CHAT) as answer:
            await answer.until(b"event: start")
            during = read((await s.anonymous().request("GET", "/metrics")).body)
            model.gate.open()
            await answer.rest()
        await asyncio.wait_for(s.house.runs[0].settled(), 5)
        after = read((await s.anonymous().request("GET", "/metrics")).body)
    assert (during["dragoman_live_runs", ()], after["dragoman_live_runs", ()]) == (1.0, 0.0)


async def test_paths_that_nobody_answers_make_no_series_of_their_own(stage: SetUp) -> None:
    async with stage() as s:
        for number in range(30):
            await s.client().request("GET", f"/nothing/{number}")
            await s.client().request("GET", f"/api/v1/sessions/{number}")
        samples = read((await s.anonymous().request("GET", "/metrics")).body)
    assert requests(samples) == {("", "", "404"): 30.0, ("grip", "GET /api/v1/sessions/{key:path}", "404"): 30.0}


def test_calls_of_tools_are_told_by_what_ran_them_and_what_came_of_it() -> None:
    counters = Counters()
    counters.tool_returned("webhook", "tool_failed", is_error=True)
    counters.tool_returned("mcp", "", is_error=False)
    samples = read(metrics(counters).text())
    told = {key[1]: value for key, value in samples.items() if key[0] == "dragoman_tool_outcomes_total"}
    assert told == {
        (("outcome", "tool_failed"), ("ran_by", "webhook")): 1.0,
        (("outcome", "ok"), ("ran_by", "mcp")): 1.0,
    }
