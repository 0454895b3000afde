"""Agents and tools as data: what is assumed where nothing is said."""

from dragoman.core.agents import NO_ARGUMENTS, AgentSpec, Repeat, ToolSpec


def test_a_tool_that_says_nothing_of_repeats_is_never_run_again_by_itself() -> None:
    tool = ToolSpec("write_file", "Writes.", NO_ARGUMENTS)
    assert tool.repeat is Repeat.ONCE
    assert tool.timeout_s == 60.0


def test_an_agent_that_names_no_tools_and_no_model_holds_all_and_asks_the_default() -> None:
    agent = AgentSpec("assistant", "Help.")
    assert (agent.tools, agent.model) == (("*",), "")


def test_the_rules_of_repeating_are_spelled_as_they_are_kept() -> None:
    assert [str(rule) for rule in Repeat] == ["pure", "idempotent", "once"]
