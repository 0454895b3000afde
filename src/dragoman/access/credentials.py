"""Who asks: from a credential's text to a Principal, with a short memory so that a busy caller costs no store access.

Every refusal is the same sentence after, as nearly as can be, the same work: one HMAC and the same comparisons, whether
the text is junk, unknown, wrong, expired or revoked. Only junk, which its checksum gives away to anybody, never reaches
the store.
"""

import hmac
from typing import TypeVar

from msgspec import Struct

from dragoman.access.pepper import Pepper
from dragoman.access.ports import AccessStore, Credential
from dragoman.access.texts import TEXT_CHARS, TEXT_LENGTHS, credential_id_of
from dragoman.access.tickets import Ticket, read_ticket, reduced
from dragoman.core.errors import NotAuthenticated
from dragoman.core.names import Clock, Principal

REFUSED = "This credential is missing, unknown, expired or revoked; send one that `dragoman credentials create` gave."
TICKET_REFUSED = "This stream ticket is unknown, expired or for another conversation; ask for a new one."
POSITIVE_S = 5.0
"""A proof is believed this long: a revoked credential is refused everywhere within it."""
NEGATIVE_S = 1.0
REMEMBERED_MAX = 4096
"""Proofs and, apart from them, refusals remembered at most: a flood of junk cannot push good callers out."""
SKEW_S = 60.0
"""Clocks of replicas differ: an expiry counts only once it is this long past."""
TOUCH_S = 60.0
"""`last_used_at` is written at most this often for each credential."""

K = TypeVar("K")
V = TypeVar("V")

_NO_HASH = bytes(32)


class _Proof(Struct, frozen=True):
    principal: Principal
    until: float
    """By the monotonic clock."""


class Touch(Struct, frozen=True):
    """A credential's `last_used_at` that is due to be written."""

    credential_id: str
    at: float


class Standing(Struct, frozen=True):
    """What somebody proved who it is with, to be looked at again as long as it reads: a hash of the text, not the text.
    `ticket` is the one that it was, if it was one."""

    digest: bytes
    credential_id: str
    ticket: Ticket | None = None


class Again(Struct, frozen=True):
    """Whom it proves now; None if nobody any more. `expired` = it would, had its time not run out."""

    principal: Principal | None
    expired: bool = False


