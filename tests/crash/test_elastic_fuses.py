"""A crash at every write of a turn that runs by Elastic's loop: the call it begins with, the forced last reply and the
title come once, and the conversation's document is whole. The crash is played as in `test_fuses.py`."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dragoman.core import events as ev
from dragoman.core.agents import Loop, Offered, Repeat, ToolSpec
from dragoman.core.documents import Document, ReadDocument
from dragoman.core.errors import NotFound, Unavailable
from dragoman.core.events import Entry
from dragoman.core.messages import said
from dragoman.core.names import ConversationId
from dragoman.core.operations import Briefing, StartTurn
from dragoman.dialects.elastic.chat import EXIT_LOOP
from dragoman.dialects.elastic.messages import wire_messages
from dragoman.runtime.ports import Prompt, ReplyPiece
from dragoman.runtime.titles import NO_TITLE
from tests.crash.test_fuses import Fused, stores
from tests.parts import ADMIN, LedgerTools, call_reply, house_of, text_reply

__all__ = ["stores"]

CONVERSATION = ConversationId("5d1f7b1c-4a7e-4f7e-9d1c-0a1b2c3d4e5f")
CALLS_MAX = {"answered": 8, "forced to end": 3}
TITLE, ANSWER = "Clocks", "It is fine."
LIVES_MAX = 60


class Model:
    """Answers by what it is asked, so that it says the same in each life. It counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.asked[prompt.choice] += 1
        await asyncio.sleep(0)
        for piece in self._pieces(prompt):
            yield piece

    def _pieces(self, prompt: Prompt) -> list[ReplyPiece]:
        if prompt.choice == "title_conversation":
            return call_reply(("title_conversation", json.dumps({"title": TITLE})))
        if prompt.choice == EXIT_LOOP.name:
            return call_reply((EXIT_LOOP.name, json.dumps({"response": ANSWER})))
        if sum(message.role == "assistant" for message in prompt.messages) == 1:  # the call it began with
            return call_reply(("look", "{}"), ("send", '{"to":"ops"}'), text="Let me see.")
        return text_reply("It is ", "fine.")

    async def close(self) -> None:
        pass


class Tools(LedgerTools):
    """`context` is never offered."""

    def __init__(self) -> None:
        answers = {"context": '{"screen_description":"","learnings":[]}', "look": "seen", "send": "sent"}
        super().__init__(answers, {"send": Repeat.ONCE})

    def specs(self, patterns: Sequence[str], *, on_screen: bool = False) -> tuple[ToolSpec, ...]:
        return tuple(spec for spec in self._specs if spec.name != "context")

    def spec(self, name: str) -> ToolSpec | None:
        spec = super().spec(name)
        return msgspec.structs.replace(spec, offered=Offered.NEVER) if spec is not None and name == "context" else spec


def turn(calls_max: int) -> StartTurn:
    loop = Loop(
        opening="context",
        calls_max=calls_max,
        closing=EXIT_LOOP,
        json_results=True,
        checked=True,
        titled=True,
        whole_replies=True,
    )
    return StartTurn(
        CONVERSATION, (said("user", "how is it?"),), private=True, briefing=Briefing(), loop=loop, origin="elastic"
    )


