"""A process looks after its runs: leases are renewed while a tool is at work, and what is asked arrives."""

import asyncio

from dragoman.core import events as ev
from dragoman.core.errors import Unavailable
from dragoman.core.messages import Usage
from dragoman.core.names import RunId
from dragoman.core.operations import CancelRun
from dragoman.runtime.attending import Attending
from dragoman.runtime.ports import LEASE_S
from dragoman.stores.memory import MemoryStore
from tests.parts import ADMIN, LedgerTools, ScriptedReplies, call_reply, text_reply
from tests.runtime.scene import Scene, Waits, kinds, scene_of, until, within
from tests.support import FixedClock

R1 = RunId("r1")


def attending(scene: Scene) -> Attending:
    return Attending(scene.store, scene.runs, scene.clock)


def busy() -> tuple[ScriptedReplies, LedgerTools, Waits]:
    """A model that calls a tool, which works until it is let go."""
    tools, at_work = LedgerTools({"dig": "dug"}), Waits()
    tools.before = at_work
    return ScriptedReplies(call_reply(("dig", "{}")), text_reply("done")), tools, at_work


async def test_a_run_in_a_long_tool_keeps_its_lease() -> None:
    model, tools, at_work = busy()
    clock = FixedClock()
    store = MemoryStore(clock)
    async with scene_of(model, store=store, tools=tools, clock=clock) as scene:
        await scene.start()
        await within(at_work.reached.wait())
        for _ in range(10):
            clock.move(LEASE_S / 3)
            await attending(scene).renew()
        assert await store.take_lost(limit=10) == ()
        clock.move(LEASE_S + 1)
        (taken,) = await store.take_lost(limit=10)
        assert taken.epoch == 2
        at_work.open.set()
        await scene.settled()


async def test_a_run_that_was_taken_over_is_let_go_and_writes_nothing_more() -> None:
    model, tools, at_work = busy()
    clock = FixedClock()
    store = MemoryStore(clock)
    async with scene_of(model, store=store, tools=tools, clock=clock) as scene:
        await scene.start()
        await within(at_work.reached.wait())
        clock.move(LEASE_S + 1)
        (taken,) = await store.take_lost(limit=10)
        await within(attending(scene).renew())
        await scene.settled()
        assert kinds(await scene.events())[-1] == "run_claimed"
        assert tools.effects == {}
        assert await store.append(taken, (), after=taken.seq) == taken.seq  # and the new owner's claim is good


async def test_a_wish_that_came_by_another_process_stops_the_run() -> None:
    model, tools, at_work = busy()
    store = MemoryStore(FixedClock())
    async with scene_of(model, store=store, tools=tools) as scene:
        started = await scene.start()
        await within(at_work.reached.wait())
        assert await store.ask(R1, ev.CancelAsked("somebody"))
        await attending(scene).hear()
        outcome = await scene.outcome(started)
        assert outcome.end == ev.RunCancelled("somebody", outcome.end.usage)
        assert tools.effects == {}


async def test_the_bell_brings_the_wish_at_once() -> None:
    model, tools, at_work = busy()
    store = MemoryStore(FixedClock())
    async with scene_of(model, store=store, tools=tools) as scene:
        scene.life.spawn(attending(scene).keep_attending())
        started = await scene.start()
        await within(at_work.reached.wait())
        assert await store.ask(R1, ev.CancelAsked("somebody"))
        assert isinstance((await scene.outcome(started)).end, ev.RunCancelled)


async def test_a_store_that_is_away_is_asked_again() -> None:
    model, tools, at_work = busy()
    store = MemoryStore(FixedClock())
    async with scene_of(model, store=store, tools=tools) as scene:
        scene.store.refuse(Unavailable("away"), "asked")
        scene.life.spawn(attending(scene).keep_attending())
        started = await scene.start()
        await within(at_work.reached.wait())
        assert await store.ask(R1, ev.CancelAsked("somebody"))
        await until(lambda: "asked" in scene.store.called)
        scene.store.hooks.clear()
        await store.release(())
        assert await store.ask(R1, ev.CancelAsked("somebody"))
        assert isinstance((await scene.outcome(started)).end, ev.RunCancelled)


async def test_cancelling_a_run_that_another_process_drives() -> None:
    model, tools, at_work = busy()
    store = MemoryStore(FixedClock())
    async with (
        scene_of(model, store=store, tools=tools) as owner,
        scene_of(model, store=store, ids="other") as other,
    ):
        owner.life.spawn(attending(owner).keep_attending())
        started = await owner.start()
        await within(at_work.reached.wait())

        async def not_mine(run: RunId) -> None:
            return None

        # A memory store has one process; what `reclaim` says to another one is put in here.
        other.store.__dict__["reclaim"] = not_mine
        async with asyncio.timeout(5):
            view = await other.runs.cancel(ADMIN, CancelRun(R1))
        assert view.status == "cancelled"
        assert (await owner.outcome(started)).end == ev.RunCancelled(ADMIN.credential_id, model_usage(owner))


def model_usage(scene: Scene) -> Usage:
    return Usage(scene.counters.prompt_tokens, scene.counters.completion_tokens)
