"""Asking the model by the rules of a loop."""

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.agents import Loop
from dragoman.core.messages import Message, Text, said
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece
from tests.parts import USAGE, call_reply, text_reply
from tests.runtime.looping import ACTION, EXIT, LOOP, QUESTION, ContextTools, Talker, call, calls, result
from tests.runtime.scene import Waits, asked, scene_of, within


async def test_the_opening_is_called_before_the_model_is_asked_and_not_offered_to_it() -> None:
    model = Talker(text_reply("Fine."))
    async with scene_of(model, tools=ContextTools(look="seen")) as s:
        await s.drive(asked(loop=LOOP))
        added, started, returned = (await s.events())[1:4]
        assert added == ev.CallAdded(call("context", id="call_context_1"))
        assert (started, returned.content) == (ev.ToolStarted(added.call), '{"learnings":[]}')
        [prompt] = model.prompts
        assert [message.role for message in prompt.messages] == ["system", "user", "assistant", "tool"]
        assert [tool.name for tool in prompt.tools] == ["look"]
        assert (prompt.choice, prompt.temperature) == ("auto", 0.25)


async def test_a_history_that_ends_with_a_call_has_it_made_first_and_opens_with_nothing_else() -> None:
    model = Talker(text_reply("Seen."))
    async with scene_of(model, tools=ContextTools(look="seen")) as s:
        await s.drive(ev.TurnReceived((QUESTION, calls(call("look"))), loop=LOOP))
        kinds = [type(event).__name__ for event in await s.events()]
        assert kinds[1:3] == ["ToolStarted", "ToolReturned"] and "CallAdded" not in kinds
        assert s.tools.effects["look", "r1:c1"] == 1


async def test_a_history_that_ends_with_a_call_of_the_callers_own_goes_back_to_it() -> None:
    async with scene_of(Talker(), tools=ContextTools()) as s:
        mine = calls(call("restart", '{"what":"db"}'))
        await s.drive(ev.TurnReceived((QUESTION, mine), loop=LOOP, client_tools=(ACTION,)))
        assert isinstance((await s.events())[-1], ev.RunNeedsClient)


async def test_a_history_that_is_answered_already_is_not_answered_again() -> None:
    model = Talker()
    history = (QUESTION, calls(call("context")), result("c1", "{}"), said("assistant", "Fine."))
    async with scene_of(model, tools=ContextTools()) as s:
        await s.drive(ev.TurnReceived(history, loop=LOOP))
        assert (await s.events())[-1] == ev.RunCompleted() and model.prompts == []


async def test_what_was_meant_for_a_model_that_is_gone_is_told_to_no_other() -> None:
    model = Talker(text_reply("Fine."))
    async with scene_of(model, tools=ContextTools()) as s:
        await s.drive(asked(loop=LOOP, model="gone"))
        end = (await s.events())[-1]
        assert isinstance(end, ev.RunFailed) and end.detail == "The model gone is not there any more."
        assert model.prompts == []


# -- when it ends ----------------------------------------------------------------------------------------------------


async def test_after_its_calls_the_model_is_made_to_answer() -> None:
    forced = call_reply(("exit_loop", '{"response":"Enough."}'))
    model = Talker(call_reply(("look", "{}")), call_reply(("look", "{}")), forced={"exit_loop": forced})
    async with scene_of(model, tools=ContextTools(look="seen")) as s:
        await s.drive(asked(loop=LOOP))
        assert model.choices == ["auto", "auto", "exit_loop"]
        assert [tool.name for tool in model.prompts[-1].tools] == ["exit_loop"]
        last = [event for event in await s.events() if isinstance(event, ev.ReplyFinished)][-1]
        assert (last.text, last.calls, last.closing and last.closing.name) == ("Enough.", (), "exit_loop")
        assert isinstance((await s.events())[-1], ev.RunCompleted)


async def test_calls_for_which_there_is_no_room_are_refused() -> None:
    forced = call_reply(("exit_loop", '{"response":"Enough."}'))
    three = call_reply(("look", "{}"), ("look", "{}"), ("look", "{}"))
    async with scene_of(Talker(three, forced={"exit_loop": forced}), tools=ContextTools(look="seen")) as s:
        await s.drive(asked(loop=LOOP))
        codes = [event.code for event in await s.events() if isinstance(event, ev.ToolReturned)]
        assert sorted(codes) == ["", "", "", "call_limit"]
        assert s.tools.effects["look", "r1:c1"] + s.tools.effects["look", "r1:c2"] == 2


async def test_a_reply_that_was_cut_short_fails_where_the_loop_has_it_so() -> None:
    for loop, end in ((Loop(whole_replies=True), ev.RunFailed), (Loop(), ev.RunCompleted)):
        async with scene_of(Talker([ReplyDone("It is", usage=USAGE, finish_reason="length")])) as s:
            await s.drive(asked(loop=loop))
            assert isinstance((await s.events())[-1], end)


# -- calls that cannot be made ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), [("restart", "bad_arguments"), ("nope", "unknown_tool")])
async def test_a_call_that_cannot_be_made_is_answered_by_us(name: str, code: str) -> None:
    model = Talker(call_reply((name, "{}")), text_reply("Sorry."))
    async with scene_of(model, tools=ContextTools()) as s:
        await s.drive(asked(loop=LOOP, client_tools=(ACTION,)))
        events = await s.events()
        refused = events[[isinstance(event, ev.ReplyFinished) for event in events].index(True) + 1]
        assert isinstance(refused, ev.ToolReturned) and (refused.is_error, refused.code) == (True, code)
        assert json.loads(refused.content)["error"]["name"] == code
        assert isinstance(events[-1], ev.RunCompleted) and len(model.prompts) == 2


