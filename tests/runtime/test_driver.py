"""The driver, one run at a time: what stands on the tape, in which order, and in which commits."""

import asyncio
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, Repeat, ToolSpec
from dragoman.core.errors import BackendFailed, Unavailable
from dragoman.core.events import Entry
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, Usage, said
from dragoman.core.names import CallId, RunId
from dragoman.runtime.attempt import Attempt
from dragoman.runtime.budgets import Budget
from dragoman.runtime.live import Inbox
from dragoman.runtime.machine import NO_ANSWER
from dragoman.runtime.ports import LEASE_S, ReplyDone, Retracted, StaleClaim, TextPiece, ThinkingPiece
from dragoman.runtime.waiting import arguments_hash
from dragoman.stores.memory import MemoryStore
from tests.parts import USAGE, LedgerTools, ScriptedReplies, call_reply, text_reply
from tests.runtime.scene import AGENT, Waits, asked, kinds, scene_of
from tests.support import FixedClock

STARTED = ev.ReplyStarted("helper", "")
CLAIMED = ev.RunClaimed(1)
WHOLE = asked(deltas=False)
TWICE = Usage(20, 10)


def call(number: int, name: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(CallId(f"c{number}"), name, arguments)


def finished(text: str, *calls: ToolCall) -> ev.ReplyFinished:
    return ev.ReplyFinished(text, calls, USAGE, "tool_calls" if calls else "stop")


# -- answers ---------------------------------------------------------------------------------------------------------


async def test_a_blocking_answer_costs_two_commits() -> None:
    async with scene_of(ScriptedReplies(text_reply("It is ", "fine."))) as s:
        assert await s.drive(WHOLE) is None
        assert await s.events() == [CLAIMED, STARTED, finished("It is fine."), ev.RunCompleted(USAGE)]
        assert s.store.writes == ["accept", "finish"]
        assert (s.counters.runs, s.counters.replies, s.counters.errors) == (1, 1, 0)


async def test_streamed_text_is_committed_as_it_comes_and_the_facts_around_it_ride_along() -> None:
    async with scene_of(ScriptedReplies(text_reply("It is ", "fine."))) as s:
        await s.drive(asked())
        assert s.store.written == [
            (STARTED, ev.TextAdded("It is ")),
            (ev.TextAdded("fine."),),
            (finished("It is fine."), ev.RunCompleted(USAGE)),
        ]
        assert s.store.writes == ["accept", "append", "append", "finish"]


async def test_thinking_is_put_on_the_tape_apart_from_the_text() -> None:
    done = ReplyDone("Fine.", usage=USAGE, thinking="Hm.")
    async with scene_of(ScriptedReplies([ThinkingPiece("Hm."), TextPiece("Fine."), done])) as s:
        await s.drive(asked())
        assert await s.events() == [
            CLAIMED,
            STARTED,
            ev.ThinkingAdded("Hm."),
            ev.TextAdded("Fine."),
            ev.ReplyFinished("Fine.", (), USAGE, thinking="Hm."),
            ev.RunCompleted(USAGE),
        ]


async def test_an_empty_answer_is_an_answer() -> None:
    async with scene_of(ScriptedReplies([ReplyDone("")])) as s:
        await s.drive(asked())
        assert await s.events() == [CLAIMED, STARTED, ev.ReplyFinished(""), ev.RunCompleted()]


async def test_the_caller_chooses_agent_and_model_and_adds_instructions() -> None:
    chosen, other = ScriptedReplies(text_reply("a")), ScriptedReplies(text_reply("b"))
    agents = {"helper": AGENT, "expert": AgentSpec("expert", "Be thorough.", model="other")}
    async with scene_of({"main": chosen, "other": other}, agents=agents) as s:
        await s.drive(asked("one", agent="expert", deltas=False, instructions=("In French.",)))
        await s.drive(asked("two", agent="expert", model="elsewhere", deltas=False), "r2")
        first, second = other.prompts[0], chosen.prompts[0]
        assert first.messages == (said("system", "Be thorough.\n\nIn French."), said("user", "one"))
        assert (first.model_name, first.key, second.model_name, second.key) == ("", "r1:1", "elsewhere", "r2:1")
        assert (await s.events("r2"))[1] == ev.ReplyStarted("expert", "elsewhere")


async def test_an_agent_that_is_no_longer_configured_is_stood_in_for_by_the_default_one() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await s.drive(asked(agent="gone"))
        assert STARTED in await s.events()


# -- failing models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        BackendFailed("It is down.", code="upstream_unreachable"),
        Unavailable("The model is closed."),  # an error of the tree that is not the store's
    ],
    ids=["backend", "other"],
)
async def test_a_model_that_fails_before_its_first_word_ends_the_run_in_one_commit(error: Any) -> None:
    async with scene_of(ScriptedReplies([error])) as s:
        await s.drive(asked())
        assert await s.events() == [CLAIMED, STARTED, ev.RunFailed(error.code, error.detail)]
        assert s.store.writes == ["accept", "finish"]
        assert (s.counters.runs, s.counters.errors) == (1, 1)


