"""Quirks of the wire that no numbered case shows: how generations are told apart, and the answer that fits them all."""

import json
from typing import Any

import pytest

from tests.dialects.rowboat.conformance.kit import (
    Json,
    Rowboat,
    check_g1,
    check_g2,
    check_g15,
    harbor,
    kinds,
    system,
    user,
)

AT_BILLING = {"last_agent_name": "Billing Desk"}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_order", "arguments": "{}"}}
RESULT = {"role": "tool", "content": "x"}

G1: list[Json] = [
    {"state": None},
    {"state": {"last_agent_name": "Front Desk"}},
    {"workflowId": None},
    {"testProfileId": None},
    {"messages": [user("a"), {"role": "assistant", "content": "b", "agenticResponseType": "external"}, user("c")]},
    {
        "messages": [
            user("a"),
            {"role": "assistant", "tool_calls": [CALL], "agenticResponseType": "internal"},
            {**RESULT, "tool_call_id": "c1", "tool_name": "get_order"},
            user("c"),
        ]
    },
]
G15: list[Json] = [
    {"state": None, "mockTools": None},
    {"state": {"last_agent_name": "x"}, "mockTools": {}},
    {"state": None, "mockTools": None, "workflowId": None, "testProfileId": None},
    {"messages": [user("a"), {"role": "assistant", "content": "b", "responseType": "external"}, user("c")]},
    {
        "messages": [
            user("a"),
            {"role": "assistant", "content": None, "toolCalls": [CALL]},
            {**RESULT, "toolCallId": "c1", "toolName": "get_order"},
            user("c"),
        ]
    },
]
G2: list[Json] = [
    {"conversationId": None},
    {"conversationId": ""},
    {"stream": False},
    {"stream": None},
    {"conversationId": None, "mockTools": None},
    {"conversationId": None, "state": None},
]


async def answered(rowboat: Rowboat, fields: Json) -> Any:
    rowboat.model.say("Front Desk", "Hello")
    answer = await rowboat.post({"messages": [user("hi")], **fields})
    assert answer.status == 200, answer.body
    return answer.json


@pytest.mark.parametrize("fields", G1)
async def test_Q2_what_means_the_first_generation(rowboat: Rowboat, fields: Json) -> None:
    body = await answered(rowboat, fields)
    assert sorted(body) == ["messages", "state"]
    check_g1(body["messages"])


@pytest.mark.parametrize("fields", G15)
async def test_Q2_what_means_the_one_between(rowboat: Rowboat, fields: Json) -> None:
    body = await answered(rowboat, fields)
    assert list(body) == ["messages"]
    check_g15(body["messages"])


@pytest.mark.parametrize("fields", G2)
async def test_Q2_what_means_the_second(rowboat: Rowboat, fields: Json) -> None:
    check_g2(await answered(rowboat, fields))


NAMES = ("agenticSender", "agentName", "agenticName")


async def ambiguous(rowboat: Rowboat, *messages: Json) -> Any:
    answer = await rowboat.post({"messages": list(messages)})
    assert answer.status == 200, answer.body
    return answer.json


async def test_Q2_of_mere_messages_the_answer_fits_every_reader(rowboat: Rowboat) -> None:
    """Spec 5.2."""
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.say("Billing Desk", "Which order?")
    body = await ambiguous(rowboat, user("I was charged twice"))
    assert sorted(body) == ["conversationId", "messages", "state", "turn"]
    assert body["messages"] == body["turn"]["output"]
    call, result, text = body["messages"]
    assert all(call[name] == "Front Desk" and text[name] == "Billing Desk" for name in NAMES)
    assert call["tool_calls"] == call["toolCalls"] and call["content"] is None
    assert call["agenticResponseType"] == call["responseType"] == "internal"
    assert result["tool_call_id"] == result["toolCallId"] == call["tool_calls"][0]["id"]
    assert result["tool_name"] == result["toolName"] == "transfer_to_agent"
    assert text["agenticResponseType"] == text["responseType"] == "external"
    assert all(message["timestamp"].endswith("Z") for message in body["messages"])
    assert body["state"]["last_agent_name"] == "Billing Desk"
    assert body["turn"]["reason"] == {"type": "api"}


