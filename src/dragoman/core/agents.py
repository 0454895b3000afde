"""Agents and the tools they hold, as data."""

from enum import StrEnum
from typing import Any

from msgspec import Struct

JsonSchema = dict[str, Any]
"""A JSON Schema document. The one place where free-form JSON is the thing itself and not an unparsed shape."""

NO_ARGUMENTS: JsonSchema = {"type": "object", "properties": {}}


class Repeat(StrEnum):
    """What may be done with a call whose result was lost in a crash (design decision 6)."""

    PURE = "pure"
    """Only reads: run it again."""
    IDEMPOTENT = "idempotent"
    """Run it again with the same key, `run:call`."""
    ONCE = "once"
    """Never by itself: the result is `outcome_unknown` and the model is told."""


class ToolSpec(Struct, frozen=True):
    """A tool as a model sees it, plus what the runtime must know to run it.

    `examples` and `keywords` are sentences and words people use when they want this tool; they help the offline model
    and tool search, and are not sent to an LLM.
    """

    name: str
    description: str
    parameters: JsonSchema
    repeat: Repeat = Repeat.ONCE
    toolset: str = ""
    timeout_s: float = 60.0
    held_s: float = 0.0
    """Of a client tool: how long a run waits for its result once it asked for it. 0 = the run does not wait, it ends
    with RunNeedsClient and the caller's next turn brings the result (design decision 7)."""
    examples: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


class AgentSpec(Struct, frozen=True):
    """Instructions + tools + model. `tools` are patterns over `toolset.tool` names, such as `workspace.*`."""

    name: str
    instructions: str
    tools: tuple[str, ...] = ("*",)
    model: str = ""
    """A model's name; "" = the configured default."""
    history_tokens: int = 24_000
    """How much of the conversation so far the model is shown, in estimated LLM tokens."""
    ask: tuple[str, ...] = ()
    """Patterns of tools that a person must approve before each call. All others run by themselves (`auto`)."""
    deny: tuple[str, ...] = ()
    """Patterns of tools that are shown to the model and refused. What is also in `ask` is refused."""
    approval_s: float = 120.0
    """How long an approval is waited for; after that it counts as denied."""
