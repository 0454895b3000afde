"""The desk: every operation finds who answers it, and turns that shall leave nothing behind leave nothing."""

import asyncio
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core import operations as ops
from dragoman.core.errors import NotFound
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, Principal, ProjectId, RunId, Scope
from dragoman.core.operations import Operation
from dragoman.edge.desk import Desk
from dragoman.runtime.counters import Counters
from dragoman.stores.sqlite.store import open_store
from tests.parts import ADMIN, Gate, LedgerTools, ScriptedReplies, text_reply
from tests.stage import SetUp, Stage
from tests.support import FixedClock

WAIT_S = 5.0
KEY = ConversationId("k")
MARK = "a question that must leave no trace"


def turn(key: str = "k", text: str = "how is it?", **settings: Any) -> ops.StartTurn:
    return ops.StartTurn(ConversationId(key), (said("user", text),), **settings)


async def talked(desk: Desk, key: str = "k", **settings: Any) -> ops.Started:
    """A turn that has been answered."""
    started = await desk.answer(ADMIN, turn(key, **settings))
    await asyncio.wait_for(desk.outcome(started), WAIT_S)
    return started


@contextmanager
def absent(sentence: str, what: str) -> Iterator[None]:
    with pytest.raises(NotFound) as refused:
        yield
    assert (refused.value.detail, refused.value.what) == (sentence, what)


# -- every operation ---------------------------------------------------------------------------------------------------


def kinds() -> set[type[Operation[Any]]]:
    """Those that every desk answers. Other parts have operations of their own, and handlers for them."""
    return {kind for kind in Operation.__subclasses__() if kind.__module__ == ops.__name__}


def result_of(kind: type[Operation[Any]]) -> type:
    """The type of result that the operation names."""
    (named,) = typing.get_args(kind.__orig_bases__[0])  # type: ignore[attr-defined] every generic class has it
    return getattr(ops, named.__forward_arg__) if isinstance(named, typing.ForwardRef) else named


def samples(run: RunId) -> list[Operation[Any]]:
    """One of each kind, in an order in which each finds what it needs."""
    return [
        ops.ReadConversation(KEY),
        ops.ListConversations(),
        ops.BrowseConversations(),
        ops.UpdateConversation(KEY, title="A talk"),
        ops.FollowConversation(KEY),
        ops.ReadRun(run),
        ops.FollowRun(run),
        ops.CancelRun(run),
        ops.ListTools(),
        ops.CallTool("look"),
        ops.ReadStatus(),
        turn(),
        ops.DeleteConversation(KEY),
    ]


async def test_every_operation_is_answered_with_the_result_that_it_names(stage: SetUp) -> None:
    async with stage() as s:
        started = await talked(s.house.desk)
        asked = samples(started.run)
        assert {type(operation) for operation in asked} == kinds()
        for operation in asked:
            assert type(await s.house.desk.answer(ADMIN, operation)) is result_of(type(operation))


async def test_an_operation_of_no_kind_we_know_is_a_fault_of_ours(stage: SetUp) -> None:
    async with stage() as s:
        with pytest.raises(RuntimeError, match="no desk answers Operation"):
            await s.house.desk.answer(ADMIN, Operation())
        with pytest.raises(RuntimeError, match="no desk answers Operation for anybody"):
            await s.house.desk.answer_anybody(Operation())


async def test_operations_of_other_parts_are_answered_by_whoever_brought_a_handler(stage: SetUp) -> None:
    class Wave(Operation[str], frozen=True):
        pass

    async def wave(principal: Principal, operation: Wave) -> str:
        return f"{principal.name} waves"

    async def wave_back(operation: Wave) -> str:
        return "somebody waves"

    async with stage() as s:
        s.house.desk._handlers[Wave] = wave
        s.house.desk._open_handlers = {Wave: wave_back}
        answers = [await s.house.desk.answer(ADMIN, Wave()), await s.house.desk.answer_anybody(Wave())]
    assert answers == ["tester waves", "somebody waves"]


# -- whose it is -------------------------------------------------------------------------------------------------------

ANNA, BERT = (Principal(ADMIN.project, name, name, frozenset({Scope.CHAT_RUN})) for name in ("anna", "bert"))


