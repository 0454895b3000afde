"""Who runs a call: what the turn mocks comes before what the tool is; and what goes wrong is always an outcome."""

import asyncio
import json
import logging

import pytest
from msgspec.structs import replace

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import ToolFailed, Unavailable
from dragoman.core.workflows import Staging, ToolKind
from dragoman.tools.registry import OUTPUT_BYTES_MAX
from dragoman.tools.workflow import dispatch
from tests.tools.workflow.staging import KEY, MEMBER, Asked, Bench, P, tool

TAKING = ToolSpec("run_query", "Runs a query.", {"type": "object", "properties": {}})


async def test_a_tool_of_an_mcp_server_is_asked_there(bench: Bench):
    outcome = await bench.call(tool(ToolKind.MCP, server="helpdesk", timeout_s=7.0))
    assert outcome.content == "from the server"
    assert bench.mcp.called == [(P, "helpdesk", "look_up", {"order": "42"}, KEY, 7.0)]


async def test_what_is_missing_here_says_why(bench: Bench):
    outcome = await bench.call(tool(ToolKind.MISSING, why="Composio is not connected here."))
    assert (outcome.content, outcome.is_error) == ("Composio is not connected here.", True)
    assert "cannot be run here" in (await bench.call(tool(ToolKind.MISSING))).content


MOCKING = [
    (Staging("v", mocks={"look_up": "by name"}), "by name"),
    (Staging("v", mocks={"look_up": ""}), "own"),
    (Staging("v", mock_all=True, mock_prompt="by profile"), "by profile"),
    (Staging("v", mock_all=True), "own"),
    (Staging("v", mocks={"look_up": "by name"}, mock_all=True, mock_prompt="by profile"), "by name"),
]


@pytest.mark.parametrize("kind", list(ToolKind))
@pytest.mark.parametrize(("staging", "goes_by"), MOCKING)
async def test_what_a_turn_mocks_is_mocked_whatever_it_is(bench: Bench, kind: ToolKind, staging: Staging, goes_by: str):
    ask = Asked()
    outcome = await bench.call(tool(kind, instructions="own", why="gone", server="s"), staging=staging, ask=ask)
    assert (outcome.content, outcome.is_error) == ("invented", False)
    assert [plain for _, plain in ask.asked] == [goes_by] and bench.mcp.called == []


async def test_a_tool_that_is_not_among_the_mocks_runs(bench: Bench):
    staging = Staging("v", mocks={"another": "x"})
    assert (await bench.call(tool(ToolKind.MCP), staging=staging, ask=Asked())).content == "from the server"


async def test_a_tool_of_the_servers_can_be_mocked_too(bench: Bench):
    for staging, goes_by in (
        (Staging("v", mocks={"run_query": "Say 7."}), "Say 7."),
        (Staging("v", mock_all=True), '{"tool":"run_query","arguments":{},"mocked":true}'),
    ):
        ask = Asked()
        outcome = await bench.call(None, "{}", name="run_query", spec=TAKING, staging=staging, ask=ask)
        assert outcome.content == "invented" and ask.asked[0][1] == goes_by


async def test_a_tool_of_the_servers_that_is_not_mocked_is_not_ours_to_run(bench: Bench):
    for spec in (TAKING, None):
        outcome = await bench.call(None, "{}", name="run_query", spec=spec)
        assert (outcome.is_error, outcome.code) == (True, "unknown_tool")


@pytest.mark.parametrize("kind", [ToolKind.MCP, ToolKind.WEBHOOK, ToolKind.MOCK])
@pytest.mark.parametrize("arguments", ["{}", '{"order": 1}', "[]", "{", '"x"'])
async def test_arguments_that_do_not_fit_run_nothing(bench: Bench, kind: ToolKind, arguments: str):
    ask = Asked()
    outcome = await bench.call(tool(kind, server="s"), arguments, ask=ask)
    assert (outcome.is_error, outcome.code) == (True, "bad_arguments")
    assert outcome.content.endswith("Correct them and call look_up again.")
    assert ask.asked == [] and bench.mcp.called == []


