"""Titles that the model thinks of."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.agents import Loop
from dragoman.core.errors import BackendFailed
from dragoman.core.names import RunId
from dragoman.core.operations import CancelRun
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece
from dragoman.runtime.titles import NO_TITLE, title_of
from tests.parts import ADMIN, USAGE, call_reply, text_reply
from tests.runtime.looping import Talker, call
from tests.runtime.scene import Scene, asked, scene_of, until, within

# -- titles ----------------------------------------------------------------------------------------------------------


def titled(title: str) -> list[ReplyPiece]:
    return call_reply(("title_conversation", json.dumps({"title": title})))


@pytest.mark.parametrize(
    ("forced", "title"),
    [
        (titled('"Why it is slow"'), "Why it is slow"),
        (titled("  a\n b "), "a b"),
        (titled("''"), NO_TITLE),
        (text_reply("Why it is slow"), NO_TITLE),
        ([BackendFailed("no")], NO_TITLE),
        ([RuntimeError("no")], NO_TITLE),
    ],
)
async def test_a_title_is_thought_of_while_the_model_answers(forced: Any, title: str) -> None:
    model = Talker(text_reply("Fine."), forced={"title_conversation": forced})
    async with scene_of(model) as s:
        await s.drive(asked(loop=Loop(titled=True)))
        given, end = (await s.events())[-2:]
        assert (given, end) == (ev.TitleGiven(title), ev.RunCompleted(USAGE))
        asked_for = next(prompt for prompt in model.prompts if prompt.choice)
        assert "how is it?" in asked_for.messages[-1].text
        assert [tool.name for tool in asked_for.tools] == ["title_conversation"]


async def test_a_run_that_fails_has_no_title_and_leaves_nothing_behind() -> None:
    async with scene_of(Talker([BackendFailed("no")], forced={"title_conversation": titled("T")})) as s:
        await s.drive(asked(loop=Loop(titled=True)))
        assert not any(isinstance(event, ev.TitleGiven) for event in await s.events())


class Slow(Talker):
    """Thinks of a title until it is let go on, and counts the title requests that were given up."""

    def __init__(self, *replies: list[ReplyPiece]) -> None:
        super().__init__(*replies, forced={"title_conversation": titled("T")})
        self.goes_on = asyncio.Event()
        self.begun = asyncio.Event()
        self.given_up = 0

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        if prompt.choice:
            self.begun.set()
            try:
                await self.goes_on.wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        async for piece in super().reply(prompt, stream=stream):
            yield piece


async def answered(s: Scene, model: Slow) -> None:
    """Until the answer is on the tape, and a title is thought of."""
    await within(model.begun.wait())
    for _ in range(1000):
        if any(isinstance(event, ev.ReplyFinished) for event in await s.events()):
            return
        await asyncio.sleep(0)
    raise AssertionError("the answer waits for its title")


async def test_an_answer_is_told_before_its_title() -> None:
    model = Slow(text_reply("Fine."))
    async with scene_of(model) as s:
        await s.start(loop=Loop(titled=True))
        await answered(s, model)
        model.goes_on.set()
        await s.settled()
        assert (await s.events())[-2:] == [ev.TitleGiven("T"), ev.RunCompleted(USAGE)]


async def test_a_run_that_is_cancelled_thinks_of_no_title_any_more() -> None:
    model = Slow(text_reply("Fine."))
    async with scene_of(model) as s:
        await s.start(loop=Loop(titled=True))
        await answered(s, model)
        await s.runs.cancel(ADMIN, CancelRun(RunId("r1")))
        await s.settled()
        events = await s.events()
        assert isinstance(events[-1], ev.RunCancelled) and model.given_up == 1
        assert not any(isinstance(event, ev.TitleGiven) for event in events)


async def test_a_run_that_is_taken_over_gets_its_title_from_whoever_has_it() -> None:
    model = Slow(text_reply("Fine."))
    async with scene_of(model) as s:
        await s.start(loop=Loop(titled=True))
        await answered(s, model)
        claim = await s.store.reclaim(RunId("r1"))
        await s.runs.let_go([RunId("r1")])
        await until(lambda: model.given_up == 1)
        assert claim is not None
        s.runs.drive(claim)
        model.goes_on.set()
        await s.settled()
        events = await s.events()
        assert [event for event in events if isinstance(event, ev.TitleGiven)] == [ev.TitleGiven("T")]
        assert len([event for event in events if isinstance(event, ev.ReplyFinished)]) == 1


async def test_a_process_that_stops_thinks_of_no_title_any_more() -> None:
    model = Slow(text_reply("Fine."))
    async with scene_of(model) as s:
        await s.start(loop=Loop(titled=True))
        await answered(s, model)
        await s.runs.hand_back()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert model.given_up == 1 and not [task for task in others if "_title" in repr(task)]


def test_a_title_has_a_length() -> None:
    reply = ReplyDone("", (call("title_conversation", json.dumps({"title": "x" * 1000})),))
    assert len(title_of(reply)) == 200
