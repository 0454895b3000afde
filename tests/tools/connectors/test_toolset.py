"""The connectors tools as models use them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest

from dragoman.core.agents import Repeat
from dragoman.core.connectors import CreateConnector, Executed
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.runtime.connector_checks import KINDS
from dragoman.runtime.connectors import Opened
from dragoman.runtime.tool_ports import ToolOutcome
from dragoman.tools.connectors.toolset import PARAMS, register_connectors
from dragoman.tools.registry import Registry
from tests.runtime.connecting import AI, Board

Call = Callable[..., Awaitable[ToolOutcome]]

CHIEF = Principal(ProjectId("default"), "c", "c", frozenset({Scope.ADMIN}))
SLACK = {"webhookUrl": "https://example.com/T0"}


@pytest.fixture
async def board(registry: Registry) -> Board:
    board = Board()
    register_connectors(registry, board.connectors)
    for wanted in (
        CreateConnector(".slack", "Alerts", {}, SLACK, id="alerts"),
        CreateConnector(".server-log", "Log", id="log"),
        CreateConnector(".gen-ai", "LLM", AI, id="llm"),
    ):
        await board.connectors.create(CHIEF, wanted)
    return board


async def test_what_can_be_told_something(board: Board, call: Call):
    outcome = await call("get_connector_info")
    assert msgspec.json.decode(outcome.content) == {
        "connectors": [{"id": "alerts", "type": ".slack", "name": "Alerts", "params": {"message": "text"}}]
    }


async def test_one_is_executed_once(board: Board, call: Call, registry: Registry):
    outcome = await call("execute_connector", id="alerts", params={"message": "hi"})

    assert not outcome.is_error
    assert msgspec.json.decode(outcome.content) == {"status": "ok", "connector_id": "alerts", "data": None}
    [(opened, params, key)] = board.executor.executed
    assert (opened.id, params, key) == ("alerts", {"message": "hi"}, "run-1:call-1")
    spec = registry.spec("execute_connector")
    assert spec is not None
    assert (spec.repeat, spec.toolset) == (Repeat.ONCE, "connectors")


@pytest.mark.parametrize(
    ("connector", "said"),
    [
        ("nope", "There is no connector 'nope'. See get_connector_info for those there are."),
        ("main", "There is no connector 'main'. See get_connector_info for those there are."),
        ("log", "The connector log is of type .server-log; only .webhook, .slack, .slack_api, .email can be executed."),
        ("llm", "The connector llm is of type .gen-ai; only .webhook, .slack, .slack_api, .email can be executed."),
    ],
)
async def test_what_a_model_may_not_execute(board: Board, call: Call, connector: str, said: str):
    outcome = await call("execute_connector", id=connector, params={})
    assert (outcome.is_error, outcome.content) == (True, said)
    assert board.executor.executed == []


async def test_a_refusal_reaches_the_model(board: Board, call: Call, monkeypatch: pytest.MonkeyPatch):
    async def refuse(connector: Opened, params: Mapping[str, Any], *, key: str) -> Executed:
        return Executed(connector.id, False, message="error calling slack", service_message="[404] Not Found")

    monkeypatch.setattr(board.executor, "execute", refuse)
    outcome = await call("execute_connector", id="alerts", params={})
    assert (outcome.is_error, outcome.content) == (
        True,
        "error calling slack: [404] Not Found. Tell the user what was not sent.",
    )


async def test_arguments_must_fit(board: Board, call: Call):
    assert (await call("execute_connector", id="alerts")).code == "bad_arguments"


def test_params_are_told_for_each_kind_that_is_lent():
    assert set(PARAMS) == {kind.id for kind in KINDS.values() if kind.lent}