async def test_what_a_model_said_before_it_failed_stays_on_the_tape() -> None:
    failing = [TextPiece("It "), BackendFailed("It broke off.", code="upstream_truncated")]
    async with scene_of(ScriptedReplies(failing)) as s:
        await s.drive(asked())
        failed = ev.RunFailed("upstream_truncated", "It broke off.")
        assert await s.events() == [CLAIMED, STARTED, ev.TextAdded("It "), failed]


@pytest.mark.parametrize("said_before", [[], [TextPiece("It is")]], ids=["silent", "in_mid_sentence"])
async def test_a_model_that_just_stops_gave_no_answer(said_before: list[Any]) -> None:
    async with scene_of(ScriptedReplies(said_before)) as s:
        await s.drive(asked())
        assert (await s.events())[-1] == ev.RunFailed("upstream_truncated", NO_ANSWER)


async def test_a_failure_in_a_later_reply_keeps_what_was_spent_before() -> None:
    model = ScriptedReplies(call_reply(("look", "{}")), [BackendFailed("Down.")])
    async with scene_of(model, tools=LedgerTools({"look": "seen"})) as s:
        await s.drive(WHOLE)
        assert (await s.events())[-1] == ev.RunFailed("upstream_failed", "Down.", USAGE)


async def test_an_error_of_the_store_comes_out_and_closes_the_model() -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    async with scene_of(model) as s:
        s.store.refuse(Unavailable("The disk is full."), "append")
        with pytest.raises(Unavailable, match="disk is full"):
            await s.drive(asked())
        assert kinds(await s.events()) == ["run_claimed"]
        assert model.closed == 1


async def test_a_run_that_was_taken_from_us_is_not_written_to() -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    async with scene_of(model) as s:
        accepted = await s.accept(asked())
        await s.store.reclaim(RunId("r1"))
        with pytest.raises(StaleClaim):
            await s.driver.drive(accepted.claim)
        assert await s.events() == [CLAIMED, ev.RunClaimed(2)]
        assert model.closed == 1


async def test_a_run_that_was_deleted_is_stale_for_driving_and_for_ending() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        accepted = await s.accept(asked())
        await s.store.delete(accepted.claim.project, accepted.claim.conversation)
        with pytest.raises(StaleClaim):
            await s.driver.drive(accepted.claim)
        with pytest.raises(StaleClaim):
            await s.driver.end(accepted.claim, lambda state: ev.RunCancelled("me", state.usage))


async def test_ending_a_run_that_has_ended_is_stale_and_one_that_has_not_keeps_its_usage() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        accepted = await s.accept(WHOLE)
        began = [STARTED, finished("hm", call(1, "look")), ev.ToolStarted(call(1, "look"))]
        await s.store.append(accepted.claim, began, after=accepted.claim.seq)
        assert await s.driver.end(accepted.claim, lambda state: ev.RunCancelled("me", state.usage)) is None
        assert (await s.events())[-1] == ev.RunCancelled("me", USAGE)
        with pytest.raises(StaleClaim):
            await s.driver.end(accepted.claim, lambda state: ev.RunCancelled("me", state.usage))


# -- retracted -------------------------------------------------------------------------------------------------------


