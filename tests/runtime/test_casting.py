"""Workflow turns, driven: what stands on the tape, what each agent's model is told and offered, and how a turn ends."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, Loop, ToolSpec
from dragoman.core.errors import BackendFailed
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId, RunId
from dragoman.core.transcript import Transcript
from dragoman.core.workflows import TRANSFER, Control, Handing, Member, Workflow
from dragoman.runtime.budgets import Budget
from dragoman.runtime.casting import CHANGED, GONE
from dragoman.runtime.live import Inbox
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece
from tests.parts import USAGE, LedgerTools
from tests.runtime.looping import EXIT, ContextTools
from tests.runtime.scene import AGENT, Scene, scene_of, until, within
from tests.runtime.workflows import (
    Answering,
    InTurn,
    KeptVersions,
    calls,
    desk,
    hand,
    internal,
    member,
    say,
    staged,
    step,
)


@asynccontextmanager
async def desk_of(model: InTurn, workflow: Workflow | None = None, **settings: Any) -> AsyncGenerator[Scene]:
    kept = KeptVersions({"w1": workflow or desk()})
    tools = settings.pop("workflow_tools", Answering())
    async with scene_of(model, workflows=kept, workflow_tools=tools, **settings) as scene:
        yield scene


async def spoken(scene: Scene, run: str = "r1") -> list[str]:
    """The run as a wire would tell it: `Agent: text` aloud, `(Agent: text)` to others, `A -> B` for a hand-over."""
    told: list[str] = []
    for entry in await scene.tape():
        if entry.run != run:
            continue
        match entry.event:
            case ev.ReplyStarted(agent=agent):
                speaker = agent
            case ev.ReplyFinished(text=text, internal=inside):
                told.extend([f"{speaker}: {text}"] if text else [f"({speaker}: {inside})"] if inside else [])
            case ev.HandedOver(from_agent=before, to_agent=after, how=how):
                told.append(f"{before} -> {after} {how}")
            case ev.RunFailed(code=code):
                told.append(f"failed {code}")
            case ev.RunCompleted():
                told.append("completed")
            case _:
                pass
    return told


# -- who speaks ------------------------------------------------------------------------------------------------------


async def test_the_start_agent_answers() -> None:
    model = InTurn(say("Hello"))
    async with desk_of(model) as s:
        await s.drive(staged("hi"))
        assert await spoken(s) == ["Front: Hello", "completed"]
        assert model.told(1) == [("system", "You are Front."), ("user", "hi")]
        assert model.targets(1) == ["Billing", "Tech", "Researcher", "Intake"]


async def test_a_transfer_is_a_call_with_its_result_and_the_other_agent_goes_on() -> None:
    model = InTurn(hand("Billing"), say("It is 5."))
    async with desk_of(model) as s:
        await s.drive(staged("what do I owe?"))
        assert await spoken(s) == ["Front -> Billing transferred", "Billing: It is 5.", "completed"]
        told = Transcript(await s.tape()).turns()[0].answered
        assert told == (
            Message("assistant", (ToolCall(CallId("t1"), TRANSFER, '{"assistant": "Billing"}'),), name="Front"),
            Message("tool", (ToolResult(CallId("t1"), '{"assistant": "Billing"}'),)),
            Message("assistant", (Text("It is 5."),), name="Billing"),
        )
        assert model.told(2) == [("system", "You are Billing."), ("user", "what do I owe?")]
        assert model.offered(2) == ["look_up", TRANSFER]


async def test_a_transfer_and_its_hand_over_are_one_commit_before_the_next_agent_is_asked() -> None:
    async with desk_of(InTurn(hand("Billing"), say("It is 5."))) as s:
        await s.drive(staged("hi"))
        assert s.store.writes == ["accept", "append", "finish"]
        kinds = [type(event) for event in s.store.written[0]]
        assert kinds == [ev.ReplyStarted, ev.ReplyFinished, ev.ToolReturned, ev.HandedOver]


async def test_who_retains_the_word_has_it_in_the_next_turn() -> None:
    model = InTurn(hand("Billing"), say("It is 5."))
    async with desk_of(model) as s:
        await s.drive(staged("what do I owe?"))
        s.driver._past.forget(1)  # pyright: ignore[reportPrivateUsage, reportArgumentType] as after a restart
        await s.drive(staged("and now?"), "r2")
        assert (await spoken(s, "r2"))[-1] == "completed"
        assert model.told(3) == [
            ("system", "You are Billing."),
            ("user", "what do I owe?"),
            ("assistant", "It is 5."),
            ("user", "and now?"),
        ]


async def test_who_relinquishes_to_the_start_gives_it_the_next_turn() -> None:
    model = InTurn(hand("Tech"), say("Restart it."))
    async with desk_of(model) as s:
        await s.drive(staged("it is broken"))
        await s.drive(staged("thanks"), "r2")
        assert model.told(3)[0] == ("system", "You are Front.")


async def test_who_relinquishes_to_the_parent_gives_it_to_who_spoke_before() -> None:
    workflow = Workflow(
        "w",
        "Front",
        (
            member("Front", agents=("Billing",)),
            member("Billing", agents=("Tech",)),
            member("Tech", control=Control.TO_PARENT),
        ),
    )
    said_before = [
        said("user", "one"),
        Message("assistant", (Text("1"),), name="Billing"),
        said("user", "two"),
        Message("assistant", (Text("2"),), name="Tech"),
        said("user", "three"),
    ]
    model = InTurn(say("3"))
    async with desk_of(model, workflow) as s:
        await s.drive(staged(messages=said_before))
        assert model.told(1)[0] == ("system", "You are Billing.")


@pytest.mark.parametrize("last", ["", "gone", "Researcher", "One", "Intake"])
async def test_an_unusable_last_speaker_means_the_start(last: str) -> None:
    model = InTurn(say("Hello"))
    async with desk_of(model) as s:
        await s.drive(staged("hi", last=last))
        assert model.told(1)[0] == ("system", "You are Front.")


async def test_the_callers_own_account_of_who_spoke_last_counts() -> None:
    messages = [said("user", "a"), Message("assistant", (Text("b"),), name="Front"), said("user", "c")]
    model = InTurn(say("Hello"))
    async with desk_of(model) as s:
        await s.drive(staged(messages=messages, last="Billing"))
        assert model.told(1)[0] == ("system", "You are Billing.")


# -- internal agents -------------------------------------------------------------------------------------------------


async def test_an_internal_agent_reports_to_its_caller_in_the_same_turn() -> None:
    model = InTurn(hand("Researcher"), say("Clause 4 covers it."), say("Yes, you are covered."))
    async with desk_of(model) as s:
        await s.drive(staged("am I covered?", deltas=True))
        assert await spoken(s) == [
            "Front -> Researcher called",
            "(Researcher: Clause 4 covers it.)",
            "Researcher -> Front returned",
            "Front: Yes, you are covered.",
            "completed",
        ]
        events = [entry.event for entry in await s.tape()]
        assert [event.text for event in events if isinstance(event, ev.TextAdded)] == ["Yes, you are covered."]
        assert model.targets(2) == []
        assert model.told(3) == [
            ("system", "You are Front."),
            ("user", "am I covered?"),
            ("assistant", 'call transfer_to_agent({"assistant": "Researcher"})'),
            ("tool", "Researcher: Clause 4 covers it."),
        ]


async def test_over_its_cap_an_internal_agent_is_not_offered_and_a_call_of_it_is_refused() -> None:
    model = InTurn(
        *(hand("Researcher"), say("I1"), hand("Researcher"), say("I2"), hand("Researcher"), say("So it is."))
    )
    async with desk_of(model) as s:
        await s.drive(staged("am I covered?"))
        assert [line for line in await spoken(s) if "->" in line] == [
            "Front -> Researcher called",
            "Researcher -> Front returned",
        ] * 2
        assert model.targets(5) == ["Billing", "Tech", "Intake"]
        refused = [
            event for entry in await s.tape() if isinstance(event := entry.event, ev.ToolReturned) and event.is_error
        ]
        assert [result.code for result in refused] == ["not_handed_over"]
        assert (await spoken(s))[-2:] == ["Front: So it is.", "completed"]


async def test_call_ids_stay_distinct_where_the_model_uses_one_again() -> None:
    model = InTurn(hand("Researcher"), say("I1"), hand("Researcher"), say("I2"), say("Done."))
    async with desk_of(model) as s:
        await s.drive(staged("am I covered?"))
        ids = [call.id for message in Transcript(await s.tape()).turns()[0].answered for call in message.calls]
        assert len(ids) == len(set(ids)) == 4


# -- pipelines -------------------------------------------------------------------------------------------------------


async def test_a_pipeline_runs_its_steps_in_order_and_returns() -> None:
    model = InTurn(hand("Intake"), say("1"), say("2"), say("3"), say("Your claim is in."))
    async with desk_of(model) as s:
        await s.drive(staged("file a claim"))
        assert await spoken(s) == [
            "Front -> One entered",
            "(One: 1)",
            "One -> Two stepped",
            "(Two: 2)",
            "Two -> Three stepped",
            "(Three: 3)",
            "Three -> Front returned",
            "Front: Your claim is in.",
            "completed",
        ]
        assert model.told(3) == [
            ("system", "You are Two."),
            ("user", "file a claim"),
            ("user", "[another agent] One: 1"),
        ]
        assert model.told(5)[-1] == ("tool", "One: 1\n\nTwo: 2\n\nThree: 3")
        pairs = [event.content for entry in await s.tape() if isinstance(event := entry.event, ev.ToolReturned)]
        assert pairs == [f'{{"assistant": "{name}"}}' for name in ("One", "Two", "Three", "Front")]


async def test_a_workflow_that_starts_with_a_pipeline_answers_the_user_with_what_its_last_step_said() -> None:
    workflow = desk(start="Intake")
    model = InTurn(say("1"), say("2"), say("3"))
    async with desk_of(model, workflow) as s:
        await s.drive(staged("file a claim"))
        assert (await spoken(s))[-3:] == ["(Three: 3)", "Three: 3", "completed"]


async def test_an_internal_start_agent_answers_the_user_too() -> None:
    workflow = Workflow("w", "Alone", (internal("Alone"),))
    async with desk_of(InTurn(say("Here.")), workflow) as s:
        await s.drive(staged("hi"))
        assert await spoken(s) == ["(Alone: Here.)", "Alone: Here.", "completed"]


async def test_an_internal_agent_that_relinquishes_to_the_start_goes_there() -> None:
    workflow = Workflow(
        "w",
        "Front",
        (
            member("Front", agents=("Mid",)),
            member("Mid", agents=("Deep",)),
            internal("Deep", control=Control.TO_START),
        ),
    )
    model = InTurn(hand("Mid"), hand("Deep"), say("Found."), say("Front has it."))
    async with desk_of(model, workflow) as s:
        await s.drive(staged("hi"))
        assert (await spoken(s))[2:] == [
            "(Deep: Found.)",
            "Deep -> Front restarted",
            "Front: Front has it.",
            "completed",
        ]


# -- what does not go through ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["Front", "Nobody", "One"], ids=["itself", "unknown", "a step"])
async def test_a_transfer_that_cannot_be_is_refused_and_the_agent_goes_on(wanted: str) -> None:
    model = InTurn(hand(wanted), say("I do it myself."))
    async with desk_of(model) as s:
        await s.drive(staged("hi"))
        assert await spoken(s) == ["Front: I do it myself.", "completed"]
        assert model.told(2)[-1][0] == "tool"


async def test_of_several_transfers_the_first_one_counts() -> None:
    model = InTurn(calls(":Billing", ":Tech"), say("It is 5."))
    async with desk_of(model) as s:
        await s.drive(staged("hi"))
        assert await spoken(s) == ["Front -> Billing transferred", "Billing: It is 5.", "completed"]


async def test_a_transfer_waits_for_the_other_calls_of_its_reply() -> None:
    tools = Answering()
    model = InTurn(calls(":Front", "look_up"), say("Front has it."))
    async with desk_of(model, workflow_tools=tools) as s:
        await s.drive(staged("hi", last="Billing"))
        results = [event for entry in await s.tape() if isinstance(event := entry.event, ev.ToolReturned)]
        assert [result.content for result in results] == ["look_up of Billing", '{"assistant": "Front"}']
        assert model.told(2) == [
            ("system", "You are Front."),
            ("user", "hi"),
            ("user", "[another agent] Billing called look_up({}) and got: look_up of Billing"),
        ]


async def test_agents_that_hand_to_each_other_for_ever_come_to_an_end() -> None:
    ping = [hand("Billing"), hand("Front")] * 20
    async with desk_of(InTurn(*ping), budget=Budget(same_call=0)) as s:
        await s.drive(staged("hi"))
        told = await spoken(s)
        assert sum("transferred" in line for line in told) == 25
        assert told[-1] == "failed step_limit"


async def test_who_was_given_the_word_can_give_it_back_whatever_it_mentions() -> None:
    model = InTurn(hand("Tech"), hand("Front"), say("Front again."))
    async with desk_of(model) as s:
        await s.drive(staged("hi"))
        assert model.targets(2) == ["Front"]
        assert (await spoken(s))[-2:] == ["Front: Front again.", "completed"]


async def test_a_step_that_asks_for_a_transfer_is_refused() -> None:
    model = InTurn(hand("Intake"), hand("Front"), say("1"), say("2"), say("3"), say("Done."))
    async with desk_of(model) as s:
        await s.drive(staged("hi"))
        assert (await spoken(s))[-2:] == ["Front: Done.", "completed"]


# -- tails -----------------------------------------------------------------------------------------------------------


async def test_nobody_asked_anything_so_the_greeting_is_said_and_no_model_asked() -> None:
    model = InTurn(say("never"))
    async with desk_of(model, desk(greeting="Welcome.")) as s:
        await s.drive(staged(messages=[said("system", "Ana")]))
        assert await spoken(s) == ["Front: Welcome.", "completed"]
        assert model.prompts == []


async def test_an_empty_turn_is_greeted_too() -> None:
    async with desk_of(InTurn(say("never"))) as s:
        await s.drive(ev.TurnReceived((), staging=staged("x").staging))
        assert (await spoken(s))[-2:] == ["Front: How can I help you today?", "completed"]


async def test_an_empty_answer_falls_back_on_what_was_reported() -> None:
    model = InTurn(hand("Researcher"), say("Clause 4."), say(""))
    async with desk_of(model) as s:
        await s.drive(staged("hi"))
        assert (await spoken(s))[-2:] == ["Front: Clause 4.", "completed"]


async def test_an_empty_answer_with_nothing_to_fall_back_on_is_a_failure() -> None:
    async with desk_of(InTurn(say(""))) as s:
        await s.drive(staged("hi"))
        assert await spoken(s) == ["failed no_answer"]


async def test_an_agent_that_calls_tools_for_ever_fails_the_run() -> None:
    async with desk_of(InTurn(calls("look_up")), budget=Budget(steps=4, same_call=0)) as s:
        await s.drive(staged("hi", last="Billing"))
        assert (await spoken(s))[-1] == "failed step_limit"


async def test_each_agent_has_the_steps_of_a_run() -> None:
    script = [calls("look_up"), calls("look_up"), hand("Front"), say("Done.")]
    async with desk_of(InTurn(*script), budget=Budget(steps=3, same_call=0)) as s:
        await s.drive(staged("hi", last="Billing"))
        assert (await spoken(s))[-2:] == ["Front: Done.", "completed"]


async def test_a_workflow_that_is_gone_fails_the_run_with_a_sentence() -> None:
    async with desk_of(InTurn(say("never"))) as s:
        await s.drive(staged("hi", workflow="gone"))
        end = (await s.tape())[-1].event
        assert isinstance(end, ev.RunFailed) and (end.code, end.detail) == ("workflow_gone", GONE)


# -- around it -------------------------------------------------------------------------------------------------------


async def test_a_configured_workflow_answers_under_its_name_as_an_agent() -> None:
    model = InTurn(hand("Billing"), say("It is 5."))
    agents = {"desk": AgentSpec("desk", ""), AGENT.name: AGENT}
    async with scene_of(model, agents=agents, configured={"desk": desk()}, workflow_tools=Answering()) as s:
        await s.drive(ev.TurnReceived((said("user", "hi"),), deltas=False))
        assert await spoken(s) == ["Front -> Billing transferred", "Billing: It is 5.", "completed"]
        await s.drive(ev.TurnReceived((said("user", "hi"),), agent=AGENT.name, deltas=False), "r2")
        assert model.told(3)[0] == ("system", AGENT.instructions)


async def test_instructions_of_the_turn_are_added_to_each_agents_own() -> None:
    model = InTurn(hand("Billing"), say("It is 5."))
    async with desk_of(model) as s:
        await s.drive(staged("hi", instructions=("The shopper is Ana.",)))
        assert [model.told(n)[0][1] for n in (1, 2)] == [
            "You are Front.\n\nThe shopper is Ana.",
            "You are Billing.\n\nThe shopper is Ana.",
        ]


async def test_each_agent_has_its_own_model() -> None:
    workflow = Workflow("w", "Front", (member("Front", agents=("Clever",)), member("Clever", model="big")))
    main, big = InTurn(hand("Clever")), InTurn(say("never"), say("Forty-two."))
    kept = KeptVersions({"w1": workflow})
    async with scene_of({"main": main, "big": big}, workflows=kept) as s:
        await s.drive(staged("hi"))
        assert (len(main.prompts), len(big.prompts)) == (1, 1)


async def test_a_tool_of_the_servers_is_held_by_pattern_and_can_be_mocked_for_a_turn() -> None:
    front = member("Front")
    front = type(front)(AgentSpec("Front", "You are Front.", tools=("*",)), front.description)
    workflow = Workflow("w", "Front", (front,))
    servers, mocked = LedgerTools({"query": "real"}), Answering()
    model = InTurn(calls("query"), say("Done."))
    async with desk_of(model, workflow, tools=servers, workflow_tools=mocked) as s:
        await s.drive(staged("hi"))
        await s.drive(staged("hi", mocks={"query": "always down"}), "r2")
        assert sum(servers.effects.values()) == 1
        assert [(name, call.staging.mocks) for name, call in mocked.called] == [("query", {"query": "always down"})]


async def test_an_agent_with_sources_is_offered_the_search() -> None:
    tools = Answering()
    workflow = Workflow("w", "Front", (member("Front", sources=("s1",)),))
    model = InTurn(calls("rag_search"), say("Done."))
    async with desk_of(model, workflow, workflow_tools=tools) as s:
        await s.drive(staged("hi"))
        assert model.offered(1) == ["rag_search"]
        assert [name for name, _ in tools.called] == ["rag_search"]


async def test_a_tool_that_the_speaker_does_not_mention_is_unknown_to_it() -> None:
    tools = Answering()
    async with desk_of(InTurn(calls("look_up"), say("Done.")), workflow_tools=tools) as s:
        await s.drive(staged("hi"))
        assert tools.called == []
        assert (await spoken(s))[-1] == "completed"


async def test_a_run_that_died_is_taken_up_where_the_word_was() -> None:
    model = InTurn(hand("Intake"), say("1"), say("2"), say("3"), say("Your claim is in."))
    whole: list[str] = []
    async with desk_of(model) as s:
        await s.drive(staged("file a claim", deltas=True))
        whole = await spoken(s)
        entries = await s.tape()
    replies = [at for at, entry in enumerate(entries) if isinstance(entry.event, ev.ReplyFinished)]
    assert len(replies) == 5
    for kept in replies:
        async with desk_of(InTurn(*model._script)) as s:  # pyright: ignore[reportPrivateUsage]
            accepted = await s.accept(staged("file a claim", deltas=True))
            claim = accepted.claim
            assert claim is not None
            events = [entry.event for entry in entries[3 : kept + 1]]
            await s.store.append(claim, events, after=claim.seq)
            await s.store.release([claim])
            (again,) = await s.store.take_lost(limit=1)
            await s.driver.drive(again)
            assert await spoken(s) == whole
            handings = [h.how for e in await s.tape() if isinstance(h := e.event, ev.HandedOver)]
            assert handings == [Handing.ENTERED, Handing.STEPPED, Handing.STEPPED, Handing.RETURNED]


def test_a_step_is_internal_whatever_it_says() -> None:
    assert step("One").internal and not member("Front").internal


# -- with the rules of a wire ------------------------------------------------------------------------------------------

GIVE_UP = ToolCall(CallId("x"), "exit_loop", '{"response": "That is all."}')


async def test_a_turn_of_one_reply_is_its_callers_and_no_workflow_answers_it() -> None:
    model = InTurn(say("raw"))
    agents = {"desk": AgentSpec("desk", "")}
    async with scene_of(model, agents=agents, configured={"desk": desk()}, workflow_tools=Answering()) as s:
        loop = Loop(own_tools=False, once=True)
        await s.drive(ev.TurnReceived((said("user", "hi"),), deltas=False, system="Be short.", loop=loop))
        assert model.told(1) == [("system", "Be short."), ("user", "hi")]
        assert model.offered(1) == [] and await spoken(s) == ["desk: raw", "completed"]


async def test_the_call_that_closes_what_an_agent_says_to_others_is_not_told() -> None:
    """Its arguments are what it said."""
    workflow = Workflow("w", "Deep", (internal("Deep", tools=("look_up",)),), desk().tools)
    model = InTurn(calls("look_up"), ReplyDone("", (GIVE_UP,), USAGE))
    async with desk_of(model, workflow) as s:
        await s.drive(replace(staged("hi"), loop=Loop(calls_max=1, closing=EXIT)))
        assert await spoken(s) == ["(Deep: That is all.)", "Deep: That is all.", "completed"]
        assert [e.closing for e in await s.events() if isinstance(e, ev.ReplyFinished)] == [None, None, None]


async def test_hand_overs_and_refusals_of_them_use_up_no_calls() -> None:
    script = [hand("Researcher"), say("I1"), hand("Front"), hand("Researcher"), say("I2"), hand("Billing")]
    model = InTurn(*script, calls("look_up"), calls("look_up"), ReplyDone("", (GIVE_UP,), USAGE))
    tools = Answering()
    async with desk_of(model, workflow_tools=tools) as s:
        await s.drive(replace(staged("hi"), loop=Loop(calls_max=2, closing=EXIT)))
        assert [name for name, _ in tools.called] == ["look_up", "look_up"]
        assert model.offered(9) == ["exit_loop"]
        assert (await spoken(s))[-2:] == ["Billing: That is all.", "completed"]


@pytest.mark.parametrize("loop", [Loop(tools=False), Loop(own_tools=False)], ids=["none", "the caller's"])
async def test_where_the_caller_wants_no_tools_of_ours_a_workflow_has_none_either(loop: Loop) -> None:
    tools = Answering()
    model = InTurn(calls("look_up"), say("x"))
    async with desk_of(model, workflow_tools=tools) as s:
        await s.drive(replace(staged("hi", last="Billing"), loop=loop))
        assert model.offered(1) == [] and tools.called == []


async def test_a_tool_that_the_caller_lets_pass_is_offered() -> None:
    model = InTurn(say("x"))
    async with desk_of(model) as s:
        await s.drive(replace(staged("hi", last="Billing"), loop=Loop(own_tools=False, only=("look_up",))))
        assert model.offered(1) == ["look_up"]


async def test_why_a_hand_over_was_refused_reads_as_the_loop_has_its_results() -> None:
    model = InTurn(hand("Nobody"), say("I do it myself."))
    async with desk_of(model) as s:
        await s.drive(replace(staged("hi"), loop=Loop(json_results=True)))
        assert model.told(2)[-1][1].startswith('{"error":')


async def test_a_tool_of_the_callers_does_not_take_the_place_of_handing_over() -> None:
    theirs = ToolSpec(TRANSFER, "Theirs.", {"type": "object", "required": ["what"]})
    model = InTurn(hand("Billing"), say("It is 5."))
    async with desk_of(model, tools=ContextTools()) as s:
        await s.drive(replace(staged("hi"), client_tools=(theirs,), loop=Loop(checked=True)))
        assert await spoken(s) == ["Front -> Billing transferred", "Billing: It is 5.", "completed"]
        assert model.targets(1) == ["Billing", "Tech", "Researcher", "Intake"]


# -- who must be asked ---------------------------------------------------------------------------------------------


def asking(name: str, **fields: Any) -> Member:
    made = member(name, tools=("look_up",), **fields)
    return replace(made, agent=replace(made.agent, ask=("look_up",)))


async def decide(scene: Scene, call: CallId) -> None:
    (asked,) = [e for e in await scene.events() if isinstance(e, ev.ApprovalRequested) and e.call.id == call]
    await scene.store.ask(RunId("r1"), ev.ApprovalDecided(call, True, "root", asked.arguments_hash))


async def test_each_agent_has_its_own_rules_for_what_must_be_approved() -> None:
    free = member("Free", agents=("Strict",), tools=("look_up",))
    workflow = Workflow("w", "Free", (free, asking("Strict")), desk().tools)
    model = InTurn(calls("look_up"), hand("Strict"), calls("look_up"), say("Done."))
    tools = Answering()
    async with desk_of(model, workflow, workflow_tools=tools) as s:
        accepted = await s.accept(staged("hi"))
        driving = asyncio.create_task(s.driver.drive(accepted.claim, None, inbox := Inbox()))
        await until(lambda: any(isinstance(e, ev.ApprovalRequested) for events in s.store.written for e in events))
        assert [call.member.name for _, call in tools.called] == ["Free"]
        (request,) = [e for e in await s.events() if isinstance(e, ev.ApprovalRequested)]
        await decide(s, request.call.id)
        inbox.put([entry for entry in await s.tape() if isinstance(entry.event, ev.ApprovalDecided)])
        await within(driving)
        assert [call.member.name for _, call in tools.called] == ["Free", "Strict"]
        assert (await spoken(s))[-2:] == ["Strict: Done.", "completed"]


@pytest.mark.parametrize("mocked", [{"mock_all": True}, {"mocks": {"look_up": "late"}}], ids=["all", "by name"])
async def test_what_is_only_invented_need_not_be_approved(mocked: dict[str, Any]) -> None:
    workflow = Workflow("w", "Strict", (asking("Strict"),), desk().tools)
    tools = Answering()
    async with desk_of(InTurn(calls("look_up"), say("Done.")), workflow, workflow_tools=tools) as s:
        await s.drive(staged("hi", **mocked))
        assert [name for name, _ in tools.called] == ["look_up"]
        assert not [e for e in await s.events() if isinstance(e, ev.ApprovalRequested)]


async def test_an_agent_that_is_denied_every_tool_can_still_hand_over() -> None:
    front = desk().members[0]
    front = replace(front, tools=("look_up",), agent=replace(front.agent, deny=("*",)))
    workflow = desk(members=(front, *desk().members[1:]))
    async with desk_of(InTurn(calls("look_up", ":Billing"), say("It is 5.")), workflow) as s:
        await s.drive(staged("hi"))
        assert [e.code for e in await s.events() if isinstance(e, ev.ToolReturned)] == ["denied", ""]
        assert (await spoken(s))[-2:] == ["Billing: It is 5.", "completed"]


# -- conversations that others take part in ----------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_agents_said_to_each_other_is_not_what_another_agent_said(restarted: bool) -> None:
    model, plain = InTurn(hand("Researcher"), say("SECRET"), say("Public.")), InTurn(say("Indeed."))
    agents = {"desk": AgentSpec("desk", ""), "plain": AgentSpec("plain", "Be brief.", model="plain")}
    models = {"main": model, "plain": plain}
    async with scene_of(models, agents=agents, configured={"desk": desk()}, workflow_tools=Answering()) as s:
        for run, agent in (("r1", ""), ("r2", "plain"), ("r3", "")):
            if restarted:
                s.driver._past.forget(1)  # pyright: ignore[reportPrivateUsage, reportArgumentType]
            await s.drive(ev.TurnReceived((said("user", run),), agent=agent, deltas=False), run)
        before = [("user", "r1"), ("assistant", "Public."), ("user", "r2")]
        assert plain.told(1) == [("system", "Be brief."), *before]
        assert model.told(4) == [("system", "You are Front."), *before, ("assistant", "Indeed."), ("user", "r3")]


async def test_who_spoke_in_a_turn_that_failed_does_not_have_the_word() -> None:
    model = InTurn(hand("Billing"), calls("look_up"), say(""))
    async with desk_of(model) as s:
        await s.drive(staged("hi"))
        assert (await spoken(s))[-1] == "failed no_answer"
        await s.drive(staged("next"), "r2")
        assert model.told(4) == [("system", "You are Front."), ("user", "next")]


async def test_a_turn_that_was_stopped_while_agents_spoke_to_each_other_leaves_the_word_to_who_spoke_to_the_user() -> (
    None
):
    workflow = Workflow(
        "w", "Front", (member("Front", agents=("Mid",)), member("Mid", agents=("Deep",)), internal("Deep"))
    )
    messages = (
        said("user", "hi"),
        Message("assistant", (Text("Wait."),), name="Mid"),
        Message("assistant", (Text("found", hidden=True),), name="Deep"),
        said("user", "next"),
    )
    model = InTurn(say("Go on."))
    async with desk_of(model, workflow) as s:
        await s.drive(staged(messages=messages))
        assert model.told(1)[0] == ("system", "You are Mid.")


async def test_an_agent_may_have_the_name_of_its_workflow() -> None:
    front = replace(desk().members[0], tools=("look_up",))
    model = InTurn(calls("look_up", ":Billing", text="I hand you over."), say("It is 5."))
    workflow = desk(name="Front", members=(front, *desk().members[1:]))
    agents = {"Front": AgentSpec("Front", "")}
    async with scene_of(model, agents=agents, configured={"Front": workflow}, workflow_tools=Answering()) as s:
        await s.drive(ev.TurnReceived((said("user", "hi"),), agent="Front", deltas=False))
        assert [role for role, _ in model.told(2)] == ["system", "user", "user", "user"]


async def test_a_configured_workflow_that_was_changed_meanwhile_fails_the_run_with_a_sentence() -> None:
    model = InTurn(hand("Billing"), say("never"))
    async with desk_of(model, desk(members=desk().members[:1])) as s:
        accepted = await s.accept(staged("hi"))
        claim = accepted.claim
        assert claim is not None
        call = hand("Billing").calls[0]
        begun = [ev.ReplyStarted("Front", "m"), ev.ReplyFinished("", (call,)), ev.ToolReturned(call.id, "{}")]
        await s.store.append(claim, [*begun, ev.HandedOver("Front", "Billing")], after=claim.seq)
        await s.store.release([claim])
        (again,) = await s.store.take_lost(limit=1)
        await s.driver.drive(again)
        end = (await s.events())[-1]
        assert isinstance(end, ev.RunFailed) and (end.code, end.detail) == ("workflow_gone", CHANGED)


async def test_a_blank_answer_is_none() -> None:
    async with desk_of(InTurn(hand("Researcher"), say("Clause 4."), say(" \n"))) as s:
        await s.drive(staged("hi"))
        assert (await spoken(s))[-2:] == ["Front: Clause 4.", "completed"]
    async with desk_of(InTurn(hand("Researcher"), say("\n"), say("\n"))) as s:
        await s.drive(staged("hi"))
        assert (await spoken(s))[-1] == "failed no_answer"


async def test_the_longest_memory_of_its_agents_is_what_is_read() -> None:
    """The default agent, which takes no part, may remember less."""
    long = member("Front")
    workflow = Workflow("w", "Front", (replace(long, agent=replace(long.agent, history_tokens=100)),))
    model = InTurn(say("Fine."))
    async with desk_of(model, workflow, agents={"brief": AgentSpec("brief", "", history_tokens=0)}) as s:
        for run in ("r1", "r2", "r3"):
            s.driver._past.forget(1)  # pyright: ignore[reportPrivateUsage, reportArgumentType] as after a restart
            await s.drive(staged(run), run)
        assert [text for role, text in model.told(3) if role == "user"] == ["r1", "r2", "r3"]


# -- what is counted -------------------------------------------------------------------------------------------------


async def test_hand_overs_and_calls_are_counted_by_what_ran_them() -> None:
    script = (hand("Billing"), calls("look_up"), say("Refunded."))
    async with desk_of(InTurn(*script)) as s:
        await s.drive(staged("a refund"))
        assert (s.counters.runs, s.counters.workflow_runs, s.counters.handovers) == (1, 1, 1)
        assert s.counters.tool_outcomes == {("webhook", "ok"): 1}
    async with desk_of(InTurn(*script)) as s:
        await s.drive(staged("a refund", mocks={"look_up": "late"}))
        assert s.counters.tool_outcomes == {("mock", "ok"): 1}
    async with desk_of(InTurn(calls("look_up"), say("Done."))) as s:
        await s.drive(staged("hi"))
        assert (s.counters.workflow_runs, s.counters.handovers) == (1, 0)
        assert "webhook" not in {ran_by for ran_by, _ in s.counters.tool_outcomes}


class BreaksDown(InTurn):
    """Hands over, and fails from then on."""

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        if prompt.key.endswith(":2"):
            raise BackendFailed("It is away.", code="upstream_refused")
        async for piece in super().reply(prompt, stream=stream):
            yield piece


async def test_the_log_says_whose_reply_failed(caplog: pytest.LogCaptureFixture) -> None:
    async with desk_of(BreaksDown(hand("Billing"))) as s:
        await s.drive(staged("a refund"))
    (record,) = [record for record in caplog.records if record.name == "dragoman.runtime"]
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("run r1: reply 2 failed: upstream_refused: It is away.")
    assert record.getMessage().endswith("; project default, workflow w1, agent 'Billing'")
