"""Stream tickets: what they hold, that nobody else can make one, and for whom they are issued."""

from base64 import urlsafe_b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.access.pepper import Pepper
from dragoman.access.tickets import READING, TICKET_CHARS_MAX, Ticket, Tickets, read_ticket, reduced, ticket_text
from dragoman.core.admission import IssueStreamTicket
from dragoman.core.errors import NotFound
from dragoman.core.names import ConversationId, Principal, ProjectId, Scope
from tests.support import FixedClock

PEPPER = Pepper("p1", b"k" * 32)
TICKET = Ticket(ProjectId("default"), "service-account:1", "0123456789", ConversationId("c"), 1600.0)
CHARACTERS = st.characters(exclude_categories=("Cs",))


@given(st.text(CHARACTERS, max_size=128), st.text(CHARACTERS, max_size=64), st.floats(0, 1e11))
def test_a_ticket_is_read_as_it_was_written_and_fits_a_url(conversation: str, owner: str, expires_at: float):
    ticket = Ticket(ProjectId("default"), owner, "0123456789", ConversationId(conversation), expires_at)
    text = ticket_text(ticket, PEPPER)

    assert read_ticket(text, PEPPER) == ticket
    assert set(text) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-")
    assert len(text) <= TICKET_CHARS_MAX


@given(st.data())
def test_no_ticket_with_one_character_changed_is_one(data):
    text = ticket_text(TICKET, PEPPER)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from([char for char in "AZaz09_-.=" if char != text[place]]))

    assert read_ticket(text[:place] + other + text[place + 1 :], PEPPER) is None


@given(st.text())
def test_no_text_at_all_makes_it_raise(text: str):
    assert read_ticket(text, PEPPER) is None
    assert read_ticket("tkt_" + text, PEPPER) is None


def test_another_pepper_makes_other_tickets():
    assert read_ticket(ticket_text(TICKET, Pepper("p2", b"z" * 32)), PEPPER) is None


def test_the_mac_is_for_tickets_only():
    """What the same pepper says of a text elsewhere, such as of a credential's, is not a ticket's MAC."""
    head, _, _ = ticket_text(TICKET, PEPPER).rpartition("_")
    mac = msgspec.json.encode(PEPPER.digest(head.removeprefix("tkt_").encode())).decode().strip('"=')

    assert read_ticket(f"{head}_{mac.replace('+', '-').replace('/', '_')}", PEPPER) is None


@pytest.mark.parametrize("payload", [b"[]", b"{}", b"\xff", b'["p","o","k","c",1,2]'])
def test_a_ticket_of_another_version_is_none(payload: bytes):
    text = "tkt_" + urlsafe_b64encode(payload).rstrip(b"=").decode()
    mac = PEPPER.digest(b"dragoman stream ticket 1\n" + text[4:].encode())

    assert read_ticket(f"{text}_{urlsafe_b64encode(mac).rstrip(b'=').decode()}", PEPPER) is None


@pytest.mark.parametrize(
    ("scopes", "left"),
    [
        ({Scope.ADMIN}, set(READING)),
        ({Scope.CHAT_READ, Scope.CHAT_RUN, Scope.TOOLS_USE}, {Scope.CHAT_READ}),
        ({Scope.CREDENTIALS_WRITE}, set()),
    ],
)
def test_what_is_left_of_a_principal_is_reading(scopes: set[Scope], left: set[Scope]):
    principal = Principal(ProjectId("p"), "k", "n", frozenset(scopes), 5, "s")

    assert reduced(principal) == msgspec.structs.replace(principal, scopes=frozenset(left))


async def test_a_ticket_is_issued_for_what_its_reader_can_read():
    asked: list[Principal] = []

    async def check(principal: Principal, conversation: ConversationId) -> None:
        asked.append(principal)
        if conversation != "c":
            raise NotFound("There is no conversation.", what="conversation")

    admin = Principal(ProjectId("default"), "0123456789", "root", frozenset({Scope.ADMIN}))
    tickets = Tickets(PEPPER, FixedClock(1000.0), check)
    handle = tickets.handlers()[IssueStreamTicket]

    issued = await tickets.issue(admin, IssueStreamTicket(ConversationId("c")))
    assert read_ticket(issued.text, PEPPER) == msgspec.structs.replace(TICKET, owner="0123456789")
    assert (issued.expires_at, issued.text in repr(issued)) == (1600.0, False)
    with pytest.raises(NotFound):
        await handle(admin, IssueStreamTicket(ConversationId("another")))
    assert asked == [reduced(admin), reduced(admin)]