async def crash(
    opened: Any, home: Path, model: Model, tools: Tools, nth: int, *, after: bool, turn: StartTurn | None
) -> bool:
    """One life of the process, which ends at its nth write; whether it was cut short at all."""
    async with opened() as store:
        fused = Fused(store, nth, after=after)
        living = asyncio.create_task(live(fused, store, home, model, tools, turn))
        blown = asyncio.create_task(fused.blown.wait())
        done, _ = await asyncio.wait({living, blown}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert done, "the process neither ended nor crashed"
        cut_short = fused.blown.is_set()
        for task in (living, blown):
            task.cancel()
        results = await asyncio.gather(living, blown, return_exceptions=True)
        if not cut_short and isinstance(results[0], BaseException):
            raise results[0]
        return cut_short


async def live(fused: Any, store: Any, home: Path, model: Model, tools: Tools, turn: StartTurn | None) -> None:
    async with house_of(home, model, store=fused, access=store, tools=tools) as house:
        if turn is not None:
            await house.desk.outcome(await house.desk.answer(ADMIN, turn))
        else:
            await asyncio.wait_for(house.runs[0].settled(), 5)


async def found(opened: Any, home: Path) -> tuple[Sequence[Entry], Document | None]:
    async with opened() as store:
        info = await store.get(ADMIN.project, CONVERSATION)
        if info is None:
            return (), None
        async with house_of(home, Model(), store=store, access=store, tools=Tools()) as house:
            document = await house.desk.answer(ADMIN, ReadDocument(CONVERSATION))
        return await store.read(info.tape, after=0), document


def check(entries: Sequence[Entry], document: Document | None, tools: Tools, *, forced: bool) -> None:
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    events = [entry.event for entry in entries]
    kinds = Counter(map(type, events))
    assert isinstance(events[-1], ev.RunCompleted), events[-1]
    assert (kinds[ev.RunCompleted], kinds[ev.TitleGiven], kinds[ev.CallAdded]) == (1, 1, 1)
    replies = [event for event in events if isinstance(event, ev.ReplyFinished)]
    assert [reply.text for reply in replies] == ["Let me see.", ANSWER]
    assert (replies[-1].closing is not None) == forced
    called = [event.call.id for event in events if isinstance(event, ev.CallAdded)]
    called += [call.id for reply in replies for call in reply.calls]
    returned = [event for event in events if isinstance(event, ev.ToolReturned)]
    assert sorted(each.call_id for each in returned) == sorted(called), "a call without a result, or with two"
    assert all(isinstance(json.loads(each.content), dict) for each in returned), "a result that is no object"
    assert all(count == 1 for (name, _), count in tools.effects.items() if name == "send")
    assert document is not None
    assert document.info.title in (TITLE, NO_TITLE) and document.info.turns == 1
    wire = msgspec.to_builtins(wire_messages(document.turns))
    names = [
        (message["role"], message.get("name") or message.get("function_call", {}).get("name", ""))
        for message in (told["message"] for told in wire)
    ]
    assert names[:3] == [("user", ""), ("assistant", "context"), ("user", "context")]
    assert Counter(names[3:]) == Counter(
        [("assistant", "look"), ("user", "look"), ("assistant", "send"), ("user", "send"), ("assistant", "")]
    )
    assert wire[-1]["message"]["content"] == ANSWER


@pytest.mark.parametrize("ending", CALLS_MAX)
@pytest.mark.parametrize("after", [False, True], ids=["before_commit", "after_commit"])
async def test_a_turn_survives_a_crash_at_any_write(stores: Any, tmp_path: Path, after: bool, ending: str) -> None:
    asking = turn(CALLS_MAX[ending])
    for nth in range(1, LIVES_MAX):
        model, tools = Model(), Tools()
        if not await crash(stores, tmp_path, model, tools, nth, after=after, turn=asking):
            check(*await found(stores, tmp_path), tools, forced=ending != "answered")
            assert nth > 7, "the turn has fewer writes than it must have"
            assert model.asked["title_conversation"] == 1
            return
        if await cut_off(stores):
            await crash(stores, tmp_path, model, tools, 10**6, after=False, turn=None)
            check(*await found(stores, tmp_path), tools, forced=ending != "answered")
            assert model.asked["title_conversation"] <= 2, "a title was thought of for nothing"
        else:
            assert nth == 1 and not after, "what was committed is gone"
        async with stores() as store:
            await store.delete(ADMIN.project, CONVERSATION)
    raise AssertionError("the turn never ended")


async def cut_off(opened: Any) -> bool:
    """Whether the turn was taken."""
    async with opened() as store:
        return await store.get(ADMIN.project, CONVERSATION) is not None


async def test_a_turn_survives_a_crash_in_every_life(stores: Any, tmp_path: Path) -> None:
    """Each life gets six writes: enough for one reply, and each must get at least that much further."""
    model, tools = Model(), Tools()
    await crash(stores, tmp_path, model, tools, 2, after=False, turn=turn(8))
    for _ in range(LIVES_MAX):
        if not await crash(stores, tmp_path, model, tools, 6, after=False, turn=None):
            break
    check(*await found(stores, tmp_path), tools, forced=False)


async def test_a_turn_that_is_not_kept_is_gone_with_its_process(stores: Any, tmp_path: Path) -> None:
    asking = msgspec.structs.replace(turn(8), ephemeral=True)
    async with stores() as store:
        async with house_of(tmp_path, Model(), store=store, access=store, tools=Tools()) as house:
            outcome = await house.desk.outcome(await house.desk.answer(ADMIN, asking))
            assert outcome.text == ANSWER
        assert await store.get(ADMIN.project, CONVERSATION) is None
        async with house_of(tmp_path, Model(), store=store, access=store, tools=Tools()) as house:
            with pytest.raises(NotFound):
                await house.desk.answer(ADMIN, ReadDocument(CONVERSATION))


class Full:
    """A store whose nth write finds no room, once; before that and afterwards there is some."""

    def __init__(self, store: Any, nth: int) -> None:
        self._store = store
        self._left = nth
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in ("append", "finish"):
            return method

        async def full(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                self.refused += 1
                raise Unavailable("The server's disk is full.", code="storage_full")
            return await method(*args, **kwargs)

        return full


async def test_a_disk_that_is_full_for_a_moment_costs_a_turn_nothing(stores: Any, tmp_path: Path) -> None:
    for nth in range(1, LIVES_MAX, 2):
        tools = Tools()
        async with stores() as store:
            full = Full(store, nth)
            async with house_of(tmp_path, Model(), store=full, access=store, tools=tools) as house:
                await house.desk.outcome(await house.desk.answer(ADMIN, turn(8)))
        check(*await found(stores, tmp_path), tools, forced=False)
        async with stores() as store:
            await store.delete(ADMIN.project, CONVERSATION)
        if not full.refused:
            assert nth > 6, "the turn has fewer writes than it must have"
            return
    raise AssertionError("the turn never ended")
