"""What a project knows: who may save, see and remove which entries, and how much of it is recalled."""

from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core.errors import BadRequest, Conflict, NotAllowed, NotFound
from dragoman.core.knowledge import (
    DeleteEntry,
    EntryRole,
    KnowledgeEntry,
    KnowledgeStatus,
    ListEntries,
    ListInstructions,
    PutInstruction,
    Query,
    ReadKnowledgeStatus,
    RecallEntries,
    SaveEntries,
)
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.runtime import knowledge as limits
from dragoman.runtime.knowledge import KnowledgeBase
from dragoman.stores.memory.knowledge import MemoryKnowledge
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

P, Q = ProjectId("p"), ProjectId("q")


def person(name: str, *scopes: Scope, project: ProjectId = P) -> Principal:
    return Principal(project, f"{name}-key", name, frozenset(scopes), subject=name)


ANN, BOB = person("ann"), person("bob")
CHIEF = person("chief", Scope.RESOURCES_WRITE)
ELSEWHERE = person("ann", Scope.ADMIN, project=Q)


def entry(name: str, text: str = "", *, public: bool = False, **more: Any) -> KnowledgeEntry:
    return KnowledgeEntry(ProjectId(""), name, text or f"About {name}.", public=public, **more)


class House:
    def __init__(self) -> None:
        self.clock = FixedClock()
        self.knowledge = MemoryKnowledge(self.clock)
        self.base = KnowledgeBase(self.knowledge, MemoryRecords(self.clock))

    async def save(self, principal: Principal, *entries: KnowledgeEntry) -> int:
        return (await self.base.save(principal, SaveEntries(entries))).count

    async def ids(self, principal: Principal, **wanted: Any) -> list[str]:
        return [each.id for each in (await self.base.page(principal, ListEntries(**wanted))).items]

    async def recalled(self, principal: Principal, text: str, **labels: str) -> list[str]:
        found = await self.base.recall_as(principal, RecallEntries((Query(text),), labels))
        return [each.entry.id for each in found.items]


@pytest.fixture
def house() -> House:
    return House()


async def test_every_operation_has_its_handler(house: House):
    assert set(house.base.handlers()) == {
        SaveEntries,
        ListEntries,
        DeleteEntry,
        RecallEntries,
        ReadKnowledgeStatus,
        ListInstructions,
        PutInstruction,
    }


# -- entries ---------------------------------------------------------------------------------------------------------


async def test_K1_what_is_saved_is_listed_until_it_is_deleted(house: House):
    given = entry("a", "Blue.", title="Colour", labels={"k": "v"}, role=EntryRole.PROGRAM, owner="x", owner_name="y")
    assert await house.save(ANN, given) == 1
    page = await house.base.page(ANN, ListEntries())
    kept = replace(given, project=P, owner="ann", owner_name="ann", updated_at=house.clock.now())
    assert page.items == (kept,)
    assert (await house.base.delete(ANN, DeleteEntry("a"))).id == "a"
    assert await house.ids(ANN) == []
    with pytest.raises(NotFound, match="There is no knowledge entry 'a'") as caught:
        await house.base.delete(ANN, DeleteEntry("a"))
    assert caught.value.what == "entry"


async def test_K2_several_are_saved_sorted_and_searched_by_their_names(house: House):
    await house.save(ANN, entry("1", title="a"), entry("2", title="b"), entry("3", title="c"))
    assert await house.ids(ANN) == ["1", "2", "3"]
    assert await house.ids(ANN, descending=True) == ["3", "2", "1"]
    assert await house.ids(ANN, containing="b") == ["2"]
    assert await house.ids(ANN, limit=1) == ["1"]


async def test_of_entries_with_one_id_the_last_is_saved(house: House):
    assert await house.save(ANN, entry("a", "old"), entry("a", "new")) == 1
    assert [each.text for each in (await house.base.page(ANN, ListEntries())).items] == ["new"]


async def test_K3_projects_know_nothing_of_each_other_and_owners_of_one_see_all(house: House):
    await house.save(ANN, entry("private"))
    assert await house.ids(BOB) == ["private"]
    assert await house.ids(ELSEWHERE) == []
    with pytest.raises(NotFound):
        await house.base.delete(ELSEWHERE, DeleteEntry("private"))


async def test_what_is_public_or_somebody_elses_is_changed_by_who_may(house: House):
    with pytest.raises(NotAllowed, match="resources:write"):
        await house.save(ANN, entry("a", public=True))
    await house.save(ANN, entry("a"))
    await house.save(CHIEF, entry("everybodys", public=True))
    for forbidden in (entry("a", "mine now"), entry("everybodys", "mine now")):
        with pytest.raises(NotAllowed):
            await house.save(BOB, forbidden)
        with pytest.raises(NotAllowed):
            await house.base.delete(BOB, DeleteEntry(forbidden.id))
    assert {each.text for each in (await house.base.page(ANN, ListEntries())).items} == {
        "About a.",
        "About everybodys.",
    }
    await house.save(CHIEF, entry("a", "better", public=True))
    changed = (await house.base.page(ANN, ListEntries(containing="a"))).items[0]
    assert (changed.text, changed.public, changed.owner) == ("better", True, "ann")
    await house.base.delete(CHIEF, DeleteEntry("a"))


async def test_one_bad_entry_keeps_all_of_them_out(house: House):
    with pytest.raises(BadRequest, match="The knowledge entry 'bad' has no text"):
        await house.save(ANN, entry("good"), entry("bad", "  "))
    assert await house.ids(ANN) == []


