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


class Offered(StrEnum):
    """To which turns a tool is offered."""

    ALWAYS = "always"
    ON_SCREEN = "on_screen"
    """To those whose caller says what is on the screen (`core.screen`)."""
    NEVER = "never"
    """No model is shown it: a turn's loop begins with it, or a caller asks for it by name."""


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
    offered: Offered = Offered.ALWAYS


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


class Loop(Struct, frozen=True, omit_defaults=True):
    """How a turn's loop runs where its wire wants it otherwise than ours. It goes onto the tape with the turn, so that
    whoever carries the run on after a crash goes by it too.

        opening? ─► ( model ─► server tools )* ─► model, offered `closing` alone once `calls_max` calls were made
    """

    opening: str = ""
    """A tool that is called before the model is asked first, unless the messages end with a call or hold a result of it
    behind the last question."""
    calls_max: int = 0
    """Calls of the server's tools, the opening one included, until the model is made to answer; 0 = no such limit.
    Calls of the caller's that are refused (`checked`) count too. It stands in the place of `same_call`."""
    closing: ToolSpec | None = None
    """What the model is then made to call. The text under its one required property is the answer."""
    result_tokens_max: int = 0
    """What a result may have, in estimated LLM tokens, before it is cut; 0 = no limit of this kind."""
    temperature: float | None = None
    tools: bool = True
    """False: the model is offered none, neither ours nor the caller's."""
    own_tools: bool = True
    """False: it is offered the caller's only, and those in `only`."""
    only: tuple[str, ...] = ()
    """Without `own_tools`: the names of those of ours that are offered all the same."""
    choice: str = ""
    """The tool that the model must call in its first reply, as for `Prompt.choice`."""
    json_results: bool = False
    """Results are JSON objects: other text is wrapped, and errors say `error` and `message`."""
    once: bool = False
    """One reply and no more: the model is asked whatever the messages end with, its system message is the turn's even
    if that is empty, and all its calls are left to the caller."""
    checked: bool = False
    """A call of no tool, or of a caller's tool with arguments that do not fit its schema, is answered by us with an
    error, and the model is asked again."""
    whole_replies: bool = False
    """A reply that its model cut short (finish reason `length`) fails the run."""
    titled: bool = False
    """The conversation, of which nothing was kept before this turn, is given a title that the model thinks of, before
    the run ends."""
