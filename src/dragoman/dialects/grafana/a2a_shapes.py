"""A2A 0.3's structs as this wire uses them: what comes in as params, and what goes out as results and cards."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from dragoman.core.agents import JsonSchema

TOKEN_STREAMING = "https://grafana.com/extensions/token-streaming/v1"
REMOTE_TOOLS = "https://grafana.com/extensions/remote-tool-execution/v1"
CLIENT_TOOLS = "https://grafana.com/extensions/client-provided-tools/v1"

PROTOCOL_VERSION = "0.3.0"

StopReason = Literal["tool_use", "end_turn"]
State = Literal["submitted", "working", "completed", "failed", "canceled"]
RpcId = str | int | None | UnsetType
"""As it came; UNSET = there was none. None stands only in answers to what could not be read."""

# -- what comes in ---------------------------------------------------------------------------------------------------


class Part(Struct, frozen=True):
    """`kind` is text, data or file; only text is read."""

    kind: str
    text: str | None = None


class Message(Struct, frozen=True, rename="camel"):
    role: str
    parts: tuple[Part, ...]
    message_id: str = ""
    context_id: str | None = None
    task_id: str | None = None


class Configuration(Struct, frozen=True, rename="camel"):
    blocking: bool | None = None
    push_notification_config: Any = None


class ClientTool(Struct, frozen=True, rename="camel"):
    name: str
    description: str = ""
    input_schema: JsonSchema | None = None


class ClientTools(Struct, frozen=True):
    tools: tuple[ClientTool, ...] = ()


class Metadata(Struct, frozen=True):
    client_tools: ClientTools | None = msgspec.field(name=CLIENT_TOOLS, default=None)


class SendParams(Struct, frozen=True, rename="camel"):
    """Of message/send and message/stream. The wire's own clients put `contextId` here, A2A puts it into the message."""

    message: Message
    context_id: str | None = None
    configuration: Configuration | None = None
    metadata: Metadata | None = None


class TaskParams(Struct, frozen=True, rename="camel"):
    """Of tasks/get, tasks/cancel and tasks/resubscribe."""

    id: str
    history_length: int | None = None


class SendCall(Struct, frozen=True, kw_only=True):
    """The whole body, as documents show it."""

    jsonrpc: Literal["2.0"]
    id: RpcId = UNSET
    method: Literal["message/stream", "message/send"]
    params: SendParams


class TaskCall(Struct, frozen=True, kw_only=True):
    jsonrpc: Literal["2.0"]
    id: RpcId = UNSET
    method: Literal["tasks/get", "tasks/cancel", "tasks/resubscribe"]
    params: TaskParams


class Approval(Struct, frozen=True, rename="camel"):
    """The body of /a2a/approval/{id}: echoed from the artifact, but for `approved`."""

    approved: bool
    id: str | None = None
    chat_id: str | None = None
    tenant_id: str | None = None
    user_id: str | None = None


class RemoteToolResponse(Struct, frozen=True, rename="camel"):
    """The body of /a2a/remote-tool-response. `result` may be any JSON."""

    request_id: str
    success: bool
    chat_id: str | None = None
    result: Any = None
    error: str | None = None


# -- what goes out ---------------------------------------------------------------------------------------------------


class TextPart(Struct, frozen=True, tag_field="kind", tag="text"):
    text: str


class DataPart(Struct, frozen=True, tag_field="kind", tag="data"):
    data: Any
    """One of the structs below."""


class AgentMessage(Struct, frozen=True, rename="camel", tag_field="kind", tag="message"):
    role: Literal["agent", "user"]
    message_id: str
    parts: tuple[TextPart, ...]
    context_id: str | UnsetType = UNSET
    task_id: str | UnsetType = UNSET


class Status(Struct, frozen=True):
    """`timestamp` is RFC 3339, UTC."""

    state: State
    timestamp: str | UnsetType = UNSET
    message: AgentMessage | UnsetType = UNSET


class StatusUpdate(Struct, frozen=True, rename="camel", tag_field="kind", tag="status-update"):
    task_id: str
    context_id: str
    status: Status
    final: bool


class Artifact(Struct, frozen=True, rename="camel", tag_field="kind", tag="artifact"):
    artifact_id: str
    name: str
    parts: tuple[TextPart | DataPart, ...]
    metadata: dict[str, Any] | UnsetType = UNSET


class ArtifactUpdate(Struct, frozen=True, rename="camel", tag_field="kind", tag="artifact-update"):
    task_id: str
    context_id: str
    artifact: Artifact


class RemoteToolCall(Struct, frozen=True, rename="camel"):
    request_id: str
    chat_id: str
    tool_name: str
    tool_input: dict[str, Any]
    timeout_ms: int


class RemoteToolRequest(Struct, frozen=True, tag_field="type", tag="REMOTE_TOOL_REQUEST"):
    data: RemoteToolCall


class Task(Struct, frozen=True, rename="camel", tag_field="kind", tag="task"):
    id: str
    context_id: str
    status: Status
    artifacts: tuple[Artifact, ...] | UnsetType = UNSET
    history: tuple[AgentMessage, ...] | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


Result = StatusUpdate | ArtifactUpdate | RemoteToolRequest | Task

# -- the data of artifacts -------------------------------------------------------------------------------------------


class ToolCallData(Struct, frozen=True, rename="camel"):
    """`inputs` is the object of arguments, or the text that the model wrote if that is no object."""

    tool_id: str
    tool_name: str
    inputs: dict[str, Any] | str


class ToolResultData(Struct, frozen=True, rename="camel"):
    tool_id: str
    tool_name: str
    result: str
    is_error: bool
    duration_ms: int


class ApprovalData(Struct, frozen=True, rename="camel"):
    """What the client shows a person, and sends back with the decision."""

    id: str
    chat_id: str
    tenant_id: str
    user_id: str
    tool_name: str
    tool_input: dict[str, Any] | str
    description: str


class StepData(Struct, frozen=True, rename="camel"):
    step_id: str
    stop_reason: StopReason


class UsageData(Struct, frozen=True, rename="pascal"):
    input_tokens: int
    output_tokens: int
    model: str | UnsetType = UNSET


class DeltaData(Struct, frozen=True, rename="camel"):
    delta: str
    content_type: Literal["text", "thinking"]


# -- JSON-RPC --------------------------------------------------------------------------------------------------------


class RpcError(Struct, frozen=True):
    """Q3: `data` is a text or absent."""

    code: int
    message: str
    data: str | UnsetType = UNSET


class RpcFailure(Struct, frozen=True, kw_only=True):
    """`status` and `message` only beside an HTTP status that is an error too: what people with curl look for."""

    jsonrpc: Literal["2.0"] = "2.0"
    id: RpcId = UNSET
    error: RpcError
    status: str | UnsetType = UNSET
    message: str | UnsetType = UNSET


class RpcAnswer(Struct, frozen=True, kw_only=True):
    jsonrpc: Literal["2.0"] = "2.0"
    id: RpcId = UNSET
    result: Task


class Settled(Struct, frozen=True, rename="camel"):
    """`repeated` = this very answer had been given before."""

    chat_id: str
    task_id: str
    repeated: bool


class SettledReply(Struct, frozen=True, kw_only=True):
    status: Literal["success"] = "success"
    data: Settled
