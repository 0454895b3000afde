import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dragoman.core.errors import Unavailable
from dragoman.stores.sqlite.connection import (
    LOG_CHUNK_BYTES,
    check_build,
    connect,
    is_broken,
    is_busy,
    is_of_python,
    log_path,
    open_reader,
    open_writer,
    storage_error,
)

ROOT = os.geteuid() == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    where = tmp_path / "a file #1?.db"
    connect(where, create=True).close()
    return where


@pytest.mark.parametrize("opener", [open_writer, open_reader])
def test_every_connection_syncs_and_waits_for_locks(path: Path, opener: Callable[[Path], sqlite3.Connection]):
    connection = opener(path)
    settings = ("journal_mode", "synchronous", "busy_timeout", "fullfsync")
    assert [connection.execute(f"pragma {setting}").fetchone()[0] for setting in settings] == ["wal", 2, 5000, 1]
    connection.close()


def test_a_reader_cannot_write(path: Path):
    connection = open_reader(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("create table x (y)")
    connection.close()


def test_a_file_that_another_is_just_setting_up_is_waited_for(tmp_path: Path):
    where = tmp_path / "x.db"
    other = sqlite3.connect(where, isolation_level=None, check_same_thread=False)
    other.execute("create table t (x)")
    other.execute("begin exclusive")
    freed = threading.Timer(0.03, other.execute, ("commit",))
    freed.start()
    connection = connect(where)
    freed.join(5)
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    connection.close()
    other.close()


def test_only_the_first_opening_makes_a_file(tmp_path: Path):
    with pytest.raises(Unavailable) as refused:
        connect(tmp_path / "nowhere.db")
    assert refused.value.code == "storage_failed"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(ROOT, reason="root may write any file")
def test_a_file_that_may_not_be_written_is_told(path: Path):
    path.chmod(0o400)
    with pytest.raises(Unavailable):
        open_writer(path)


def with_log(path: Path, rows: int) -> sqlite3.Connection:
    """What it wrote stands in the log only."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("pragma wal_autocheckpoint=0")
    other.execute("create table t (x)")
    other.executemany("insert into t values (zeroblob(3000) || ?)", [(row,) for row in range(rows)])
    return other


def test_what_stands_in_the_log_is_written_again_before_anything_is_built_on_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    other = with_log(path, 1000)
    before = log_path(path).read_bytes()
    link = path.with_name("link.db")
    link.symlink_to(path)
    connection = open_writer(link)
    assert synced == [log_path(path).stat().st_ino]
    assert log_path(path).read_bytes() == before
    assert len(before) > LOG_CHUNK_BYTES
    assert connection.execute("select count(*) from t").fetchone() == (1000,)
    connection.execute("insert into t values (1)")  # it left no lock behind
    other.execute("insert into t values (2)")
    connection.close()
    other.close()


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.EIO, "storage_failed"), (errno.ENOSPC, "storage_full"), (errno.EDQUOT, "storage_full")],
)
def test_a_log_that_cannot_be_synced_is_not_built_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
):
    def failing(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    other = with_log(path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(Unavailable) as refused:
            open_writer(path)
    assert refused.value.code == code
    other.execute("insert into t values (2)")
    other.close()


def with_code(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("it says")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_X"
    return error


@pytest.mark.parametrize(
    ("code", "expected", "broken", "busy"),
    [
        (sqlite3.SQLITE_FULL, "storage_full", False, False),
        (sqlite3.SQLITE_BUSY, "storage_busy", False, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "storage_busy", False, True),
        (sqlite3.SQLITE_LOCKED, "storage_busy", False, True),
        (sqlite3.SQLITE_IOERR, "storage_failed", True, False),
        (sqlite3.SQLITE_IOERR_FSYNC, "storage_failed", True, False),
        (sqlite3.SQLITE_CORRUPT, "storage_failed", True, False),
        (sqlite3.SQLITE_READONLY, "storage_failed", True, False),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, "storage_failed", False, False),
        (sqlite3.SQLITE_CONSTRAINT_TRIGGER, "storage_failed", False, False),
    ],
)
def test_an_error_of_sqlite_has_a_code_of_ours(path: Path, code: int, expected: str, broken: bool, busy: bool):
    error = with_code(code)
    told = storage_error(error, path)
    assert (told.code, is_broken(error), is_busy(error)) == (expected, broken, busy)
    assert told.internal == f"{path}: SQLITE_X: it says"
    assert "SQLITE" not in told.detail
    assert str(path) not in told.detail


def test_an_error_of_pythons_own_is_told_from_those_of_sqlite(path: Path):
    error = sqlite3.ProgrammingError("Cannot operate on a closed database.")
    assert (is_of_python(error), is_broken(error)) == (True, False)
    assert not is_of_python(with_code(sqlite3.SQLITE_IOERR))
    assert storage_error(error, path).internal.endswith("ProgrammingError: Cannot operate on a closed database.")


def test_an_sqlite_without_full_text_search_is_refused():
    with closing(sqlite3.connect(":memory:")) as connection:
        check_build(connection)
        connection.create_function("sqlite_compileoption_used", 1, lambda option: option != "ENABLE_FTS5")
        with pytest.raises(Unavailable, match=r"full-text search \(FTS5\)"):
            check_build(connection)
