"""Making, rotating and revoking credentials.

Kept is HMAC-SHA256(pepper, whole text), never the text: secrets of 190 random bits need no slow hash.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from dragoman.access.pepper import Pepper, RandomBytes
from dragoman.access.ports import AccessStore, Credential
from dragoman.access.projects import check_name
from dragoman.access.scopes import DEFAULT_SCOPES, check_child
from dragoman.access.texts import ID_CHARS, Form, base62, credential_text
from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.names import Clock, Principal, ProjectId, Scope

DAY_S = 86_400.0
EXPIRES_S = 90 * DAY_S
"""How long a new credential is good for unless told otherwise."""
OVERLAP_S = DAY_S
"""How long the old text stays good after a rotation unless told otherwise."""
OVERLAP_S_MAX = 7 * DAY_S
RPM_MAX = 1_000_000


class Minted(Struct, frozen=True):
    """A credential and its text, which is known this once."""

    credential: Credential
    text: str

    def __repr__(self) -> str:
        return f"Minted({self.credential.id!r})"


class Mint:
    """Makes, renews and ends credentials in one store under one pepper."""

    def __init__(self, store: AccessStore, pepper: Pepper, clock: Clock, random_bytes: RandomBytes) -> None:
        self._store = store
        self._pepper = pepper
        self._clock = clock
        self._random_bytes = random_bytes

    @property
    def pepper_id(self) -> str:
        """Names the pepper that new hashes are made with."""
        return self._pepper.id

    async def create(
        self,
        name: str,
        project: ProjectId,
        *,
        scopes: Sequence[Scope] = DEFAULT_SCOPES,
        expires_s: float | None = EXPIRES_S,
        rpm: int | None = None,
        by: Principal | None = None,
        subject: str = "",
        form: Form = Form.DRG,
    ) -> Minted:
        """A new credential, good for `expires_s` (None = for ever). `by` = the credential that asks for it; `subject`
        = whom the new one stands for, "" = nobody but itself.

        Raises BadRequest, NotAllowed if `by` lacks one of the scopes, NotFound("project").
        """
        name = check_name(name, what="credential")
        if rpm is not None and not 0 <= rpm <= RPM_MAX:
            raise BadRequest(f"A credential's requests per minute are 0 (unlimited) to {RPM_MAX}.")
        if by is not None:
            check_child(by.scopes, scopes)
        credential_id = base62(ID_CHARS, self._random_bytes)
        text = credential_text(self._random_bytes, credential_id=credential_id, form=form)
        now = self._clock.now()
        credential = Credential(
            id=credential_id,
            project=project,
            name=name,
            scopes=tuple(dict.fromkeys(scopes)),
            hash=self._pepper.digest(text.encode()),
            pepper_id=self._pepper.id,
            created_at=now,
            expires_at=_expiry(now, expires_s),
            rpm=rpm,
            subject=subject,
        )
        await self._store.put_credential(credential)
        return Minted(credential, text)

    async def rotate(
        self,
        credential_id: str,
        *,
        overlap_s: float = OVERLAP_S,
        expires_s: float | None = EXPIRES_S,
        form: Form = Form.DRG,
    ) -> Minted:
        """A new secret for the same credential; the text used until now stays good for `overlap_s` more, within its own
        expiry. One from before an earlier rotation stops at once. Which form a text has is not kept: say it again.
        Raises BadRequest, NotFound, Conflict if revoked."""
        if not 0 <= overlap_s <= OVERLAP_S_MAX:
            raise BadRequest(f"The overlap of a rotation is 0 to {OVERLAP_S_MAX / DAY_S:g} days.")
        old = await self._get(credential_id)
        if old.revoked_at is not None:
            raise Conflict(f"Credential {old.id} ({old.name}) was revoked; create a new one.")
        text = credential_text(self._random_bytes, credential_id=old.id, form=form)
        now = self._clock.now()
        until = now + overlap_s if old.expires_at is None else min(now + overlap_s, old.expires_at)
        overlaps = until > now and old.pepper_id == self._pepper.id
        credential = msgspec.structs.replace(
            old,
            hash=self._pepper.digest(text.encode()),
            pepper_id=self._pepper.id,
            expires_at=_expiry(now, expires_s),
            previous_hash=old.hash if overlaps else None,
            previous_until=until if overlaps else None,
        )
        await self._store.put_credential(credential)
        return Minted(credential, text)

    async def revoke(self, credential_id: str) -> Credential:
        """No text of this credential is good from now on, nor of those that stand for it, which logins made of it;
        other processes notice within 5 s. Raises NotFound."""
        old = await self._get(credential_id)
        await self.revoke_subject(old.project, old.id)
        return old if old.revoked_at is not None else await self._end(old)

    async def revoke_subject(self, project: ProjectId, subject: str) -> tuple[str, ...]:
        """The same for all credentials that stand for this subject; their ids."""
        found = [credential for credential in await self._store.credentials(project) if credential.subject == subject]
        for credential in found:
            if credential.revoked_at is None:
                await self._end(credential)
        return tuple(credential.id for credential in found)

    async def _end(self, old: Credential) -> Credential:
        credential = msgspec.structs.replace(old, revoked_at=self._clock.now(), previous_hash=None, previous_until=None)
        await self._store.put_credential(credential)
        return credential

    async def _get(self, credential_id: str) -> Credential:
        credential = await self._store.credential(credential_id)
        if credential is None:
            raise NotFound(
                f"There is no credential {credential_id}; list them with: dragoman credentials ls", what="credential"
            )
        return credential


def _expiry(now: float, expires_s: float | None) -> float | None:
    if expires_s is None:
        return None
    if not expires_s > 0:
        raise BadRequest("A credential must be good for more than 0 seconds.")
    return now + expires_s
