"""A model that plays every agent of a workflow from what a test laid out for each, and refuses what nobody laid out.

Who is asked is told by the agent's own instructions, which begin with its name; whoever has none is inventing the
result of a tool.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from dragoman.core.errors import BackendFailed
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import CallId
from dragoman.runtime.ports import Prompt, ReplyDone, ReplyPiece, TextPiece

NAMED = re.compile(r"Your name is ([A-Z][A-Za-z -]*[A-Za-z])")
TRANSFER = "transfer_to_agent"
USAGE = Usage(10, 5)


@dataclass(frozen=True)
class Line:
    """A reply. `times` 0 = used up."""

    text: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    fails: str = ""
    times: int = 1


@dataclass(frozen=True)
class Asked:
    """`who` was asked this; "" = for the result of a tool."""

    who: str
    prompt: Prompt

    @property
    def system(self) -> str:
        return "\n".join(message.full_text for message in self.prompt.messages if message.role == "system")

    @property
    def said(self) -> list[tuple[str, str]]:
        """Role and text of all that is not the system's, and not a mere call."""
        return [
            (message.role, message.full_text)
            for message in self.prompt.messages
            if message.role in ("user", "assistant") and message.full_text
        ]

    @property
    def whole(self) -> str:
        """All texts, results of tools too."""
        return json.dumps([str(message) for message in self.prompt.messages], ensure_ascii=False)

    @property
    def offered(self) -> list[str]:
        return [tool.name for tool in self.prompt.tools]

    @property
    def targets(self) -> list[str]:
        """To whom it may hand over."""
        for tool in self.prompt.tools:
            if tool.name == TRANSFER:
                return list(tool.parameters["properties"]["assistant"]["enum"])
        return []


class Players:
    """The model. `asked` are all questions of turns in order, `unlaid` those that nobody laid out an answer for."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.unlaid: list[Asked] = []
        self.gates: dict[str, asyncio.Event] = {}
        """Who says nothing before that."""
        self._lines: dict[str, list[Line]] = {}
        self._results: list[tuple[str, str]] = []
        self._count = 0

    # -- what a test lays out ----------------------------------------------------------------------------------------

    def say(self, who: str, text: str, *, times: int = 1) -> None:
        self.lay(who, Line(text, times=times))

    def hand(self, who: str, to: str, *, text: str = "", times: int = 1) -> None:
        self.lay(who, Line(text, ((TRANSFER, {"assistant": to}),), times=times))

    def call(self, who: str, *calls: tuple[str, Any], text: str = "", times: int = 1) -> None:
        """All in one reply."""
        self.lay(who, Line(text, calls, times=times))

    def fail(self, who: str, code: str = "upstream_refused") -> None:
        self.lay(who, Line(fails=code))

    def invent(self, tool: str, result: str) -> None:
        """What comes when the result of this tool is to be invented."""
        self._results.append((tool, result))

    def lay(self, who: str, line: Line) -> None:
        self._lines.setdefault(who, []).append(line)

    # -- what a test looks at ----------------------------------------------------------------------------------------

    def of(self, who: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.who == who]

    @property
    def inventions(self) -> list[Asked]:
        return self.of("")

    @property
    def order(self) -> list[str]:
        """Who was asked, one after the other, inventions left out."""
        return [asked.who for asked in self.asked if asked.who]

    @property
    def left(self) -> list[str]:
        """Who still has lines that were not called for."""
        return [who for who, lines in self._lines.items() if lines]

    # -- the model ---------------------------------------------------------------------------------------------------

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        asked = Asked(_who(prompt), prompt)
        if asked.who in self.gates:
            await self.gates[asked.who].wait()
        self.asked.append(asked)
        line = self._line(asked)
        if line is None:
            self.unlaid.append(asked)
            raise BackendFailed(f"Nobody laid out an answer of {asked.who!r}.", code="upstream_refused")
        if line.fails:
            raise BackendFailed("The model failed.", code=line.fails, internal="not-for-callers")
        if line.text and stream:
            yield TextPiece(line.text)
        yield ReplyDone(line.text, self._calls(line.calls), USAGE, "tool_calls" if line.calls else "stop")

    async def close(self) -> None: ...

    def _line(self, asked: Asked) -> Line | None:
        if not asked.who:
            found = next((each for each in self._results if each[0] in asked.whole), None)
            if found is None:
                return None
            self._results.remove(found)
            return Line(found[1])
        lines = self._lines.get(asked.who, [])
        if not lines:
            return None
        line = lines[0]
        lines[0] = Line(line.text, line.calls, line.fails, line.times - 1)
        if lines[0].times == 0:
            del lines[0]
        return line

    def _calls(self, calls: Sequence[tuple[str, Any]]) -> tuple[ToolCall, ...]:
        """With ids as no two of a conversation have."""
        made: list[ToolCall] = []
        for name, arguments in calls:
            self._count += 1
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            made.append(ToolCall(CallId(f"call_{self._count}"), name, text))
        return tuple(made)


def _who(prompt: Prompt) -> str:
    for message in prompt.messages:
        if message.role == "system" and (found := NAMED.search(message.full_text)):
            return found[1]
    return ""
