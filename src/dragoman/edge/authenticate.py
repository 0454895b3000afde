"""The door: in which order a request is checked before it may ask anything.

    announced size -> limit per address -> credential -> scope -> body -> shape -> limit per credential -> desk

A dialect may have the limit per project told before what is wrong with a credential (`Dialect.limits_first`).

A refused request does not count against the limit that refused it; one whose body has the wrong shape has counted
against its address but not against its credential: that order is what clients of these APIs already meet.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from msgspec import Struct

from dragoman.access.credentials import Authenticator, Standing
from dragoman.access.rate_limit import Limit, Limiter, Verdict, limit_of
from dragoman.access.widget_sessions import REFUSED, WidgetSessions
from dragoman.core.errors import LimitReached, NotAllowed, NotAuthenticated
from dragoman.core.names import Clock, Principal
from dragoman.edge.limits import Network, caller_address
from dragoman.wire.dialect import Dialect, Route

RawHeaders = list[tuple[bytes, bytes]]

UNCOUNTED_TIMES = 10
UNCOUNTED_RPM_MIN = 120
"""Routes that do not count (`Route.counted`) have an allowance beside the others', so many times the limit and at least
so much: a program that asks every few seconds never meets it, a flood does, and one of guesses before any look-up."""

PROJECT_KEY_CHARS_MAX = 64
"""No project has a longer id (`access.projects`). All longer names that anybody asks for share one budget."""


class Limits(Struct, frozen=True):
    """What the edge allows. Requests per minute: 0 = unlimited."""

    per_address_rpm: int
    per_credential_rpm: int
    per_project_rpm: int
    body_bytes_max: int
    readers_per_conversation: int


class Ticket(Struct, frozen=True):
    """What a caller sent in place of a credential: good for following one conversation (`Route.ticket`)."""

    text: str
    conversation: str


class Passed:
    """How far a request got, and what its answer must say of the limits it met."""

    __slots__ = ("limit", "principal", "verdict")

    def __init__(self) -> None:
        self.principal: Principal | None = None
        self.verdict: Verdict | None = None
        self.limit: Limit | None = None

    def headers(self) -> RawHeaders:
        """X-RateLimit-* for the limit that is nearest; none where no limit applies."""
        verdict, limit = self.verdict, self.limit
        if verdict is None or limit is None:
            return []
        return [
            (b"x-ratelimit-limit", b"%d" % limit.per_minute),
            (b"x-ratelimit-remaining", b"%d" % (verdict.remaining if verdict.allowed else 0)),
            (b"x-ratelimit-reset", b"%d" % ceil(verdict.reset_s)),
        ]


class Door:
    def __init__(
        self,
        authenticator: Authenticator,
        limits: Limits,
        clock: Clock,
        *,
        trusted_proxies: Sequence[Network] = (),
        sessions: WidgetSessions | None = None,
    ) -> None:
        """`sessions`: whose visitors `Route.session` lets in; None = nobody's."""
        self._authenticator = authenticator
        self._sessions = sessions
        self._addresses = Limiter()
        self._per_address = limit_of(limits.per_address_rpm)
        self._credentials = Limiter()
        self._per_credential = limit_of(limits.per_credential_rpm)
        self._projects = Limiter()
        self._named_projects = Limiter()
        """By what strangers ask for: kept apart from what callers with a credential of the project have left."""
        self._own_projects = Limiter()
        """By what is asked for, of those who may."""
        self._per_project = limit_of(limits.per_project_rpm)
        self._clock = clock
        self._trusted = tuple(trusted_proxies)

    def admit_address(self, peer: str, headers: Mapping[str, str], passed: Passed, *, counted: bool = True) -> None:
        """Raises LimitReached. `counted`: that of the route."""
        limit = self._per_address
        if limit is None:
            return
        address = caller_address(peer, headers, self._trusted)
        if not counted:
            self._take_uncounted(self._addresses, address, limit, name="per_ip_rpm")
            return
        verdict = self._addresses.take(address, limit=limit, now_s=self._clock.monotonic())
        self._judge(verdict, limit, passed, name="per_ip_rpm")

    def admit_project(self, project: str, passed: Passed, principal: Principal | None = None) -> None:
        """Count a request that names a project, before it is understood. Strangers, who are all that have no credential
        of that project, share a budget of their own: whoever knows its id could use up the others' otherwise. Raises
        LimitReached."""
        limit = self._per_project
        if limit is None or not project:
            return
        key = project if len(project) <= PROJECT_KEY_CHARS_MAX else ""
        own = principal is not None and principal.project == project
        limiter = self._own_projects if own else self._named_projects
        verdict = limiter.take(key, limit=limit, now_s=self._clock.monotonic())
        self._judge(verdict, limit, passed, name="per_project_rpm")

    async def admit_principal(
        self,
        dialect: Dialect,
        route: Route[Any],
        headers: Mapping[str, str],
        passed: Passed,
        ticket: Ticket | None = None,
    ) -> Principal:
        """Who asks: by the credential in the headers, or, where there is none, by the ticket. Raises NotAuthenticated,
        NotAllowed."""
        if route.session:
            principal = await self._visitor(dialect, headers)
        else:
            principal = await self._who(dialect, headers, ticket)
        passed.principal = principal
        self.check_scopes(route, principal)
        return principal

    async def _who(self, dialect: Dialect, headers: Mapping[str, str], ticket: Ticket | None) -> Principal:
        try:
            text = dialect.credential(headers)
        except NotAuthenticated:
            if ticket is None:
                raise
            return await self._authenticator.prove_ticket(ticket.text, conversation=ticket.conversation)
        return self._authenticator.proven(text) or await self._authenticator.prove(text)

    async def _visitor(self, dialect: Dialect, headers: Mapping[str, str]) -> Principal:
        text = dialect.credential(headers)
        if self._sessions is None:
            raise NotAuthenticated(REFUSED)
        return await self._sessions.prove(text)

    def standing(self, dialect: Dialect, headers: Mapping[str, str], ticket: str) -> Standing:
        """What a request that was admitted proved who asks with, to be looked at again while its answer is read."""
        try:
            text = dialect.credential(headers)
        except NotAuthenticated:
            return self._authenticator.standing(ticket, ticket=True)
        return self._authenticator.standing(text)

    def check_scopes(self, route: Route[Any], principal: Principal) -> None:
        """Raises NotAllowed unless the principal has all that the route demands."""
        for scope in route.scopes:
            if not principal.may(scope):
                raise NotAllowed(f"This credential lacks the scope {scope}.")

    def count_principal(self, principal: Principal, passed: Passed, *, counted: bool = True) -> None:
        """Raises LimitReached. `counted`: that of the route."""
        limit = self._per_credential if principal.rpm is None else limit_of(principal.rpm)
        if not counted:
            if limit is not None:
                self._take_uncounted(self._credentials, principal.credential_id, limit, name="per_credential_rpm")
            return
        now_s = self._clock.monotonic()
        if limit is not None:
            verdict = self._credentials.take(principal.credential_id, limit=limit, now_s=now_s)
            self._judge(verdict, limit, passed, name="per_credential_rpm")
        if self._per_project is not None:
            verdict = self._projects.take(principal.project, limit=self._per_project, now_s=now_s)
            self._judge(verdict, self._per_project, passed, name="per_project_rpm")

    def _take_uncounted(self, limiter: Limiter, key: str, limit: Limit, *, name: str) -> None:
        """No header tells of it: nobody need plan by it."""
        wide = max(limit.per_minute * UNCOUNTED_TIMES, UNCOUNTED_RPM_MIN)
        verdict = limiter.take(f"uncounted {key}", limit=Limit(wide, wide), now_s=self._clock.monotonic())
        if not verdict.allowed:
            raise LimitReached("Rate limit exceeded", limit=name, retry_after_s=verdict.retry_after_s)

    def _judge(self, verdict: Verdict, limit: Limit, passed: Passed, *, name: str) -> None:
        if passed.verdict is None or not verdict.allowed or verdict.remaining < passed.verdict.remaining:
            passed.verdict, passed.limit = verdict, limit
        if not verdict.allowed:
            raise LimitReached("Rate limit exceeded", limit=name, retry_after_s=verdict.retry_after_s)
