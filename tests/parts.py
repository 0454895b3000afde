"""Stand-ins for models and tools that tests script, and a whole house around them."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dragoman.access.ports import AccessStore, Project
from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import CallId, Principal, ProjectId, Scope
from dragoman.runtime.ports import Model, Prompt, ReplyDone, ReplyPiece, Store, TextPiece
from dragoman.runtime.tool_ports import CallContext, ToolOutcome, Tools
from dragoman.server.assemble import open_house
from dragoman.server.config_checks import complete
from dragoman.server.config_shapes import Config, Limits
from dragoman.server.house import House, Parts
from dragoman.wire.dialect import Dialect
from tests.support import FixedClock

ADMIN = Principal(ProjectId("default"), "tester", "tester", frozenset({Scope.ADMIN}), rpm=0)


USAGE = Usage(10, 5)


def text_reply(*pieces: str, usage: Usage = USAGE) -> list[ReplyPiece]:
    return [*map(TextPiece, pieces), ReplyDone("".join(pieces), usage=usage)]


def call_reply(*calls: tuple[str, str], text: str = "", usage: Usage = USAGE) -> list[ReplyPiece]:
    made = tuple(ToolCall(CallId(f"c{n}"), name, arguments) for n, (name, arguments) in enumerate(calls, start=1))
    said: list[ReplyPiece] = [TextPiece(text)] if text else []
    return [*said, ReplyDone(text, made, usage, "tool_calls")]


Script = Sequence[Sequence[ReplyPiece | BaseException]]


class Gate(asyncio.Semaphore):
    """Lets pieces of a reply through, one by one or all."""

    def __init__(self) -> None:
        super().__init__(0)

    def open(self) -> None:
        for _ in range(1000):
            self.release()


class ScriptedReplies:
    """A model that gives the nth reply of a turn from the nth row. It counts the replies that stand in the prompt, so
    that a restart does not change what it says. An exception in a row is raised in its place."""

    def __init__(self, *script: Sequence[ReplyPiece | BaseException]) -> None:
        self._script = script
        self.prompts: list[Prompt] = []
        self.gate: Gate | None = None
        """When there is one, each piece waits to be let through."""
        self.closed = 0

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.prompts.append(prompt)
        since = 0
        for message in prompt.messages:
            since = 0 if message.role == "user" else since + (message.role == "assistant")
        try:
            for piece in self._script[since]:
                if self.gate is not None:
                    await self.gate.acquire()
                if isinstance(piece, BaseException):
                    raise piece
                if stream or isinstance(piece, ReplyDone):
                    yield piece
        finally:
            self.closed += 1

    async def close(self) -> None:
        pass


class LedgerTools:
    """Tools that write down each effect by the key it came with, and answer from a table."""

    def __init__(self, answers: Mapping[str, str], repeats: Mapping[str, Repeat] | None = None) -> None:
        self._answers = answers
        self._specs = tuple(
            ToolSpec(name, f"The {name} tool.", {"type": "object"}, repeat=(repeats or {}).get(name, Repeat.PURE))
            for name in answers
        )
        self.effects: Counter[tuple[str, str]] = Counter()
        self.before: Callable[[ToolCall], Awaitable[None]] | None = None

    def specs(self, patterns: Sequence[str], *, on_screen: bool = False) -> tuple[ToolSpec, ...]:
        return self._specs

    def spec(self, name: str) -> ToolSpec | None:
        return next((spec for spec in self._specs if spec.name == name), None)

    def check(self, spec: ToolSpec, arguments: str) -> str:
        return "" if arguments.startswith("{") else "The arguments must be a JSON object."

    async def call(self, call: ToolCall, context: CallContext) -> ToolOutcome:
        if self.before is not None:
            await self.before(call)
        if call.name not in self._answers:
            return ToolOutcome(f"There is no tool {call.name}.", True, "unknown_tool")
        self.effects[call.name, context.key] += 1
        answer = self._answers[call.name]
        return ToolOutcome(answer.removeprefix("!"), answer.startswith("!"), "tool_failed" if answer[:1] == "!" else "")


@asynccontextmanager
async def house_of(
    home: Path,
    model: Model,
    *,
    store: Store,
    access: AccessStore,
    tools: Tools | None = None,
    config: Config | None = None,
    clock: Any = None,
    dialects: tuple[Dialect, ...] | None = None,
) -> AsyncGenerator[House]:
    """The real thing around a scripted model, over a store that outlives it."""
    config = config or open_config()
    parts = Parts(
        clock=clock or FixedClock(),
        store=store,
        access=access,
        models={config.defaults.model: model},
        tools=tools or LedgerTools({}),
        dialects=dialects,
    )
    async with open_house(config, home, parts=parts) as house:
        if await access.project(ADMIN.project) is None:
            await access.put_project(Project(ADMIN.project, "default", 0.0))
        yield house


def open_config(**limits: Any) -> Config:
    """The default configuration without limits per minute."""
    unlimited = {"per_ip_rpm": 0, "per_credential_rpm": 0}
    return complete(Config(limits=Limits(**(unlimited | limits))), folder=Path("/"))
