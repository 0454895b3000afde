"""Versions of a project's workflows: taken in, published, read; who wins when several do it at once."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dragoman.core.agents import AgentSpec
from dragoman.core.errors import BadRequest, Conflict, NotFound, TooLarge
from dragoman.core.names import ProjectId
from dragoman.core.records import Record, RecordPage
from dragoman.core.versions import SOURCE_BYTES_MAX, is_version_id
from dragoman.core.workflows import Member, Pipeline, Workflow
from dragoman.runtime import workflows as module
from dragoman.runtime.workflows import (
    CACHED_BYTES_MAX,
    CACHED_MAX,
    COMPILED_BYTES_MAX,
    NAME_CHARS_MAX,
    VERSIONS_MAX,
    Workflows,
)
from dragoman.stores.memory.records import MemoryRecords
from dragoman.stores.sqlite.store import SqliteStore, open_store
from tests.support import FixedClock

P = ProjectId("p")
Q = ProjectId("q")


def ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"{next(numbers):024x}"


def made(name: str = "", **rest: Any) -> Workflow:
    return Workflow(name, "a", (Member(AgentSpec("a", "Help.", tools=())),), **rest)


@asynccontextmanager
async def opened(path: Path) -> AsyncGenerator[SqliteStore]:
    store = await open_store(path, FixedClock(), writer=True)
    try:
        yield store
    finally:
        await store.close()


class CountingRecords(MemoryRecords):
    """Counts what is read by id, and what is listed."""

    reads = 0
    lists = 0

    async def get(self, project: ProjectId, kind: str, record_id: str) -> Record | None:
        self.reads += 1
        return await super().get(project, kind, record_id)

    async def page(self, *args: Any, **options: Any) -> RecordPage:
        self.lists += 1
        return await super().page(*args, **options)


@pytest.fixture
def records() -> CountingRecords:
    return CountingRecords(FixedClock())


@pytest.fixture
def workflows(records: CountingRecords) -> Workflows:
    return Workflows(records, {}, default="", new_id=ids())


async def test_a_version_is_kept_as_it_was_taken_in(workflows: Workflows):
    workflow = made(greeting="Hello", pipelines=(Pipeline("p", ()),))
    version = await workflows.add(P, workflow, source="{}")
    assert (version.number, version.name, version.published) == (1, "Version 1", False)
    assert is_version_id(version.id) and version.created_at == FixedClock().now()
    assert await workflows.version(P, version.id) == version
    assert (version.workflow, version.source) == (workflow, "{}")
    assert await workflows.workflow(P, version.id) == workflow


async def test_versions_are_numbered_and_named_and_listed_from_the_first(workflows: Workflows):
    await workflows.add(P, made(), source="")
    await workflows.add(P, made("Shop"), source="", publish=True)
    await workflows.add(P, made("Shop"), source="", name="Mine")
    listed = await workflows.versions(P)
    assert [(line.number, line.name, line.published) for line in listed] == [
        (1, "Version 1", False),
        (2, "Shop", True),
        (3, "Mine", False),
    ]
    assert await workflows.versions(Q) == ()


async def test_one_project_sees_nothing_of_another(workflows: Workflows):
    version = await workflows.add(P, made(), source="", publish=True)
    assert await workflows.version(Q, version.id) is None
    assert await workflows.workflow(Q, version.id) is None
    assert await workflows.live(Q) == ""
    with pytest.raises(NotFound):
        await workflows.publish(Q, version.id)
    assert (await workflows.add(Q, made(), source="")).number == 1


@pytest.mark.parametrize("text", ["", "nonsense", "f" * 24, "../" * 8, "x\x00"])
async def test_what_is_no_id_is_not_found(workflows: Workflows, text: str):
    assert await workflows.version(P, text) is None
    assert await workflows.workflow(P, text) is None
    with pytest.raises(NotFound) as caught:
        await workflows.publish(P, text)
    assert caught.value.what == "workflow"


# -- publishing ------------------------------------------------------------------------------------------------------


async def test_the_last_one_published_is_live(workflows: Workflows):
    first = await workflows.add(P, made(), source="", publish=True)
    second = await workflows.add(P, made(), source="")
    assert await workflows.live(P) == first.id
    assert (await workflows.publish(P, second.id)).published
    assert await workflows.live(P) == second.id
    assert [line.published for line in await workflows.versions(P)] == [False, True]
    assert (found := await workflows.version(P, second.id)) is not None and found.published


async def test_without_a_published_one_the_default_of_the_configuration_is_live(records: CountingRecords):
    workflows = Workflows(records, {"support": made("support")}, default="support", new_id=ids())
    assert await workflows.live(P) == "support"
    assert await workflows.workflow(P, "support") == made("support")
    assert await workflows.version(P, "support") is None
    version = await workflows.add(P, made(), source="", publish=True)
    assert await workflows.live(P) == version.id
    await workflows.unpublish(P)
    assert await workflows.live(P) == "support"
    with pytest.raises(NotFound, match="configuration"):
        await workflows.publish(P, "support")


async def test_one_is_unpublished_by_name_only_if_it_is_that_one(workflows: Workflows):
    assert await workflows.unpublish(P) == ""
    first = await workflows.add(P, made(), source="", publish=True)
    second = await workflows.add(P, made(), source="")
    with pytest.raises(Conflict, match=f"{first.id} is"):
        await workflows.unpublish(P, second.id)
    assert await workflows.live(P) == first.id
    assert await workflows.unpublish(P, first.id) == first.id
    assert await workflows.live(P) == ""
    with pytest.raises(Conflict, match="is not published"):
        await workflows.unpublish(P, first.id)


async def test_what_was_published_meanwhile_is_not_unpublished(workflows: Workflows, records: CountingRecords):
    first = await workflows.add(P, made(), source="", publish=True)
    second = await workflows.add(P, made(), source="")
    read, crossed = records.get, 0

    async def crossing(project: ProjectId, kind: str, record_id: str) -> Record | None:
        nonlocal crossed
        record = await read(project, kind, record_id)
        if kind == module.LIVE and not crossed:
            crossed += 1
            await Workflows(records, {}, default="", new_id=ids()).publish(P, second.id)
        return record

    records.get = crossing
    with pytest.raises(Conflict, match=f"{second.id} is"):
        await workflows.unpublish(P, first.id)
    assert crossed == 1 and await workflows.live(P) == second.id


async def test_what_cannot_answer_is_kept_and_not_published(workflows: Workflows):
    broken = Workflow("w", "nobody", made().members)
    with pytest.raises(BadRequest) as caught:
        await workflows.add(P, broken, source="", publish=True)
    assert caught.value.faults and await workflows.versions(P) == ()
    version = await workflows.add(P, broken, source="")
    with pytest.raises(BadRequest):
        await workflows.publish(P, version.id)
    assert await workflows.live(P) == ""


async def test_several_that_publish_at_once_leave_one_of_theirs(tmp_path: Path):
    async with opened(tmp_path / "a.db") as store:
        here, there = (Workflows(store.records, {}, default="", new_id=make) for make in (ids(), _others()))
        added = await asyncio.gather(*(each.add(P, made(), source="") for each in (here, there) * 4))
        assert sorted(version.number for version in added) == list(range(1, 9))
        await asyncio.gather(*(here.publish(P, version.id) for version in added))
        live = await there.live(P)
        assert live in {version.id for version in added}
        assert [line.id for line in await here.versions(P) if line.published] == [live]


def _others() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"a{next(numbers):023x}"


async def test_a_number_that_somebody_else_took_meanwhile_is_not_given_twice(records: CountingRecords):
    class Late(CountingRecords):
        """Tells how many there were one look ago, once."""

        behind = 1

        async def page(self, project: ProjectId, kind: str, **wanted: Any) -> RecordPage:
            page = await super().page(project, kind, **wanted)
            if self.behind and page.total:
                self.behind = 0
                return RecordPage(page.items, page.total - 1)
            return page

    workflows = Workflows(Late(FixedClock()), {}, default="", new_id=ids())
    await workflows.add(P, made(), source="")
    assert (await workflows.add(P, made(), source="")).number == 2


async def test_a_crash_before_the_line_is_written_leaves_no_version(records: CountingRecords):
    class Dying(CountingRecords):
        async def put(self, record: Record, *, expect: int | None) -> Record:
            if record.kind == module.LINES:
                raise OSError("gone")
            return await super().put(record, expect=expect)

    dying = Dying(FixedClock())
    workflows = Workflows(dying, {}, default="", new_id=ids())
    with pytest.raises(OSError, match="gone"):
        await workflows.add(P, made(), source="", publish=True)
    assert await workflows.versions(P) == ()
    assert await workflows.version(P, f"{1:024x}") is None
    assert await workflows.live(P) == ""


# -- limits and the cache ----------------------------------------------------------------------------------------------


async def test_sizes_have_limits(workflows: Workflows, monkeypatch: pytest.MonkeyPatch):
    await workflows.add(P, made(), source="x" * SOURCE_BYTES_MAX)
    with pytest.raises(TooLarge):
        await workflows.add(P, made(), source="x" * (SOURCE_BYTES_MAX - 1) + "é")
    with pytest.raises(TooLarge, match=f"{COMPILED_BYTES_MAX} at most"):
        await workflows.add(P, made(greeting="x" * COMPILED_BYTES_MAX), source="")
    assert (await workflows.add(P, made(), source="", name="n" * NAME_CHARS_MAX)).number == 2
    with pytest.raises(BadRequest, match="characters at most"):
        await workflows.add(P, made("n" * (NAME_CHARS_MAX + 1)), source="")


async def test_a_project_keeps_so_many_versions(
    workflows: Workflows, records: CountingRecords, monkeypatch: pytest.MonkeyPatch
):
    assert VERSIONS_MAX == 10_000
    monkeypatch.setattr(module, "VERSIONS_MAX", 2)
    for _ in range(2):
        await workflows.add(P, made(), source="")
    before = records.lists
    with pytest.raises(Conflict, match="as many as it may keep"):
        await workflows.add(P, made(), source="", publish=True)
    assert records.lists == before + 1, "it is not tried again"
    assert (await records.page(P, module.BODIES, limit=1, offset=0)).total == 2
    assert await workflows.live(P) == ""


async def test_what_is_in_memory_is_its_own_projects(workflows: Workflows):
    version = await workflows.add(P, made(), source="")
    assert await workflows.workflow(P, version.id) == made()
    assert await workflows.workflow(Q, version.id) is None
    assert await workflows.version(Q, version.id) is None


async def test_a_workflow_is_read_once_and_the_one_used_longest_ago_is_forgotten(
    workflows: Workflows, records: CountingRecords, monkeypatch: pytest.MonkeyPatch
):
    assert CACHED_MAX == 128
    monkeypatch.setattr(module, "CACHED_MAX", 2)
    a, b, c = [(await workflows.add(P, made(), source="")).id for _ in range(3)]

    async def reads(version: str) -> int:
        before = records.reads
        assert await workflows.workflow(P, version) == made()
        return records.reads - before

    assert [await reads(each) for each in (a, b, a, b, a, c, a, b)] == [1, 1, 0, 0, 0, 1, 0, 1]


async def test_workflows_in_memory_have_so_many_bytes_together_and_the_last_one_stays(
    workflows: Workflows, records: CountingRecords, monkeypatch: pytest.MonkeyPatch
):
    assert CACHED_BYTES_MAX == 32 * 1024 * 1024
    a, b = [(await workflows.add(P, made(), source="")).id for _ in range(2)]
    large = (await workflows.add(P, made(greeting="x" * 10_000), source="")).id
    (body, _, large_body) = (await records.page(P, module.BODIES, limit=0, offset=0)).items

    async def reads(version: str) -> int:
        before = records.reads
        assert await workflows.workflow(P, version) is not None
        return records.reads - before

    monkeypatch.setattr(module, "CACHED_BYTES_MAX", 2 * len(body.body))
    assert [await reads(each) for each in (a, b, a, b)] == [1, 1, 0, 0]
    assert [await reads(each) for each in (large, large, a, large)] == [1, 0, 1, 1]
    monkeypatch.setattr(module, "CACHED_BYTES_MAX", len(large_body.body) + len(body.body))
    assert [await reads(each) for each in (a, large, a)] == [1, 0, 0]
    monkeypatch.setattr(module, "CACHED_BYTES_MAX", 2 * len(body.body) - 1)
    assert [await reads(each) for each in (b, b, a, b)] == [1, 0, 1, 1]


async def test_versions_outlive_the_process(tmp_path: Path):
    async with opened(tmp_path / "a.db") as store:
        version = await Workflows(store.records, {}, default="", new_id=ids()).add(P, made(), source="é", publish=True)
    async with opened(tmp_path / "a.db") as store:
        again = Workflows(store.records, {}, default="", new_id=ids())
        assert await again.version(P, await again.live(P)) == version
