"""Readers of a whole tape against two processes that write it (R11): subscribed at random moments and places, cancelled
and called again, they hear every entry behind their place once, and end when all was said and not sooner."""

import asyncio
import random
import time
from collections.abc import Sequence

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.names import ConversationId, RunId
from dragoman.core.operations import Listening
from dragoman.runtime.ports import Claim
from dragoman.runtime.readers import TURN_ENDS, Line, TapeReader, resume_tape
from dragoman.stores.postgres.store import PostgresStore
from tests.stores.postgres.replicas import all_listening, replicas
from tests.stores.talk import PROJECT, turn

TALKS = 4
SUBSCRIBES = 3000
SUBSCRIBERS = 24
RACES_S = 9.0
"""On a busy machine there are fewer."""
CALM_S = 16.0


class Subscription:
    """One reader, and what it heard by the time it was told that this is all."""

    def __init__(self, after: int, listening: Listening) -> None:
        self.after = after
        self.begin = listening.after
        self.entries: list[Entry] = []


async def subscribe(store: PostgresStore, conversation: ConversationId, rng: random.Random) -> Subscription:
    info = await store.get(PROJECT, conversation)
    assert info is not None
    after = rng.choice((0, info.head, info.head, rng.randint(max(info.head - 12, 0), info.head)))
    listening = await resume_tape(store, PROJECT, info, after=after)
    reader = TapeReader(store, Line(), PROJECT, listening)
    heard = Subscription(after, listening)
    while batch := await next_batch(reader, rng):
        heard.entries.extend(batch)
    return heard


async def next_batch(reader: TapeReader, rng: random.Random) -> Sequence[Entry]:
    while True:
        reading = asyncio.ensure_future(reader.batch())
        for _ in range(rng.choice((3, 30, 1_000_000))):
            if reading.done():
                return reading.result()
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            return reading.result()


class Talk:
    """One conversation that two processes take turns in, each driving what it got to drive."""

    def __init__(self, stores: list[PostgresStore], number: int) -> None:
        self.id = ConversationId(f"c{number}")
        self.heard: list[Subscription] = []
        self._stores = stores
        self._rng = random.Random(number)
        self._runs = 0

    async def go_on(self) -> None:
        """Some turns, which may wait for each other, until all have ended; then nothing for a while."""
        saying = [self._say(self._rng.choice(self._stores), self._rng) for _ in range(self._rng.choice((1, 1, 2, 3)))]
        await asyncio.gather(*saying)
        for _ in range(self._rng.choice((0, 5, 50))):
            await asyncio.sleep(0)

    async def _say(self, store: PostgresStore, rng: random.Random) -> None:
        """A turn, until it has ended, whoever drives it."""
        self._runs += 1
        run = RunId(f"{self.id}r{self._runs}")
        claim = (await store.accept(turn(self.id, run))).claim
        while claim is not None:
            claim = await self._drive(store, claim, rng)
        while (view := await store.run(PROJECT, run)) is None or view.status in ("queued", "running"):
            await asyncio.sleep(0)

    async def _drive(self, store: PostgresStore, claim: Claim, rng: random.Random) -> Claim | None:
        other = self._stores[self._stores[0] is store]
        last = claim.seq
        for _ in range(rng.randrange(6)):
            last = await store.append(claim, (ev.TextAdded("x"), ev.TextAdded("y")), after=last)
            if rng.random() < 0.2:
                await other.ask(claim.run, ev.CancelAsked())
            if rng.random() < 0.2:
                await other.note(PROJECT, self.id, (ev.TitleGiven("t"),))
        following = await store.finish(claim, (ev.RunCompleted(),), after=last, weight=1)
        if rng.random() < 0.3:
            await other.note(PROJECT, self.id, (ev.SharingChanged(shared=True),))
        return following


async def test_readers_of_a_tape_that_two_processes_write_miss_nothing_hear_nothing_twice_and_end_in_time() -> None:
    async with replicas(2) as stores:
        await all_listening(stores)
        talks = [Talk(stores, number) for number in range(TALKS)]
        for talk in talks:
            await talk.go_on()
        until, subscribed = time.monotonic() + RACES_S, 0

        async def keep_subscribing(store: PostgresStore, seed: int) -> None:
            nonlocal subscribed
            rng = random.Random(f"reader {seed}")
            while subscribed < SUBSCRIBES and time.monotonic() < until:
                subscribed += 1
                talk = rng.choice(talks)
                talk.heard.append(await subscribe(store, talk.id, rng))

        async with asyncio.timeout(RACES_S + CALM_S):
            readers = asyncio.gather(*(keep_subscribing(stores[seed % 2], seed) for seed in range(SUBSCRIBERS)))
            while not readers.done():  # who began behind the last end waits for one more
                await asyncio.gather(*(talk.go_on() for talk in talks))
            await readers
        for talk in talks:
            info = await stores[1].get(PROJECT, talk.id)
            assert info is not None
            check(await stores[1].read(info.tape, after=0, limit=10**6), talk.heard)
    assert sum(len(talk.heard) for talk in talks) > SUBSCRIBES / 20


def check(tape: Sequence[Entry], heard: list[Subscription]) -> None:
    assert [entry.seq for entry in tape] == list(range(1, len(tape) + 1))
    open_runs: set[str] = set()
    quiet = {0: True}
    """By seq: whether no turn was at work or waited behind that entry."""
    at_work = {0: ""}
    """…and which one was at work."""
    received: dict[str, int] = {}
    for entry in tape:
        at_work[entry.seq] = at_work[entry.seq - 1]
        if isinstance(entry.event, ev.TurnReceived):
            open_runs.add(entry.run)
            received[entry.run] = entry.seq
        elif isinstance(entry.event, ev.RunClaimed):
            at_work[entry.seq] = entry.run
        elif isinstance(entry.event, TURN_ENDS):
            open_runs.remove(entry.run)
            at_work[entry.seq] = ""
        quiet[entry.seq] = not open_runs
    for each in heard:
        last = each.entries[-1].seq if each.entries else 0
        assert each.entries == list(tape[each.begin : last]), (each.after, each.begin)
        assert any(isinstance(entry.event, TURN_ENDS) for entry in each.entries), "it ended, and had heard of no end"
        assert quiet[last], f"it ended at {last}, where a turn was at work or waited"
        if run := at_work[each.after]:
            assert each.begin < received[run], f"it began behind {each.begin}, in the midst of {run}"
