"""Test profiles: those that are created, and those that a file lends for a while."""

from itertools import count

import pytest

from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.names import ProjectId
from dragoman.core.simulations import ProfileDraft
from dragoman.runtime import test_profiles as limits
from dragoman.runtime.test_profiles import TestProfiles
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

P, Q = ProjectId("p"), ProjectId("q")
NOBODY = "f" * 24


class Place:
    def __init__(self) -> None:
        numbers = count(1)
        self.clock = FixedClock(1000.0)
        self.profiles = TestProfiles(MemoryRecords(self.clock), new_id=lambda: f"{next(numbers):024x}")


@pytest.fixture
def place() -> Place:
    return Place()


async def test_what_is_created_is_read_back_and_listed_until_it_is_removed(place: Place):
    made = await place.profiles.create(P, name="Ana", context="Ordered a lamp.", mock_tools=True, mock_prompt="Late.")
    assert (made.id, made.created_at, made.updated_at) == ("0" * 23 + "1", 1000.0, 1000.0)
    assert (made.name, made.context, made.mock_tools, made.mock_prompt) == ("Ana", "Ordered a lamp.", True, "Late.")
    other = await place.profiles.create(P, name="Ana")
    assert (other.context, other.mock_tools, other.mock_prompt) == ("", False, "")

    assert await place.profiles.get(P, made.id) == made
    assert await place.profiles.ls(P) == (made, other)
    await place.profiles.remove(P, made.id)
    assert await place.profiles.get(P, made.id) is None
    with pytest.raises(NotFound) as gone:
        await place.profiles.remove(P, made.id)
    assert gone.value.what == "test_profile"


@pytest.mark.parametrize("name", ["", "abc", "F" * 24, "0" * 25, "1" * 24 + "\n", "x" * 5000, "\ud800" * 24])
async def test_what_cannot_be_an_id_is_not_there(place: Place, name: str):
    assert await place.profiles.get(P, name) is None
    with pytest.raises(NotFound):
        await place.profiles.remove(P, name)


async def test_another_projects_profile_is_not_there(place: Place):
    made = await place.profiles.create(P, name="Ana")
    assert await place.profiles.get(Q, made.id) is None
    assert await place.profiles.ls(Q) == ()
    with pytest.raises(NotFound):
        await place.profiles.remove(Q, made.id)


async def test_a_lent_one_is_in_no_list_and_is_gone_in_time(place: Place):
    draft = ProfileDraft("angry", "Bo waits.", mock_tools=True)
    lent = await place.profiles.lend(P, draft, until=2000.0)
    assert (await place.profiles.lend(P, draft, until=3000.0)).id == lent.id
    assert (await place.profiles.lend(P, ProfileDraft("angry", "Bo sleeps."), until=3000.0)).id != lent.id

    place.clock.at = 2999.0
    found = await place.profiles.get(P, lent.id)
    assert found is not None and (found.name, found.context, found.mock_tools) == ("angry", "Bo waits.", True)
    assert await place.profiles.ls(P) == ()
    place.clock.at = 3000.0
    assert await place.profiles.get(P, lent.id) is None


async def test_a_project_holds_so_many_and_lent_ones_do_not_count(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "PROFILES_MAX", 2)
    await place.profiles.lend(P, ProfileDraft("lent"), until=9000.0)
    for name in ("one", "two"):
        made = await place.profiles.create(P, name=name)
    with pytest.raises(Conflict, match="test-profiles rm"):
        await place.profiles.create(P, name="three")
    await place.profiles.create(Q, name="three")
    await place.profiles.remove(P, made.id)
    await place.profiles.create(P, name="three")


@pytest.mark.parametrize(
    ("draft", "fault"),
    [
        (ProfileDraft(" "), "needs a name"),
        (ProfileDraft("n" * 201), "a name of 201 characters; 200 at most"),
        (ProfileDraft("n", context="c" * 20_001), "a context of 20001 characters; 20000 at most"),
        (ProfileDraft("n", mock_prompt="c" * 20_001), "a mock prompt of 20001 characters; 20000 at most"),
    ],
)
async def test_what_is_missing_or_too_long_is_refused(place: Place, draft: ProfileDraft, fault: str):
    with pytest.raises(BadRequest, match=fault):
        await place.profiles.create(
            P, name=draft.name, context=draft.context, mock_tools=False, mock_prompt=draft.mock_prompt
        )
    with pytest.raises(BadRequest, match=fault):
        await place.profiles.lend(P, draft, until=2000.0)
    assert await place.profiles.ls(P) == ()


async def test_what_is_as_long_as_may_be_is_taken(place: Place):
    made = await place.profiles.create(P, name="n" * 200, context="c" * 20_000, mock_prompt="m" * 20_000)
    assert await place.profiles.get(P, made.id) == made
