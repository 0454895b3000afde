import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.names import ConversationId, RunId, Tape
from dragoman.core.operations import Mark
from dragoman.stores.postgres.books import Books
from dragoman.stores.postgres.connection import Connection, Server
from dragoman.stores.postgres.connection import connect as connect_as_the_store
from dragoman.stores.postgres.lookups import NUMBERS_AT_ONCE, About, Numbers, load_behind, load_marks, load_tapes
from dragoman.stores.postgres.store import PostgresStore, open_store
from dragoman.stores.postgres.tapes import Look
from tests.stores.postgres.database import KEPT, kept_schema, url_of
from tests.stores.talk import PROJECT, begin, say, turn, wait

C = ConversationId("c")


@pytest.fixture
async def store() -> AsyncIterator[PostgresStore]:
    async with kept_schema() as url:
        opened = await open_store(url)
        yield opened
        await opened.close()


@pytest.fixture
async def connection(store: PostgresStore) -> AsyncIterator[Connection]:
    opened = await connect_as_the_store(Server(url_of(KEPT)))
    yield opened
    await opened.close()


class Counting:
    """A connection that gives out numbers, and takes its time."""

    def __init__(self) -> None:
        self.last = 0

    async def fetch(self, _query: str, count: int) -> Sequence[Any]:
        await asyncio.sleep(0)
        first = self.last + 1
        self.last += count
        return [(number,) for number in range(first, self.last + 1)]


async def test_numbers_are_given_in_order_and_each_once():
    numbers, source = Numbers(), Counting()

    async def take(count: int) -> list[Tape]:
        books = Books()
        await numbers.lend(source, count, books)  # pyright: ignore[reportArgumentType] all of it that is used
        return [books.numbers.pop() for _ in range(count)]

    assert await take(3) == [1, 2, 3]
    taken = await asyncio.gather(*(take(NUMBERS_AT_ONCE // 2) for _ in range(6)))
    every = [number for some in taken for number in some]
    assert len(set(every)) == len(every) == 6 * (NUMBERS_AT_ONCE // 2)
    assert min(every) == 4


async def test_what_a_process_does_not_use_nobody_else_gets(connection: Connection):
    first, second = Books(), Books()
    await Numbers().lend(connection, 1, first)
    await Numbers().lend(connection, 1, second)
    assert first.numbers[-1] + NUMBERS_AT_ONCE == second.numbers[-1]


async def test_tapes_are_found_by_number_and_by_name(store: PostgresStore, connection: Connection):
    one = await begin(store, "one", "r1")
    await wait(store, "one", "r2")
    two = await say(store, "two", "r3", "hi", "hello")
    books = Books()
    by_name = About(PROJECT, ConversationId("two"))
    gone = About(PROJECT, ConversationId("three"))
    wanted = [About(PROJECT, ConversationId("one"), one.tape), by_name, gone, by_name]
    await load_tapes(connection, books, wanted, now_us=None, owner=store.owner, locked=False)
    tape = books.tape(one.tape)
    assert tape is not None
    assert [(run.id, run.status, run.held) for run in tape.runs] == [("r1", "running", False), ("r2", "queued", False)]
    assert (tape.head, tape.written, tape.turns) == (4, 3, 2)
    other = books.tape_of(PROJECT, ConversationId("two"))
    assert other is not None
    assert (other.number, other.runs) == (two.tape, [])
    assert books.tape_of(PROJECT, ConversationId("three")) is None


async def test_another_owners_live_lease_is_seen(store: PostgresStore, connection: Connection):
    claim = await begin(store, "c", "r1")
    books = Books()
    about = About(PROJECT, C, claim.tape)
    for owner, now_us, held in (("other", None, True), (store.owner, None, False), ("other", 2**60, False)):
        await load_tapes(connection, books, [about], now_us=now_us, owner=owner, locked=False)
        tape = books.tape(claim.tape)
        assert tape is not None
        assert tape.runs[0].held is held


async def test_what_is_locked_nobody_writes_until_it_is_let_go(store: PostgresStore, connection: Connection):
    claim = await begin(store, "c", "r1")
    await connection.execute("begin")
    about = About(PROJECT, C)
    await load_tapes(connection, Books(), [about], now_us=None, owner="x", locked=True)
    writing = asyncio.ensure_future(store.append(claim, (ev.TextAdded("x"),), after=3))
    await asyncio.sleep(0.05)
    assert not writing.done()
    await connection.execute("commit")
    assert await asyncio.wait_for(writing, 5) == 4


async def test_marks_are_found_by_key_or_by_fingerprint(store: PostgresStore, connection: Connection):
    await store.accept(turn("a", "r1", mark=Mark("f1", key="k1")))
    await store.accept(turn("b", "r2", mark=Mark("f2")))
    asked = [
        turn("x", "x1", mark=Mark("f1", key="k1")),
        turn("x", "x2", mark=Mark("f2", window_s=10.0)),
        turn("x", "x3", mark=Mark("f1", key="other")),
        turn("x", "x4", mark=Mark("f2", key="k1"), project="other"),
        turn("x", "x5", mark=Mark("", window_s=10.0)),
        turn("x", "x6", mark=Mark("f2")),
    ]
    books = Books()
    await load_marks(connection, books, asked, now_us=None, locked=False)
    assert {key: before.run for key, before in books.keys.items()} == {(PROJECT, "k1"): "r1"}
    assert {key: before.run for key, before in books.fingerprints.items()} == {(PROJECT, "f2"): "r2"}
    books = Books()
    await load_marks(connection, books, asked, now_us=2**60, locked=False)  # much later
    assert (books.keys, books.fingerprints) == ({}, {})


async def test_what_an_owner_wrote_is_found_with_what_came_of_it(store: PostgresStore, connection: Connection):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await store.ask(claim.run, ev.CancelAsked())
    following = await store.finish(claim, (ev.TextAdded("x"), ev.RunCompleted()), after=3, weight=1)
    assert following is not None
    books = Books()

    async def behind(after: int, *, epoch: int = 1, run: str = "r1", owner: str = store.owner) -> Any:
        asking = type(claim)(claim.project, C, claim.tape, RunId(run), epoch, 3)
        await load_behind(connection, books, Look(asking, after, 2), owner)
        return books.behind[asking.run, epoch, after]

    found = await behind(3)
    assert found.bodies == ['{"kind":"text_added","text":"x"}', '{"kind":"run_completed"}']
    assert (found.seq, found.following) == (7, following)
    assert (await behind(3, owner="other")).following is None
    assert (await behind(7)).bodies == []
    assert len((await behind(0)).bodies) == 3  # one more than asked for: that is not it
    assert (await behind(3, epoch=2)).bodies is None
    assert (await behind(3, run="nobody")).bodies is None
    await store.reclaim(following.run)
    assert (await behind(3)).following is None
