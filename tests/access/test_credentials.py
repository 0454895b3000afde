"""Proving who asks: who is let in, for how long that is believed, and that every refusal looks the same."""

import random

import msgspec
import pytest

from dragoman.access.credentials import REFUSED, REMEMBERED_MAX, TICKET_REFUSED, Authenticator, Touch
from dragoman.access.minting import DAY_S, Mint, Minted
from dragoman.access.pepper import Pepper
from dragoman.access.texts import Form, credential_text
from dragoman.access.tickets import TICKET_S, Ticket, ticket_text
from dragoman.core.errors import NotAuthenticated, Unavailable
from dragoman.core.names import ConversationId, Principal, ProjectId, Scope
from tests.access_memory import MemoryAccess
from tests.support import FixedClock

PROJECT = ProjectId("default")


class House:
    def __init__(self) -> None:
        self.store = MemoryAccess("default")
        self.clock = FixedClock(1000.0)
        self.random = random.Random(1)
        pepper = self.pepper = Pepper("p1", b"k" * 32)
        self.mint = Mint(self.store, pepper, self.clock, self.random.randbytes)
        self.authenticator = Authenticator(self.store, pepper, self.clock)

    async def minted(self, **options) -> Minted:
        return await self.mint.create("ci", PROJECT, scopes=(Scope.CHAT_RUN,), **options)

    async def lets_in(self, text: str) -> bool:
        try:
            await self.authenticator.prove(text)
        except NotAuthenticated:
            return False
        return True


@pytest.fixture
def house() -> House:
    return House()


async def test_a_credential_proves_who_asks(house: House):
    minted = await house.minted(rpm=7)

    assert await house.authenticator.prove(minted.text) == Principal(
        PROJECT, minted.credential.id, "ci", frozenset({Scope.CHAT_RUN}), 7
    )


async def test_a_proof_is_believed_for_five_seconds_without_the_store(house: House):
    minted = await house.minted()
    assert house.authenticator.proven(minted.text) is None
    principal = await house.authenticator.prove(minted.text)

    house.clock.move(4.9)
    assert house.authenticator.proven(minted.text) is principal
    assert await house.authenticator.prove(minted.text) is principal
    assert house.store.reads == 1
    house.clock.move(0.1)
    assert house.authenticator.proven(minted.text) is None
    await house.authenticator.prove(minted.text)
    assert house.store.reads == 2


async def test_a_refusal_is_believed_for_one_second(house: House):
    text = credential_text(house.random.randbytes)
    assert not await house.lets_in(text)
    house.clock.move(0.9)
    assert not await house.lets_in(text)
    assert house.store.reads == 1
    house.clock.move(0.1)
    assert not await house.lets_in(text)
    assert house.store.reads == 2


async def test_every_refusal_is_the_same_sentence_and_junk_never_reaches_the_store(house: House):
    minted = await house.minted()
    revoked = await house.minted()
    await house.mint.revoke(revoked.credential.id)
    expired = await house.minted(expires_s=1.0)
    house.clock.move(100)
    junk = [
        "",
        "drg_",
        "x" * 1_000_000,
        minted.text[:-1] + ("0" if minted.text[-1] != "0" else "1"),
        "ключ" * 14,
        "\ud800" * 56,
        minted.text + "\n",
    ]
    unfit = [
        credential_text(house.random.randbytes),
        credential_text(house.random.randbytes, credential_id=minted.credential.id),
        expired.text,
        revoked.text,
    ]

    reads = house.store.reads
    for text in (*junk, *unfit):
        assert house.authenticator.proven(text) is None
        with pytest.raises(NotAuthenticated) as caught:
            await house.authenticator.prove(text)
        assert (caught.value.detail, caught.value.internal) == (REFUSED, "")
    assert house.store.reads - reads == len(unfit)


async def test_a_store_that_cannot_answer_refuses_nobody_for_longer_than_that(house: House):
    class Down(MemoryAccess):
        async def credential(self, credential_id: str):
            raise Unavailable("The store is gone.")

    minted = await house.minted()
    real, house.authenticator._store = house.store, Down()
    with pytest.raises(Unavailable):
        await house.authenticator.prove(minted.text)
    house.authenticator._store = real
    assert await house.lets_in(minted.text)


@pytest.mark.parametrize(("late_s", "good"), [(-1.0, True), (59.9, True), (60.0, False), (1e6, False)])
async def test_an_expiry_counts_a_minute_late_for_clocks_differ(house: House, late_s: float, good: bool):
    minted = await house.minted(expires_s=DAY_S)
    house.clock.move(DAY_S + late_s)

    assert await house.lets_in(minted.text) is good


