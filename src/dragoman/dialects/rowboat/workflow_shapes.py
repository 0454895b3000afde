"""Workflow JSON of both generations: keys as they are spelled there, unknown ones left out. Source: rowboat spec 6.1.

`null` stands for a key that is not there (Q1).
"""

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, Struct

from dragoman.core.agents import Repeat
from dragoman.core.workflow_drafts import PromptKind
from dragoman.core.workflows import Control, Visibility

FOUND_MAX = 1_000
"""What may be wanted of a search; how much it gives has a limit of its own."""
CALLS_MAX = 1_000
"""What a limit of calls from one agent to another may be."""
TIMEOUT_S_MAX = 600.0
"""Of one call of a tool."""

Text = Annotated[str, Meta(max_length=200_000)]
Line = Annotated[str, Meta(max_length=10_000)]


class AgentType(StrEnum):
    """`post_process` and `escalation` answer like any other agent: nothing else was ever done with them in the
    generations that are served here."""

    CONVERSATION = "conversation"
    POST_PROCESS = "post_process"
    ESCALATION = "escalation"
    PIPELINE = "pipeline"
    """A step of pipelines."""


class RagReturnType(StrEnum):
    CHUNKS = "chunks"
    CONTENT = "content"
    """The whole documents."""


class Agent(Struct, frozen=True, rename="camel"):
    name: str
    instructions: Text
    description: Line = ""
    type: AgentType = AgentType.CONVERSATION
    model: Annotated[str, Meta(max_length=200)] = ""
    examples: Text = ""
    disabled: bool = False
    rag_data_sources: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    rag_return_type: RagReturnType = RagReturnType.CHUNKS
    rag_k: Annotated[int, Meta(ge=1, le=FOUND_MAX)] = 3
    control_type: Control | None = None
    output_visibility: Visibility = Visibility.USER_FACING
    max_calls_per_parent_agent: Annotated[int, Meta(ge=0, le=CALLS_MAX)] | None = None


class Prompt(Struct, frozen=True, rename="camel"):
    name: str
    prompt: Text
    type: PromptKind = PromptKind.STYLE


class Tool(Struct, frozen=True, rename="camel"):
    """`repeat` and `timeout` (seconds) are ours: what may be done with a call whose result was lost in a crash, and how
    long one may take."""

    name: str
    description: Line = ""
    parameters: dict[str, Any] | None = None
    mock_tool: bool = False
    mock_instructions: Line = ""
    is_mcp: bool = False
    mcp_server_name: Annotated[str, Meta(max_length=200)] = ""
    is_library: bool = False
    is_composio: bool = False
    is_webhook: bool = False
    is_gemini_image: bool = False
    repeat: Repeat | None = None
    timeout: Annotated[float, Meta(gt=0, le=TIMEOUT_S_MAX)] | None = None


class Pipeline(Struct, frozen=True, rename="camel"):
    name: str
    agents: tuple[str, ...]
    description: Line = ""


class Document(Struct, frozen=True, rename="camel"):
    """The lists are read item by item, so that every fault in them is named."""

    agents: list[Any]
    prompts: list[Any] = []
    tools: list[Any] = []
    pipelines: list[Any] = []
    start_agent: str = ""
    name: str = ""
    mock_tools: dict[str, str] = {}
