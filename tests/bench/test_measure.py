import os
import py_compile
import socket
import time
from importlib import metadata
from pathlib import Path

import pytest

from bench import measure


def test_the_process_clock_agrees_with_what_proc_counts() -> None:
    pid = os.getpid()
    spent = measure.cpu(pid)
    assert spent.total_s == pytest.approx(time.process_time(), abs=0.1)
    assert measure.cpu_ticks_s(pid) == pytest.approx(spent.total_s, abs=0.1)
    assert 0 <= spent.kernel_s <= spent.total_s


def test_cpu_time_is_a_difference() -> None:
    assert measure.Cpu(5.0, 2.0).since(measure.Cpu(3.0, 1.5)) == measure.Cpu(2.0, 0.5)


def test_work_is_seen_on_the_process_and_on_the_machine() -> None:
    before, machine_before = measure.cpu(os.getpid()), measure.busy_s()
    ends = time.process_time() + 0.05
    while time.process_time() < ends:
        pass
    assert 0.05 <= measure.cpu(os.getpid()).since(before).total_s < 1.0
    assert measure.busy_s() - machine_before >= 0.03


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert measure.rss_mib(os.getpid()) > 5
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError, match=f"process {child} has no memory"):
        measure.rss_mib(child)
    os.waitpid(child, 0)


def test_the_listener_of_a_port_is_found_and_nobody_on_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert measure.listener_pid(port) == os.getpid()
    assert measure.listener_pid(port) is None


def test_file_systems_have_names() -> None:
    assert measure.file_system(Path("/proc/self")) == "proc"


def test_a_lock_file_names_its_distributions_once_each(tmp_path: Path) -> None:
    lock = tmp_path / "core.txt"
    lock.write_text(
        "# made by a tool\n--index-url x\naiohttp==3.1 \\\n    --hash=sha256:00\n    # via dragoman\n"
        "uvloop==0.2 ; sys_platform != 'win32' \\\n    --hash=sha256:00\n"
        "winloop==0.2 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n"
        "typing-extensions==4 ; python_full_version < '3.15' \\\n    --hash=sha256:00\n"
    )
    assert measure.locked_names(lock) == ["aiohttp", "uvloop", "typing-extensions"]


def test_the_installed_size_counts_every_recorded_file_once_and_names_what_is_missing(tmp_path: Path) -> None:
    package = tmp_path / "ours"
    package.mkdir()
    code = package / "code.py"
    code.write_bytes(b"x" * 100)
    lock = tmp_path / "core.txt"
    lock.write_text("msgspec==0\nno-such-distribution-here==1\n")
    found = measure.installed(lock, package)
    bytecode = Path(py_compile.compile(str(code), doraise=True) or "")
    assert measure.installed(lock, package) == found  # whether it happens to lie there or not
    folder = Path(str(metadata.distribution("msgspec").locate_file("msgspec")))
    at_least = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert found.missing == ("no-such-distribution-here",)
    assert set(found.sizes) == {"ours", "msgspec"}
    assert found.sizes["ours"] == 100 + bytecode.stat().st_size
    assert at_least <= found.sizes["msgspec"] < at_least + 100_000
    assert found.megabytes == sum(found.sizes.values()) / 1e6


def test_a_machine_describes_itself(tmp_path: Path) -> None:
    described = measure.machine(tmp_path)
    assert described.cores == len(os.sched_getaffinity(0))
    assert str(tmp_path) in described.scratch
    assert set(described.versions) >= {"dragoman", "uvicorn", "aiohttp"}
