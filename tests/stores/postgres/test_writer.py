import asyncio
from collections.abc import AsyncIterator

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.names import ConversationId, RunId
from dragoman.core.operations import Mark
from dragoman.runtime.ports import Claim, StaleClaim
from dragoman.stores.postgres.store import PostgresStore
from tests.stores.postgres.database import KEPT, connect, end_connections, url_of
from tests.stores.postgres.replicas import Follower, insist, replicas
from tests.stores.talk import PROJECT, begin, say, turn

X = (ev.TextAdded("x"),)


@pytest.fixture
async def stores() -> AsyncIterator[list[PostgresStore]]:
    async with replicas(2) as opened:
        yield opened


async def write(store: PostgresStore, claim: Claim, count: int) -> int:
    """So many events, each in an append of its own; the seq of the last."""
    last = claim.seq
    for number in range(count):
        last = await insist(
            lambda number=number, last=last: store.append(claim, (ev.TextAdded(str(number)),), after=last)
        )
    return last


def texts(entries: "list[ev.Entry]") -> list[str]:
    return [entry.event.text for entry in entries if isinstance(entry.event, ev.TextAdded)]


# -- batches ---------------------------------------------------------------------------------------------------------


async def test_what_comes_together_is_committed_together(stores: list[PostgresStore]):
    store = stores[0]
    claims = [await begin(store, f"c{number}", f"r{number}") for number in range(32)]
    await asyncio.gather(*(write(store, claim, 20) for claim in claims))
    commits = {entry.at for claim in claims for entry in await store.read(claim.tape, after=3)}
    assert len(commits) < 32 * 20 / 3  # every batch has one time


async def test_one_at_fault_fails_alone(stores: list[PostgresStore]):
    store = stores[0]
    claims = [await begin(store, f"c{number}", f"r{number}") for number in range(10)]
    results = await asyncio.gather(
        *(store.accept(turn(f"n{number}", "r3" if number == 4 else f"n{number}")) for number in range(10)),
        *(store.append(claim, X, after=3) for claim in claims[1:]),
        store.finish(claims[0], (ev.RunCompleted(),), after=3, weight=2**80),
        return_exceptions=True,
    )
    assert [type(result) for number, result in enumerate(results) if number in (4, 19)] == [Conflict, Unavailable]
    assert [result for result in results[10:19]] == [4] * 9
    assert not [number for number, result in enumerate(results[:10]) if isinstance(result, Exception) and number != 4]
    assert await store.append(claims[0], X, after=3) == 4


async def test_a_deadlock_is_tried_again(stores: list[PostgresStore]):
    store = stores[0]
    conversations = [f"c{number}" for number in range(200)]
    lane_of = {name: hash((PROJECT, ConversationId(name))) % 3 for name in conversations}
    names = [name for name in conversations if lane_of[name] == lane_of["c0"]][:2]
    first, second = [await begin(store, name, name) for name in names]
    admin = await connect(url_of(KEPT))
    lock = "select 1 from conversations where tape = $1 for update"
    transaction = admin.transaction()
    await transaction.start()
    await admin.execute(lock, second.tape)
    both = asyncio.gather(store.append(first, X, after=3), store.append(second, X, after=3))
    watcher = await connect()
    async with asyncio.timeout(5):
        while not await watcher.fetchval("select count(*) from pg_locks where not granted"):
            await asyncio.sleep(0.001)
    await admin.execute(lock, first.tape)  # the store, who waits longer, is the one to give in
    await transaction.commit()
    assert await asyncio.wait_for(both, 10) == [4, 4]
    await admin.close()
    await watcher.close()


async def test_whoever_comes_after_the_end_is_told(stores: list[PostgresStore]):
    store = stores[0]
    claim = await begin(store, "c", "r1")
    writing = asyncio.ensure_future(write(store, claim, 1))
    await asyncio.sleep(0)
    await store.close()
    assert await writing == 4
    with pytest.raises(Unavailable, match="closed"):
        await store.append(claim, X, after=4)
    with pytest.raises(Unavailable, match="closed"):
        await store.get(PROJECT, ConversationId("c"))


# -- what is remembered may be out of date ---------------------------------------------------------------------------


async def test_what_another_wrote_in_between_is_written_behind(stores: list[PostgresStore]):
    ours, theirs = stores
    claim = await begin(ours, "c", "r1")
    waiting = await theirs.accept(turn("c", "r2"))
    assert (waiting.tape, waiting.seq, waiting.created, waiting.claim) == (claim.tape, 4, False, None)
    assert await ours.append(claim, X, after=3) == 5
    assert await theirs.ask(claim.run, ev.CancelAsked()) == 6
    following = await ours.finish(claim, (ev.RunCompleted(),), after=5, weight=1)
    assert following == Claim(PROJECT, ConversationId("c"), claim.tape, RunId("r2"), 1, 8)


