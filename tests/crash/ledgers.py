"""Ledgers of the outside world: what really happened there, one JSON line each. They are the judge of duplicates."""

import os
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

L = TypeVar("L", bound=Struct)


class Effect(Struct, frozen=True, omit_defaults=True):
    """A tool did something. `at`: Unix seconds, when the request for it arrived."""

    at: float
    tool: str
    key: str
    """The `Idempotency-Key` it came with: `run:call`."""
    token: str
    args_hash: str

    @property
    def run(self) -> str:
        return self.key.partition(":")[0]

    @property
    def call_id(self) -> str:
        return self.key.partition(":")[2]


class Bill(Struct, frozen=True, omit_defaults=True):
    """One request to the model's server. Tokens are what it would charge for if the answer was sent whole."""

    number: int
    token: str
    reply: int
    asked: int
    """How many times this reply was asked for by then, this one included."""
    opened_at: float
    closed_at: float
    """When the answer was whole, or the socket ended before that."""
    bytes_sent: int
    whole: bool
    """All of it was sent."""
    fault: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    turns: tuple[str, ...] = ()
    """Tokens of the turns in the prompt, oldest first."""


class Ledger(Generic[L]):
    """Lines in memory and in a file, each synced before `add` returns."""

    def __init__(self, path: Path, *, synced: bool = True) -> None:
        self.lines: list[L] = []
        self._synced = synced
        self._file = path.open("ab", buffering=0)

    def add(self, line: L) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
        if self._synced:
            os.fdatasync(self._file.fileno())
        self.lines.append(line)

    def close(self) -> None:
        self._file.close()
