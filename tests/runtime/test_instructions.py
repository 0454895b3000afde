"""Standing instructions: one private and one public of each person, and which of them everybody sees."""

import asyncio

import pytest

from dragoman.core.errors import BadRequest, Conflict, NotAllowed
from dragoman.core.knowledge import KeptInstruction, PutInstruction
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.core.records import Record
from dragoman.runtime import instructions as limits
from dragoman.runtime.crossing import TRIES_MAX
from dragoman.runtime.instructions import Instructions
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

P = ProjectId("p")


def person(name: str, *scopes: Scope, project: ProjectId = P) -> Principal:
    return Principal(project, f"{name}-key", name, frozenset(scopes), subject=name)


ANN, BOB = person("ann", Scope.RESOURCES_WRITE), person("bob", Scope.RESOURCES_WRITE)
EVE = person("eve")
ELSEWHERE = person("ann", Scope.ADMIN, project=ProjectId("q"))


class CrossedRecords(MemoryRecords):
    """Refuses the first writes, as if another request had come in between."""

    refusals = 0

    async def put(self, record: Record, *, expect: int | None) -> Record:
        if self.refusals:
            self.refusals -= 1
            raise Conflict("crossed")
        return await super().put(record, expect=expect)


@pytest.fixture
def records() -> CrossedRecords:
    return CrossedRecords(FixedClock())


@pytest.fixture
def kept(records: CrossedRecords) -> Instructions:
    return Instructions(records)


def put(name: str, text: str, *, public: bool) -> PutInstruction:
    return PutInstruction(name, text, public)


async def told(kept: Instructions, who: Principal) -> list[tuple[str, str, bool]]:
    return [(each.id, each.text, each.public) for each in await kept.of(who)]


async def test_K5_everybody_sees_their_own_and_the_public_ones(kept: Instructions):
    for who, name in ((ANN, "a"), (BOB, "b")):
        await kept.put(who, put(f"{name}-public", name, public=True))
        await kept.put(who, put(f"{name}-private", name, public=False))
    assert await told(kept, ANN) == [("a-private", "a", False), ("a-public", "a", True), ("b-public", "b", True)]
    assert await told(kept, BOB) == [("b-private", "b", False), ("b-public", "b", True), ("a-public", "a", True)]
    assert await told(kept, EVE) == [("a-public", "a", True), ("b-public", "b", True)]
    assert await told(kept, ELSEWHERE) == []


async def test_K5_a_second_one_takes_the_place_of_the_first_and_keeps_its_id(kept: Instructions):
    await kept.put(ANN, put("first", "old", public=False))
    assert await kept.put(ANN, put("second", "new", public=False)) == KeptInstruction("first", "new", False)
    assert await told(kept, ANN) == [("first", "new", False)]


async def test_K5_the_same_id_with_the_other_visibility_moves(kept: Instructions):
    await kept.put(ANN, put("doc", "Initial text", public=True))
    await kept.put(ANN, put("doc", "Updated text", public=False))
    assert await told(kept, ANN) == [("doc", "Updated text", False)]
    await kept.put(ANN, put("doc", "Back", public=True))
    assert await told(kept, BOB) == [("doc", "Back", True)]


async def test_K5_another_persons_of_the_same_id_stays_as_it_is(kept: Instructions):
    await kept.put(ANN, put("doc", "ann's", public=True))
    await kept.put(BOB, put("doc", "bob's", public=True))
    assert await told(kept, ANN) == [("doc", "ann's", True), ("doc", "bob's", True)]


async def test_one_that_has_both_changes_the_one_of_that_visibility(kept: Instructions):
    await kept.put(ANN, put("a", "private", public=False))
    await kept.put(ANN, put("b", "public", public=True))
    await kept.put(ANN, put("a", "new", public=True))
    assert await told(kept, ANN) == [("a", "private", False), ("b", "new", True)]


async def test_for_everybody_speaks_only_who_may(kept: Instructions):
    with pytest.raises(NotAllowed, match="make it private instead"):
        await kept.put(EVE, put("e", "text", public=True))
    await kept.put(EVE, put("e", "text", public=False))
    await kept.put(ANN, put("a", "text", public=True))
    lowered = person("ann")
    with pytest.raises(NotAllowed):
        await kept.put(lowered, put("a", "text", public=False))
    with pytest.raises(NotAllowed):
        await kept.forget(lowered, "a")
    assert await told(kept, EVE) == [("e", "text", False), ("a", "text", True)]


async def test_only_ones_own_is_forgotten(kept: Instructions):
    await kept.put(ANN, put("a", "text", public=True))
    assert not await kept.forget(BOB, "a")
    assert not await kept.forget(ANN, "b")
    assert await kept.forget(ANN, "a")
    assert await told(kept, ANN) == []


@pytest.mark.parametrize(
    ("fits", "over", "said"),
    [
        (put("i" * 512, "t", public=False), put("i" * 513, "t", public=False), "1 to 512 characters"),
        (put("i", "t" * 16_000, public=False), put("i", "t" * 16_001, public=False), "has 16001 characters"),
        (put("i", "t", public=False), put("", "t", public=False), "1 to 512 characters"),
        (put("i", "t", public=False), put("i", " \n", public=False), "has no text"),
    ],
)
async def test_an_instruction_has_limits(kept: Instructions, fits: PutInstruction, over: PutInstruction, said: str):
    await kept.put(ANN, fits)
    with pytest.raises(BadRequest, match=said):
        await kept.put(ANN, over)


async def test_public_ones_are_few(kept: Instructions, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "PUBLIC_MAX", 1)
    await kept.put(ANN, put("a", "text", public=True))
    with pytest.raises(Conflict, match="has 1 public instructions"):
        await kept.put(BOB, put("b", "text", public=True))
    await kept.put(BOB, put("b", "text", public=False))
    await kept.put(ANN, put("a", "newer", public=True))


async def test_a_change_that_others_cross_is_tried_again(kept: Instructions, records: CrossedRecords):
    records.refusals = TRIES_MAX - 1
    await kept.put(ANN, put("a", "text", public=False))
    assert await told(kept, ANN) == [("a", "text", False)]
    records.refusals = TRIES_MAX
    with pytest.raises(Conflict):
        await kept.put(ANN, put("a", "newer", public=False))


async def test_two_at_once_leave_one(kept: Instructions):
    await asyncio.gather(*(kept.put(ANN, put(f"i{n}", f"t{n}", public=False)) for n in range(5)))
    assert len(await told(kept, ANN)) == 1
