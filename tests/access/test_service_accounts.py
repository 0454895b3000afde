"""Service accounts: who may make which, what their credentials may do, and that these end when they should."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from dragoman.access.credentials import Authenticator
from dragoman.access.minting import DAY_S, Mint
from dragoman.access.pepper import Pepper
from dragoman.access.scopes import DEFAULT_SCOPES
from dragoman.access.service_accounts import CREDENTIALS_MAX, KIND, ROLE_SCOPES, ServiceAccounts, subject_of
from dragoman.access.texts import Form
from dragoman.core.admission import (
    AccountCredential,
    AccountGone,
    ChangeServiceAccount,
    CreateServiceAccount,
    CredentialGone,
    DeleteAccountCredential,
    DeleteServiceAccount,
    FindServiceAccounts,
    IssueAccountCredential,
    IssuedCredential,
    ListAccountCredentials,
    ReadServiceAccount,
    Role,
    ServiceAccount,
)
from dragoman.core.errors import BadRequest, Conflict, DragomanError, NotAllowed, NotAuthenticated, NotFound
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.core.records import Record
from dragoman.stores.memory.records import MemoryRecords
from tests.access_memory import MemoryAccess
from tests.support import FixedClock

PROJECT = ProjectId("default")
ADMIN = Principal(PROJECT, "root", "root", frozenset({Scope.ADMIN}))
KEEPER = Principal(PROJECT, "keeper", "keeper", frozenset({Scope.CREDENTIALS_WRITE, *DEFAULT_SCOPES}))


class Meddling(MemoryRecords):
    """Something happens just before a write."""

    before: Callable[[], Awaitable[object]] | None = None

    async def put(self, record: Record, *, expect: int | None) -> Record:
        if self.before is not None and record.kind == KIND:
            before, self.before = self.before, None
            await before()
        return await super().put(record, expect=expect)


class House:
    def __init__(self) -> None:
        self.store = MemoryAccess("default", "other")
        self.clock = FixedClock(1000.0)
        self.records = Meddling(self.clock)
        pepper = Pepper("p1", b"k" * 32)
        self.mint = Mint(self.store, pepper, self.clock, random.Random(1).randbytes)
        self.authenticator = Authenticator(self.store, pepper, self.clock)
        self.accounts = ServiceAccounts(self.store, self.records, self.mint, self.authenticator, self.clock)

    async def make(self, name: str = "ci", role: Role = Role.VIEWER, by: Principal = ADMIN) -> int:
        return (await self.accounts.create(by, CreateServiceAccount(name, role))).number

    async def issue(self, number: int, name: str = "one", expires_s: float | None = None, by: Principal = ADMIN) -> str:
        return (await self.accounts.issue(by, IssueAccountCredential(number, name, expires_s))).text

    async def who(self, text: str) -> Principal | None:
        try:
            return await self.authenticator.prove(text)
        except NotAuthenticated:
            return None

    async def listed(self, number: int) -> list[AccountCredential]:
        return list((await self.accounts.credentials(ADMIN, ListAccountCredentials(number))).items)


@pytest.fixture
def house() -> House:
    return House()


async def refused(attempt: Awaitable[object]) -> tuple[type[DragomanError], str]:
    with pytest.raises(DragomanError) as caught:
        await attempt
    return type(caught.value), caught.value.detail


def test_every_role_says_what_it_grants():
    assert dict(ROLE_SCOPES) == {
        Role.NONE: (),
        Role.VIEWER: DEFAULT_SCOPES,
        Role.EDITOR: DEFAULT_SCOPES,
        Role.ADMIN: (Scope.ADMIN,),
    }


async def test_accounts_are_numbered_and_read_as_they_were_made(house: House):
    made = await house.accounts.create(ADMIN, CreateServiceAccount(" ci bot ", Role.EDITOR, disabled=True))
    house.clock.move(5)
    second = await house.make("other")

    assert made == ServiceAccount(1, "ci bot", Role.EDITOR, True, 1000.0, 1000.0, 0)
    assert second == 2
    assert await house.accounts.read(ADMIN, ReadServiceAccount(1)) == made


async def test_a_number_is_never_given_again(house: House):
    for name in ("a", "b"):
        await house.make(name)
    await house.accounts.delete(ADMIN, DeleteServiceAccount(2))

    assert await house.make("b") == 3


async def test_every_project_counts_for_itself(house: House):
    elsewhere = Principal(ProjectId("other"), "x", "x", frozenset({Scope.ADMIN}))
    assert (await house.make("ci"), await house.make("ci", by=elsewhere)) == (1, 1)
    await house.make("mine")

    assert await refused(house.accounts.read(elsewhere, ReadServiceAccount(2))) == (
        NotFound,
        "There is no service account 2.",
    )


async def test_accounts_made_at_once_have_different_numbers(house: House):
    made = await asyncio.gather(*(house.make(f"a{n}") for n in range(10)))
    assert sorted(made) == list(range(1, 11))


@pytest.mark.parametrize("name", ["ci", "CI ", "Ci"])
async def test_a_name_is_given_once_in_any_case(house: House, name: str):
    await house.make("ci")

    assert await refused(house.make(name)) == (BadRequest, f"There is a service account called {name.strip()} already.")
    assert await house.make("another") == 2


async def test_a_name_taken_at_the_same_moment_is_taken(house: House):
    async def faster() -> None:
        await house.make("ci")

    house.records.before = faster
    assert (await refused(house.make("ci")))[0] is BadRequest


async def test_nobody_makes_an_account_that_may_more_than_himself(house: House):
    assert await house.make("a", Role.EDITOR, by=KEEPER) == 1
    assert (await refused(house.make("b", Role.ADMIN, by=KEEPER)))[0] is NotAllowed
    change = ChangeServiceAccount(1, role=Role.ADMIN)
    assert (await refused(house.accounts.change(KEEPER, change)))[0] is NotAllowed


async def test_nobody_gets_more_out_of_an_account_than_he_holds(house: House):
    number = await house.make("boss", Role.ADMIN)

    assert (await refused(house.issue(number, by=KEEPER)))[0] is NotAllowed
    assert house.store.kept == {}


async def test_accounts_are_found_by_a_part_of_their_name_page_by_page(house: House):
    for name in ("Alpha", "beta", "alphabet", *(f"x{n}" for n in range(9))):
        await house.make(name)
    await house.accounts.change(ADMIN, ChangeServiceAccount(3, disabled=True))

    async def found(**wanted) -> tuple[list[int], int]:
        page = await house.accounts.find(ADMIN, FindServiceAccounts(**wanted))
        return [account.number for account in page.items], page.total

    assert await found(query="ALPHA") == ([1, 3], 2)
    assert await found(query="alpha", disabled=False) == ([1], 1)
    assert await found(disabled=True) == ([3], 1)
    assert await found(query="nobody") == ([], 0)
    assert await found(limit=3, offset=9) == ([10, 11, 12], 12)
    assert await found(limit=3, offset=12) == ([], 12)


# -- credentials -----------------------------------------------------------------------------------------------------


async def test_a_credential_stands_for_its_account_and_may_what_the_role_says(house: House):
    number = await house.make("ci", Role.EDITOR)
    issued = await house.accounts.issue(KEEPER, IssueAccountCredential(number, "laptop", DAY_S))
    principal = await house.who(issued.text)

    assert (issued, issued.text[:5]) == (IssuedCredential(1, "laptop", issued.text), f"{Form.GLSA}_")
    assert principal is not None
    assert (principal.owner, principal.name, principal.scopes) == (
        "service-account:1",
        "ci laptop",
        frozenset(DEFAULT_SCOPES),
    )
    await house.store.touch_credential(principal.credential_id, at=1001.0)
    assert await house.listed(number) == [AccountCredential(1, "laptop", 1000.0, 1000.0 + DAY_S, 1001.0, False)]
    assert issued.text not in repr(issued)


async def test_a_role_that_grants_nothing_gives_credentials_that_may_nothing(house: House):
    principal = await house.who(await house.issue(await house.make("ci", Role.NONE)))

    assert principal is not None and principal.scopes == frozenset()


async def test_good_credentials_are_counted(house: House):
    number = await house.make()
    await house.issue(number, "a")
    await house.issue(number, "b", expires_s=10.0)
    revoked = await house.who(await house.issue(number, "c"))
    assert revoked is not None
    await house.mint.revoke(revoked.credential_id)

    async def counted() -> int:
        return (await house.accounts.read(ADMIN, ReadServiceAccount(number))).credentials

    assert await counted() == 2
    house.clock.move(10)
    assert await counted() == 1
    assert (await house.accounts.find(ADMIN, FindServiceAccounts())).items[0].credentials == 1
    assert [each.revoked for each in await house.listed(number)] == [False, False, True]


@pytest.mark.parametrize("expires_s", [0.0, -1.0, 101 * 365 * DAY_S, float("nan")])
async def test_an_impossible_lifetime_is_refused(house: House, expires_s: float):
    number = await house.make()

    assert (await refused(house.issue(number, expires_s=expires_s)))[0] is BadRequest


async def test_a_credentials_name_is_given_once_in_its_account(house: House):
    first, second = await house.make("a"), await house.make("b")
    await house.issue(first, "one")
    await house.issue(second, "one")

    assert await refused(house.issue(first, "one")) == (
        Conflict,
        "Service account a has a credential called one already.",
    )


async def test_an_account_has_at_most_a_hundred_credentials(house: House):
    number = await house.make()
    for n in range(CREDENTIALS_MAX):
        await house.issue(number, f"c{n}")

    assert (await refused(house.issue(number, "more")))[0] is BadRequest
    await house.accounts.delete_credential(ADMIN, DeleteAccountCredential(number, 1))
    await house.issue(number, "more")
    assert [each.number for each in await house.listed(number)] == [*range(2, CREDENTIALS_MAX + 2)]


async def test_credentials_issued_at_once_are_all_kept(house: House):
    number = await house.make()
    texts = await asyncio.gather(*(house.issue(number, f"c{n}") for n in range(10)))

    assert [each.number for each in await house.listed(number)] == list(range(1, 11))
    assert None not in [await house.who(text) for text in texts]


async def test_a_deleted_credential_is_refused_at_once(house: House):
    number = await house.make()
    text = await house.issue(number)
    other = await house.issue(number, "two")
    assert await house.who(text) is not None

    gone = await house.accounts.delete_credential(ADMIN, DeleteAccountCredential(number, 1))
    assert (gone, await house.who(text)) == (CredentialGone(1), None)
    assert await house.who(other) is not None
    again = house.accounts.delete_credential(ADMIN, DeleteAccountCredential(number, 1))
    assert await refused(again) == (NotFound, "Service account 1 has no credential 1.")


# -- changes ---------------------------------------------------------------------------------------------------------


async def test_a_change_leaves_what_it_does_not_name(house: House):
    number = await house.make("ci", Role.EDITOR)
    house.clock.move(1)
    changed = await house.accounts.change(ADMIN, ChangeServiceAccount(number, name="cd"))

    assert changed == ServiceAccount(1, "cd", Role.EDITOR, False, 1000.0, 1001.0, 0)
    assert await house.make("ci") == 2
    taken = house.accounts.change(ADMIN, ChangeServiceAccount(2, name="CD"))
    assert await refused(taken) == (BadRequest, "There is a service account called CD already.")
    assert (await house.accounts.change(ADMIN, ChangeServiceAccount(1, name="Cd"))).name == "Cd"


async def test_a_new_role_counts_at_once_for_the_credentials_there_are(house: House):
    number = await house.make("ci", Role.ADMIN)
    text = await house.issue(number)
    assert await house.who(text) is not None

    await house.accounts.change(ADMIN, ChangeServiceAccount(number, role=Role.VIEWER))
    principal = await house.who(text)
    assert principal is not None and principal.scopes == frozenset(DEFAULT_SCOPES)
    await house.accounts.change(ADMIN, ChangeServiceAccount(number, role=Role.ADMIN))
    principal = await house.who(text)
    assert principal is not None and principal.scopes == frozenset({Scope.ADMIN})


async def test_what_a_login_was_handed_by_an_account_shrinks_with_its_role_and_never_grows(house: House):
    number = await house.make("ci", Role.EDITOR)
    scopes = (Scope.CHAT_RUN, Scope.METRICS_READ)
    login = await house.mint.create("cli", PROJECT, subject=subject_of(number), scopes=scopes)

    await house.accounts.change(ADMIN, ChangeServiceAccount(number, role=Role.ADMIN))
    assert house.store.kept[login.credential.id].scopes == scopes
    await house.accounts.change(ADMIN, ChangeServiceAccount(number, role=Role.VIEWER))
    assert house.store.kept[login.credential.id].scopes == (Scope.CHAT_RUN,)


@pytest.mark.parametrize("how", ["disable", "delete"])
async def test_a_disabled_or_deleted_account_has_no_credential_left(house: House, how: str):
    number = await house.make()
    texts = [await house.issue(number, name) for name in ("one", "two")]
    login = (await house.mint.create("cli", PROJECT, subject=subject_of(number))).text
    other = await house.issue(await house.make("other"))
    assert None not in [await house.who(text) for text in (*texts, login)]

    if how == "disable":
        assert (await house.accounts.change(ADMIN, ChangeServiceAccount(number, disabled=True))).credentials == 0
        sentence = "Service account ci is disabled; enable it first."
        assert await refused(house.issue(number, "three")) == (Conflict, sentence)
        await house.accounts.change(ADMIN, ChangeServiceAccount(number, disabled=False))
    else:
        assert await house.accounts.delete(ADMIN, DeleteServiceAccount(number)) == AccountGone(number)
        again = house.accounts.delete(ADMIN, DeleteServiceAccount(number))
        assert await refused(again) == (NotFound, "There is no service account 1.")
    assert [await house.who(text) for text in (*texts, login)] == [None] * 3
    assert await house.who(other) is not None


async def test_a_credential_issued_while_its_account_is_disabled_is_revoked(house: House):
    number = await house.make()

    async def disable() -> None:
        await house.accounts.change(ADMIN, ChangeServiceAccount(number, disabled=True))

    house.records.before = disable
    assert (await refused(house.issue(number)))[0] is Conflict
    assert [kept.revoked_at for kept in house.store.kept.values()] == [1000.0]


async def test_a_credential_issued_while_its_account_is_deleted_is_revoked(house: House):
    number = await house.make()

    async def delete() -> None:
        await house.accounts.delete(ADMIN, DeleteServiceAccount(number))

    house.records.before = delete
    assert (await refused(house.issue(number)))[0] is NotFound
    assert [kept.revoked_at for kept in house.store.kept.values()] == [1000.0]


async def test_a_credential_issued_while_its_account_is_demoted_is_revoked(house: House):
    number = await house.make("ci", Role.ADMIN)

    async def demote() -> None:
        await house.accounts.change(ADMIN, ChangeServiceAccount(number, role=Role.VIEWER))

    house.records.before = demote
    assert (await refused(house.issue(number)))[0] is Conflict
    assert [kept.revoked_at for kept in house.store.kept.values()] == [1000.0]


async def test_an_account_that_others_never_stop_changing_is_given_up_in_the_end(house: House):
    class Busy(MemoryRecords):
        async def put(self, record: Record, *, expect: int | None) -> Record:
            if expect == 0:
                return await super().put(record, expect=expect)
            raise Conflict("Somebody was faster.")

    house.accounts._records = Busy(house.clock)
    number = await house.make()
    sentence = "The service account is being changed by others; try again."
    change = house.accounts.change(ADMIN, ChangeServiceAccount(number, name="x"))
    assert await refused(change) == (Conflict, sentence)
    assert await refused(house.make("another")) == (Conflict, sentence)


async def test_handlers_answer_every_operation(house: House):
    handlers = house.accounts.handlers()
    made = await handlers[CreateServiceAccount](ADMIN, CreateServiceAccount("ci"))

    assert isinstance(made, ServiceAccount)
    assert {operation.__name__ for operation in handlers} == {
        "CreateServiceAccount",
        "FindServiceAccounts",
        "ReadServiceAccount",
        "ChangeServiceAccount",
        "DeleteServiceAccount",
        "ListAccountCredentials",
        "IssueAccountCredential",
        "DeleteAccountCredential",
    }
