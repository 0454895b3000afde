"""A workspace with an outside around it that nobody may reach: every kind of link, a pipe, a socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from dragoman.tools.registry import Registry
from dragoman.tools.workspace.deadline import Deadline
from dragoman.tools.workspace.jail import Jail
from dragoman.tools.workspace.toolset import register_workspace

CANARY = "CANARY-7f3a"


class Ground(Struct, frozen=True):
    """`root` is the workspace; `outside` lies beside it and holds CANARY in every file."""

    root: Path
    outside: Path

    def outside_now(self) -> dict[str, tuple[int, int, str]]:
        """Everything outside: mode, time of change and content, to be compared later."""
        found: dict[str, tuple[int, int, str]] = {}
        for path in [self.outside, *sorted(self.outside.rglob("*"))]:
            status = path.lstat()
            found[str(path)] = (status.st_mode, status.st_mtime_ns, path.read_text() if path.is_file() else "")
        return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def jail(root: Path) -> Jail:
    return Jail(root)


@pytest.fixture
def deadline() -> Deadline:
    return Deadline()


@pytest.fixture
def passed() -> Deadline:
    """One whose time is up."""
    return Deadline(wall_s=0, clock=lambda: 0.0)


@pytest.fixture
def workspace(registry: Registry, root: Path) -> Path:
    """The root of a workspace whose tools are registered."""
    root.mkdir(exist_ok=True)
    register_workspace(registry, lambda project: root)
    return root


@pytest.fixture
def ground(tmp_path: Path, workspace: Path) -> Iterator[Ground]:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    for path in (outside / "secret.txt", outside / "folder" / "secret.txt", tmp_path / "workspace-secret.txt"):
        path.write_text(f"{CANARY}\n")
    (workspace / "folder").mkdir()
    (workspace / "inside.txt").write_text("inside\n")
    (workspace / "folder" / "inside.txt").write_text("inside\n")
    links = {
        "link_file": "../outside/secret.txt",
        "link_file_absolute": str(outside / "secret.txt"),
        "link_folder": "../outside",
        "link_folder_absolute": str(outside),
        "link_root": "/",
        "link_up": "..",
        "link_here": ".",
        "link_inside": "inside.txt",
        "link_folder_inside": "folder",
        "link_loop": "link_loop",
        "link_loop_a": "link_loop_b",
        "link_loop_b": "link_loop_a",
        "link_nowhere": "../outside/new.txt",
        "link_chain": "link_folder",
        "link_proc": "/proc/self/root",
        "link_cwd": "/proc/self/cwd",
        "folder/link_out": "../../outside/secret.txt",
        "link_device": "/dev/zero",
    }
    for name, target in links.items():
        os.symlink(target, workspace / name)
    os.mkfifo(workspace / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        folder = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY)
        try:
            listening.bind(f"/proc/self/fd/{folder}/socket")  # a path short enough for a socket's address
        finally:
            os.close(folder)
        yield Ground(workspace, outside)
