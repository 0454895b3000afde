"""Servers under test: real processes, each in a session of its own, killed and frozen by their ids."""

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

from tests.checkout import ROOT
from tests.crash.homes import Home

READY_S = 20.0
STOP_S = 30.0
PORTS = range(20_000, 30_000)
"""Below those that clients get: a client that knocks at a dead server's port must not meet itself there."""


class NotStarted(Exception):
    """The process ended before it listened; `str()` has its last lines."""


def free_port(rng: random.Random) -> int:
    while True:
        port = rng.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """One home's server, started again and again on one port. What it says is added to `log`."""

    def __init__(self, home: Home, port: int, *, effects: str, log: Path) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self.up = asyncio.Event()
        """Set while it listens, as far as we know."""
        self._listen = f"127.0.0.1:{port}"
        self._effects = effects
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._launched_at = 0.0
        self.fuses = ""
        """Those its process was started with."""
        self.sessions: list[int] = []
        """Of every process that was started: the leader's id is its session's."""

    async def listens(self) -> float:
        """Wait until the process that was launched listens; seconds since its launch. Raises NotStarted when it ends
        before, by a fuse or otherwise."""
        listening = asyncio.create_task(self._listening.wait())
        ended = asyncio.create_task(self.wait())
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.wait({listening, ended}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self.kill()
            raise NotStarted(f"it did not listen within {READY_S:g} s: {self.last_words()}") from None
        finally:
            listening.cancel()
            ended.cancel()
        if not self._listening.is_set():
            raise NotStarted(f"exit {self.code}: {self.last_words()}")
        self.up.set()
        return time.monotonic() - self._launched_at

    async def launch(self, fuses: str = "") -> None:
        """Start the process, without waiting for it to listen."""
        self.fuses = fuses
        self._listening.clear()
        self._launched_at = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.crash.serve", str(self.home.path), self._listen, self._effects),
            cwd=ROOT,
            env={**os.environ, "DRAGOMAN_FUSES": fuses},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self.sessions.append(self._process.pid)
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        stream = process.stderr
        if stream is None:
            raise RuntimeError("a server has a pipe for what it says")
        with self._log.open("ab", buffering=0) as log:
            log.write(b"--- process %d\n" % process.pid)
            tail = b""
            while said := await stream.read(65536):
                log.write(said)
                if not self._listening.is_set() and b"listening on " in (tail := tail + said):
                    self._listening.set()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def code(self) -> int | None:
        """None while it lives."""
        return self._process.returncode if self._process is not None else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def last_words(self, chars: int = 1500) -> str:
        return self._log.read_text(errors="replace")[-chars:] if self._log.exists() else ""

    def tracebacks(self) -> "Counter[str]":
        """What the tracebacks in its log end with: a server that is killed and cut off has no reason for one."""
        ends: Counter[str] = Counter()
        inside = False
        for line in self._log.read_text(errors="replace").splitlines() if self._log.exists() else ():
            if line.startswith("Traceback "):
                inside = True
            elif inside and not line.startswith((" ", "Traceback ")):
                inside = False
                ends[line[:300]] += 1
        return ends

    def send(self, number: int) -> None:
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL: nothing of the process gets to run again."""
        self.up.clear()
        self.send(signal.SIGKILL)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    async def wait(self) -> int:
        """Until it has ended; its exit code."""
        if self._process is None:
            return 0
        code = await self._process.wait()
        self.up.clear()
        if self._reading is not None:
            await asyncio.wait([self._reading])
        return code

    async def stop(self) -> int:
        """SIGTERM, and its exit code; SIGKILL if it takes too long."""
        self.up.clear()
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                return await self.wait()
        except TimeoutError:
            self.kill()
            await self.wait()
            return -1

    def orphans(self) -> list[str]:
        """Processes of its sessions that are still there."""
        found: list[str] = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) in self.sessions:
                    found.append(f"process {folder.name} of session {fields[3]} (state {fields[0]})")
        return found