async def test_what_is_retracted_before_anybody_saw_it_leaves_no_trace() -> None:
    async with scene_of(ScriptedReplies([Retracted("retry"), *text_reply("Fine.")])) as s:
        await s.drive(asked())
        assert await s.events() == [
            CLAIMED,
            STARTED,
            ev.TextAdded("Fine."),
            finished("Fine."),
            ev.RunCompleted(USAGE),
        ]


async def test_what_is_retracted_after_it_was_seen_is_reset_from_where_its_reply_began() -> None:
    model = ScriptedReplies(
        call_reply(("look", "{}"), text="Let me see."),
        [TextPiece("It i"), Retracted("retry"), TextPiece("No"), Retracted("retry"), *text_reply("Fine.")],
    )
    async with scene_of(model, tools=LedgerTools({"look": "seen"})) as s:
        await s.drive(asked())
        tape = {entry.seq: entry.event for entry in await s.tape()}
        resets = [(seq, event) for seq, event in tape.items() if isinstance(event, ev.AttemptReset)]
        assert kinds(list(tape.values()))[-11:] == [
            *("tool_returned", "reply_started", "text_added", "attempt_reset"),
            *("reply_started", "text_added", "attempt_reset", "reply_started", "text_added"),
            *("reply_finished", "run_completed"),
        ]
        assert [tape[event.from_seq] for _, event in resets] == [STARTED, STARTED]
        assert [seq - event.from_seq for seq, event in resets] == [2, 2]


# -- tools -----------------------------------------------------------------------------------------------------------


async def test_intents_are_committed_with_the_reply_that_made_them_and_each_result_at_once() -> None:
    model = ScriptedReplies(call_reply(("look", '{"at":1}'), ("fail", "{}"), text="hm"), text_reply("Fine."))
    async with scene_of(model, tools=LedgerTools({"look": "seen", "fail": "!no"})) as s:
        await s.drive(WHOLE)
        look, fail = call(1, "look", '{"at":1}'), call(2, "fail")
        assert s.store.written == [
            (STARTED, finished("hm", look, fail), ev.ToolStarted(look), ev.ToolStarted(fail)),
            (ev.ToolReturned(look.id, "seen"),),
            (ev.ToolReturned(fail.id, "no", is_error=True, code="tool_failed"),),
            (STARTED, finished("Fine."), ev.RunCompleted(TWICE)),
        ]
        assert model.prompts[1].messages[1:] == (
            said("user", "how is it?"),
            Message("assistant", (Text("hm"), look, fail), "helper"),
            Message("tool", (ToolResult(look.id, "seen"),)),
            Message("tool", (ToolResult(fail.id, "no", is_error=True),)),
        )
        assert s.counters.tool_calls == 2


async def test_an_intent_is_on_the_tape_before_its_tool_begins() -> None:
    tools = LedgerTools({"look": "seen"})
    async with scene_of(ScriptedReplies(call_reply(("look", "{}")), text_reply("a")), tools=tools) as s:
        seen: list[str] = []

        async def look(_: ToolCall) -> None:
            seen.extend(kinds(await s.events()))

        tools.before = look
        await s.drive(WHOLE)
        assert seen == ["run_claimed", "reply_started", "reply_finished", "tool_started"]
        assert tools.effects == {("look", "r1:c1"): 1}


async def test_the_calls_of_one_reply_run_side_by_side() -> None:
    tools = LedgerTools({"look": "seen", "send": "sent"})
    meeting = asyncio.Barrier(2)

    async def meet(_: ToolCall) -> None:
        async with asyncio.timeout(5):
            await meeting.wait()  # each waits for the other: one after the other would never end

    tools.before = meet
    async with scene_of(ScriptedReplies(call_reply(("look", "{}"), ("send", "{}")), text_reply("a")), tools=tools) as s:
        await s.drive(WHOLE)
        assert tools.effects == {("look", "r1:c1"): 1, ("send", "r1:c2"): 1}


async def test_how_long_a_tool_took_is_noted() -> None:
    tools = LedgerTools({"look": "seen"})
    async with scene_of(ScriptedReplies(call_reply(("look", "{}")), text_reply("a")), tools=tools) as s:

        async def take_time(_: ToolCall) -> None:
            s.clock.move(1.25)

        tools.before = take_time
        await s.drive(WHOLE)
        assert ev.ToolReturned(CallId("c1"), "seen", duration_ms=1250) in await s.events()