async def test_a_proof_is_not_believed_beyond_the_expiry(house: House):
    minted = await house.minted(expires_s=10.0)
    house.clock.move(68.0)
    await house.authenticator.prove(minted.text)

    house.clock.move(1.9)
    assert house.authenticator.proven(minted.text) is not None
    house.clock.move(0.1)
    assert house.authenticator.proven(minted.text) is None
    assert not await house.lets_in(minted.text)


async def test_after_a_rotation_both_texts_work_until_the_overlap_ends(house: House):
    old = await house.minted()
    new = await house.mint.rotate(old.credential.id, overlap_s=DAY_S)

    assert await house.lets_in(old.text) and await house.lets_in(new.text)
    house.clock.move(DAY_S + 59)
    assert await house.lets_in(old.text) and await house.lets_in(new.text)
    house.clock.move(6)
    assert not await house.lets_in(old.text) and await house.lets_in(new.text)


async def test_two_rotations_later_the_first_text_is_gone(house: House):
    first = await house.minted()
    second = await house.mint.rotate(first.credential.id)
    third = await house.mint.rotate(first.credential.id)

    assert [await house.lets_in(minted.text) for minted in (first, second, third)] == [False, True, True]


async def test_a_credential_revoked_elsewhere_is_refused_within_five_seconds(house: House):
    minted = await house.minted()
    await house.authenticator.prove(minted.text)
    await house.mint.revoke(minted.credential.id)

    assert house.authenticator.proven(minted.text) is not None
    house.clock.move(5)
    assert house.authenticator.proven(minted.text) is None
    assert not await house.lets_in(minted.text)


async def test_a_credential_revoked_here_is_refused_at_once(house: House):
    minted, other = await house.minted(), await house.minted()
    await house.authenticator.prove(minted.text)
    await house.authenticator.prove(other.text)
    await house.mint.revoke(minted.credential.id)
    house.authenticator.forget(minted.credential.id)

    assert house.authenticator.proven(minted.text) is None
    assert house.authenticator.proven(other.text) is not None
    assert not await house.lets_in(minted.text)


async def test_a_credential_of_another_pepper_is_refused(house: House):
    minted = await house.minted()
    elsewhere = Authenticator(house.store, Pepper("p2", b"z" * 32), house.clock)

    with pytest.raises(NotAuthenticated):
        await elsewhere.prove(minted.text)


async def test_the_last_use_is_due_to_be_written_once_a_minute(house: House):
    minted = await house.minted()
    kid = minted.credential.id
    await house.authenticator.prove(minted.text)
    assert house.authenticator.take_due() == (Touch(kid, 1000.0),)
    assert house.authenticator.take_due() == ()

    house.clock.move(30)
    await house.authenticator.prove(minted.text)
    assert house.authenticator.take_due() == ()
    house.clock.move(30)
    await house.authenticator.prove(minted.text)
    assert house.authenticator.take_due() == (Touch(kid, 1060.0),)


async def test_a_use_another_process_wrote_is_not_written_again(house: House):
    minted = await house.minted()
    await house.store.touch_credential(minted.credential.id, at=995.0)
    await house.authenticator.prove(minted.text)

    assert house.authenticator.take_due() == ()


async def test_a_last_use_far_in_the_future_is_corrected(house: House):
    minted = await house.minted()
    await house.store.touch_credential(minted.credential.id, at=1e9)
    await house.authenticator.prove(minted.text)

    assert house.authenticator.take_due() == (Touch(minted.credential.id, 1000.0),)


async def test_what_is_remembered_is_bounded_and_a_flood_of_junk_pushes_no_good_caller_out(house: House):
    minted = await house.minted()
    await house.authenticator.prove(minted.text)
    for _ in range(REMEMBERED_MAX + 10):
        await house.lets_in(credential_text(house.random.randbytes))

    assert len(house.authenticator._refusals) == REMEMBERED_MAX
    assert house.authenticator.proven(minted.text) is not None


async def test_good_callers_beyond_the_bound_push_the_first_one_out(house: House):
    first = await house.minted()
    await house.authenticator.prove(first.text)
    for _ in range(REMEMBERED_MAX):
        last = await house.minted()
        await house.authenticator.prove(last.text)

    assert house.authenticator.proven(first.text) is None
    assert house.authenticator.proven(last.text) is not None


async def test_a_previous_hash_without_an_end_proves_nothing(house: House):
    """A row as no version of ours writes it, but an editor of the database might."""
    minted = await house.minted()
    broken = msgspec.structs.replace(minted.credential, hash=bytes(32), previous_hash=minted.credential.hash)
    await house.store.put_credential(broken)

    assert not await house.lets_in(minted.text)


