"""Servers in processes of their own that need not load the program first: each is forked off one that has loaded it.

For tests with many short lives. That a start succeeds and what it costs is shown elsewhere (`tests.server_process`).
"""

import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.server_process import READY_S

STOPPED_S = 20.0

_forks = get_context("forkserver")
_forks.set_forkserver_preload(["tests.crash.waiting_server", "dragoman.stores.postgres.store"])


def _live(home: Path, fuses: str, env: Mapping[str, str], said: Connection) -> None:
    """What the new process does; what it says goes through the pipe."""
    from dragoman.runtime.fuses import arm  # noqa: PLC0415 not in the process of the tests
    from tests.crash.waiting_server import main  # noqa: PLC0415

    os.environ.update(env)
    os.dup2(said.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    arm(fuses)
    sys.exit(main(home))


class ForkedServer:
    """The harness's own wire on a free loopback port. `home` outlives the process, so another may be started on it."""

    def __init__(self, home: Path, config: str, *, fuses: str = "", env: Mapping[str, str] | None = None) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        (home / "dragoman.toml").write_text(config)
        self.url = ""
        self._said, said = _forks.Pipe(duplex=False)
        self._process: ForkServerProcess = _forks.Process(target=_live, args=(home, fuses, env or {}, said))
        self._ours = said

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.home / 'admin-credential').read_text().strip()}"}

    def wait(self) -> int | None:
        """Its exit code once it has ended; None if it has not."""
        self._process.join(STOPPED_S)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def stop(self) -> int | None:
        """SIGTERM, and the exit code."""
        os.kill(self._process.pid or 0, signal.SIGTERM)
        return self.wait()

    def rest_of_log(self) -> bytes:
        """What it said after it began to listen, once it has ended."""
        said = b""
        while select.select([self._said], [], [], 1.0)[0] and (more := os.read(self._said.fileno(), 65536)):
            said += more
        return said

    def __enter__(self) -> "ForkedServer":
        self._process.start()
        self._ours.close()
        said = b""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if select.select([self._said], [], [], 0.1)[0]:
                if not (more := os.read(self._said.fileno(), 65536)):
                    break
                said += more
                for line in said.splitlines(keepends=True):
                    if line.startswith(b"listening on ") and line.endswith(b"\n"):
                        self.url = line.split()[-1].decode()
                        return self
        self.__exit__()
        raise AssertionError(f"it did not start (exit {self._process.exitcode}): {said.decode(errors='replace')}")

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._said.close()