@pytest.mark.parametrize(
    ("fits", "over", "said"),
    [
        (entry("i" * 512), entry("i" * 513), "an id of 513 characters; at most 512"),
        (entry("i", title="t" * 1000), entry("i", title="t" * 1001), "a title of 1001 characters; at most 1000"),
        (entry("i", "x" * 16_000), entry("i", "x" * 16_001), "at most 16000 are taken; split it into several entries"),
        (entry("i", labels={"k" * 500: "v"}), entry("i", labels={"k" * 501: "v"}), "a label of 501 characters"),
        (entry("i", labels={"k": "v" * 500}), entry("i", labels={"k": "v" * 501}), "a label of 501 characters"),
        (
            entry("i", labels={str(n): "" for n in range(50)}),
            entry("i", labels={str(n): "" for n in range(51)}),
            "has 51 labels; at most 50",
        ),
    ],
)
async def test_an_entry_has_limits(house: House, fits: KnowledgeEntry, over: KnowledgeEntry, said: str):
    assert await house.save(ANN, fits) == 1
    with pytest.raises(BadRequest, match=said):
        await house.save(ANN, over)


async def test_an_entry_needs_an_id(house: House):
    with pytest.raises(BadRequest, match="needs an id"):
        await house.save(ANN, entry("", "text"))


async def test_one_request_has_a_limit(house: House):
    many = tuple(entry(str(number)) for number in range(limits.SAVED_MAX + 1))
    with pytest.raises(BadRequest, match="At most 1000 entries are taken at once, and here are 1001"):
        await house.save(ANN, *many)
    assert await house.save(ANN, *many[1:]) == limits.SAVED_MAX
    assert len(await house.ids(ANN)) == limits.LISTED_MAX


async def test_a_project_has_a_limit_and_changes_what_it_has(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "ENTRIES_MAX", 2)
    await house.save(ANN, entry("a"), entry("b"))
    with pytest.raises(Conflict, match="has 2 knowledge entries, and 2 is as many"):
        await house.save(ANN, entry("b"), entry("c"))
    await house.save(ANN, entry("a", "newer"), entry("b"))
    await house.save(ELSEWHERE, entry("c"))
    assert await house.base.status(ANN, ReadKnowledgeStatus()) == KnowledgeStatus(2)


async def test_nothing_to_save_is_nothing_saved(house: House):
    assert await house.save(ANN) == 0


# -- recalling -------------------------------------------------------------------------------------------------------


async def test_one_recalls_what_is_public_and_ones_own(house: House):
    await house.save(CHIEF, entry("public", "colour", public=True), entry("chiefs", "colour"))
    await house.save(ANN, entry("anns", "colour"), entry("other", "shape"))
    assert sorted(await house.recalled(ANN, "which colour")) == ["anns", "public"]
    assert await house.recalled(BOB, "which colour") == ["public"]


async def test_labels_narrow_what_is_recalled(house: House):
    await house.save(ANN, entry("a", "colour", labels={"c": "1"}), entry("b", "colour", labels={"c": "2"}))
    assert await house.recalled(ANN, "colour", c="2") == ["b"]


async def test_recalling_stops_at_twenty_entries(house: House):
    await house.save(ANN, *(entry(str(number), "colour") for number in range(25)))
    assert len(await house.recalled(ANN, "colour")) == limits.RECALL_MAX == 20


async def test_recalling_stops_at_4000_tokens(house: House):
    quarter = "colour " + "x" * (4000 - len("colour "))
    await house.save(ANN, *(entry(str(number), quarter) for number in range(6)))
    assert len(await house.recalled(ANN, "colour")) == 4
    await house.save(ANN, entry("long", "x" * 16_000, title="colour, colour, colour"))
    assert await house.recalled(ANN, "colour") == ["long"]


async def test_a_long_query_counts_as_far_as_it_is_read(house: House):
    await house.save(ANN, entry("a", "colour"))
    blank = " " * limits.QUERY_CHARS_MAX
    assert await house.recalled(ANN, blank[:-6] + "colour") == ["a"]
    assert await house.recalled(ANN, blank + "colour") == []


@pytest.mark.parametrize("boost", [0.0, -1.0, float("nan"), float("inf"), 1000.5])
async def test_a_boost_must_be_of_use(house: House, boost: float):
    with pytest.raises(BadRequest, match="A boost must be above 0, and 1000 at most"):
        await house.base.recall_as(ANN, RecallEntries((Query("a", boost),)))


async def test_queries_are_few(house: House):
    assert (await house.base.recall_as(ANN, RecallEntries((Query("a", 1000.0),) * 20))).items == ()
    with pytest.raises(BadRequest, match="At most 20 queries"):
        await house.base.recall_as(ANN, RecallEntries((Query("a"),) * 21))


# -- instructions go the same door -----------------------------------------------------------------------------------


async def test_instructions_are_no_entries_and_go_by_their_ids(house: House):
    await house.base.put_instruction(ANN, PutInstruction("i", "Be short.", public=False))
    assert await house.ids(ANN) == []
    assert await house.recalled(ANN, "short") == []
    with pytest.raises(NotFound):
        await house.base.delete(BOB, DeleteEntry("i"))
    await house.base.delete(ANN, DeleteEntry("i"))
    assert (await house.base.instructions(ANN, ListInstructions())).items == ()
