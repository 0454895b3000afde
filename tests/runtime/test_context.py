"""The step that a turn begins with: what the model is told of the screen and of what is known."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import msgspec
import pytest

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import BackendFailed, NotFound
from dragoman.core.knowledge import FindContext, KnowledgeEntry
from dragoman.core.messages import Message, ToolCall, said
from dragoman.core.names import CallId, Principal, ProjectId
from dragoman.core.screen import NO_SCREEN, Screen, ScreenItem
from dragoman.runtime import context as limits
from dragoman.runtime.context import ContextStep, on_screen, within
from dragoman.runtime.knowledge import KnowledgeBase
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece
from dragoman.runtime.tool_ports import CallContext, Told
from dragoman.stores.memory.knowledge import MemoryKnowledge
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

P = ProjectId("p")
ANN = Principal(P, "ann", "ann", frozenset())
QUESTION = "What's my favourite color?"
FAVOURITES = {
    "color": "My favourite color is blue.",
    "pet": "My favourite pet is a dog.",
    "food": "My favourite is pie.",
}
SCREEN = Screen("A page of colors", (ScreenItem("palette", "What there is", '{"colors":["red"]}'),))

Answer = Callable[[Prompt], ReplyDone]


def all_scored(score: int) -> Answer:
    def answer(prompt: Prompt) -> ReplyDone:
        if not prompt.choice:
            return ReplyDone("favourite color")
        documents = prompt.messages[0].text.split("<DocumentsToScore>\n")[1].removesuffix("\n</DocumentsToScore>")
        scores = "\n".join(f"{document['id']},{score}" for document in msgspec.json.decode(documents))
        arguments = msgspec.json.encode({"scores": scores}).decode()
        return ReplyDone("", (ToolCall(CallId("c"), prompt.choice, arguments),))

    return answer


class House:
    """`answer` says what the model says; it is also all models."""

    def __init__(self) -> None:
        clock = FixedClock()
        self.knowledge = MemoryKnowledge(clock)
        self.step = ContextStep(KnowledgeBase(self.knowledge, MemoryRecords(clock)), self, ask_s=0.02)
        self.answer = all_scored(7)
        self.asked: list[Prompt] = []
        self.chosen: list[tuple[str, str]] = []
        self.gone = False
        """The model is deleted right after somebody looked whether it is there."""

    async def know(self, texts: Mapping[str, str], *, owner: str = "ann", public: bool = False) -> None:
        await self.knowledge.put(
            [KnowledgeEntry(P, name, text, "", public, owner=owner) for name, text in texts.items()]
        )

    async def ask(self, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...] = (), choice: str = "") -> ReplyDone:
        self.asked.append(Prompt(messages, tools, choice=choice))
        return self.answer(self.asked[-1])

    async def find(self, screen: Screen = NO_SCREEN, *messages: Message, ask: Any = None) -> Told:
        messages = messages or (said("user", QUESTION),)
        return await self.step.find(CallContext(P, "run:call", "ann", "Ann", False, messages, screen, ask or self.ask))

    async def learnings(self, screen: Screen = NO_SCREEN, **more: Any) -> list[dict[str, Any]]:
        return msgspec.json.decode((await self.find(screen, **more)).content)["learnings"]

    # -- as models -------------------------------------------------------------------------------------------------

    async def choose(self, project: ProjectId, name: str) -> tuple[Any, str]:
        self.chosen.append((project, name))
        return self, name if self.gone else ""

    async def knows(self, project: ProjectId, name: str) -> bool:
        return name == "gpt"

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.asked.append(prompt)
        yield TextPiece("a piece")
        if self.answer is not nobody:
            yield self.answer(prompt)


def nobody(prompt: Prompt) -> ReplyDone:
    raise AssertionError


@pytest.fixture
def house() -> House:
    return House()


# -- what is told ----------------------------------------------------------------------------------------------------


async def test_I1_a_project_that_knows_nothing_costs_no_question(house: House):
    assert await house.find() == Told('{"screen_description":"","learnings":[]}')
    assert house.asked == []


async def test_the_screen_is_told_also_where_nothing_is_known(house: House):
    told = await house.find(SCREEN)
    assert told == Told(
        '{"screen_description":"A page of colors","learnings":[],'
        '"data_on_screen":[{"name":"palette","description":"What there is","value":{"colors":["red"]}}]}'
    )


async def test_F1_the_question_is_rewritten_and_what_is_found_is_scored(house: House):
    await house.know(FAVOURITES)
    before = (said("user", "Hello"), said("assistant", "Hi"))
    told = await house.find(SCREEN, *before, said("user", QUESTION))

    rewriting, scoring = house.asked
    assert [message.role for message in rewriting.messages] == ["system", "user"]
    assert rewriting.messages[1].text == QUESTION
    assert '<ConversationHistory>\n[{"role":"user","content":"Hello"}' in rewriting.messages[0].text
    assert "<ScreenDescription>\nA page of colors" in rewriting.messages[0].text
    assert (rewriting.tools, rewriting.choice) == ((), "")
    assert [message.role for message in scoring.messages] == ["system", "user"]
    assert [tool.name for tool in scoring.tools] == [scoring.choice] == ["score_suggestions"]

    content, shown = msgspec.json.decode(told.content), msgspec.json.decode(told.shown)
    assert list(content) == ["screen_description", "learnings", "data_on_screen"]
    assert {each["text"] for each in content["learnings"]} == set(FAVOURITES.values())
    assert [list(each) for each in content["learnings"]] == [["id", "llmScore", "esScore", "text"]] * 3
    assert {each["llmScore"] for each in content["learnings"]} == {7}
    assert list(shown) == ["llmScores", "suggestions"]
    assert shown["llmScores"] == [{"id": each["id"], "llmScore": 7} for each in shown["suggestions"]]
    assert [list(each) for each in shown["suggestions"]] == [["id", "title", "text", "esScore", "labels"]] * 3
    assert shown["suggestions"][0]["id"] == "color"


async def test_what_has_little_to_do_with_it_is_shown_and_not_told(house: House):
    await house.know(FAVOURITES)
    house.answer = all_scored(4)
    told = await house.find()
    assert msgspec.json.decode(told.content)["learnings"] == []
    assert len(msgspec.json.decode(told.shown)["suggestions"]) == 3


async def test_what_is_somebody_elses_is_not_told(house: House):
    await house.know({"color": "blue"}, owner="bob")
    await house.know({"all": "favourite red"}, owner="bob", public=True)
    assert [each["id"] for each in await house.learnings()] == ["all"]


async def test_nothing_found_asks_for_no_scores(house: House):
    await house.know({"other": "Nothing of the kind"})
    told = await house.find()
    assert told == Told('{"screen_description":"","learnings":[]}', '{"llmScores":[],"suggestions":[]}')
    assert len(house.asked) == 1


async def test_the_rewritten_query_counts_most(house: House):
    await house.know({"a": "color", "b": "colour"})

    def answer(prompt: Prompt) -> ReplyDone:
        return ReplyDone("" if prompt.choice else "colour")

    house.answer = answer
    assert [each["id"] for each in await house.learnings()] == ["b", "a"]


async def test_what_is_on_the_screen_is_searched_for_too(house: House):
    await house.know({"page": "A page about pages"})
    assert [each["id"] for each in await house.learnings(SCREEN)] == ["page"]


async def test_without_a_question_nothing_is_asked_or_found(house: House):
    await house.know(FAVOURITES)
    told = await house.find(NO_SCREEN, said("assistant", "Hello"))
    assert told == Told('{"screen_description":"","learnings":[]}', '{"llmScores":[],"suggestions":[]}')
    assert house.asked == []


# -- without the model -----------------------------------------------------------------------------------------------


async def test_without_a_model_the_search_decides(house: House):
    await house.know({f"n{number}": f"favourite color number {number}" for number in range(8)})
    told = await house.step.find(CallContext(P, "", "ann", messages=(said("user", QUESTION),)))
    assert [each["id"] for each in msgspec.json.decode(told.content)["learnings"]] == ["n0", "n1", "n2", "n3", "n4"]
    assert {each["llmScore"] for each in msgspec.json.decode(told.content)["learnings"]} == {None}
    shown = msgspec.json.decode(told.shown)
    assert (shown["llmScores"], len(shown["suggestions"])) == ([], 8)


async def test_a_model_that_fails_is_done_without(house: House):
    await house.know(FAVOURITES)

    def fail(prompt: Prompt) -> ReplyDone:
        raise BackendFailed("no")

    house.answer = fail
    assert next(each["id"] for each in await house.learnings()) == "color"
    assert len(house.asked) == 2


async def test_a_model_that_is_too_slow_is_done_without(house: House):
    await house.know(FAVOURITES)

    async def forever(*_: object) -> ReplyDone:
        await asyncio.Event().wait()
        raise AssertionError

    assert next(each["id"] for each in await house.learnings(ask=forever)) == "color"


async def test_scores_that_cannot_be_read_are_done_without(house: House):
    await house.know(FAVOURITES)

    def refuse(prompt: Prompt) -> ReplyDone:
        return ReplyDone("I would rather not.")

    house.answer = refuse
    assert len(await house.learnings()) == 3


# -- how much --------------------------------------------------------------------------------------------------------


async def test_what_is_told_has_room_in_a_result(house: House):
    await house.know({f"n{number}": "color " + '"' * 2900 for number in range(5)})
    told = await house.find()
    learned = msgspec.json.decode(told.content)["learnings"]
    assert len(told.content) <= limits.CONTENT_TOKENS_MAX * 4 == 16_000
    assert [len(each["text"]) for each in learned[:2]] == [2906, 2906]
    assert learned[2]["text"].endswith('"… [cut]')
    assert len(learned) == 3


def test_learnings_are_told_while_they_have_room():
    learned = [{"id": "a", "text": "x" * 10}, {"id": "b", "text": "y" * 10}]
    sizes = [len(msgspec.json.encode(each)) for each in learned]
    assert within(learned, sum(sizes) + 1) == learned
    assert within(learned, sizes[0]) == learned[:1]
    assert within(learned, sum(sizes)) == [learned[0], {"id": "b", "text": "yy… [cut]"}]
    assert within(learned, 20) == []


def test_what_is_long_is_named_without_its_value():
    fits = ScreenItem("fits", "d", f'"{"x" * 3998}"')
    over = ScreenItem("over", "d", f'"{"x" * 3999}"')
    assert on_screen(Screen("", (over, fits))) == [
        {"name": "over", "description": "d"},
        {"name": "fits", "description": "d", "value": "x" * 3998},
    ]


def test_many_things_have_so_much_room_together():
    items = tuple(ScreenItem(str(number), "", f'"{"x" * 3000}"') for number in range(400))
    shown = on_screen(Screen("", items))
    assert ["value" in each for each in shown[:4]] == [True, True, False, False]
    assert len(msgspec.json.encode(shown)) <= limits.ITEMS_TOKENS_MAX * 4 + len(shown) + 1
    assert 2 < len(shown) < 100


def test_a_value_that_is_no_json_is_text():
    assert on_screen(Screen("", (ScreenItem("n", "d", "{no"),))) == [{"name": "n", "description": "d", "value": "{no"}]


# -- outside a turn --------------------------------------------------------------------------------------------------


async def test_it_can_be_asked_for_outside_a_turn(house: House):
    await house.know(FAVOURITES)
    ((operation, handler),) = house.step.handlers().items()
    assert operation is FindContext
    found: Any = await handler(ANN, FindContext((said("user", QUESTION),), "gpt", SCREEN))
    assert len(msgspec.json.decode(found.content)["learnings"]) == 3
    assert len(msgspec.json.decode(found.shown)["llmScores"]) == 3
    assert house.chosen == [(P, "gpt")] * 2
    assert [prompt.model_name for prompt in house.asked] == [""] * 2


async def test_outside_a_turn_the_model_must_be_known(house: House):
    with pytest.raises(NotFound) as caught:
        await house.step.find_as(ANN, FindContext((said("user", QUESTION),), "other"))
    assert caught.value.what == "model"


async def test_outside_a_turn_what_was_meant_for_a_model_that_is_gone_is_told_to_no_other(house: House):
    await house.know(FAVOURITES)
    house.gone = True
    found = await house.step.find_as(ANN, FindContext((said("user", QUESTION),), "gpt"))
    assert len(msgspec.json.decode(found.content)["learnings"]) == 3
    assert house.asked == []


async def test_outside_a_turn_a_model_that_breaks_off_is_done_without(house: House):
    await house.know(FAVOURITES)
    house.answer = nobody
    found = await house.step.find_as(ANN, FindContext((said("user", QUESTION),), "gpt"))
    assert len(msgspec.json.decode(found.content)["learnings"]) == 3