async def test_a_store_that_refuses_a_result_stops_the_other_calls_too() -> None:
    tools = LedgerTools({"look": "seen", "send": "sent"})
    waiting = Waits()

    async def wait_for_ever(made: ToolCall) -> None:
        if made.name == "send":
            await waiting()

    tools.before = wait_for_ever
    async with scene_of(ScriptedReplies(call_reply(("look", "{}"), ("send", "{}"))), tools=tools) as s:
        accepted = await s.accept(WHOLE)

        async def refuse_results() -> None:
            if s.store.writes.count("append") > 1:
                raise Unavailable("The disk is full.")

        s.store.hooks["append"] = refuse_results
        with pytest.raises(Unavailable, match="disk is full"):
            await s.driver.drive(accepted.claim)
        assert tools.effects == {("look", "r1:c1"): 1}


async def test_a_tool_nobody_has_is_an_error_the_model_hears_of() -> None:
    async with scene_of(ScriptedReplies(call_reply(("fly", "{}")), text_reply("a"))) as s:
        await s.drive(WHOLE)
        returned = ev.ToolReturned(CallId("c1"), "There is no tool fly.", is_error=True, code="unknown_tool")
        assert returned in await s.events()
        assert isinstance((await s.events())[-1], ev.RunCompleted)


class TwoToolsets(LedgerTools):
    """`look` may be held by an agent that names it; `send` only by one that holds all."""

    def specs(self, patterns: Any, *, on_screen: bool = False) -> tuple[ToolSpec, ...]:
        return tuple(spec for spec in super().specs(patterns) if "*" in patterns or spec.name in patterns)


async def test_a_tool_that_the_agent_does_not_hold_is_not_run_whatever_the_model_says() -> None:
    tools = TwoToolsets({"look": "seen", "send": "sent"})
    model = ScriptedReplies(call_reply(("send", "{}"), ("look", "{}")), text_reply("a"))
    agents = {"helper": AgentSpec("helper", "", tools=("look",))}
    async with scene_of(model, tools=tools, agents=agents) as s:
        await s.drive(WHOLE)
        assert [tool.name for tool in model.prompts[0].tools] == ["look"]
        assert tools.effects == {("look", "r1:c2"): 1}
        refused = ev.ToolReturned(CallId("c1"), "There is no tool send.", is_error=True, code="unknown_tool")
        assert refused in await s.events()


async def test_a_begun_call_of_a_tool_the_agent_lost_since_is_still_settled_as_unknown() -> None:
    tools = TwoToolsets({"look": "seen", "send": "sent"}, {"send": Repeat.ONCE})
    agents = {"helper": AgentSpec("helper", "", tools=("look",))}
    async with scene_of(ScriptedReplies([], text_reply("a")), tools=tools, agents=agents) as s:
        accepted = await s.accept(WHOLE)
        send = call(1, "send")
        began = [STARTED, finished("", send), ev.ToolStarted(send)]
        await s.store.append(accepted.claim, began, after=accepted.claim.seq)
        await s.driver.drive(await s.store.reclaim(RunId("r1")))
        returned = [event for event in await s.events() if isinstance(event, ev.ToolReturned)]
        assert [(event.call_id, event.code) for event in returned] == [("c1", "outcome_unknown")]


async def test_call_ids_that_come_twice_are_told_apart() -> None:
    twice = ReplyDone("", (call(1, "look"), call(1, "look", '{"again":1}')), USAGE, "tool_calls")
    model = ScriptedReplies([twice], [twice], text_reply("a"))
    tools = LedgerTools({"look": "seen"})
    async with scene_of(model, tools=tools) as s:
        await s.drive(WHOLE)
        assert sorted(key for _, key in tools.effects) == ["r1:c1", "r1:c1_2", "r1:c1_3", "r1:c1_4"]
        returned = [event.call_id for event in await s.events() if isinstance(event, ev.ToolReturned)]
        assert returned == ["c1", "c1_2", "c1_3", "c1_4"]


# -- the caller's own tools ------------------------------------------------------------------------------------------

CLICK = ToolSpec("click", "Click in the caller's page.", {"type": "object"})


