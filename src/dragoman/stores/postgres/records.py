"""Records in the database. Written by any number of servers and by the command line."""

from typing import Any

from dragoman.core.names import Clock, ProjectId
from dragoman.core.records import Record, RecordPage
from dragoman.runtime.record_rules import check_deletion, check_name, check_record, record_of, written
from dragoman.stores.postgres.connection import Connection, Pool, in_transaction, rows_changed
from dragoman.stores.postgres.queries import QUERIES


class PostgresRecords:
    """See `core.records.Records` for what each method promises."""

    def __init__(self, pool: Pool, clock: Clock | None) -> None:
        """`clock`: None = the database's."""
        self._pool = pool
        self._clock = clock

    @property
    def _now(self) -> float | None:
        return None if self._clock is None else float(self._clock.now())

    async def get(self, project: ProjectId, kind: str, record_id: str) -> Record | None:
        check_name(project, kind, id=record_id)
        return await self._read_one("record", project, kind, record_id, self._now)

    async def find(self, project: ProjectId, kind: str, key: str) -> Record | None:
        check_name(project, kind, key=key)
        return await self._read_one("record_of_key", project, kind, key, self._now)

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
        args = (project, kind, self._now, owner, wide, limit or None, offset)
        rows = await self._pool.do(lambda connection: connection.fetch(QUERIES["records_page"], *args))
        return RecordPage(tuple(record_of(row[1:]) for row in map(tuple, rows) if row[1] is not None), rows[0][0])

    async def put(self, record: Record, *, expect: int | None) -> Record:
        check_record(record)

        async def work(connection: Connection) -> Record:
            name = (record.project, record.kind, record.id)
            now = await self._lock(connection, record.project, record.kind)
            await connection.execute(QUERIES["forget_expired_record"], *name, record.key, now)
            over = await connection.fetchrow(QUERIES["record"], *name, now)
            holder = await connection.fetchrow(QUERIES["record_of_key"], record.project, record.kind, record.key, now)
            key_taken = holder is not None and record_of(holder).id != record.id
            found = None if over is None else record_of(over)
            new = written(record, found, expect=expect, key_taken=key_taken, now=now)
            await connection.execute(
                QUERIES["put_record"],
                *(new.project, new.kind, new.id, new.body, new.owner, new.wide, new.key, new.version),
                *(new.created_at, new.updated_at, new.created_by, new.updated_by, new.expires_at),
            )
            return new

        return await self._pool.do(lambda connection: in_transaction(connection, work), again=False)

    async def delete(self, project: ProjectId, kind: str, record_id: str, *, expect: int | None = None) -> bool:
        check_name(project, kind, id=record_id)

        async def work(connection: Connection) -> bool:
            now = await self._lock(connection, project, kind)
            found = await connection.fetchrow(QUERIES["record"], project, kind, record_id, now)
            if found is None:
                return False
            check_deletion(kind, record_of(found).version, expect)
            await connection.execute(QUERIES["delete_record"], project, kind, record_id)
            return True

        return await self._pool.do(lambda connection: in_transaction(connection, work), again=False)

    async def forget_expired(self) -> int:
        now = self._now
        status = await self._pool.do(lambda connection: connection.execute(QUERIES["forget_expired_records"], now))
        return rows_changed(status)

    async def delete_all(self, project: ProjectId) -> None:
        await self._pool.do(lambda connection: connection.execute(QUERIES["delete_records"], project))

    async def _lock(self, connection: Connection, project: ProjectId, kind: str) -> float:
        """Keep everybody else from writing records of this kind until the commit. What time it is then."""
        return (await connection.fetchrow(QUERIES["lock_records"], project, kind, self._now))[1]

    async def _read_one(self, name: str, *args: Any) -> Record | None:
        row = await self._pool.do(lambda connection: connection.fetchrow(QUERIES[name], *args))
        return None if row is None else record_of(row)
