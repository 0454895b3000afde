import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import NotFound, Unavailable
from dragoman.core.events import dump_event
from dragoman.core.names import ConversationId, RunId
from dragoman.runtime.ports import StaleClaim
from dragoman.stores.postgres.store import PostgresStore, open_store
from tests.stores.postgres.database import KEPT, connect, end_connections, kept_schema, url_of
from tests.stores.postgres.replicas import Follower, all_listening, insist, replicas
from tests.stores.postgres.test_connection import closed_port
from tests.stores.postgres.test_redis_carrier import URL as REDIS
from tests.stores.postgres.test_redis_carrier import admin as admin  # pyright: ignore[reportUnusedImport] a fixture
from tests.stores.talk import PROJECT, begin, turn

C = ConversationId("c")
RACES = 10_000
RACES_S = 10.0
"""On a busy machine there are fewer."""


@pytest.fixture
async def stores() -> AsyncIterator[list[PostgresStore]]:
    async with replicas(2) as opened:
        await all_listening(opened)
        yield opened


# -- opening ---------------------------------------------------------------------------------------------------------


async def test_who_cannot_get_in_is_told_what_to_do_and_no_password():
    port = closed_port()
    with pytest.raises(Unavailable) as refused:
        await open_store(f"postgresql://me:secret@127.0.0.1:{port}/talk", password="other secret")
    assert refused.value.detail == (
        f"The database 127.0.0.1:{port}/talk does not answer; check that it runs, and [store] url."
    )
    assert refused.value.code == "storage_unavailable"
    assert "secret" not in f"{refused.value} {refused.value.internal} {refused.value.__context__}"


async def test_a_database_that_is_not_there_is_named():
    await (await connect()).close()
    url = url_of("x").replace("?", "nowhere_at_all?", 1)
    with pytest.raises(Unavailable, match=r"There is no database .*/nowhere_at_all; create it"):
        await open_store(url)


async def test_a_password_of_its_own_lets_us_in():
    async with kept_schema() as url:
        store = await open_store(url, password="not asked for by a server that trusts us")
        await store.probe()
        await store.close()


async def test_a_store_that_can_write_says_so_and_one_that_cannot_says_why(stores: list[PostgresStore]):
    store = stores[0]
    await store.probe()
    await end_connections(KEPT)
    await insist(store.probe)
    admin = await connect(url_of(KEPT))
    await admin.execute("drop table probes")
    with pytest.raises(Unavailable) as failed:
        await store.probe()
    assert failed.value.code == "storage_failed"
    await admin.execute("create table probes (owner text primary key, at bigint not null)")
    await admin.close()


# -- what is kept ----------------------------------------------------------------------------------------------------


async def test_bodies_are_kept_byte_for_byte(stores: list[PostgresStore]):
    writer, reader = stores
    claim = await begin(writer, "c", "r1")
    said = (
        ev.ThinkingAdded('hm\n"quoted" \\ / \t \u2028 \x7f \x01 \0'),
        ev.TextAdded("grüße 🦉 \0\\u0000"),
        ev.TitleGiven("a \0 title"),
        ev.Unread("later_kind", '{"kind":"later_kind",  "odd" : "spacing\\u0000"}'),
    )
    await writer.append(claim, said, after=3)
    admin = await connect(url_of(KEPT))
    rows = await admin.fetch(
        "select body from (select place, body from entries union all select place, body from deltas) x"
        " where place > $1 order by place",
        claim.tape << 32 | 3,
    )
    await admin.close()
    assert [row[0].encode() for row in rows] == [dump_event(event) for event in said]
    for store in stores:
        assert [entry.event for entry in await store.read(claim.tape, after=3)] == list(said)
    info = await reader.get(PROJECT, C)
    assert info is not None
    assert info.title == "a \0 title"


async def test_times_are_the_databases_and_the_same_for_every_reader(stores: list[PostgresStore]):
    claim = await begin(stores[0], "c", "r1")
    await stores[0].append(claim, (ev.TextAdded("x"),), after=3)
    ours, theirs = [await store.read(claim.tape, after=0) for store in stores]
    assert ours == theirs
    admin = await connect()
    now = await admin.fetchval("select extract(epoch from clock_timestamp())::float8")
    await admin.close()
    assert all(now - 30 < entry.at <= now for entry in ours)


# -- following from another replica ----------------------------------------------------------------------------------


async def test_what_one_writes_the_other_follows(stores: list[PostgresStore]):
    writer, reader = stores
    claim = await begin(writer, "c", "r1")
    follower = Follower(reader, claim.tape)
    following = asyncio.ensure_future(follower.follow())
    last, sent, lags = claim.seq, dict[int, float](), list[float]()
    for number in range(50):
        last = await writer.append(claim, (ev.TextAdded(str(number)),), after=last)
        sent[last] = time.monotonic()
        async with asyncio.timeout(5):
            while follower.cursor < last:
                await asyncio.sleep(0)
        lags.append(time.monotonic() - sent[last])
    await writer.finish(claim, (ev.RunCompleted(),), after=last, weight=1)
    entries = await asyncio.wait_for(following, 5)
    assert [entry.seq for entry in entries] == list(range(1, last + 2))
    assert sorted(lags)[25] < 0.5  # told, not found by looking


