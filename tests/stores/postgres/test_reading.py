import asyncio
from collections.abc import AsyncIterator

import pytest

from dragoman.core.errors import Unavailable
from dragoman.core.events import Entry, Unread
from dragoman.core.names import RunId, Tape
from dragoman.stores.postgres import reading
from dragoman.stores.postgres.connection import Pool, Server
from dragoman.stores.postgres.reading import SharedReads
from dragoman.stores.postgres.store import PostgresStore, open_store
from dragoman.stores.postgres.tasks import Tasks
from tests.stores.postgres.database import KEPT, connect, kept_schema, url_of
from tests.stores.talk import begin, say


@pytest.fixture
async def store() -> AsyncIterator[PostgresStore]:
    async with kept_schema() as url:
        opened = await open_store(url)
        yield opened
        await opened.close()


@pytest.fixture
async def pool(store: PostgresStore) -> AsyncIterator[Pool]:
    tasks = Tasks()
    opened = Pool(Server(url_of(KEPT)), 2, tasks)
    yield opened
    await tasks.close()
    await opened.close()


def test_a_tape_is_a_stretch_of_places():
    assert (reading.first_of(Tape(1)), reading.last_of(Tape(1))) == (2**32, 2**33 - 1)


async def test_who_asks_the_same_at_the_same_time_gets_one_answer():
    tasks = Tasks()
    reads, asked, go_on = SharedReads(tasks), list[str](), asyncio.Event()

    async def ask(name: str) -> str:
        asked.append(name)
        await go_on.wait()
        if name == "bad":
            raise Unavailable("no")
        return name

    def get(name: str) -> "asyncio.Task[str]":
        return asyncio.ensure_future(reads.get(name, lambda: ask(name)))

    first, second, other, bad, gone = get("a"), get("a"), get("b"), get("bad"), get("a")
    for _ in range(3):
        await asyncio.sleep(0)
    gone.cancel()
    lonely = get("bad")
    await asyncio.sleep(0)
    lonely.cancel()
    go_on.set()
    assert await asyncio.gather(first, second, other) == ["a", "a", "b"]
    with pytest.raises(Unavailable):
        await bad
    assert sorted(asked) == ["a", "b", "bad"]
    assert await get("a") == "a"
    assert len(asked) == 4
    go_on.clear()
    cut_off = get("a")
    await asyncio.sleep(0)
    await tasks.close()
    with pytest.raises(Unavailable, match="closed"):
        await cut_off


async def test_heads_of_those_that_exist(store: PostgresStore, pool: Pool):
    claims = [await begin(store, f"c{number}", f"r{number}") for number in range(3)]
    asked = [*(claim.tape for claim in claims), *map(Tape, range(10**6, 10**6 + reading.HEADS_AT_ONCE))]
    assert sorted(await reading.heads(pool, asked)) == sorted((claim.tape, 3) for claim in claims)
    assert await reading.heads(pool, []) == []


async def test_a_run_tells_the_last_of_its_entries_that_we_know_of(store: PostgresStore, pool: Pool):
    await say(store, "c", "r1", "hi", "hello")
    await begin(store, "c", "r2")
    found = await reading.runs(pool, "runs_newest", "default", 10)
    assert [(view.id, seq) for view, seq in found] == [("r2", 7), ("r1", 6)]


async def test_what_a_newer_version_wrote_is_passed_on(store: PostgresStore, pool: Pool):
    claim = await begin(store, "c", "r1")
    admin = await connect(url_of(KEPT))
    body = '{"kind":"from_the_future","x":[1, 2]}'
    row = "place + 2, place, at, 0, '', 'from_the_future', $1"
    await admin.execute(f"insert into entries select {row} from entries where run_id = 'r1'", body)
    await admin.execute("update conversations set head = 4")
    await admin.close()
    found = await reading.entries(pool, "entries_after", claim.tape << 32 | 3, reading.last_of(claim.tape), 10)
    assert [(entry.seq, entry.run, entry.event) for entry in found] == [(4, "r1", Unread("from_the_future", body))]
    assert isinstance(found[0], Entry)
    assert found[0].run == RunId("r1")