async def test_Q2_and_may_be_gone_on_with_as_either_says(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.say("Billing Desk", "Which order?", times=1)
    body = await ambiguous(rowboat, user("I was charged twice"))
    rowboat.model.say("Billing Desk", "Thanks.", times=3)
    by_id = await rowboat.talk(user("HO-1"), conversation=body["conversationId"])
    assert kinds(by_id["turn"]["output"]) == ["Billing Desk external"]
    assert ("assistant", "Which order?") in rowboat.model.asked[-1].said
    by_state = await rowboat.chat(user("I was charged twice"), *body["messages"], user("HO-1"), state=body["state"])
    assert by_state.kinds == ["Billing Desk external"]
    rowboat.model.say("Front Desk", "Hello again")
    stateless = await rowboat.post({"messages": [user("I was charged twice"), *body["messages"], user("HO-1")]})
    assert stateless.status == 200
    assert kinds(stateless.json["messages"]) == ["Front Desk external"], "without a state it begins anew (T6)"


@pytest.mark.parametrize("kind", ["one", "between", "two"])
async def test_Q3_either_spelling_is_read_whichever_generation_asks(rowboat: Rowboat, kind: str) -> None:
    fields: Json = {"one": {"state": None}, "between": {"state": None, "mockTools": None}, "two": {"stream": False}}[
        kind
    ]
    histories = (
        [
            {"role": "assistant", "tool_calls": [CALL], "agenticSender": None, "agenticResponseType": "internal"},
            {**RESULT, "tool_call_id": "c1", "tool_name": "get_order"},
            {"role": "assistant", "content": "So.", "agenticSender": "Front Desk", "agenticResponseType": "external"},
        ],
        [
            {"role": "assistant", "content": None, "toolCalls": [CALL], "agenticName": None},
            {**RESULT, "toolCallId": "c1", "toolName": "get_order"},
            {"role": "assistant", "content": "So.", "agenticName": "Front Desk", "responseType": "external"},
        ],
    )
    for history in histories:
        await answered(rowboat, {**fields, "messages": [user("a"), *history, user("b")]})
        assert rowboat.model.asked[-1].said == [("user", "a"), ("assistant", "So."), ("user", "b")]


async def test_Q4_every_answer_may_be_sent_back_as_it_came(rowboat: Rowboat) -> None:
    for fields in ({"state": None}, {"state": None, "mockTools": None}, {"conversationId": None}, {}):
        rowboat.model.hand("Front Desk", "Billing Desk")
        rowboat.model.call("Billing Desk", ("get_order", {"order_id": "HO-1"}))
        rowboat.model.invent("get_order", "charged twice")
        rowboat.model.say("Billing Desk", "Refund?")
        first = await rowboat.post({"messages": [user("hi")], **fields})
        told = first.json["messages"] if "messages" in first.json else first.json["turn"]["output"]
        state = {"state": first.json["state"]} if "state" in first.json and "state" in fields else {}
        rowboat.model.say("Billing Desk" if fields else "Front Desk", "Done")
        again = await rowboat.post({**fields, **state, "messages": [user("hi"), *told, user("yes")]})
        assert again.status == 200, again.body
        assert again.json.get("messages", again.json.get("turn", {}).get("output"))[-1]["content"] == "Done"
        assert rowboat.model.asked[-1].said == [("user", "hi"), ("assistant", "Refund?"), ("user", "yes")]


async def test_Q4_however_long_it_was(rowboat: Rowboat) -> None:
    """Users' messages have a greatest length, answers have none of that kind."""
    longest = 100_000
    rowboat.model.say("Front Desk", "y" * (longest + 1))
    first = await rowboat.chat(user("x" * longest))
    rowboat.model.say("Front Desk", "So.")
    again = await rowboat.chat(user("x" * longest), *first.messages, user("more"), state=first.state)
    assert again.text == "So."
    refused = await rowboat.post({"messages": [user("x" * (longest + 1))], "state": None})
    assert (refused.status, refused.error) == (
        400,
        f"A message may have at most {longest} characters; this one has {longest + 1}.",
    )


async def test_Q6_words_before_a_call_are_told_before_it(rowboat: Rowboat) -> None:
    rowboat.model.call("Billing Desk", ("get_order", {"order_id": "HO-1"}), text="Let me look.")
    rowboat.model.invent("get_order", "charged twice")
    rowboat.model.say("Billing Desk", "Twice.")
    turn = await rowboat.chat(user("HO-1"), state=AT_BILLING)
    assert [each.get("content") for each in turn.messages] == ["Let me look.", None, "charged twice", "Twice."]
    assert turn.kinds[1:] == ["Billing Desk calls get_order", "result of get_order", "Billing Desk external"]


async def test_Q14_the_state_counts_tokens_over_all_turns(rowboat: Rowboat) -> None:
    """Upstream kept its count there since 97feb718."""
    rowboat.model.say("Front Desk", "Hello", times=2)
    first = await rowboat.chat(user("hi"))
    assert first.state == {
        "last_agent_name": "Front Desk",
        "tokens": {"total": 15, "prompt": 10, "completion": 5},
    }
    second = await rowboat.chat(user("hi"), *first.messages, user("so?"), state=first.state)
    assert second.state["tokens"] == {"total": 30, "prompt": 20, "completion": 10}


async def test_Q15_between_the_generations_the_history_tells_who_speaks(rowboat: Rowboat) -> None:
    """And not the state, which is taken and not read."""
    spoke = {"role": "assistant", "content": "How much?", "responseType": "external", "agentName": "Billing Desk"}
    rowboat.model.say("Billing Desk", "So much?")
    body = {"messages": [user("a"), spoke, user("b")], "state": {"last_agent_name": "Tech Desk"}, "mockTools": None}
    answer = await rowboat.post(body)
    assert answer.status == 200, answer.body
    assert kinds(answer.json["messages"]) == ["Billing Desk external"]
    rowboat.model.say("Front Desk", "Hello")
    unnamed = await rowboat.post({**body, "messages": [user("a"), {**spoke, "agentName": None}, user("b")]})
    assert kinds(unnamed.json["messages"]) == ["Front Desk external"]


@pytest.mark.parametrize("fields", [{"state": None, "mockTools": {"create_refund": "lost"}}])
async def test_Q18_a_request_may_have_any_tool_played(rowboat: Rowboat, fields: Json) -> None:
    hook = await rowboat.hooked()
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.call("Billing Desk", ("create_refund", {"order_id": "HO-1", "amount": 5}))
    rowboat.model.invent("create_refund", "it was lost")
    rowboat.model.say("Billing Desk", "Lost.")
    answer = await rowboat.post({"messages": [user("refund")], **fields})
    assert answer.status == 200, answer.body
    check_g15(answer.json["messages"])
    assert [each["content"] for each in answer.json["messages"] if each["role"] == "tool"][-1] == "it was lost"
    assert hook.received == []


async def test_Q20_a_tool_of_no_kind_is_a_webhook_in_the_first_generation_and_played_in_the_second(
    bare: Rowboat,
) -> None:
    tool = {"name": "look_up", "description": "Looks up.", "parameters": {"type": "object", "properties": {}}}
    agent = {
        "name": "Desk",
        "type": "conversation",
        "description": "",
        "instructions": "Your name is Desk. Use [@tool:look_up](#mention).",
        "model": "",
        "outputVisibility": "user_facing",
        "controlType": "retain",
    }
    second = {"agents": [agent], "prompts": [], "tools": [tool], "pipelines": [], "startAgent": "Desk"}
    second["lastUpdatedAt"] = "2025-08-20T08:00:00.000Z"
    first = {name: value for name, value in second.items() if name != "pipelines"}
    first |= {"projectId": "p", "createdAt": "2025-04-11T09:00:00.000Z", "name": "Version 1"}
    hook = await bare.hooked()
    for workflow, called in ((first, 1), (second, 1)):
        await bare.take_in(workflow)
        bare.model.call("Desk", ("look_up", {}))
        bare.model.invent("look_up", "invented")
        bare.model.say("Desk", "So.")
        await bare.chat(user("look"))
        assert len(hook.received) == called
    assert len(bare.model.inventions) == 1


async def test_a_system_message_comes_first_or_is_told_where_it_stands(rowboat: Rowboat) -> None:
    """Spec 4.1: the first message at most is one; a blank one says nothing."""
    rowboat.model.say("Front Desk", "Hello", times=2)
    await rowboat.chat(system("  "), user("hi"))
    await rowboat.chat(user("hi"), system("Closed on Sundays."), user("open?"))
    assert "Closed on Sundays." in rowboat.model.asked[1].whole


async def test_keys_in_any_order_and_spacing_are_read(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello")
    body = json.dumps({"state": None, "messages": [{"content": "hi", "role": "user"}]}, indent=4).encode()
    answer = await rowboat.post(b"\n " + body + b"\n")
    assert answer.status == 200


GENERATIONS: dict[str, Json] = {
    "one": {"state": None},
    "between": {"state": None, "mockTools": None},
    "two": {"conversationId": None},
}


def output_of(body: Json) -> list[Json]:
    return body["turn"]["output"] if "turn" in body else body["messages"]


@pytest.mark.parametrize("kind", GENERATIONS)
async def test_Q19_a_profile_and_a_version_count_in_every_generation(rowboat: Rowboat, kind: str) -> None:
    """Upstream dropped both after the first."""
    profile = await rowboat.profile(context="Name: Ana", mock_tools=True, mock_prompt="It is always late.")
    renamed = json.loads(json.dumps(harbor()).replace("Front Desk", "Help Desk"))
    version = await rowboat.take_in(renamed, publish=False)
    rowboat.model.hand("Help Desk", "Billing Desk")
    rowboat.model.call("Billing Desk", ("create_refund", {"order_id": "HO-1", "amount": 5}))
    rowboat.model.invent("create_refund", "late")
    rowboat.model.say("Billing Desk", "It is late.")
    body = {**GENERATIONS[kind], "workflowId": version, "testProfileId": profile, "messages": [user("refund")]}
    answer = await rowboat.post(body)
    assert answer.status == 200, answer.body
    assert kinds(output_of(answer.json))[-1] == "Billing Desk external"
    assert all("Name: Ana" in asked.system for asked in rowboat.model.asked if asked.who)
    assert "It is always late." in rowboat.model.inventions[0].whole


@pytest.mark.parametrize("kind", GENERATIONS)
@pytest.mark.parametrize(("field", "said"), [("workflowId", "Workflow"), ("testProfileId", "Test profile")])
async def test_Q13_what_is_not_there_is_404_in_every_generation(
    rowboat: Rowboat, kind: str, field: str, said: str
) -> None:
    answer = await rowboat.post({**GENERATIONS[kind], field: "abc", "messages": [user("hi")]})
    assert (answer.status, answer.error) == (404, f"{said} not found")


@pytest.mark.parametrize("kind", GENERATIONS)
async def test_Q6_an_agent_that_says_nothing_does_not_leave_the_user_without_a_word(
    rowboat: Rowboat, kind: str
) -> None:
    rowboat.model.call("Billing Desk", ("get_order", {"order_id": "HO-1"}))
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.invent("get_order", "arrived")
    rowboat.model.say("Billing Desk", "", times=5)
    answer = await rowboat.post({**GENERATIONS[kind], "messages": [user("hi")]})
    if answer.status == 200:
        last = output_of(answer.json)[-1]
        assert last["content"] and (last.get("agenticResponseType") or last["responseType"]) == "external"
    else:
        assert answer.status >= 500 and answer.error