@pytest.mark.parametrize("ephemeral", [False, True])
async def test_a_private_run_is_there_for_its_owner_and_for_admins(stage: SetUp, ephemeral: bool) -> None:
    model = ScriptedReplies(text_reply("never"))
    model.gate = Gate()
    async with stage(model=model) as s:
        desk = s.house.desk
        run = (await desk.answer(ANNA, turn(private=True, ephemeral=ephemeral))).run
        asking = (ops.ReadRun(run, private=True), ops.FollowRun(run, private=True), ops.CancelRun(run, private=True))
        for operation in asking:
            with absent(f"There is no run {run}.", "run"):
                await desk.answer(BERT, operation)
        for principal in (ADMIN, ANNA):
            assert (await desk.answer(principal, asking[0])).run.id == run
            assert (await desk.answer(principal, asking[1])).started.run == run
        on_a_wire_without_users = (ops.ReadRun(run), ops.FollowRun(run))
        for operation in on_a_wire_without_users:
            if ephemeral:
                with absent(f"There is no run {run}.", "run"):
                    await desk.answer(BERT, operation)
            else:
                await desk.answer(BERT, operation)
        assert (await desk.answer(ANNA, asking[2])).status == "cancelled"


@pytest.mark.parametrize("ephemeral", [False, True])
async def test_a_private_turn_reaches_only_what_is_the_callers_own(stage: SetUp, ephemeral: bool) -> None:
    async with stage() as s:
        settings: dict[str, Any] = {"private": True, "ephemeral": ephemeral}
        await s.house.desk.answer(ANNA, turn(**settings))
        with absent("There is no conversation k.", "conversation"):
            await s.house.desk.answer(BERT, turn(**settings))
        for principal in (ANNA, ADMIN):
            await s.house.desk.answer(principal, turn(**settings))
        await s.house.desk.answer(BERT, turn(ephemeral=ephemeral))


async def test_a_run_of_a_shared_conversation_may_be_read_and_not_stopped(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("never"))
    model.gate = Gate()
    async with stage(model=model) as s:
        run = (await s.house.desk.answer(ANNA, turn(private=True))).run
        await s.house.desk.answer(ANNA, ops.UpdateConversation(KEY, shared=True, private=True))
        assert (await s.house.desk.answer(BERT, ops.ReadRun(run, private=True))).run.id == run
        with absent(f"There is no run {run}.", "run"):
            await s.house.desk.answer(BERT, ops.CancelRun(run, private=True))


# -- turns, conversations, runs ----------------------------------------------------------------------------------------


async def test_a_turn_is_kept_and_can_be_read_again(stage: SetUp) -> None:
    async with stage() as s:
        started = await s.house.desk.answer(ADMIN, turn())
        outcome = await asyncio.wait_for(s.house.desk.outcome(started), WAIT_S)
        view = await s.house.desk.answer(ADMIN, ops.ReadConversation(KEY))
        page = await s.house.desk.answer(ADMIN, ops.ListConversations())
    assert (started.conversation, started.created, started.ephemeral) == (KEY, True, False)
    assert (outcome.text, outcome.replies, type(outcome.end)) == ("It is fine.", 1, ev.RunCompleted)
    assert [[message.text for message in (*each.asked, *each.answered)] for each in view.turns] == [
        ["how is it?", "It is fine."]
    ]
    assert [info.id for info in page.items] == [KEY]


async def test_an_agent_that_is_not_configured_is_refused_before_anything_is_kept(stage: SetUp) -> None:
    async with stage() as s:
        for operation in (turn(agent="nobody"), turn(agent="nobody", ephemeral=True), ops.ListTools("nobody")):
            with absent("There is no agent nobody.", "agent"):
                await s.house.desk.answer(ADMIN, operation)
        assert await s.store.count(ADMIN.project) == 0


async def test_what_belongs_to_another_project_does_not_exist(stage: SetUp) -> None:
    stranger = type(ADMIN)(ProjectId("other"), "x", "x", ADMIN.scopes)
    async with stage() as s:
        started = await talked(s.house.desk)
        for operation in (ops.ReadConversation(KEY), ops.DeleteConversation(KEY)):
            with absent("There is no conversation k.", "conversation"):
                await s.house.desk.answer(stranger, operation)
        for operation in (ops.ReadRun(started.run), ops.CancelRun(started.run)):
            with absent(f"There is no run {started.run}.", "run"):
                await s.house.desk.answer(stranger, operation)
        assert (await s.house.desk.answer(stranger, ops.ListConversations())).items == ()
        assert await s.store.count(ADMIN.project) == 1


# -- tools and status --------------------------------------------------------------------------------------------------


async def test_a_tool_is_called_under_a_key_of_its_own_and_counted(stage: SetUp) -> None:
    tools = LedgerTools({"look": "seen", "break": "!it broke"})
    async with stage(tools=tools) as s:
        seen = [await s.house.desk.answer(ADMIN, ops.CallTool(name)) for name in ("look", "look", "break")]
        status = await s.house.desk.answer(ADMIN, ops.ReadStatus())
    assert seen == [
        ops.ToolOutput("look", "seen", False),
        ops.ToolOutput("look", "seen", False),
        ops.ToolOutput("break", "it broke", True, "tool_failed"),
    ]
    assert status.counters["tool_calls"] == 3
    assert sorted(tools.effects.values()) == [1, 1, 1]


