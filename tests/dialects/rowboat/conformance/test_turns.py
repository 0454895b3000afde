"""T1 to T12: turns of the first generation, as its reference page has them: who speaks, what is told, what is kept."""

import json
from typing import Any

import pytest

from tests.dialects.rowboat.conformance.kit import (
    GREETING,
    Rowboat,
    Turn,
    check_g1,
    harbor,
    system,
    user,
)
from tests.dialects.rowboat.conformance.players import TRANSFER

AT_BILLING = {"last_agent_name": "Billing Desk"}
ORDER = {"order_id": "HO-10442"}


async def test_T1_one_agent_answers(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello")
    turn = await rowboat.chat(user("hi"))
    (message,) = turn.messages
    expected = {"role": "assistant", "content": "Hello", "agenticSender": "Front Desk"}
    assert message == {**expected, "agenticResponseType": "external"}
    assert turn.state["last_agent_name"] == "Front Desk"


async def handed_over(rowboat: Rowboat) -> Turn:
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.say("Billing Desk", "Which order?")
    return await rowboat.chat(user("I was charged twice"))


async def test_T2_a_hand_over_is_a_call_and_its_result(rowboat: Rowboat) -> None:
    turn = await handed_over(rowboat)
    call, result, text = turn.messages
    function = call["tool_calls"][0]["function"]
    assert (call["agenticSender"], function["name"]) == ("Front Desk", TRANSFER)
    assert function["arguments"] == result["content"] == '{"assistant": "Billing Desk"}'
    assert result["tool_call_id"] == call["tool_calls"][0]["id"]
    assert result["tool_name"] == TRANSFER
    assert (text["content"], text["agenticSender"]) == ("Which order?", "Billing Desk")
    assert turn.state["last_agent_name"] == "Billing Desk"
    assert rowboat.model.order == ["Front Desk", "Billing Desk"]


async def test_T3_who_spoke_last_goes_on_and_only_what_is_new_is_told(rowboat: Rowboat) -> None:
    first = await handed_over(rowboat)
    rowboat.model.say("Billing Desk", "Thanks.")
    history = [user("I was charged twice"), *first.messages, user("HO-10442")]
    turn = await rowboat.chat(*history, state=first.state)
    assert turn.kinds == ["Billing Desk external"] and turn.text == "Thanks."
    texts = [("user", "I was charged twice"), ("assistant", "Which order?"), ("user", "HO-10442")]
    assert rowboat.model.asked[-1].said == texts


async def test_T4_a_call_and_its_result_stand_side_by_side(rowboat: Rowboat) -> None:
    rowboat.model.call("Billing Desk", ("get_order", ORDER))
    rowboat.model.invent("get_order", '{"charges": 2}')
    rowboat.model.say("Billing Desk", "Charged twice, indeed.")
    turn = await rowboat.chat(user("HO-10442"), state=AT_BILLING)
    call, result, text = turn.messages
    assert turn.kinds == ["Billing Desk calls get_order", "result of get_order", "Billing Desk external"]
    assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == ORDER
    assert (result["tool_call_id"], result["tool_name"]) == (call["tool_calls"][0]["id"], "get_order")
    assert result["content"] == '{"charges": 2}'
    assert text["content"] == "Charged twice, indeed."
    assert '{"charges": 2}' in rowboat.model.asked[-1].whole.replace("\\\\", "").replace('\\"', '"')


async def test_T5_two_calls_of_one_reply_are_two_messages(rowboat: Rowboat) -> None:
    rowboat.model.call("Billing Desk", ("get_order", ORDER), ("get_order", {"order_id": "HO-2"}))
    rowboat.model.invent("HO-10442", "first")
    rowboat.model.invent("HO-2", "second")
    rowboat.model.say("Billing Desk", "Both.")
    turn = await rowboat.chat(user("both"), state=AT_BILLING)
    calls = [each for each in turn.messages if "tool_calls" in each]
    results = {each["tool_call_id"]: each["content"] for each in turn.messages if each["role"] == "tool"}
    assert len(turn.messages) == 5 and len(calls) == 2
    told = {json.loads(each["tool_calls"][0]["function"]["arguments"])["order_id"]: each for each in calls}
    assert results[told["HO-10442"]["tool_calls"][0]["id"]] == "first"
    assert results[told["HO-2"]["tool_calls"][0]["id"]] == "second"


async def test_T6_without_state_the_start_agent_answers_whatever_the_history_says(rowboat: Rowboat) -> None:
    first = await handed_over(rowboat)
    rowboat.model.say("Front Desk", "Hello again")
    turn = await rowboat.chat(user("I was charged twice"), *first.messages, user("HO-10442"))
    assert turn.kinds == ["Front Desk external"]


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"last_agent_name": "gone"},
        {"last_agent_name": "Night Desk"},
        {"last_agent_name": None},
        {"last_agent_name": 5},
        {"last_agent_name": ["Billing Desk"]},
        {"last_agent_name": "x" * 10_000},
        {"tokens": "many"},
        {"tokens": {"total": -1, "prompt": "x"}},
        "x",
        [],
        0,
        True,
    ],
)
async def test_T7_a_state_that_cannot_be_used_is_none(rowboat: Rowboat, state: Any) -> None:
    rowboat.model.say("Front Desk", "Hello")
    turn = await rowboat.chat(user("hi"), state=state)
    assert turn.kinds == ["Front Desk external"]
    assert turn.state["last_agent_name"] == "Front Desk"


