"""Login: a credential typed into a browser becomes a short-lived one for a program on the same machine.

    wish ──► (person: credential, allow) ──► code ──► (program: verifier) ──► gat_ for an hour + gar_ for 30 days
                                                                                ▲            │
                                                                                └── renewal ─┘  a new pair, same login

A login is one credential, whose text changes with each renewal, and one record under the same id. It stands for the
subject of the credential that granted it, may what was wished for and that one may, and ends with it: at the latest
when it is next renewed, at once if the granting credential stands for nobody but itself.

A text that renews is good once. If one comes back that was used already, two hold what one should, and nobody can tell
which is the thief: the login ends (RFC 9700, 4.14.2). One exception: the last one used, within 10 s, for its answer may
have got lost. Then the same answer is given again, byte for byte. That needs no text to be kept, because a new text is
derived from the one it replaces: HMAC(pepper, nonce of this renewal, old text). Who has the database and the pepper but
no text learns none. The last ten characters of a renewing text are a MAC of what stands before, so that a made-up text
with a known id is told from one that was used, and ends nobody's login.
"""

import hashlib
import hmac
import logging
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dragoman.access.credentials import Authenticator
from dragoman.access.minting import DAY_S, Mint
from dragoman.access.pepper import Pepper, RandomBytes
from dragoman.access.ports import AccessStore, Credential
from dragoman.access.projects import NAME_CHARS_MAX
from dragoman.access.scopes import held
from dragoman.access.texts import SECRET_CHARS, Form, Parts, base62, joined, split
from dragoman.core import admission as adm
from dragoman.core.errors import Conflict, NotAllowed, NotAuthenticated, NotFound
from dragoman.core.names import Clock, ProjectId, Scope
from dragoman.core.operations import Operation
from dragoman.core.records import Record, Records

logger = logging.getLogger("dragoman.access")

CODES, LOGINS = "login_code", "login"
"""Kinds of records. They are in no project: whoever brings a code or a text does not say which."""
NOWHERE = ProjectId("")

CODE_S = 300.0
ACCESS_S = 3600.0
RENEWAL_S = 30 * DAY_S
REPEAT_S = 10.0
"""How long after a renewal its answer is given again."""
LOGINS_MAX = 50
"""That one credential may have granted at a time: each has a limit per minute of its own, and takes room."""
CODE_CHARS = 43
MAC_CHARS = 10

BAD_CODE = "This login code is unknown, expired or used, or it is another program's; log in again."
ENDED = "This login has ended; log in again."
NO_CHAIN = "Use a credential of your own here, not one that another login gave."


class _Code(Struct, frozen=True):
    """What was granted, kept under the code's hash."""

    challenge: str
    project: ProjectId
    granted_by: str
    device: str
    scopes: tuple[Scope, ...]


class _Login(Struct, frozen=True):
    """`hash` is that of the text that renews it now, `used` of the one before, which was used at `renewed_at` with
    `nonce`. Hashes and nonce are hex; times Unix seconds."""

    project: ProjectId
    granted_by: str
    scopes: tuple[Scope, ...]
    hash: str
    expires_at: float
    renewal_expires_at: float
    used: str = ""
    nonce: str = ""
    renewed_at: float = 0.0


_code_decoder = msgspec.json.Decoder(_Code)
_login_decoder = msgspec.json.Decoder(_Login)


