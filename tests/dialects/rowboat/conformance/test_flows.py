"""V1, V2, P1, P2: what stays between agents, pipelines, and both example workflows from beginning to end."""

from pathlib import Path
from typing import Any

import pytest

from dragoman.core.names import ProjectId
from dragoman.core.sources import Document
from tests.dialects.rowboat.conformance.kit import (
    PROJECT,
    Json,
    Rowboat,
    agent_of,
    check_g15,
    kinds,
    meridian,
    rowboat_of,
    user,
)
from tests.rowboat_webhook import Receiver

CONCIERGE, RESEARCHER = "Claims Concierge", "Policy Researcher"
STEPS = ("Extract Claim Facts", "Check Policy Status", "Register Claim")
TO_RESEARCHER = [f"{CONCIERGE} -> {RESEARCHER}", "result of transfer_to_agent"]
BACK = [f"{RESEARCHER} internal", f"{RESEARCHER} -> {CONCIERGE}", "result of transfer_to_agent"]


async def test_V1_what_an_internal_agent_says_goes_back_to_who_asked(insurer: Rowboat) -> None:
    insurer.model.hand(CONCIERGE, RESEARCHER)
    insurer.model.say(RESEARCHER, "Clause 7: skis are covered.")
    insurer.model.say(CONCIERGE, "Yes, they are.")
    turn = await insurer.chat(user("are my skis covered?"))
    assert turn.kinds == [*TO_RESEARCHER, *BACK, f"{CONCIERGE} external"]
    assert turn.messages[2]["content"] == "Clause 7: skis are covered."
    assert turn.text == "Yes, they are."
    assert turn.state["last_agent_name"] == CONCIERGE
    assert "Clause 7" in insurer.model.of(CONCIERGE)[1].whole, "it is told"


async def test_V2_who_was_asked_often_enough_is_not_asked_again(insurer: Rowboat) -> None:
    for number in (1, 2):
        insurer.model.hand(CONCIERGE, RESEARCHER)
        insurer.model.say(RESEARCHER, f"Found {number}.")
    insurer.model.hand(CONCIERGE, RESEARCHER)
    insurer.model.say(CONCIERGE, "That is all I know.")
    turn = await insurer.chat(user("are my skis covered?"))
    assert turn.kinds == [*(TO_RESEARCHER + BACK) * 2, f"{CONCIERGE} external"]
    assert RESEARCHER not in insurer.model.of(CONCIERGE)[2].targets
    assert insurer.model.left == []


async def test_V2_and_in_the_next_turn_again(insurer: Rowboat) -> None:
    for _ in range(2):
        for number in (1, 2):
            insurer.model.hand(CONCIERGE, RESEARCHER)
            insurer.model.say(RESEARCHER, f"Found {number}.")
        insurer.model.say(CONCIERGE, "So.")
    first = await insurer.chat(user("skis?"))
    second = await insurer.chat(user("skis?"), *first.messages, user("and poles?"), state=first.state)
    assert len(second.kinds) == len(first.kinds) == 11


def stepped(model: Any) -> None:
    for number, step in enumerate(STEPS, start=1):
        model.say(step, f"Step {number} is done.")


def pipeline_kinds(caller: str) -> list[str]:
    expected = [f"{caller} -> Claim intake", "result of transfer_to_agent"]
    for step, following in zip(STEPS, (*STEPS[1:], caller), strict=True):
        expected += [f"{step} internal", f"{step} -> {following}", "result of transfer_to_agent"]
    return expected


async def test_P1_a_pipeline_runs_step_by_step_and_comes_back(insurer: Rowboat) -> None:
    insurer.model.hand(CONCIERGE, "Claim intake")
    stepped(insurer.model)
    insurer.model.say(CONCIERGE, "It is registered.")
    turn = await insurer.chat(user("file a claim"))
    shown = turn.kinds
    shown[0] = shown[0].replace(STEPS[0], "Claim intake")  # either name says where it went
    assert shown == [*pipeline_kinds(CONCIERGE), f"{CONCIERGE} external"]
    assert insurer.model.order == [CONCIERGE, *STEPS, CONCIERGE]
    last = insurer.model.of(CONCIERGE)[1].whole
    assert all(f"Step {number} is done." in last for number in (1, 2, 3))
    assert "Step 1 is done." in insurer.model.of(STEPS[1])[0].whole


