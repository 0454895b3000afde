"""Recovery: what a dead process left behind is taken up, once, and what is alive is left alone."""

import asyncio

import pytest

from dragoman.core import events as ev
from dragoman.core.agents import Repeat
from dragoman.core.errors import Unavailable
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, RunId
from dragoman.runtime.machine import OUTCOME_UNKNOWN, PAUSES_FORGIVEN
from dragoman.runtime.recovery import AT_ONCE, Recovery
from dragoman.stores.memory import MemoryStore
from tests.parts import USAGE, Gate, LedgerTools, ScriptedReplies, call_reply, text_reply
from tests.runtime.scene import Scene, Waits, asked, kinds, scene_of, until, within
from tests.support import FixedClock

STARTED = ev.ReplyStarted("helper", "")
ANSWER = (ev.ReplyFinished("a", (), USAGE), ev.RunCompleted(USAGE))


async def died(store: MemoryStore, *conversations: str) -> None:
    """A process that accepts a turn in each conversation and dies as its models begin to answer."""
    model = ScriptedReplies(text_reply("never"))
    model.gate = Gate()
    async with scene_of(model, store=store, ids="d") as s:
        for conversation in conversations:
            await s.start(conversation=conversation)
        await until(lambda: len(model.prompts) == len(set(conversations)))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(FixedClock())


async def test_at_its_start_a_process_takes_up_all_that_is_unfinished(store: MemoryStore) -> None:
    names = [f"c{number}" for number in range(AT_ONCE + 3)]
    await died(store, *names)
    async with scene_of(ScriptedReplies(text_reply("a")), store=store) as s:
        assert await s.recovery.at_start() == len(names)
        assert s.counters.recovered == len(names)
        await s.settled()
        assert await store.unfinished() == ()
        for number in range(1, len(names) + 1):
            events = await s.events(f"d{number}", tape=number)  # pyright: ignore[reportArgumentType]
            assert events == [ev.RunClaimed(1), ev.RunClaimed(2), STARTED, ev.TextAdded("a"), *ANSWER]
        assert await s.recovery.at_start() == 0


async def test_a_start_that_cannot_claim_fails(store: MemoryStore) -> None:
    await died(store, "a", "b")
    async with scene_of(ScriptedReplies(text_reply("a")), store=store) as s:
        s.store.refuse(Unavailable("The disk is full."), "reclaim")
        with pytest.raises(Unavailable):
            await s.recovery.at_start()
        assert s.runs.live == 0


async def test_turns_that_waited_behind_a_dead_run_follow_it_in_their_order(store: MemoryStore) -> None:
    await died(store, "c", "c", "c")
    model = ScriptedReplies(text_reply("a"))
    async with scene_of(model, store=store) as s:
        assert await s.recovery.at_start() == 1
        await s.settled()
        ends = [entry.run for entry in await s.tape() if ev.is_end(entry.event)]
        assert ends == ["d1", "d2", "d3"]
        assert [prompt.key for prompt in model.prompts] == ["d1:1", "d2:1", "d3:1"]
        assert await s.events("d2") == [ev.RunClaimed(1), STARTED, ev.TextAdded("a"), *ANSWER]


async def test_half_a_reply_is_void_from_where_it_began(store: MemoryStore) -> None:
    async with scene_of(ScriptedReplies(), store=store) as s:
        accepted = await s.accept(asked())
        last = await store.append(accepted.claim, [STARTED, ev.TextAdded("It "), ev.TextAdded("was")])
    async with scene_of(ScriptedReplies(text_reply("a")), store=store) as s:
        await s.recovery.at_start()
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
        await store.append(accepted.claim, [STARTED, finished, *map(ev.ToolStarted, calls)])
    model = ScriptedReplies([], text_reply("a"))
    async with scene_of(model, store=store, tools=tools) as s:
        await s.recovery.at_start()
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
    async with scene_of(ScriptedReplies(*script), store=store, tools=tools) as s:
        await s.recovery.at_start()
        await s.settled()
        assert tools.effects == {("send", "r1:c1"): 1}
        assert isinstance((await s.events())[-1], ev.RunCompleted)


