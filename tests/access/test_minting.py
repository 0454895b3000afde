"""Making, rotating and revoking credentials."""

import random

import pytest

from dragoman.access.minting import DAY_S, Mint
from dragoman.access.pepper import Pepper
from dragoman.access.ports import Credential, Project
from dragoman.access.scopes import DEFAULT_SCOPES
from dragoman.access.texts import Form, credential_id_of
from dragoman.core.errors import BadRequest, Conflict, NotAllowed, NotFound
from dragoman.core.names import Principal, ProjectId, Scope
from tests.access_memory import MemoryAccess
from tests.support import FixedClock

PROJECT = ProjectId("default")
PEPPER = Pepper("p1", b"k" * 32)


class House:
    def __init__(self) -> None:
        self.store = MemoryAccess("default")
        self.clock = FixedClock(1000.0)
        self.random = random.Random(1)
        self.mint = Mint(self.store, PEPPER, self.clock, self.random.randbytes)


@pytest.fixture
def house() -> House:
    return House()


async def test_a_new_credential_is_kept_as_a_hash_with_the_defaults(house: House):
    minted = await house.mint.create(" ci bot ", PROJECT)

    assert minted.credential == Credential(
        id=credential_id_of(minted.text) or "",
        project=PROJECT,
        name="ci bot",
        scopes=DEFAULT_SCOPES,
        hash=PEPPER.digest(minted.text.encode()),
        pepper_id="p1",
        created_at=1000.0,
        expires_at=1000.0 + 90 * DAY_S,
    )
    assert house.store.kept == {minted.credential.id: minted.credential}
    assert minted.text not in repr(minted)


async def test_a_credential_may_be_good_for_ever_and_have_its_own_limit(house: House):
    minted = await house.mint.create("bench", PROJECT, expires_s=None, rpm=0, scopes=(Scope.ADMIN, Scope.ADMIN))

    assert (minted.credential.expires_at, minted.credential.rpm, minted.credential.scopes) == (None, 0, (Scope.ADMIN,))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"expires_s": 0.0}, "A credential must be good for more than 0 seconds."),
        ({"expires_s": float("nan")}, "A credential must be good for more than 0 seconds."),
        ({"rpm": -1}, "A credential's requests per minute are 0 (unlimited) to 1000000."),
        ({"rpm": 1_000_001}, "A credential's requests per minute are 0 (unlimited) to 1000000."),
    ],
)
async def test_impossible_wishes_are_refused_and_nothing_is_kept(house: House, options, sentence):
    with pytest.raises(BadRequest) as caught:
        await house.mint.create("x", PROJECT, **options)
    assert caught.value.detail == sentence
    assert house.store.kept == {}


async def test_a_credential_cannot_make_one_that_may_more_than_itself(house: House):
    parent = Principal(PROJECT, "k1", "parent", frozenset({Scope.CREDENTIALS_WRITE, Scope.CHAT_RUN}))

    child = await house.mint.create("child", PROJECT, scopes=(Scope.CHAT_RUN,), by=parent)
    assert child.credential.scopes == (Scope.CHAT_RUN,)
    with pytest.raises(NotAllowed):
        await house.mint.create("child", PROJECT, scopes=(Scope.CHAT_RUN, Scope.CHAT_READ), by=parent)
    assert list(house.store.kept) == [child.credential.id]


async def test_a_project_that_does_not_exist_is_said(house: House):
    with pytest.raises(NotFound) as caught:
        await house.mint.create("x", ProjectId("nowhere"))
    assert caught.value.what == "project"


async def test_a_rotation_keeps_the_id_and_lets_the_old_text_live_on_for_a_day(house: House):
    old = await house.mint.create("ci", PROJECT, rpm=5)
    house.clock.move(10)
    new = await house.mint.rotate(old.credential.id)

    assert new.text != old.text
    assert credential_id_of(new.text) == old.credential.id
    assert new.credential == Credential(
        id=old.credential.id,
        project=PROJECT,
        name="ci",
        scopes=DEFAULT_SCOPES,
        hash=PEPPER.digest(new.text.encode()),
        pepper_id="p1",
        created_at=1000.0,
        expires_at=1010.0 + 90 * DAY_S,
        rpm=5,
        previous_hash=old.credential.hash,
        previous_until=1010.0 + DAY_S,
    )


