"""What upkeep promises is shown in tests/stores/test_prune.py and test_conversations.py; here, how it goes about it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.names import ConversationId, Tape
from dragoman.runtime.tail import Tails
from dragoman.stores.postgres import upkeep
from dragoman.stores.postgres.connection import Pool, Server
from dragoman.stores.postgres.store import PostgresStore, open_store
from dragoman.stores.postgres.tasks import Tasks
from tests.stores.postgres.database import KEPT, kept_schema, url_of
from tests.stores.talk import PROJECT, begin, finish
from tests.support import FixedClock


class News:
    """What readers here and elsewhere are told."""

    now_us = None

    def __init__(self) -> None:
        self.tails = Tails()
        self.wakeups = self
        self.told: list[Tape] = []

    def gone(self, tape: Tape) -> None:
        self.told.append(tape)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_700_000_000.25)


@pytest.fixture
async def store(clock: FixedClock) -> AsyncIterator[PostgresStore]:
    async with kept_schema() as url:
        opened = await open_store(url, clock=clock)
        yield opened
        await opened.close()


@pytest.fixture
async def pool(store: PostgresStore) -> AsyncIterator[Pool]:
    tasks = Tasks()
    opened = Pool(Server(url_of(KEPT)), 2, tasks)
    yield opened
    await tasks.close()
    await opened.close()


@pytest.mark.parametrize(("limit", "pruned"), [(0, 0), (3, 3), (20, 20), (21, 21), (100, 22)])
async def test_no_more_runs_are_pruned_at_once_than_wanted(
    store: PostgresStore, pool: Pool, clock: FixedClock, limit: int, pruned: int
):
    assert upkeep.PRUNED_AT_ONCE == 20
    for number in range(22):
        claim = await begin(store, f"c{number}", f"r{number}")
        await finish(store, claim, (ev.TextAdded("x"), ev.ReplyFinished("x"), ev.RunCompleted()))
    news: Any = News()
    assert await upkeep.prune(pool, news, ended_before=clock.at + 1, limit=limit) == pruned
    assert sum(run.pruned for run in await store.runs(PROJECT, limit=100)) == pruned


async def test_who_reads_a_deleted_tape_is_told_and_of_nothing_nobody(store: PostgresStore, pool: Pool):
    claim = await begin(store, "c", "r1")
    news: Any = News()
    for expected, told in ((["r1"], [claim.tape]), (None, [claim.tape])):
        found = await pool.do(lambda connection: upkeep.delete(connection, news, PROJECT, ConversationId("c")))
        assert (found, news.told) == (expected, told)
