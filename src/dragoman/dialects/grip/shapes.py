"""Grip's own structs, named and spelled as on its wire; fields stand in the order in which they are sent."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from dragoman.core.agents import JsonSchema
from dragoman.core.names import CONVERSATION_ID_CHARS_MAX

MESSAGE_CHARS_MAX = 100_000
"""Code points, as the two below (Q18)."""

KEY_CHARS_MAX = CONVERSATION_ID_CHARS_MAX
MODEL_CHARS_MAX = 256
KEY_PATTERN = r"^[\w:.@-]+$"

# -- chat ------------------------------------------------------------------------------------------------------------


class ChatRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of both chat routes. None = a session of its own, and the default model."""

    message: Annotated[str, Meta(min_length=1, max_length=MESSAGE_CHARS_MAX)]
    session_key: Annotated[str, Meta(max_length=KEY_CHARS_MAX, pattern=KEY_PATTERN)] | None = None
    model: Annotated[str, Meta(max_length=MODEL_CHARS_MAX)] | None = None


class UsageCount(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int


class ChatReply(Struct, frozen=True):
    response: str
    iterations: int
    usage: UsageCount
    tool_calls_made: tuple[str, ...]
    session_key: str


# -- sessions --------------------------------------------------------------------------------------------------------


class SessionKeys(Struct, frozen=True):
    sessions: tuple[str, ...]
    count: int


class SessionDetail(Struct, frozen=True):
    """Times are Unix seconds; `age_seconds` is how long ago the session was created."""

    key: str
    message_count: int
    created_at: float
    updated_at: float
    age_seconds: float


class SessionDeleted(Struct, frozen=True):
    deleted: bool
    key: str


class SessionEntry(Struct, frozen=True):
    """One readable message: Unix seconds of when its turn was asked, and of which tool a `tool` entry is the result."""

    role: Literal["user", "assistant", "tool"]
    content: str
    at: float
    tool: str | UnsetType = UNSET


class SessionMessages(Struct, frozen=True):
    key: str
    messages: tuple[SessionEntry, ...]
    count: int


# -- session files ---------------------------------------------------------------------------------------------------


class FileMessage(Struct, frozen=True):
    """Released servers write `user` and `assistant` with a text; their format knows the other two roles too."""

    role: Literal["user", "assistant", "system", "tool"]
    content: str | None = None


class SessionFile(Struct, frozen=True, kw_only=True):
    """`<workspace>/sessions/<session_key>.json`. Times are Unix seconds."""

    key: str
    messages: tuple[FileMessage, ...]
    summary: str | None = None
    created_at: float
    updated_at: float


# -- tools -----------------------------------------------------------------------------------------------------------


class ToolFunction(Struct, frozen=True):
    name: str
    description: str
    parameters: JsonSchema


class ToolDefinition(Struct, frozen=True):
    type: Literal["function"]
    function: ToolFunction


class Tools(Struct, frozen=True):
    tools: tuple[ToolDefinition, ...]
    count: int


class ToolExecuteRequest(Struct, frozen=True):
    parameters: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class ToolExecuted(Struct, frozen=True):
    tool: str
    output: str
    success: bool


# -- the server ------------------------------------------------------------------------------------------------------


class Health(Struct, frozen=True):
    status: Literal["ok"]
    version: str
    uptime_seconds: float


class Channels(Struct, frozen=True):
    telegram: Literal["disabled"] = "disabled"
    discord: Literal["disabled"] = "disabled"
    slack: Literal["disabled"] = "disabled"


class ServerStatus(Struct, frozen=True, kw_only=True):
    """None = not a setting of this server: a model's own limits hold, and each tool has its own."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    max_tool_iterations: int
    workspace: str
    session_count: int
    sandbox_enabled: bool | None = None
    shell_timeout: int | None = None
    mcp_server_count: int | None = None
    channels: Channels = Channels()
    heartbeat_enabled: bool = False
    heartbeat_interval_minutes: int | None = None
    tool_execute_enabled: bool = True


class MetricsCount(Struct, frozen=True):
    total_agent_runs: int
    total_tool_calls: int
    total_llm_calls: int
    total_errors: int
    total_prompt_tokens: int
    total_completion_tokens: int
    total_workflow_runs: int
    active_sessions: int
    uptime_seconds: float


class Metrics(Struct, frozen=True):
    metrics: MetricsCount


# -- errors ----------------------------------------------------------------------------------------------------------


class ErrorRow(Struct, frozen=True):
    field: str
    message: str
    type: str


class ErrorBody(Struct, frozen=True):
    """`errors` stands only where fields of the request were wrong."""

    detail: str
    errors: tuple[ErrorRow, ...] | UnsetType = UNSET
