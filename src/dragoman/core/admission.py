"""How somebody comes to hold a credential, as operations: service accounts, a login in the browser, stream tickets.

A *service account* is a subject: what its credentials make belongs to the account and not to the one or other of them.
A *login* turns a credential that a person types into a browser into a short-lived one for a program on that person's
machine (RFC 8252, RFC 7636), which the program renews. A *stream ticket* opens one conversation's stream to a caller
that cannot send a credential.
"""

from enum import StrEnum

from msgspec import Struct

from dragoman.core.names import ConversationId, ProjectId, Scope
from dragoman.core.operations import Operation

# -- service accounts ------------------------------------------------------------------------------------------------


class Role(StrEnum):
    """What the credentials of a service account may do: nothing, what any client needs, or everything."""

    NONE = "none"
    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


class ServiceAccount(Struct, frozen=True):
    """Times are Unix seconds. `credentials` counts those that are good now."""

    number: int
    name: str
    role: Role
    disabled: bool
    created_at: float
    updated_at: float
    credentials: int = 0


class CreateServiceAccount(Operation[ServiceAccount], frozen=True):
    """Raises BadRequest if the name is taken; NotAllowed if the principal lacks what the role grants."""

    name: str
    role: Role = Role.VIEWER
    disabled: bool = False


class ServiceAccountPage(Struct, frozen=True):
    items: tuple[ServiceAccount, ...]
    total: int


class FindServiceAccounts(Operation[ServiceAccountPage], frozen=True):
    """In order of number. `query` = part of the name, in any case; `disabled` None = both."""

    query: str = ""
    disabled: bool | None = None
    limit: int = 1000
    offset: int = 0


class ReadServiceAccount(Operation[ServiceAccount], frozen=True):
    number: int


class ChangeServiceAccount(Operation[ServiceAccount], frozen=True):
    """None leaves a thing as it is. A new role counts for the credentials it has; disabling revokes them for good."""

    number: int
    name: str | None = None
    role: Role | None = None
    disabled: bool | None = None


class AccountGone(Struct, frozen=True):
    number: int


class DeleteServiceAccount(Operation[AccountGone], frozen=True):
    """Its credentials are revoked; its number is never given to another, for what it made still bears it."""

    number: int


class AccountCredential(Struct, frozen=True):
    """A credential of a service account; `number` is its place among those of its account."""

    number: int
    name: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked: bool


class AccountCredentials(Struct, frozen=True):
    """`at` is the time for which it is said, to tell what has expired."""

    items: tuple[AccountCredential, ...]
    at: float


class ListAccountCredentials(Operation[AccountCredentials], frozen=True):
    number: int


class IssuedCredential(Struct, frozen=True):
    """`text` is known this once."""

    number: int
    name: str
    text: str

    def __repr__(self) -> str:
        return f"IssuedCredential({self.number!r}, {self.name!r})"


class IssueAccountCredential(Operation[IssuedCredential], frozen=True):
    """`expires_s` None = it never expires. Raises Conflict if the account has one of that name or is disabled."""

    account: int
    name: str
    expires_s: float | None = None


class CredentialGone(Struct, frozen=True):
    number: int


class DeleteAccountCredential(Operation[CredentialGone], frozen=True):
    account: int
    number: int


# -- login -----------------------------------------------------------------------------------------------------------


class LoginWish(Struct, frozen=True):
    """What a program asks for when it sends a person to the browser. `challenge` is that of RFC 7636, method S256."""

    challenge: str
    device: str
    scopes: tuple[Scope, ...]


class ReviewLogin(Operation[LoginWish], frozen=True):
    """Show a person what is asked for: the wish, as it was understood."""

    wish: LoginWish


class LoginDecided(Struct, frozen=True):
    """`code` is good once and for a few minutes; "" = it was denied."""

    code: str
    project: ProjectId
    name: str

    def __repr__(self) -> str:
        return f"LoginDecided({self.project!r}, {self.name!r}, {'allowed' if self.code else 'denied'})"


class DecideLogin(Operation[LoginDecided], frozen=True):
    """Allow or deny it. `credential` is what the person typed; of what it may do, no more than the wish is handed on.

    Raises NotAuthenticated; NotAllowed if nothing of what is wished for is the credential's to give.
    """

    wish: LoginWish
    allowed: bool
    credential: str = ""

    def __repr__(self) -> str:
        return f"DecideLogin({self.wish!r}, {self.allowed!r})"


class LoginIssued(Struct, frozen=True):
    """A short-lived credential and the text that renews it, both known this once. `name` is the granting one's."""

    text: str
    expires_at: float
    renewal: str
    renewal_expires_at: float
    project: ProjectId
    name: str

    def __repr__(self) -> str:
        return f"LoginIssued({self.project!r}, {self.name!r})"


class ExchangeLogin(Operation[LoginIssued], frozen=True):
    """The code for a credential. Raises NotAuthenticated if the code or its verifier is not right, or it was used."""

    code: str
    verifier: str

    def __repr__(self) -> str:
        return "ExchangeLogin()"


class RenewLogin(Operation[LoginIssued], frozen=True):
    """A new credential and a new text to renew it with; the ones until now are void. Raises NotAuthenticated: the
    person must log in again."""

    renewal: str

    def __repr__(self) -> str:
        return "RenewLogin()"


# -- stream tickets --------------------------------------------------------------------------------------------------


class StreamTicket(Struct, frozen=True):
    """`expires_at` is Unix seconds."""

    text: str
    expires_at: float

    def __repr__(self) -> str:
        return f"StreamTicket(expires_at={self.expires_at!r})"


class IssueStreamTicket(Operation[StreamTicket], frozen=True):
    """A text that may stand in a URL and opens this one conversation's stream for some minutes, to read.

    Raises NotFound if the principal cannot read the conversation.
    """

    conversation: ConversationId