async def test_a_tool_that_does_not_exist_is_not_called(stage: SetUp) -> None:
    async with stage() as s:
        with absent("There is no tool nothing.", "tool"):
            await s.house.desk.answer(ADMIN, ops.CallTool("nothing"))
        status = await s.house.desk.answer(ADMIN, ops.ReadStatus())
    assert status.counters["tool_calls"] == 0


async def test_the_status_says_what_the_process_is_and_has_done(stage: SetUp) -> None:
    async with stage() as s:
        await talked(s.house.desk)
        await s.house.runs[0].settled()  # an end is heard a moment before its task is over
        s.clock.move(2.5)
        status = await s.house.desk.answer(ADMIN, ops.ReadStatus())
        uncounted = await s.house.desk.answer(ADMIN, ops.ReadStatus(counted=False))
    assert (status.uptime_s, status.conversations, status.live_runs, status.tools) == (2.5, 1, 0, ("look",))
    moved = {name: value for name, value in status.counters.items() if value}
    assert moved == {"runs": 1, "replies": 1, "prompt_tokens": 10, "completion_tokens": 5}
    assert status.counters.keys() == Counters().all().keys()
    assert uncounted.conversations == 0


# -- turns that leave nothing behind -----------------------------------------------------------------------------------


async def test_an_ephemeral_turn_can_be_collected(stage: SetUp) -> None:
    async with stage() as s:
        started = await s.house.desk.answer(ADMIN, turn(ephemeral=True))
        outcome = await asyncio.wait_for(s.house.desk.outcome(started), WAIT_S)
    assert (started.ephemeral, outcome.text, type(outcome.end)) == (True, "It is fine.", ev.RunCompleted)


async def test_an_ephemeral_turn_can_be_followed_as_it_grows(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with stage(model=model) as s:
        reader = s.house.desk.reader(await s.house.desk.answer(ADMIN, turn(ephemeral=True)))
        assert s.house.desk.live_runs == 1
        model.gate.open()
        events: list[ev.Event] = []
        while entries := await asyncio.wait_for(reader.batch(), WAIT_S):
            events += [entry.event for entry in entries]
    assert "".join(event.text for event in events if isinstance(event, ev.TextAdded)) == "It is fine."
    assert [type(events[0]), type(events[-1])] == [ev.RunClaimed, ev.RunCompleted]


async def test_an_ephemeral_turn_leaves_nothing_in_the_durable_store_nor_on_the_disk(
    stage: SetUp, tmp_path: Path
) -> None:
    clock = FixedClock()
    store = await open_store(tmp_path / "store.db", clock, writer=True)
    try:
        async with stage(store=store, clock=clock) as s:
            await talked(s.house.desk, "kept")
            started = await talked(s.house.desk, "gone", text=MARK, ephemeral=True)
            assert [info.id for info in (await store.page(ADMIN.project, after="", limit=0)).items] == ["kept"]
            assert len(await store.runs(ADMIN.project, limit=10)) == 1
            assert await store.run(None, started.run) is None
            with absent("There is no conversation gone.", "conversation"):
                await s.house.desk.answer(ADMIN, ops.ReadConversation(ConversationId("gone")))
            assert [path.name for path in tmp_path.rglob("*") if path.is_file() and holds(path, MARK)] == []
            assert [path.name for path in tmp_path.rglob("*") if path.is_file() and holds(path, "how is it?")] != []
    finally:
        await store.close()


def holds(path: Path, text: str) -> bool:
    return text.encode() in path.read_bytes()


async def test_an_ephemeral_run_can_be_looked_at_and_stopped_by_its_id(stage: SetUp) -> None:
    model = ScriptedReplies(text_reply("never"))
    model.gate = Gate()
    async with stage(model=model) as s:
        live = await s.house.desk.answer(ADMIN, turn(ephemeral=True))
        waiting = await s.house.desk.answer(ADMIN, turn(ephemeral=True))
        statuses = [await status_of(s, each.run) for each in (live, waiting)]
        stopped = [await s.house.desk.answer(ADMIN, ops.CancelRun(each.run)) for each in (waiting, live)]
        ends = [(await asyncio.wait_for(s.house.desk.outcome(each), WAIT_S)).end for each in (live, waiting)]
    assert statuses == ["running", "queued"]
    assert [view.status for view in stopped] == ["cancelled", "cancelled"]
    assert ends == [ev.RunCancelled(ADMIN.credential_id), ev.RunCancelled(ADMIN.credential_id)]
    assert s.house.desk.live_runs == 0


async def status_of(s: Stage, run: RunId) -> str:
    timeline = await s.house.desk.answer(ADMIN, ops.ReadRun(run))
    return timeline.run.status
