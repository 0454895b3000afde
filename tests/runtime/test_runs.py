"""Runs: started, followed by any number of readers, stopped, put down and taken up; and nothing left behind."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec
from dragoman.core.errors import BadRequest, Conflict, LimitReached, NotFound, Unavailable
from dragoman.core.events import Entry
from dragoman.core.messages import Message, Text, ToolResult, Usage
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import CancelRun, DeleteConversation, Outcome, Started
from dragoman.runtime.ports import ReplyDone, TextPiece
from dragoman.runtime.readers import STOPPING, STOPPING_FOR_GOOD, Reader
from dragoman.runtime.runs import INTERNAL_ERROR
from dragoman.stores.memory import MemoryStore
from dragoman.stores.sqlite.store import open_store
from tests.parts import ADMIN, USAGE, Gate, LedgerTools, ScriptedReplies, call_reply, text_reply
from tests.runtime.scene import CONVERSATION, Scene, Waits, asked, kinds, leases_run_out, scene_of, until, within
from tests.support import FixedClock

STRANGER = replace(ADMIN, project=ProjectId("elsewhere"))
CANCELLED = ev.RunCancelled("tester")
ASKED = ev.CancelAsked("tester")
DISK_FULL = Unavailable("The disk is full.", code="storage_full")


def gated(*script: Any) -> ScriptedReplies:
    model = ScriptedReplies(*(script or (text_reply("It is ", "fine."),)))
    model.gate = Gate()
    return model


def nothing_is_left(s: Scene) -> bool:
    """No run is held, nobody waits on the line, and no task of the process goes on."""
    return not s.runs._live and not s.runs._line._waiting and not s.life._tasks


async def cancel(s: Scene, run: str, principal: Any = ADMIN) -> Any:
    return await within(s.runs.cancel(principal, CancelRun(RunId(run))))


async def read_all(reader: Reader) -> list[Entry]:
    entries: list[Entry] = []
    while batch := await within(reader.batch()):
        entries.extend(batch)
    return entries


# -- starting --------------------------------------------------------------------------------------------------------


async def test_what_was_started_is_on_the_tape_with_everything_a_restart_needs() -> None:
    async with scene_of(gated()) as s:
        started = await s.start(agent="helper", model="m", instructions=("Now.",), deltas=False, origin="grip")
        assert started == Started(CONVERSATION, Tape(1), RunId("r1"), 2, created=True)
        created, received, claimed = (entry.event for entry in await s.tape())
        assert created == ev.ConversationCreated(ADMIN.project, CONVERSATION, origin="grip", owner="tester")
        assert received == asked(
            agent="helper",
            model="m",
            instructions=("Now.",),
            deltas=False,
            origin="grip",
            credential_id="tester",
            owner="tester",
            owner_name="tester",
            owner_wide=True,
        )
        assert claimed == ev.RunClaimed(1)


async def test_an_outcome_is_the_run_folded() -> None:
    model = ScriptedReplies(call_reply(("look", "{}"), text="Let me see."), text_reply("It is ", "fine."))
    async with scene_of(model, tools=LedgerTools({"look": "seen"})) as s:
        started = await s.start()
        outcome = await s.outcome(started)
        calls = call_reply(("look", "{}"))[-1].calls
        answered = (
            Message("assistant", (Text("Let me see."), *calls), name="helper"),
            Message("tool", (ToolResult(calls[0].id, "seen"),)),
            Message("assistant", (Text("It is fine."),), name="helper"),
        )
        now = s.clock.now()
        assert outcome == Outcome(
            started, ev.RunCompleted(Usage(20, 10)), "It is fine.", 2, calls, Usage(20, 10), answered, (now, now, now)
        )
        await s.settled()
        assert nothing_is_left(s)


async def test_a_turn_for_a_conversation_that_must_exist_and_does_not_begins_nothing() -> None:
    async with scene_of(gated()) as s:
        with pytest.raises(NotFound):
            await s.start(must_exist=True)
        assert (s.runs.live, await s.store.count(ADMIN.project)) == (0, 0)


async def test_a_run_goes_on_when_whoever_asked_is_gone() -> None:
    model = gated()
    async with scene_of(model) as s:
        waiting = asyncio.create_task(s.outcome(await s.start()))
        await until(lambda: bool(model.prompts))
        waiting.cancel()
        model.gate.open()
        await s.settled()
        assert (await s.events())[-1] == ev.RunCompleted(USAGE)


# -- waiting in line -------------------------------------------------------------------------------------------------


async def test_turns_of_one_conversation_are_answered_in_the_order_in_which_they_were_accepted() -> None:
    model = gated(text_reply("a"))
    async with scene_of(model) as s:
        started = [await s.start(f"m{number}") for number in range(5)]
        assert s.runs.live == 1
        model.gate.open()
        outcomes = await asyncio.gather(*map(s.outcome, started))
        assert [outcome.started for outcome in outcomes] == started
        assert [prompt.messages[-1].text for prompt in model.prompts] == ["m0", "m1", "m2", "m3", "m4"]
        ends = [entry.run for entry in await s.tape() if ev.is_end(entry.event)]
        assert ends == ["r1", "r2", "r3", "r4", "r5"]


async def test_conversations_do_not_wait_for_each_other() -> None:
    model = gated(text_reply("a"))
    async with scene_of(model) as s:
        for name in ("a", "b", "c"):
            await s.start(conversation=name)
        await until(lambda: len(model.prompts) == 3)
        model.gate.open()
        await s.settled()


async def test_a_full_queue_refuses_the_next_turn() -> None:
    async with scene_of(gated(), queue_max=1) as s:
        await s.start("live")
        await s.start("waits")
        with pytest.raises(LimitReached) as refused:
            await s.start("too many")
        assert refused.value.limit == "queue_per_conversation"
        assert sum(isinstance(entry.event, ev.TurnReceived) for entry in await s.tape()) == 2


# -- stopping --------------------------------------------------------------------------------------------------------


async def test_a_cancel_reaches_the_model_at_once_and_what_was_said_stays() -> None:
    model = gated()
    async with scene_of(model) as s:
        started = await s.start()
        model.gate.release()
        reader = s.runs.reader(started)
        while "text_added" not in kinds([entry.event for entry in await within(reader.batch())]):
            pass
        view = await cancel(s, "r1")
        assert (view.status, model.closed) == ("cancelled", 1)
        assert kinds(await s.events()) == [
            "run_claimed",
            "reply_started",
            "text_added",
            "cancel_asked",
            "run_cancelled",
        ]
        assert (await s.events())[-1] == CANCELLED
        assert (await s.outcome(started)).end == CANCELLED
        assert nothing_is_left(s)


async def test_a_cancel_stops_tools_and_keeps_what_was_spent() -> None:
    tools = LedgerTools({"look": "seen", "send": "sent"})
    waiting = Waits()
    tools.before = waiting
    async with scene_of(ScriptedReplies(call_reply(("look", "{}"), ("send", "{}"))), tools=tools) as s:
        await s.start()
        await within(waiting.reached.wait())
        await cancel(s, "r1")
        assert (await s.events())[-1] == ev.RunCancelled("tester", USAGE)
        assert not tools.effects


async def test_cancelling_again_or_after_the_end_changes_nothing() -> None:
    model = gated()
    async with scene_of(model) as s:
        await s.start()
        await until(lambda: bool(model.prompts))
        both = await asyncio.gather(cancel(s, "r1"), cancel(s, "r1"))
        assert [view.status for view in both] == ["cancelled", "cancelled"]
        model.gate.open()
        await s.outcome(await s.start("again"))
        assert (await cancel(s, "r1")).status == "cancelled"
        assert (await cancel(s, "r2")).status == "completed"
        ends = [entry.event for entry in await s.tape() if ev.is_end(entry.event)]
        assert ends == [CANCELLED, ev.RunCompleted(USAGE)]


async def test_a_run_of_another_project_cannot_be_seen_nor_stopped() -> None:
    model = gated()
    async with scene_of(model) as s:
        started = await s.start()
        for asking in (cancel(s, "r1", STRANGER), s.runs.timeline(STRANGER.project, started.run), cancel(s, "none")):
            with pytest.raises(NotFound) as refused:
                await asking
            assert refused.value.what == "run"
        model.gate.open()
        assert isinstance((await s.outcome(started)).end, ev.RunCompleted)


async def test_a_run_that_waits_is_ended_where_it_stands_and_the_one_behind_it_moves_up() -> None:
    model = gated(text_reply("a"))
    async with scene_of(model) as s:
        started = [await s.start(f"m{number}") for number in range(3)]
        assert (await cancel(s, "r2")).status == "cancelled"
        assert await s.events("r2") == [CANCELLED]
        model.gate.open()
        assert (await s.outcome(started[1])).end == CANCELLED
        assert isinstance((await s.outcome(started[2])).end, ev.RunCompleted)
        assert [prompt.messages[-1].text for prompt in model.prompts] == ["m0", "m2"]


async def test_the_run_behind_a_cancelled_one_begins() -> None:
    model = gated(text_reply("a"))
    async with scene_of(model) as s:
        await s.start("first")
        second = await s.start("second")
        await until(lambda: bool(model.prompts))
        await cancel(s, "r1")
        model.gate.open()
        assert isinstance((await s.outcome(second)).end, ev.RunCompleted)
        assert await s.events("r2") == [
            ev.RunClaimed(1),
            ev.ReplyStarted("helper", ""),
            ev.TextAdded("a"),
            ev.ReplyFinished("a", (), USAGE),
            ev.RunCompleted(USAGE),
        ]


@pytest.mark.parametrize("hook", ["finish", "after_finish"])
async def test_a_cancel_that_races_with_the_end_loses_neither_the_end_nor_the_run_behind(hook: str) -> None:
    """The cancel cuts off the very call that ends the run, before it is committed or after."""
    waiting = Waits()
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        s.store.hooks[hook] = waiting
        await s.start("first")
        second = await s.start("second")
        await within(waiting.reached.wait())
        del s.store.hooks[hook]
        await within(s.runs.stop(RunId("r1"), cancelled_by="tester"))
        assert isinstance((await s.outcome(second)).end, ev.RunCompleted)
        await s.settled()
        end = CANCELLED if hook == "finish" else ev.RunCompleted(USAGE)
        assert [event for event in await s.events("r1") if ev.is_end(event)] == [end]
        assert nothing_is_left(s)


@pytest.mark.parametrize("nth", range(1, 9))
async def test_a_cancel_during_any_call_of_the_store_leaves_one_end_and_serves_the_run_behind(
    nth: int, tmp_path: Path
) -> None:
    """Over the real store, whose commits take place on a thread: a call that is cut off may be carried out all the
    same."""
    kept = await open_store(tmp_path / "d.db", FixedClock(), writer=True)
    stopping: list[asyncio.Task[bool]] = []
    async with scene_of(ScriptedReplies(text_reply("It is ", "fine.")), store=kept) as s:
        await s.start("first")
        second = await s.start("second")
        stop = s.runs.stop(RunId("r1"), cancelled_by="tester")
        s.store.during(nth + len(s.store.called), lambda: stopping.append(asyncio.create_task(stop)))
        outcome = await s.outcome(second)
        await s.settled()
        await within(stopping[0])
        assert isinstance(outcome.end, ev.RunCompleted)
        assert sum(map(ev.is_end, await s.events("r1"))) == 1
        assert kinds(await s.events("r2"))[-1] == "run_completed"
        assert nothing_is_left(s)
    await kept.close()


async def test_a_run_cancelled_before_its_first_step_ends_and_is_not_held_for_ever() -> None:
    model = ScriptedReplies(text_reply("never"))
    async with scene_of(model) as s:
        await s.start()
        view = await s.runs.cancel(ADMIN, CancelRun(RunId("r1")))  # no turn of the loop in between: it has not begun
        assert view.status == "cancelled"
        assert await s.events() == [ev.RunClaimed(1), ASKED, CANCELLED]
        assert model.prompts == []
        await s.settled()
        assert nothing_is_left(s)


async def test_a_task_that_is_cancelled_before_its_first_step_is_not_held_for_ever() -> None:
    async with scene_of(ScriptedReplies(text_reply("never"))) as s:
        await s.start()
        s.life.cancel_all()
        await s.settled()
        assert nothing_is_left(s)
        assert await s.events() == [ev.RunClaimed(1)]


async def test_a_claimed_run_that_nobody_drives_can_be_cancelled() -> None:
    """It was put down, or the process is between the commit that accepts it and the call that drives it."""
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        accepted = await s.accept(asked())
        assert (await cancel(s, "r1")).status == "cancelled"
        s.runs.drive(accepted.claim)  # whoever accepted it comes late
        await s.settled()
        assert await s.events() == [ev.RunClaimed(1), ASKED, ev.RunClaimed(2), CANCELLED]


async def test_a_late_claim_does_not_push_out_the_one_that_took_its_place() -> None:
    model = gated()
    async with scene_of(model) as s:
        accepted = await s.accept(asked())
        s.runs.drive(await s.store.reclaim(RunId("r1")))
        s.runs.drive(accepted.claim)
        await until(lambda: bool(model.prompts))
        assert s.runs.live == 1
        model.gate.open()
        await s.settled()
        assert (await s.events())[:2] == [ev.RunClaimed(1), ev.RunClaimed(2)]
        assert isinstance((await s.events())[-1], ev.RunCompleted)
        assert len(model.prompts) == 1


async def test_a_newer_claim_takes_the_place_of_the_old_one_and_a_cancel_with_it() -> None:
    model = gated()
    async with scene_of(model) as s:
        await s.start()
        await until(lambda: bool(model.prompts))
        s.runs.drive(await s.store.reclaim(RunId("r1")))
        await until(lambda: len(model.prompts) == 2)
        assert (s.runs.live, model.closed) == (1, 1)
        assert (await cancel(s, "r1")).status == "cancelled"
        assert nothing_is_left(s)


async def test_a_cancel_that_cannot_be_written_is_not_acknowledged_and_may_be_asked_again() -> None:
    model = gated()
    async with scene_of(model) as s:
        await s.start()
        await until(lambda: bool(model.prompts))
        s.store.refuse(DISK_FULL, "ask")
        with pytest.raises(Unavailable):
            await cancel(s, "r1")
        assert (model.closed, s.runs.live) == (0, 1)
        s.store.hooks.clear()
        assert (await cancel(s, "r1")).status == "cancelled"
        assert isinstance((await s.events())[-1], ev.RunCancelled)


# -- readers ---------------------------------------------------------------------------------------------------------


async def test_any_number_of_readers_at_any_cursor_get_what_stands_beyond_it() -> None:
    model = gated(text_reply(*"abcdefghij"))
    async with scene_of(model) as s:
        started = await s.start()
        head = started.seq + 14
        readers = [s.runs.reader(started, after=after) for after in (0, *range(started.seq, head), 0)]
        readings = [asyncio.create_task(read_all(reader)) for reader in readers]
        model.gate.open()
        whole = [entry for entry in await within(readings[0]) if entry.run == started.run]
        assert [entry.seq for entry in whole] == list(range(started.seq, head + 1))
        for reader_from, reading in zip(range(started.seq, head), readings[1:-1], strict=True):
            assert await within(reading) == [entry for entry in whole if entry.seq > reader_from]
        assert await within(readings[-1]) == whole
        assert nothing_is_left(s)


async def test_a_reader_gets_only_its_own_run() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        first, second = await s.start("one"), await s.start("two")
        readings = await asyncio.gather(*(read_all(s.runs.reader(each)) for each in (second, first)))
        assert [{entry.run for entry in reading} for reading in readings] == [{"r2"}, {"r1"}]
        assert all(ev.is_end(reading[-1].event) for reading in readings)


async def test_a_reader_that_comes_back_after_the_end_is_told_that_there_is_nothing_more() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        started = await s.start()
        await s.outcome(started)
        end = (await s.tape())[-1].seq
        assert kinds([entry.event for entry in await read_all(s.runs.reader(started, after=end - 1))]) == [
            "run_completed"
        ]
        for after in (end, end + 1, 10**9):
            assert await read_all(s.runs.reader(started, after=after)) == []
        await s.outcome(await s.start("next"))
        assert await read_all(s.runs.reader(started, after=end)) == []


async def test_a_reader_that_comes_back_while_the_run_waits_in_line_gets_all_of_it() -> None:
    model = gated(text_reply("a"))
    async with scene_of(model) as s:
        await s.start("first")
        second = await s.start("second")
        reading = asyncio.create_task(read_all(s.runs.reader(second, after=second.seq)))
        await until(lambda: len(s.runs._line._waiting) == 1)
        model.gate.open()
        assert kinds([entry.event for entry in await within(reading)])[-1] == "run_completed"


async def test_a_wait_that_is_cancelled_again_and_again_loses_nothing() -> None:
    model = gated(text_reply(*"abcdefghij"))
    async with scene_of(model) as s:
        started = await s.start()
        reader = s.runs.reader(started)
        entries: list[Entry] = []
        for _ in range(12):
            impatient = asyncio.create_task(reader.batch())
            for _ in range(3):
                await asyncio.sleep(0)
            impatient.cancel()
            try:
                entries.extend(await impatient)
            except asyncio.CancelledError:
                model.gate.release()
        model.gate.open()
        entries.extend(await read_all(reader))
        tape = [entry for entry in await s.tape() if entry.seq > started.seq]
        assert entries == tape
        assert not s.runs._line._waiting


async def test_readers_of_a_conversation_that_is_deleted_are_told_so() -> None:
    model = gated()
    async with scene_of(model) as s:
        live, waiting = await s.start("live"), await s.start("waits")
        readings = [asyncio.create_task(s.outcome(each)) for each in (live, waiting, live)]
        await until(lambda: len(s.runs._line._waiting) == 3)
        await s.conversations.delete(ADMIN, DeleteConversation(CONVERSATION))
        for reading in readings:
            with pytest.raises(Conflict, match="deleted"):
                await within(reading)
        assert model.closed == 1
        assert nothing_is_left(s)


async def test_a_reader_that_comes_to_a_deleted_conversation_is_told_so() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        started = await s.start()
        await s.outcome(started)
        await s.conversations.delete(ADMIN, DeleteConversation(CONVERSATION))
        for after in (None, 10**6):
            with pytest.raises(Conflict, match="deleted"):
                await within(s.runs.reader(started, after=after).batch())


# -- hanging up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lasting", "told"), [(True, STOPPING), (False, STOPPING_FOR_GOOD)])
async def test_who_is_sent_away_is_told_whether_the_run_goes_on(lasting: bool, told: str) -> None:
    model = gated()
    async with scene_of(model, lasting=lasting) as s:
        reading = asyncio.create_task(s.outcome(await s.start()))
        await until(lambda: len(s.runs._line._waiting) == 1)
        s.runs.hang_up()
        with pytest.raises(Unavailable) as raised:
            await within(reading)
        assert raised.value.detail == told
        model.gate.open()


async def test_when_the_process_stops_every_reader_is_sent_away_and_the_run_is_not_touched() -> None:
    model = gated()
    async with scene_of(model) as s:
        started = await s.start()
        readings = [asyncio.create_task(s.outcome(started)) for _ in range(3)]
        await until(lambda: len(s.runs._line._waiting) == 3)
        s.runs.hang_up()
        s.runs.hang_up()
        for reading in readings:
            with pytest.raises(Unavailable, match=STOPPING[:20]):
                await within(reading)
        with pytest.raises(Unavailable):
            await s.outcome(started)
        model.gate.open()
        await s.settled()
        assert isinstance((await s.outcome(started)).end, ev.RunCompleted)  # it need not wait: it is all there
        assert not s.runs._line._waiting


async def test_a_reader_that_is_cancelled_as_it_is_sent_away_is_cancelled() -> None:
    async with scene_of(gated()) as s:
        reading = asyncio.create_task(s.outcome(await s.start()))
        await until(lambda: len(s.runs._line._waiting) == 1)
        s.runs.hang_up()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


# -- when something is wrong -----------------------------------------------------------------------------------------


class Broken(ScriptedReplies):
    """A model with a fault of its own, in the conversation that asks for it."""

    async def reply(self, prompt: Any, *, stream: bool) -> AsyncGenerator[Any]:
        if prompt.messages[-1].text == "break":
            yield TextPiece("It ")
            raise ZeroDivisionError("a fault of ours")
        async for piece in super().reply(prompt, stream=stream):
            yield piece


async def test_a_fault_of_ours_fails_that_run_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    model = Broken(text_reply("a"))
    model.gate = Gate()
    async with scene_of(model) as s:
        other = await s.start("go on", conversation="other")
        broken, behind = await s.start("break"), await s.start("go on")
        assert (await s.outcome(broken)).end == ev.RunFailed("internal_error", INTERNAL_ERROR)
        model.gate.open()
        for started in (other, behind):
            assert isinstance((await s.outcome(started)).end, ev.RunCompleted)
        await s.settled()
        assert "ZeroDivisionError: a fault of ours" in caplog.text
        assert "ZeroDivisionError" not in INTERNAL_ERROR
        assert nothing_is_left(s)


async def test_what_the_store_will_never_take_is_not_tried_for_ever() -> None:
    """Half a character in a model's text: the same error each time. A run must not be taken up again for that."""
    half = ReplyDone("\ud800")
    async with scene_of(ScriptedReplies([half])) as s:
        assert (await s.outcome(await s.start())).end == ev.RunFailed("internal_error", INTERNAL_ERROR)
        assert await s.store.unfinished() == ()


