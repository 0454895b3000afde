"""Records in memory. Synchronous inside: between two awaits of a caller a method has happened wholly or not at all."""

from dragoman.core.errors import Unavailable
from dragoman.core.names import Clock, ProjectId
from dragoman.core.records import Record, RecordPage
from dragoman.runtime.record_rules import check_deletion, check_name, check_record, is_live, written

_Name = tuple[ProjectId, str, str]
"""Project, kind, and id or key."""


class MemoryRecords:
    """See `core.records.Records` for what each method promises, but for durability."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[_Name, Record] | None = {}
        self._by_key: dict[_Name, str] = {}
        """Ids."""

    @property
    def _kept(self) -> dict[_Name, Record]:
        if self._open is None:
            raise Unavailable("The store is closed.")
        return self._open

    def close(self) -> None:
        """Everything is gone."""
        self._open = None
        self._by_key = {}

    def drop_project(self, project: ProjectId) -> None:
        for record in [record for record in self._kept.values() if record.project == project]:
            self._drop(record)

    async def get(self, project: ProjectId, kind: str, record_id: str) -> Record | None:
        check_name(project, kind, id=record_id)
        return self._live(project, kind, record_id)

    async def find(self, project: ProjectId, kind: str, key: str) -> Record | None:
        check_name(project, kind, key=key)
        record_id = self._by_key.get((project, kind, key))
        return None if record_id is None else self._live(project, kind, record_id)

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
        check_name(project, kind, owner=owner or "")
        now = self._clock.now()
        found = [
            record
            for record in self._kept.values()
            if (record.project, record.kind) == (project, kind)
            and (owner is None or record.wide or record.owner == owner)
            and wide in (None, record.wide)
            and is_live(record.expires_at, now)
        ]
        found.sort(key=lambda record: (record.created_at, record.id))
        return RecordPage(tuple(found[offset : offset + limit if limit else None]), len(found))

    async def put(self, record: Record, *, expect: int | None) -> Record:
        check_record(record)
        over = self._live(record.project, record.kind, record.id)
        key_taken = False
        if record.key:
            holder = self._by_key.get((record.project, record.kind, record.key), record.id)
            key_taken = holder != record.id and self._live(record.project, record.kind, holder) is not None
        new = written(record, over, expect=expect, key_taken=key_taken, now=self._clock.now())
        if over is not None:
            self._drop(over)
        self._kept[new.project, new.kind, new.id] = new
        if new.key:
            self._by_key[new.project, new.kind, new.key] = new.id
        return new

    async def delete(self, project: ProjectId, kind: str, record_id: str, *, expect: int | None = None) -> bool:
        check_name(project, kind, id=record_id)
        record = self._live(project, kind, record_id)
        if record is None:
            return False
        check_deletion(kind, record.version, expect)
        self._drop(record)
        return True

    async def forget_expired(self) -> int:
        now = self._clock.now()
        expired = [record for record in self._kept.values() if not is_live(record.expires_at, now)]
        for record in expired:
            self._drop(record)
        return len(expired)

    def _live(self, project: ProjectId, kind: str, record_id: str) -> Record | None:
        """The record of that id; one that has expired is dropped."""
        record = self._kept.get((project, kind, record_id))
        if record is None or is_live(record.expires_at, self._clock.now()):
            return record
        self._drop(record)
        return None

    def _drop(self, record: Record) -> None:
        del self._kept[record.project, record.kind, record.id]
        if record.key:
            del self._by_key[record.project, record.kind, record.key]
