"""T13 to T20: turns with a test profile or a version of the caller's choice, refused hand-overs, and webhooks."""

import hashlib
import json
import threading
from pathlib import Path

import pytest

from tests.dialects.rowboat.conformance.kit import (
    PROJECT,
    Json,
    Rowboat,
    harbor,
    rowboat_of,
    system,
    user,
)
from tests.dialects.rowboat.conformance.players import TRANSFER
from tests.rowboat_webhook import Receiver

AT_BILLING = {"last_agent_name": "Billing Desk"}
REFUND = {"order_id": "HO-10442", "amount": 84.5}
LATE = "Whatever is asked: it is always late."


async def test_T13_a_profile_has_every_tool_played(hook: Receiver, tmp_path: Path) -> None:
    """Of each kind; the profile says what to go by, and not the tool."""
    async with rowboat_of(tmp_path, hook, helpdesk=hook.url) as rowboat:
        await rowboat.take_in(harbor())
        await rowboat.hooked()
        profile = await rowboat.profile(mock_tools=True, mock_prompt=LATE)
        tools = (("create_refund", REFUND), ("get_order", {"order_id": "HO-1"}))
        rowboat.model.call("Billing Desk", *tools)
        rowboat.model.say("Billing Desk", "Late.")
        rowboat.model.call("Human Escalation", ("open_ticket", {"summary": "angry"}))
        rowboat.model.say("Human Escalation", "Noted.")
        for tool in ("create_refund", "get_order", "open_ticket"):
            rowboat.model.invent(tool, f"{tool} is late")
        turn = await rowboat.chat(user("refund"), state=AT_BILLING, testProfileId=profile)
        results = [each["content"] for each in turn.messages if each["role"] == "tool"]
        assert sorted(results) == ["create_refund is late", "get_order is late"]
        state = {"last_agent_name": "Human Escalation"}
        turn = await rowboat.chat(user("a person!"), state=state, testProfileId=profile)
        assert [each["content"] for each in turn.messages if each["role"] == "tool"] == ["open_ticket is late"]
        assert (hook.received, hook.refused) == ([], [])
        assert len(rowboat.model.inventions) == 3
        for asked in rowboat.model.inventions:
            assert LATE in asked.whole and "84.50 EUR" not in asked.whole


async def test_T13_without_words_of_its_own_a_profile_leaves_the_tools_theirs(rowboat: Rowboat) -> None:
    profile = await rowboat.profile(mock_tools=True)
    rowboat.model.call("Billing Desk", ("get_order", {"order_id": "HO-1"}))
    rowboat.model.invent("get_order", "arrived")
    rowboat.model.say("Billing Desk", "It arrived.")
    await rowboat.chat(user("where is it?"), state=AT_BILLING, testProfileId=profile)
    assert "84.50 EUR" in rowboat.model.inventions[0].whole


async def test_T13_a_profile_that_plays_no_tools_leaves_them_real(rowboat: Rowboat) -> None:
    hook = await rowboat.hooked()
    profile = await rowboat.profile(mock_prompt=LATE)
    rowboat.model.call("Billing Desk", ("create_refund", REFUND))
    rowboat.model.say("Billing Desk", "Done.")
    await rowboat.chat(user("refund"), state=AT_BILLING, testProfileId=profile)
    assert [call.name for call in hook.received] == ["create_refund"]


@pytest.mark.parametrize("messages", [[user("hi")], [system("The shopper is Bo."), user("hi")]])
async def test_T14_a_profiles_context_is_the_system_message(rowboat: Rowboat, messages: list[Json]) -> None:
    profile = await rowboat.profile(context="Name: Ana")
    rowboat.model.say("Front Desk", "Hello Ana")
    await rowboat.chat(*messages, testProfileId=profile)
    (asked,) = rowboat.model.asked
    assert "Name: Ana" in asked.system
    assert "Bo" not in asked.system
    assert asked.said == [("user", "hi")]


