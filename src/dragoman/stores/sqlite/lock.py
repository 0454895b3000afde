"""Who writes the tapes: one process, by a lock on `<file>.lock`, which also says who it is and where it listens."""

import fcntl
import os
import time
from pathlib import Path

from msgspec import Struct

from dragoman.core.errors import Conflict, Unavailable

CONTENT_BYTES_MAX = 4096
ATTEMPTS = 10
"""Tries to take a lock that no living process seems to hold: somebody may just be looking who has it."""
BETWEEN_ATTEMPTS_S = 0.02


class Holder(Struct, frozen=True):
    """The process that holds the lock. `url` is "" until it listens."""

    pid: int
    url: str


def lock_path(path: Path) -> Path:
    """The same by whichever name of the file: a link to a store is that store."""
    real = path.resolve()
    return real.with_name(real.name + ".lock")


class TapeLock:
    """Held from `take` until `release`, or until the process dies in whatever way: the kernel frees it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> "TapeLock":
        """The lock for the store at `path`. Raises Conflict naming the process that has it; Unavailable."""
        descriptor = _open(path)
        try:
            _lock(descriptor)
        except BlockingIOError:
            holder = _read(descriptor)
            os.close(descriptor)
            raise Conflict(_sentence(path, holder)) from None
        except OSError as error:
            os.close(descriptor)
            raise _unusable(path, error) from error
        lock = cls(descriptor)
        lock.announce("")
        return lock

    def announce(self, url: str) -> None:
        """Write down where this process listens, for whoever finds the lock taken."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n{url}\n".encode(), 0)

    def release(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)  # the file stays: removing it would let two processes lock two files of that name


def holder_of(path: Path) -> Holder | None:
    """The process that writes the tapes of the store at `path`, None if nobody does. Raises Unavailable."""
    if not lock_path(path).exists():
        return None
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor)
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        os.close(descriptor)
    return None


def _open(path: Path) -> int:
    try:
        return os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError if another has it, OSError if it cannot be taken at all."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt == ATTEMPTS or _lives(_read(descriptor).pid):
                raise
            time.sleep(BETWEEN_ATTEMPTS_S)
        else:
            return


def _lives(pid: int) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it lives and is not ours to signal
    return True


def _read(descriptor: int) -> Holder:
    lines = os.pread(descriptor, CONTENT_BYTES_MAX, 0).decode("utf-8", "replace").splitlines()
    pid = int(lines[0]) if lines and lines[0].isdigit() else 0
    return Holder(pid, lines[1] if len(lines) > 1 else "")


def _sentence(path: Path, holder: Holder) -> str:
    who = f"process {holder.pid}" if holder.pid else "another process"
    where = f" (listening on {holder.url})" if holder.url else ""
    return f"The store {path} is in use by {who}{where}; stop it first, or use another --home."


def _unusable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"The store's lock file {lock_path(path)} cannot be used: {error.strerror}. Check its owner and the disk.",
        code="storage_failed",
        internal=str(error),
    )
