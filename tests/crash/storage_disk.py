"""A small disk of its own, that can be filled and given room again: a tmpfs. Mounting one takes root."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOUNT_S = 10.0
BALLAST = "ballast"
CHUNK_BYTES = 64 * 1024


class SmallDisk:
    """What is mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / BALLAST

    @property
    def room(self) -> int:
        """Free bytes."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_bsize

    def fill(self, *, leave: int = 0) -> None:
        """Use up all but `leave` bytes, whoever else writes meanwhile."""
        with self._ballast.open("ab", buffering=0) as ballast:
            while (left := self.room - leave) > 0:
                try:
                    ballast.write(bytes(min(left, CHUNK_BYTES)))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def clear(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink(missing_ok=True)


def why_no_disk() -> str:
    """ "" if one can be mounted here, else why not."""
    if os.geteuid() != 0:
        return "mounting a small disk takes root"
    if shutil.which("mount") is None or shutil.which("umount") is None:
        return "there is no mount"
    return ""


@contextmanager
def small_disk(path: Path, *, size_kib: int) -> Iterator[SmallDisk]:
    """Mounted at `path`, which is made, and gone afterwards. Raises OSError where mounting is not allowed."""
    path.mkdir(parents=True)
    options = f"size={size_kib}k,mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, timeout=MOUNT_S, check=False)
    if mounted.returncode:
        raise OSError(mounted.stderr.strip())
    try:
        yield SmallDisk(path)
    finally:
        # Lazily: whatever a failed test left open must not keep the mount.
        subprocess.run(["umount", "-l", str(path)], timeout=MOUNT_S, check=True)
