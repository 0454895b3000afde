"""`runtime.ports.Conversations.browse`, `live_of` and `turns_since`, the same for every engine."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, ProjectId, RunId
from dragoman.core.operations import Archived, ConversationShelf
from tests.stores.conftest import DURABLE, ENGINES, Engine
from tests.stores.talk import PROJECT, answer, append, begin, created, finish, say, turn, wait
from tests.support import FixedClock

ARCHIVED = ev.ArchivingChanged(archived=True)
SHARED = ev.SharingChanged(shared=True)


async def shelf(
    store: Engine,
    *,
    owner: str | None = None,
    origins: Collection[str] = (),
    archived: Archived = Archived.WITHOUT,
    limit: int = 50,
    offset: int = 0,
    shared: bool = False,
    project: str = PROJECT,
) -> ConversationShelf:
    return await store.browse(
        *(ProjectId(project),),
        owner=owner,
        origins=origins,
        archived=archived,
        limit=limit,
        offset=offset,
        shared=shared,
    )


async def names(store: Engine, **wanted: Any) -> list[str]:
    return [info.id for info in (await shelf(store, **wanted)).items]


async def converse(
    store: Engine, name: str, clock: FixedClock, *, owner: str = "ann", origin: str = "test", project: str = PROJECT
) -> None:
    clock.move(1.0)
    claim = await begin(store, name, f"{project}-{name}-{clock.at}", owner=owner, origin=origin, project=project)
    await finish(store, claim, answer("x"))


# -- browse ----------------------------------------------------------------------------------------------------------


async def test_what_changed_last_comes_first_then_in_order_of_id(store: Engine, clock: FixedClock):
    for name in ("b", "Z", "é", "a"):
        await begin(store, name, f"r-{name}")  # at one moment
    await converse(store, "late", clock)
    clock.move(-100.0)
    await begin(store, "early", "r-early")
    found = await shelf(store)
    assert [info.id for info in found.items] == ["late", "Z", "a", "b", "é", "early"]
    assert found.total == 6
    assert [await store.get(PROJECT, info.id) for info in found.items] == list(found.items)


async def test_a_turn_or_a_title_brings_a_conversation_to_the_front(store: Engine, clock: FixedClock):
    for name in ("a", "b", "c"):
        await converse(store, name, clock)
    assert await names(store) == ["c", "b", "a"]
    await converse(store, "a", clock)
    assert await names(store) == ["a", "c", "b"]
    clock.move(1.0)
    await store.note(PROJECT, ConversationId("b"), (ev.TitleGiven("t"),))
    await store.note(PROJECT, ConversationId("c"), (ev.SharingChanged(shared=True),))
    assert await names(store) == ["b", "a", "c"]


async def test_nothing_is_an_empty_shelf(store: Engine, clock: FixedClock):
    await converse(store, "c", clock, project="other")
    assert await shelf(store) == ConversationShelf((), 0)


async def test_a_shelf_is_of_one_owner_or_of_all(store: Engine, clock: FixedClock):
    await converse(store, "a1", clock, owner="ann")
    await converse(store, "b1", clock, owner="bob")
    await converse(store, "n1", clock, owner="")
    await converse(store, "a2", clock, owner="ann")
    await converse(store, "x", clock, owner="ann", project="other")
    assert await names(store) == ["a2", "n1", "b1", "a1"]
    assert (await names(store, owner="ann"), (await shelf(store, owner="ann")).total) == (["a2", "a1"], 2)
    assert await names(store, owner="bob") == ["b1"]
    assert await names(store, owner="") == ["n1"]
    assert await names(store, owner="An") == await names(store, owner="ANN") == []


async def test_with_what_others_share_a_shelf_holds_one_owners_own_and_that(store: Engine, clock: FixedClock):
    for name, owner in (("a1", "ann"), ("a2", "ann"), ("b1", "bob"), ("b2", "bob"), ("b3", "bob"), ("n1", "")):
        await converse(store, name, clock, owner=owner)
    await converse(store, "x", clock, owner="bob", project="other")
    for name in ("a1", "b1", "b3", "n1"):
        await store.note(PROJECT, ConversationId(name), (SHARED,))
    await store.note(ProjectId("other"), ConversationId("x"), (SHARED,))
    assert await names(store, owner="ann", shared=True) == ["n1", "b3", "b1", "a2", "a1"]
    assert await names(store, owner="eve", shared=True) == ["n1", "b3", "b1", "a1"]
    assert await names(store, owner="", shared=True) == ["n1", "b3", "b1", "a1"]
    assert await names(store, shared=True) == await names(store)
    page = await shelf(store, owner="ann", shared=True, limit=2, offset=1)
    assert ([info.id for info in page.items], page.total) == (["b3", "b1"], 5)
    await store.note(PROJECT, ConversationId("b1"), (ev.SharingChanged(shared=False),))
    await store.note(PROJECT, ConversationId("b3"), (ARCHIVED,))
    assert await names(store, owner="ann", shared=True) == ["n1", "a2", "a1"]
    assert await names(store, owner="ann", shared=True, archived=Archived.ONLY) == ["b3"]
    assert await names(store, owner="ann", shared=True, origins=("else",)) == []
    assert await names(store, owner="ann") == ["a2", "a1"]


async def test_a_shelf_is_of_some_origins_or_of_any(store: Engine, clock: FixedClock):
    for name, origin in (("g", "grafana"), ("e", "elastic"), ("i", "import"), ("q", "")):
        await converse(store, name, clock, origin=origin)
    assert await names(store, origins=("grafana",)) == ["g"]
    assert await names(store, origins=["import", "grafana", "nobody"]) == ["i", "g"]
    assert await names(store, origins={""}) == ["q"]
    assert await names(store, owner="ann", origins=("elastic",)) == ["e"]
    assert await names(store, owner="bob", origins=("elastic",)) == []
    assert await shelf(store, origins=("nobody",)) == ConversationShelf((), 0)


async def test_archived_ones_are_left_out_or_not(store: Engine, clock: FixedClock):
    for name in ("a", "b", "c"):
        await converse(store, name, clock)
    await store.note(PROJECT, ConversationId("b"), (ARCHIVED,))
    shelves = {archived: await shelf(store, archived=archived) for archived in Archived}
    assert {archived: [info.id for info in each.items] for archived, each in shelves.items()} == {
        Archived.WITHOUT: ["c", "a"],
        Archived.WITH: ["c", "b", "a"],
        Archived.ONLY: ["b"],
    }
    assert {archived: each.total for archived, each in shelves.items()} == {"without": 2, "with": 3, "only": 1}
    assert await names(store, owner="ann", archived=Archived.ONLY) == ["b"]


async def test_a_page_says_how_many_there_are_in_all(store: Engine, clock: FixedClock):
    for number in range(5):
        await converse(store, f"c{number}", clock, owner="ann" if number % 2 else "bob")
    for owner, expected in ((None, ["c4", "c3", "c2", "c1", "c0"]), ("bob", ["c4", "c2", "c0"])):
        seen: list[str] = []
        for offset in range(0, 8, 2):
            page = await shelf(store, owner=owner, limit=2, offset=offset)
            assert page.total == len(expected)
            seen += [info.id for info in page.items]
        assert seen == expected
    for limit, offset in ((0, 0), (-1, 0), (3, 5), (3, 2**70)):
        assert await shelf(store, limit=limit, offset=offset) == ConversationShelf((), 5)
    assert len((await shelf(store, limit=2**70, offset=-3)).items) == 5


async def test_a_shelf_is_of_one_moment_while_others_write(store: Engine, clock: FixedClock):
    async def write(owner: str) -> None:
        for number in range(15):
            clock.move(0.001)
            claim = await begin(store, f"{owner}{number}", f"r-{owner}{number}", owner=owner)
            await finish(store, claim, answer("x"))
            if number % 3 == 0:
                await store.delete(PROJECT, claim.conversation)

    async def browse() -> None:
        totals = [0]
        while totals[-1] < 10:
            found = await shelf(store, owner="ann")
            assert found.total == len(found.items)
            assert {info.owner for info in found.items} <= {"ann"}
            assert all(info.head == (3 if info.live_run else 6) for info in found.items)
            times = [info.updated_at for info in found.items]
            assert times == sorted(times, reverse=True)
            totals.append(found.total)
            await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await asyncio.gather(write("ann"), write("bob"), browse(), browse())


@pytest.mark.parametrize("bad", ["\ud800", "a\0"])
async def test_bad_keys_are_refused_everywhere(store: Engine, bad: str):
    for call in (
        shelf(store, project=bad),
        shelf(store, owner=bad),
        shelf(store, origins=("test", bad)),
        store.live_of(ProjectId(bad), "ann"),
        store.live_of(PROJECT, bad),
        store.turns_since(ProjectId(bad), at=0.0),
    ):
        with pytest.raises(BadRequest):
            await call


# -- live_of ---------------------------------------------------------------------------------------------------------


async def test_an_owners_conversations_at_work_come_in_order_of_their_runs(store: Engine, clock: FixedClock):
    await begin(store, "b", "r1", owner="ann")
    await converse(store, "done", clock, owner="ann")
    await begin(store, "a", "r2", owner="ann")
    await begin(store, "theirs", "r3", owner="bob")
    await begin(store, "elsewhere", "r4", owner="ann", project="other")
    await wait(store, "b", "r5")
    found = await store.live_of(PROJECT, "ann")
    assert [(info.id, info.live_run) for info in found] == [("b", "r1"), ("a", "r2")]
    assert list(found) == [await store.get(PROJECT, ConversationId(name)) for name in ("b", "a")]
    assert list(await store.live_of(PROJECT, "nobody")) == []
    everybodys = await store.live_of(PROJECT, "")
    assert [(info.id, info.owner) for info in everybodys] == [("b", "ann"), ("a", "ann"), ("theirs", "bob")]


async def test_the_run_that_waited_is_at_work_when_the_other_has_ended(store: Engine):
    claim = await begin(store, "a", "r1", owner="ann")
    await wait(store, "a", "r2")
    await begin(store, "b", "r3", owner="ann")
    await finish(store, claim, answer("x"))
    assert [info.live_run for info in await store.live_of(PROJECT, "ann")] == ["r2", "r3"]
    await store.delete(PROJECT, ConversationId("a"))
    assert [info.live_run for info in await store.live_of(PROJECT, "ann")] == ["r3"]


# -- turns_since -----------------------------------------------------------------------------------------------------


async def test_turns_are_counted_from_a_moment_on(store: Engine, clock: FixedClock):
    times: list[float] = []
    for number in range(6):
        clock.move(10.0)
        times.append(clock.at)
        await say(store, f"c{number % 2}", f"r{number}", "q", "a")
    for number, at in enumerate(times):
        assert await store.turns_since(PROJECT, at=at) == 6 - number
        assert await store.turns_since(PROJECT, at=at + 0.5) == 5 - number
    assert await store.turns_since(PROJECT, at=0.0) == 6
    assert await store.turns_since(ProjectId("other"), at=0.0) == 0


async def test_turns_count_from_when_they_were_accepted_whatever_became_of_them(store: Engine, clock: FixedClock):
    await converse(store, "before", clock)
    clock.move(1.0)
    at = clock.at
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await wait(store, "c", "r3")
    assert await store.end_waiting(RunId("r3"), ev.RunCancelled())
    assert await store.turns_since(PROJECT, at=at) == 3
    clock.move(5.0)
    await append(store, claim, (ev.TextAdded("x"),))
    await finish(store, claim, (ev.RunFailed("a", "b"),))
    assert await store.turns_since(PROJECT, at=at) == 3
    assert await store.turns_since(PROJECT, at=clock.at) == 0


async def test_what_was_imported_or_deleted_does_not_count(store: Engine, clock: FixedClock):
    clock.move(100.0)
    at = clock.at
    await say(store, "gone", "r1", "q", "a")
    await say(store, "stays", "r2", "q", "a")
    imported = ev.MessagesImported((said("user", "hi"),))
    for name, made_at in (("old", 1.0), ("new", at + 1)):
        await store.put_messages(created(name), imported, at=made_at, updated_at=made_at, run=RunId(name))
    await say(store, "stays", "r3", "q", "a")
    assert await store.turns_since(PROJECT, at=at) == 3
    await store.delete(PROJECT, ConversationId("gone"))
    assert await store.turns_since(PROJECT, at=at) == 2
    await store.accept(turn("new", "r4"))
    assert await store.turns_since(PROJECT, at=at) == 3


# -- after a restart -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", DURABLE)
async def test_who_opens_the_store_next_finds_the_same(engine: str, tmp_path: Path, clock: FixedClock):
    async def all_of(store: Engine) -> object:
        shelves = [
            await shelf(store, owner=owner, archived=archived)
            for owner in (None, "ann", "bob")
            for archived in Archived
        ]
        live = [list(await store.live_of(PROJECT, owner)) for owner in ("ann", "bob")]
        return shelves, live, await store.turns_since(PROJECT, at=clock.at)

    async with ENGINES[engine](tmp_path, clock) as store:
        for name, owner in (("a", "ann"), ("b", "bob"), ("c", "ann")):
            await converse(store, name, clock, owner=owner)
        await store.note(PROJECT, ConversationId("a"), (ARCHIVED, ev.TitleGiven("t 🦉")))
        await begin(store, "c", "r-live")
        expected = await all_of(store)
    async with DURABLE[engine](tmp_path, clock) as beside:
        assert await all_of(beside) == expected