async def test_a_refusal_does_not_rest_on_memory(stores: list[PostgresStore]):
    ours, theirs = stores
    claim = await begin(ours, "c", "r1")
    await theirs.accept(turn("c", "r2", queue_max=1))
    following = await ours.finish(claim, (ev.RunCompleted(),), after=3, weight=1)
    assert following is not None
    assert (await theirs.accept(turn("c", "r3", queue_max=1))).claim is None
    with pytest.raises(StaleClaim):
        await theirs.append(claim, (), after=3)
    await ours.release([following])
    (taken,) = await ours.take_lost(limit=5)
    assert await ours.append(taken, X, after=taken.seq) == taken.seq + 1
    await theirs.delete(PROJECT, ConversationId("c"))
    with pytest.raises(StaleClaim):
        await ours.append(taken, (), after=taken.seq + 1)
    with pytest.raises(StaleClaim):
        await ours.append(taken, X, after=taken.seq + 1)
    anew = await ours.accept(turn("c", "r4"))
    assert (anew.created, anew.seq) == (True, 2)
    assert anew.tape > claim.tape


async def test_many_writers_of_two_processes_leave_no_gap(stores: list[PostgresStore]):
    ours, theirs = stores
    claim = await begin(ours, "c", "r1")
    asked = [theirs.ask(claim.run, ev.CancelAsked(str(number))) for number in range(20)]
    queued = [theirs.accept(turn("c", f"q{number}", queue_max=100)) for number in range(20)]
    last, *results = await asyncio.gather(write(ours, claim, 100), *asked, *queued)
    assert all(results)
    entries = await theirs.read(claim.tape, after=0)
    assert [entry.seq for entry in entries] == list(range(1, 3 + 100 + 20 + 20 + 1))
    assert texts(list(entries)) == [str(number) for number in range(100)]
    assert entries[last - 1].event == ev.TextAdded("99")


async def test_a_conversation_is_made_once_however_many_try(stores: list[PostgresStore]):
    for number in range(30):
        name = f"c{number}"
        both = await asyncio.gather(*(store.accept(turn(name, f"{name}-{store.owner}")) for store in stores))
        assert sorted(one.created for one in both) == [False, True]
        assert sorted(one.claim is not None for one in both) == [False, True]
        assert both[0].tape == both[1].tape
        for store in stores:
            info = await store.get(PROJECT, ConversationId(name))
            assert info is not None
            assert info.head == 4
            # What a store has told of it reads.
            assert [entry.seq for entry in await store.read(info.tape, after=0)] == [1, 2, 3, 4]


async def test_a_key_is_one_turn_wherever_it_is_given(stores: list[PostgresStore]):
    for number in range(20):
        mark = Mark("f", key=f"k{number}")
        many = await asyncio.gather(
            *(
                store.accept(turn(f"c{number}-{store.owner}-{index}", f"r{number}-{store.owner}-{index}", mark=mark))
                for store in stores
                for index in range(4)
            )
        )
        assert sum(not one.replayed for one in many) == 1
        assert len({(one.conversation, one.tape, one.run, one.seq) for one in many}) == 1
    assert await stores[0].count(PROJECT) == 20


async def test_a_repeat_without_a_key_is_one_turn_wherever_it_arrives(stores: list[PostgresStore]):
    for number in range(20):
        mark = Mark(f"f{number}", window_s=10.0)
        many = await asyncio.gather(
            *(
                store.accept(turn(f"c{number}-{store.owner}-{index}", f"r{number}-{store.owner}-{index}", mark=mark))
                for store in stores
                for index in range(4)
            )
        )
        assert sum(not one.replayed for one in many) == 1
    assert await stores[0].count(PROJECT) == 20


# -- lost connections ------------------------------------------------------------------------------------------------


async def test_when_all_connections_are_cut_nothing_is_lost_and_nothing_is_written_twice(stores: list[PostgresStore]):
    ours = stores[0]
    claims = [await begin(ours, f"c{number}", f"r{number}") for number in range(6)]
    writers = [asyncio.ensure_future(write(ours, claim, 150)) for claim in claims]
    followers = [Follower(store, claim.tape, limit=7) for claim in claims for store in stores]
    following = [asyncio.ensure_future(follower.follow()) for follower in followers]
    cuts = 0
    for seen in range(20, 6 * 150, 60):
        while sum(follower.cursor for follower in followers) < 2 * seen:
            await asyncio.sleep(0.001)
        cuts += await end_connections(KEPT)
    assert cuts > 2 * 15
    lasts = await asyncio.gather(*writers)
    assert lasts == [153] * 6
    for claim, last in zip(claims, lasts, strict=True):
        await insist(lambda c=claim, after=last: ours.finish(c, (ev.RunCompleted(),), after=after, weight=1))
    for entries in await asyncio.wait_for(asyncio.gather(*following), 10):
        assert texts(entries) == [str(number) for number in range(150)]


async def test_an_end_whose_answer_was_lost_is_told_again(stores: list[PostgresStore]):
    ours, theirs = stores
    claim = await begin(ours, "c", "r1")
    await theirs.accept(turn("c", "r2"))
    end = (ev.ReplyFinished("x"), ev.RunCompleted())
    first = await ours.finish(claim, end, after=3, weight=1)
    assert first is not None
    assert await ours.finish(claim, end, after=3, weight=1) == first
    assert await theirs.finish(claim, end, after=3, weight=1) is None  # that claim is not theirs
    assert await ours.append(first, X, after=first.seq) == first.seq + 1
    other = await say(ours, "d", "r3", "q", "a")
    with pytest.raises(StaleClaim):
        await ours.finish(other, end, after=3, weight=1)
