"""Approvals over the house's own endpoints: who sees what waits, what a decision binds, and what each refusal says."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from dragoman.core.messages import ToolCall, said
from dragoman.core.names import CallId, ConversationId, Principal, Scope
from dragoman.core.operations import Outcome, StartTurn
from dragoman.edge.approvals import ROUTES
from dragoman.runtime.ports import ReplyDone
from dragoman.runtime.waiting import arguments_hash
from dragoman.server.config_shapes import AgentTable
from tests.parts import ADMIN, ScriptedReplies, open_config, text_reply
from tests.stage import SetUp, Stage
from tests.streaming_client import Client, Response

CALL = ToolCall(CallId("call/1 é"), "look", '{"path": "\u202ea.txt"}')
SHOWN = '{"path":"\\u202ea.txt"}'
WAIT_S = 5.0


class Waiting:
    """A run of Ann's that waits for approval of CALL, and callers with credentials of their own."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.clients: dict[str, Client] = {}
        self.run = ""

    async def caller(self, name: str, *scopes: Scope) -> Principal:
        minted = await self.stage.house.mint.create(name, ADMIN.project, scopes=scopes)
        headers = {"authorization": f"Bearer {minted.text}", "content-type": "application/json"}
        self.clients[name] = Client(self.stage.house.app, headers=headers)
        return Principal(ADMIN.project, minted.credential.id, name, frozenset(scopes), rpm=0)

    async def get(self, name: str) -> Response:
        return await self.clients[name].request("GET", "/api/waiting")

    async def post(self, name: str, body: Any, *, run: str = "", call: str = CALL.id) -> Response:
        path = f"/api/runs/{run or self.run}/approvals/{quote(call, safe='')}"
        said = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.clients[name].request("POST", path, body=said)

    async def decide(self, name: str, approved: bool, *, arguments_hash: str = arguments_hash(CALL)) -> Response:
        return await self.post(name, {"approved": approved, "arguments_hash": arguments_hash})


@asynccontextmanager
async def waiting(stage: SetUp) -> AsyncGenerator[tuple[Waiting, "asyncio.Task[Outcome]"]]:
    config = open_config()
    config = replace(config, agents={"assistant": AgentTable(ask=("look",))})
    model = ScriptedReplies([ReplyDone("", (CALL,), finish_reason="tool_calls")], text_reply("done"))
    async with stage(config=config, model=model) as s:
        w = Waiting(s)
        ann = await w.caller("ann", Scope.CHAT_RUN, Scope.TOOLS_APPROVE)
        await w.caller("bob", Scope.CHAT_RUN, Scope.TOOLS_APPROVE)
        await w.caller("root", Scope.ADMIN)
        await w.caller("reader", Scope.CHAT_RUN, Scope.CHAT_READ)
        started = await s.house.desk.answer(ann, StartTurn(ConversationId("k"), (said("user", "look"),)))
        w.run = started.run
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            while not json.loads((await w.get("ann")).body)["approvals"]:
                await asyncio.sleep(0)
            outcome = group.create_task(s.house.desk.outcome(started))
            yield w, outcome
            if not outcome.done():
                await w.decide("ann", False)


async def test_what_waits_is_shown_as_it_is_hashed_to_its_owner_and_to_an_admin(stage: SetUp) -> None:
    async with waiting(stage) as (w, _):
        asked_at = w.stage.clock.now()
        told = await w.get("ann")
        assert json.loads(told.body) == {
            "approvals": [
                {
                    "run": w.run,
                    "conversation": "k",
                    "owner": json.loads(told.body)["approvals"][0]["owner"],
                    "call": CALL.id,
                    "tool": "look",
                    "arguments": SHOWN,
                    "arguments_hash": arguments_hash(CALL),
                    "asked_at": asked_at,
                    "expires_at": asked_at + 120.0,
                }
            ],
            "more": False,
        }
        assert (await w.get("root")).body == told.body
        assert json.loads((await w.get("bob")).body) == {"approvals": [], "more": False}


@pytest.mark.parametrize(("who", "approved"), [("ann", True), ("root", True), ("ann", False)])
async def test_a_decision_is_heeded_and_the_same_again_is_no_error(stage: SetUp, who: str, approved: bool) -> None:
    async with waiting(stage) as (w, outcome):
        for repeated in (False, True):
            decided = await w.decide(who, approved)
            assert (decided.status, json.loads(decided.body)) == (
                200,
                {"run": w.run, "call": CALL.id, "approved": approved, "repeated": repeated},
            )
        assert (await outcome).text == "done"
        assert w.stage.tools.effects.total() == approved
        otherwise = await w.decide("root", not approved)
        assert (otherwise.status, json.loads(otherwise.body)["error"]["code"]) == (409, "conflict")


async def test_a_decision_about_other_arguments_counts_for_nothing(stage: SetUp) -> None:
    async with waiting(stage) as (w, outcome):
        refused = await w.decide("ann", True, arguments_hash=arguments_hash(replace(CALL, arguments="{}")))
        assert (refused.status, json.loads(refused.body)["error"]["message"]) == (
            409,
            "Other arguments are meant: look at what is asked now, and decide about that.",
        )
        assert len(json.loads((await w.get("ann")).body)["approvals"]) == 1 and not outcome.done()


async def test_a_decision_that_comes_too_late_is_told_so(stage: SetUp) -> None:
    async with waiting(stage) as (w, _):
        w.stage.clock.move(121.0)
        assert json.loads((await w.get("ann")).body)["approvals"] == []
        assert (await w.decide("ann", True)).status == 410


async def test_who_may_not_decide_learns_nothing(stage: SetUp) -> None:
    async with waiting(stage) as (w, _):
        body = {"approved": True, "arguments_hash": arguments_hash(CALL)}
        for name in ("get", "post"):
            refused = await (w.get("reader") if name == "get" else w.post("reader", body))
            assert (refused.status, b"tools:approve" in refused.body) == (403, True)
        theirs, nothing = await w.post("bob", body), await w.post("bob", body, run="r_nothing")
        assert (theirs.status, nothing.status) == (404, 404)
        assert json.loads(theirs.body)["error"]["message"] == f"There is no run {w.run}."
        assert json.loads(nothing.body)["error"]["message"] == "There is no run r_nothing."
        assert (await w.post("ann", body, call="other")).status == 404
        assert len(json.loads((await w.get("ann")).body)["approvals"]) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"no", b"[]", {}, {"approved": True}, {"approved": "yes", "arguments_hash": "x"}, {"arguments_hash": "x"}],
)
async def test_a_body_that_decides_nothing_is_refused(stage: SetUp, body: Any) -> None:
    async with waiting(stage) as (w, outcome):
        assert (await w.post("ann", body)).status == 400 and not outcome.done()


def test_both_endpoints_want_the_scope_that_is_for_approving() -> None:
    assert [route.scopes for route in ROUTES] == [(Scope.TOOLS_APPROVE,)] * 2
