"""A crash at every write of a run, any number of times: the same answer, one end, no gap, nothing acknowledged lost.

A crash is played by a store that stops answering: the process's tasks get no further, and are then done away with.
Nothing is cleaned up on the way. A new house opens on what was committed.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.agents import Repeat
from dragoman.core.events import Entry
from dragoman.core.messages import said
from dragoman.core.names import ConversationId
from dragoman.core.operations import StartTurn
from dragoman.runtime.machine import OUTCOME_UNKNOWN
from dragoman.runtime.ports import LEASE_S
from dragoman.stores.memory import MemoryStore
from dragoman.stores.sqlite.store import open_store
from tests.parts import ADMIN, LedgerTools, ScriptedReplies, call_reply, house_of, text_reply
from tests.support import FixedClock

WRITES = ("accept", "append", "finish", "take_lost", "reclaim")
CONVERSATION = ConversationId("crash")


class Fused:
    """A store that stops for good at the nth write, before or after it is committed."""

    def __init__(self, store: Any, nth: int, *, after: bool) -> None:
        self._store = store
        self._left = nth
        self._after = after
        self.blown = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in WRITES:
            return method

        async def fused(*args: Any, **kwargs: Any) -> Any:
            if name == "take_lost" and not await self._store.unfinished():
                return await method(*args, **kwargs)  # there is nothing it could write
            self._left -= 1
            if self._left < 0 or (self._left == 0 and not self._after):
                self.blown.set()
                await asyncio.Event().wait()
            result = await method(*args, **kwargs)
            if self._left == 0:
                self.blown.set()
                await asyncio.Event().wait()
            return result

        return fused


@pytest.fixture(params=["memory", "sqlite"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """Opens the same store again and again."""
    clock = FixedClock()
    kept = MemoryStore(clock)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        if request.param == "memory":
            clock.move(LEASE_S + 1)  # whoever used it before is dead
            yield kept
            return
        store = await open_store(tmp_path / "d.db", FixedClock(), writer=True)
        try:
            yield store
        finally:
            await store.close()

    yield opened


def model() -> ScriptedReplies:
    return ScriptedReplies(
        call_reply(("look", "{}"), ("send", '{"to":"ops"}'), text="Let me see."),
        text_reply("It is ", "fine."),
    )


def tools() -> LedgerTools:
    return LedgerTools({"look": "seen", "send": "sent"}, {"look": Repeat.PURE, "send": Repeat.ONCE})


TURN = StartTurn(CONVERSATION, (said("user", "how is it?"),))


async def crash(opened: Any, home: Path, ledger: LedgerTools, nth: int, *, after: bool, turn: bool) -> bool:
    """One life of the process, which ends at its nth write; whether it was cut short at all."""
    async with opened() as store:
        fused = Fused(store, nth, after=after)
        opening = asyncio.create_task(live(fused, store, home, ledger, turn=turn))
        blown = asyncio.create_task(fused.blown.wait())
        done, _ = await asyncio.wait({opening, blown}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert done, "the process neither ended nor crashed"
        for task in (opening, blown):
            task.cancel()
        results = await asyncio.gather(opening, blown, return_exceptions=True)
        cut_short = fused.blown.is_set()
        if not cut_short and isinstance(results[0], BaseException):
            raise results[0]
        return cut_short


async def live(fused: Any, store: Any, home: Path, ledger: LedgerTools, *, turn: bool) -> None:
    async with house_of(home, model(), store=fused, access=store, tools=ledger) as house:
        if turn:
            started = await house.desk.answer(ADMIN, TURN)
            await house.desk.outcome(started)
        else:
            await asyncio.wait_for(house.runs[0].settled(), 5)


async def tape_of(opened: Any) -> Sequence[Entry]:
    async with opened() as store:
        info = await store.get(ADMIN.project, CONVERSATION)
        return () if info is None else await store.read(info.tape, after=0)


def check(entries: Sequence[Entry], ledger: LedgerTools) -> None:
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    ends = [entry.event for entry in entries if ev.is_end(entry.event)]
    assert len(ends) == 1 and ends[0] == entries[-1].event
    assert isinstance(ends[0], ev.RunCompleted)
    finished = [entry.event for entry in entries if isinstance(entry.event, ev.ReplyFinished)]
    assert [reply.text for reply in finished] == ["Let me see.", "It is fine."]
    assert all(count == 1 for (name, _), count in ledger.effects.items() if name == "send")
    intents = {e.event.call.id for e in entries if isinstance(e.event, ev.ToolStarted)}
    assert {key.partition(":")[2] for _, key in ledger.effects} <= intents
    for entry in entries:
        if isinstance(entry.event, ev.ToolReturned) and entry.event.code == "outcome_unknown":
            assert entry.event.content == OUTCOME_UNKNOWN


@pytest.mark.parametrize("after", [False, True], ids=["before_commit", "after_commit"])
async def test_a_run_survives_a_crash_at_any_write(stores: Any, tmp_path: Path, after: bool) -> None:
    for nth in range(1, 50):
        ledger = tools()
        if not await crash(stores, tmp_path, ledger, nth, after=after, turn=True):
            check(await tape_of(stores), ledger)
            assert nth > 6, "the run has fewer writes than it must have"
            return
        entries = await tape_of(stores)
        if entries:
            await crash(stores, tmp_path, ledger, 10**6, after=False, turn=False)
            check(await tape_of(stores), ledger)
        else:
            assert nth == 1 and not after, "what was committed is gone"
        async with stores() as store:
            await store.delete(ADMIN.project, CONVERSATION)
    raise AssertionError("the run never ended")


@pytest.mark.parametrize("after", [False, True], ids=["before_commit", "after_commit"])
async def test_a_run_survives_a_crash_in_every_life(stores: Any, tmp_path: Path, after: bool) -> None:
    """Each life gets five writes: enough for one reply, and each must get at least that much further."""
    ledger = tools()
    await crash(stores, tmp_path, ledger, 1 if after else 2, after=after, turn=True)
    for _ in range(40):
        if not await crash(stores, tmp_path, ledger, 5, after=after, turn=False):
            break
    check(await tape_of(stores), ledger)