def renamed(workflow: Json, old: str, new: str) -> Json:
    return json.loads(json.dumps(workflow).replace(old, new))


async def test_T15_a_version_that_is_not_published_answers_who_asks_for_it(rowboat: Rowboat) -> None:
    second = await rowboat.take_in(renamed(harbor(), "Front Desk", "Help Desk"), publish=False)
    rowboat.model.say("Front Desk", "Old")
    rowboat.model.say("Help Desk", "New")
    assert (await rowboat.chat(user("hi"))).kinds == ["Front Desk external"]
    assert (await rowboat.chat(user("hi"), workflowId=second)).kinds == ["Help Desk external"]


async def test_T16_what_is_published_meanwhile_answers_the_next_turn(rowboat: Rowboat) -> None:
    rowboat.model.hand("Front Desk", "Billing Desk")
    rowboat.model.say("Billing Desk", "Which order?")
    first = await rowboat.chat(user("hi"))
    await rowboat.take_in(renamed(harbor(), "Your name is Billing Desk.", "Your name is New Billing."))
    rowboat.model.say("New Billing", "New words")
    turn = await rowboat.chat(user("hi"), *first.messages, user("HO-1"), state=first.state)
    assert turn.kinds == ["Billing Desk external"] and turn.text == "New words"
    await rowboat.take_in(renamed(harbor(), "Billing Desk", "Money Desk"))
    rowboat.model.say("Front Desk", "Hello")
    turn = await rowboat.chat(user("hi"), *first.messages, user("HO-1"), state=first.state)
    assert turn.kinds == ["Front Desk external"], "who spoke last is not there any more"


@pytest.mark.parametrize("to", ["Front Desk", "Night Desk", "Nobody", "", "front desk"])
async def test_T17_to_itself_to_who_is_off_and_to_nobody_it_is_not_handed_over(rowboat: Rowboat, to: str) -> None:
    """The wire shows nothing of it, and the turn goes on."""
    rowboat.model.hand("Front Desk", to)
    rowboat.model.say("Front Desk", "I am here.")
    turn = await rowboat.chat(user("hi"))
    assert turn.kinds == ["Front Desk external"]
    assert rowboat.model.order == ["Front Desk", "Front Desk"]
    assert "Night Desk" not in rowboat.model.asked[0].targets
    assert "Front Desk" not in rowboat.model.asked[0].targets


@pytest.mark.parametrize("arguments", ["", "{", "[]", '"Billing Desk"', "{}", '{"assistant": 5}'])
async def test_T17_and_with_arguments_that_are_none_neither(rowboat: Rowboat, arguments: str) -> None:
    rowboat.model.call("Front Desk", (TRANSFER, arguments))
    rowboat.model.say("Front Desk", "I am here.")
    assert (await rowboat.chat(user("hi"))).kinds == ["Front Desk external"]


TEXT = "żółw 🐘 “naïve” \u2028 שלום \\u0000 é"


async def test_T18_any_letters_come_back_as_they_went(rowboat: Rowboat) -> None:
    rowboat.model.say("Front Desk", TEXT)
    body = json.dumps({"messages": [user(TEXT)], "state": None}, ensure_ascii=False).encode()
    answer = await rowboat.post(body, content_type="")
    assert answer.status == 200
    assert answer.json["messages"][0]["content"] == TEXT
    assert rowboat.model.asked[0].said == [("user", TEXT)]


async def test_T18_a_body_in_latin_1_is_read_as_old_clients_mean_it(rowboat: Rowboat) -> None:
    """The client library up to 1.0.6 hands its body on as text, and urllib3 1.x encodes that so."""
    rowboat.model.say("Front Desk", "Hello")
    body = json.dumps({"messages": [user("h\xe9llo")], "state": None}, ensure_ascii=False).encode("latin-1")
    assert (await rowboat.post(body)).status == 200
    assert rowboat.model.asked[0].said == [("user", "h\xe9llo")]


