"""Replays every golden transcript on every store: real edge, runtime and store around a scripted model and tools.

One `~` line is one reply of the model, in order, over all requests:

    [usage=IN/OUT ]say "p" "q"           text in pieces
    call NAME JSON -> RESULT [& …]       calls and what the tools return; `-> !…` is an error; no arrow: no such tool
    say … call …    say … fail CODE    fail CODE    say … crash    say … retract "p" …
    history                              says all messages it was shown, as `role:text`

Other lines set the stage: `limit KEY VALUE`, `credential NAME SCOPE…` (binds <NAME>), `tool NAME JSON -> RESULT` (for
direct calls), `crash` (kill and restart), `settle` (wait until all runs have ended), `ask NAME…` (these tools want an
approval), `leave TEXT` (the next reader hangs up once it has read TEXT, behind which there must be no more for now),
`workflow FILE` (of this folder; it is imported and published).
"""

import asyncio
import difflib
import json
import os
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from dragoman.core.agents import NO_ARGUMENTS, Offered, Repeat, ToolSpec
from dragoman.core.errors import BackendFailed
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import CallId, Scope
from dragoman.dialects.rowboat.workflow_json import compile_workflow
from dragoman.runtime.ports import LEASE_S, Prompt, ReplyDone, ReplyPiece, Retracted, TextPiece
from dragoman.runtime.tool_ports import CallContext, ToolOutcome
from dragoman.server.config_shapes import AgentTable
from dragoman.stores.memory import MemoryStore
from dragoman.stores.sqlite.store import open_store
from dragoman.tools.registry import Registry
from tests.parts import ADMIN, house_of, open_config
from tests.streaming_client import Client
from tests.support import FixedClock
from tests.transcripts import Exchange, Names, bless, matches, parse, shown

HERE = Path(__file__).parent
TRANSCRIPTS = sorted(HERE.glob("*/*.txt"))
BLESS = bool(os.environ.get("DRAGOMAN_BLESS"))
DRAIN_S = 5.0
TOOLS = ("list_files", "read_file")
CONTEXT = ToolSpec("context", "What is known.", NO_ARGUMENTS, repeat=Repeat.PURE, offered=Offered.NEVER)
"""With which turns of some wires begin; here it finds nothing."""
NOTHING_KNOWN = '{"screen_description":"","learnings":[]}'

Row = list[ReplyPiece | BackendFailed | str]
"""A reply: its pieces, or what comes in their place. "crash" and "history" are said as they are."""