# -- forms and subjects ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Form.DRG, Form.GLSA, Form.GAT])
async def test_every_form_of_credential_is_let_in_and_remembered(house: House, form: Form):
    minted = await house.minted(form=form, subject="service-account:7")
    principal = await house.authenticator.prove(minted.text)

    assert (principal.owner, principal.credential_id) == ("service-account:7", minted.credential.id)
    assert house.authenticator.proven(minted.text) is principal
    assert not await house.lets_in(credential_text(house.random.randbytes, credential_id=principal.credential_id))


async def test_what_renews_a_login_is_no_credential_and_never_reaches_the_store(house: House):
    renewal = credential_text(house.random.randbytes, form=Form.GAR)
    minted = await house.minted()
    kept = msgspec.structs.replace(minted.credential, id=renewal[4:14], hash=house.pepper.digest(renewal.encode()))
    await house.store.put_credential(kept)

    assert not await house.lets_in(renewal)
    assert house.store.reads == 0


# -- tickets ---------------------------------------------------------------------------------------------------------

READER = frozenset({Scope.CHAT_READ})
C = ConversationId("c ü")


def ticket_of(house: House, minted: Minted, **changes) -> str:
    credential = minted.credential
    ticket = Ticket(PROJECT, credential.subject or credential.id, credential.id, C, house.clock.now() + TICKET_S)
    return ticket_text(msgspec.structs.replace(ticket, **changes), house.pepper)


async def opens(house: House, text: str, conversation: str = C) -> bool:
    try:
        await house.authenticator.prove_ticket(text, conversation=conversation)
    except NotAuthenticated as error:
        assert error.detail == TICKET_REFUSED
        return False
    return True


async def test_a_ticket_opens_its_conversation_to_read_for_whom_it_was_made(house: House):
    minted = await house.mint.create(
        "ci", PROJECT, scopes=(Scope.CHAT_RUN, Scope.CHAT_READ), rpm=3, subject="service-account:7"
    )
    text = ticket_of(house, minted)

    reader = await house.authenticator.prove_ticket(text, conversation=C)
    assert reader == Principal(PROJECT, minted.credential.id, "ci", READER, 3, "service-account:7")
    assert not await opens(house, text, "c")
    assert not await house.lets_in(text)
    assert house.authenticator.take_due() == (Touch(minted.credential.id, 1000.0),)


@pytest.mark.parametrize(("after_s", "good"), [(599.9, True), (600.0, False)])
async def test_a_ticket_ends_after_ten_minutes(house: House, after_s: float, good: bool):
    text = ticket_of(house, await house.minted())
    assert await opens(house, text)
    house.clock.move(after_s)

    assert await opens(house, text) is good


async def test_a_ticket_ends_with_its_credential_within_five_seconds(house: House):
    minted = await house.minted()
    text = ticket_of(house, minted)
    assert await opens(house, text)
    await house.mint.revoke(minted.credential.id)

    house.clock.move(4.9)
    assert await opens(house, text)
    house.clock.move(0.1)
    assert not await opens(house, text)


async def test_a_ticket_of_a_credential_revoked_here_ends_at_once(house: House):
    minted = await house.minted()
    text = ticket_of(house, minted)
    assert await opens(house, text)
    await house.mint.revoke(minted.credential.id)
    house.authenticator.forget(minted.credential.id)

    assert not await opens(house, text)


async def test_a_ticket_ends_with_its_credentials_expiry(house: House):
    text = ticket_of(house, await house.minted(expires_s=10.0))
    house.clock.move(69.9)
    assert await opens(house, text)
    house.clock.move(0.1)
    assert not await opens(house, text)


async def test_a_ticket_is_looked_up_once_in_five_seconds(house: House):
    text = ticket_of(house, await house.minted())
    for _ in range(3):
        assert await opens(house, text)

    assert house.store.reads == 1


@pytest.mark.parametrize(
    "changes", [{"project": ProjectId("other")}, {"owner": "service-account:1"}, {"credential_id": "nobody1234"}]
)
async def test_a_ticket_that_says_what_its_credential_does_not_opens_nothing(house: House, changes):
    assert not await opens(house, ticket_of(house, await house.minted(), **changes))


async def test_a_made_up_ticket_never_reaches_the_store(house: House):
    text = ticket_of(house, await house.minted())
    other = Authenticator(house.store, Pepper("p2", b"z" * 32), house.clock)

    for junk in ("", "tkt_", text + "A", text[:-1], "tkt_" + "A" * 50 + text[-44:], "ü" * 50, "\ud800"):
        assert not await opens(house, junk)
    with pytest.raises(NotAuthenticated):
        await other.prove_ticket(text, conversation=C)
    assert house.store.reads == 0