async def refund(rowboat: Rowboat) -> str:
    """What the call of the webhook came to."""
    rowboat.model.call("Billing Desk", ("create_refund", REFUND))
    rowboat.model.say("Billing Desk", "So it went.")
    turn = await rowboat.chat(user("yes please"), state=AT_BILLING)
    kinds = ["Billing Desk calls create_refund", "result of create_refund", "Billing Desk external"]
    assert turn.kinds == kinds and turn.text == "So it went."
    return turn.messages[1]["content"]


async def test_T19_what_a_webhook_answers_is_the_result(rowboat: Rowboat) -> None:
    hook = await rowboat.hooked()
    hook.results["create_refund"] = "ok"
    assert "ok" in await refund(rowboat)
    assert len(hook.received) == 1


async def test_T19_and_what_it_answers_may_be_any_JSON(rowboat: Rowboat) -> None:
    hook = await rowboat.hooked()
    hook.results["create_refund"] = {"refund": {"id": "R-żółw", "cents": [8450]}}
    content = await refund(rowboat)
    assert json.loads(content) == {"refund": {"id": "R-żółw", "cents": [8450]}}


@pytest.mark.parametrize("status", [500, 400, 404, 302])
async def test_T19_a_webhook_that_fails_is_told_to_the_model_and_the_turn_goes_on(
    rowboat: Rowboat, status: int
) -> None:
    hook = await rowboat.hooked()
    hook.statuses["create_refund"] = status
    content = await refund(rowboat)
    assert "webhook" in content and "is done" not in content
    assert len(hook.received) == 1, "a call that acts is not made twice"


async def test_T19_so_is_one_that_does_not_answer(bare: Rowboat) -> None:
    workflow = harbor()
    next(tool for tool in workflow["tools"] if tool["name"] == "create_refund")["timeout"] = 0.2
    await bare.take_in(workflow)
    hook = await bare.hooked()
    hook.held["create_refund"] = threading.Event()
    content = await refund(bare)
    assert content and "is done" not in content


async def test_T19_and_one_that_nobody_has_set_up(rowboat: Rowboat) -> None:
    content = await refund(rowboat)
    assert "webhook" in content.lower()


async def test_T20_a_webhooks_call_is_signed_with_the_projects_secret(rowboat: Rowboat) -> None:
    hook = await rowboat.hooked()
    await refund(rowboat)
    assert hook.refused == []
    (call,) = hook.received
    assert call.claims["bodyHash"] == hashlib.sha256(call.content.encode()).hexdigest()
    assert isinstance(call.arguments, str) and json.loads(call.arguments) == REFUND
    assert sorted(call.body) == ["content", "requestId"]
    tool_call = json.loads(call.content)["toolCall"]
    assert (tool_call["type"], tool_call["function"]["name"]) == ("function", "create_refund")
    claims = call.claims
    assert (claims["iss"], claims["aud"], claims["projectId"]) == ("rowboat", hook.url, PROJECT)
    assert claims["requestId"] == claims["jti"] == call.body["requestId"]
    assert claims["sub"] == f"tool-call-{tool_call['id']}"
    assert claims["exp"] - claims["iat"] == 300


async def test_T20_and_with_nothing_else(rowboat: Rowboat) -> None:
    hook = await rowboat.hooked()
    hook.secret = "0" * 64
    content = await refund(rowboat)
    assert hook.received == [] and hook.refused == ["a wrong signature"]
    assert "401" in content or "signature" in content


async def test_T20_arguments_that_do_not_fit_go_nowhere(rowboat: Rowboat) -> None:
    hook = await rowboat.hooked()
    rowboat.model.call("Billing Desk", ("create_refund", {"order_id": 5}))
    rowboat.model.say("Billing Desk", "Hm.")
    turn = await rowboat.chat(user("refund"), state=AT_BILLING)
    assert hook.received == [] and turn.text == "Hm."
    assert "amount" in turn.messages[1]["content"]