class Script:
    """The model and the tools of one transcript. It outlives the crashes of the server."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._results: dict[tuple[str, str], str] = {}
        self.crashed = asyncio.Event()

    def add(self, line: str) -> None:
        usage = Usage()
        if match := re.match(r"usage=(\d+)/(\d+) ", line):
            usage, line = Usage(int(match[1]), int(match[2])), line[match.end() :]
        row: Row = []
        text, calls = "", ()
        while line:
            verb, _, line = line.partition(" ")
            match verb:
                case "say" | "retract":
                    pieces, line = _strings(line)
                    row += ([Retracted("asked again")] if verb == "retract" else []) + [
                        TextPiece(p) for p in pieces if p
                    ]
                    text = "".join(pieces)
                case "call":
                    calls, line = self._calls(line), ""
                case "fail":
                    self._rows.append([*row, BackendFailed("It failed.", code=line, internal="not for callers")])
                    return
                case "crash" | "history":
                    self._rows.append([*row, verb])
                    return
                case _:
                    raise AssertionError(f"~ {verb}: no such direction")
        self._rows.append([*row, ReplyDone(text, calls, usage)])

    def _calls(self, line: str) -> tuple[ToolCall, ...]:
        calls: list[ToolCall] = []
        for number, part in enumerate(line.split(" & "), start=1):
            asked, arrow, result = part.partition(" -> ")
            name, _, arguments = asked.strip().partition(" ")
            if arrow:
                self.answer(name, arguments, result)
            calls.append(ToolCall(CallId(f"c{number}"), name, arguments))
        return tuple(calls)

    def answer(self, name: str, arguments: str, result: str) -> None:
        self._results[name, arguments] = result

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        for piece in self._rows.pop(0):
            if piece == "crash":
                self.crashed.set()
                await asyncio.Event().wait()
            elif piece == "history":
                said = " | ".join(f"{m.role}:{m.text}" for m in prompt.messages if m.role != "system")
                yield ReplyDone(said)
            elif isinstance(piece, BackendFailed):
                raise piece
            elif stream or isinstance(piece, ReplyDone):
                yield piece  # type: ignore[misc] strings are dealt with above

    async def close(self) -> None:
        pass

    def specs(self, patterns: Sequence[str], *, on_screen: bool = False) -> tuple[ToolSpec, ...]:
        return tuple(ToolSpec(name, f"The {name} tool.", {"type": "object"}) for name in TOOLS)

    def spec(self, name: str) -> ToolSpec | None:
        return next((spec for spec in (*self.specs(()), CONTEXT) if spec.name == name), None)

    def check(self, spec: ToolSpec, arguments: str) -> str:
        return Registry().check(spec, arguments)

    async def call(self, call: ToolCall, context: CallContext) -> ToolOutcome:
        if self.spec(call.name) is None:
            return ToolOutcome(f"There is no tool {call.name}.", True, "unknown_tool")
        if call.name == CONTEXT.name:
            return ToolOutcome(NOTHING_KNOWN)
        result = self._results[call.name, call.arguments]
        return ToolOutcome(result.removeprefix("!"), result.startswith("!"))


def _strings(line: str) -> tuple[list[str], str]:
    decoder = json.JSONDecoder()
    found: list[str] = []
    while line.startswith('"'):
        value, end = decoder.raw_decode(line)
        found.append(value)
        line = line[end:].strip()
    return found, line


class Stage:
    """The server of one transcript, which may die and be started again on the same store."""

    def __init__(self, home: Path, engine: str) -> None:
        self._home = home
        self._engine = engine
        self._clock = FixedClock()
        self._memory = MemoryStore(self._clock)
        self._limits: dict[str, Any] = {}
        self._ask: tuple[str, ...] = ()
        self._leave = ""
        self._wanted: dict[str, list[str]] = {"credential": [Scope.ADMIN]}
        self._open: AsyncExitStack | None = None
        self._house: Any = None
        self.script = Script()
        self.names = Names({})

    async def direct(self, line: str) -> None:
        verb, *words = line.split(" ")
        match verb:
            case "limit":
                self._limits[words[0]] = json.loads(words[1])
            case "credential":
                self._wanted[words[0]] = words[1:]
            case "tool":
                asked, _, result = " ".join(words).partition(" -> ")
                name, _, arguments = asked.partition(" ")
                self.script.answer(name, arguments, result)
            case "ask":
                self._ask = tuple(words)
            case "leave":
                self._leave = " ".join(words)
            case "settle":
                await self._start()
                await asyncio.wait_for(self._house.runs[0].settled(), 5)
            case "workflow":
                await self._start()
                source = (HERE / words[0]).read_text()
                workflow = compile_workflow(source.encode())
                await self._house.workflows.add(ADMIN.project, workflow, source=source, publish=True)
            case "crash" if not words:
                await self._crash()
            case _:
                self.script.add(line)

    async def _start(self) -> None:
        if self._open is not None:
            return
        self._open = opened = AsyncExitStack()
        store: Any = self._memory
        if self._engine == "sqlite":
            store = await open_store(self._home / "d.db", self._clock, writer=True)
            opened.push_async_callback(store.close)
        config = open_config(**self._limits)
        if self._ask:
            config.agents[config.defaults.agent] = AgentTable(ask=self._ask)
        self._house = await opened.enter_async_context(
            house_of(
                self._home,
                self.script,
                store=store,
                access=store,
                tools=self.script,
                config=config,
                clock=self._clock,
            )
        )
        for name, scopes in self._wanted.items():
            minted = await self._house.mint.create(name, ADMIN.project, scopes=tuple(map(Scope, scopes)))
            self.names.known[name] = minted.text
        self._wanted = {}

    async def stop(self) -> None:
        if self._open is not None:
            opened, self._open = self._open, None
            await opened.aclose()

    async def _crash(self) -> None:
        await self.stop()
        self._clock.move(LEASE_S)  # the memory outlives the process, and with it what it was driving

    async def exchange(self, exchange: Exchange) -> list[str]:
        await self._start()
        headers = {name: self.names.put_into(value) for name, value in exchange.headers().items()}
        headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
        body = self.names.put_into(exchange.body()).encode()
        chunks = [body[:10], body[10:]] if headers.pop("transfer-encoding", "") == "chunked" else body
        client = Client(self._house.app)
        target = self.names.put_into(exchange.target)
        cut = False
        async with client.stream(exchange.method, target, headers=headers, body=chunks) as answer:
            leave, self._leave = self._leave, ""
            if leave:
                await answer.until(leave.encode())
                return shown(exchange, answer.status, answer.headers, answer.body, cut=True)
            crashed = asyncio.create_task(self.script.crashed.wait())
            rest = asyncio.create_task(answer.rest())
            await asyncio.wait({crashed, rest}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
            if crashed.done():
                self.script.crashed.clear()
                cut = True
                await self._drained(exchange, answer, rest)
                await self._crash()
            crashed.cancel()
            rest.cancel()
            await asyncio.gather(crashed, rest, return_exceptions=True)
        return shown(exchange, answer.status, answer.headers, answer.body, cut=cut)

    async def _drained(self, exchange: Exchange, answer: Any, rest: "asyncio.Task[bytes]") -> None:
        """Let what was committed before the crash reach the client: it was on its way. What the transcript expects is
        waited for, on a slow machine too; what is more than that has a moment to show itself."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + DRAIN_S
        size = -1
        while True:
            lines = shown(exchange, answer.status, answer.headers, answer.body, cut=True)
            all_there = len(lines) >= len(exchange.answer) or loop.time() > ends_at
            if all_there and len(answer.body) == size:
                return
            size = len(answer.body)
            await asyncio.wait({rest}, timeout=0.05)


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_a_transcript_is_played_as_written(path: Path, engine: str, tmp_path: Path) -> None:
    stage = Stage(tmp_path, engine)
    try:
        for block in parse(path.read_text()):
            if isinstance(block, str):
                await stage.direct(block)
                continue
            actual = await stage.exchange(block)
            if matches(stage.names, block.answer, actual):
                continue
            if BLESS and engine == "memory":
                bless(path, block, actual, stage.names)
                pytest.fail(f"{path.name} was rewritten; run again until nothing changes, then read the diff")
            difference = "\n".join(difflib.unified_diff(block.answer, actual, "written", "played", lineterm="", n=2))
            raise AssertionError(f"{path.name}: {block.request[0]}\n{difference}")
    finally:
        await stage.stop()


def test_there_are_transcripts_for_every_dialect() -> None:
    assert TRANSCRIPTS and {path.parent.name for path in TRANSCRIPTS} >= {
        folder.name for folder in HERE.iterdir() if (folder / "requirements.toml").exists()
    }
