"""A real server in a process of its own, for tests that need real sockets and a real `kill -9`."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

READY_S = 20.0
"""Half a second alone; with other work on every core it was more than ten."""


class ServerProcess:
    """`dragoman serve` on a free loopback port. `home` outlives the process, so a test may start another on it.

    `program`: what to start in its place; it is given the home, and says where it listens as `dragoman serve` does.
    """

    def __init__(
        self,
        home: Path,
        config: str = "",
        *,
        env: dict[str, str] | None = None,
        listen: str = "127.0.0.1:0",
        program: Sequence[str] = (),
    ) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self._config = home / "dragoman.toml"
        self._config.write_text(config)
        self._env = env or {}
        self._listen = listen
        self._program = program
        self.url = ""
        self.said = b""
        """What it wrote to stderr; all of it once it has ended."""
        self.started_in_s = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "ServerProcess":
        began = time.monotonic()
        command = [sys.executable, "-m", "dragoman", "--home", str(self.home), "--config", str(self._config)]
        command += ["serve", "--listen", self._listen]
        if self._program:
            command = [sys.executable, *self._program, str(self.home)]
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **self._env},
        )
        try:
            self.url = self._announced(began + READY_S)
        except AssertionError:
            self.kill()
            raise
        self.started_in_s = time.monotonic() - began
        return self

    def _announced(self, deadline: float) -> str:
        assert self.process is not None and self.process.stderr is not None
        while time.monotonic() < deadline:
            if select.select([self.process.stderr], [], [], 0.1)[0]:
                self.said += os.read(self.process.stderr.fileno(), 65536)
                for line in self.said.splitlines():
                    if line.startswith(b"listening on "):
                        return line.removeprefix(b"listening on ").decode()
            if self.process.poll() is not None:
                break
        raise AssertionError(f"it did not start (exit {self.process.poll()}): {self.said.decode(errors='replace')}")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        os.kill(self.pid, signal.SIGTERM)

    @property
    def credential(self) -> str:
        """The admin credential that the first start made."""
        return (self.home / "admin-credential").read_text().strip()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.credential}"}

    def wait(self, timeout_s: float = 10.0) -> int:
        assert self.process is not None
        code = self.process.wait(timeout_s)
        if self.process.stderr is not None and not self.process.stderr.closed:
            self.said += self.process.stderr.read()
            self.process.stderr.close()
        return code

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL: nothing of the process gets to run again."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill()
        self.wait()

    def __enter__(self) -> "ServerProcess":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
