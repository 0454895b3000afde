"""Bodies and answers of the chat route, named and spelled as on the wire (rowboat spec 1.1, 1.4, 2, 3.1, 3.2, 5.2).

Requests are read leniently and field by field (`decode.py`), in either spelling; what is here says what callers are
told of them, and how answers are written. Fields stand in the order in which the wire has them.
"""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

Visible = Literal["internal", "external"]


class Refusal(Struct, frozen=True):
    error: str


# -- calls -------------------------------------------------------------------------------------------------------------


class CalledFunction(Struct, frozen=True):
    """`arguments` is JSON text."""

    name: str
    arguments: str


class Call(Struct, frozen=True):
    id: str
    type: Literal["function"]
    function: CalledFunction


# -- messages ----------------------------------------------------------------------------------------------------------


class SystemMessage(Struct, frozen=True, tag_field="role", tag="system"):
    content: str
    timestamp: str | UnsetType = UNSET


class UserMessage(Struct, frozen=True, tag_field="role", tag="user"):
    content: str
    timestamp: str | UnsetType = UNSET


class SnakeAssistant(Struct, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """G1. Either a text, or calls without `content`; an answer's messages have one call each."""

    content: str | UnsetType | None = UNSET
    tool_calls: tuple[Call, ...] | UnsetType = UNSET
    agenticSender: str | UnsetType | None = UNSET
    agenticResponseType: Visible


class SnakeTool(Struct, frozen=True, tag_field="role", tag="tool"):
    content: str
    tool_call_id: str
    tool_name: str


class CamelAssistant(Struct, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """G1.5 and G2. Either a text with its `responseType`, or calls with `content` null. `agenticName` is what the
    client libraries of both call `agentName`."""

    content: str | None
    toolCalls: tuple[Call, ...] | UnsetType = UNSET
    agentName: str | None = None
    agenticName: str | UnsetType | None = UNSET
    responseType: Visible | UnsetType = UNSET
    timestamp: str | UnsetType = UNSET


class CamelTool(Struct, frozen=True, tag_field="role", tag="tool"):
    content: str
    toolCallId: str
    toolName: str
    timestamp: str | UnsetType = UNSET


class BothAssistant(Struct, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """Every spelling at once, for a caller whose generation is not known (rowboat spec 5.2)."""

    content: str | None
    tool_calls: tuple[Call, ...] | UnsetType = UNSET
    toolCalls: tuple[Call, ...] | UnsetType = UNSET
    agenticSender: str | None
    agentName: str | None
    agenticName: str | None
    agenticResponseType: Visible
    responseType: Visible
    timestamp: str


class BothTool(Struct, frozen=True, tag_field="role", tag="tool"):
    content: str
    tool_call_id: str
    toolCallId: str
    tool_name: str
    toolName: str
    timestamp: str


SnakeMessage = SystemMessage | UserMessage | SnakeAssistant | SnakeTool
CamelMessage = SystemMessage | UserMessage | CamelAssistant | CamelTool
BothMessage = SystemMessage | UserMessage | BothAssistant | BothTool


# -- requests ----------------------------------------------------------------------------------------------------------


class ChatRequest(Struct, frozen=True):
    """G1: the whole history each time, and `state` as the last answer had it; null on the first turn."""

    messages: tuple[SnakeMessage, ...]
    state: Any = None
    workflowId: str | None = None
    testProfileId: str | None = None


class MockingRequest(Struct, frozen=True):
    """G1.5. `mockTools`: what whoever invents a tool's result goes by, by the tool's name."""

    messages: tuple[CamelMessage, ...]
    state: Any = None
    workflowId: str | None = None
    testProfileId: str | None = None
    mockTools: dict[str, str] | None = None


class TurnRequest(Struct, frozen=True):
    """G2: only what is new. Without a `conversationId` a conversation is begun."""

    messages: tuple[CamelMessage, ...]
    conversationId: str | None = None
    mockTools: dict[str, str] | None = None
    stream: bool | None = False


class PlainRequest(Struct, frozen=True):
    """Nothing tells which generation the caller is of. Both spellings of a message are understood."""

    messages: tuple[BothMessage, ...]
    mockTools: dict[str, str] | None = None


# -- answers -----------------------------------------------------------------------------------------------------------


class UsedTokens(Struct, frozen=True):
    """LLM tokens of all turns that handed this state on."""

    total: int
    prompt: int
    completion: int


class State(Struct, frozen=True):
    """To be sent back with the next turn, as it is."""

    last_agent_name: str
    tokens: UsedTokens


class ChatReply(Struct, frozen=True):
    """G1: this turn's messages; the last one is for the user."""

    messages: tuple[SnakeMessage, ...]
    state: State


class MockingReply(Struct, frozen=True):
    """G1.5."""

    messages: tuple[CamelMessage, ...]


class Reason(Struct, frozen=True):
    type: Literal["api"] = "api"


class TurnInput(Struct, frozen=True):
    messages: tuple[CamelMessage, ...]
    mockTools: dict[str, str] | UnsetType = UNSET


class Turn(Struct, frozen=True):
    """`createdAt` is ISO 8601, UTC."""

    id: str
    reason: Reason
    input: TurnInput
    output: tuple[CamelMessage, ...]
    createdAt: str


class TurnReply(Struct, frozen=True):
    """G2."""

    conversationId: str
    turn: Turn


class EveryInput(Struct, frozen=True):
    messages: tuple[BothMessage, ...]
    mockTools: dict[str, str] | UnsetType = UNSET


class EveryTurn(Struct, frozen=True):
    id: str
    reason: Reason
    input: EveryInput
    output: tuple[BothMessage, ...]
    createdAt: str


class EveryReply(Struct, frozen=True):
    """What suits a caller of any generation: it may go on with the whole history, or with `conversationId`."""

    messages: tuple[BothMessage, ...]
    state: State
    conversationId: str
    turn: EveryTurn


# -- frames of a stream ------------------------------------------------------------------------------------------------


class MessageFrame(Struct, frozen=True, tag_field="type", tag="message"):
    data: CamelMessage


class DoneFrame(Struct, frozen=True, tag_field="type", tag="done"):
    conversationId: str
    turn: Turn


class ErrorFrame(Struct, frozen=True, tag_field="type", tag="error"):
    error: str
