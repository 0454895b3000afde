"""What the kernel knows of a process and of this machine: CPU time, memory, who listens where; Linux only."""

import os
import platform
import py_compile
import tempfile
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from msgspec import Struct

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CPUCLOCK_SCHED = 2
"""Kernel, posix-timers: the clock of a whole process is (~pid << 3) | 2."""


class Cpu(Struct, frozen=True):
    """CPU seconds of a process, all its threads, ended ones too. `kernel_s` is the part spent in the kernel."""

    total_s: float
    kernel_s: float

    def since(self, before: "Cpu") -> "Cpu":
        return Cpu(self.total_s - before.total_s, self.kernel_s - before.kernel_s)


def cpu(pid: int) -> Cpu:
    """`total_s` comes from the process's clock, exact to the nanosecond; /proc/PID/stat counts the same in ticks of
    10 ms, and alone knows the kernel's part."""
    user_ticks, kernel_ticks = _stat(pid)
    ticks = user_ticks + kernel_ticks
    total_s = time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)
    return Cpu(total_s, total_s * kernel_ticks / ticks if ticks else 0.0)


def _stat(pid: int) -> tuple[int, int]:
    # proc(5): the name in brackets may hold spaces; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def cpu_ticks_s(pid: int) -> float:
    """CPU seconds as /proc/PID/stat counts them; for checking `cpu` against."""
    return sum(_stat(pid)) / TICKS_PER_S


def rss_mib(pid: int) -> float:
    """Resident memory now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(f"process {pid} has no memory: it has ended")


def busy_s() -> float:
    """CPU seconds that anybody spent on this machine since boot, stolen time included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def listener_pid(port: int) -> int | None:
    """The process that listens on this loopback or wildcard IPv4 port; None if that cannot be seen."""
    wanted = f":{port:04X}"
    inodes = {
        fields[9]
        for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1].endswith(wanted) and fields[3] == "0A"
    }
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and sockets & set(_links(process / "fd")):
            return int(process.name)
    return None


def _links(folder: Path) -> Iterable[str]:
    try:
        for link in folder.iterdir():
            yield os.readlink(link)
    except OSError:
        return


# -- this machine ----------------------------------------------------------------------------------------------------


class Machine(Struct, frozen=True):
    cores: int
    processor: str
    kernel: str
    python: str
    versions: Mapping[str, str]
    scratch: str
    """The file system that takes the database: commits are only as honest as it is."""
    load_before: float


def machine(scratch: Path) -> Machine:
    names = ("dragoman", "uvicorn", "uvloop", "httptools", "aiohttp", "starlette", "msgspec")
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        kernel=platform.release(),
        python=platform.python_version(),
        versions={name: metadata.version(name) for name in names},
        scratch=f"{scratch} ({file_system(scratch)})",
        load_before=os.getloadavg()[0],
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def file_system(path: Path) -> str:
    """Its kind, such as ext4 or tmpfs."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    real = path.resolve()
    holding = [(point, kind) for point, kind in mounts if real.is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]))[1] if holding else "unknown"


# -- what is installed -----------------------------------------------------------------------------------------------


class Installed(Struct, frozen=True):
    """Bytes per distribution, as they lie on the disk, compiled modules included."""

    sizes: dict[str, int]
    missing: tuple[str, ...]

    @property
    def megabytes(self) -> float:
        return sum(self.sizes.values()) / 1e6


def locked_names(requirements: Path) -> list[str]:
    """The distributions that a lock file names and that this platform takes."""
    lines = requirements.read_text().splitlines()
    starts = [line for line in lines if line and not line[0].isspace() and not line.startswith(("#", "-"))]
    return [line.partition("==")[0].split("[")[0].strip() for line in starts if _applies(line)]


def _applies(line: str) -> bool:
    """Of markers only what our lock holds is understood: sys_platform."""
    marker = line.partition(";")[2].strip(" \\")
    return "sys_platform" not in marker or ("!=" in marker) == ("win32" in marker)


def installed(requirements: Path, package: Path) -> Installed:
    """What the locked distributions take in this environment by their RECORDs, and our own `package` once installed."""
    sizes = {package.name: package_bytes(package)}
    missing: list[str] = []
    for name in locked_names(requirements):
        try:
            sizes[name] = distribution_bytes(metadata.distribution(name))
        except metadata.PackageNotFoundError:
            missing.append(name)
    return Installed(sizes, tuple(missing))


def distribution_bytes(distribution: metadata.Distribution) -> int:
    """Every file of its RECORD that exists, and what Python compiled from it, each once."""
    paths: set[Path] = set()
    for file in distribution.files or ():
        path = Path(str(file.locate()))
        paths.add(path)
        if path.suffix == ".py":
            paths.update((path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc"))
    return sum(path.stat().st_size for path in paths if path.is_file())


def package_bytes(folder: Path) -> int:
    """A package as installers leave it: its files, and the bytecode of each module, which a checkout may not have."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    bytecode_bytes = 0
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch, "module.pyc")
        for path in paths:
            if path.suffix == ".py":
                py_compile.compile(str(path), str(compiled), doraise=True)
                bytecode_bytes += compiled.stat().st_size
    return sum(path.stat().st_size for path in paths) + bytecode_bytes
