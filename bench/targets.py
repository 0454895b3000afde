"""The servers that are compared: how each is started, asked and stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bench.load import Job
from bench.measure import listener_pid

ROOT = Path(__file__).parent.parent
READY_S = 20.0
STOP_S = 35.0
LISTENING = "listening on "
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""Not for the servers: an installed program has its bytecode, and compiling ours takes a quarter of a second."""
POLL_S = 0.002


class Failed(Exception):
    """Something did not start, or answered wrongly. The sentence says what and where to look."""


class Process:
    """A Python module in a process of its own that says on stderr where it listens. Its stderr goes to `log`."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._arguments = arguments
        self._log = log
        self.began = time.monotonic()
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name != NO_BYTECODE},
            )
        try:
            self.url = self._listening()
        except Failed:
            self.stop()
            raise
        self.listening_s = time.monotonic() - self.began

    @property
    def pid(self) -> int:
        return self.process.pid

    def _listening(self) -> str:
        while time.monotonic() - self.began < READY_S:
            for line in self._log.read_text(errors="replace").splitlines(keepends=True):
                if line.startswith(LISTENING) and line.endswith("\n"):
                    return line.removeprefix(LISTENING).strip()
            if self.process.poll() is not None:
                break
            time.sleep(POLL_S)
        said = self._log.read_text(errors="replace").strip()
        raise Failed(f"python {' '.join(self._arguments)} did not start; it said:\n{said}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for who does not heed it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Target:
    """A server under measurement: where it is, its process, and how a chat is asked of it."""

    def __init__(
        self,
        name: str,
        url: str,
        pid: int,
        *,
        credential: str = "",
        grip: bool = True,
        repeats_text: bool = True,
        process: Process | None = None,
    ) -> None:
        self.name = name
        self.url = url
        self.pid = pid
        self._credential = credential
        self._grip = grip
        self._repeats_text = repeats_text
        self._process = process

    def job(
        self,
        words: int,
        *,
        series: int,
        callers: int,
        streamed: bool,
        gap_ms: int = 0,
        session: str = "@id@",
        seconds: float = 0.0,
        each: int = 0,
        warm: int = 0,
        stagger_s: float = 0.0,
    ) -> Job:
        """A load job: chats whose answers have `words` words, each in a session of its own unless `session` says so."""
        text = f"Question @id@ of series {series}: say WORDS{words}" + (f" GAP{gap_ms}." if gap_ms else ".")
        # Grip's documented stream ends with the whole text once more.
        spoken = 2 * words if streamed and self._repeats_text else words
        delta = ("event: token" if self._grip else "word") if streamed else ""
        return Job(
            url=self.url,
            path=self._path(streamed=streamed),
            headers={"authorization": f"Bearer {self._credential}"} if self._credential else {},
            body=self._body(text, f"b-{series}-{session}", streamed=streamed),
            callers=callers,
            words=spoken,
            seconds=seconds,
            each=each,
            delta=delta,
            warm=warm,
            stagger_s=stagger_s,
        )

    def _path(self, *, streamed: bool) -> str:
        if not self._grip:
            return "/v1/chat/completions"
        return "/api/v1/chat/stream" if streamed else "/api/v1/chat"

    def _body(self, text: str, session: str, *, streamed: bool) -> str:
        if self._grip:
            return json.dumps({"message": text, "session_key": session})
        options = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        return json.dumps({"model": "fake", "messages": [{"role": "user", "content": text}], **options})

    @property
    def listening_s(self) -> float:
        return self._process.listening_s if self._process else 0.0

    @property
    def began(self) -> float:
        return self._process.began if self._process else 0.0

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()


def start_upstream(scratch: Path, port: int = 0) -> Process:
    return Process(["-m", "bench.upstream", str(port)], scratch / "upstream.log")


def start_floor(upstream: str, scratch: Path, name: str = "relay") -> Target:
    process = Process(["-m", "bench.floor", upstream], scratch / f"{name}.log")
    return Target(name, process.url, process.pid, grip=False, repeats_text=False, process=process)


def as_upstream(upstream: str, pid: int) -> Target:
    """The LLM itself as a target, to see how far it is from being what is measured."""
    return Target("upstream", upstream, pid, grip=False, repeats_text=False)


CONFIG = """
[defaults]
model = "main"
agent = "assistant"
[models.main]
kind = "openai"
url = "{upstream}/v1"
name = "fake"
key = "x"
[agents.assistant]
tools = {tools}
history_tokens = {history_tokens}
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
"""

HISTORY_TOKENS = 24_000
"""The product's default."""


def start_dragoman(
    upstream: str,
    scratch: Path,
    name: str = "dragoman",
    *,
    tools: Sequence[str] = (),
    history_tokens: int = HISTORY_TOKENS,
) -> Target:
    """A server with its home in `scratch`/`name`, which it finds again if it has been there before."""
    home = scratch / name
    home.mkdir(exist_ok=True)
    config = home / "dragoman.toml"
    config.touch(mode=0o600)  # it holds a key
    config.write_text(
        CONFIG.format(upstream=upstream, tools=json.dumps(list(tools)), history_tokens=history_tokens).lstrip()
    )
    arguments = ["-m", "dragoman", "--home", str(home), "--config", str(config), "serve", "--listen", "127.0.0.1:0"]
    process = Process(arguments, scratch / f"{name}.log")
    try:
        credential = (home / "admin-credential").read_text().strip()
    except OSError as error:
        process.stop()
        raise Failed(f"{name} listens but made no first credential: {error}") from error
    return Target(name, process.url, process.pid, credential=credential, process=process)


def running_grip(url: str, token: str) -> Target:
    """A Grip server that somebody started, on this machine, in front of the same upstream."""
    port = urlsplit(url).port
    pid = listener_pid(port) if port else None
    if pid is None:
        raise Failed(f"No process of ours listens on the port of {url}; its CPU time cannot be seen.")
    return Target("grip", url.rstrip("/"), pid, credential=token, repeats_text=False)
