"""E1 to E15: what comes before a turn of the first generation, and what is said when it does not come to one."""

from pathlib import Path
from typing import Any

import pytest

from tests.dialects.rowboat.conformance.kit import PROJECT, UNKNOWN, Rowboat, harbor, rowboat_of, user
from tests.rowboat_webhook import Receiver

HELLO = {"messages": [user("hello")], "state": None}
OTHER = "7d0c9c1e-3f43-4f0c-9d0e-0a8f6f1f5a11"
BEARER = "Authorization header must be a Bearer token"

PREFLIGHT = {
    "origin": "https://shop.example",
    "access_control_request_method": "POST",
    "access_control_request_headers": "content-type, authorization",
}


async def test_E1_no_authorization_is_400(rowboat: Rowboat) -> None:
    answer = await rowboat.post(HELLO, authorization="")
    assert (answer.status, answer.error) == (400, BEARER)
    assert rowboat.model.asked == []


@pytest.mark.parametrize("scheme", ["Basic x", "bearer {key}", "Token {key}", "{key}"])
async def test_E2_another_scheme_is_400(rowboat: Rowboat, scheme: str) -> None:
    """The word is compared with its case."""
    answer = await rowboat.post(HELLO, authorization=scheme.format(key=rowboat.keys[PROJECT]))
    assert (answer.status, answer.error) == (400, BEARER)


@pytest.mark.parametrize("header", ["Bearer ", "Bearer  ", "Bearer"])
async def test_E3_an_empty_key_is_400(rowboat: Rowboat, header: str) -> None:
    answer = await rowboat.post(HELLO, authorization=header)
    assert answer.status == 400
    assert answer.error in (BEARER, "Missing API key in request")


async def test_E4_a_wrong_key_and_one_of_another_project_are_403(rowboat: Rowboat) -> None:
    await rowboat.settle(OTHER)
    key = rowboat.keys[PROJECT]
    for project, header in ((PROJECT, "0" * 64), (PROJECT, key[:-1] + "!"), (OTHER, key), ("nope", key)):
        answer = await rowboat.post(HELLO, project=project, authorization=f"Bearer {header}")
        assert (answer.status, answer.error) == (403, "Invalid API key")
    assert rowboat.model.asked == []


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b'{"messages":[]'])
async def test_E5_what_is_not_JSON_is_400(rowboat: Rowboat, body: bytes) -> None:
    answer = await rowboat.post(body)
    assert (answer.status, answer.error) == (400, "Invalid JSON in request body")


ASSISTANT = {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": "x"},
        {"messages": None},
        [],
        "x",
        None,
        {"messages": ["x"]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": "developer", "content": "x"}]},
        {"messages": [{"role": "function", "content": "x"}]},
        {"messages": [user("x"), ASSISTANT], "state": None},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "tool", "content": "x", "tool_name": "t"}], "state": None},
        {"messages": [{**ASSISTANT, "agenticResponseType": "secret"}], "state": None},
        {"messages": [user("x")], "workflowId": 5},
    ],
)
async def test_E6_what_does_not_fit_is_400(rowboat: Rowboat, body: Any) -> None:
    answer = await rowboat.post(b"null" if body is None else body)
    assert answer.status == 400
    assert answer.error.startswith("Invalid request body")
    assert rowboat.model.asked == []


async def test_E6_and_its_place_is_named(rowboat: Rowboat) -> None:
    assert '"messages"' in (await rowboat.post({})).error
    answer = await rowboat.post({"messages": [user("x"), user("y"), {"role": "user"}], "state": None})
    assert answer.status == 400 and "2" in answer.error


async def test_E7_state_may_be_absent(rowboat: Rowboat) -> None:
    """With nothing but messages any generation may be meant: all its readers find what they look for."""
    rowboat.model.say("Front Desk", "Hello")
    answer = await rowboat.post({"messages": [user("hello")]})
    assert answer.status == 200
    assert answer.json["messages"][-1]["content"] == "Hello"
    assert answer.json["messages"][-1]["agenticResponseType"] == "external"


