"""Login: a code is good once and for its program, it gives no more than was granted, and a used text ends it all."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from dragoman.access.credentials import REFUSED, Authenticator
from dragoman.access.login import BAD_CODE, CODES, ENDED, LOGINS, LOGINS_MAX, NO_CHAIN, NOWHERE, Login, challenge_of
from dragoman.access.minting import DAY_S, Mint, Minted
from dragoman.access.pepper import Pepper
from dragoman.access.texts import Form, Parts, credential_text, joined, split
from dragoman.core.admission import (
    DecideLogin,
    ExchangeLogin,
    LoginDecided,
    LoginIssued,
    LoginWish,
    RenewLogin,
    ReviewLogin,
)
from dragoman.core.errors import DragomanError, NotAllowed, NotAuthenticated
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.core.records import Record
from dragoman.stores.memory.records import MemoryRecords
from tests.access_memory import MemoryAccess
from tests.support import FixedClock

PROJECT = ProjectId("default")
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
"""RFC 7636, appendix B."""
WISH = LoginWish(CHALLENGE, "laptop", (Scope.CHAT_RUN, Scope.CHAT_READ, Scope.TUNNEL_CONNECT))


class Meddling(MemoryRecords):
    """Something happens just before a login is written."""

    before: Callable[[], Awaitable[object]] | None = None

    async def put(self, record: Record, *, expect: int | None) -> Record:
        if self.before is not None and record.kind == LOGINS:
            before, self.before = self.before, None
            await before()
        return await super().put(record, expect=expect)


class House:
    def __init__(self) -> None:
        self.store = MemoryAccess("default")
        self.clock = FixedClock(1000.0)
        self.records = Meddling(self.clock)
        self.random = random.Random(1)
        self.pepper = Pepper("p1", b"k" * 32)
        self.mint = Mint(self.store, self.pepper, self.clock, self.random.randbytes)
        self.authenticator = Authenticator(self.store, self.pepper, self.clock)
        self.login = self.login_with(self.authenticator)

    def another_process(self) -> Login:
        return self.login_with(Authenticator(self.store, self.pepper, self.clock))

    def login_with(self, authenticator: Authenticator) -> Login:
        return Login(
            self.store,
            self.records,
            self.mint,
            authenticator,
            pepper=self.pepper,
            clock=self.clock,
            random_bytes=self.random.randbytes,
        )

    async def granting(self, *scopes: Scope, **options) -> Minted:
        return await self.mint.create("me", PROJECT, scopes=scopes or (Scope.ADMIN,), **options)

    async def code(self, credential: str, wish: LoginWish = WISH) -> str:
        return (await self.login.decide(DecideLogin(wish, True, credential))).code

    async def begun(self, granting: Minted | None = None) -> LoginIssued:
        granting = granting or await self.granting()
        return await self.login.exchange(ExchangeLogin(await self.code(granting.text), VERIFIER))

    async def renewed(self, renewal: str) -> LoginIssued:
        return await self.login.renew(RenewLogin(renewal))

    async def who(self, text: str) -> Principal | None:
        self.clock.move(5)  # whatever is remembered is forgotten
        try:
            return await self.authenticator.prove(text)
        except NotAuthenticated:
            return None


@pytest.fixture
def house() -> House:
    return House()


async def refused(attempt: Awaitable[object]) -> tuple[type[DragomanError], str]:
    with pytest.raises(DragomanError) as caught:
        await attempt
    return type(caught.value), caught.value.detail


ENDED_ERROR = (NotAuthenticated, ENDED)
CODE_ERROR = (NotAuthenticated, BAD_CODE)


def test_a_challenge_is_that_of_the_standards_example():
    assert challenge_of(VERIFIER) == CHALLENGE


# -- the person ------------------------------------------------------------------------------------------------------


async def test_the_wish_is_shown_as_it_was_understood(house: House):
    assert await house.login.review(ReviewLogin(WISH)) == WISH


async def test_what_is_denied_leaves_nothing_behind(house: House):
    assert await house.login.decide(DecideLogin(WISH, False)) == LoginDecided("", NOWHERE, "")
    assert (await house.records.page(NOWHERE, CODES, limit=0, offset=0)).total == 0


@pytest.mark.parametrize("text", ["", "nonsense", credential_text(random.Random(9).randbytes)])
async def test_a_credential_that_proves_nothing_allows_nothing(house: House, text: str):
    assert await refused(house.code(text)) == (NotAuthenticated, REFUSED)


async def test_a_credential_that_may_nothing_of_it_allows_nothing(house: House):
    granting = await house.granting(Scope.METRICS_READ)

    assert await refused(house.code(granting.text)) == (
        NotAllowed,
        "This credential may do nothing of what is asked for.",
    )


async def test_a_login_cannot_grant_another(house: House):
    assert await refused(house.code((await house.begun()).text)) == (NotAllowed, NO_CHAIN)


async def test_a_code_is_kept_as_a_hash_and_for_five_minutes(house: House):
    code = await house.code((await house.granting()).text)

    (record,) = (await house.records.page(NOWHERE, CODES, limit=0, offset=0)).items
    assert code not in f"{record}"
    assert (len(code), record.expires_at) == (43, 1300.0)
    house.clock.move(300)
    assert await refused(house.login.exchange(ExchangeLogin(code, VERIFIER))) == CODE_ERROR


# -- the program -----------------------------------------------------------------------------------------------------


async def test_a_code_is_exchanged_for_an_hour_and_thirty_days(house: House):
    granting = await house.granting(Scope.CHAT_RUN, Scope.CHAT_READ, Scope.METRICS_READ, rpm=7, expires_s=None)
    issued = await house.begun(granting)

    assert (issued.text[:4], issued.renewal[:4]) == ("gat_", "gar_")
    assert issued == LoginIssued(issued.text, 4600.0, issued.renewal, 1000.0 + 30 * DAY_S, PROJECT, "me")
    principal = await house.who(issued.text)
    assert principal == Principal(
        PROJECT,
        issued.text[4:14],
        "login laptop",
        frozenset({Scope.CHAT_RUN, Scope.CHAT_READ}),
        7,
        granting.credential.id,
    )


async def test_a_login_stands_for_the_subject_of_what_granted_it(house: House):
    principal = await house.who((await house.begun(await house.granting(subject="service-account:1"))).text)

    assert principal is not None and principal.owner == "service-account:1"


async def test_nothing_of_the_texts_is_kept_or_logged(house: House, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    granting = await house.granting()
    code = await house.code(granting.text)
    first = await house.login.exchange(ExchangeLogin(code, VERIFIER))
    second = await house.renewed(first.renewal)

    kept = [
        f"{record}"
        for kind in (CODES, LOGINS)
        for record in (await house.records.page(NOWHERE, kind, limit=0, offset=0)).items
    ]
    everything = " ".join([*kept, *(f"{credential}" for credential in house.store.kept.values()), caplog.text])
    assert "laptop" in caplog.text
    secrets = [
        code,
        VERIFIER,
        *(
            parts.secret
            for text in (granting.text, first.text, first.renewal, second.text, second.renewal)
            if (parts := split(text))
        ),
    ]
    assert len(secrets) == 7
    assert repr(LoginDecided(code, PROJECT, "me")) == "LoginDecided('default', 'me', allowed)"
    assert [secret for secret in secrets if secret in everything] == []
    asked = (ExchangeLogin(code, VERIFIER), RenewLogin(first.renewal), DecideLogin(WISH, True, granting.text))
    shown = f"{first!r} {asked!r}"
    assert [secret for secret in secrets if secret in shown] == []


async def test_a_code_is_good_once(house: House):
    code = await house.code((await house.granting()).text)
    await house.login.exchange(ExchangeLogin(code, VERIFIER))

    assert await refused(house.login.exchange(ExchangeLogin(code, VERIFIER))) == CODE_ERROR


async def test_two_who_bring_a_code_at_once_get_one_login(house: House):
    code = await house.code((await house.granting()).text)
    exchange = ExchangeLogin(code, VERIFIER)
    both = await asyncio.gather(
        house.login.exchange(exchange), house.another_process().exchange(exchange), return_exceptions=True
    )

    assert sorted(type(each).__name__ for each in both) == ["LoginIssued", "NotAuthenticated"]


@pytest.mark.parametrize("verifier", ["", VERIFIER[:-1], VERIFIER + "x", CHALLENGE])
async def test_a_wrong_verifier_is_refused_and_uses_the_code_up(house: House, verifier: str):
    code = await house.code((await house.granting()).text)

    assert await refused(house.login.exchange(ExchangeLogin(code, verifier))) == CODE_ERROR
    assert await refused(house.login.exchange(ExchangeLogin(code, VERIFIER))) == CODE_ERROR
    assert len(house.store.kept) == 1


async def test_a_code_taken_by_another_process_just_now_is_used(house: House):
    code = await house.code((await house.granting()).text)

    class Taken(MemoryRecords):
        async def delete(self, *name, **options) -> bool:
            return False

    taken = Taken(house.clock)
    await taken.put((await house.records.page(NOWHERE, CODES, limit=0, offset=0)).items[0], expect=0)
    house.login._records = taken
    assert await refused(house.login.exchange(ExchangeLogin(code, VERIFIER))) == CODE_ERROR


@pytest.mark.parametrize("code", ["", "x" * 43, "ü" * 100_000])
async def test_a_made_up_code_is_refused(house: House, code: str):
    assert await refused(house.login.exchange(ExchangeLogin(code, VERIFIER))) == CODE_ERROR


async def test_a_code_whose_credential_was_revoked_meanwhile_gives_nothing(house: House):
    granting = await house.granting()
    code = await house.code(granting.text)
    await house.mint.revoke(granting.credential.id)

    assert await refused(house.login.exchange(ExchangeLogin(code, VERIFIER))) == CODE_ERROR


async def test_a_login_is_good_no_longer_than_what_granted_it(house: House):
    granting = await house.granting(expires_s=100.0)
    issued = await house.begun(granting)
    assert issued.expires_at == 1100.0
    house.clock.move(40)
    assert (await house.renewed(issued.renewal)).expires_at == 1100.0


# -- renewal ---------------------------------------------------------------------------------------------------------


async def test_of_too_many_logins_of_one_credential_the_oldest_end(house: House):
    granting, other = await house.granting(), await house.granting()
    others = await house.begun(other)
    begun: list[LoginIssued] = []
    for _ in range(LOGINS_MAX + 2):
        house.clock.move(1)
        begun.append(await house.begun(granting))
    good = [await house.who(login.text) is not None for login in begun]
    assert good == [False] * 2 + [True] * LOGINS_MAX
    assert await refused(house.renewed(begun[0].renewal)) == ENDED_ERROR
    assert await house.renewed(begun[2].renewal)
    assert await house.who(others.text)


async def test_a_renewal_gives_a_new_pair_of_the_same_login(house: House):
    first = await house.begun()
    house.clock.move(3000)
    second = await house.renewed(first.renewal)

    assert (second.expires_at, second.renewal_expires_at) == (7600.0, 4000.0 + 30 * DAY_S)
    assert second.text[:14] == first.text[:14]
    assert len({first.text, second.text, first.renewal, second.renewal}) == 4
    house.clock.move(60)
    third = await house.renewed(second.renewal)
    principal = await house.who(third.text)
    assert principal is not None and principal.scopes == frozenset(WISH.scopes)
    assert len(house.store.kept) == 2


async def test_what_was_given_before_is_good_to_the_end_of_its_hour_but_for_the_one_before_that(house: House):
    first = await house.begun()
    second = await house.renewed(first.renewal)

    assert await house.who(first.text) is not None
    assert await house.renewed(first.renewal) == second
    assert await house.who(first.text) is not None
    await house.renewed(second.renewal)
    assert await house.who(first.text) is None
    assert await house.who(second.text) is not None
    house.clock.move(3600 + 60)
    assert await house.who(second.text) is None


@pytest.mark.parametrize(("after_s", "good"), [(0.0, True), (10.0, True), (10.1, False)])
async def test_an_answer_that_got_lost_is_given_again_for_ten_seconds(house: House, after_s: float, good: bool):
    first = await house.begun()
    second = await house.renewed(first.renewal)
    house.clock.move(after_s)

    again = house.another_process().renew(RenewLogin(first.renewal))
    if good:
        assert await again == second
        assert await house.who(second.text) is not None
    else:
        assert await refused(again) == ENDED_ERROR


async def test_a_text_that_comes_back_ends_the_login_for_both(house: House):
    first = await house.begun()
    second = await house.renewed(first.renewal)
    house.clock.move(11)
    third = await house.renewed(second.renewal)

    assert await refused(house.renewed(first.renewal)) == ENDED_ERROR
    assert [await house.who(each.text) for each in (first, second, third)] == [None] * 3
    assert await refused(house.renewed(third.renewal)) == ENDED_ERROR


async def test_a_text_from_before_the_last_is_no_lost_answer(house: House):
    first = await house.begun()
    second = await house.renewed(first.renewal)
    await house.renewed(second.renewal)

    assert await refused(house.renewed(first.renewal)) == ENDED_ERROR
    assert await house.who(second.text) is None


async def test_two_renewals_at_once_get_the_same_answer(house: House):
    first = await house.begun()
    both = await asyncio.gather(house.renewed(first.renewal), house.another_process().renew(RenewLogin(first.renewal)))

    assert both[0] == both[1]
    assert await house.who(both[0].text) is not None


async def test_who_is_slower_with_the_same_text_answers_with_what_the_faster_one_made(house: House):
    first = await house.begun()
    faster: list[LoginIssued] = []

    async def overtake() -> None:
        faster.append(await house.another_process().renew(RenewLogin(first.renewal)))

    house.records.before = overtake
    assert [await house.renewed(first.renewal)] == faster


async def test_who_is_slower_than_the_end_of_the_login_gets_nothing(house: House):
    first = await house.begun()

    async def revoke() -> None:
        await house.records.delete(NOWHERE, LOGINS, first.text[4:14])

    house.records.before = revoke
    assert await refused(house.renewed(first.renewal)) == ENDED_ERROR


async def test_a_crash_between_the_two_writes_is_made_good_by_the_repeat(house: House):
    first = await house.begun()
    before = house.store.kept[first.text[4:14]]
    second = await house.renewed(first.renewal)
    await house.store.put_credential(before)
    assert await house.who(second.text) is None

    assert await house.renewed(first.renewal) == second
    assert await house.who(second.text) is not None


def forgeries(renewal: str) -> list[str]:
    parts = split(renewal)
    assert parts is not None
    draw = random.Random(8).randbytes
    secret = "A" * 32 if parts.secret[0] != "A" else "B" * 32
    return [
        "",
        "x",
        renewal[:-1],
        credential_text(draw, credential_id=parts.id, form=Form.GAR),
        joined(Parts(Form.GAR, parts.id, secret)),
        joined(Parts(Form.GAR, "nobody1234", parts.secret)),
        joined(Parts(Form.GAT, parts.id, parts.secret)),
    ]


async def test_a_made_up_text_is_refused_and_ends_nobodys_login(house: House):
    first = await house.begun()
    for junk in (*forgeries(first.renewal), first.text):
        assert await refused(house.renewed(junk)) == ENDED_ERROR

    await house.renewed(first.renewal)


async def test_a_login_that_nobody_renews_ends_after_thirty_days(house: House):
    first = await house.begun(await house.granting(expires_s=None))
    house.clock.move(30 * DAY_S - 1)
    second = await house.renewed(first.renewal)
    house.clock.move(30 * DAY_S)

    assert await refused(house.renewed(second.renewal)) == ENDED_ERROR


@pytest.mark.parametrize("how", ["revoked", "expired", "demoted"])
async def test_a_login_ends_with_the_credential_that_granted_it(house: House, how: str):
    granting = await house.granting(expires_s=100.0, subject="service-account:1")
    first = await house.begun(granting)
    if how == "revoked":
        await house.mint.revoke(granting.credential.id)
    elif how == "expired":
        house.clock.move(100)
    else:
        await house.store.put_credential(msgspec.structs.replace(granting.credential, scopes=(Scope.METRICS_READ,)))

    assert await refused(house.renewed(first.renewal)) == ENDED_ERROR
    assert await house.who(first.text) is None


async def test_a_login_ends_at_once_with_a_granting_credential_that_stands_for_itself(house: House):
    granting = await house.granting()
    first = await house.begun(granting)
    await house.mint.revoke(granting.credential.id)

    assert await house.who(first.text) is None


async def test_a_granting_credential_that_lost_some_of_it_hands_on_the_rest(house: House):
    granting = await house.granting()
    first = await house.begun(granting)
    await house.store.put_credential(msgspec.structs.replace(granting.credential, scopes=(Scope.CHAT_READ,)))

    principal = await house.who((await house.renewed(first.renewal)).text)
    assert principal is not None and principal.scopes == {Scope.CHAT_READ}


async def test_what_was_lost_is_lost_at_once_also_for_the_text_until_now(house: House):
    granting = await house.granting()
    first = await house.begun(granting)
    assert (await house.authenticator.prove(first.text)).may(Scope.CHAT_RUN)
    await house.store.put_credential(msgspec.structs.replace(granting.credential, scopes=(Scope.CHAT_READ,)))
    await house.renewed(first.renewal)

    assert (await house.authenticator.prove(first.text)).scopes == {Scope.CHAT_READ}


async def test_a_login_that_was_revoked_is_not_renewed(house: House):
    first = await house.begun()
    await house.mint.revoke(first.text[4:14])

    assert await refused(house.renewed(first.renewal)) == ENDED_ERROR
    assert await house.records.get(NOWHERE, LOGINS, first.text[4:14]) is None


async def test_a_login_ended_while_it_is_renewed_gives_nothing(house: House):
    first = await house.begun()
    second = await house.renewed(first.renewal)
    house.clock.move(11)

    class Late(MemoryAccess):
        """Another process ends the login between our two writes."""

        async def put_credential(self, credential) -> None:
            await house.records.delete(NOWHERE, LOGINS, credential.id)
            await super().put_credential(credential)

    late = Late("default")
    late.kept = house.store.kept
    house.login._store = late
    assert await refused(house.renewed(second.renewal)) == ENDED_ERROR
    assert await house.who(second.text) is None


def test_open_handlers_answer_every_operation(house: House):
    assert {operation.__name__ for operation in house.login.open_handlers()} == {
        "ReviewLogin",
        "DecideLogin",
        "ExchangeLogin",
        "RenewLogin",
    }