async def test_P1_steps_hand_over_to_nobody(insurer: Rowboat) -> None:
    insurer.model.hand(CONCIERGE, "Claim intake")
    insurer.model.hand(STEPS[0], CONCIERGE)
    stepped(insurer.model)
    insurer.model.say(CONCIERGE, "It is registered.")
    turn = await insurer.chat(user("file a claim"))
    assert turn.text == "It is registered."
    assert insurer.model.of(STEPS[0])[0].targets == []
    assert len(turn.messages) == 12


async def pipeline_first(bare: Rowboat) -> None:
    await bare.take_in({**meridian(), "startAgent": "Claim intake"})
    stepped(bare.model)


async def test_P2_a_workflow_that_starts_with_a_pipeline_still_ends_for_the_user(bare: Rowboat) -> None:
    await pipeline_first(bare)
    turn = await bare.chat(user("file a claim"))
    assert [kind for kind in turn.kinds if kind.endswith("internal")] == [f"{step} internal" for step in STEPS]
    assert "Step 3 is done." in turn.text
    assert bare.model.order == list(STEPS)


async def test_P2_in_the_second_generation_too(bare: Rowboat) -> None:
    await pipeline_first(bare)
    body = await bare.talk(user("file a claim"))
    output = body["turn"]["output"]
    assert [kind for kind in kinds(output) if kind.endswith("internal")] == [f"{step} internal" for step in STEPS]
    assert output[-1]["responseType"] == "external"
    stepped(bare.model)
    again = await bare.talk(user("and another"), conversation=body["conversationId"])
    assert kinds(again["turn"]["output"]) == kinds(output), "the next turn runs through it again"


async def test_P2_and_one_that_starts_with_an_internal_agent(bare: Rowboat) -> None:
    await bare.take_in({**meridian(), "startAgent": RESEARCHER})
    bare.model.say(RESEARCHER, "Clause 7.")
    turn = await bare.chat(user("skis?"))
    assert turn.kinds[-1].endswith("external") and turn.text == "Clause 7."


async def test_agents_are_told_the_variables(insurer: Rowboat) -> None:
    """Every one, whether it mentions them or not (upstream did so from 2025-08-21)."""
    insurer.model.hand(CONCIERGE, RESEARCHER)
    insurer.model.say(RESEARCHER, "Clause 7.")
    insurer.model.say(CONCIERGE, "Yes.")
    await insurer.chat(user("skis?"))
    assert all("Meridian Travel Cover" in asked.system for asked in insurer.model.asked)


# -- the examples, whole -----------------------------------------------------------------------------------------------


async def test_the_harbors_refund_from_beginning_to_end(rowboat: Rowboat) -> None:
    hook = await rowboat.hooked()
    hook.results["create_refund"] = {"refund": "R-1"}
    model = rowboat.model
    model.hand("Front Desk", "Billing Desk")
    model.call("Billing Desk", ("get_order", {"order_id": "HO-10442"}))
    model.invent("get_order", '{"charged": 2}')
    model.say("Billing Desk", "It was charged twice. Shall I refund 84.50 EUR?")
    first = await rowboat.chat(user("I was charged twice for HO-10442"))
    assert first.kinds == [
        "Front Desk -> Billing Desk",
        "result of transfer_to_agent",
        "Billing Desk calls get_order",
        "result of get_order",
        "Billing Desk external",
    ]
    assert first.state["last_agent_name"] == "Billing Desk"
    model.call("Billing Desk", ("create_refund", {"order_id": "HO-10442", "amount": 84.5}))
    model.say("Billing Desk", "Refunded.")
    history = [user("I was charged twice for HO-10442"), *first.messages, user("yes please refund")]
    second = await rowboat.chat(*history, state=first.state)
    expected = ["Billing Desk calls create_refund", "result of create_refund", "Billing Desk external"]
    assert second.kinds == expected
    assert [call.name for call in hook.received] == ["create_refund"]
    model.hand("Billing Desk", "Front Desk")
    model.hand("Front Desk", "Tech Desk")
    model.say("Tech Desk", "Restart the app.")
    history += [*second.messages, user("and my app hangs")]
    third = await rowboat.chat(*history, state=second.state)
    assert third.sender == "Tech Desk"
    model.say("Front Desk", "Gladly.")
    fourth = await rowboat.chat(*history, *third.messages, user("thanks"), state=third.state)
    assert fourth.sender == "Front Desk"
    assert (model.unlaid, model.left) == ([], [])