@pytest.mark.parametrize("where", ["append", "finish", "history", "after_append"])
async def test_a_run_whose_store_fails_is_put_down_and_a_later_sweep_finishes_it(where: str) -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    async with scene_of(model) as s:
        await s.outcome(await s.start("before", conversation=CONVERSATION))
        s.driver._past.forget(Tape(1))
        s.store.refuse(DISK_FULL, where)
        started, behind = await s.start("one"), await s.start("two")
        await s.settled()
        assert not any(map(ev.is_end, await s.events("r2")))
        assert nothing_is_left(s)
        s.store.hooks.clear()
        await s.recovery.sweep()
        await s.recovery.sweep()
        for each in (started, behind):
            outcome = await s.outcome(each)
            assert (outcome.text, type(outcome.end)) == ("It is fine.", ev.RunCompleted)
        assert [event for event in await s.events("r2") if isinstance(event, ev.RunClaimed)] == [
            ev.RunClaimed(1),
            ev.RunClaimed(2),
        ]
        await s.settled()
        assert nothing_is_left(s)


async def test_a_run_behind_one_whose_end_was_kept_but_never_acknowledged_is_found_by_a_sweep() -> None:
    store = MemoryStore(FixedClock())
    async with scene_of(ScriptedReplies(text_reply("a")), store=store) as s:
        s.store.refuse(DISK_FULL, "after_finish")
        await s.start("one")
        behind = await s.start("two")
        await s.settled()
        s.store.hooks.clear()
        assert isinstance((await s.events("r1"))[-1], ev.RunCompleted)
        await s.recovery.sweep()
        assert s.runs.live == 0
        leases_run_out(store)
        await s.recovery.sweep()
        assert isinstance((await s.outcome(behind)).end, ev.RunCompleted)


