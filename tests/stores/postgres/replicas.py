"""Stores over one schema, as several servers would have them, and readers that check what they read."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from dragoman.core.errors import Unavailable
from dragoman.core.events import Entry, RunEnd
from dragoman.core.names import Clock, Tape
from dragoman.runtime.ports import LEASE_S
from dragoman.stores.postgres.store import PostgresStore, open_store
from tests.stores.postgres.database import kept_schema

R = TypeVar("R")


@asynccontextmanager
async def replicas(
    count: int, *, clock: Clock | None = None, lease_s: float = LEASE_S, wakeups: str = ""
) -> AsyncGenerator[list[PostgresStore]]:
    async with kept_schema() as url, AsyncExitStack() as stack:
        stores: list[PostgresStore] = []
        for _ in range(count):
            store = await open_store(url, clock=clock, lease_s=lease_s, wakeups=wakeups)
            stack.push_async_callback(store.close)
            stores.append(store)
        yield stores


async def all_listening(stores: list[PostgresStore]) -> None:
    async with asyncio.timeout(5):
        while not all(store.listening for store in stores):
            await asyncio.sleep(0.001)


async def insist(work: Callable[[], Awaitable[R]]) -> R:
    """Try again while the store is away, as the runtime does."""
    while True:
        try:
            return await work()
        except Unavailable:
            await asyncio.sleep(0.01)


class Follower:
    """Reads a tape to the end of its run. Fails on a gap or a repeat. `calls` counts its questions."""

    def __init__(self, store: PostgresStore, tape: Tape, *, after: int = 0, limit: int = 1000) -> None:
        self.store = store
        self.tape = tape
        self.cursor = after
        self.limit = limit
        self.entries: list[Entry] = []
        self.calls = 0

    async def follow(self) -> list[Entry]:
        while not (self.entries and isinstance(self.entries[-1].event, RunEnd)):
            found = await insist(lambda: self.store.read(self.tape, after=self.cursor, limit=self.limit))
            self.calls += 1
            for entry in found:
                assert entry.seq == self.cursor + 1, f"{entry.seq} behind {self.cursor}"
                self.cursor = entry.seq
                self.entries.append(entry)
            if not found:
                await insist(lambda: self.store.grown(self.tape, after=self.cursor))
        return self.entries
