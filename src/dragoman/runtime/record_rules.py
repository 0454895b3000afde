"""What every store does alike with records: which texts it keeps, and what a write makes of what is there.

Pure. Engines differ in where the rows go, never in this.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from dragoman.core.errors import BadRequest, Conflict, FieldFault, NotFound
from dragoman.core.names import ProjectId
from dragoman.core.records import Record
from dragoman.runtime.keeping import check_keys

NAME_CHARS_MAX = 512
"""Of an id or a key: an index entry of PostgreSQL must hold it together with project and kind."""


def check_name(project: ProjectId, kind: str, **names: str) -> None:
    """Raises BadRequest on what no engine, or not every one, can look for."""
    check_keys(project=project, kind=kind, **names)
    for field, name in names.items():
        if len(name) > NAME_CHARS_MAX:
            message = f"has {len(name)} characters, {NAME_CHARS_MAX} at most"
            raise BadRequest(f"{field}: {message}", faults=(FieldFault(field, message),))


def check_record(record: Record) -> None:
    """Raises BadRequest on what not every engine can keep."""
    check_name(record.project, record.kind, id=record.id, key=record.key)
    check_keys(owner=record.owner, created_by=record.created_by, updated_by=record.updated_by, body=record.body)


def record_of(row: Sequence[Any]) -> Record:
    """A record from a row of its table, whose columns stand in the order of the fields here."""
    return Record(
        project=ProjectId(row[0]),
        kind=row[1],
        id=row[2],
        body=row[3],
        owner=row[4],
        wide=bool(row[5]),
        key=row[6],
        version=row[7],
        created_at=row[8],
        updated_at=row[9],
        created_by=row[10],
        updated_by=row[11],
        expires_at=row[12],
    )


def written(record: Record, over: Record | None, *, expect: int | None, key_taken: bool, now: float) -> Record:
    """What stands there once `record` was put over what stood there (None = nothing, or it had expired).

    `key_taken`: another record has its key. Raises Conflict and NotFound as `Records.put` says.
    """
    if over is None and expect:
        raise NotFound(f"There is no such {_noun(record.kind)} any more.", what=record.kind)
    if over is not None and expect == 0:
        raise Conflict(f"There is a {_noun(record.kind)} of that id already.")
    if over is not None and expect not in (None, over.version):
        raise _changed(record.kind)
    if key_taken:
        raise Conflict(f"There is another {_noun(record.kind)} of that name already.")
    if over is None:
        return replace(record, version=1, created_at=now, updated_at=now)
    return replace(
        record,
        version=over.version + 1,
        created_at=over.created_at,
        created_by=over.created_by,
        updated_at=now,
    )


def check_deletion(kind: str, version: int, expect: int | None) -> None:
    """Raises Conflict if what is there has another version than `expect`."""
    if expect is not None and version != expect:
        raise _changed(kind)


def is_live(expires_at: float | None, now: float) -> bool:
    return expires_at is None or expires_at > now


def _noun(kind: str) -> str:
    return kind.replace("_", " ")


def _changed(kind: str) -> Conflict:
    return Conflict(f"The {_noun(kind)} was changed by somebody else meanwhile; read it again, then change it.")
