"""The history of a trial: what clients asked and what they were told, with times, as JSON lines (Jepsen's way).

`invoke` begins an operation; `ok`: it was acknowledged; `fail`: it certainly did not happen; `info`: nobody knows (the
connection broke, the server said 503), so that both must be right. `heard` holds bytes of an answer as they came.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

Kind = Literal["invoke", "ok", "fail", "info", "heard", "note"]


class Record(Struct, frozen=True, omit_defaults=True, gc=False):
    at: float
    """Unix seconds."""
    kind: Kind
    op: str
    """append, follow, cancel, approve, answer, rename, peek (at another project's run), start, kill, freeze, …"""
    id: int = 0
    """The operation's number; all tries of one append share its token, not this."""
    who: str = ""
    project: str = ""
    conversation: str = ""
    token: str = ""
    key: str = ""
    """Of an append its Idempotency-Key; of an approve and an answer the call's id."""
    mode: str = ""
    """Of an append: blocking, streaming, elastic, rowboat, rowboat-stream, or held: it brings a tool of its own, and
    does not wait."""
    run: str = ""
    reader: str = ""
    """Of a follow: all connections of one reader have one name."""
    after: int = 0
    """Of a follow: the cursor it connects with."""
    status: int = 0
    text: str = ""
    """What was sent (invoke), the bytes heard as Latin-1 (heard), what went wrong (fail, info)."""


class History:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self._operations = 0

    def invoke(self, op: str, **fields: object) -> int:
        """Begin an operation; its number."""
        self._operations += 1
        self._add("invoke", op, self._operations, fields)
        return self._operations

    def add(self, kind: Kind, op: str, operation: int = 0, **fields: object) -> None:
        self._add(kind, op, operation, fields)

    def _add(self, kind: Kind, op: str, operation: int, fields: dict[str, object]) -> None:
        self.records.append(Record(time.time(), kind, op, operation, **fields))

    def write(self, path: Path) -> None:
        write_lines(path, self.records)


def write_lines(path: Path, lines: Iterable[Struct]) -> None:
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        file.writelines(encode(line) + b"\n" for line in lines)