async def test_a_call_of_the_callers_tool_ends_the_run_and_its_next_turn_goes_on_from_there() -> None:
    model = ScriptedReplies(call_reply(("look", "{}"), ("click", '{"at":3}'), text="hm"))
    tools = LedgerTools({"look": "seen"})
    store = MemoryStore(FixedClock())
    clicked = call(2, "click", '{"at":3}')
    async with scene_of(model, tools=tools, store=store) as s:
        await s.drive(asked(deltas=False, client_tools=(CLICK,)))
        assert [tool.name for tool in model.prompts[0].tools] == ["look", "click"]
        assert (await s.events())[-3:] == [
            ev.ToolReturned(CallId("c1"), "seen"),
            ev.ClientToolRequested(clicked),
            ev.RunNeedsClient((clicked,), USAGE),
        ]
        assert tools.effects == {("look", "r1:c1"): 1}
    answering = ScriptedReplies([], text_reply("Done."))
    async with scene_of(answering, tools=tools, store=store) as s:
        result = Message("tool", (ToolResult(clicked.id, "clicked"),))
        await s.drive(ev.TurnReceived((result,), deltas=False, client_tools=(CLICK,)), "r2")
        assert answering.prompts[0].messages[1:] == (
            said("user", "how is it?"),
            Message("assistant", (Text("hm"), call(1, "look"), clicked), "helper"),
            Message("tool", (ToolResult(CallId("c1"), "seen"),)),
            result,
        )


async def test_the_callers_tool_hides_ours_of_the_same_name() -> None:
    model = ScriptedReplies(call_reply(("look", "{}")))
    tools = LedgerTools({"look": "seen", "send": "sent"})
    theirs = ToolSpec("look", "Theirs.", {"type": "object"})
    async with scene_of(model, tools=tools) as s:
        await s.drive(asked(deltas=False, client_tools=(theirs,)))
        assert [(tool.name, tool.description) for tool in model.prompts[0].tools] == [
            ("send", "The send tool."),
            ("look", "Theirs."),
        ]
        assert isinstance((await s.events())[-1], ev.RunNeedsClient)
        assert not tools.effects


# -- budgets ---------------------------------------------------------------------------------------------------------


async def test_a_model_that_never_stops_calling_is_stopped_at_its_step_budget() -> None:
    class Restless(ScriptedReplies):
        async def reply(self, prompt: Any, *, stream: bool) -> Any:
            self.prompts.append(prompt)
            yield ReplyDone("", (call(1, "look", f'{{"n":{len(self.prompts)}}}'),), USAGE, "tool_calls")

    model = Restless()
    async with scene_of(model, tools=LedgerTools({"look": "seen"}), budget=Budget(steps=3)) as s:
        await s.drive(WHOLE)
        sentence = "The assistant stopped after 3 steps without an answer."
        assert (await s.events())[-1] == ev.RunFailed("step_limit", sentence, Usage(30, 15))
        assert (len(model.prompts), s.counters.errors) == (3, 1)


async def test_a_run_whose_time_is_up_ends_before_its_next_step_and_keeps_what_was_done() -> None:
    tools = LedgerTools({"look": "seen"})
    async with scene_of(
        ScriptedReplies(call_reply(("look", "{}")), text_reply("late")), tools=tools, budget=Budget(wall_s=60)
    ) as s:

        async def dawdle(_: ToolCall) -> None:
            s.clock.move(60)

        tools.before = dawdle
        await s.drive(WHOLE)
        assert (await s.events())[-2:] == [
            ev.ToolReturned(CallId("c1"), "seen", duration_ms=60_000),
            ev.RunFailed("time_limit", "The run took longer than its 60 s.", USAGE),
        ]


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
async def test_a_wall_clock_that_is_set_while_a_run_is_at_work_takes_none_of_its_time(jump_s: float) -> None:
    tools = LedgerTools({"look": "seen"})
    model = ScriptedReplies(call_reply(("look", "{}")), call_reply(("look", "[]")), text_reply("in time"))
    async with scene_of(model, tools=tools, budget=Budget(wall_s=60)) as s:

        async def set_the_clock(_: ToolCall) -> None:
            s.clock.jump(jump_s)
            s.clock.move(29)

        tools.before = set_the_clock
        await s.drive(WHOLE)
        assert isinstance((await s.events())[-1], ev.RunCompleted)