@pytest.fixture
def claims_hook(hook: Receiver) -> Receiver:
    hook.results["lookup_policy"] = {"policy": "P-7", "active": True}
    return hook


async def test_the_insurers_claim_from_beginning_to_end(insurer: Rowboat, claims_hook: Receiver) -> None:
    await insurer.hooked()
    model = insurer.model
    model.hand(CONCIERGE, "Claim intake")
    model.say(STEPS[0], "Policy P-7, Porto, bag.")
    model.call(STEPS[1], ("lookup_policy", {"policy_number": "P-7"}))
    model.say(STEPS[1], "P-7 holds.")
    model.call(STEPS[2], ("create_claim", {"facts": "P-7, Porto, bag"}))
    model.invent("create_claim", "CLM-2025-0042 is registered")
    model.say(STEPS[2], "CLM-2025-0042.")
    model.say(CONCIERGE, "Your claim is CLM-2025-0042.")
    output = (await insurer.talk(user("file a claim, bag lost in Porto")))["turn"]["output"]
    told = [kind for kind in kinds(output) if "->" not in kind and "transfer" not in kind]
    assert told == [
        f"{STEPS[0]} internal",
        f"{STEPS[1]} calls lookup_policy",
        "result of lookup_policy",
        f"{STEPS[1]} internal",
        f"{STEPS[2]} calls create_claim",
        "result of create_claim",
        f"{STEPS[2]} internal",
        f"{CONCIERGE} external",
    ]
    assert [call.name for call in claims_hook.received] == ["lookup_policy"]
    assert '"active"' in next(each for each in output if each.get("toolName") == "lookup_policy")["content"]
    assert (model.unlaid, model.left) == ([], [])


async def test_the_insurers_question_is_answered_out_of_its_documents(hook: Receiver, tmp_path: Path) -> None:
    async with rowboat_of(tmp_path, hook) as scene:
        source = await papers(scene)
        workflow = meridian()
        agent_of(workflow, RESEARCHER)["ragDataSources"] = [source]
        await scene.take_in(workflow)
        scene.model.hand(CONCIERGE, RESEARCHER)
        scene.model.call(RESEARCHER, ("rag_search", {"query": "lost skis"}))
        scene.model.say(RESEARCHER, "Clause 12 covers it.")
        scene.model.say(CONCIERGE, "Yes, lost skis are covered.")
        turn = await scene.chat(user("Am I covered for lost skis?"))
        assert turn.kinds == [
            *TO_RESEARCHER,
            f"{RESEARCHER} calls rag_search",
            "result of rag_search",
            *BACK,
            f"{CONCIERGE} external",
        ]
        (found,) = [each["content"] for each in turn.messages if each.get("tool_name") == "rag_search"]
        assert "Clause 12" in found
        assert scene.model.inventions == []


async def papers(scene: Rowboat) -> str:
    """The id of a source of the project's that holds what the policy says."""
    source = await scene.house.sources.create(ProjectId(PROJECT), "Policies")
    document = Document("Winter sports", "Clause 12. Lost skis and poles are covered up to 600 EUR.")
    await scene.house.sources.add(ProjectId(PROJECT), source.id, [document])
    return source.id


async def test_a_generation_between_reads_the_same_flow(insurer: Rowboat) -> None:
    """Generation 1.5 finds the speaker in the history (spec 4.2)."""
    insurer.model.hand(CONCIERGE, RESEARCHER)
    insurer.model.say(RESEARCHER, "Clause 7.")
    insurer.model.say(CONCIERGE, "Yes.")
    body: Json = {"messages": [user("skis?")], "state": None, "mockTools": None}
    answer = await insurer.post(body)
    assert answer.status == 200 and list(answer.json) == ["messages"]
    check_g15(answer.json["messages"])
    assert kinds(answer.json["messages"]) == [*TO_RESEARCHER, *BACK, f"{CONCIERGE} external"]