async def test_an_attempt_that_lost_its_run_stops_without_a_word() -> None:
    model = gated()
    async with scene_of(model) as s:
        await s.start()
        await until(lambda: bool(model.prompts))
        await s.store.reclaim(RunId("r1"))
        model.gate.open()
        await s.settled()
        assert await s.events() == [ev.RunClaimed(1), ev.RunClaimed(2)]
        assert (model.closed, s.counters.runs) == (1, 0)
        assert nothing_is_left(s)


async def test_a_process_that_stops_leaves_its_runs_as_they_are_for_the_next() -> None:
    store = MemoryStore(FixedClock())
    model = gated()
    async with scene_of(model, store=store) as s:
        await s.start("live")
        await s.start("waits")
        await until(lambda: bool(model.prompts))
    assert (model.closed, s.runs.live) == (1, 0)
    assert [view.id for view in await store.unfinished()] == ["r1"]


CAREFUL = {"helper": AgentSpec("helper", "", ask=("send",), approval_s=60.0)}


def asks_first() -> ScriptedReplies:
    return ScriptedReplies(call_reply(("send", "{}")), text_reply("Sent."))


async def approve(s: Scene, started: Started) -> None:
    (requested,) = [each for each in await s.events(started.run) if isinstance(each, ev.ApprovalRequested)]
    yes = ev.ApprovalDecided(requested.call.id, True, "ann", requested.arguments_hash)
    await s.runs.hear({started.run: await s.store.ask(started.run, yes)})


