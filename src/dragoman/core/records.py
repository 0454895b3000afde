"""Records: small named documents that a project keeps besides its conversations, each with its own version.

Rules, skills, service accounts, login codes and their like are records of one kind each; what a kind's body means is
known to the one module that owns the kind.
"""

from typing import Protocol

from msgspec import Struct

from dragoman.core.names import ProjectId


class Record(Struct, frozen=True):
    """One document. Times are Unix seconds.

    `owner` is a `Principal.owner`; `wide` = it belongs to the whole project and `owner` only made it. `key` is unique
    among the records of its project and kind, "" = it has none. `body` is JSON. `version` counts writes from 1.
    `expires_at`: from then on it is as if it were not there.
    """

    project: ProjectId
    """"" for what belongs to no project yet, such as a login code."""
    kind: str
    id: str
    body: str
    owner: str = ""
    wide: bool = False
    key: str = ""
    version: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    created_by: str = ""
    updated_by: str = ""
    expires_at: float | None = None


class RecordPage(Struct, frozen=True):
    items: tuple[Record, ...]
    total: int


class Records(Protocol):
    """Durable like the tapes; may be written by several processes at once. Every call is one transaction.

    Raises Unavailable; BadRequest for texts that not every engine can keep (NUL, lone surrogates).
    """

    async def get(self, project: ProjectId, kind: str, record_id: str) -> Record | None: ...

    async def find(self, project: ProjectId, kind: str, key: str) -> Record | None:
        """The record of that key."""
        ...

    async def page(
        self,
        project: ProjectId,
        kind: str,
        *,
        owner: str | None = None,
        wide: bool | None = None,
        limit: int,
        offset: int,
    ) -> RecordPage:
        """Oldest first, then by id. `owner` not None: only that owner's and wide ones. `wide` not None: only those that
        are, or are not. `limit` 0 = all."""
        ...

    async def put(self, record: Record, *, expect: int | None) -> Record:
        """Write `body`, `owner`, `wide`, `key`, `updated_by`, `expires_at`; the record as it stands now.

        `expect`: the version it must have, 0 = it must not exist; None = whichever. A new one takes over `created_by`,
        and its times are the store's. Raises Conflict if it has another version, exists or its key is taken, NotFound
        if `expect` > 0 and it is gone.
        """
        ...

    async def delete(self, project: ProjectId, kind: str, record_id: str, *, expect: int | None = None) -> bool:
        """False if it is not there. Raises Conflict if it has another version than `expect`."""
        ...

    async def forget_expired(self) -> int:
        """Delete what has expired; how many."""
        ...
