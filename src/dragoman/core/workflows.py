"""Workflows: several agents that hand the conversation to each other, as data.

A workflow is compiled before it gets here: mentions in instructions have become edges, disabled agents are gone, the
bodies of prompts stand in the instructions. `core.workflow_checks` says what is wrong with one, `runtime.workflow` what
happens in a turn. Sources of the rules: rowboat spec 4 and 6.1.

    Workflow ── members ──┬─ agents      to whom it may hand over (`TRANSFER`, a tool the model is offered)
                          ├─ pipelines   each a list of steps that run one after the other and report back
                          └─ tools       of the workflow; `agent.tools` are patterns over the server's own
"""

from enum import StrEnum
from typing import cast

import msgspec
from msgspec import Struct

from dragoman.core.agents import AgentSpec, ToolSpec

TRANSFER = "transfer_to_agent"
"""The tool by which a model hands over: one argument, `TARGET`, names an agent or a pipeline (rowboat spec 1.4)."""
TARGET = "assistant"
SEARCH = "rag_search"
"""The tool that an agent with `sources` is offered (rowboat spec 7.2)."""
GREETING = "How can I help you today?"
CALLS_MAX = 3
"""How often one agent may call another that reports back, in one turn, where neither says otherwise."""


class Visibility(StrEnum):
    """Who is told what an agent says."""

    USER_FACING = "user_facing"
    """The user: its text ends the turn."""
    INTERNAL = "internal"
    """Other agents: its text goes back to who called it."""


class Control(StrEnum):
    """Who speaks after an agent has."""

    RETAIN = "retain"
    """It again, in the next turn."""
    TO_PARENT = "relinquish_to_parent"
    TO_START = "relinquish_to_start"


class ToolKind(StrEnum):
    """What runs a tool of a workflow."""

    WEBHOOK = "webhook"
    MOCK = "mock"
    """A model invents the result."""
    MCP = "mcp"
    MISSING = "missing"
    """Nothing here: each call is answered with `WorkflowTool.why`."""


class WorkflowTool(Struct, frozen=True, omit_defaults=True):
    spec: ToolSpec
    kind: ToolKind
    instructions: str = ""
    """What whoever invents its results goes by."""
    server: str = ""
    """Of `MCP`: the name of the project's server, or of a connection, that has it."""
    why: str = ""


class Member(Struct, frozen=True, omit_defaults=True):
    """An agent of a workflow. `agent.instructions` is all that its model is told; `agent.tools` are patterns over the
    server's own tools, () for none."""

    agent: AgentSpec
    description: str = ""
    control: Control = Control.RETAIN
    visibility: Visibility = Visibility.USER_FACING
    step: bool = False
    """It runs only as a step of a pipeline, and hands over to nobody."""
    calls_max: int | None = None
    """How often one agent may hand over to it in one turn; None = `CALLS_MAX` if it is internal, else no limit."""
    agents: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Ids of the project's sources that it may search."""
    found_max: int = 3
    whole_documents: bool = False
    """A search gives the documents in which it found something, rather than the passages."""

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def internal(self) -> bool:
        return self.step or self.visibility is Visibility.INTERNAL


class Pipeline(Struct, frozen=True, omit_defaults=True):
    """`steps` are names of members; one may stand in it twice."""

    name: str
    steps: tuple[str, ...]
    description: str = ""


class Workflow(Struct, frozen=True, omit_defaults=True):
    """`start` is the name of a member that is no step, or of a pipeline."""

    name: str
    start: str
    members: tuple[Member, ...]
    tools: tuple[WorkflowTool, ...] = ()
    pipelines: tuple[Pipeline, ...] = ()
    greeting: str = GREETING
    """What is said to who comes without a question."""


class Handing(StrEnum):
    """How the word went from one agent to another."""

    TRANSFERRED = "transferred"
    """To one that speaks with the user."""
    CALLED = "called"
    """To one that reports back."""
    ENTERED = "entered"
    """To the first step of a pipeline, whose last one reports back."""
    STEPPED = "stepped"
    """From one step of a pipeline to the next."""
    RETURNED = "returned"
    """Back to the caller."""
    RESTARTED = "restarted"
    """To the workflow's start."""


class Staging(Struct, frozen=True, omit_defaults=True):
    """How a workflow answers one turn. It goes onto the tape with the turn.

    `workflow` is the id of a version, which never changes. `last` is who spoke last as the caller has it, None = as the
    messages have it; "" = nobody. `mocks` are tools whose result is invented in this turn, each with what to go by;
    `mock_all` = all of them, and `mock_prompt` is then what to go by instead of each tool's own instructions.
    """

    workflow: str
    last: str | None = None
    mocks: dict[str, str] = {}
    mock_all: bool = False
    mock_prompt: str = ""


class WorkflowWanted(Struct, frozen=True):
    """Which workflow a caller wants to be answered by, and how; "" = the conversation's own, else the published one.

    `test_profile` is the id of one. `last` and `mocks` as in `Staging`."""

    version: str = ""
    test_profile: str = ""
    last: str | None = None
    mocks: dict[str, str] = {}


def target_of(text: str) -> str:
    """Whom the arguments or the result of a hand-over name; "" = nobody."""
    try:
        read = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    if not isinstance(read, dict):
        return ""
    name = cast("dict[str, object]", read).get(TARGET)
    return name if isinstance(name, str) else ""