def challenge_of(verifier: str) -> str:
    """RFC 7636, 4.6, method S256."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class Login:
    def __init__(
        self,
        store: AccessStore,
        records: Records,
        mint: Mint,
        authenticator: Authenticator,
        *,
        pepper: Pepper,
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        self._store = store
        self._records = records
        self._mint = mint
        self._authenticator = authenticator
        self._pepper = pepper
        self._clock = clock
        self._random_bytes = random_bytes

    def open_handlers(self) -> dict[type[Operation[Any]], Callable[[Any], Awaitable[object]]]:
        return {
            adm.ReviewLogin: self.review,
            adm.DecideLogin: self.decide,
            adm.ExchangeLogin: self.exchange,
            adm.RenewLogin: self.renew,
        }

    async def review(self, operation: adm.ReviewLogin) -> adm.LoginWish:
        return operation.wish

    # -- the person ------------------------------------------------------------------------------------------------

    async def decide(self, operation: adm.DecideLogin) -> adm.LoginDecided:
        wish = operation.wish
        if not operation.allowed:
            logger.info("a login of %r was denied", wish.device)
            return adm.LoginDecided("", NOWHERE, "")
        parts = split(operation.credential)
        if parts is not None and parts.form is Form.GAT:
            raise NotAllowed(NO_CHAIN)
        principal = await self._authenticator.prove(operation.credential)
        scopes = held(principal.scopes, wish.scopes)
        if not scopes:
            raise NotAllowed("This credential may do nothing of what is asked for.")
        code = base62(CODE_CHARS, self._random_bytes)
        await self._put_code(
            code, _Code(wish.challenge, principal.project, principal.credential_id, wish.device, scopes)
        )
        logger.info("credential %s allowed a login of %r: %s", principal.credential_id, wish.device, " ".join(scopes))
        return adm.LoginDecided(code, principal.project, principal.name)

    async def _put_code(self, code: str, granted: _Code) -> None:
        record = Record(
            NOWHERE,
            CODES,
            self._hash(code),
            msgspec.json.encode(granted).decode(),
            created_by=granted.granted_by,
            updated_by=granted.granted_by,
            expires_at=self._clock.now() + CODE_S,
        )
        await self._records.put(record, expect=0)

    # -- the program -----------------------------------------------------------------------------------------------

    async def exchange(self, operation: adm.ExchangeLogin) -> adm.LoginIssued:
        """A code is good for one try: a wrong verifier uses it up."""
        record = await self._records.get(NOWHERE, CODES, self._hash(operation.code))
        if record is None or not await self._records.delete(NOWHERE, CODES, record.id):  # one caller alone deletes it
            raise NotAuthenticated(BAD_CODE)
        granted = _code_decoder.decode(record.body)
        if not hmac.compare_digest(challenge_of(operation.verifier), granted.challenge):
            logger.warning("a login of %r came with a wrong verifier", granted.device)
            raise NotAuthenticated(BAD_CODE)
        granter = await self._granter(granted.granted_by)
        scopes = () if granter is None else held(granter.scopes, granted.scopes)
        if granter is None or not scopes:
            raise NotAuthenticated(BAD_CODE)
        return await self._begin(granter, granted, scopes)

    async def _begin(self, granter: Credential, granted: _Code, scopes: tuple[Scope, ...]) -> adm.LoginIssued:
        now = self._clock.now()
        await self._make_room(granter)
        minted = await self._mint.create(
            f"login {granted.device}"[:NAME_CHARS_MAX],
            granter.project,
            scopes=scopes,
            expires_s=self._access_s(granter),
            rpm=granter.rpm,
            subject=granter.subject or granter.id,
            form=Form.GAT,
        )
        credential = minted.credential
        renewal = self._renewal_text(credential.id, self._random_bytes)
        login = _Login(
            granter.project,
            granter.id,
            granted.scopes,
            self._hash(renewal),
            expires_at=credential.expires_at or now,
            renewal_expires_at=now + RENEWAL_S,
        )
        await self._records.put(_record(credential.id, login), expect=0)
        logger.info("login %s of %r began by credential %s", credential.id, granted.device, granter.id)
        return _issued(login, minted.text, renewal, granter)

    async def _make_room(self, granter: Credential) -> None:
        """The oldest logins end when there are too many."""
        there = await self._records.page(NOWHERE, LOGINS, owner=granter.id, wide=False, limit=0, offset=0)
        for record in there.items[: max(0, there.total - LOGINS_MAX + 1)]:
            await self._ended(record.id)

    async def renew(self, operation: adm.RenewLogin) -> adm.LoginIssued:
        old = operation.renewal
        parts = split(old)
        if parts is None or not self._is_ours(parts):
            raise NotAuthenticated(ENDED)
        record = await self._records.get(NOWHERE, LOGINS, parts.id)
        if record is None:
            raise NotAuthenticated(ENDED)
        login = _login_decoder.decode(record.body)
        granter = await self._granter(login.granted_by)
        if granter is None or not held(granter.scopes, login.scopes):
            raise await self._ended(parts.id)
        if hmac.compare_digest(self._hash(old), login.hash):
            login = self._next(parts.id, login, old, granter)
            try:
                await self._records.put(_record(parts.id, login), expect=record.version)
            except (Conflict, NotFound):
                # Another process was faster with the same text: what it made of it is to be answered, or that it ended.
                return await self.renew(operation)
        elif not self._is_repeat(login, old):
            logger.warning("login %s: a text that was used before came back; the login ends", parts.id)
            raise await self._ended(parts.id)
        return await self._answer(parts.id, login, old, granter)

    def _next(self, login_id: str, login: _Login, old: str, granter: Credential) -> _Login:
        now = self._clock.now()
        nonce = self._random_bytes(16).hex()
        return replace(
            login,
            hash=self._hash(self._renewal_text(login_id, self._derived("renewal", nonce, old))),
            used=login.hash,
            nonce=nonce,
            renewed_at=now,
            expires_at=now + self._access_s(granter),
            renewal_expires_at=now + RENEWAL_S,
        )

    def _is_repeat(self, login: _Login, old: str) -> bool:
        in_time = abs(self._clock.now() - login.renewed_at) <= REPEAT_S
        return hmac.compare_digest(self._hash(old), login.used) and in_time

    async def _answer(self, login_id: str, login: _Login, old: str, granter: Credential) -> adm.LoginIssued:
        """The texts that take the place of `old`. The credential is made to fit, if nobody has come so far yet."""
        text = self._access_text(login_id, self._derived("access", login.nonce, old))
        credential = await self._store.credential(login_id)
        if credential is None or credential.revoked_at is not None:
            raise await self._ended(login_id)
        digest = self._pepper.digest(text.encode())
        if credential.hash != digest:
            changed = replace(
                credential,
                hash=digest,
                pepper_id=self._pepper.id,
                scopes=held(granter.scopes, login.scopes),
                expires_at=login.expires_at,
                previous_hash=credential.hash,
                previous_until=credential.expires_at,
            )
            await self._store.put_credential(changed)
            self._authenticator.forget(login_id)
            if await self._records.get(NOWHERE, LOGINS, login_id) is None:  # it was ended while we wrote
                raise await self._ended(login_id)
        renewal = self._renewal_text(login_id, self._derived("renewal", login.nonce, old))
        return _issued(login, text, renewal, granter)

    # -- parts -----------------------------------------------------------------------------------------------------

    async def _granter(self, credential_id: str) -> Credential | None:
        """The granting credential, if it is still good."""
        credential = await self._store.credential(credential_id)
        if credential is None or credential.revoked_at is not None:
            return None
        is_over = credential.expires_at is not None and credential.expires_at <= self._clock.now()
        return None if is_over else credential

    async def _ended(self, login_id: str) -> NotAuthenticated:
        """End the login: nothing renews it any more, and what it gave is good no longer."""
        await self._records.delete(NOWHERE, LOGINS, login_id)
        if await self._store.credential(login_id) is not None:
            await self._mint.revoke(login_id)
        self._authenticator.forget(login_id)
        logger.info("login %s has ended", login_id)
        return NotAuthenticated(ENDED)

    def _access_s(self, granter: Credential) -> float:
        """No longer than the granting credential is good."""
        return ACCESS_S if granter.expires_at is None else min(ACCESS_S, granter.expires_at - self._clock.now())

    def _hash(self, text: str) -> str:
        return self._pepper.digest(b"dragoman login\n" + text.encode("utf-8", "surrogatepass")).hex()

    def _derived(self, purpose: str, nonce: str, text: str) -> RandomBytes:
        """Bytes that nobody can tell who lacks the pepper, the nonce or the text."""
        numbers = count()

        def draw(size: int) -> bytes:
            block = f"dragoman login {purpose}\n{nonce}\n{next(numbers)}\n{text}"
            return self._pepper.digest(block.encode())[:size]

        return draw

    def _access_text(self, login_id: str, draw: RandomBytes) -> str:
        return joined(Parts(Form.GAT, login_id, base62(SECRET_CHARS, draw)))

    def _renewal_text(self, login_id: str, draw: RandomBytes) -> str:
        secret = base62(SECRET_CHARS - MAC_CHARS, draw)
        return joined(Parts(Form.GAR, login_id, secret + self._mac(login_id, secret)))

    def _mac(self, login_id: str, secret: str) -> str:
        return base62(MAC_CHARS, self._derived("mac", login_id, secret))

    def _is_ours(self, parts: Parts) -> bool:
        """It is a renewing text that this server made, now or once."""
        secret, mac = parts.secret[:-MAC_CHARS], parts.secret[-MAC_CHARS:]
        return parts.form is Form.GAR and hmac.compare_digest(mac, self._mac(parts.id, secret))


def _record(login_id: str, login: _Login) -> Record:
    return Record(
        NOWHERE,
        LOGINS,
        login_id,
        msgspec.json.encode(login).decode(),
        owner=login.granted_by,
        created_by=login.granted_by,
        updated_by=login.granted_by,
        expires_at=login.renewal_expires_at,
    )


def _issued(login: _Login, text: str, renewal: str, granter: Credential) -> adm.LoginIssued:
    return adm.LoginIssued(text, login.expires_at, renewal, login.renewal_expires_at, login.project, granter.name)
