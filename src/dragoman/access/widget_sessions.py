"""Sessions of the chat widget: who a visitor of a website is, for a day (rowboat spec 8.1).

    eyJ…   HS256, signed with a key that is derived from the pepper: {userId, userName, projectId, clientId, iat, exp}

A session is kept nowhere. It is good for the routes that ask for one and for no others: to `Authenticator` its text is
junk, as a credential's text is here. It ends after a day, and before that as soon as its project has another client id
or is gone.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from dragoman.access import jwt
from dragoman.access.pepper import Pepper
from dragoman.access.ports import AccessStore
from dragoman.core.errors import NotAuthenticated, NotFound
from dragoman.core.names import Clock, Principal, ProjectId, Scope
from dragoman.core.operations import Operation
from dragoman.core.widget import OpenGuestSession, OpenUserSession, WidgetSession, owner_of

SESSION_S = 24 * 3600.0
SCOPES = frozenset({Scope.CHAT_RUN})
USER_ID_CHARS_MAX = 128
USER_NAME_CHARS_MAX = 200
CLIENT_ID_CHARS_MAX = 64
PROJECT_KNOWN_S = 5.0
"""How long a project that was there is taken to be there still."""
PROJECTS_KNOWN_MAX = 4096

GUEST = "guest-"
GUEST_NAME = "Guest User"

REFUSED = "This session is none of this server's, has expired or was ended; open a new one."
NO_USER = f"userId must be a text of 1 to {USER_ID_CHARS_MAX} printable characters"

_PURPOSE = b"dragoman widget session 1\n"


class ProjectSecrets(Protocol):
    """What a project keeps for its websites."""

    @property
    def secret(self) -> str:
        """Signs what the project's own servers say of its users."""
        ...


class WidgetProjects(Protocol):
    """Which client id is whose. Both raise Unavailable."""

    async def project_of_client(self, client_id: str, /) -> ProjectId | None: ...

    async def of(self, project: ProjectId, /) -> ProjectSecrets: ...


class _Claims(Struct, frozen=True, rename="camel"):
    user_id: str
    user_name: str
    project_id: str
    client_id: str
    iat: int
    exp: int
    """Unix seconds."""


class WidgetSessions:
    def __init__(
        self,
        projects: WidgetProjects,
        store: AccessStore,
        pepper: Pepper,
        clock: Clock,
        *,
        new_guest: Callable[[], str],
    ) -> None:
        """`new_guest` gives a UUID."""
        self._projects = projects
        self._store = store
        self._key = pepper.digest(_PURPOSE).hex()
        self._clock = clock
        self._new_guest = new_guest
        self._known: dict[ProjectId, float] = {}

    def open_handlers(self) -> dict[type[Operation[Any]], Callable[[Any], Awaitable[object]]]:
        return {OpenGuestSession: self.open_guest, OpenUserSession: self.open_user}

    async def open_guest(self, operation: OpenGuestSession) -> WidgetSession:
        project = await self._project(operation.client_id)
        return self._session(project, operation.client_id, GUEST + self._new_guest(), GUEST_NAME)

    async def open_user(self, operation: OpenUserSession) -> WidgetSession:
        project = await self._project(operation.client_id)
        secret = (await self._projects.of(project)).secret
        said = jwt.verify(operation.user_jwt, secret, now=self._clock.now())
        user_id, name = said.get("userId"), said.get("userName")
        if not _is_printable(user_id, USER_ID_CHARS_MAX):
            raise NotAuthenticated(NO_USER)
        if name is None or name == "":
            name = user_id
        if not _is_printable(name, USER_NAME_CHARS_MAX):
            raise NotAuthenticated(f"userName must be a text of at most {USER_NAME_CHARS_MAX} printable characters")
        return self._session(project, operation.client_id, str(user_id), str(name))

    async def prove(self, text: str) -> Principal:
        """Who holds this session. Raises NotAuthenticated, always with the same words; Unavailable."""
        claims = self._claims(text)
        project = await self._projects.project_of_client(claims.client_id)
        if project is None or project != claims.project_id or not await self._exists(project):
            raise NotAuthenticated(REFUSED)
        # Of its own for each visitor: limits per minute and the keys of repeated requests go by it.
        name = f"{owner_of(claims.user_id)}@{project}"
        return Principal(project, name, claims.user_name, SCOPES, subject=owner_of(claims.user_id))

    def _claims(self, text: str) -> _Claims:
        """Of a session that was made here and is not over."""
        now = self._clock.now()
        try:
            claims = msgspec.convert(jwt.verify(text, self._key, now=now), _Claims)
        except (NotAuthenticated, msgspec.ValidationError):
            raise NotAuthenticated(REFUSED) from None
        if claims.exp <= now:  # the clock that set it is this one, or a replica's: no skew is to be forgiven
            raise NotAuthenticated(REFUSED)
        return claims

    def _session(self, project: ProjectId, client_id: str, user_id: str, user_name: str) -> WidgetSession:
        now = int(self._clock.now())
        claims = _Claims(user_id, user_name, project, client_id, now, now + int(SESSION_S))
        return WidgetSession(jwt.sign(msgspec.to_builtins(claims), self._key), float(claims.exp))

    async def _project(self, client_id: str) -> ProjectId:
        """Raises NotFound."""
        is_one = 1 <= len(client_id) <= CLIENT_ID_CHARS_MAX and client_id.isascii() and client_id.isprintable()
        project = await self._projects.project_of_client(client_id) if is_one else None
        if project is None or not await self._exists(project):
            raise NotFound("No project has this client id.", what="widget_client")
        return project

    async def _exists(self, project: ProjectId) -> bool:
        now = self._clock.monotonic()
        if self._known.get(project, 0.0) > now:
            return True
        if await self._store.project(project) is None:
            self._known.pop(project, None)
            return False
        if len(self._known) >= PROJECTS_KNOWN_MAX:
            self._known.clear()
        self._known[project] = now + PROJECT_KNOWN_S
        return True


def _is_printable(value: object, chars_max: int) -> bool:
    """A text that every store keeps and every page shows: no line ends, no NUL, no halves of characters."""
    return isinstance(value, str) and 1 <= len(value) <= chars_max and value.isprintable()