async def test_readers_that_come_and_go_while_two_processes_write_see_everything_once(stores: list[PostgresStore]):
    writer, other = stores
    claims = [await begin(writer, f"c{number}", f"r{number}") for number in range(4)]
    followers: list[Follower] = []
    races, until = 0, time.monotonic() + RACES_S

    async def come_and_go(store: PostgresStore, index: int) -> None:
        nonlocal races
        rng = random.Random(index)
        follower = Follower(store, claims[index % 4].tape, limit=rng.choice((1, 3, 1000)))
        followers.append(follower)
        while not (follower.entries and isinstance(follower.entries[-1].event, ev.RunCompleted)):
            reading = asyncio.ensure_future(follower.follow())
            for _ in range(rng.randrange(1, 12)):
                await asyncio.sleep(0)
            races += 1
            if not reading.done():
                reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.result()

    async def write(index: int) -> None:
        claim, last = claims[index], claims[index].seq
        number = 0
        while races < RACES and time.monotonic() < until:
            number += 1
            last = await writer.append(claim, (ev.TextAdded("x"), ev.TextAdded("y")), after=last)
            if number % 7 == index:
                await other.ask(claim.run, ev.CancelAsked())
        await writer.finish(claim, (ev.RunCompleted(),), after=last, weight=1)

    async with asyncio.timeout(25):
        await asyncio.gather(
            *(come_and_go(store, index) for index in range(8) for store in stores), *map(write, range(4))
        )
    assert races > RACES / 20
    for index, claim in enumerate(claims):
        tape = await other.read(claim.tape, after=0, limit=10**6)
        assert [entry.seq for entry in tape] == list(range(1, len(tape) + 1))
        assert all(one.entries == list(tape) for one in followers if one.tape == claims[index].tape)


async def test_what_a_store_has_told_of_is_found_by_reading(stores: list[PostgresStore]):
    writer, reader = stores
    claim = await begin(writer, "c", "r1")
    last = claim.seq
    for number in range(30):
        await reader.read(claim.tape, after=last)
        await reader.grown(claim.tape, after=last - 1)
        last = await writer.append(claim, (ev.TextAdded(str(number)),), after=last)
        info = await reader.get(PROJECT, C)
        assert info is not None
        assert [entry.seq for entry in await reader.read(claim.tape, after=last - 1)] == [last]
    end = await writer.finish(claim, (ev.RunCompleted(),), after=last, weight=1)
    assert end is None
    view = await reader.run(None, RunId("r1"))
    assert view is not None
    assert view.status == "completed"
    assert [entry.event for entry in await reader.read(claim.tape, after=last)] == [ev.RunCompleted()]


async def test_a_conversation_deleted_elsewhere_wakes_who_waits_here(stores: list[PostgresStore]):
    owner, other = stores
    claim = await begin(owner, "c", "r1")
    waiting = [asyncio.ensure_future(store.grown(claim.tape, after=1000)) for store in stores]
    await asyncio.sleep(0.05)
    assert await other.delete(PROJECT, C) == ["r1"]
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert [list(await store.read(claim.tape, after=0)) for store in stores] == [[], []]
    with pytest.raises(StaleClaim):
        await owner.append(claim, (ev.TextAdded("x"),), after=3)


async def test_a_wish_reaches_the_owner_wherever_it_was_told(stores: list[PostgresStore]):
    owner, other = stores
    claim = await begin(owner, "c", "r1")
    await owner.bell()
    ringing = asyncio.ensure_future(owner.bell())
    await asyncio.sleep(0)
    assert await other.ask(claim.run, ev.CancelAsked("me")) == 4
    await asyncio.wait_for(ringing, 5)
    assert await owner.asked([claim]) == {"r1": 4}
    assert await owner.append(claim, (ev.TextAdded("x"),), after=3) == 5


async def test_a_note_of_another_process_reaches_readers_and_does_not_make_the_owner_stale(
    stores: list[PostgresStore],
):
    owner, other = stores
    claim = await begin(owner, "c", "r1")
    reading = asyncio.ensure_future(owner.grown(claim.tape, after=3))
    await asyncio.sleep(0)
    assert await other.note(PROJECT, claim.conversation, (ev.TitleGiven("Theirs"), ev.SharingChanged(shared=True))) == 5
    await asyncio.wait_for(reading, 5)
    assert [entry.seq for entry in await owner.read(claim.tape, after=3)] == [4, 5]
    assert await owner.append(claim, (ev.TextAdded("x"),), after=3) == 6
    await other.note(PROJECT, claim.conversation, (ev.ArchivingChanged(archived=True),))
    assert await owner.finish(claim, (ev.ReplyFinished("x"), ev.RunCompleted()), after=6, weight=1) is None
    for store in stores:
        info = await store.get(PROJECT, claim.conversation)
        assert info is not None
        assert (info.title, info.shared, info.archived, info.messages, info.head) == ("Theirs", True, True, 2, 9)


