"""Recovery: what a dead process left behind is taken up, once, and what is alive is left alone."""

import asyncio

import pytest

from dragoman.core import events as ev
from dragoman.core.agents import Repeat
from dragoman.core.errors import Unavailable
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, RunId
from dragoman.runtime.machine import OUTCOME_UNKNOWN, TRIES_MAX
from dragoman.runtime.ports import TextPiece
from dragoman.runtime.recovery import AT_ONCE, Recovery
from dragoman.runtime.run_state import PAUSES_FORGIVEN
from dragoman.stores.memory import MemoryStore
from tests.parts import USAGE, Gate, LedgerTools, ScriptedReplies, call_reply, text_reply
from tests.runtime.scene import Scene, Waits, asked, leases_run_out, scene_of, until, within
from tests.support import FixedClock

STARTED = ev.ReplyStarted("helper", "")
HALF = ev.TextAdded("half")
ANSWER = (ev.ReplyFinished("a", (), USAGE), ev.RunCompleted(USAGE))


async def died(store: MemoryStore, *conversations: str) -> None:
    """A process that accepts a turn in each conversation and dies as its models begin to answer."""
    model = ScriptedReplies(text_reply("never"))
    model.gate = Gate()
    async with scene_of(model, store=store, ids="d") as s:
        for conversation in conversations:
            await s.start(conversation=conversation)
        await until(lambda: len(model.prompts) == len(set(conversations)))
    leases_run_out(store)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(FixedClock())


async def test_at_its_start_a_process_takes_up_all_that_is_unfinished(store: MemoryStore) -> None:
    names = [f"c{number}" for number in range(AT_ONCE + 3)]
    await died(store, *names)
    async with scene_of(ScriptedReplies(text_reply("a")), store=store) as s:
        assert await s.recovery.sweep() == len(names)
        assert s.counters.recovered == len(names)
        await s.settled()
        assert await store.unfinished() == ()
        for number in range(1, len(names) + 1):
            events = await s.events(f"d{number}", tape=number)  # pyright: ignore[reportArgumentType]
            assert events == [ev.RunClaimed(1), ev.RunClaimed(2), STARTED, ev.TextAdded("a"), *ANSWER]
        assert await s.recovery.sweep() == 0


async def test_a_start_that_cannot_claim_fails(store: MemoryStore) -> None:
    await died(store, "a", "b")
    async with scene_of(ScriptedReplies(text_reply("a")), store=store) as s:
        s.store.refuse(Unavailable("The disk is full."), "take_lost")
        with pytest.raises(Unavailable):
            await s.recovery.sweep()
        assert s.runs.live == 0


async def test_turns_that_waited_behind_a_dead_run_follow_it_in_their_order(store: MemoryStore) -> None:
    await died(store, "c", "c", "c")
    model = ScriptedReplies(text_reply("a"))
    async with scene_of(model, store=store) as s:
        assert await s.recovery.sweep() == 1
        await s.settled()
        ends = [entry.run for entry in await s.tape() if ev.is_end(entry.event)]
        assert ends == ["d1", "d2", "d3"]
        assert [prompt.key for prompt in model.prompts] == ["d1:1", "d2:1", "d3:1"]
        assert await s.events("d2") == [ev.RunClaimed(1), STARTED, ev.TextAdded("a"), *ANSWER]


async def test_half_a_reply_is_void_from_where_it_began(store: MemoryStore) -> None:
    async with scene_of(ScriptedReplies(), store=store) as s:
        accepted = await s.accept(asked())
        said = [STARTED, ev.TextAdded("It "), ev.TextAdded("was")]
        last = await store.append(accepted.claim, said, after=accepted.claim.seq)
    leases_run_out(store)
    async with scene_of(ScriptedReplies(text_reply("a")), store=store) as s:
        await s.recovery.sweep()
        await s.settled()
        assert (await s.events())[4:] == [
            ev.RunClaimed(2),
            ev.AttemptReset(last - 2),
            STARTED,
            ev.TextAdded("a"),
            *ANSWER,
        ]


