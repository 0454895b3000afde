"""Service accounts and their credentials, as Grafana's own HTTP API has them: how a `glsa_…` is made with curl.

Shapes and statuses are those of Grafana's documentation (Service account HTTP API); where releases differ, an answer
holds what either has.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from dragoman.core.admission import (
    AccountCredential,
    AccountCredentials,
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
    ServiceAccountPage,
)
from dragoman.core.errors import BadRequest
from dragoman.core.names import Scope
from dragoman.dialects.grafana import parameters
from dragoman.dialects.grafana.times import rfc3339_s
from dragoman.wire import structs
from dragoman.wire.dialect import Reply, Request, Route, json_reply

BASE = "/api/serviceaccounts"
PER_PAGE_MAX = 1000
PAGES_MAX = 1_000_000
NUMBER_MAX = 2**53
"""What every JSON reader holds exactly."""
SOON_S = 7 * 86_400.0
"""How long before its expiry a credential's `secondsUntilExpiration` is told."""

_ROLES = {"None": Role.NONE, "Viewer": Role.VIEWER, "Editor": Role.EDITOR, "Admin": Role.ADMIN}
_WIRE_ROLES = {role: name for name, role in _ROLES.items()}
_NO_SLUG = re.compile(r"[^a-z0-9]+")


# -- shapes ----------------------------------------------------------------------------------------------------------


class NewAccount(Struct, frozen=True):
    name: str
    role: str = "Viewer"
    isDisabled: bool = False


class AccountChange(Struct, frozen=True):
    name: str | None = None
    role: str | None = None
    isDisabled: bool | None = None


class NewToken(Struct, frozen=True):
    """`secondsToLive` 0 = it never expires."""

    name: str
    secondsToLive: int = 0


class Account(Struct, frozen=True):
    id: int
    uid: str
    name: str
    login: str
    orgId: int
    isDisabled: bool
    isExternal: bool
    role: str
    tokens: int
    avatarUrl: str
    teams: tuple[str, ...]
    createdAt: str
    updatedAt: str


class AccountChanged(Account, frozen=True):
    """Grafana's documentation shows the account, its releases answer with the message and the account below it."""

    message: str
    serviceaccount: Account


class Accounts(Struct, frozen=True):
    totalCount: int
    serviceAccounts: tuple[Account, ...]
    page: int
    perPage: int


class Token(Struct, frozen=True):
    id: int
    name: str
    created: str
    lastUsedAt: str | None
    expiration: str | None
    secondsUntilExpiration: float
    hasExpired: bool
    isRevoked: bool


class IssuedToken(Struct, frozen=True):
    id: int
    name: str
    key: str


class Told(Struct, frozen=True):
    message: str


# -- requests --------------------------------------------------------------------------------------------------------


def create(request: Request) -> CreateServiceAccount:
    body = structs.decode(request.body, NewAccount)
    return CreateServiceAccount(body.name, _role(body.role), body.isDisabled)


def search(request: Request) -> FindServiceAccounts:
    query = request.query
    page, per_page = _page(query)
    disabled = {"true": True, "false": False}.get(query.get("disabled", ""))
    return FindServiceAccounts(query.get("query", ""), disabled, limit=per_page, offset=(page - 1) * per_page)


def change(request: Request) -> ChangeServiceAccount:
    body = structs.decode(request.body, AccountChange)
    role = None if body.role is None else _role(body.role)
    return ChangeServiceAccount(_account(request), body.name, role, body.isDisabled)


def issue(request: Request) -> IssueAccountCredential:
    body = structs.decode(request.body, NewToken)
    if not 0 <= body.secondsToLive <= NUMBER_MAX:
        raise BadRequest("secondsToLive: must be 0 (it never expires) or a number of seconds")
    return IssueAccountCredential(_account(request), body.name, float(body.secondsToLive) or None)


def _account(request: Request) -> int:
    return _number(request.params["id"], "Service account ID is invalid: it is a number.")


def _credential(request: Request) -> DeleteAccountCredential:
    return DeleteAccountCredential(
        _account(request), _number(request.params["token"], "Token ID is invalid: it is a number.")
    )


def _number(text: str, fault: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= NUMBER_MAX):
        raise BadRequest(fault)
    return int(text)


def _role(text: str) -> Role:
    role = _ROLES.get(text)
    if role is None:
        raise BadRequest(f"role: invalid role specified; it is one of {', '.join(_ROLES)}")
    return role


def _page(query: Mapping[str, str]) -> tuple[int, int]:
    """What Grafana makes of them: what is no number or under 1 is the default."""
    found: list[int] = []
    for name, default, most in (("page", 1, PAGES_MAX), ("perpage", PER_PAGE_MAX, PER_PAGE_MAX)):
        text = query.get(name, "")
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
        found.append(min(number, most) or default)
    return found[0], found[1]


