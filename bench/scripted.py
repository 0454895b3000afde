"""A server with a script instead of an LLM, for scenes that are about readers: how it is started, asked and stopped."""

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec

from bench import measure
from bench.crowd import request_for
from bench.targets import Failed, Process

EXIT_S_MAX = 30.0
SETTLE_S = 1.0
POLL_S = 0.05
RUN_S_MAX = 120.0

CONFIG = """
[server]
drain = "{drain_s:g}s"
[models.main]
kind = "scripted"
file = "script.toml"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
readers_per_conversation = {readers}
run = {{ steps = 100, wall = "1h", same_call = 0 }}
"""
SLOW = """
[connections.slow]
kind = "prometheus"
url = "{slow}"
"""

POUR_REPLIES, POUR_PIECES, POUR_PIECE = 11, 900, "0123456789abcdef" * 64
"""10 MB in pieces of 1 KiB: a script may have 1 MiB, so its one large reply is given again and again."""
POUR_WAIT_S = 3
"""Before it pours, readers have so long to come."""

CHATS = "/api/plugins/grafana-assistant-app/resources/api"

_WRITE_MEMORY = re.compile(r"skmem:\(r\d+,rb\d+,t\d+,tb\d+,f\d+,w(\d+),")
_TIME_WAIT, _LISTEN = "06", "0A"
"""States in /proc/net/tcp (include/net/tcp_states.h)."""

Row = dict[str, Any]

_WAIT: Row = {"match": "^wait", "delay_s": 600, "text": "At last."}
_LOOK: Row = {"name": "list_datasources"}


def silence() -> list[Row]:
    """Runs that begin with "wait" say nothing for ten minutes."""
    return [_WAIT]


def tools(slow: str) -> list[Row]:
    """…and runs that begin with "slow" are in a tool that waits for a server which never answers."""
    call = {"name": "query_prometheus", "arguments": {"datasourceUid": "slow", "expr": "up"}}
    return [_WAIT, {"match": "^slow", "calls": [call]}]


def pour() -> list[Row]:
    """The one run that begins with "pour" says 10 MB, a while after it began."""
    return [
        {"match": "^pour", "delay_s": POUR_WAIT_S, "calls": [_LOOK]},
        {"match": "datasources", "times": POUR_REPLIES, "text": [POUR_PIECE] * POUR_PIECES, "calls": [_LOOK]},
        {"match": "datasources", "text": "Done."},
    ]


