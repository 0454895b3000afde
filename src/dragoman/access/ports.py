"""What access needs kept: projects and credentials. Adapters live in `stores.*`."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from dragoman.core.names import ProjectId, Scope


class Project(Struct, frozen=True):
    id: ProjectId
    name: str
    created_at: float


class Credential(Struct, frozen=True):
    """A kept credential: never its text, only HMAC-SHA256(pepper, text). Times are Unix seconds.

    `id` is the public part (`kid`). During a rotation's overlap the old text stays good until `previous_until`.
    """

    id: str
    project: ProjectId
    name: str
    scopes: tuple[Scope, ...]
    hash: bytes
    pepper_id: str
    created_at: float
    expires_at: float | None = None
    rpm: int | None = None
    previous_hash: bytes | None = None
    previous_until: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None
    subject: str = ""
    """Who this credential stands for, where one person or service has several; "" = nobody but itself."""


class AccessStore(Protocol):
    """Durable like the tapes; may be written by several processes at once (a server and the command line)."""

    async def project(self, project: ProjectId) -> Project | None: ...

    async def projects(self) -> Sequence[Project]: ...

    async def put_project(self, project: Project) -> None:
        """Raises Conflict if the id is taken."""
        ...

    async def delete_project(self, project: ProjectId) -> bool:
        """With everything it owns: conversations, tapes, runs, credentials. False if absent."""
        ...

    async def credential(self, credential_id: str) -> Credential | None: ...

    async def credentials(self, project: ProjectId | None) -> Sequence[Credential]:
        """Oldest first; of every project if None."""
        ...

    async def put_credential(self, credential: Credential) -> None:
        """Insert or replace by id. Raises NotFound("project") if its project does not exist."""
        ...

    async def touch_credential(self, credential_id: str, *, at: float) -> None:
        """Set `last_used_at`."""
        ...
