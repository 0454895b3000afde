"""`core.records.Records`, the same for every engine."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from dragoman.access.ports import Project
from dragoman.core.errors import BadRequest, Conflict, NotFound, Unavailable
from dragoman.core.names import ProjectId
from dragoman.core.records import Record, RecordPage
from dragoman.runtime.record_rules import NAME_CHARS_MAX
from tests.stores.conftest import DURABLE, ENGINES, Engine
from tests.support import FixedClock

MINE = ProjectId("mine")
YOURS = ProjectId("yours")
RULE = Record(MINE, "rule", "r1", '{"text":"say ünd 🦉"}', owner="ann", created_by="ann", updated_by="ann")


async def names(store: Engine, **wanted: object) -> list[str]:
    options = {"limit": 0, "offset": 0, **wanted}
    found = await store.records.page(MINE, "rule", **options)  # type: ignore[arg-type] of several types
    assert found.total >= len(found.items)
    return [record.id for record in found.items]


async def test_a_record_comes_back_as_it_was_put(store: Engine, clock: FixedClock):
    put = await store.records.put(replace(RULE, key="short", wide=True, expires_at=clock.at + 60.5), expect=0)
    assert put == replace(
        RULE,
        key="short",
        wide=True,
        expires_at=clock.at + 60.5,
        version=1,
        created_at=clock.at,
        updated_at=clock.at,
    )
    assert await store.records.get(MINE, "rule", "r1") == put
    assert await store.records.find(MINE, "rule", "short") == put
    assert await store.records.page(MINE, "rule", limit=10, offset=0) == RecordPage((put,), 1)


async def test_ids_and_keys_are_of_one_project_and_kind_and_compared_exactly(store: Engine):
    await store.records.put(replace(RULE, key="short"), expect=0)
    for project, kind, record_id, key in (
        (YOURS, "rule", "r1", "short"),
        (MINE, "skill", "r1", "short"),
        (MINE, "rule", "R1", "Short"),
        (MINE, "rule", "r1 ", "short "),
    ):
        assert await store.records.get(project, kind, record_id) is None
        assert await store.records.find(project, kind, key) is None
        new = Record(project, kind, record_id, "{}", key=key)
        assert (await store.records.put(new, expect=0)).version == 1


async def test_a_record_without_a_key_is_not_found_by_it(store: Engine):
    await store.records.put(RULE, expect=0)
    await store.records.put(replace(RULE, id="r2"), expect=0)
    assert await store.records.find(MINE, "rule", "") is None


async def test_a_change_counts_on_and_leaves_who_made_it_and_when(store: Engine, clock: FixedClock):
    first = await store.records.put(replace(RULE, key="a"), expect=0)
    clock.at += 5.5
    change = Record(
        *(MINE, "rule", "r1", "{}"), owner="bob", wide=True, key="b", created_by="bob", updated_by="bob", version=7
    )
    second = await store.records.put(change, expect=1)
    assert second == replace(
        change, version=2, created_at=first.created_at, created_by="ann", updated_at=clock.at, expires_at=None
    )
    assert await store.records.get(MINE, "rule", "r1") == second
    assert await store.records.find(MINE, "rule", "a") is None
    assert await store.records.find(MINE, "rule", "b") == second
    assert (await store.records.put(change, expect=None)).version == 3
    assert (await store.records.put(replace(change, id="r2", key=""), expect=None)).version == 1


async def test_of_two_writers_one_wins(store: Engine):
    await store.records.put(RULE, expect=0)
    writes = [store.records.put(replace(RULE, body=f'"{name}"'), expect=1) for name in "abcd"]
    results = await asyncio.gather(*writes, return_exceptions=True)
    won = [result for result in results if isinstance(result, Record)]
    assert [type(result) for result in results if not isinstance(result, Record)] == [Conflict] * 3
    assert [await store.records.get(MINE, "rule", "r1")] == won
    assert won[0].version == 2


async def test_of_two_that_make_the_same_one_wins(store: Engine):
    writes = [store.records.put(replace(RULE, body=f'"{name}"'), expect=0) for name in "abcd"]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results if not isinstance(result, Record)] == [Conflict] * 3


async def test_of_two_that_want_a_key_one_wins(store: Engine):
    writes = [store.records.put(replace(RULE, id=name, key="short"), expect=0) for name in "abcd"]
    results = await asyncio.gather(*writes, return_exceptions=True)
    won = [result for result in results if isinstance(result, Record)]
    assert [type(result) for result in results if not isinstance(result, Record)] == [Conflict] * 3
    assert await names(store) == [won[0].id]


async def test_what_is_not_as_expected_is_not_written(store: Engine):
    first = await store.records.put(replace(RULE, key="a"), expect=0)
    await store.records.put(replace(RULE, id="r2", key="b"), expect=0)
    for record, expect in (
        (replace(RULE, body="1"), 0),
        (replace(RULE, body="1"), 2),
        (replace(RULE, body="1", key="b"), None),
        (replace(RULE, body="1", key="b"), 1),
        (replace(RULE, id="r3", key="b"), 0),
    ):
        with pytest.raises(Conflict):
            await store.records.put(record, expect=expect)
    with pytest.raises(NotFound) as missing:
        await store.records.put(replace(RULE, id="r3"), expect=1)
    assert missing.value.what == "rule"
    assert await store.records.get(MINE, "rule", "r1") == first
    assert await store.records.get(MINE, "rule", "r3") is None


async def test_what_is_deleted_is_gone_with_its_key(store: Engine):
    await store.records.put(replace(RULE, key="a"), expect=0)
    await store.records.put(replace(RULE, id="r2"), expect=0)
    with pytest.raises(Conflict):
        await store.records.delete(MINE, "rule", "r1", expect=2)
    assert await store.records.delete(YOURS, "rule", "r1") is False
    assert await store.records.delete(MINE, "rule", "r1", expect=1) is True
    assert await store.records.delete(MINE, "rule", "r1") is False
    assert await store.records.delete(MINE, "rule", "r2") is True
    assert await names(store) == []
    again = await store.records.put(replace(RULE, id="r3", key="a"), expect=0)
    assert await store.records.find(MINE, "rule", "a") == again


async def test_what_was_deleted_once_is_deleted_once(store: Engine):
    await store.records.put(RULE, expect=0)
    results = await asyncio.gather(*(store.records.delete(MINE, "rule", "r1") for _ in range(4)))
    assert sorted(results) == [False, False, False, True]


async def test_what_has_expired_is_as_if_it_were_not_there(store: Engine, clock: FixedClock):
    expiring = replace(RULE, key="a", expires_at=clock.at + 10)
    await store.records.put(expiring, expect=0)
    clock.at += 9.75
    assert await names(store) == ["r1"]
    assert await store.records.get(MINE, "rule", "r1") is not None
    clock.at += 0.25
    assert await names(store) == []
    assert await store.records.get(MINE, "rule", "r1") is None
    assert await store.records.find(MINE, "rule", "a") is None
    with pytest.raises(NotFound):
        await store.records.put(RULE, expect=1)
    assert await store.records.delete(MINE, "rule", "r1", expect=5) is False


async def test_the_id_and_the_key_of_what_has_expired_can_be_taken(store: Engine, clock: FixedClock):
    await store.records.put(replace(RULE, key="a", expires_at=clock.at + 10), expect=0)
    await store.records.put(replace(RULE, id="r2", key="b", expires_at=clock.at + 10), expect=0)
    clock.at += 11
    same_id = await store.records.put(replace(RULE, created_by="bob"), expect=0)
    assert (same_id.version, same_id.created_by, same_id.created_at) == (1, "bob", clock.at)
    assert (await store.records.put(replace(RULE, id="r3", key="b"), expect=0)).key == "b"
    assert await names(store) == ["r1", "r3"]


async def test_a_change_can_put_off_when_a_record_expires(store: Engine, clock: FixedClock):
    await store.records.put(replace(RULE, expires_at=clock.at + 10), expect=0)
    await store.records.put(replace(RULE, expires_at=clock.at + 20), expect=1)
    clock.at += 15
    assert await names(store) == ["r1"]


async def test_what_has_expired_is_forgotten_everywhere(store: Engine, clock: FixedClock):
    await store.records.put(replace(RULE, expires_at=clock.at + 10), expect=0)
    await store.records.put(replace(RULE, project=YOURS, kind="code", expires_at=clock.at + 10.5), expect=0)
    await store.records.put(replace(RULE, id="r2", expires_at=clock.at + 11), expect=0)
    await store.records.put(replace(RULE, id="r3"), expect=0)
    clock.at += 10.5
    assert await store.records.forget_expired() == 2
    assert await store.records.forget_expired() == 0
    assert await names(store) == ["r2", "r3"]


async def test_a_page_is_a_part_of_all_oldest_first(store: Engine, clock: FixedClock):
    for name in ("c", "b", "a"):
        await store.records.put(replace(RULE, id=f"{name}2"), expect=0)
        await store.records.put(replace(RULE, id=f"{name}1"), expect=0)
        clock.at += 1
    assert await names(store) == ["c1", "c2", "b1", "b2", "a1", "a2"]
    assert await names(store, limit=2) == ["c1", "c2"]
    assert await names(store, limit=2, offset=3) == ["b2", "a1"]
    assert await names(store, offset=4) == ["a1", "a2"]
    behind = await store.records.page(MINE, "rule", limit=2, offset=6)
    assert behind == RecordPage((), 6)
    assert await store.records.page(YOURS, "rule", limit=2, offset=0) == RecordPage((), 0)


async def test_a_list_may_be_of_one_owner_and_of_what_is_everybodys(store: Engine):
    for name, owner, wide in (("1", "ann", False), ("2", "ann", True), ("3", "bob", False), ("4", "bob", True)):
        await store.records.put(replace(RULE, id=name, owner=owner, wide=wide), expect=0)
    assert await names(store, owner="ann") == ["1", "2", "4"]
    assert await names(store, owner="eve") == ["2", "4"]
    assert await names(store, owner="") == ["2", "4"]
    assert await names(store, wide=True) == ["2", "4"]
    assert await names(store, wide=False) == ["1", "3"]
    assert await names(store, owner="ann", wide=False) == ["1"]
    page = await store.records.page(MINE, "rule", owner="ann", limit=1, offset=1)
    assert ([record.id for record in page.items], page.total) == (["2"], 3)


async def test_a_megabyte_is_kept(store: Engine):
    body = '"' + "ü🦉x" * 180_000 + '"'
    assert len(body.encode()) > 1024 * 1024
    await store.records.put(replace(RULE, body=body), expect=0)
    found = await store.records.get(MINE, "rule", "r1")
    assert found is not None
    assert found.body == body


@pytest.mark.parametrize("bad", ["\ud800", "a\0"])
async def test_texts_that_not_every_engine_keeps_are_refused(store: Engine, bad: str):
    for field in ("project", "kind", "id", "key", "owner", "body", "created_by", "updated_by"):
        with pytest.raises(BadRequest) as refused:
            await store.records.put(replace(RULE, **{field: bad}), expect=0)
        assert refused.value.faults[0].field == field
    for call in (
        store.records.get(MINE, "rule", bad),
        store.records.find(MINE, "rule", bad),
        store.records.page(ProjectId(bad), "rule", limit=1, offset=0),
        store.records.page(MINE, "rule", owner=bad, limit=1, offset=0),
        store.records.delete(MINE, bad, "r1"),
    ):
        with pytest.raises(BadRequest):
            await call


async def test_an_id_or_a_key_has_a_greatest_length(store: Engine):
    longest = "🦉" * NAME_CHARS_MAX
    await store.records.put(replace(RULE, id=longest, key=longest), expect=0)
    assert await store.records.find(MINE, "rule", longest) is not None
    for record in (replace(RULE, id=longest + "x"), replace(RULE, key=longest + "x")):
        with pytest.raises(BadRequest):
            await store.records.put(record, expect=0)


async def test_a_deleted_project_is_gone_with_its_records(store: Engine):
    await store.put_project(Project(MINE, "Mine", 1.0))
    await store.records.put(replace(RULE, key="a"), expect=0)
    theirs = await store.records.put(replace(RULE, project=YOURS), expect=0)
    assert await store.delete_project(MINE) is True
    assert await names(store) == []
    assert await store.records.find(MINE, "rule", "a") is None
    assert await store.records.get(YOURS, "rule", "r1") == theirs


@pytest.mark.parametrize("engine", DURABLE)
async def test_records_outlive_the_process_and_are_seen_and_written_beside_it(
    engine: str, tmp_path: Path, clock: FixedClock
):
    async with ENGINES[engine](tmp_path, clock) as store:
        put = await store.records.put(RULE, expect=0)
        async with DURABLE[engine](tmp_path, clock) as beside:
            assert await beside.records.get(MINE, "rule", "r1") == put
            changed = await beside.records.put(replace(RULE, body="1"), expect=1)
            made = await beside.records.put(replace(RULE, id="r2"), expect=0)
            results = await asyncio.gather(
                *(each.records.put(replace(RULE, id="r3"), expect=0) for each in (store, beside)),
                return_exceptions=True,
            )
            assert sum(isinstance(result, Conflict) for result in results) == 1
        assert await store.records.get(MINE, "rule", "r1") == changed
    async with DURABLE[engine](tmp_path, clock) as beside:
        assert await beside.records.get(MINE, "rule", "r2") == made


async def test_a_closed_store_has_no_records(store: Engine):
    await store.records.put(RULE, expect=0)
    await store.close()
    for call in (
        store.records.get(MINE, "rule", "r1"),
        store.records.page(MINE, "rule", limit=1, offset=0),
        store.records.put(RULE, expect=1),
        store.records.delete(MINE, "rule", "r1"),
        store.records.forget_expired(),
    ):
        with pytest.raises(Unavailable):
            await call