async def test_notes_of_two_processes_beside_an_owner_leave_no_gap(stores: list[PostgresStore]):
    owner, _ = stores
    claim = await begin(owner, "c", "r1")
    last = claim.seq

    async def write() -> None:
        nonlocal last
        for number in range(40):
            last = await owner.append(claim, (ev.TextAdded(str(number)),), after=last)

    async def note(store: PostgresStore, shared: bool) -> list[int]:
        event = ev.SharingChanged(shared=shared)
        return [await store.note(PROJECT, claim.conversation, (event,)) for _ in range(20)]

    async with asyncio.timeout(60):
        _, *noted = await asyncio.gather(write(), note(stores[0], True), note(stores[1], False))
    entries = await owner.read(claim.tape, after=0)
    assert [entry.seq for entry in entries] == list(range(1, 3 + 40 + 40 + 1))
    texts = [entry.event.text for entry in entries if isinstance(entry.event, ev.TextAdded)]
    assert texts == [str(number) for number in range(40)]
    found = {entry.seq: entry.event.shared for entry in entries if isinstance(entry.event, ev.SharingChanged)}
    assert found == {**dict.fromkeys(noted[0], True), **dict.fromkeys(noted[1], False)}
    infos = [await store.get(PROJECT, claim.conversation) for store in stores]
    assert [info is not None and info.shared for info in infos] == [found[max(found)]] * 2


async def test_whose_a_conversation_is_does_not_rest_on_memory(stores: list[PostgresStore]):
    ours, theirs = stores
    await begin(ours, "c", "r1", owner="ann")
    assert (await theirs.accept(turn("c", "r2", only_owner="ann"))).claim is None
    await ours.delete(PROJECT, ConversationId("c"))
    await begin(ours, "c", "r3", owner="bob")
    with pytest.raises(NotFound):
        await theirs.accept(turn("c", "r4", only_owner="ann"))
    assert (await theirs.accept(turn("c", "r5", only_owner="bob"))).claim is None


async def test_what_is_pruned_elsewhere_is_not_shown_for_long(stores: list[PostgresStore]):
    owner, other = stores
    claim = await begin(owner, "c", "r1")
    await owner.finish(claim, (ev.TextAdded("x"), ev.ReplyFinished("x"), ev.RunCompleted()), after=3, weight=1)
    assert await other.prune(ended_before=time.time() + 60, limit=10) == 1
    assert [entry.seq for entry in await other.read(claim.tape, after=0)] == [1, 2, 3, 5, 6]
    async with asyncio.timeout(5):
        while len(await owner.read(claim.tape, after=3)) > 2:
            await asyncio.sleep(0.05)


# -- without wake-ups ------------------------------------------------------------------------------------------------


async def test_without_wake_ups_news_is_found_within_a_second():
    nobody = f"redis://me:secret@127.0.0.1:{closed_port()}/0"
    async with replicas(2, wakeups=nobody) as (writer, reader):
        claim = await begin(writer, "c", "r1")
        waiting = asyncio.ensure_future(reader.grown(claim.tape, after=3))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await writer.append(claim, (ev.TextAdded("x"),), after=3)
        await asyncio.wait_for(waiting, 5)
        assert time.monotonic() - began < 2
        assert [entry.seq for entry in await reader.read(claim.tape, after=3)] == [4]
        assert (reader.listening, reader.wakeups_lost) == (False, 1)


async def test_a_listener_that_was_cut_off_listens_again(stores: list[PostgresStore]):
    writer, reader = stores
    claim = await begin(writer, "c", "r1")
    follower = Follower(reader, claim.tape)
    following = asyncio.ensure_future(follower.follow())
    last = claim.seq
    for _ in range(3):
        assert await end_connections(f"{KEPT} listens") > 0
        last = await writer.append(claim, (ev.TextAdded("x"),), after=last)
        async with asyncio.timeout(5):
            while follower.cursor < last:
                await asyncio.sleep(0.001)
        await all_listening(stores)
    await writer.finish(claim, (ev.RunCompleted(),), after=last, weight=1)
    assert len(await asyncio.wait_for(following, 5)) == last + 1


@pytest.mark.usefixtures("admin")
async def test_redis_carries_the_wake_ups_as_well():
    async with replicas(2, wakeups=REDIS) as stores:
        writer, reader = stores
        await all_listening(stores)
        claim = await begin(writer, "c", "r1")
        following = asyncio.ensure_future(Follower(reader, claim.tape).follow())
        began, last = time.monotonic(), claim.seq
        for _ in range(20):
            last = await writer.append(claim, (ev.TextAdded("x"),), after=last)
        await writer.finish(claim, (ev.RunCompleted(),), after=last, weight=1)
        assert len(await asyncio.wait_for(following, 5)) == last + 1
        assert time.monotonic() - began < 0.9
        ringing = asyncio.ensure_future(reader.bell())
        await writer.release([])
        await writer.accept(turn("d", "r2"))
        ringing.cancel()
    admin_connection = await connect()
    query = "select count(*) from pg_stat_activity where application_name in ($1, $2)"
    assert await admin_connection.fetchval(query, f"{KEPT} tells", f"{KEPT} listens") == 0
    await admin_connection.close()
