"""The engines the contract tests run over, and fresh stores of each."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from dragoman.access.ports import AccessStore
from dragoman.core.names import Clock
from dragoman.runtime.ports import Store
from dragoman.stores.memory import MemoryStore
from dragoman.stores.postgres.store import open_store as open_postgres
from dragoman.stores.sqlite.store import open_store
from tests.stores.postgres.database import KEPT, drop_kept_schema, kept_schema, url_of
from tests.support import FixedClock


class Engine(Store, AccessStore, Protocol):
    """Both ports by one object."""


@asynccontextmanager
async def memory(_folder: Path, clock: Clock) -> AsyncGenerator[Engine]:
    store = MemoryStore(clock)
    yield store
    await store.close()


@asynccontextmanager
async def sqlite(folder: Path, clock: Clock) -> AsyncGenerator[Engine]:
    store = await open_store(folder / "dragoman.db", clock, writer=True)
    yield store
    await store.close()


@asynccontextmanager
async def sqlite_beside(folder: Path, clock: Clock) -> AsyncGenerator[Engine]:
    store = await open_store(folder / "dragoman.db", clock, writer=False)
    yield store
    await store.close()


@asynccontextmanager
async def postgres(_folder: Path, clock: Clock) -> AsyncGenerator[Engine]:
    async with kept_schema() as url:
        store = await open_postgres(url, clock=clock)
        yield store
        await store.close()


@asynccontextmanager
async def postgres_beside(_folder: Path, clock: Clock) -> AsyncGenerator[Engine]:
    store = await open_postgres(url_of(KEPT), clock=clock)
    yield store
    await store.close()


Opening = Callable[[Path, Clock], AbstractAsyncContextManager[Engine]]

ENGINES: dict[str, Opening] = {"memory": memory, "sqlite": sqlite, "postgres": postgres}
"""To join: a function that opens an empty store in a folder of its own."""
DURABLE: dict[str, Opening] = {"sqlite": sqlite_beside, "postgres": postgres_beside}
"""Of those that keep their data: how another process would open it to read."""


@pytest.fixture(scope="session", autouse=True)
def leave_nothing() -> Iterator[None]:
    yield
    asyncio.run(drop_kept_schema())


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_700_000_000.25)


@pytest.fixture(params=ENGINES)
def opening(request: pytest.FixtureRequest) -> Opening:
    return ENGINES[request.param]


@pytest.fixture
async def store(opening: Opening, tmp_path: Path, clock: FixedClock) -> AsyncIterator[Engine]:
    async with opening(tmp_path, clock) as opened:
        yield opened
