"""Operations of service accounts, logins and tickets: those that hold a secret do not show it."""

import msgspec
import pytest

from dragoman.core import admission as adm
from dragoman.core.names import ConversationId, ProjectId, Scope

SECRET = "s3cr3t"
WISH = adm.LoginWish("challenge", "laptop", (Scope.CHAT_RUN,))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (adm.IssuedCredential(1, "ci", SECRET), "IssuedCredential(1, 'ci')"),
        (adm.LoginDecided(SECRET, ProjectId("p"), "me"), "LoginDecided('p', 'me', allowed)"),
        (adm.LoginDecided("", ProjectId(""), ""), "LoginDecided('', '', denied)"),
        (adm.DecideLogin(WISH, True, SECRET), f"DecideLogin({WISH!r}, True)"),
        (adm.LoginIssued(SECRET, 1.0, SECRET, 2.0, ProjectId("p"), "me"), "LoginIssued('p', 'me')"),
        (adm.ExchangeLogin(SECRET, SECRET), "ExchangeLogin()"),
        (adm.RenewLogin(SECRET), "RenewLogin()"),
        (adm.StreamTicket(SECRET, 1.0), "StreamTicket(expires_at=1.0)"),
    ],
)
def test_what_holds_a_secret_does_not_show_it(value: object, shown: str):
    assert repr(value) == shown
    assert SECRET not in f"{value}"


def test_what_is_said_cannot_be_changed_afterwards():
    operation = adm.IssueStreamTicket(ConversationId("c"))

    with pytest.raises(AttributeError):
        operation.conversation = ConversationId("another")  # type: ignore[misc] it is what is tested
    assert msgspec.structs.replace(operation, conversation=ConversationId("d")) == adm.IssueStreamTicket(
        ConversationId("d")
    )