@pytest.mark.parametrize(("wall_s", "ended"), [(60, ev.RunFailed), (61, ev.RunCompleted)])
async def test_the_time_of_an_attempt_that_died_counts_for_the_next_as_far_as_its_tape_tells(
    wall_s: float, ended: type[ev.Event]
) -> None:
    store = MemoryStore(clock := FixedClock())
    tools = LedgerTools({"look": "seen"})
    model = ScriptedReplies(call_reply(("look", "{}")), call_reply(("look", "[]")), text_reply("late"))
    async with scene_of(model, tools=tools, budget=Budget(wall_s=wall_s), store=store, clock=clock) as s:

        async def take_40_s(_: ToolCall) -> None:
            clock.move(40)
            tools.before = die

        async def die(_: ToolCall) -> None:
            tools.before = take_20_s
            raise asyncio.CancelledError

        async def take_20_s(_: ToolCall) -> None:
            clock.jump(3600)
            clock.move(20)

        tools.before = take_40_s
        accepted = await s.accept(WHOLE)
        with pytest.raises(asyncio.CancelledError):
            await s.driver.drive(accepted.claim)
        clock.move(1000)  # nobody is at work
        await s.driver.drive(await s.store.reclaim(accepted.run))
        assert isinstance((await s.events())[-1], ended)


# -- earlier turns ---------------------------------------------------------------------------------------------------


async def test_a_model_sees_the_earlier_turns_and_not_those_that_failed() -> None:
    model = ScriptedReplies(text_reply("a"))
    async with scene_of(model) as s:
        await s.drive(asked("one", deltas=False))
        model.prompts.clear()
        failing = ScriptedReplies([BackendFailed("Down.")])
        async with scene_of(failing, store=s.store) as other:
            await other.drive(asked("lost"), "r2")
        await s.drive(asked("two", deltas=False), "r3")
        assert model.prompts[0].messages[1:] == (
            said("user", "one"),
            Message("assistant", (Text("a"),), "helper"),
            said("user", "two"),
        )


async def test_an_agent_that_is_shown_much_sees_it_also_after_one_that_is_shown_little() -> None:
    model = ScriptedReplies(text_reply("x" * 100))
    agents = {
        "brief": AgentSpec("brief", "", history_tokens=10),
        "thorough": AgentSpec("thorough", "", history_tokens=10_000),
    }
    async with scene_of(model, agents=agents) as s:
        for number in range(1, 6):
            await s.drive(asked(f"m{number}", agent="brief", deltas=False), f"r{number}")
        await s.drive(asked("m6", agent="thorough", deltas=False), "r6")
        await s.drive(asked("m7", agent="brief", deltas=False), "r7")
        await s.drive(asked("m8", agent="thorough", deltas=False), "r8")
        users = [[message.text for message in prompt.messages if message.role == "user"] for prompt in model.prompts]
        assert users[5] == ["m1", "m2", "m3", "m4", "m5", "m6"]
        assert users[7] == ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"]
        assert users[6] == ["m7"]


async def spent_on_turn(store: MemoryStore, number: int) -> tuple[int, int]:
    """Entries read, and messages given to the model, when a new process serves one more turn."""
    model = ScriptedReplies(text_reply("an answer of some length"))
    async with scene_of(model, store=store, agents={"helper": AgentSpec("helper", "", history_tokens=200)}) as s:
        await s.drive(asked(f"question {number:04}", deltas=False), f"r{number}")
        return s.store.entries_read, len(model.prompts[0].messages)


async def test_turn_1000_costs_what_turn_30_costs_with_the_same_prompt_budget() -> None:
    store = MemoryStore(FixedClock())
    spent: dict[int, tuple[int, int]] = {}
    model = ScriptedReplies(text_reply("an answer of some length"))
    async with scene_of(model, store=store, agents={"helper": AgentSpec("helper", "", history_tokens=200)}) as s:
        for number in range(1, 1000):
            await s.drive(asked(f"question {number:04}", deltas=False), f"r{number}")
            if number == 30:
                spent[30] = await spent_on_turn(store, 10_030)
    spent[1000] = await spent_on_turn(store, 1000)
    assert spent[30] == spent[1000]
    assert spent[1000][1] < 60


