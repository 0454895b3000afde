"""Bodies and answers of the chat routes, named and spelled as on the wire (elastic spec 1.2, 3.1). No body takes fields
that are not here (Q7)."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from dragoman.dialects.elastic.messages import WireMessage

WireScope = Literal["observability", "search", "all"]


class Function(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool of the caller's. `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any] | None = None


class GivenInstruction(Struct, frozen=True, forbid_unknown_fields=True):
    """A wish of the user. Releases differ in what they call the id, and one adds a type."""

    text: str
    id: str = ""
    doc_id: str = ""
    instruction_type: str = ""


class FunctionsExcept(Struct, frozen=True, forbid_unknown_fields=True):
    """No functions but these: what 8.x took in place of a flag."""

    excepted: tuple[str, ...] = field(name="except")


class ScreenData(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    description: str
    value: Any


class ScreenContext(Struct, frozen=True, forbid_unknown_fields=True):
    """What one part of the caller's screen shows and offers. Starter prompts are for people."""

    description: str = ""
    screenDescription: str = ""
    data: tuple[ScreenData, ...] = ()
    actions: tuple[Function, ...] = ()
    starterPrompts: Any = None


class CompleteFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both chat/complete routes take. Flags are read leniently (Q8): whatever `errors.truth` holds for true is."""

    connectorId: str
    messages: tuple[WireMessage, ...]
    persist: Any = None
    conversationId: str = ""
    title: str = ""
    disableFunctions: Any = None
    instructions: tuple[str | GivenInstruction, ...] = ()
    isStream: Any = None


class PublicComplete(CompleteFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    actions: tuple[Function, ...] = ()


class InternalComplete(CompleteFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    screenContexts: tuple[ScreenContext, ...]
    scopes: tuple[WireScope, ...]


class Completed(Struct, frozen=True, omit_defaults=True):
    """The answer in one piece. `data` is the last message's text; `conversationId` only if the conversation is kept."""

    connectorId: str
    conversationId: str | UnsetType = UNSET
    data: str | UnsetType = UNSET


class ChatAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model call. `name` says what it is for."""

    name: str
    systemMessage: str
    messages: tuple[WireMessage, ...]
    connectorId: str
    functions: tuple[Function, ...]
    scopes: tuple[WireScope, ...]
    functionCall: str = ""


class RecallAsked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`prompt` and `context` are what older releases sent in place of `messages` and `screenDescription`."""

    connectorId: str
    scopes: tuple[WireScope, ...]
    messages: tuple[WireMessage, ...] = ()
    screenDescription: str = ""
    prompt: str = ""
    context: str = ""