async def test_a_schema_that_is_none_lets_every_object_pass(bench: Bench):
    given = tool(ToolKind.MCP)
    odd = replace(given, spec=replace(given.spec, parameters={"type": "nonsense"}))
    for _ in range(2):
        assert not (await bench.call(odd, '{"a": 1}')).is_error
    assert (await bench.call(odd, "[]")).code == "bad_arguments"


async def test_so_many_schemas_are_remembered_and_no_more(bench: Bench):
    given = tool(ToolKind.MCP)
    for number in range(dispatch.CHECKERS_MAX + 1):
        schema = {"type": "object", "required": [f"a{number}"]}
        outcome = await bench.call(replace(given, spec=replace(given.spec, parameters=schema)), json.dumps({"b": 1}))
        assert outcome.code == "bad_arguments"
    assert len(bench.toolbox._checkers._known) <= dispatch.CHECKERS_MAX


async def test_a_failure_is_an_outcome_with_its_sentence(bench: Bench):
    bench.mcp.fails = ToolFailed("The server is away.", code="timeout")
    outcome = await bench.call(tool(ToolKind.MCP))
    assert (outcome.content, outcome.is_error, outcome.code) == ("The server is away.", True, "timeout")


async def test_a_fault_of_ours_is_an_outcome_that_tells_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    async def fail(*given: object) -> str:
        raise RuntimeError("secret")

    monkeypatch.setattr(bench.mcp, "call", fail)
    outcome = await bench.call(tool(ToolKind.MCP))
    assert (outcome.is_error, outcome.code) == (True, "tool_failed") and "secret" not in outcome.content


async def test_what_takes_too_long_is_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    async def hang(*given: object) -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(bench.mcp, "call", hang)
    outcome = await bench.call(tool(ToolKind.MCP, timeout_s=0.02))
    assert outcome.code == "timeout" and "It may still have had its effect" in outcome.content


async def test_a_mock_that_takes_too_long_has_had_no_effect(bench: Bench):
    class Hanging(Asked):
        async def __call__(self, *given: object, **more: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            await asyncio.Event().wait()

    outcome = await bench.call(tool(ToolKind.MOCK, timeout_s=0.02), ask=Hanging())
    assert outcome.code == "timeout" and "effect" not in outcome.content


async def test_a_cancellation_goes_through(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    begun = asyncio.Event()

    async def hang(*given: object) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(bench.mcp, "call", hang)
    task = asyncio.create_task(bench.call(tool(ToolKind.MCP)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_result_is_cut_at_the_cap(bench: Bench):
    for size in (OUTPUT_BYTES_MAX, OUTPUT_BYTES_MAX + 1):
        outcome = await bench.call(tool(ToolKind.MOCK), ask=Asked("x" * size), member=MEMBER)
        assert len(outcome.content) <= OUTPUT_BYTES_MAX
        assert ("left out" in outcome.content) == (size > OUTPUT_BYTES_MAX)


async def test_an_outside_system_that_fails_is_told_once_to_who_runs_the_server_and_without_what_it_said(
    bench: Bench, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, "dragoman.tools"):
        outcome = await bench.call(tool(ToolKind.WEBHOOK))  # there is none set
        assert outcome.is_error
        await bench.call(tool(ToolKind.MISSING))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"tool look_up ({KEY}) could not: tool_failed; project p, webhook of workflow v"),
        ("INFO", f"tool look_up ({KEY}) could not: missing"),
    ]


async def test_a_secret_that_cannot_be_read_is_one_line_that_says_what_to_do(
    bench: Bench, caplog: pytest.LogCaptureFixture
):
    bench.mcp.fails = Unavailable("Put the old key back.", code="secret_unreadable")
    outcome = await bench.call(tool(ToolKind.MCP, server="s"))
    assert (outcome.code, "old key" in outcome.content) == ("tool_failed", False)
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("ERROR", None)
    assert record.getMessage() == f"tool look_up ({KEY}) failed: Put the old key back.; project p"
