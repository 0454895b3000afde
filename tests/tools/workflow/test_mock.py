"""Results that a model invents: what it is told, what a stand-in says, and when there is nobody to ask."""

import json

from dragoman.core.errors import BackendFailed
from dragoman.core.workflows import ToolKind
from dragoman.tools.workflow.mock import INSTRUCTIONS_CHARS_MAX
from tests.tools.workflow.staging import Asked, Bench, tool


async def test_the_model_is_told_the_tool_the_instructions_and_the_arguments(bench: Bench):
    ask = Asked('{"state": "shipped"}')
    outcome = await bench.call(tool(ToolKind.MOCK, instructions="Say it was shipped."), ask=ask)
    assert (outcome.content, outcome.is_error) == ('{"state": "shipped"}', False)
    (((system, user), plain),) = ask.asked
    assert (system.role, user.role) == ("system", "user")
    for part in ("look_up", "Looks an order up.", '"required":["order"]', "Say it was shipped."):
        assert part in system.text
    assert user.text == 'Arguments: {"order":"42"}'
    assert plain == "Say it was shipped."


async def test_without_instructions_a_stand_in_says_what_was_called(bench: Bench):
    ask = Asked()
    await bench.call(tool(ToolKind.MOCK), ask=ask)
    ((_, plain),) = ask.asked
    assert json.loads(plain) == {"tool": "look_up", "arguments": {"order": "42"}, "mocked": True}


async def test_instructions_may_be_so_long_and_are_cut_after_that(bench: Bench):
    for chars in (INSTRUCTIONS_CHARS_MAX, INSTRUCTIONS_CHARS_MAX + 1):
        ask = Asked()
        await bench.call(tool(ToolKind.MOCK, instructions="x" * chars), ask=ask)
        assert ask.asked[0][1] == "x" * INSTRUCTIONS_CHARS_MAX


async def test_outside_a_turn_there_is_nobody_to_ask(bench: Bench):
    outcome = await bench.call(tool(ToolKind.MOCK))
    assert (outcome.content, outcome.is_error) == (
        "look_up is mocked, and outside a turn there is no model that could invent its result.",
        True,
    )


async def test_a_model_that_fails_or_says_nothing_is_an_error_that_the_turn_goes_on_with(bench: Bench):
    failing = Asked(fails=BackendFailed("The model is away.", internal="secret address"))
    outcome = await bench.call(tool(ToolKind.MOCK), ask=failing)
    assert (outcome.content, outcome.is_error) == (
        "look_up is mocked, and the model that was to invent its result failed: The model is away.",
        True,
    )
    outcome = await bench.call(tool(ToolKind.MOCK), ask=Asked(" \n"))
    assert outcome.is_error and outcome.content.endswith("said nothing.")
