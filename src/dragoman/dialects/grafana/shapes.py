"""The wire's own structs for chats, named and spelled as there; fields stand in the order in which they are sent.

Success is `{"status":"success","data":…}`, failure `{"status":"error","message":…,"error":…}`.
"""

from typing import Any, Generic, Literal, TypeVar

from msgspec import UNSET, Struct, UnsetType

D = TypeVar("D")

# -- envelopes -------------------------------------------------------------------------------------------------------


class Success(Struct, Generic[D], frozen=True, kw_only=True):
    status: Literal["success"] = "success"
    data: D


class ErrorBody(Struct, frozen=True, kw_only=True):
    """Some clients read `message`, some `error`: both say the same (Q14). By `name` they know what is not offered."""

    status: Literal["error"] = "error"
    message: str
    error: str
    name: Literal["NOT_IMPLEMENTED"] | UnsetType = UNSET


# -- requests --------------------------------------------------------------------------------------------------------


class StartChat(Struct, frozen=True):
    """`chatId` null or "" is as if it were not there."""

    prompt: str | None = None
    chatId: str | None = None


class ChangeChat(Struct, frozen=True):
    """What is not said stays as it is; null says nothing."""

    name: str | None = None
    isPublic: bool | None = None
    archived: bool | None = None


# -- messages --------------------------------------------------------------------------------------------------------


class TextContent(Struct, frozen=True, tag="text"):
    text: str


class ThinkingContent(Struct, frozen=True, tag="thinking"):
    thinking: str


class ImageContent(Struct, frozen=True, tag="image_url"):
    url: str


class ToolUse(Struct, frozen=True, tag="tool_use", kw_only=True):
    toolId: str
    toolName: str
    toolInput: dict[str, Any]


class ToolResultContent(Struct, frozen=True, tag="tool_result", kw_only=True):
    """`toolUseId` is the `toolId` of the call. `durationMs` is left out where it is not known."""

    toolUseId: str
    toolName: str
    toolResult: tuple[TextContent, ...]
    isError: bool
    durationMs: int | UnsetType = UNSET


Content = TextContent | ThinkingContent | ImageContent | ToolUse | ToolResultContent
MessageRole = Literal["user", "assistant", "tool", "internal"]


class ChatMessage(Struct, frozen=True, kw_only=True):
    """One message. `content` is never empty. `chatId` stands in events only."""

    id: str
    role: MessageRole
    content: tuple[Content, ...]
    type: Literal["message"] = "message"
    created: str
    hidden: bool = False
    audience: str = ""
    chatId: str | UnsetType = UNSET


class ChatMessages(Struct, frozen=True):
    messages: tuple[ChatMessage, ...]


class UiPart(Struct, frozen=True, kw_only=True, rename={"kind": "type"}):
    """`text` and `reasoning` have a text; `file` a URL; `dynamic-tool` the rest, its `state` saying how far it is."""

    kind: Literal["text", "reasoning", "file", "dynamic-tool"]
    text: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    toolName: str | UnsetType = UNSET
    toolCallId: str | UnsetType = UNSET
    state: Literal["input-available", "output-available", "output-error"] | UnsetType = UNSET
    input: dict[str, Any] | UnsetType = UNSET
    output: str | UnsetType = UNSET
    errorText: str | UnsetType = UNSET


class UiMetadata(Struct, frozen=True):
    hidden: bool


class UiMessage(Struct, frozen=True, kw_only=True):
    id: str
    role: Literal["user", "assistant", "system"]
    created: str
    parts: tuple[UiPart, ...]
    metadata: UiMetadata | UnsetType = UNSET


class UiMessages(Struct, frozen=True):
    thread: Literal["main"]
    messages: tuple[UiMessage, ...]


# -- chats -----------------------------------------------------------------------------------------------------------


class ChatStarted(Struct, frozen=True):
    chatId: str


class ChatDeleted(Struct, frozen=True):
    chatId: str


class Chat(Struct, frozen=True, kw_only=True):
    """`messages` are left out in lists. `running` = an answer is being written or waits to be."""

    id: str
    name: str
    created: str
    modified: str
    userId: str
    category: Literal["assistant"] = "assistant"
    messages: tuple[ChatMessage, ...] | UnsetType = UNSET
    source: str
    engine: Literal["legacy"] = "legacy"
    isPublic: bool
    archived: bool
    running: bool


class Pagination(Struct, frozen=True):
    total: int
    limit: int
    offset: int


class Chats(Struct, frozen=True):
    items: tuple[Chat, ...]
    pagination: Pagination


class Ticket(Struct, frozen=True):
    ticket: str
    expiresAt: str


# -- events ----------------------------------------------------------------------------------------------------------


class Execution(Struct, frozen=True):
    """Data of AGENT_EXECUTION_STARTED, _COMPLETED and _FAILED."""

    chatId: str
    taskId: str
    error: str | UnsetType = UNSET


class RemoteToolRequest(Struct, frozen=True):
    requestId: str
    chatId: str
    toolName: str
    toolInput: dict[str, Any]
    timeoutMs: int


EventType = Literal[
    "MESSAGE_CREATED",
    "MESSAGE_UPDATED",
    "AGENT_EXECUTION_STARTED",
    "AGENT_EXECUTION_COMPLETED",
    "AGENT_EXECUTION_FAILED",
    "REMOTE_TOOL_REQUEST",
]


class ChatEvent(Struct, frozen=True):
    type: EventType
    data: ChatMessage | Execution | RemoteToolRequest