async def test_a_server_that_was_down_for_long_does_not_fail_what_it_finds(store: MemoryStore) -> None:
    clock = FixedClock()
    store = MemoryStore(clock)
    await died(store, "c")
    clock.move(12 * 3600)
    async with scene_of(ScriptedReplies(text_reply("a")), store=store, clock=clock) as s:
        await s.recovery.at_start()
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
            await s.recovery.at_start()
            await until(lambda s=s, model=model: bool(model.prompts) or not s.runs.live)
    assert restarts == PAUSES_FORGIVEN + 1
    failed = (await s.events("d1"))[-1]
    assert failed == ev.RunFailed("time_limit", "The run took longer than its 600 s.")


# -- sweeps ----------------------------------------------------------------------------------------------------------


async def undriven(s: Scene) -> None:
    """A run that was put down."""
    s.store.refuse(Unavailable("The disk is full."), "finish")
    await s.start(deltas=False)
    await s.settled()
    s.store.hooks.clear()


async def test_a_sweep_takes_up_what_two_in_a_row_saw_undriven() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await undriven(s)
        await s.recovery.sweep()
        assert (s.runs.live, s.counters.recovered) == (0, 0)
        await s.recovery.sweep()
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
    """Between the commit that accepts a run and the call that drives it, a sweep sees it undriven."""
    waiting = Waits()
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        s.store.hooks["after_accept"] = waiting
        starting = asyncio.create_task(s.start())
        await within(waiting.reached.wait())
        await s.recovery.sweep()
        waiting.open.set()
        await s.outcome(await within(starting))
        await s.recovery.sweep()
        await s.recovery.sweep()
        await s.settled()
        assert [event for event in await s.events() if isinstance(event, ev.RunClaimed)] == [ev.RunClaimed(1)]


async def test_a_suspect_that_is_driven_by_the_time_it_would_be_claimed_is_left_alone() -> None:
    """Of two suspects both are driven while the first is being claimed."""
    model = ScriptedReplies(text_reply("a"))
    model.gate = Gate()
    async with scene_of(model) as s:
        accepted = [await s.accept(asked(), run, conversation=run) for run in ("r1", "r2")]
        await s.recovery.sweep()

        async def drive() -> None:
            for each in accepted:
                s.runs.drive(each.claim)

        s.store.hooks["reclaim"] = drive
        await s.recovery.sweep()
        model.gate.open()
        await s.settled()
        claims = [kinds([entry.event for entry in await s.tape(each.tape)]).count("run_claimed") for each in accepted]
        assert (sorted(claims), s.counters.recovered) == ([1, 2], 1)
        assert await s.store.unfinished() == ()


async def test_a_suspect_that_ended_meanwhile_is_forgotten() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        accepted = await s.accept(asked())
        await s.recovery.sweep()

        async def end() -> None:
            await s.store.finish(accepted.claim, [ev.RunCancelled("me")], weight=0)

        s.store.hooks["after_unfinished"] = end
        await s.recovery.sweep()
        assert (s.runs.live, s.counters.recovered) == (0, 0)


async def test_sweeps_go_on_after_one_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await undriven(s)
        calls: list[str] = []

        async def fail_once() -> None:
            calls.append("sweep")
            if len(calls) == 1:
                raise Unavailable("The store is busy.")

        s.store.hooks["unfinished"] = fail_once
        s.life.spawn(Recovery(s.store, s.runs, s.counters, sweep_every_s=0.001).keep_sweeping())
        await until(lambda: s.counters.recovered == 1)
        await s.settled()
        assert isinstance((await s.events())[-1], ev.RunCompleted)
        assert "a recovery sweep failed; the next one is in 0.001 s" in caplog.text


async def test_a_run_id_that_is_unknown_is_not_taken_up() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        assert await s.store.reclaim(RunId("none")) is None
        assert await s.recovery.at_start() == 0
