"""The runtime on its own: runs over a memory store, around a scripted model. No edge, no files."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec
from dragoman.core.events import Entry, Event
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, RunId, Tape
from dragoman.core.operations import Started, StartTurn
from dragoman.models.catalogue import Catalogue
from dragoman.runtime.budgets import Budget
from dragoman.runtime.conversations import Conversations
from dragoman.runtime.counters import Counters
from dragoman.runtime.driver import Driver, Seed
from dragoman.runtime.ports import LEASE_S, Accepted, Claim, Model, NewTurn, Store
from dragoman.runtime.recovery import Recovery
from dragoman.runtime.runs import Changed, Runs
from dragoman.server.lifespan import lifespan
from dragoman.stores.memory import MemoryStore
from tests.parts import ADMIN, LedgerTools
from tests.support import FixedClock

WAIT_S = 5.0
CONVERSATION = ConversationId("c")
FIRST = Tape(1)
AGENT = AgentSpec("helper", "Be brief.")
WRITES = ("accept", "append", "finish", "take_lost", "reclaim", "end_waiting", "ask", "delete", "put_messages")


class Watched:
    """A store that notes what is asked of it. A hook under a method's name is awaited before it, and one under `after_`
    and the name after it: to look, to wait, or to raise."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._during: tuple[int, Callable[[], object]] | None = None
        self.called: list[str] = []
        self.written: list[tuple[Event, ...]] = []
        """What each append and finish brought."""
        self.entries_read = 0
        self.hooks: dict[str, Callable[[], Awaitable[None]]] = {}

    @property
    def writes(self) -> list[str]:
        return [name for name in self.called if name in WRITES]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        async def watched(*args: Any, **kwargs: Any) -> Any:
            self.called.append(name)
            if self._during is not None and self._during[0] == len(self.called):
                asyncio.get_running_loop().call_soon(self._during[1])
            if hook := self.hooks.get(name):
                await hook()
            result = await method(*args, **kwargs)
            if name in ("append", "finish"):
                self.written.append(tuple(args[1]))
            if name in ("read", "read_run", "history"):
                self.entries_read += len(result)
            if hook := self.hooks.get(f"after_{name}"):
                await hook()
            return result

        return watched

    def during(self, nth: int, act: Callable[[], object]) -> None:
        """Act while the nth call is under way, if it waits for anything."""
        self._during = (nth, act)

    def refuse(self, error: Exception, *names: str) -> None:
        async def refused() -> None:
            raise error

        self.hooks.update(dict.fromkeys(names, refused))


class Scene:
    """One process. `life` is the task group in which its runs live."""

    def __init__(self, life: Any, model: Model | Mapping[str, Model], store: Store, **settings: Any) -> None:
        agents: Mapping[str, AgentSpec] = settings.get("agents") or {AGENT.name: AGENT}
        changed: Changed | None = settings.get("changed")
        self.life = life
        self.clock: FixedClock = settings.get("clock") or FixedClock()
        self.store = Watched(store)
        self.tools: LedgerTools = settings.get("tools") or LedgerTools({})
        self.counters = Counters()
        models = model if isinstance(model, Mapping) else {"main": model}
        self.driver = Driver(
            self.store,
            Catalogue(models, next(iter(models))),
            self.tools,
            agents,
            default_agent=next(iter(agents)),
            workflows=settings.get("workflows"),
            configured=settings.get("configured") or {},
            workflow_tools=settings.get("workflow_tools"),
            budget=settings.get("budget") or Budget(),
            clock=self.clock,
            counters=self.counters,
            sleep=self._sleep,
        )
        numbers = count(1)
        prefix = settings.get("ids", "r")
        self.runs = Runs(
            self.store,
            self.driver,
            spawn=life.spawn,
            new_id=lambda: RunId(f"{prefix}{next(numbers)}"),
            queue_max=settings.get("queue_max", 8),
            changed=changed,
            lasting=settings.get("lasting", True),
        )
        self.conversations = Conversations(self.store, self.runs, new_id=self.runs._new_id, changed=changed)  # pyright: ignore[reportPrivateUsage]
        self.recovery = Recovery(self.store, self.runs, self.counters)

    async def _sleep(self, delay_s: float) -> None:
        """What a run waits for a store that is away: no time, but a turn of the loop."""
        await asyncio.sleep(0)

    # -- the driver alone ------------------------------------------------------------------------------------------

    async def accept(self, received: ev.TurnReceived, run: str = "r1", *, conversation: str = CONVERSATION) -> Accepted:
        """What `Runs.start` does before it drives."""
        id = ConversationId(conversation)
        created = ev.ConversationCreated(ADMIN.project, id)
        return await self.store.accept(NewTurn(ADMIN.project, id, RunId(run), received, created))

    async def drive(self, received: ev.TurnReceived, run: str = "r1") -> Claim | None:
        """Accept a turn and carry it to its end, all in this task."""
        accepted = await self.accept(received, run)
        seed = Seed(received, seq=accepted.seq, fresh=accepted.created)
        async with asyncio.timeout(WAIT_S):
            return await self.driver.drive(accepted.claim, seed)

    # -- runs ------------------------------------------------------------------------------------------------------

    async def start(self, text: str = "how is it?", conversation: str = CONVERSATION, **options: Any) -> Started:
        turn = StartTurn(ConversationId(conversation), (said("user", text),), **options)
        return await self.runs.start(ADMIN, turn)

    async def outcome(self, started: Started) -> Any:
        async with asyncio.timeout(WAIT_S):
            return await self.runs.outcome(started)

    async def settled(self) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.runs.settled()

    # -- the tape --------------------------------------------------------------------------------------------------

    async def tape(self, tape: Tape = FIRST) -> list[Entry]:
        """All of it; checks the numbering on the way."""
        entries = list(await self.store.read(tape, after=0, limit=10**9))
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        return entries

    async def events(self, run: str = "r1", tape: Tape = FIRST) -> list[Event]:
        """What stands on the tape of one run, its TurnReceived left out."""
        return [
            entry.event
            for entry in await self.tape(tape)
            if entry.run == run and not isinstance(entry.event, ev.TurnReceived)
        ]


def asked(text: str = "how is it?", **options: Any) -> ev.TurnReceived:
    return ev.TurnReceived((said("user", text),), **options)


@asynccontextmanager
async def scene_of(
    model: Model | Mapping[str, Model], *, store: Store | None = None, **settings: Any
) -> AsyncGenerator[Scene]:
    """A process that lives as long as the block. A store that is handed in outlives it."""
    async with lifespan() as life:
        yield Scene(life, model, store or MemoryStore(FixedClock()), **settings)


def leases_run_out(store: MemoryStore) -> None:
    """Whoever drove runs over this store is taken for dead from now on."""
    clock = store._clock  # pyright: ignore[reportPrivateUsage]
    assert isinstance(clock, FixedClock)
    clock.move(LEASE_S + 1)


class Waits:
    """Stops whoever passes, until it is opened; says when somebody has come."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, *_: object) -> None:
        self.reached.set()
        async with asyncio.timeout(WAIT_S):
            await self.open.wait()


async def within(waiting: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(waiting, WAIT_S)


async def until(true: Callable[[], bool]) -> None:
    """Let other tasks go on until something has come about."""
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0)


def kinds(events: Sequence[Event]) -> list[str]:
    return [ev.kind_of(event) for event in events]