async def test_a_run_that_waits_for_somebody_is_handed_back_at_once_when_the_process_stops() -> None:
    store, tools = MemoryStore(FixedClock()), LedgerTools({"send": "sent"})
    async with scene_of(asks_first(), store=store, tools=tools, agents=CAREFUL) as s:
        started = await s.start()
        await until(lambda: "append" in s.store.called)
        reading = asyncio.create_task(s.outcome(started))
        await until(lambda: len(s.runs._line._waiting) == 1)
        s.runs.close()
        await s.settled()
        with pytest.raises(Unavailable, match=STOPPING[:20]):
            await within(reading)
        with pytest.raises(Unavailable, match=STOPPING[:20]):
            await s.outcome(started)
        assert nothing_is_left(s)
    async with scene_of(asks_first(), store=store, tools=tools, agents=CAREFUL) as s:
        assert await s.recovery.sweep() == 1  # though the lease has not run out
        await approve(s, started)
        assert isinstance((await s.outcome(started)).end, ev.RunCompleted)
        assert kinds(await s.events()).count("approval_requested") == 1
        assert tools.effects == {("send", "r1:c1"): 1}


async def test_a_run_that_begins_to_wait_when_the_process_already_stops_is_handed_back_then() -> None:
    model = asks_first()
    model.gate = Gate()
    store = MemoryStore(FixedClock())
    async with scene_of(model, store=store, agents=CAREFUL, tools=LedgerTools({"send": "sent"})) as s:
        await s.start()
        await s.start("behind, in another", "d")
        s.runs.close()
        await until(lambda: len(model.prompts) == 2)
        assert s.runs.live == 2
        model.gate.open()
        await s.settled()
        assert "release" in s.store.called
        assert ev.ApprovalRequested in map(type, await s.events("r1"))
    assert len(await store.take_lost(limit=10)) == 2


