"""A store that was moved is the same store; one that could not be moved whole is not there at all."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, NotFound, Unavailable
from dragoman.core.names import ConversationId, RunId
from dragoman.core.operations import Mark
from dragoman.runtime.inventory import TABLES, Row, Table
from dragoman.server.moving import Moved, Source, count_rows, look_over, move, open_source, open_target
from dragoman.stores.postgres.store import open_store as open_postgres
from dragoman.stores.sqlite.store import open_store as open_sqlite
from tests.stores.everything import everything, fill
from tests.stores.postgres.database import connect, new_schema
from tests.stores.talk import PROJECT, append, finish, say, turn, wait
from tests.support import FixedClock


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with new_schema("moved") as made:
        yield made


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_700_000_000.25)


@pytest.fixture
async def path(tmp_path: Path, clock: FixedClock) -> Path:
    path = tmp_path / "dragoman.db"
    store = await open_sqlite(path, clock, writer=True)
    await fill(store, clock)
    await store.close()
    return path


def nothing(_count: int) -> None:
    pass


async def moved(path: Path, url: str) -> list[Moved]:
    with open_source(path) as source:
        async with open_target(url, password="", look_only=False) as target:
            return await move(source, target, copied=nothing, compared=nothing)


async def test_every_read_gives_what_it_gave(path: Path, url: str, clock: FixedClock):
    source = await open_sqlite(path, clock, writer=True)
    expected = await everything(source)
    await source.close()
    await moved(path, url)

    target = await open_postgres(url, clock=clock)
    found = await everything(target)
    assert found.keys() == expected.keys()
    for what, value in expected.items():
        assert found[what] == value, what
    await target.close()


async def rows_there(url: str, table: Table) -> list[Row]:
    connection = await connect(url)
    order = ", ".join(table.columns[: table.key_columns])
    found = await connection.fetch(f"select {', '.join(table.columns)} from {table.name} order by {order}")
    await connection.close()
    return list(map(tuple, found))


async def test_the_rows_are_those_that_the_other_engine_would_have_written_itself(
    path: Path, url: str, clock: FixedClock
):
    async with new_schema("moved_native") as native:
        store = await open_postgres(native, clock=(own := FixedClock(1_700_000_000.25)))
        await fill(store, own)
        await store.close()
        assert own.at == clock.at
        await moved(path, url)
        for table in TABLES:
            expected, found = await rows_there(native, table), await rows_there(url, table)
            if table.name == "runs":
                expected, found = ([_without_what_is_over(row) for row in rows] for rows in (expected, found))
            assert found == expected, table.name


def _without_what_is_over(row: Row) -> Row:
    """Of a run that has ended it does not matter any more what was asked of it."""
    ended, asked = TABLES[5].columns.index("ended"), TABLES[5].columns.index("asked")
    return (*row[:asked], 0 if row[ended] else row[asked], *row[asked + 1 :])


async def test_what_was_begun_goes_on_there(path: Path, url: str, clock: FixedClock):
    await moved(path, url)
    store = await open_postgres(url, clock=clock)
    claims = {claim.run: claim for claim in await store.take_lost(limit=100)}

    assert set(claims) == {"r-lost", "r-tool", "r-asked"}
    assert (claims[RunId("r-lost")].epoch, claims[RunId("r-tool")].epoch) == (3, 2)
    assert await store.asked(list(claims.values())) == {}  # it was asked before the claim, and is on the tape
    following = await finish(store, claims[RunId("r-asked")], (ev.RunCancelled("c1"),))
    assert following is not None
    assert following.run == "r-waiting-2"
    await finish(store, following, (ev.ReplyFinished("at last"), ev.RunCompleted()))
    # A reply that was finished before the move counts after it.
    await finish(store, claims[RunId("r-tool")], (ev.RunCancelled("c1"),))
    info = await store.get(PROJECT, ConversationId("at a tool"))
    assert info is not None
    assert info.messages == 2
    # So do deltas.
    await finish(store, claims[RunId("r-lost")], (ev.RunCancelled("c1"),))
    clock.move(10)
    before = await store.runs(PROJECT, limit=100)
    assert await store.prune(ended_before=clock.at, limit=100) > 0
    pruned = {run.id for run in await store.runs(PROJECT, limit=100) if run.pruned} - {r.id for r in before if r.pruned}
    assert pruned == {"r-lost", "r-asked", "r-plain-2", "r-future"}

    assert await store.unfinished() == []
    claim = await say(store, "new", "r-new", "q", "a")
    assert claim.tape > max(each.tape for each in claims.values())
    newest = await store.runs(PROJECT, limit=1)
    assert newest[0].id == "r-new"
    await store.close()


async def test_a_claim_that_was_given_before_the_move_is_still_fenced(tmp_path: Path, url: str, clock: FixedClock):
    path = tmp_path / "x.db"
    store = await open_sqlite(path, clock, writer=True)
    accepted = await store.accept(turn("c", "r", mark=Mark("f", "k")))
    claim = accepted.claim
    assert claim is not None
    await append(store, claim, (ev.TextAdded("x"),))
    await wait(store, "c", "r2")
    await store.close()
    await moved(path, url)
    there = await open_postgres(url, clock=clock)
    assert await append(there, claim, (ev.TextAdded("y"),)) == 6
    (taken,) = await there.take_lost(limit=10)
    assert (taken.run, taken.epoch, taken.seq) == ("r", 2, 7)
    await there.close()


async def test_an_empty_store_is_moved_too(tmp_path: Path, url: str, clock: FixedClock):
    path = tmp_path / "x.db"
    await (await open_sqlite(path, clock, writer=True)).close()
    assert [(each.table, each.rows) for each in await moved(path, url)] == [(table.name, 0) for table in TABLES]
    store = await open_postgres(url, clock=clock)
    assert (await say(store, "c", "r", "q", "a")).tape == 1
    await store.close()


async def test_what_is_told_of_it(path: Path, url: str):
    steps: dict[str, int] = {"copied": 0, "compared": 0, "read": 0}

    def count(what: str) -> Any:
        def step(count: int) -> None:
            steps[what] += count

        return step

    with open_source(path) as source:
        total = count_rows(source)
        looked = look_over(source, count("read"))
        async with open_target(url, password="", look_only=False) as target:
            done = await move(source, target, copied=count("copied"), compared=count("compared"))

    assert steps == dict.fromkeys(steps, total)
    assert sum(each.rows for each in done) == total > 100
    assert [(each.table, each.rows, each.digest) for each in done] == [
        (each.table, each.rows, each.digest) for each in looked
    ]
    assert [each.digest_there for each in done] == [each.digest for each in done]
    assert {each.digest_there for each in looked} == {None}


class Careless:
    """Takes everything, and gives it back as `spoil` leaves it."""

    where = "a careless place"

    def __init__(self, spoilt: str) -> None:
        self._spoilt = spoilt
        self._kept: dict[str, list[Row]] = {table.name: [] for table in TABLES}
        self.committed = False

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        self._kept[table.name] += rows

    async def count(self, table: Table) -> int:
        return len(self._kept[table.name]) + (self._spoilt == "count")

    async def rows(self, table: Table, *, after: Row | None, until: Row) -> list[Row]:
        kept = ((row[: table.key_columns], row) for row in self._kept[table.name])
        found = [row for key, row in kept if (after is None or after < key) and key <= until]
        if table.name == "entries":
            last = found[-1]
            match self._spoilt:
                case "gone":
                    found.pop()
                case "changed":
                    found[-1] = (*last[:-1], last[-1].replace('"kind"', '"kinds"'))
                case "order":
                    found.reverse()
                case _:
                    pass
        return found

    async def commit(self, *, last_tape: int, last_run: int) -> None:
        self.committed = True


@pytest.mark.parametrize("spoilt", ["gone", "changed", "order", "count", ""])
async def test_only_what_comes_back_the_same_is_kept(path: Path, spoilt: str):
    target = Careless(spoilt)
    with open_source(path) as source:
        if spoilt:
            with pytest.raises(Unavailable, match=r"a careless place, does not give back the \w+ that were put there"):
                await move(source, target, copied=nothing, compared=nothing)
        else:
            await move(source, target, copied=nothing, compared=nothing)
    assert target.committed == (not spoilt)


async def test_a_source_that_breaks_in_the_midst_leaves_the_target_empty(path: Path, url: str):
    class Breaking:
        """Its deltas cannot be read."""

        def __init__(self, source: Source) -> None:
            self._source = source

        def pieces(self, table: Table) -> Any:
            if table.name == "deltas":
                raise Unavailable("The store does not work.", code="storage_failed")
            return self._source.pieces(table)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._source, name)

    with pytest.raises(Unavailable, match="does not work"), open_source(path) as source:
        async with open_target(url, password="", look_only=False) as target:
            await move(Breaking(source), target, copied=nothing, compared=nothing)
    assert await rows_there(url, TABLES[0]) == []
    assert len(await moved(path, url)) == len(TABLES)
    with pytest.raises(Conflict, match="already"):
        await moved(path, url)


async def test_there_must_be_something_to_move(tmp_path: Path):
    with pytest.raises(NotFound), open_source(tmp_path / "no.db"):
        pass