# -- asking others ---------------------------------------------------------------------------------------------------


CAREFUL = {"helper": AgentSpec("helper", "", ask=("send",), approval_s=60.0)}


def came(seq: int, event: ev.Event) -> Entry:
    return Entry(seq, RunId("r1"), FixedClock().now(), event)


async def test_a_request_is_committed_with_the_reply_that_made_the_call() -> None:
    send = call(1, "send")
    yes = ev.ApprovalDecided(send.id, True, "ann", arguments_hash(send))
    model = ScriptedReplies(call_reply(("send", "{}")), text_reply("a"))
    async with scene_of(model, tools=LedgerTools({"send": "sent"}), agents=CAREFUL) as s:
        accepted = await s.accept(WHOLE)
        inbox = Inbox()

        async def approve() -> None:
            if ev.ApprovalRequested in map(type, s.store.written[-1]):
                inbox.put([came(100, yes)])

        s.store.hooks["after_append"] = approve
        await s.driver.drive(accepted.claim, None, inbox)
        requested = ev.ApprovalRequested(send, arguments_hash(send), s.clock.now() + 60.0)
        assert s.store.written == [
            (STARTED, finished("", send), requested),
            (ev.ToolStarted(send),),
            (ev.ToolReturned(send.id, "sent"),),
            (STARTED, finished("a"), ev.RunCompleted(TWICE)),
        ]


async def test_what_is_known_is_committed_before_the_run_waits() -> None:
    """A denied call's result is a fact that nothing more follows for now: its readers must not wait for the other's."""
    model = ScriptedReplies(call_reply(("send", "{}"), ("send", "[]")), text_reply("a"))
    no = ev.ApprovalDecided(CallId("c1"), False, "ann", arguments_hash(call(1, "send")))
    async with scene_of(model, tools=LedgerTools({"send": "sent"}), agents=CAREFUL) as s:
        accepted = await s.accept(WHOLE)
        inbox = Inbox()
        settled = asyncio.Event()

        async def deny() -> None:
            if any(isinstance(event, ev.ToolReturned) for event in s.store.written[-1]):
                settled.set()
            else:
                inbox.put([came(100, no)])

        s.store.hooks["after_append"] = deny
        driving = asyncio.create_task(s.driver.drive(accepted.claim, None, inbox))
        async with asyncio.timeout(5):
            await settled.wait()
        assert [type(event) for event in s.store.written[-1]] == [ev.ToolReturned]
        driving.cancel()
        await asyncio.wait([driving])


async def test_what_others_ask_is_folded_once_whichever_way_it_comes() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        accepted = await s.accept(WHOLE)
        attempt = Attempt(accepted.claim, s.store, s.clock, asyncio.sleep)
        assert await s.store.ask(RunId("r1"), ev.CancelAsked("me")) == 4
        attempt.hear([came(4, ev.CancelAsked("me"))])
        attempt.state.cancelled_by = None
        await attempt.look()
        attempt.hear([came(4, ev.CancelAsked("me")), came(5, ev.TextAdded("x"))])
        assert attempt.state.cancelled_by is None and attempt.heard == 4
        assert attempt.state.waits.looked_at == s.clock.now()


# -- a process that slept --------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [True, False])
async def test_intents_that_were_long_in_coming_are_looked_at_again_before_their_effect(taken: bool) -> None:
    """The process was stopped between the commit of the intents and the tool; another may have the run by now."""
    tools = LedgerTools({"send": "sent"})
    clock = FixedClock()
    async with scene_of(ScriptedReplies(call_reply(("send", "{}")), text_reply("a")), tools=tools, clock=clock) as s:
        accepted = await s.accept(WHOLE)

        async def sleep_long() -> None:
            clock.move(LEASE_S)
            s.store.hooks.clear()
            if taken:
                await s.store.reclaim(accepted.run)

        s.store.hooks["after_append"] = sleep_long
        if taken:
            with pytest.raises(StaleClaim):
                await s.driver.drive(accepted.claim)
        else:
            await s.driver.drive(accepted.claim)
        assert sum(tools.effects.values()) == (0 if taken else 1)