# -- answers ---------------------------------------------------------------------------------------------------------


def created(account: ServiceAccount, request: Request) -> Reply:
    return json_reply(_shown(account), status=201)


def account(account: ServiceAccount, request: Request) -> Reply:
    return json_reply(_shown(account))


def changed(account: ServiceAccount, request: Request) -> Reply:
    shown = _shown(account)
    fields = {name: getattr(shown, name) for name in shown.__struct_fields__}
    return json_reply(AccountChanged(**fields, message="Service account updated", serviceaccount=shown))


def found(page: ServiceAccountPage, request: Request) -> Reply:
    number, per_page = _page(request.query)
    return json_reply(Accounts(page.total, tuple(map(_shown, page.items)), number, per_page))


def tokens(credentials: AccountCredentials, request: Request) -> Reply:
    return json_reply([_token(each, credentials.at) for each in credentials.items])


def issued(credential: IssuedCredential, request: Request) -> Reply:
    return json_reply(IssuedToken(credential.number, credential.name, credential.text))


def account_gone(gone: AccountGone, request: Request) -> Reply:
    return json_reply(Told("Service account deleted"))


def token_gone(gone: CredentialGone, request: Request) -> Reply:
    return json_reply(Told("API key deleted"))


def _shown(account: ServiceAccount) -> Account:
    slug = _NO_SLUG.sub("-", account.name.casefold()).strip("-")
    return Account(
        id=account.number,
        uid=f"service-account-{account.number}",
        name=account.name,
        login=f"sa-{slug or account.number}",
        orgId=1,
        isDisabled=account.disabled,
        isExternal=False,
        role=_WIRE_ROLES[account.role],
        tokens=account.credentials,
        avatarUrl="",
        teams=(),
        createdAt=rfc3339_s(account.created_at),
        updatedAt=rfc3339_s(account.updated_at),
    )


def _token(credential: AccountCredential, at: float) -> Token:
    left_s = 0.0 if credential.expires_at is None else credential.expires_at - at
    return Token(
        id=credential.number,
        name=credential.name,
        created=rfc3339_s(credential.created_at),
        lastUsedAt=None if credential.last_used_at is None else rfc3339_s(credential.last_used_at),
        expiration=None if credential.expires_at is None else rfc3339_s(credential.expires_at),
        secondsUntilExpiration=left_s if 0 < left_s < SOON_S else 0.0,
        hasExpired=credential.expires_at is not None and left_s <= 0,
        isRevoked=credential.revoked,
    )


# -- routes ----------------------------------------------------------------------------------------------------------

_READ = (Scope.CREDENTIALS_READ,)
_WRITE = (Scope.CREDENTIALS_WRITE,)


def routes() -> tuple[Route[Any], ...]:
    return (*_account_routes(f"{BASE}/{{id}}"), *_credential_routes(f"{BASE}/{{id}}/tokens"))


def _account_routes(one: str) -> tuple[Route[Any], ...]:
    return (
        Route(
            "POST",
            BASE,
            create,
            answer=created,
            scopes=_WRITE,
            summary="Make a service account",
            takes=NewAccount,
            gives=Account,
            status=201,
        ),
        Route(
            "GET",
            f"{BASE}/search",
            search,
            answer=found,
            scopes=_READ,
            summary="Service accounts whose name holds `query`, page by page",
            gives=Accounts,
            asks=parameters.ACCOUNTS,
        ),
        Route(
            "GET",
            one,
            lambda request: ReadServiceAccount(_account(request)),
            answer=account,
            scopes=_READ,
            summary="One service account",
            gives=Account,
        ),
        Route(
            "PATCH",
            one,
            change,
            answer=changed,
            scopes=_WRITE,
            summary="Rename it, give it another role, or disable it, which revokes its credentials",
            takes=AccountChange,
            gives=AccountChanged,
        ),
        Route(
            "DELETE",
            one,
            lambda request: DeleteServiceAccount(_account(request)),
            answer=account_gone,
            scopes=_WRITE,
            summary="Delete it and revoke its credentials",
            gives=Told,
        ),
    )


def _credential_routes(many: str) -> tuple[Route[Any], ...]:
    return (
        Route(
            "GET",
            many,
            lambda request: ListAccountCredentials(_account(request)),
            answer=tokens,
            scopes=_READ,
            summary="Its credentials, without their texts",
            gives=tuple[Token, ...],
        ),
        Route(
            "POST",
            many,
            issue,
            answer=issued,
            scopes=_WRITE,
            summary="Give it a credential (`glsa_…`), which is shown this once",
            takes=NewToken,
            gives=IssuedToken,
        ),
        Route(
            "DELETE",
            f"{many}/{{token}}",
            _credential,
            answer=token_gone,
            scopes=_WRITE,
            summary="Revoke one of its credentials",
            gives=Told,
        ),
    )
