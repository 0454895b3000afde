"""Service accounts: subjects that have credentials, and outlive them.

An account is a record: its name, its role, and which credentials it was given. Its credentials stand for the subject
`service-account:<number>`, which no credential's id can be. A number is given once and never again, for conversations
bear the subject of who began them.

What is true of an account is written before what follows from it for its credentials, and both are done again when the
caller repeats a request whose answer it did not get. A credential that was made while its account was being disabled or
deleted is revoked by whoever made it.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dragoman.access.credentials import Authenticator
from dragoman.access.minting import Mint
from dragoman.access.ports import AccessStore
from dragoman.access.projects import NAME_CHARS_MAX, check_name
from dragoman.access.scopes import DEFAULT_SCOPES, check_child, held
from dragoman.access.texts import Form
from dragoman.core import admission as adm
from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.names import Clock, Principal, ProjectId, Scope
from dragoman.core.operations import Operation
from dragoman.core.records import Record, Records

logger = logging.getLogger("dragoman.access")

ROLE_SCOPES: Mapping[adm.Role, tuple[Scope, ...]] = {
    adm.Role.NONE: (),
    adm.Role.VIEWER: DEFAULT_SCOPES,
    adm.Role.EDITOR: DEFAULT_SCOPES,
    adm.Role.ADMIN: (Scope.ADMIN,),
}
"""What the credentials of an account get. Nothing here tells a viewer from an editor yet: both may chat."""

KIND = "service_account"
NUMBERS = "service_account_number"
LAST = "last"
"""The record of kind NUMBERS that holds the last number given."""
CREDENTIALS_MAX = 100
"""Of one account, deleted ones left out."""
EXPIRES_S_MAX = 100 * 365 * 86_400.0
TRIES_MAX = 20
"""How often a write is tried again that another one came before."""


class _Given(Struct, frozen=True):
    """A credential that an account was given."""

    number: int
    id: str
    name: str


class _Account(Struct, frozen=True):
    """A record's body. `last` is the last number given to a credential."""

    name: str
    role: adm.Role
    disabled: bool = False
    credentials: tuple[_Given, ...] = ()
    last: int = 0


_decoder = msgspec.json.Decoder(_Account)


def subject_of(number: int) -> str:
    """The subject that an account's credentials stand for."""
    return f"service-account:{number}"


