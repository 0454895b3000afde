"""Tools that MCP servers have: the harbor's help desk, as a connection of the configuration."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.dialects.rowboat.conformance.kit import Rowboat, harbor, rowboat_of, user
from tests.rowboat_webhook import Receiver

pytest.importorskip("mcp", reason="the MCP SDK is not installed: pip install 'dragoman[mcp]'")

from tests.dialects.rowboat.conformance.helpdesk import helpdesk_of

AT_ESCALATION = {"last_agent_name": "Human Escalation"}
CALLED = ["Human Escalation calls open_ticket", "result of open_ticket", "Human Escalation external"]

Tickets = list[tuple[str, str]]


@pytest.fixture
def tickets() -> Tickets:
    return []


@pytest.fixture
def helpdesk(tickets: Tickets) -> Iterator[str]:
    with helpdesk_of(tickets) as served:
        yield f"{served.url}/mcp"


@pytest.fixture
async def staffed(hook: Receiver, helpdesk: str, tmp_path: Path) -> AsyncIterator[Rowboat]:
    async with rowboat_of(tmp_path, hook, helpdesk=helpdesk) as scene:
        await scene.take_in(harbor())
        yield scene


async def test_a_tool_of_an_mcp_server_is_called_there(staffed: Rowboat, tickets: Tickets) -> None:
    staffed.model.call("Human Escalation", ("open_ticket", {"summary": "angry", "priority": "high"}))
    staffed.model.say("Human Escalation", "It is written down.")
    turn = await staffed.chat(user("a person!"), state=AT_ESCALATION)
    assert turn.kinds == CALLED
    assert "ticket T-1" in turn.messages[1]["content"]
    assert tickets == [("angry", "high")]
    assert "ticket T-1" in staffed.model.asked[-1].whole


async def test_what_an_mcp_server_refuses_the_model_is_told(staffed: Rowboat, tickets: Tickets) -> None:
    staffed.model.call("Human Escalation", ("open_ticket", {"summary": "refuse"}))
    staffed.model.say("Human Escalation", "Sorry.")
    turn = await staffed.chat(user("a person!"), state=AT_ESCALATION)
    assert turn.kinds == CALLED
    assert "No more tickets today." in turn.messages[1]["content"]
    assert tickets == []


async def test_arguments_that_do_not_fit_reach_no_mcp_server(staffed: Rowboat, tickets: Tickets) -> None:
    staffed.model.call("Human Escalation", ("open_ticket", {"summary": "x", "priority": "now"}))
    staffed.model.say("Human Escalation", "Sorry.")
    turn = await staffed.chat(user("a person!"), state=AT_ESCALATION)
    assert turn.kinds == CALLED and "priority" in turn.messages[1]["content"]
    assert tickets == []


async def test_a_server_that_nobody_has_set_up_is_told_to_the_model(hook: Receiver, tmp_path: Path) -> None:
    async with rowboat_of(tmp_path, hook) as scene:
        await scene.take_in(harbor())
        scene.model.call("Human Escalation", ("open_ticket", {"summary": "x"}))
        scene.model.say("Human Escalation", "Sorry.")
        turn = await scene.chat(user("a person!"), state=AT_ESCALATION)
        assert turn.kinds == CALLED and "helpdesk" in turn.messages[1]["content"]
