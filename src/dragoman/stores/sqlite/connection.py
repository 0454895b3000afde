"""Connections to the file: how they are opened, and what their errors mean."""

import errno
import fcntl
import os
import sqlite3
import time
from pathlib import Path

from dragoman.core.errors import Unavailable

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for a lock that another process holds."""
BUSY_ATTEMPTS = 250
"""Tries within that time where SQLite does not wait by itself."""
STATEMENTS_CACHED = 512
"""Prepared statements kept by a connection: the writer has one for each number of rows."""
WRITER_CACHE_KIB = 16 * 1024
READER_CACHE_KIB = 2 * 1024
CHECKPOINT_PAGES = 1000
"""The log is copied into the file each time it has grown by so many pages of 4 KiB."""
LOG_KEPT_BYTES = 64 * 1024 * 1024
"""The log's file is cut to this size when a burst is over."""
FAILED = "storage_failed"
"""Code of an Unavailable for which neither room nor patience helps."""
LOG_CHUNK_BYTES = 1024 * 1024

_SQLITE_MIN = (3, 38, 0)  # strict tables, and JSON without having to be compiled in

_FULL = sqlite3.SQLITE_FULL
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SOUND = frozenset({_FULL, *_BUSY, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH})


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode, for one thread at a time. Raises Unavailable."""
    mode = "rwc" if create else "rw"
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS_CACHED,
        )
    except sqlite3.Error as error:
        raise storage_error(error, path) from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise storage_error(error, path) from error
    except Unavailable:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    check_build(connection)
    mode = _use_log(connection)
    if mode != "wal":
        raise Unavailable(
            "The store's file system cannot keep a write-ahead log; put the file on a local disk.",
            internal=f"{path}: journal_mode is {mode}",
        )
    # synchronous=full: a commit is on the disk when it returns; fullfsync is what that takes on macOS.
    for setting in ("synchronous=full", "fullfsync=on", "checkpoint_fullfsync=on", "temp_store=memory"):
        connection.execute(f"pragma {setting}")


def check_build(connection: sqlite3.Connection) -> None:
    """Raises Unavailable if this Python's SQLite is too old, or lacks what we need."""
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        raise Unavailable("The store needs SQLite 3.38 or newer.", internal=f"this Python has {sqlite3.sqlite_version}")
    if not connection.execute("select sqlite_compileoption_used('ENABLE_FTS5')").fetchone()[0]:
        raise Unavailable(
            "The store needs an SQLite with full-text search (FTS5); use another build of Python or of SQLite.",
            internal=f"SQLite {sqlite3.sqlite_version} of this Python was compiled without it",
        )


def _use_log(connection: sqlite3.Connection) -> str:
    """Keep a write-ahead log; the mode we are in then. While another connection does the same, or is the last to close,
    SQLite says busy at once and does not wait by itself."""
    set_mode = "pragma journal_mode=wal"
    for _ in range(BUSY_ATTEMPTS - 1):
        try:
            return connection.execute(set_mode).fetchone()[0]
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            time.sleep(BUSY_TIMEOUT_S / BUSY_ATTEMPTS)
    return connection.execute(set_mode).fetchone()[0]


def open_writer(path: Path) -> sqlite3.Connection:
    """The connection of the thread that writes tapes; what it sees is on the disk. Raises Unavailable, also when the
    file cannot be written."""
    connection = connect(path)
    try:
        connection.execute(f"pragma cache_size=-{WRITER_CACHE_KIB}")
        connection.execute(f"pragma wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute(f"pragma journal_size_limit={LOG_KEPT_BYTES}")
        _settle_log(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise storage_error(error, path) from error
    except Unavailable:
        connection.close()
        raise
    return connection


def log_path(path: Path) -> Path:
    """Where SQLite keeps the log: beside the file itself, if `path` is a link to it."""
    real = path.resolve()
    return real.with_name(real.name + "-wal")


def _settle_log(connection: sqlite3.Connection, path: Path) -> None:
    """Put everything that stands in the log on the disk, before anything is built on it or anybody is told of it.

    Whoever opens a log finds transactions in it that nobody synced: a process died in the middle of its commit, or the
    sync failed. After a failed sync the kernel takes pages for clean that the disk never got, and the next sync says
    that all is well (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020): what is
    committed behind them would be lost with them. So every byte is written once more, under the lock that keeps others
    from adding to the log, and then synced. Writing the same bytes in place harms nothing at whatever moment it breaks
    off.
    """
    connection.execute("begin immediate")
    try:
        _write_again(log_path(path))
    except FileNotFoundError:
        pass  # there is no log before the first write
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise _full(str(error)) if full else _failed(str(error)) from error
    finally:
        connection.execute("rollback")


def _write_again(log: Path) -> None:
    descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    try:
        at = 0
        while chunk := os.pread(descriptor, LOG_CHUNK_BYTES, at):
            at += os.pwrite(descriptor, chunk, at)
        if at:
            os.fsync(descriptor)
            if full_sync := getattr(fcntl, "F_FULLFSYNC", None):  # macOS: what `pragma fullfsync` does
                fcntl.fcntl(descriptor, full_sync)
    finally:
        os.close(descriptor)


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises Unavailable."""
    connection = connect(path)
    connection.execute(f"pragma cache_size=-{READER_CACHE_KIB}")
    connection.execute("pragma query_only=on")
    return connection


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; 0 if the error is Python's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    return primary_code(error) in _BUSY


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the connection must not be used again. After a failed fsync nobody knows what the kernel kept of it."""
    return not is_of_python(error) and primary_code(error) not in _SOUND


def is_of_python(error: sqlite3.Error) -> bool:
    """Whether Python's module raised it and not SQLite: a value that cannot be bound, a connection that is closed."""
    return primary_code(error) == 0


def storage_error(error: sqlite3.Error, path: Path) -> Unavailable:
    """The same in the words of the error tree."""
    internal = f"{path}: {getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
    if primary_code(error) == _FULL:
        return _full(internal)
    if is_busy(error):
        return Unavailable(
            "The server's store is locked by another program; nothing was kept. Try again in a moment.",
            code="storage_busy",
            internal=internal,
        )
    return _failed(internal)


def _full(internal: str) -> Unavailable:
    return Unavailable(
        "The server's disk is full; nothing was kept. Try again once there is room.",
        code="storage_full",
        internal=internal,
    )


def _failed(internal: str) -> Unavailable:
    return Unavailable(
        "The server's store does not work at the moment; its log says why. Try again later.",
        code=FAILED,
        internal=internal,
    )
