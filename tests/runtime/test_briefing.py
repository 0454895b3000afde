"""The system message of a turn, and that it can be known beforehand."""

from collections.abc import Sequence

import pytest

from dragoman.core.agents import NO_ARGUMENTS, AgentSpec, Offered, ToolSpec
from dragoman.core.knowledge import FunctionShown, ListFunctions, PutInstruction
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, Principal, ProjectId, Scope
from dragoman.core.operations import Briefing, Instruction, StartTurn
from dragoman.runtime.briefing import HEADING, INSTRUCTIONS_TOKENS_MAX, Briefings, system_text
from dragoman.runtime.history import CHARS_PER_TOKEN
from dragoman.runtime.knowledge import KnowledgeBase
from dragoman.stores.memory.knowledge import MemoryKnowledge
from dragoman.stores.memory.records import MemoryRecords
from dragoman.tools.registry import Registry
from tests.support import FixedClock

ROOM = INSTRUCTIONS_TOKENS_MAX * CHARS_PER_TOKEN
P = ProjectId("p")
ANN = Principal(P, "ann", "ann", frozenset({Scope.RESOURCES_WRITE}))
BOB = Principal(P, "bob", "bob", frozenset())


def wanted(*texts: str) -> list[Instruction]:
    return [Instruction(text[:8], text) for text in texts]


def part(*texts: str) -> str:
    return "\n\n".join((HEADING, *texts))


# -- the text --------------------------------------------------------------------------------------------------------


def test_what_the_application_says_comes_before_what_the_user_wants():
    text = system_text(("Agent.", "Turn."), ("Note.",), wanted("asked"), wanted("kept"))
    assert text == "Agent.\n\nTurn.\n\nNote.\n\n" + part("asked", "kept")


def test_what_is_not_there_leaves_no_trace():
    assert system_text(("Agent.", ""), ("",), (), ()) == "Agent."
    assert system_text(("Agent.",), (), wanted("  "), ()) == "Agent."
    assert system_text(("",), (), (), ()) == ""


def test_of_two_with_one_id_the_requests_counts():
    asked, kept = (Instruction("i", "asked"),), (Instruction("i", "kept"), Instruction("j", "other"))
    assert system_text((), (), asked, kept) == part("asked", "other")


def test_instructions_without_an_id_are_all_different():
    assert system_text((), (), (Instruction("", "a"), Instruction("", "b")), ()) == part("a", "b")


def test_D14_one_that_does_not_fit_is_left_out():
    fits, over = "x" * ROOM, "y" * (ROOM + 1)
    assert system_text((), (), wanted(fits), ()) == part(fits)
    assert system_text((), (), wanted(over), ()) == ""
    assert system_text((), (), wanted("first", "x" * (ROOM - 5)), wanted("z")) == part("first", "x" * (ROOM - 5))
    assert system_text((), (), wanted("first", "x" * (ROOM - 4)), wanted("last")) == part("first", "last")


def test_one_that_was_left_out_still_counts_as_the_first_of_its_id():
    asked, kept = (Instruction("i", "x" * (ROOM + 1)),), (Instruction("i", "kept"),)
    assert system_text((), (), asked, kept) == ""


# -- turns -----------------------------------------------------------------------------------------------------------

QUERY = ToolSpec("query", "Asks.", {"type": "object", "properties": {"q": {"type": "string"}}}, toolset="es")
CONTEXT = ToolSpec("context", "Begins.", NO_ARGUMENTS, toolset="knowledge", offered=Offered.NEVER)
SCREEN = ToolSpec("get_data_on_screen", "Looks.", NO_ARGUMENTS, toolset="knowledge", offered=Offered.ON_SCREEN)
HIDDEN = ToolSpec("delete_all", "Deletes.", NO_ARGUMENTS, toolset="danger")


async def nothing(*_: object) -> str:
    return ""


class House:
    def __init__(self, tools: Sequence[ToolSpec] = (QUERY, CONTEXT, SCREEN, HIDDEN)) -> None:
        clock = FixedClock()
        self.base = KnowledgeBase(MemoryKnowledge(clock), MemoryRecords(clock))
        registry = Registry()
        for tool in tools:
            registry.register(tool, nothing)
        agents = {
            "main": AgentSpec("main", "You are main.", tools=("es.*", "knowledge.*")),
            "side": AgentSpec("side", "You are side."),
        }
        self.briefings = Briefings(self.base, registry, agents, default_agent="main")

    async def system(self, who: Principal, briefing: Briefing | None, **turn: object) -> str:
        asked = StartTurn(ConversationId("c"), (said("user", "hi"),), briefing=briefing, **turn)  # type: ignore[arg-type] of several types
        return (await self.briefings.brief(who, asked)).system


@pytest.fixture
def house() -> House:
    return House()


async def test_a_turn_without_a_briefing_stays_as_it_is(house: House):
    turn = StartTurn(ConversationId("c"), (said("user", "hi"),), system="As it is.")
    assert await house.briefings.brief(ANN, turn) is turn


async def test_a_turn_is_told_what_its_agent_and_its_caller_say(house: House):
    assert await house.system(ANN, Briefing()) == "You are main."
    assert await house.system(ANN, Briefing(), agent="side", instructions=("More.",)) == "You are side.\n\nMore."
    assert await house.system(ANN, Briefing(), agent="nobody") == "You are main."
    briefing = Briefing(("Note.",), (Instruction("i", "Be short."),))
    assert await house.system(ANN, briefing) == "You are main.\n\nNote.\n\n" + part("Be short.")


async def test_K6_kept_instructions_are_told_to_those_they_are_for(house: House):
    await house.base.put_instruction(ANN, PutInstruction("mine", "Say it in verse.", public=False))
    await house.base.put_instruction(ANN, PutInstruction("all", "Be polite.", public=True))
    assert await house.system(ANN, Briefing()) == "You are main.\n\n" + part("Say it in verse.", "Be polite.")
    assert await house.system(BOB, Briefing()) == "You are main.\n\n" + part("Be polite.")
    again = Briefing(instructions=(Instruction("all", "Be rude."),))
    assert await house.system(BOB, again) == "You are main.\n\n" + part("Be rude.")


async def test_I2_what_the_model_would_be_told_is_told_beforehand(house: House):
    await house.base.put_instruction(ANN, PutInstruction("mine", "Be short.", public=False))
    for notes, asked in (((), ()), (("Note.",), (Instruction("i", "In French."),))):
        told = await house.briefings.functions(ANN, ListFunctions(notes, asked))
        assert told.system == await house.system(ANN, Briefing(notes, asked))


async def test_the_tools_of_a_turn_without_a_screen_are_listed_and_the_one_it_begins_with(house: House):
    told = await house.briefings.functions(ANN, ListFunctions())
    assert told.tools == (
        FunctionShown("context", "Begins.", NO_ARGUMENTS, True),
        FunctionShown("query", "Asks.", QUERY.parameters, False),
    )
    assert list(house.briefings.handlers()) == [ListFunctions]


async def test_a_tool_that_is_not_there_is_not_listed():
    told = await House((QUERY,)).briefings.functions(ANN, ListFunctions())
    assert [tool.name for tool in told.tools] == ["query"]
