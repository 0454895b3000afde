"""Records in the file. Written by the server and, beside it, by the command line."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from dragoman.core.names import Clock, ProjectId
from dragoman.core.records import Record, RecordPage
from dragoman.runtime.record_rules import check_deletion, check_name, check_record, record_of, written
from dragoman.stores.sqlite.queries import statement
from dragoman.stores.sqlite.reading import Readers
from dragoman.stores.sqlite.statements import Change, Statements


class SqliteRecords:
    """See `core.records.Records` for what each method promises."""

    def __init__(self, readers: Readers, change: Change, clock: Clock) -> None:
        self._readers = readers
        self._change = change
        self._clock = clock

    async def get(self, project: ProjectId, kind: str, record_id: str) -> Record | None:
        check_name(project, kind, id=record_id)
        return await self._read_one("record", project, kind, record_id, self._clock.now())

    async def find(self, project: ProjectId, kind: str, key: str) -> Record | None:
        check_name(project, kind, key=key)
        return await self._read_one("record_of_key", project, kind, key, self._clock.now())

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
        parameters = (project, kind, self._clock.now(), owner, wide, limit or -1, offset)
        rows = await self._readers.do(lambda connection: _rows(connection, "records_page", parameters))
        return RecordPage(tuple(record_of(row[1:]) for row in rows if row[1] is not None), rows[0][0])

    async def put(self, record: Record, *, expect: int | None) -> Record:
        check_record(record)
        now = self._clock.now()
        return await self._change(lambda statements: _put(statements, record, expect, now))

    async def delete(self, project: ProjectId, kind: str, record_id: str, *, expect: int | None = None) -> bool:
        check_name(project, kind, id=record_id)
        now = self._clock.now()
        return await self._change(lambda statements: _delete(statements, project, kind, record_id, expect, now))

    async def forget_expired(self) -> int:
        now = self._clock.now()
        return await self._change(lambda statements: statements.change("forget_expired_records", now))

    async def _read_one(self, name: str, *parameters: Any) -> Record | None:
        rows = await self._readers.do(lambda connection: _rows(connection, name, parameters))
        return record_of(rows[0]) if rows else None


def _put(statements: Statements, record: Record, expect: int | None, now: float) -> Record:
    # First a change, which takes the write lock: what is looked up behind it stays as it is until the commit.
    statements.change("forget_expired_record", record.project, record.kind, record.id, record.key, now)
    over = statements.look_up_all("record", record.project, record.kind, record.id, now)
    holders = statements.look_up_all("record_of_key", record.project, record.kind, record.key, now)
    key_taken = bool(holders) and record_of(holders[0]).id != record.id
    new = written(record, record_of(over[0]) if over else None, expect=expect, key_taken=key_taken, now=now)
    statements.change(
        "put_record",
        *(new.project, new.kind, new.id, new.body, new.owner, new.wide, new.key, new.version),
        *(new.created_at, new.updated_at, new.created_by, new.updated_by, new.expires_at),
    )
    return new


def _delete(
    statements: Statements, project: ProjectId, kind: str, record_id: str, expect: int | None, now: float
) -> bool:
    statements.change("forget_expired_record", project, kind, record_id, "", now)
    found = statements.look_up_all("record", project, kind, record_id, now)
    if not found:
        return False
    check_deletion(kind, record_of(found[0]).version, expect)
    statements.change("delete_record", project, kind, record_id)
    return True


def _rows(connection: sqlite3.Connection, name: str, parameters: Sequence[Any]) -> list[Sequence[Any]]:
    return connection.execute(*statement(name, parameters)).fetchall()
