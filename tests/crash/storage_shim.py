"""Faults of the disk and the clock for a real server: a small library, compiled here and preloaded into its process.

`Shim` is the test's end of it: it says at any time how often syncs fail and how far the clock is off, and keeps the
journal of what was written.
"""

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("storage_shim.c")
COMPILE_S = 30.0
ALWAYS = 1.0
NEVER = 0.0

PROCESSES_MAX = 256

_CONTROL = struct.Struct(f"<IIQQQQqQ{PROCESSES_MAX}Q")
_SHARE = struct.Struct("<I")
_SECONDS = struct.Struct("<q")
_SECONDS_AT = 40
_MILLION = 1_000_000


def why_no_shim() -> str:
    """ "" if it can be compiled and preloaded here, else why not."""
    if os.uname().sysname != "Linux":
        return "faults of the disk are preloaded, which is done on Linux only"
    return "" if shutil.which("gcc") else "there is no gcc to compile the faults of the disk"


def compiled(folder: Path) -> Path:
    library = folder / "storage_shim.so"
    command = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True, timeout=COMPILE_S)
    return library


class Shim:
    """For the store `database` and its log; every process that is started with `env` obeys it."""

    def __init__(self, library: Path, folder: Path, database: Path, *, seed: int = 1) -> None:
        control = folder / "control"
        self.journal = folder / "journal"
        self.journal.touch()
        control.write_bytes(_CONTROL.pack(0, 0, seed * 0x9E3779B97F4A7C15 % 2**64 or 1, *[0] * (5 + PROCESSES_MAX)))
        with control.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _CONTROL.size)
        self.env = {
            "LD_PRELOAD": str(library),
            "STORAGE_FILES": str(database.resolve()),
            "STORAGE_CONTROL": str(control),
            "STORAGE_JOURNAL": str(self.journal),
        }

    def fail_syncs(self, share: float) -> None:
        """From now on, this share of all syncs fails with EIO, and what was to be synced never gets to the disk."""
        _SHARE.pack_into(self._memory, 0, round(share * _MILLION))

    def fail_writes(self, code: int) -> None:
        """From now on every write fails with this errno; 0 = none does."""
        _SHARE.pack_into(self._memory, 4, code)

    def set_clock(self, ahead_s: int) -> None:
        """From now on the wall clock is so far ahead of the true time, or behind."""
        _SECONDS.pack_into(self._memory, _SECONDS_AT, ahead_s)

    @property
    def synced(self) -> int:
        return _CONTROL.unpack_from(self._memory)[3]

    @property
    def failed(self) -> int:
        """Syncs that did not take place."""
        return _CONTROL.unpack_from(self._memory)[4]

    @property
    def refused(self) -> int:
        """Writes that did not take place."""
        return _CONTROL.unpack_from(self._memory)[5]

    @property
    def began_at(self) -> list[int]:
        """Where in the journal each process began."""
        fields = _CONTROL.unpack_from(self._memory)
        return list(fields[8 : 8 + fields[7]])

    @property
    def position(self) -> int:
        """How far the journal has come. What was acknowledged by now was synced before this."""
        return self.journal.stat().st_size