async def test_E8_null_is_taken_everywhere_and_other_keys_are_dropped(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello")
    nulls = {"workflowId": None, "testProfileId": None}
    others: Any = {"skipToolCalls": False, "maxTurns": 3, "whatever": {"deep": [1]}}
    turn = await rowboat.chat({**user("hello"), "name": "me", "timestamp": None}, **nulls, **others)
    assert turn.text == "Hello"


async def test_E9_where_nothing_is_published_it_is_404(bare: Rowboat) -> None:
    answer = await bare.post(HELLO)
    said = "No workflow id provided in request or project has no published workflow"
    assert (answer.status, answer.error) == (404, said)
    await bare.take_in(harbor(), publish=False)
    answer = await bare.post(HELLO)
    assert (answer.status, answer.error) == (404, said)


@pytest.mark.parametrize("wanted", [UNKNOWN, "abc", "../x", "x" * 24, UNKNOWN.upper(), "é"])
async def test_E10_a_workflow_that_is_not_there_is_404(rowboat: Rowboat, wanted: str) -> None:
    answer = await rowboat.post({**HELLO, "workflowId": wanted})
    assert (answer.status, answer.error) == (404, "Workflow not found")


async def test_E10_and_so_is_one_of_another_project(rowboat: Rowboat) -> None:
    await rowboat.settle(OTHER)
    theirs = await rowboat.take_in(harbor(), project=OTHER)
    answer = await rowboat.post({**HELLO, "workflowId": theirs})
    assert (answer.status, answer.error) == (404, "Workflow not found")
    rowboat.model.say("Front Desk", "Hello")
    assert (await rowboat.chat(user("hello"), project=OTHER, workflowId=theirs)).text == "Hello"


async def test_E11_a_test_profile_that_is_not_there_is_404(rowboat: Rowboat) -> None:
    await rowboat.settle(OTHER)
    theirs = await rowboat.profile(project=OTHER)
    for wanted in (UNKNOWN, "abc", theirs):
        answer = await rowboat.post({**HELLO, "testProfileId": wanted})
        assert (answer.status, answer.error) == (404, "Test profile not found")


async def test_E12_a_project_has_so_many_calls_a_minute(hook: Receiver, tmp_path: Path) -> None:
    """They are counted before anything is understood; other projects have their own, and so have strangers."""
    async with rowboat_of(tmp_path, hook, limits="per_project_rpm = 3") as rowboat:
        await rowboat.take_in(harbor())
        await rowboat.settle(OTHER)
        await rowboat.take_in(harbor(), project=OTHER)
        rowboat.model.say("Front Desk", "Hello", times=9)
        assert [(await rowboat.post(HELLO)).status for _ in range(3)] == [200] * 3
        over = await rowboat.post(HELLO)
        assert (over.status, over.error) == (429, "Query limit exceeded")
        assert 1 <= int(over.headers["retry-after"]) <= 60
        assert (await rowboat.post(b"{")).status == 429
        assert (await rowboat.post(HELLO, project=OTHER)).status == 200
        rowboat.clock.move(61)
        assert (await rowboat.post(HELLO)).status == 200
        assert len(rowboat.model.asked) == 5


async def test_E12_and_who_proves_nothing_uses_up_nobody_elses(hook: Receiver, tmp_path: Path) -> None:
    async with rowboat_of(tmp_path, hook, limits="per_project_rpm = 3") as rowboat:
        await rowboat.take_in(harbor())
        strangers = [await rowboat.post(HELLO, authorization=each) for each in ("", "Bearer nope", "Basic x", "")]
        assert [answer.status for answer in strangers] == [400, 403, 400, 429]
        assert (strangers[-1].error, int(strangers[-1].headers["retry-after"]) >= 1) == ("Query limit exceeded", True)
        rowboat.model.say("Front Desk", "Hello", times=3)
        assert [(await rowboat.post(HELLO)).status for _ in range(4)] == [200, 200, 200, 429]


async def test_E13_a_page_may_ask_whether_it_may(rowboat: Rowboat) -> None:
    answer = await rowboat.send("OPTIONS", authorization="", **PREFLIGHT)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    methods = {each.strip() for each in answer.headers["access-control-allow-methods"].split(",")}
    assert methods == {"GET", "POST", "PUT", "DELETE", "OPTIONS"}
    headers = {each.strip().lower() for each in answer.headers["access-control-allow-headers"].split(",")}
    assert headers == {"content-type", "x-client-id", "authorization"}


async def test_E13_and_reads_every_answer(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello")
    for body, status in ((HELLO, 200), ({}, 400)):
        answer = await rowboat.post(body, origin="https://shop.example")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, "*")
    refused = await rowboat.post(HELLO, authorization="Bearer nope", origin="https://shop.example")
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (403, "*")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_E14_other_methods_are_405(rowboat: Rowboat, method: str) -> None:
    answer = await rowboat.send(method)
    assert answer.status == 405
    assert answer.error


async def test_E15_the_key_is_looked_at_before_the_body(rowboat: Rowboat) -> None:
    for body in (b"{", b"{}", b'{"messages":"x","state":null}'):
        answer = await rowboat.post(body, authorization="Bearer nope")
        assert (answer.status, answer.error) == (403, "Invalid API key")
