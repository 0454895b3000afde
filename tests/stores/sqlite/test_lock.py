import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dragoman.core.errors import Conflict, Unavailable
from dragoman.stores.sqlite.lock import BETWEEN_ATTEMPTS_S, Holder, TapeLock, holder_of, lock_path

HOLD = """
import sys
import threading
from pathlib import Path
from dragoman.stores.sqlite.lock import TapeLock
lock = TapeLock.take(Path(sys.argv[1]))
lock.announce("http://127.0.0.1:9")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


def test_nobody_holds_a_lock_that_was_never_taken(path: Path):
    assert holder_of(path) is None
    assert not lock_path(path).exists()


def test_one_holds_it_until_it_is_released(path: Path):
    lock = TapeLock.take(path)
    assert holder_of(path) == Holder(os.getpid(), "")
    with pytest.raises(Conflict, match=f"in use by process {os.getpid()};"):
        TapeLock.take(path)
    lock.release()
    assert holder_of(path) is None
    TapeLock.take(path).release()


def test_a_link_to_a_store_has_its_lock(path: Path):
    path.touch()
    link = path.with_name("link.db")
    link.symlink_to(path)
    lock = TapeLock.take(link)
    assert holder_of(path) == Holder(os.getpid(), "")
    with pytest.raises(Conflict, match="in use"):
        TapeLock.take(path)
    lock.release()


def test_an_announced_url_replaces_the_one_before(path: Path):
    lock = TapeLock.take(path)
    lock.announce("http://127.0.0.1:8080/a-long-way-down")
    lock.announce("http://[::1]:1")
    assert holder_of(path) == Holder(os.getpid(), "http://[::1]:1")
    lock.release()


def test_another_process_is_named_and_its_death_frees_the_lock(path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert holder_of(path) == Holder(process.pid, "http://127.0.0.1:9")
    with pytest.raises(Conflict, match=rf"process {process.pid} \(listening on http://127\.0\.0\.1:9\)"):
        TapeLock.take(path)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=5)
    assert holder_of(path) is None
    TapeLock.take(path).release()


def test_a_lock_whose_text_cannot_be_read_is_still_taken(path: Path):
    lock = TapeLock.take(path)
    lock_path(path).write_bytes(b"\xff\xfe nonsense")
    assert holder_of(path) == Holder(0, "")
    with pytest.raises(Conflict, match="in use by another process;"):
        TapeLock.take(path)
    lock.release()


def test_a_lock_file_that_cannot_be_opened_is_told(path: Path):
    lock_path(path).mkdir()
    for attempt in (TapeLock.take, holder_of):
        with pytest.raises(Unavailable, match=r"lock file .*x\.db\.lock cannot be used: Is a directory"):
            attempt(path)


def test_whoever_looks_at_the_lock_does_not_keep_another_from_taking_it(path: Path):
    TapeLock.take(path).release()
    lock_path(path).write_text("999999999\nhttp://of-a-dead-process\n")
    looking = os.open(lock_path(path), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    looked = threading.Timer(BETWEEN_ATTEMPTS_S, os.close, (looking,))
    looked.start()
    TapeLock.take(path).release()
    looked.join(5)