class Authenticator:
    def __init__(self, store: AccessStore, pepper: Pepper, clock: Clock) -> None:
        self._store = store
        self._pepper = pepper
        self._clock = clock
        self._proofs: dict[bytes, _Proof] = {}
        self._refusals: dict[bytes, float] = {}
        self._touched: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def proven(self, text: str) -> Principal | None:
        """The fast path: who a text was proven to be within the last 5 s. None says nothing; ask `prove` then."""
        if len(text) not in TEXT_LENGTHS or not text.isascii():
            return None
        proof = self._proofs.get(self._pepper.digest(text.encode()))
        if proof is None or proof.until <= self._clock.monotonic():
            return None
        return proof.principal

    async def prove(self, text: str) -> Principal:
        """Whose credential this text is. Raises NotAuthenticated, always with the same words; Unavailable."""
        # A text of another length is cut: an HMAC must not cost more for a caller that sends a megabyte.
        digest = self._pepper.digest(text[: TEXT_CHARS + 1].encode("utf-8", "surrogatepass"))
        credential_id = credential_id_of(text)
        if credential_id is None:
            self._good_for(None, digest)
            raise NotAuthenticated(REFUSED)
        monotonic = self._clock.monotonic()
        proof = self._proofs.get(digest)
        if proof is not None and proof.until > monotonic:
            return proof.principal
        refused_until = self._refusals.get(digest)
        if refused_until is not None and refused_until > monotonic:
            raise NotAuthenticated(REFUSED)
        credential = await self._store.credential(credential_id)
        left_s = self._good_for(credential, digest)
        if credential is None or left_s <= 0:
            _remember(self._refusals, digest, monotonic + NEGATIVE_S)
            raise NotAuthenticated(REFUSED)
        principal = _principal(credential)
        _remember(self._proofs, digest, _Proof(principal, monotonic + min(POSITIVE_S, left_s)))
        self._note_use(credential)
        return principal

    async def prove_ticket(self, text: str, *, conversation: str) -> Principal:
        """Who may read this conversation by a stream ticket: the principal that asked for it, reduced to reading.

        Raises NotAuthenticated, always with the same words, also when the credential behind it is good no longer;
        Unavailable.
        """
        ticket = read_ticket(text, self._pepper)
        if ticket is None or ticket.conversation != conversation or ticket.expires_at <= self._clock.now():
            raise NotAuthenticated(TICKET_REFUSED)
        monotonic = self._clock.monotonic()
        digest = self._pepper.digest(text.encode())
        proof = self._proofs.get(digest)
        if proof is not None and proof.until > monotonic:
            return proof.principal
        credential = await self._store.credential(ticket.credential_id)
        left_s = 0.0 if credential is None or credential.revoked_at is not None else self._left_s(credential.expires_at)
        if credential is None or left_s <= 0:
            raise NotAuthenticated(TICKET_REFUSED)
        principal = reduced(_principal(credential))
        if (principal.project, principal.owner) != (ticket.project, ticket.owner):
            raise NotAuthenticated(TICKET_REFUSED)
        _remember(self._proofs, digest, _Proof(principal, monotonic + min(POSITIVE_S, left_s)))
        self._note_use(credential)
        return principal

    def standing(self, text: str, *, ticket: bool = False) -> Standing:
        """Of a credential's text or a ticket that was just proven to be good."""
        digest = self._pepper.digest(text.encode())
        if not ticket:
            return Standing(digest, credential_id_of(text) or "")
        known = read_ticket(text, self._pepper)
        return Standing(digest, "" if known is None else known.credential_id, known)

    async def again(self, standing: Standing) -> Again:
        """Ask the store once more, whatever is remembered. Raises Unavailable."""
        credential = await self._store.credential(standing.credential_id)
        ticket = standing.ticket
        if credential is None or credential.revoked_at is not None:
            return Again(None)
        if ticket is not None:
            principal = reduced(_principal(credential))
            if (principal.project, principal.owner) != (ticket.project, ticket.owner):
                return Again(None)
            return Again(principal, ticket.expires_at <= self._clock.now() or self._left_s(credential.expires_at) <= 0)
        if hmac.compare_digest(standing.digest, credential.hash):
            until = credential.expires_at
        elif hmac.compare_digest(standing.digest, credential.previous_hash or _NO_HASH):
            until = credential.previous_until
        else:
            return Again(None)
        return Again(_principal(credential), self._left_s(until) <= 0)

    def forget(self, credential_id: str) -> None:
        """Believe nothing about this credential any more: it was revoked or rotated by this very process."""
        self._proofs = {
            digest: proof for digest, proof in self._proofs.items() if proof.principal.credential_id != credential_id
        }

    def take_due(self) -> tuple[Touch, ...]:
        """The touches that came due since last asked; whoever asks writes them with `AccessStore.touch_credential`."""
        due = tuple(Touch(credential_id, at) for credential_id, at in self._due.items())
        self._due.clear()
        return due

    def _good_for(self, credential: Credential | None, digest: bytes) -> float:
        """Seconds for which `digest` proves this credential; 0 or less if it does not. Compares in every case."""
        if credential is None:
            hmac.compare_digest(digest, _NO_HASH)
            hmac.compare_digest(digest, _NO_HASH)
            return 0.0
        is_current = hmac.compare_digest(digest, credential.hash)
        is_previous = hmac.compare_digest(digest, credential.previous_hash or _NO_HASH)
        until = credential.expires_at if is_current else credential.previous_until
        proves = is_current or (is_previous and until is not None)
        if not proves or credential.revoked_at is not None:
            return 0.0
        return self._left_s(until)

    def _left_s(self, expires_at: float | None) -> float:
        return POSITIVE_S if expires_at is None else expires_at + SKEW_S - self._clock.now()

    def _note_use(self, credential: Credential) -> None:
        now = self._clock.now()
        last = max(credential.last_used_at or 0.0, self._touched.get(credential.id, 0.0))
        if now - last >= TOUCH_S or now < last - TOUCH_S:
            _remember(self._touched, credential.id, now)
            _remember(self._due, credential.id, now)


def _principal(credential: Credential) -> Principal:
    return Principal(
        credential.project,
        credential.id,
        credential.name,
        frozenset(credential.scopes),
        credential.rpm,
        credential.subject,
    )


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    """Put it last; forget the first when there are too many."""
    memory.pop(key, None)
    if len(memory) >= REMEMBERED_MAX:
        del memory[next(iter(memory))]
    memory[key] = value