class ServiceAccounts:
    def __init__(
        self, store: AccessStore, records: Records, mint: Mint, authenticator: Authenticator, clock: Clock
    ) -> None:
        self._store = store
        self._records = records
        self._mint = mint
        self._authenticator = authenticator
        self._clock = clock

    def handlers(self) -> dict[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {
            adm.CreateServiceAccount: self.create,
            adm.FindServiceAccounts: self.find,
            adm.ReadServiceAccount: self.read,
            adm.ChangeServiceAccount: self.change,
            adm.DeleteServiceAccount: self.delete,
            adm.ListAccountCredentials: self.credentials,
            adm.IssueAccountCredential: self.issue,
            adm.DeleteAccountCredential: self.delete_credential,
        }

    # -- accounts --------------------------------------------------------------------------------------------------

    async def create(self, principal: Principal, operation: adm.CreateServiceAccount) -> adm.ServiceAccount:
        name = check_name(operation.name, what="service account")
        check_child(principal.scopes, ROLE_SCOPES[operation.role])
        await self._check_free(principal.project, name, besides="")
        number = await self._next_number(principal)
        account = _Account(name, operation.role, operation.disabled)
        record = _record(principal, str(number), account)
        try:
            record = await self._records.put(record, expect=0)
        except Conflict:
            raise _taken(name) from None
        logger.info("service account %d (%s) was made by %s", number, operation.role, principal.owner)
        return _shown(record, account, live=0)

    async def find(self, principal: Principal, operation: adm.FindServiceAccounts) -> adm.ServiceAccountPage:
        query = operation.query.casefold()
        everything = await self._records.page(principal.project, KIND, limit=0, offset=0)
        found = [
            (record, account)
            for record in everything.items
            for account in (_decoder.decode(record.body),)
            if query in account.name.casefold() and operation.disabled in (None, account.disabled)
        ]
        found.sort(key=lambda pair: int(pair[0].id))
        shown = found[operation.offset : operation.offset + operation.limit]
        live = await self._live(principal.project) if shown else frozenset[str]()
        items = tuple(_shown(record, account, live=_count(account, live)) for record, account in shown)
        return adm.ServiceAccountPage(items, len(found))

    async def read(self, principal: Principal, operation: adm.ReadServiceAccount) -> adm.ServiceAccount:
        return await self._show(*await self._get(principal.project, operation.number))

    async def change(self, principal: Principal, operation: adm.ChangeServiceAccount) -> adm.ServiceAccount:
        name = None if operation.name is None else check_name(operation.name, what="service account")
        if operation.role is not None:
            check_child(principal.scopes, ROLE_SCOPES[operation.role])
        if name is not None:
            await self._check_free(principal.project, name, besides=str(operation.number))

        def changed(account: _Account) -> _Account:
            return replace(
                account,
                name=account.name if name is None else name,
                role=account.role if operation.role is None else operation.role,
                disabled=account.disabled if operation.disabled is None else operation.disabled,
            )

        record, account = await self._rewrite(principal, operation.number, changed)
        if operation.disabled:
            await self._revoke_all(principal, operation.number)
        elif operation.role is not None:
            await self._rescope(principal.project, operation.number, account.role)
        logger.info("service account %d was changed by %s", operation.number, principal.owner)
        return await self._show(record, account)

    async def delete(self, principal: Principal, operation: adm.DeleteServiceAccount) -> adm.AccountGone:
        await self._rewrite(principal, operation.number, lambda account: replace(account, disabled=True))
        await self._revoke_all(principal, operation.number)
        await self._records.delete(principal.project, KIND, str(operation.number))
        logger.info("service account %d was deleted by %s", operation.number, principal.owner)
        return adm.AccountGone(operation.number)

    # -- their credentials -----------------------------------------------------------------------------------------

    async def credentials(self, principal: Principal, operation: adm.ListAccountCredentials) -> adm.AccountCredentials:
        _, account = await self._get(principal.project, operation.number)
        kept = {credential.id: credential for credential in await self._store.credentials(principal.project)}
        items = tuple(
            adm.AccountCredential(
                number=given.number,
                name=given.name,
                created_at=credential.created_at,
                expires_at=credential.expires_at,
                last_used_at=credential.last_used_at,
                revoked=credential.revoked_at is not None,
            )
            for given in account.credentials
            if (credential := kept.get(given.id)) is not None
        )
        return adm.AccountCredentials(items, self._clock.now())

    async def issue(self, principal: Principal, operation: adm.IssueAccountCredential) -> adm.IssuedCredential:
        number, name = operation.account, check_name(operation.name, what="credential")
        if operation.expires_s is not None and not 0 < operation.expires_s <= EXPIRES_S_MAX:
            raise BadRequest("A credential is good for 1 second to 100 years, or for ever.")
        _, account = await self._get(principal.project, number)
        _check_may_have(account, name)
        minted = await self._mint.create(
            f"{account.name} {name}"[:NAME_CHARS_MAX],
            principal.project,
            scopes=ROLE_SCOPES[account.role],
            expires_s=operation.expires_s,
            by=principal,
            subject=subject_of(number),
            form=Form.GLSA,
        )
        kept = minted.credential

        def given(now: _Account) -> _Account:
            _check_may_have(now, name)
            if now.role is not account.role:
                raise _busy()
            return replace(now, last=now.last + 1, credentials=(*now.credentials, _Given(now.last + 1, kept.id, name)))

        try:
            _, account = await self._rewrite(principal, number, given)
        except BaseException:
            await self._mint.revoke(kept.id)
            raise
        logger.info("service account %d was given credential %s by %s", number, kept.id, principal.owner)
        return adm.IssuedCredential(account.last, name, minted.text)

    async def delete_credential(
        self, principal: Principal, operation: adm.DeleteAccountCredential
    ) -> adm.CredentialGone:
        _, account = await self._get(principal.project, operation.account)
        given = next((each for each in account.credentials if each.number == operation.number), None)
        if given is None:
            raise NotFound(
                f"Service account {operation.account} has no credential {operation.number}.", what="credential"
            )
        await self._mint.revoke(given.id)
        self._authenticator.forget(given.id)
        await self._rewrite(
            principal,
            operation.account,
            lambda now: replace(now, credentials=tuple(each for each in now.credentials if each.id != given.id)),
        )
        logger.info("credential %s was deleted by %s", given.id, principal.owner)
        return adm.CredentialGone(operation.number)

    # -- parts -----------------------------------------------------------------------------------------------------

    async def _get(self, project: ProjectId, number: int) -> tuple[Record, _Account]:
        record = await self._records.get(project, KIND, str(number))
        if record is None:
            raise NotFound(f"There is no service account {number}.", what="service account")
        return record, _decoder.decode(record.body)

    async def _rewrite(
        self, principal: Principal, number: int, change: Callable[[_Account], _Account]
    ) -> tuple[Record, _Account]:
        """Change the account as it stands, however often others change it meanwhile."""
        for _ in range(TRIES_MAX):
            record, account = await self._get(principal.project, number)
            new = change(account)
            wanted = replace(record, body=_body(new), key=_key(new.name), updated_by=principal.owner)
            try:
                return await self._records.put(wanted, expect=record.version), new
            except Conflict:
                await self._check_free(principal.project, new.name, besides=record.id)
        raise _busy()

    async def _check_free(self, project: ProjectId, name: str, *, besides: str) -> None:
        holder = await self._records.find(project, KIND, _key(name))
        if holder is not None and holder.id != besides:
            raise _taken(name)

    async def _next_number(self, principal: Principal) -> int:
        for _ in range(TRIES_MAX):
            record = await self._records.get(principal.project, NUMBERS, LAST)
            last = 0 if record is None else int(record.body)
            wanted = Record(
                principal.project,
                NUMBERS,
                LAST,
                str(last + 1),
                wide=True,
                created_by=principal.owner,
                updated_by=principal.owner,
            )
            try:
                await self._records.put(wanted, expect=0 if record is None else record.version)
            except Conflict:
                continue
            return last + 1
        raise _busy()

    async def _revoke_all(self, principal: Principal, number: int) -> None:
        for credential_id in await self._mint.revoke_subject(principal.project, subject_of(number)):
            self._authenticator.forget(credential_id)

    async def _rescope(self, project: ProjectId, number: int, role: adm.Role) -> None:
        """What the account's credentials may do is what its role says; what was handed on by logins may not be more."""
        allowed = ROLE_SCOPES[role]
        given = {each.id for each in (await self._get(project, number))[1].credentials}
        for credential in await self._store.credentials(project):
            if credential.subject != subject_of(number) or credential.revoked_at is not None:
                continue
            scopes = allowed if credential.id in given else held(allowed, credential.scopes)
            if scopes != credential.scopes:
                await self._store.put_credential(replace(credential, scopes=scopes))
            self._authenticator.forget(credential.id)

    async def _live(self, project: ProjectId) -> Collection[str]:
        """The ids of credentials that are good now."""
        now = self._clock.now()
        return frozenset(
            credential.id
            for credential in await self._store.credentials(project)
            if credential.revoked_at is None and (credential.expires_at is None or credential.expires_at > now)
        )

    async def _show(self, record: Record, account: _Account) -> adm.ServiceAccount:
        return _shown(record, account, live=_count(account, await self._live(record.project)))


def _shown(record: Record, account: _Account, *, live: int) -> adm.ServiceAccount:
    return adm.ServiceAccount(
        int(record.id), account.name, account.role, account.disabled, record.created_at, record.updated_at, live
    )


def _count(account: _Account, live: Collection[str]) -> int:
    return sum(given.id in live for given in account.credentials)


def _record(principal: Principal, number: str, account: _Account) -> Record:
    return Record(
        principal.project,
        KIND,
        number,
        _body(account),
        owner=principal.owner,
        wide=True,
        key=_key(account.name),
        created_by=principal.owner,
        updated_by=principal.owner,
    )


def _body(account: _Account) -> str:
    return msgspec.json.encode(account).decode()


def _key(name: str) -> str:
    """Names that differ only in case or spaces are one."""
    return " ".join(name.casefold().split())


def _check_may_have(account: _Account, name: str) -> None:
    """Raises Conflict or BadRequest if the account cannot be given a credential of that name."""
    if account.disabled:
        raise Conflict(f"Service account {account.name} is disabled; enable it first.")
    if any(given.name == name for given in account.credentials):
        raise Conflict(f"Service account {account.name} has a credential called {name} already.")
    if len(account.credentials) >= CREDENTIALS_MAX:
        raise BadRequest(f"A service account has at most {CREDENTIALS_MAX} credentials; delete some first.")


def _taken(name: str) -> BadRequest:
    """No Conflict: Grafana answers 400 here, and clients look for that."""
    return BadRequest(f"There is a service account called {name} already.")


def _busy() -> Conflict:
    return Conflict("The service account is being changed by others; try again.")