async def test_calls_that_were_under_way_are_repeated_or_not_as_their_tools_allow(store: MemoryStore) -> None:
    calls = tuple(ToolCall(CallId(name), name, "{}") for name in ("look", "put", "send"))
    tools = LedgerTools(
        {"look": "seen", "put": "there", "send": "sent"}, {"put": Repeat.IDEMPOTENT, "send": Repeat.ONCE}
    )
    async with scene_of(ScriptedReplies(), store=store, tools=tools) as s:
        accepted = await s.accept(asked(deltas=False))
        finished = ev.ReplyFinished("", calls, USAGE, "tool_calls")
        began = [STARTED, finished, *map(ev.ToolStarted, calls)]
        await store.append(accepted.claim, began, after=accepted.claim.seq)
    leases_run_out(store)
    model = ScriptedReplies([], text_reply("a"))
    async with scene_of(model, store=store, tools=tools) as s:
        await s.recovery.sweep()
        await s.settled()
        assert tools.effects == {("look", "r1:look"): 1, ("put", "r1:put"): 1}
        unknown = ev.ToolReturned(CallId("send"), OUTCOME_UNKNOWN, is_error=True, code="outcome_unknown")
        assert [event for event in await s.events() if isinstance(event, ev.ToolReturned)] == [
            unknown,
            ev.ToolReturned(CallId("look"), "seen"),
            ev.ToolReturned(CallId("put"), "there"),
        ]
        assert isinstance((await s.events())[-1], ev.RunCompleted)
        assert "unknown" in str(model.prompts[0].messages[-3])


async def test_an_intent_that_never_reached_the_tape_is_no_intent(store: MemoryStore) -> None:
    tools = LedgerTools({"send": "sent"}, {"send": Repeat.ONCE})
    script = (call_reply(("send", "{}")), text_reply("a"))
    async with scene_of(ScriptedReplies(*script), store=store, tools=tools) as s:
        waiting = Waits()
        s.store.hooks["append"] = waiting
        await s.start(deltas=False)
        await within(waiting.reached.wait())
    leases_run_out(store)
    async with scene_of(ScriptedReplies(*script), store=store, tools=tools) as s:
        await s.recovery.sweep()
        await s.settled()
        assert tools.effects == {("send", "r1:c1"): 1}
        assert isinstance((await s.events())[-1], ev.RunCompleted)


async def test_a_server_that_was_down_for_long_does_not_fail_what_it_finds(store: MemoryStore) -> None:
    clock = FixedClock()
    store = MemoryStore(clock)
    await died(store, "c")
    clock.move(12 * 3600)
    async with scene_of(ScriptedReplies(text_reply("a")), store=store, clock=clock) as s:
        await s.recovery.sweep()
        await s.settled()
        assert isinstance((await s.events("d1"))[-1], ev.RunCompleted)


async def test_a_run_that_dies_with_each_attempt_is_over_when_its_time_is() -> None:
    clock = FixedClock()
    store = MemoryStore(clock)
    await died(store, "c")
    restarts = 0
    while await store.unfinished():
        restarts += 1
        clock.move(700)
        model = ScriptedReplies(text_reply("never"))
        model.gate = Gate()
        async with scene_of(model, store=store, clock=clock) as s:
            await s.recovery.sweep()
            await until(lambda s=s, model=model: bool(model.prompts) or not s.runs.live)
    assert restarts == PAUSES_FORGIVEN + 1
    failed = (await s.events("d1"))[-1]
    assert failed == ev.RunFailed("time_limit", "The run took longer than its 600 s.")


async def test_a_run_whose_attempts_die_at_work_is_tried_three_times(store: MemoryStore) -> None:
    """Each attempt says a word and dies; the fourth claim ends the run without asking the model (promise G8)."""
    asked_models = 0
    for number in range(TRIES_MAX + 1):
        model = ScriptedReplies([TextPiece("half"), *text_reply("never")])
        model.gate = Gate()
        model.gate.release()
        async with scene_of(model, store=store) as s:
            if number == 0:
                await s.start()
            else:
                assert await s.recovery.sweep() == 1
            await until(lambda s=s: not s.runs.live or (bool(s.store.written) and s.store.written[-1][-1] == HALF))
            asked_models += len(model.prompts)
        leases_run_out(store)
    assert asked_models == TRIES_MAX
    assert isinstance(failed := (await s.events())[-1], ev.RunFailed)
    assert failed.code == "retries_exhausted"
    assert await store.unfinished() == ()


async def test_a_wish_to_cancel_survives_its_owner(store: MemoryStore) -> None:
    await died(store, "c")
    assert await store.ask(RunId("d1"), ev.CancelAsked("somebody"))
    model = ScriptedReplies(text_reply("never"))
    async with scene_of(model, store=store) as s:
        await s.recovery.sweep()
        await s.settled()
        assert (await s.events("d1"))[-1] == ev.RunCancelled("somebody")
        assert model.prompts == []


