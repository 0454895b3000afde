"""What is remembered of earlier turns, and that nobody can tell it from what is read."""

import itertools
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, ToolSpec
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, RunId, Tape
from dragoman.core.operations import StartTurn, TurnView
from dragoman.runtime.past import Past, newest
from dragoman.runtime.ports import Prompt, ReplyPiece
from dragoman.stores.memory import MemoryStore
from tests.parts import ADMIN, LedgerTools, ScriptedReplies, call_reply, house_of, text_reply
from tests.runtime.scene import asked, scene_of
from tests.support import FixedClock

ONE = Tape(1)
THEIRS = ToolSpec("restart", "Restarts.", {"type": "object"}, held_s=0.0)


class Telling:
    """A model that says yes, or calls the caller's tool, and notes what it was told."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.told.append([message.text for message in prompt.messages if message.role != "system"])
        calls = self.told[-1][-1].startswith("call")
        for piece in call_reply(("restart", "{}")) if calls else text_reply("Yes."):
            yield piece

    async def close(self) -> None:
        pass


def turn(number: int) -> TurnView:
    return TurnView(
        RunId(f"r{number}"), number, 0.0, (said("user", "q"),), (said("assistant", "a"),), ev.RunCompleted()
    )


TURNS = tuple(map(turn, range(5)))


def test_turns_are_known_only_to_the_turn_that_follows_at_once() -> None:
    past = Past()
    past.keep(ONE, 7, TURNS, (2,) * 5, whole=True)
    assert past.before(ONE, 8, chars_max=100) == (TURNS, (2,) * 5)
    assert past.before(ONE, 9, chars_max=100) is None
    assert past.before(Tape(2), 8, chars_max=100) is None


def test_turns_that_do_not_reach_back_far_enough_are_not_known_unless_they_are_all_there_are() -> None:
    past = Past()
    past.keep(ONE, 7, TURNS, (2,) * 5, whole=False)
    assert past.before(ONE, 8, chars_max=9) == (TURNS, (2,) * 5)
    assert past.before(ONE, 8, chars_max=10) is None
    past.keep(ONE, 7, TURNS, (2,) * 5, whole=True)
    assert past.before(ONE, 8, chars_max=10) == (TURNS, (2,) * 5)


def test_a_tape_that_is_forgotten_is_not_known() -> None:
    past = Past()
    past.keep(ONE, 7, TURNS, (2,) * 5, whole=True)
    past.forget(ONE)
    assert (past.before(ONE, 8, chars_max=100), len(past)) == (None, 0)


def test_the_longest_unused_tapes_go_first_by_number_and_by_characters() -> None:
    past = Past(tapes_max=2)
    for number in (1, 2):
        past.keep(Tape(number), 1, (), (), whole=True)
    assert past.before(ONE, 2, chars_max=100) == ((), ())
    past.keep(Tape(3), 1, (), (), whole=True)
    assert [past.before(Tape(number), 2, chars_max=100) is not None for number in (1, 2, 3)] == [True, False, True]
    small = Past(chars_max=10)
    small.keep(ONE, 1, TURNS[:1], (6,), whole=True)
    small.keep(Tape(2), 1, TURNS[:1], (5,), whole=True)
    assert [small.before(Tape(number), 2, chars_max=100) is not None for number in (1, 2)] == [False, True]


def test_one_tape_too_large_to_remember_is_not_kept() -> None:
    past = Past(chars_max=5)
    past.keep(ONE, 1, TURNS[:1], (6,), whole=True)
    assert len(past) == 0


def test_the_newest_turns_are_those_the_log_would_give() -> None:
    weights = (5, 4, 3, 2, 1)
    for chars_max, count in ((0, 1), (1, 2), (2, 2), (3, 3), (100, 5)):
        assert newest(TURNS, weights, chars_max=chars_max) == (TURNS[5 - count :], weights[5 - count :])


async def prompts(home: Path, *, fresh_each_turn: bool) -> list[Prompt]:
    """The prompts of some turns, in one process or in one process each."""
    store = MemoryStore(FixedClock())
    script: list[Any] = [
        call_reply(("look", "{}"), text="hm"),
        text_reply("it is ", "fine"),
    ]
    model = ScriptedReplies(*script)
    asked = itertools.count()

    async def ask(house: Any) -> None:
        turn = StartTurn(ConversationId("c"), (said("user", f"question {next(asked)} " + "x" * 5000),))
        started = await house.desk.answer(ADMIN, turn)
        await house.desk.outcome(started)
        await house.runs[0].settled()

    if fresh_each_turn:
        for _ in range(30):
            async with house_of(home, model, store=store, access=store, tools=LedgerTools({"look": "seen"})) as house:
                await ask(house)
    else:
        async with house_of(home, model, store=store, access=store, tools=LedgerTools({"look": "seen"})) as house:
            for _ in range(30):
                await ask(house)
    return model.prompts


async def test_a_prompt_is_the_same_whether_its_history_was_remembered_or_read(tmp_path: Path) -> None:
    remembered = await prompts(tmp_path, fresh_each_turn=False)
    read = await prompts(tmp_path, fresh_each_turn=True)
    assert [prompt.messages for prompt in remembered] == [prompt.messages for prompt in read]
    assert len(remembered) == 60


async def test_what_is_no_part_of_a_whole_conversation_takes_no_room_of_what_is() -> None:
    """Neither in the prompt, nor in what is remembered for the next one."""
    for again in (False, True):
        long = "x" * 4000
        model = Telling()
        agent = AgentSpec("helper", "Be brief.", history_tokens=300)  # 1,200 characters
        async with scene_of(model, agents={"helper": agent}) as s:
            await s.drive(asked("first"), "r1")
            for number in range(2, 5):  # left to a caller that does not come back
                await s.drive(asked(f"call {long}", client_tools=(THEIRS,)), f"r{number}")
            await s.drive(asked("second", whole=True), "r5")
            assert model.told[-1] == ["first", "Yes.", "second"]
            if again:
                s.driver._past = Past()  # pyright: ignore[reportPrivateUsage] another process
            await s.drive(asked("third"), "r6")
            assert model.told[-1] == ["first", "Yes.", "second", "Yes.", "third"]
            assert s.driver._past._tapes[Tape(1)].whole  # pyright: ignore[reportPrivateUsage]
