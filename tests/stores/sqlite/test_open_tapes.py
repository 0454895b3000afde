import sqlite3
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.names import RunId
from dragoman.stores.sqlite.open_tapes import HAD_NO_DELTAS, PRUNED, SEQ_MASK, place
from dragoman.stores.sqlite.store import open_store
from tests.stores.talk import append, begin, finish, wait
from tests.support import FixedClock


@given(
    st.tuples(st.integers(1, 2**31 - 1), st.integers(0, SEQ_MASK)),
    st.tuples(st.integers(1, 2**31 - 1), st.integers(0, SEQ_MASK)),
)
def test_places_are_in_order_of_tape_and_seq_and_fit_the_column(one: tuple[int, int], other: tuple[int, int]):
    assert (place(*one) < place(*other)) == (one < other)
    assert place(*one) < 2**63


async def test_an_open_run_is_read_from_the_file_as_it_was_remembered(tmp_path: Path):
    clock = FixedClock()
    first = await open_store(tmp_path / "x.db", clock, writer=True)
    spoke = await begin(first, "a", "r1", "one", "two")
    await append(first, spoke, (ev.ReplyStarted("a", "m"), ev.TextAdded("x"), ev.ReplyFinished("x")))
    await first.ask(RunId("r1"), ev.CancelAsked())
    streaming = await begin(first, "b", "r2")
    await append(first, streaming, (ev.ReplyStarted("a", "m"), ev.ThinkingAdded("x")))
    silent = await begin(first, "c", "r3")
    await wait(first, "c", "r4")
    await first.close()

    second = await open_store(tmp_path / "x.db", clock, writer=True)
    assert await second.asked((spoke, streaming, silent)) == {"r1": 7}
    assert await second.append(spoke, (ev.TextAdded("y"),), after=6) == 8
    assert await second.append(streaming, (ev.TextAdded("y"),), after=5) == 6
    assert await second.append(silent, (ev.ReplyStarted("a", "m"),), after=3) == 5
    await second.close()


async def test_whether_a_run_ever_spoke_is_read_from_the_file(tmp_path: Path):
    path, clock = tmp_path / "x.db", FixedClock()
    first = await open_store(path, clock, writer=True)
    claims = [await begin(first, "a", "r1"), await begin(first, "b", "r2")]
    await append(first, claims[0], (ev.TextAdded("x"),))
    await first.close()
    second = await open_store(path, clock, writer=True)
    for claim in claims:
        await finish(second, claim, (ev.RunCompleted(),))
    clock.move(1.0)
    assert await second.prune(ended_before=clock.at, limit=9) == 1
    await second.close()
    connection = sqlite3.connect(path)
    assert connection.execute("select id, pruned from runs order by id").fetchall() == [
        ("r1", PRUNED),
        ("r2", HAD_NO_DELTAS),
    ]
    connection.close()