async def test_the_overlap_ends_with_the_old_texts_own_expiry(house: House):
    old = await house.mint.create("ci", PROJECT, expires_s=100.0)

    rotated = await house.mint.rotate(old.credential.id, expires_s=None)
    assert (rotated.credential.previous_until, rotated.credential.expires_at) == (1100.0, None)


async def test_an_expired_credential_is_renewed_without_reviving_its_old_text(house: House):
    old = await house.mint.create("ci", PROJECT, expires_s=100.0)
    house.clock.move(200)

    rotated = await house.mint.rotate(old.credential.id)
    assert (rotated.credential.previous_hash, rotated.credential.previous_until) == (None, None)


async def test_an_overlap_of_zero_ends_the_old_text_at_once(house: House):
    old = await house.mint.create("ci", PROJECT)

    rotated = await house.mint.rotate(old.credential.id, overlap_s=0)
    assert rotated.credential.previous_hash is None


async def test_an_old_text_of_another_pepper_is_not_carried_over(house: House):
    old = await house.mint.create("ci", PROJECT)
    other = Mint(house.store, Pepper("p2", b"z" * 32), house.clock, house.random.randbytes)

    rotated = await other.rotate(old.credential.id)
    assert (rotated.credential.previous_hash, rotated.credential.pepper_id) == (None, "p2")


@pytest.mark.parametrize("overlap_s", [-1.0, 7 * DAY_S + 1, float("nan")])
async def test_an_overlap_beyond_seven_days_is_refused(house: House, overlap_s: float):
    old = await house.mint.create("ci", PROJECT)
    with pytest.raises(BadRequest) as caught:
        await house.mint.rotate(old.credential.id, overlap_s=overlap_s)
    assert caught.value.detail == "The overlap of a rotation is 0 to 7 days."


async def test_revoking_is_final_and_may_be_repeated(house: House):
    old = await house.mint.create("ci", PROJECT)
    await house.mint.rotate(old.credential.id)
    house.clock.move(5)

    revoked = await house.mint.revoke(old.credential.id)
    assert (revoked.revoked_at, revoked.previous_hash, revoked.previous_until) == (1005.0, None, None)
    house.clock.move(5)
    assert await house.mint.revoke(old.credential.id) == revoked
    with pytest.raises(Conflict):
        await house.mint.rotate(old.credential.id)


async def test_an_unknown_id_is_not_found(house: House):
    for change in (house.mint.rotate, house.mint.revoke):
        with pytest.raises(NotFound) as caught:
            await change("nobody")
        assert caught.value.detail == "There is no credential nobody; list them with: dragoman credentials ls"


# -- subjects and forms ----------------------------------------------------------------------------------------------


async def test_a_credential_may_stand_for_somebody_and_be_written_as_grafana_does(house: House):
    minted = await house.mint.create("ci", PROJECT, subject="service-account:1", form=Form.GLSA)

    assert (minted.credential.subject, minted.text[:5]) == ("service-account:1", "glsa_")
    assert credential_id_of(minted.text) == minted.credential.id
    assert minted.credential.hash == PEPPER.digest(minted.text.encode())
    rotated = await house.mint.rotate(minted.credential.id, form=Form.GLSA)
    assert (rotated.credential.subject, rotated.text[:15]) == ("service-account:1", minted.text[:15])
    assert rotated.text != minted.text


async def test_who_stands_for_a_credential_is_revoked_with_it(house: House):
    granting = await house.mint.create("me", PROJECT)
    login = await house.mint.create("cli", PROJECT, subject=granting.credential.id)
    other = await house.mint.create("else", PROJECT, subject="service-account:1")

    await house.mint.revoke(granting.credential.id)
    assert [house.store.kept[minted.credential.id].revoked_at for minted in (granting, login, other)] == [
        1000.0,
        1000.0,
        None,
    ]


async def test_all_credentials_of_a_subject_are_revoked_in_its_project_alone(house: House):
    await house.store.put_project(Project(ProjectId("other"), "other", 0.0))
    mine = [await house.mint.create(name, PROJECT, subject="service-account:1") for name in ("a", "b")]
    theirs = await house.mint.create("c", ProjectId("other"), subject="service-account:1")
    house.clock.move(1)
    await house.mint.revoke(mine[0].credential.id)
    house.clock.move(1)

    ids = await house.mint.revoke_subject(PROJECT, "service-account:1")
    assert set(ids) == {minted.credential.id for minted in mine}
    assert [house.store.kept[minted.credential.id].revoked_at for minted in (*mine, theirs)] == [1001.0, 1002.0, None]
