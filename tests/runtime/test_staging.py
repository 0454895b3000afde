"""What a caller wants of a workflow -> what goes onto the tape."""

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.errors import NotFound
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, ProjectId, RunId
from dragoman.core.operations import StartTurn
from dragoman.core.simulations import TestProfile as Profile
from dragoman.core.workflows import Staging, WorkflowWanted
from dragoman.runtime.ports import NewTurn
from dragoman.runtime.staging import Stagings
from dragoman.stores.memory import MemoryStore
from tests.parts import ADMIN
from tests.runtime.workflows import KeptVersions, desk
from tests.support import FixedClock

BEGUN = ConversationId("begun")
VERSIONS = {"v1": desk(), "v2": desk(), "old": desk()}


class Profiles:
    def __init__(self, *profiles: Profile) -> None:
        self._profiles = {profile.id: profile for profile in profiles}

    async def get(self, project: ProjectId, profile_id: str) -> Profile | None:
        return self._profiles.get(profile_id)


def profile(**fields: object) -> Profile:
    return Profile(id="p1", name="Ana", **fields)  # pyright: ignore[reportArgumentType]


async def stagings(*profiles: Profile, live: str = "v1") -> Stagings:
    """One conversation there is, which began with the version `old`."""
    store = MemoryStore(FixedClock())
    created = ev.ConversationCreated(ADMIN.project, BEGUN, workflow="old")
    await store.accept(NewTurn(ADMIN.project, BEGUN, RunId("r0"), ev.TurnReceived((said("user", "hi"),)), created))
    return Stagings(KeptVersions(VERSIONS, live), Profiles(*profiles), store)


def turn(conversation: str = "new", *, ephemeral: bool = False, **wanted: object) -> StartTurn:
    return StartTurn(
        ConversationId(conversation),
        (said("user", "hi"),),
        instructions=("Be kind.",),
        ephemeral=ephemeral,
        workflow=WorkflowWanted(**wanted),  # pyright: ignore[reportArgumentType]
    )


async def test_a_turn_that_wants_no_workflow_stays_as_it_is() -> None:
    plain = StartTurn(ConversationId("c"), ())
    assert await (await stagings()).prepare(ADMIN, plain) is plain


async def test_the_published_version_answers_and_what_the_caller_says_goes_with_it() -> None:
    prepared = await (await stagings()).prepare(ADMIN, turn(last="Billing", mocks={"look_up": "late"}))
    assert prepared.staging == Staging("v1", "Billing", {"look_up": "late"})
    assert prepared.instructions == ("Be kind.",)


async def test_a_version_that_is_named_answers_published_or_not() -> None:
    prepared = await (await stagings(live="")).prepare(ADMIN, turn(version="v2"))
    assert prepared.staging == Staging("v2")


async def test_a_conversation_keeps_the_version_it_began_with() -> None:
    assert (await (await stagings()).prepare(ADMIN, turn(BEGUN))).staging == Staging("old")


async def test_an_ephemeral_turn_has_no_conversation_to_go_by() -> None:
    assert (await (await stagings()).prepare(ADMIN, turn(BEGUN, ephemeral=True))).staging == Staging("v1")


async def test_a_test_profile_mocks_and_its_context_is_the_system_message() -> None:
    known = profile(context="Name: Ana", mock_tools=True, mock_prompt="always late")
    prepared = await (await stagings(known)).prepare(ADMIN, turn(test_profile="p1"))
    assert prepared.staging == Staging("v1", None, {}, True, "always late")
    assert prepared.instructions == ("Name: Ana",)


async def test_a_context_takes_the_place_of_a_system_message_that_begins_the_turn() -> None:
    messages = (said("system", "Name: Bob"), said("user", "hi"), said("system", "later"))
    asked = replace(turn(test_profile="p1"), messages=messages)
    prepared = await (await stagings(profile(context="Name: Ana"))).prepare(ADMIN, asked)
    assert (prepared.instructions, prepared.messages) == (("Name: Ana",), messages[1:])


async def test_a_test_profile_without_a_context_leaves_the_system_message() -> None:
    prepared = await (await stagings(profile())).prepare(ADMIN, turn(test_profile="p1"))
    assert prepared.instructions == ("Be kind.",)


@pytest.mark.parametrize(
    ("wanted", "live", "what", "detail"),
    [
        ({"version": "gone"}, "v1", "workflow", "Workflow not found"),
        ({}, "", "published_workflow", "has no published workflow"),
        ({"test_profile": "gone"}, "v1", "test_profile", "Test profile not found"),
        ({"version": "gone", "test_profile": "gone"}, "v1", "workflow", "Workflow not found"),
    ],
    ids=["version", "published", "profile", "the version first"],
)
async def test_what_is_not_there_is_not_found(wanted: dict[str, object], live: str, what: str, detail: str) -> None:
    with pytest.raises(NotFound) as refused:
        await (await stagings(live=live)).prepare(ADMIN, turn(**wanted))
    assert refused.value.what == what
    assert detail in refused.value.detail