async def test_what_was_decided_just_before_the_process_stops_is_still_carried_out() -> None:
    tools = LedgerTools({"send": "sent"})
    async with scene_of(asks_first(), agents=CAREFUL, tools=tools) as s:
        started = await s.start()
        await until(lambda: "append" in s.store.called)
        await approve(s, started)
        s.runs.close()
        await s.settled()
        assert isinstance((await s.events())[-1], ev.RunCompleted)


async def test_a_process_that_stops_while_a_run_is_being_cancelled_still_writes_its_end() -> None:
    store = MemoryStore(FixedClock())
    model = gated()
    async with scene_of(model, store=store) as s:
        await s.start("live")
        await s.start("waits")
        await until(lambda: bool(model.prompts))
        cancelling = asyncio.create_task(cancel(s, "r1"))
        await until(lambda: s.runs._live[RunId("r1")].cancelled_by is not None)
    assert (await cancelling).status == "cancelled"
    assert [event for event in await s.events("r1") if ev.is_end(event)] == [CANCELLED]
    # The run behind was claimed by that end. It did not begin here: this process is about to be gone.
    assert await s.events("r2") == [ev.RunClaimed(1)]
    assert len(model.prompts) == 1


# -- what is derived from the tape -----------------------------------------------------------------------------------


class Copies:
    """Something derived from tapes that takes its time."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        self.waits = Waits()

    async def __call__(self, project: ProjectId, conversation: ConversationId) -> None:
        await self.waits()
        self.made.append((project, conversation))


@pytest.mark.parametrize("script", [text_reply("a"), []], ids=["completed", "failed"])
async def test_an_outcome_is_given_out_once_what_is_derived_from_the_tape_is_up_to_date(script: Any) -> None:
    copies = Copies()
    async with scene_of(ScriptedReplies(script), changed=copies) as s:
        waiting = asyncio.create_task(s.outcome(await s.start()))
        await within(copies.waits.reached.wait())
        assert ev.is_end((await s.tape())[-1].event)
        assert not waiting.done()
        copies.waits.open.set()
        await within(waiting)
        assert copies.made == [("default", "c")]


async def test_a_slow_copy_does_not_hold_up_the_run_behind() -> None:
    copies = Copies()
    async with scene_of(ScriptedReplies(text_reply("a")), changed=copies) as s:
        await s.start("one")
        await s.start("two")
        await within(copies.waits.reached.wait())
        await until(lambda: s.store.writes.count("finish") == 2)
        copies.waits.open.set()
        await s.settled()
        assert copies.made == [("default", "c")] * 2


async def test_a_cancelled_turn_that_never_ran_is_copied_too() -> None:
    copies = Copies()
    copies.waits.open.set()
    model = gated()
    async with scene_of(model, changed=copies) as s:
        await s.start("live")
        await s.start("waits")
        await cancel(s, "r2")
        assert copies.made == [("default", "c")]
        await cancel(s, "r1")
        assert copies.made == [("default", "c")] * 2


async def test_after_a_cancel_the_runs_task_is_as_free_to_wait_as_any_other() -> None:
    pending: list[int] = []

    async def changed(project: ProjectId, conversation: ConversationId) -> None:
        task = asyncio.current_task()
        assert task is not None
        pending.append(task.cancelling())

    model = gated()
    async with scene_of(model, changed=changed) as s:
        await s.start()
        await until(lambda: bool(model.prompts))
        await cancel(s, "r1")
    assert pending == [0]


async def test_a_timeline_holds_every_entry_of_a_run() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        started = await s.start()
        await s.outcome(started)
        timeline = await s.runs.timeline(ADMIN.project, started.run)
        assert (timeline.run.status, timeline.run.first_seq) == ("completed", started.seq)
        assert [entry.seq for entry in timeline.entries] == [2, 3, 4, 5, 6, 7]


async def test_a_thousand_turns_leave_nothing_behind() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        for number in range(1000):
            await s.start(conversation=f"c{number % 7}", text="x")
            if number % 7 == 6:
                await s.settled()
        await s.settled()
        assert nothing_is_left(s)
        assert len(asyncio.all_tasks()) == 1
        assert s.counters.runs == 1000


async def test_a_bad_request_of_the_store_at_the_door_is_the_callers() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        with pytest.raises(BadRequest):
            await s.start("\ud800")
        assert nothing_is_left(s)