async def test_a_run_that_a_newer_version_began_is_left_to_it(store: MemoryStore) -> None:
    async with scene_of(ScriptedReplies(), store=store) as s:
        accepted = await s.accept(asked())
        newer = ev.Unread("dreamt", '{"kind":"dreamt"}')
        await store.append(accepted.claim, [newer], after=accepted.claim.seq)
    leases_run_out(store)
    model = ScriptedReplies(text_reply("never"))
    async with scene_of(model, store=store) as s:
        assert await s.recovery.sweep() == 1
        await s.settled()
        assert (model.prompts, s.counters.errors) == ([], 0)
        assert [view.id for view in await store.unfinished()] == ["r1"]
        assert await s.recovery.sweep() == 0  # it keeps its lease, and is not tried again at once


# -- sweeps ----------------------------------------------------------------------------------------------------------


async def undriven(s: Scene) -> None:
    """A run that was put down."""
    s.store.refuse(Unavailable("The disk is full."), "finish")
    await s.start(deltas=False)
    await s.settled()
    s.store.hooks.clear()


async def test_a_sweep_takes_up_at_once_what_was_put_down() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await undriven(s)
        assert await s.recovery.sweep() == 1
        assert (s.runs.live, s.counters.recovered) == (1, 1)
        await s.settled()
        assert isinstance((await s.events())[-1], ev.RunCompleted)
        assert await s.store.unfinished() == ()


async def test_a_sweep_leaves_alone_what_is_driven() -> None:
    model = ScriptedReplies(text_reply("a"))
    model.gate = Gate()
    async with scene_of(model) as s:
        await s.start()
        for _ in range(4):
            await s.recovery.sweep()
        model.gate.open()
        await s.settled()
        assert [event for event in await s.events() if isinstance(event, ev.RunClaimed)] == [ev.RunClaimed(1)]


async def test_a_run_that_was_just_accepted_is_not_stolen() -> None:
    """Between the commit that accepts a run and the call that drives it, nobody drives it."""
    waiting = Waits()
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        s.store.hooks["after_accept"] = waiting
        starting = asyncio.create_task(s.start())
        await within(waiting.reached.wait())
        await s.recovery.sweep()
        waiting.open.set()
        await s.outcome(await within(starting))
        await s.settled()
        assert [event for event in await s.events() if isinstance(event, ev.RunClaimed)] == [ev.RunClaimed(1)]


async def test_a_process_that_is_stopping_takes_up_nothing(store: MemoryStore) -> None:
    await died(store, "c")
    async with scene_of(ScriptedReplies(text_reply("a")), store=store) as s:
        s.runs.close()
        assert await s.recovery.sweep() == 0


async def test_what_one_process_hands_back_another_has_at_once(store: MemoryStore) -> None:
    model = ScriptedReplies(text_reply("a"))
    model.gate = Gate()
    async with scene_of(model, store=store) as s, scene_of(ScriptedReplies(text_reply("b")), store=store) as other:
        await s.start()
        await until(lambda: bool(model.prompts))
        other.life.spawn(other.recovery.keep_sweeping())
        await within(s.runs.hand_back())
        await until(lambda: other.counters.recovered == 1)
        await other.settled()
        assert s.runs.live == 0
        assert isinstance((await other.events())[-1], ev.RunCompleted)


async def test_sweeps_go_on_after_one_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await undriven(s)
        calls: list[str] = []

        async def fail_once() -> None:
            calls.append("sweep")
            if len(calls) == 1:
                raise ValueError("a fault of ours")
            if len(calls) == 2:
                raise Unavailable("The store is busy.")

        s.store.hooks["take_lost"] = fail_once
        s.life.spawn(Recovery(s.store, s.runs, s.counters, sweep_every_s=0.001).keep_sweeping())
        await until(lambda: s.counters.recovered == 1)
        await s.settled()
        assert isinstance((await s.events())[-1], ev.RunCompleted)
        assert "a recovery sweep failed; the next one is in 0.001 s" in caplog.text


async def test_a_run_id_that_is_unknown_is_not_taken_up() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        assert await s.store.reclaim(RunId("none")) is None
        assert await s.recovery.sweep() == 0
