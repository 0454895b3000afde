"""A loop of its own, and stand-ins for the model and the tools of turns that run by it."""

from collections.abc import AsyncGenerator
from typing import Any

from dragoman.core.agents import Loop, Offered, ToolSpec
from dragoman.core.messages import Message, ToolCall, ToolResult, said
from dragoman.core.names import CallId
from dragoman.runtime.ports import Prompt, ReplyPiece
from tests.parts import LedgerTools

EXIT = ToolSpec(
    "exit_loop",
    "Ends it.",
    {"type": "object", "properties": {"response": {"type": "string"}}, "required": ["response"]},
)
LOOP = Loop(
    opening="context",
    calls_max=3,
    closing=EXIT,
    temperature=0.25,
    json_results=True,
    checked=True,
)
QUESTION, ANSWER, NEXT = said("user", "how is it?"), said("assistant", "Fine."), said("user", "And?")
ACTION = ToolSpec(
    "restart",
    "Restarts.",
    {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
)


def call(name: str, arguments: str = "{}", id: str = "c1") -> ToolCall:
    return ToolCall(CallId(id), name, arguments)


def calls(*made: ToolCall) -> Message:
    return Message("assistant", made)


def result(id: str, content: str) -> Message:
    return Message("tool", (ToolResult(CallId(id), content),))


class ContextTools(LedgerTools):
    """Tools of which `context` is never offered, and that check arguments as the registry does."""

    def __init__(self, **answers: str) -> None:
        super().__init__({"context": '{"learnings":[]}', **answers})

    def specs(self, patterns: Any, *, on_screen: bool = False) -> tuple[ToolSpec, ...]:
        return tuple(spec for spec in self._specs if spec.name != "context")

    def spec(self, name: str) -> ToolSpec | None:
        if name == "context":
            return ToolSpec("context", "", {"type": "object"}, offered=Offered.NEVER)
        return super().spec(name)

    def check(self, spec: ToolSpec, arguments: str) -> str:
        return (
            "" if all(f'"{name}"' in arguments for name in spec.parameters.get("required", ())) else "what is missing"
        )


class Talker:
    """A model that is asked in any order: replies by the forced tool, else the next of a list."""

    def __init__(self, *replies: list[ReplyPiece], forced: dict[str, list[ReplyPiece]] | None = None) -> None:
        self._replies = list(replies)
        self._forced = forced or {}
        self.prompts: list[Prompt] = []

    async def reply(self, prompt: Prompt, *, stream: bool) -> AsyncGenerator[ReplyPiece]:
        self.prompts.append(prompt)
        forced = self._forced.get(prompt.choice)
        for piece in forced if forced is not None else self._replies.pop(0):
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    async def close(self) -> None:
        pass

    @property
    def choices(self) -> list[str]:
        return [prompt.choice for prompt in self.prompts]
