"""A whole store as rows: the tables in which one engine hands over to another all that it keeps.

An engine's own tables may look otherwise; what these mean does not depend on it. A *place* is tape * 2^32 + seq. Times
of tapes, runs and keys are whole microseconds since the Unix epoch, those of projects, credentials, records and
knowledge are Unix seconds.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

Row = tuple[Any, ...]
"""The values of a table's columns, in their order: int, float, str, bool, bytes or None."""


class Table(Struct, frozen=True):
    """The first columns are the key: rows come in its order, texts by their bytes. What may be long is the last."""

    name: str
    columns: tuple[str, ...]
    key_columns: int = 1


TABLES = (
    Table("projects", ("id", "name", "created_at")),
    Table(
        "credentials",
        (
            *("id", "project", "name", "scopes", "hash", "pepper_id", "created_at", "expires_at", "rpm"),
            *("previous_hash", "previous_until", "last_used_at", "revoked_at", "subject"),
        ),
    ),
    # `head`: seq of the last entry. Of the run at work, if there is one: `written`, the seq of the last entry that its
    # owner wrote; `replied`, that of its first finished reply which still counts (0 = none); `spoke`: it has deltas.
    Table(
        "conversations",
        (
            *("tape", "project", "id", "owner", "shared", "archived", "title", "origin", "created_at", "updated_at"),
            *("messages", "turns", "head", "live_run", "written", "replied", "spoke"),
        ),
    ),
    # `run`: place of the run's first entry, on which alone its id stands; 0 and "" for the conversation's own.
    Table("entries", ("place", "run", "at", "weight", "run_id", "kind", "body")),
    Table("deltas", ("place", "run", "at", "body")),
    # `number` counts runs in order of acceptance; `ended`: place of the end, 0 = open; `asked`: seq of the last thing
    # that was asked of an open run; `spoke`: it has ended and has, or had, deltas; `pruned`: it had.
    Table(
        "runs",
        (
            *("place", "number", "id", "project", "status", "epoch", "users", "started_at", "ended", "ended_at"),
            *("asked", "spoke", "pruned", "fingerprint"),
        ),
    ),
    Table("keys", ("place", "project", "key", "fingerprint", "at", "answer")),
    Table(
        "records",
        (
            *("project", "kind", "id", "owner", "wide", "key", "version", "created_at", "updated_at", "created_by"),
            *("updated_by", "expires_at", "body"),
        ),
        key_columns=3,
    ),
    # `labels`: a JSON object of strings. The words by which they are found each engine makes itself.
    Table(
        "knowledge",
        ("project", "id", "title", "public", "role", "labels", "owner", "owner_name", "updated_at", "text"),
        key_columns=2,
    ),
)
"""In the order in which they are handed over. Leases are not among them: none outlives its store."""

_encoder = msgspec.msgpack.Encoder()


class Tally:
    """Rows that went by, and SHA-256 over all their values: equal if and only if the same rows came in the same order,
    however they were cut into pieces."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.sha256()

    def add(self, rows: Sequence[Row]) -> None:
        self.rows += len(rows)
        self._hash.update(b"".join(map(_encoder.encode, rows)))

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return self._hash.hexdigest()
