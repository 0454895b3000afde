"""C1 to C11: the second generation, whose conversations the server keeps."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dragoman.core.names import ProjectId
from dragoman.core.operations import ReadConversation
from tests.dialects.rowboat.conformance.kit import (
    GREETING,
    PROJECT,
    UNKNOWN,
    Json,
    Rowboat,
    check_g2,
    events_in,
    harbor,
    is_id,
    kinds,
    rowboat_of,
    system,
    user,
)
from tests.rowboat_webhook import Receiver
from tests.streaming_client import Client

OTHER = "7d0c9c1e-3f43-4f0c-9d0e-0a8f6f1f5a11"
ORDER = {"order_id": "HO-10442"}


async def test_C1_a_first_turn_begins_a_conversation(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.say("Billing Desk", "Which order?")
    body = await rowboat.talk(user("I was charged twice"), mockTools=None)
    assert is_id(body["conversationId"])
    turn = body["turn"]
    assert turn["reason"] == {"type": "api"}
    (asked,) = turn["input"]["messages"]
    assert (asked["role"], asked["content"]) == ("user", "I was charged twice")
    assert asked["timestamp"] == turn["createdAt"] == "2023-11-14T22:13:20.000Z"
    call, result, text = turn["output"]
    assert call["toolCalls"][0]["id"] == result["toolCallId"]
    assert text["agentName"] == "Billing Desk" and text["responseType"] == "external"


async def test_C1_a_time_that_is_given_is_kept_and_an_empty_id_is_none(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello")
    at = "2025-08-06T00:00:00.000Z"
    body = await rowboat.talk({**user("hi"), "timestamp": at}, conversation="")
    assert body["turn"]["input"]["messages"][0]["timestamp"] == at


async def test_C2_the_server_remembers(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.say("Billing Desk", "Which order?")
    rowboat.model.say("Billing Desk", "Thanks.")
    first = await rowboat.talk(user("I was charged twice"))
    second = await rowboat.talk(user("HO-10442"), conversation=first["conversationId"])
    assert second["conversationId"] == first["conversationId"]
    assert second["turn"]["id"] != first["turn"]["id"]
    assert kinds(second["turn"]["output"]) == ["Billing Desk external"]
    texts = [("user", "I was charged twice"), ("assistant", "Which order?"), ("user", "HO-10442")]
    assert rowboat.model.asked[-1].said == texts
    assert [each["content"] for each in second["turn"]["input"]["messages"]] == ["HO-10442"]


async def test_C2_who_gives_back_is_followed_by_the_start_agent(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Tech Desk")
    rowboat.model.say("Tech Desk", "Restart it.")
    rowboat.model.say("Front Desk", "Gladly.")
    first = await rowboat.talk(user("it hangs"))
    second = await rowboat.talk(user("thanks"), conversation=first["conversationId"])
    assert kinds(second["turn"]["output"]) == ["Front Desk external"]


@pytest.mark.parametrize("wanted", [UNKNOWN, "abc", "../x", "é", "x" * 5000])
async def test_C3_a_conversation_that_is_not_there_is_404(rowboat: Rowboat, wanted: str) -> None:
    answer = await rowboat.post({"conversationId": wanted, "messages": [user("hi")]})
    assert answer.status == 404 and answer.error
    assert rowboat.model.asked == []


async def test_C3_and_so_is_one_of_another_project(rowboat: Rowboat) -> None:
    await rowboat.settle(OTHER)
    await rowboat.take_in(harbor(), project=OTHER)
    rowboat.model.say("Front Desk", "Hello")
    mine = (await rowboat.talk(user("hi")))["conversationId"]
    answer = await rowboat.post({"conversationId": mine, "messages": [user("hi")]}, project=OTHER)
    assert answer.status == 404 and answer.error
    assert len(rowboat.model.asked) == 1


async def test_C4_a_conversation_keeps_its_workflow(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello", times=2)
    old = (await rowboat.talk(user("hi")))["conversationId"]
    await rowboat.take_in(json.loads(json.dumps(harbor()).replace("Front Desk", "Help Desk")))
    rowboat.model.say("Help Desk", "Welcome")
    went_on = await rowboat.talk(user("and?"), conversation=old)
    began = await rowboat.talk(user("hi"))
    assert kinds(went_on["turn"]["output"]) == ["Front Desk external"]
    assert kinds(began["turn"]["output"]) == ["Help Desk external"]


async def test_C4_even_when_nothing_is_published_any_more(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello", times=2)
    old = (await rowboat.talk(user("hi")))["conversationId"]
    await rowboat.house.workflows.unpublish(ProjectId(PROJECT))
    went_on = await rowboat.talk(user("and?"), conversation=old)
    assert kinds(went_on["turn"]["output"]) == ["Front Desk external"]
    answer = await rowboat.post({"conversationId": None, "messages": [user("hi")]})
    assert answer.status == 404 and answer.error


async def test_C5_tools_are_played_for_one_turn(rowboat: Rowboat) -> None:
    hook = await rowboat.hooked()
    refund = ("create_refund", {"order_id": "HO-1", "amount": 5})
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.call("Billing Desk", refund)
    rowboat.model.invent("create_refund", "the parcel was lost")
    rowboat.model.say("Billing Desk", "Lost.")
    first = await rowboat.talk(user("refund"), mockTools={"create_refund": "lost parcel"})
    result = next(each for each in first["turn"]["output"] if each.get("toolName") == "create_refund")
    assert result["content"] == "the parcel was lost"
    assert hook.received == [] and "lost parcel" in rowboat.model.inventions[0].whole
    rowboat.model.call("Billing Desk", refund)
    rowboat.model.say("Billing Desk", "Done.")
    await rowboat.talk(user("again"), conversation=first["conversationId"])
    assert [call.name for call in hook.received] == ["create_refund"]
    assert len(rowboat.model.inventions) == 1


async def test_C6_a_stream_tells_each_message_and_then_the_turn(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.call("Billing Desk", ("get_order", ORDER))
    rowboat.model.invent("get_order", "charged twice")
    rowboat.model.say("Billing Desk", "Refund?")
    answer = await rowboat.post({"messages": [user("I was charged twice")], "stream": True})
    assert answer.status == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert "no-cache" in answer.headers["cache-control"]
    events = events_in(answer.body)
    done = events.pop()
    assert {event["type"] for event in events} == {"message"}
    assert list(done) == ["type", "conversationId", "turn"] and done.pop("type") == "done"
    check_g2(done)
    assert [event["data"] for event in events] == done["turn"]["output"]
    assert kinds(done["turn"]["output"])[-1] == "Billing Desk external" and len(events) == 5
    rowboat.model.say("Billing Desk", "Gladly.")
    again = await rowboat.talk(user("yes"), conversation=done["conversationId"])
    assert kinds(again["turn"]["output"]) == ["Billing Desk external"]


async def test_C6_messages_come_as_they_are_said(rowboat: Rowboat) -> None:
    """And not all at the end: a reader sees the hand-over while the next agent is still thinking."""
    gate = rowboat.model.gates["Billing Desk"] = asyncio.Event()
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.say("Billing Desk", "Which order?")
    body = json.dumps({"messages": [user("I was charged twice")], "stream": True}).encode()
    headers = {"authorization": f"Bearer {rowboat.keys[PROJECT]}", "content-type": "application/json"}
    client = Client(rowboat.house.app, headers=headers)
    async with client.stream("POST", f"/api/v1/{PROJECT}/chat", body=body) as stream:
        try:
            early = await stream.until(b'"toolName":"transfer_to_agent"')
            assert b"Which order?" not in early
        finally:
            gate.set()
        await stream.rest()
    assert [event["type"] for event in events_in(stream.body)] == ["message"] * 3 + ["done"]


async def test_C6_a_stream_that_is_false_or_null_is_none(rowboat: Rowboat) -> None:
    for stream in (False, None):
        rowboat.model.say("Front Desk", "Hello")
        answer = await rowboat.post({"messages": [user("hi")], "stream": stream})
        assert answer.headers["content-type"].partition(";")[0] == "application/json"
        check_g2(answer.json)


async def test_C7_a_stream_that_fails_says_so_and_ends(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.fail("Billing Desk")
    answer = await rowboat.post({"messages": [user("I was charged twice")], "stream": True})
    assert answer.status == 200
    events = events_in(answer.body)
    assert [event["type"] for event in events] == ["message", "message", "error"]
    assert isinstance(events[-1]["error"], str) and "not-for-callers" not in events[-1]["error"]


async def test_C7_what_is_wrong_before_the_stream_is_an_answer(rowboat: Rowboat) -> None:
    answer = await rowboat.post({"messages": [user("hi")], "stream": True, "conversationId": UNKNOWN})
    assert answer.status == 404 and answer.error


async def test_C7_a_failed_turn_leaves_the_conversation_as_it_was(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello")
    first = await rowboat.talk(user("hi"))
    rowboat.model.fail("Front Desk")
    answer = await rowboat.post({"conversationId": first["conversationId"], "messages": [user("lost")]})
    assert answer.status == 502 and answer.error
    rowboat.model.say("Front Desk", "Back")
    await rowboat.talk(user("so?"), conversation=first["conversationId"])
    assert ("user", "so?") in rowboat.model.asked[-1].said
    assert ("assistant", "Hello") in rowboat.model.asked[-1].said


async def test_C8_who_may_not_is_told_in_JSON(hook: Receiver, tmp_path: Path) -> None:
    async with rowboat_of(tmp_path, hook, limits="per_project_rpm = 3") as rowboat:
        await rowboat.take_in(harbor())
        body = {"conversationId": None, "messages": [user("hi")]}
        wrong = await rowboat.post(body, authorization=f"Bearer {'0' * 64}")
        assert (wrong.status, wrong.error) == (403, "Invalid API key")
        absent = await rowboat.post(body, authorization="")
        assert absent.status == 400 and absent.error
        rowboat.model.say("Front Desk", "Hello", times=9)
        assert [(await rowboat.post(body)).status for _ in range(3)] == [200] * 3
        over = await rowboat.post(body)
        assert (over.status, over.error) == (429, "Query limit exceeded")


@pytest.mark.parametrize(
    "body",
    [
        {"conversationId": 5, "messages": []},
        {"conversationId": None},
        {"conversationId": None, "messages": "x"},
        {"conversationId": None, "messages": [{"role": "developer", "content": "x"}]},
        {"stream": True, "messages": [{"role": "user"}]},
        {"stream": "yes", "messages": [user("x")]},
        {"conversationId": None, "messages": [user("x")], "mockTools": {"t": 5}},
        {"conversationId": None, "messages": [user("x")], "mockTools": []},
        {"conversationId": None, "messages": [{**user("x"), "timestamp": "2025-08-06T00:00:00+00:00"}]},
    ],
)
@pytest.mark.parametrize("key", ["none", "wrong", "good"])
async def test_C9_a_body_that_does_not_fit_is_400_whoever_asks(rowboat: Rowboat, body: Json, key: str) -> None:
    """Before anybody is asked who he is."""
    headers = {"none": {"authorization": ""}, "wrong": {"authorization": "Bearer nope"}, "good": {}}[key]
    answer = await rowboat.post(body, **headers)
    assert (answer.status, answer.error) == (400, "Invalid request")
    assert rowboat.model.asked == []


async def test_C10_of_two_turns_at_once_none_is_lost(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello")
    conversation = (await rowboat.talk(user("hi")))["conversationId"]
    rowboat.model.say("Front Desk", "One")
    rowboat.model.say("Front Desk", "Two")
    gate = rowboat.model.gates["Front Desk"] = asyncio.Event()
    both = asyncio.gather(*(rowboat.talk(user(text), conversation=conversation) for text in ("first", "second")))
    await asyncio.sleep(0.05)
    gate.set()
    one, two = await asyncio.wait_for(both, 5)
    assert {one["turn"]["output"][0]["content"], two["turn"]["output"][0]["content"]} == {"One", "Two"}
    assert one["turn"]["id"] != two["turn"]["id"]
    rowboat.model.say("Front Desk", "Three")
    await rowboat.talk(user("third"), conversation=conversation)
    said = [text for _, text in rowboat.model.asked[-1].said]
    assert {"hi", "first", "second", "One", "Two"} <= set(said) and len(said) == 7


@pytest.mark.parametrize(("key", "status"), [("none", 400), ("wrong", 403), ("good", 404)])
async def test_C3_what_can_name_nothing_is_not_found_by_those_who_may_ask(
    rowboat: Rowboat, key: str, status: int
) -> None:
    headers = {"none": {"authorization": ""}, "wrong": {"authorization": "Bearer nope"}, "good": {}}[key]
    for wanted in ({"conversationId": "x" * 5000}, {"stream": True, "workflowId": "\0"}):
        assert (await rowboat.post({"messages": [user("hi")], **wanted}, **headers)).status == status


@pytest.mark.parametrize("spelling", ["agentName", "agenticName", "agenticSender"])
async def test_C11_an_agents_name_has_three_spellings(rowboat: Rowboat, spelling: str) -> None:
    rowboat.model.say("Billing Desk", "Which order?")
    spoke = {"role": "assistant", "content": "How much?", "responseType": "external", spelling: "Billing Desk"}
    for body in (
        {"conversationId": None, "messages": [user("hi"), spoke, user("84.50")]},
        {"state": None, "mockTools": None, "messages": [user("hi"), spoke, user("84.50")]},
    ):
        rowboat.model.say("Billing Desk", "So much?")
        answer = await rowboat.post(body)
        assert answer.status == 200, answer.body
        output = answer.json["turn"]["output"] if "turn" in answer.json else answer.json["messages"]
        assert kinds(output) == ["Billing Desk external"]


# -- beyond the cases --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("messages", [[], [system("Ana")]])
async def test_who_says_nothing_is_greeted(rowboat: Rowboat, messages: list[Any]) -> None:
    body = await rowboat.talk(*messages)
    assert [each["content"] for each in body["turn"]["output"]] == [GREETING]
    assert rowboat.model.asked == []


async def test_a_conversation_is_kept_where_others_are(rowboat: Rowboat) -> None:
    """What operators list, export and delete, they find there too."""
    rowboat.model.say("Front Desk", "Hello")
    conversation = (await rowboat.talk(user("hi")))["conversationId"]
    key = await rowboat.house.authenticator.prove(rowboat.keys[PROJECT])
    view = await rowboat.house.conversations.read(key, ReadConversation(conversation))
    assert [turn.answered[-1].text for turn in view.turns] == ["Hello"]


async def test_a_turn_without_state_leaves_nothing_behind(rowboat: Rowboat) -> None:
    """Of the first generation the caller keeps everything."""
    rowboat.model.say("Front Desk", "Hello")
    await rowboat.chat(user("hi"))
    await rowboat.settled()
    kept = rowboat.house.store
    assert await kept.count(ProjectId(PROJECT)) == 0
    rowboat.model.say("Front Desk", "Hello")
    await rowboat.talk(user("hi"))
    assert await kept.count(ProjectId(PROJECT)) == 1


async def test_C2_another_key_of_the_project_goes_on_with_it(rowboat: Rowboat) -> None:
    """A conversation is the project's, as upstream's are: keys come and go."""
    rowboat.model.say("Front Desk", "Hello", times=2)
    conversation = (await rowboat.talk(user("hi")))["conversationId"]
    first, second = rowboat.keys[PROJECT], await rowboat.new_key()
    assert first != second
    await rowboat.talk(user("and?"), conversation=conversation)
    assert ("user", "hi") in rowboat.model.asked[-1].said


async def test_C6_what_stays_between_agents_is_streamed_as_it_is_told(insurer: Rowboat) -> None:
    insurer.model.hand("Claims Concierge", "Claim intake")
    for step in ("Extract Claim Facts", "Check Policy Status", "Register Claim"):
        insurer.model.say(step, f"{step} is done.")
    insurer.model.hand("Claims Concierge", "Policy Researcher")
    insurer.model.say("Policy Researcher", "Clause 7.")
    insurer.model.say("Claims Concierge", "It is registered.")
    answer = await insurer.post({"messages": [user("file a claim")], "stream": True})
    events = events_in(answer.body)
    done = events.pop()
    assert [event["data"] for event in events] == done["turn"]["output"]
    told = kinds(done["turn"]["output"])
    assert [kind for kind in told if kind.endswith("internal")] == [
        "Extract Claim Facts internal",
        "Check Policy Status internal",
        "Register Claim internal",
        "Policy Researcher internal",
    ]
    assert told[-1] == "Claims Concierge external" and len(told) == 17