async def test_a_good_call_of_the_callers_tool_ends_the_run() -> None:
    async with scene_of(Talker(call_reply(("restart", '{"what":"db"}'))), tools=ContextTools()) as s:
        await s.drive(asked(loop=LOOP, client_tools=(ACTION,)))
        assert isinstance((await s.events())[-1], ev.RunNeedsClient)


# -- the rest of a turn ----------------------------------------------------------------------------------------------


async def test_the_system_message_of_a_turn_stands_for_all_others() -> None:
    model = Talker(text_reply("Fine."))
    async with scene_of(model) as s:
        await s.drive(asked(system="Be this.", instructions=("Not that.",)))
        assert model.prompts[0].messages[0] == Message("system", (Text("Be this."),))


async def test_a_loop_can_do_without_tools_or_with_the_callers_only() -> None:
    for loop, names, choice in (
        (Loop(tools=False), [], ""),
        (Loop(own_tools=False), ["restart"], "auto"),
        (Loop(own_tools=False, choice="restart"), ["restart"], "restart"),
        (Loop(own_tools=False, only=("look", "nope")), ["look", "restart"], "auto"),
    ):
        model = Talker(text_reply("Fine."))
        async with scene_of(model, tools=ContextTools(look="seen")) as s:
            await s.drive(asked(loop=loop, client_tools=(ACTION,)))
            assert [tool.name for tool in model.prompts[0].tools] == names
            assert model.prompts[0].choice == choice


async def test_a_model_that_is_gone_is_not_replaced_by_another() -> None:
    model = Talker(text_reply("Fine."))
    async with scene_of(model) as s:
        await s.drive(asked(loop=LOOP, model="mine"))
        end = (await s.events())[-1]
        assert isinstance(end, ev.RunFailed) and end.code == "not_found" and model.prompts == []


async def test_many_calls_of_a_kind_are_no_repetition_where_the_loop_counts_them() -> None:
    replies = [call_reply(("look", "{}")) for _ in range(7)]
    forced = {"exit_loop": call_reply(("exit_loop", '{"response":"Enough."}'))}
    model = Talker(*replies, forced=forced)
    loop = Loop(opening="context", calls_max=8, closing=EXIT)
    async with scene_of(model, tools=ContextTools(look="seen")) as s:
        await s.drive(asked(loop=loop))
        assert len(model.prompts) == 8
        assert isinstance((await s.events())[-1], ev.RunCompleted)


async def test_a_callers_tool_that_is_called_wrongly_again_and_again_uses_up_the_calls() -> None:
    forced = call_reply(("exit_loop", '{"response":"Enough."}'))
    model = Talker(*[call_reply(("restart", "{}"))] * 9, forced={"exit_loop": forced})
    async with scene_of(model, tools=ContextTools()) as s:
        await s.drive(asked(loop=LOOP, client_tools=(ACTION,)))
        assert model.choices == ["auto", "auto", "exit_loop"]
        assert isinstance((await s.events())[-1], ev.RunCompleted)


async def test_where_no_tools_are_offered_none_is_called() -> None:
    reply = call_reply(("look", "{}"), ("restart", '{"what":"db"}'))
    async with scene_of(Talker(reply, text_reply("Fine.")), tools=ContextTools(look="seen")) as s:
        await s.drive(asked(loop=replace(LOOP, tools=False, calls_max=8), client_tools=(ACTION,)))
        codes = [event.code for event in await s.events() if isinstance(event, ev.ToolReturned)]
        assert codes == ["", "unknown_tool", "unknown_tool"]
        assert [name for name, _ in s.tools.effects] == ["context"]
        assert isinstance((await s.events())[-1], ev.RunCompleted)


async def test_the_call_that_opens_a_turn_has_another_id_in_each() -> None:
    model = Talker(text_reply("Fine."), text_reply("Fine."))
    async with scene_of(model, tools=ContextTools()) as s:
        await s.drive(asked(loop=LOOP))
        await s.drive(asked("And?", loop=LOOP), "r2")
        ids = [call.id for message in model.prompts[-1].messages for call in message.calls]
        assert ids == ["call_context_1", "call_context_1_2"]


async def test_an_answer_is_on_the_tape_before_its_title_is_waited_for() -> None:
    waits = Waits()

    class Slow(Talker):
        async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
            if prompt.choice:
                await waits()
            async for piece in super().reply(prompt, stream=stream):
                yield piece

    model = Slow(text_reply("Fine."), forced={"title_conversation": call_reply(("title_conversation", "{}"))})
    async with scene_of(model, tools=ContextTools()) as s:
        started = await s.start(loop=Loop(titled=True))
        await within(waits.reached.wait())
        while not any(isinstance(event, ev.ReplyFinished) for event in await s.events()):
            await asyncio.sleep(0)
        assert not any(isinstance(event, ev.TitleGiven) for event in await s.events())
        waits.open.set()
        await s.outcome(started)
        assert [type(event) for event in await s.events()][-2:] == [ev.TitleGiven, ev.RunCompleted]
