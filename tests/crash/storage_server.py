"""A server whose disk is under test, and those who talk to it over real sockets.

What it says goes to a file, which may lie on the very disk that is full; nobody need read along.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from msgspec import Struct

from tests.server_process import READY_S, ServerProcess

CONFIG = """
[server]
drain = "2s"
[models.main]
kind = "scripted"
file = "script.toml"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
"""

SLOW_PIECES = 24
SLOW_GAP_S = 0.05
LATER_S = 0.6
SCRIPT = f"""
[[reply]]
match = "^slowly"
text = {json.dumps([f"piece {number} " for number in range(SLOW_PIECES)])}
delay_s = {SLOW_GAP_S}
[[reply]]
match = "^later"
text = "Now."
delay_s = {LATER_S}
[[reply]]
match = "^look"
calls = [{{ name = "list_files" }}]
delay_s = {LATER_S}
"""
"""What begins with "slowly" is answered in 24 pieces and about 1.2 s, "later" at once after a while, "look" with the
call of a tool; anything else is echoed."""

SLOW_ANSWER = "".join(f"piece {number} " for number in range(SLOW_PIECES))
POLL_S = 0.02
ANSWER_S = 120.0

OBEY_MODES = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
for capability in CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH:
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Becomes the program it is given, without what root may do to files of any mode and owner."""


class LoggedServer(ServerProcess):
    """A server process that writes what it says to `log`. `plain`: it may not do what the modes and owners of files
    forbid, also if we are root."""

    def __init__(
        self, home: Path, log: Path, *, config: str = CONFIG, env: dict[str, str] | None = None, plain: bool = False
    ) -> None:
        super().__init__(home, config, env=env)
        (home / "script.toml").write_text(SCRIPT)
        self.log = log
        self._plain = plain

    def start(self) -> "LoggedServer":
        began = time.monotonic()
        said_before = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, "-m", "dragoman", "--home", str(self.home), "--config", str(self._config)]
        if self._plain:
            command = [sys.executable, "-ISc", OBEY_MODES, *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "serve", "--listen", "127.0.0.1:0"],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **self._env},
            )
        while time.monotonic() < began + READY_S and self.process.poll() is None:
            with self.log.open("rb") as log:
                log.seek(said_before)
                for line in log.read().split(b"\n")[:-1]:
                    if line.startswith(b"listening on "):
                        self.url = line.removeprefix(b"listening on ").decode()
                        self.started_in_s = time.monotonic() - began
                        return self
            time.sleep(POLL_S)
        if self.process.poll() is None:
            self.kill()
        raise NotServing(self.process.returncode, self.log.read_bytes()[said_before:].decode(errors="replace"))


class NotServing(AssertionError):
    """The process ended before it listened, with this exit code and these words."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"exit {code}: {said}")
        self.code = code
        self.said = said


class Answer(Struct, frozen=True):
    """`at` is when it came, by the monotonic clock; `took_s` how long it took."""

    status: int
    body: Any
    headers: dict[str, str]
    at: float
    took_s: float


class Callers:
    """Asks a server, whichever port it has after its last start."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> "Callers":
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=ANSWER_S))
        self._headers = self.server.headers
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> Answer:
        return await self._ask("GET", path)

    async def say(self, conversation: str, message: str, *, key: str = "") -> Answer:
        """Raises aiohttp.ClientError or ConnectionError when the server dies over it."""
        headers = {"Idempotency-Key": key} if key else {}
        return await self._ask("POST", "/api/v1/chat", {"message": message, "session_key": conversation}, headers)

    async def _ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        began = time.monotonic()
        async with self._session.request(
            method, self.server.url + path, json=body, headers=self._headers | (headers or {})
        ) as answer:
            text = await answer.text()
            ended = time.monotonic()
            told = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, json.loads(text) if text else None, told, ended, ended - began)

    async def stream(self, conversation: str, message: str, heard: bytearray) -> None:
        """Say something and add to `heard` what comes, until the stream ends."""
        body = {"message": message, "session_key": conversation}
        url = f"{self.server.url}/api/v1/chat/stream"
        async with self._session.post(url, json=body, headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            async for chunk in answer.content.iter_any():
                heard += chunk

    async def messages(self, conversation: str) -> list[tuple[str, str]]:
        """The role and content of each."""
        answer = await self.get(f"/api/v1/sessions/{conversation}/messages")
        if answer.status == 404:
            return []
        assert answer.status == 200, answer
        return [(message["role"], message["content"]) for message in answer.body["messages"]]

    async def reason(self) -> str:
        """Why it is not ready; "" if it is."""
        answer = await self.get("/ready")
        assert answer.status in (200, 503), answer
        return "" if answer.status == 200 else answer.body["reason"]

    async def quiet(self, within_s: float = 10.0) -> float:
        """Wait until no run is live; how long it took."""
        return await until(self._is_quiet, within_s)

    async def _is_quiet(self) -> bool:
        answer = await self.get("/api/server")
        return answer.status == 200 and answer.body["live_runs"] == 0


async def until(holds: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Ask again and again until it holds; how long that took."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() < began + within_s, f"not within {within_s:g} s"
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began
