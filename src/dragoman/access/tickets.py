"""Stream tickets: what stands in a URL in the place of a credential, for readers that can send no header (EventSource).

    tkt_<payload>_<mac>     a JSON array in base64url, and HMAC-SHA256(pepper, what it is for + payload)

A ticket is kept nowhere. It opens one conversation, only to read, for ten minutes, and only as long as the credential
it was made with is good and stands for the same subject: a ticket says nothing that is not looked up again. It may end
up in logs and histories, as URLs do, and that is all that it could give away there.
"""

import hmac
import logging
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import msgspec
from msgspec import Struct

from dragoman.access.pepper import Pepper
from dragoman.core.admission import IssueStreamTicket, StreamTicket
from dragoman.core.names import Clock, ConversationId, Principal, ProjectId, Scope
from dragoman.core.operations import Operation

logger = logging.getLogger("dragoman.access")

TICKET_S = 600.0
"""How long a ticket opens its stream. One that it opened is closed a few seconds later (`edge/watching.py`)."""
TICKET_CHARS_MAX = 4096
"""Names of 128 characters outside ASCII included."""
READING = (Scope.CHAT_READ, Scope.CONVERSATIONS_READ, Scope.PLUGINS_APP_ACCESS, Scope.GRAFANA_CHATS_ACCESS)
"""What a ticket hands on, of what its credential may do."""

_PURPOSE = b"dragoman stream ticket 1\n"
_TEXT = re.compile(r"tkt_([0-9A-Za-z_-]+)_([0-9A-Za-z_-]{43})")


class Ticket(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`owner` is the `Principal.owner` of the credential; `expires_at` Unix seconds."""

    project: ProjectId
    owner: str
    credential_id: str
    conversation: ConversationId
    expires_at: float


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Ticket)


def ticket_text(ticket: Ticket, pepper: Pepper) -> str:
    payload = _base64(_encoder.encode(ticket))
    return f"tkt_{payload}_{_mac(payload, pepper)}"


def read_ticket(text: str, pepper: Pepper) -> Ticket | None:
    """The ticket, if it was made with this pepper. Whether it is still good is another question. Never raises."""
    match = _TEXT.fullmatch(text) if len(text) <= TICKET_CHARS_MAX else None
    if match is None or not hmac.compare_digest(match[2], _mac(match[1], pepper)):
        return None
    try:
        return _decoder.decode(urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)))
    except (ValueError, msgspec.DecodeError):  # made by a version that writes tickets otherwise
        return None


def reduced(principal: Principal) -> Principal:
    """The same one, who may now only read."""
    return msgspec.structs.replace(principal, scopes=reading(principal.scopes))


def reading(scopes: Collection[Scope]) -> frozenset[Scope]:
    return frozenset(READING) if Scope.ADMIN in scopes else frozenset(READING) & frozenset(scopes)


class Tickets:
    """`check` raises NotFound if the principal cannot read the conversation."""

    def __init__(
        self, pepper: Pepper, clock: Clock, check: Callable[[Principal, ConversationId], Awaitable[object]]
    ) -> None:
        self._pepper = pepper
        self._clock = clock
        self._check = check

    def handlers(self) -> dict[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {IssueStreamTicket: self.issue}

    async def issue(self, principal: Principal, operation: IssueStreamTicket) -> StreamTicket:
        """Whoever reads by it is the principal reduced, so it is asked for that one: an admin's ticket opens no
        conversation of other people's."""
        await self._check(reduced(principal), operation.conversation)
        expires_at = self._clock.now() + TICKET_S
        ticket = Ticket(principal.project, principal.owner, principal.credential_id, operation.conversation, expires_at)
        logger.info("credential %s was given a stream ticket", principal.credential_id)
        return StreamTicket(ticket_text(ticket, self._pepper), expires_at)


def _mac(payload: str, pepper: Pepper) -> str:
    return _base64(pepper.digest(_PURPOSE + payload.encode()))


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
