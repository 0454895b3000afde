"""What a power cut would have left on the disk, at any point of a journal that the shim kept.

The model is that of Linux file systems which keep a page in memory after a failed sync and take it for clean: a write
makes pages dirty, a sync that succeeds puts the dirty ones on the disk, one that fails puts none there and forgets that
they were dirty. Of pages that are dirty when the power goes, any may have got there by itself.
"""

import random
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

PAGE_BYTES = 4096

_RECORD = struct.Struct("<cc6xqq")
_ENDINGS = {"d": "", "w": "-wal"}


class Record(Struct, frozen=True):
    """`end` is the journal's position behind it."""

    end: int
    kind: str
    file: str
    at: int
    body: bytes


def records(journal: bytes, began_at: Sequence[int]) -> Iterator[Record]:
    """`began_at`: where each process began. Half a record before that is something that a killed one did not do."""
    for at, until in pairwise((*began_at, len(journal))):
        while at + _RECORD.size <= until:
            kind, file, where, size = _RECORD.unpack_from(journal, at)
            at += _RECORD.size + size
            if at <= until:
                yield Record(at, kind.decode(), file.decode(), where, journal[at - size : at])


class _File:
    """What programs see, what the disk has, and the pages that are still to go there."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.disk = bytearray()
        self.dirty: set[int] = set()
        self.lost: set[int] = set()
        """Taken for clean, and not on the disk."""

    def write(self, at: int, body: bytes) -> None:
        end = at + len(body)
        self.seen.extend(bytes(max(end - len(self.seen), 0)))
        self.seen[at:end] = body
        self.dirty.update(range(at // PAGE_BYTES, (end - 1) // PAGE_BYTES + 1))

    def truncate(self, size: int) -> None:
        del self.seen[size:]
        self.seen.extend(bytes(max(size - len(self.seen), 0)))

    def sync(self) -> None:
        for page in self.dirty:
            _put(self.disk, self.seen, page)
        self.lost -= self.dirty
        self.dirty.clear()
        del self.disk[len(self.seen) :]

    def lose(self) -> None:
        self.lost |= self.dirty
        self.dirty.clear()

    def left(self, rng: random.Random) -> bytes:
        disk = bytearray(self.disk)
        for page in sorted(self.dirty):
            if rng.random() < 0.5:
                _put(disk, self.seen, page)
        return bytes(disk)


def _put(disk: bytearray, seen: bytearray, page: int) -> None:
    at, end = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, len(seen))
    if at < end:
        disk.extend(bytes(max(end - len(disk), 0)))
        disk[at:end] = seen[at:end]


class Disk:
    """Fed with the journal's records, in order."""

    def __init__(self) -> None:
        self._files = {"d": _File(), "w": _File()}

    def add(self, record: Record) -> None:
        file = self._files[record.file]
        match record.kind:
            case "W":
                file.write(record.at, record.body)
            case "T":
                file.truncate(record.at)
            case "S":
                file.sync()
            case "F":
                file.lose()
            case "U":
                self._files[record.file] = _File()
            case kind:
                raise ValueError(f"there is no record of kind {kind!r}")

    @property
    def lost(self) -> int:
        """Pages that programs see and the disk will never get."""
        return sum(len(file.lost) for file in self._files.values())

    def left(self, rng: random.Random) -> dict[str, bytes]:
        """The content of each file after a power cut now."""
        return {name: file.left(rng) for name, file in self._files.items()}

    def write(self, folder: Path, rng: random.Random) -> Path:
        """The store as it is found after a power cut now."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.left(rng).items():
            (folder / f"cut.db{_ENDINGS[name]}").write_bytes(content)
        (folder / "cut.db-shm").unlink(missing_ok=True)
        return folder / "cut.db"


def integrity(database: Path) -> str:
    """What SQLite says of a store: "ok", or what is wrong."""
    try:
        with closing(sqlite3.connect(database)) as connection:
            return "; ".join(str(row[0]) for row in connection.execute("pragma integrity_check"))
    except sqlite3.DatabaseError as error:
        return str(error)


def user_messages(database: Path) -> list[str]:
    """The texts of all turns that were received, in order of tape and place."""
    query = (
        "select json_extract(body, '$.messages[0].parts[0].text') from entries"
        " where kind = 'turn_received' order by place"
    )
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute(query)]