class Server:
    """A running server and its first credential."""

    def __init__(self, process: Process, home: Path, log: Path, *, drain_s: float) -> None:
        self._process = process
        self._log = log
        self.drain_s = drain_s
        self.url = process.url
        self.pid = process.pid
        credential = (home / "admin-credential").read_text().strip()
        self.headers = {"authorization": f"Bearer {credential}"}

    async def begin(self, message: str, session: str) -> str:
        """Start a run and hang up: it goes on. Its id."""
        body = {"message": message, "session_key": session}
        async with (
            aiohttp.ClientSession(headers=self.headers) as asking,
            asking.post(f"{self.url}/api/v1/chat/stream", json=body) as answer,
        ):
            if answer.status != 200:
                raise Failed(f"a run could not be begun: {answer.status} {await answer.text()}")
            return answer.headers["x-run-id"]

    async def begin_chat(self, prompt: str) -> str:
        """Start a chat over Grafana's API; its id."""
        async with (
            aiohttp.ClientSession(headers=self.headers) as asking,
            asking.post(f"{self.url}{CHATS}/v1/assistant/chats", json={"prompt": prompt}) as answer,
        ):
            if answer.status != 200:
                raise Failed(f"a chat could not be begun: {answer.status} {await answer.text()}")
            return msgspec.json.decode(await answer.read())["data"]["chatId"]

    def listen(self, chat: str) -> bytes:
        """The request of a listener to that chat."""
        return request_for(self.url, f"{CHATS}/events/chats/{chat}", self.headers)

    def follow(self, run: str, *, after: int = 0) -> bytes:
        """The request of a reader of that run."""
        return request_for(self.url, _events(run), {**self.headers, "last-event-id": str(after)})

    async def read(self, run: str, *, after: int) -> bytes:
        """All frames beyond that entry, until the run's end."""
        return await self._get(_events(run), {"last-event-id": str(after)})

    async def timeline(self, run: str) -> Row:
        return msgspec.json.decode(await self._get(f"/api/runs/{run}"))

    async def seqs(self, run: str) -> list[int]:
        return [entry["seq"] for entry in (await self.timeline(run))["entries"]]

    async def all_ended(self) -> None:
        """Wait until no run is live."""
        async with asyncio.timeout(RUN_S_MAX):
            while msgspec.json.decode(await self._get("/api/server"))["live_runs"]:
                await asyncio.sleep(POLL_S)

    async def in_tool(self, run: str) -> None:
        """Wait until the run is in a tool."""
        async with asyncio.timeout(RUN_S_MAX):
            while (await self.timeline(run))["entries"][-1]["event"]["kind"] != "tool_started":
                await asyncio.sleep(POLL_S)

    async def poured_s(self, run: str) -> tuple[float, float]:
        """Of a run that has poured: the seconds from its first to its last delta; and those of them after the first
        large reply, by which any buffer was full."""
        timeline = await self.timeline(run)
        if timeline["status"] != "completed":
            raise Failed(f"the run ended as {timeline['status']}")
        times = [entry["at"] for entry in timeline["entries"] if entry["event"]["kind"] == "text_added"]
        first_reply = next(entry["at"] for entry in timeline["entries"] if entry["at"] > times[0] and _is_look(entry))
        return times[-1] - times[0], times[-1] - first_reply

    async def settled_mib(self) -> float:
        await asyncio.sleep(SETTLE_S)
        return measure.rss_mib(self.pid)

    def kernel_kib(self) -> float:
        """What the kernel holds of answers for this server's connections."""
        said = subprocess.run(
            ["ss", "-tmnH", "sport", "=", f":{self._port}"], capture_output=True, text=True, check=True
        )
        return sum(map(int, _WRITE_MEMORY.findall(said.stdout))) / 1024

    def connections(self) -> int:
        """Those the kernel knows of, in any state but that of a port that is kept for a while."""
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        return sum(row[1].endswith(f":{self._port:04X}") and row[3] not in (_LISTEN, _TIME_WAIT) for row in rows)

    @property
    def _port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def terminate(self) -> None:
        self._process.process.send_signal(signal.SIGTERM)

    async def exited(self) -> None:
        """Raises Failed if it does not end well."""
        code = await asyncio.to_thread(self._process.process.wait, EXIT_S_MAX)
        if code:
            raise Failed(f"the server ended with {code}; {self._log} has what it said")

    def faults(self) -> Sequence[str]:
        """Lines of its log that nobody wants to see."""
        return [line for line in self._log.read_text().splitlines() if "Traceback" in line or " ERROR " in line]

    async def _get(self, path: str, headers: dict[str, str] | None = None) -> bytes:
        async with (
            aiohttp.ClientSession(headers=self.headers) as asking,
            asking.get(self.url + path, headers=headers) as answer,
        ):
            if answer.status != 200:
                raise Failed(f"GET {path} was answered with {answer.status}")
            return await answer.read()


def _is_look(entry: Row) -> bool:
    return entry["event"]["kind"] == "tool_started"


def _row(row: Row) -> str:
    return "[[reply]]\n" + "".join(f"{key} = {_toml(row[key])}\n" for key in row)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        table = cast("Row", value)
        return "{ " + ", ".join(f"{key} = {_toml(table[key])}" for key in table) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, cast("list[object]", value))) + "]"
    return json.dumps(value)  # a string of JSON is one of TOML


def _events(run: str) -> str:
    return f"/api/runs/{run}/events"


@asynccontextmanager
async def start(
    scratch: Path, name: str, script: Sequence[Row], *, drain_s: float = 1.0, readers: int = 100, slow: str = ""
) -> AsyncGenerator[Server]:
    """A server with a new home in `scratch`, stopped on leaving."""
    home = scratch / name
    home.mkdir(parents=True)
    config = CONFIG.format(drain_s=drain_s, readers=readers) + (SLOW.format(slow=slow) if slow else "")
    (home / "dragoman.toml").write_text(config)
    (home / "script.toml").write_text("".join(map(_row, script)))
    log = scratch / f"{name}.log"
    arguments = ["--home", str(home), "--config", str(home / "dragoman.toml"), "serve", "--listen", "127.0.0.1:0"]
    process = await asyncio.to_thread(Process, ["-m", "dragoman", *arguments], log)
    try:
        yield Server(process, home, log, drain_s=drain_s)
    finally:
        await asyncio.to_thread(process.stop)
