"""The tools on what is known and on the screen, as a turn calls them."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from dragoman.core.agents import Repeat
from dragoman.core.knowledge import EntryRole, KnowledgeEntry
from dragoman.core.messages import ToolCall, said
from dragoman.core.names import CallId, ProjectId
from dragoman.core.screen import NO_SCREEN, Screen, ScreenItem
from dragoman.models.catalogue import Catalogue
from dragoman.models.scripted import Scripted
from dragoman.runtime import knowledge as limits
from dragoman.runtime.context import ContextStep
from dragoman.runtime.knowledge import KnowledgeBase
from dragoman.runtime.tool_ports import CallContext, ToolOutcome
from dragoman.stores.memory.knowledge import MemoryKnowledge
from dragoman.stores.memory.records import MemoryRecords
from dragoman.tools.knowledge import CONTEXT, GET_DATA_ON_SCREEN, SUMMARIZE, register_knowledge
from dragoman.tools.registry import Registry
from tests.support import FixedClock

P = ProjectId("p")
CALL = CallContext(P, "run-1:call-1", "ann", "Ann", True, (said("user", "Which color?"),))
SCREEN = Screen("", (ScreenItem("list", "A list", "[1,2]"), ScreenItem("text", "A text", '"t"')))


class House:
    def __init__(self) -> None:
        clock = FixedClock()
        self.knowledge = MemoryKnowledge(clock)
        base = KnowledgeBase(self.knowledge, MemoryRecords(clock))
        self.registry = Registry()
        register_knowledge(
            self.registry, base, ContextStep(base, Catalogue({"m": Scripted([], sleep=asyncio.sleep)}, "m"))
        )

    async def call(self, name: str, context: CallContext = CALL, **arguments: Any) -> ToolOutcome:
        call = ToolCall(CallId("call-1"), name, msgspec.json.encode(arguments).decode())
        return await self.registry.call(call, context)

    async def look(self, *names: str, screen: Screen = SCREEN) -> ToolOutcome:
        return await self.call("get_data_on_screen", replace(CALL, screen=screen), data=names)

    async def entries(self) -> list[KnowledgeEntry]:
        return list(await self.knowledge.page(P, limit=10))


@pytest.fixture
def house() -> House:
    return House()


def test_who_is_offered_which(house: House):
    assert house.registry.specs(("knowledge.*",)) == (SUMMARIZE,)
    assert house.registry.specs(("knowledge.*",), on_screen=True) == (SUMMARIZE, GET_DATA_ON_SCREEN)
    assert house.registry.spec("context") is CONTEXT
    assert [tool.repeat for tool in (CONTEXT, SUMMARIZE, GET_DATA_ON_SCREEN)] == [
        Repeat.PURE,
        Repeat.IDEMPOTENT,
        Repeat.PURE,
    ]


# -- context ---------------------------------------------------------------------------------------------------------


async def test_I1_context_tells_what_is_known_and_shows_where_from(house: House):
    assert await house.call("context") == ToolOutcome('{"screen_description":"","learnings":[]}')
    await house.knowledge.put([KnowledgeEntry(P, "a", "My color is blue.")])
    outcome = await house.call("context")
    assert [each["text"] for each in msgspec.json.decode(outcome.content)["learnings"]] == ["My color is blue."]
    assert [each["id"] for each in msgspec.json.decode(outcome.shown)["suggestions"]] == ["a"]


async def test_a_store_that_is_gone_is_told(house: House):
    house.knowledge.close()
    assert await house.call("context") == ToolOutcome("The store is closed.", True, "tool_failed")


# -- summarize -------------------------------------------------------------------------------------------------------


async def test_F3_what_is_to_be_remembered_becomes_an_entry_of_the_users(house: House):
    outcome = await house.call("summarize", title="My Title", text="Hello world", public=False)
    assert outcome == ToolOutcome('{"message":"It is in the knowledge base now, for this user."}')
    (kept,) = await house.entries()
    assert kept == KnowledgeEntry(
        P,
        kept.id,
        "Hello world",
        "My Title",
        public=False,
        role=EntryRole.ASSISTANT,
        owner="ann",
        owner_name="Ann",
        updated_at=kept.updated_at,
    )
    assert len(kept.id) == 36


async def test_the_same_call_again_remembers_it_once(house: House):
    for _ in range(2):
        await house.call("summarize", title="t", text="x", public=False)
    await house.call("summarize", replace(CALL, key="run-1:call-2"), title="t", text="x", public=False)
    assert len(await house.entries()) == 2


async def test_what_nobody_asked_for_can_only_be_public(house: House):
    nobodys = CallContext(P, "call-1", wide=True)
    outcome = await house.call("summarize", nobodys, title="t", text="x", public=False)
    assert outcome.is_error
    assert "set public" in outcome.content
    outcome = await house.call("summarize", nobodys, title="t", text="x", public=True)
    assert outcome == ToolOutcome('{"message":"It is in the knowledge base now, for everybody in the project."}')


@pytest.mark.parametrize("left_out", ["title", "text", "public"])
async def test_all_of_it_must_be_said(house: House, left_out: str):
    arguments: dict[str, Any] = {"title": "t", "text": "x", "public": False}
    del arguments[left_out]
    outcome = await house.call("summarize", **arguments)
    assert outcome.code == "bad_arguments"
    assert left_out in outcome.content


async def test_the_model_is_told_of_limits(house: House, monkeypatch: pytest.MonkeyPatch):
    assert (await house.call("summarize", title="t", text="x" * 16_001, public=False)).code == "bad_arguments"
    blank = await house.call("summarize", title="t", text="  ", public=False)
    assert (blank.code, "has no text" in blank.content) == ("tool_failed", True)
    monkeypatch.setattr(limits, "ENTRIES_MAX", 0)
    full = await house.call("summarize", title="t", text="x", public=False)
    assert full.content.endswith("delete some first.")
    assert await house.entries() == []


# -- the screen ------------------------------------------------------------------------------------------------------


async def test_things_on_the_screen_are_told_by_name(house: House):
    outcome = await house.look("text", "nothing of the kind")
    assert outcome == ToolOutcome('{"data":[{"name":"text","description":"A text","value":"t"}]}')


async def test_without_names_what_there_is_is_listed(house: House):
    outcome = await house.look()
    assert outcome == ToolOutcome(
        '{"data":[{"name":"list","description":"A list"},{"name":"text","description":"A text"}]}'
    )


async def test_a_wrong_name_is_answered_with_the_right_ones(house: House):
    outcome = await house.look("nothing")
    assert outcome == ToolOutcome("Nothing on the screen is called so. There is: 'list', 'text'.", True, "tool_failed")


async def test_a_turn_without_a_screen_has_nothing_to_look_at(house: House):
    outcome = await house.look("list", screen=NO_SCREEN)
    assert outcome.is_error
    assert "Nothing is known of what the user sees" in outcome.content