async def test_T8_who_gives_back_is_followed_by_the_start_agent(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Tech Desk")
    rowboat.model.say("Tech Desk", "Restart it.")
    first = await rowboat.chat(user("my app is broken"))
    assert first.sender == "Tech Desk"
    rowboat.model.say("Front Desk", "Anything else?")
    turn = await rowboat.chat(user("my app is broken"), *first.messages, user("thanks"), state=first.state)
    assert turn.kinds == ["Front Desk external"]


@pytest.mark.parametrize("messages", [[], [system("The shopper is Ana.")]])
async def test_T9_who_says_nothing_is_greeted(rowboat: Rowboat, messages: list[Any]) -> None:
    turn = await rowboat.chat(*messages)
    assert turn.kinds == ["Front Desk external"] and turn.text == GREETING
    assert turn.state["last_agent_name"] == "Front Desk"
    assert rowboat.model.asked == []


@pytest.mark.parametrize("state", [AT_BILLING, {"last_agent_name": "Human Escalation"}])
async def test_T9_and_by_the_start_agent_whoever_spoke_last(rowboat: Rowboat, state: Any) -> None:
    """Spec 4.1."""
    turn = await rowboat.chat(system("The shopper is Ana."), state=state)
    assert turn.kinds == ["Front Desk external"] and turn.text == GREETING
    assert turn.state["last_agent_name"] == "Front Desk"


async def test_T9_and_where_no_greeting_is_set_with_words_of_our_own(bare: Rowboat) -> None:
    workflow = harbor()
    workflow["prompts"] = [prompt for prompt in workflow["prompts"] if prompt["type"] != "greeting"]
    await bare.take_in(workflow)
    assert (await bare.chat()).text == "How can I help you today?"


async def test_T10_a_system_message_reaches_the_model_and_does_not_come_back(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello Ana")
    turn = await rowboat.chat(system("The shopper is Ana, a sailor."), user("hi"))
    (asked,) = rowboat.model.asked
    assert "The shopper is Ana, a sailor." in asked.system
    assert [message.role for message in asked.prompt.messages].count("system") == 1
    assert turn.kinds == ["Front Desk external"]


async def test_T11_what_was_answered_may_be_sent_back_as_clients_do(rowboat: Rowboat) -> None:
    """With null for what is not there."""
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.call("Billing Desk", ("get_order", ORDER))
    rowboat.model.invent("get_order", "charged twice")
    rowboat.model.say("Billing Desk", "Refund?")
    first = await rowboat.chat(user("hi"))
    echoed = [
        {"content": None, **{**each, "agenticSender": None}} if each["role"] == "assistant" else each
        for each in first.messages
    ]
    rowboat.model.say("Billing Desk", "Done")
    turn = await rowboat.chat(user("hi"), *echoed, user("yes"), state=first.state)
    assert turn.text == "Done"
    assert rowboat.model.asked[-1].said == [("user", "hi"), ("assistant", "Refund?"), ("user", "yes")]


async def test_T11_of_a_text_with_calls_the_text_counts(rowboat: Rowboat) -> None:
    """Its calls need no results."""
    rowboat.model.say("Front Desk", "Hello")
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    both = {"role": "assistant", "content": "Hm", "tool_calls": [call], "agenticResponseType": "external"}
    await rowboat.chat(user("hi"), both, user("so?"))
    assert rowboat.model.asked[0].said == [("user", "hi"), ("assistant", "Hm"), ("user", "so?")]
    assert not any(message.calls for message in rowboat.model.asked[0].prompt.messages)


async def test_T12_a_model_that_fails_is_an_error_and_no_answer(rowboat: Rowboat) -> None:
    rowboat.model.fail("Front Desk")
    answer = await rowboat.post({"messages": [user("hi")], "state": None})
    assert answer.status == 502
    assert "not-for-callers" not in answer.error


async def test_T12_and_so_is_one_that_fails_behind_a_hand_over(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Billing Desk", text="One moment.")
    rowboat.model.fail("Billing Desk")
    answer = await rowboat.post({"messages": [user("hi")], "state": None})
    assert answer.status == 502 and answer.error


async def test_T12_who_calls_for_ever_is_stopped(rowboat: Rowboat) -> None:
    for _ in range(100):
        rowboat.model.invent("get_order", "again")
    rowboat.model.call("Billing Desk", ("get_order", ORDER), times=100)
    answer = await rowboat.post({"messages": [user("hi")], "state": AT_BILLING})
    assert answer.status >= 500 and answer.error
    assert 0 < len(rowboat.model.of("Billing Desk")) <= 26


async def test_T12_and_so_are_two_that_hand_over_to_each_other_for_ever(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Billing Desk", times=100)
    rowboat.model.hand("Billing Desk", "Front Desk", times=100)
    answer = await rowboat.post({"messages": [user("hi")], "state": None})
    assert answer.status >= 500 and answer.error
    assert 3 < len(rowboat.model.asked) <= 60


async def test_T12_one_that_says_nothing_still_ends_for_the_user(rowboat: Rowboat) -> None:
    """Or is an error: never an answer without a last word."""
    rowboat.model.say("Front Desk", "", times=9)
    answer = await rowboat.post({"messages": [user("hi")], "state": None})
    if answer.status == 200:
        check_g1(answer.json["messages"])
    else:
        assert answer.status >= 500 and answer.error


async def test_agents_are_told_the_prompts_they_mention(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", "Hello")
    await rowboat.chat(user("hi"))
    (asked,) = rowboat.model.asked
    assert "Friendly and short, in everyday words." in asked.system
    assert "my card was billed two times" in asked.system
    assert "(#mention)" not in asked.system and "[@agent:Billing Desk]" in asked.system
    assert asked.targets == ["Billing Desk", "Tech Desk", "Human Escalation"]


async def test_agents_are_offered_what_they_mention_and_nothing_else(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Tech Desk")
    rowboat.model.say("Tech Desk", "Restart it.")
    rowboat.model.say("Billing Desk", "Which order?")
    await rowboat.chat(user("hi"))
    await rowboat.chat(user("hi"), state=AT_BILLING)
    front, tech, billing = rowboat.model.asked
    assert sorted(front.offered) == [TRANSFER]
    assert sorted(tech.offered) == ["open_ticket", "rag_search", TRANSFER]
    assert sorted(billing.offered) == ["create_refund", "get_order", TRANSFER]
    assert tech.targets == ["Front Desk"], "it may give the conversation back to who gave it"
