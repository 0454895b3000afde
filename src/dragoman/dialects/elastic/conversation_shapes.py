"""This wire's conversations, as they are sent and answered (elastic spec 3.2)."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

from dragoman.dialects.elastic.messages import WireMessage

Flag = bool | Literal["true", "false"]
"""Upstream reads either."""


class TokenCount(Struct, frozen=True, forbid_unknown_fields=True):
    """Sent by old clients; nothing is made of it."""

    prompt: float
    completion: float
    total: float


class Author(Struct, frozen=True, forbid_unknown_fields=True):
    """Who began a conversation."""

    name: str
    id: str | UnsetType = UNSET


class _Sent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What conversations that are sent have in common. `user`, `namespace` and a time stand in those that were read
    here and are sent back; the server says what they are."""

    timestamp: str = field(name="@timestamp")
    messages: tuple[WireMessage, ...]
    labels: dict[str, str]
    numeric_labels: dict[str, float]
    public: Flag
    systemMessage: str = ""
    archived: Flag | UnsetType = UNSET
    user: Author | UnsetType = UNSET
    namespace: str | UnsetType = UNSET


class NewHead(Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    id: str | UnsetType = UNSET
    last_updated: str | UnsetType = UNSET
    token_count: TokenCount | UnsetType = UNSET


class ConversationCreate(_Sent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    conversation: NewHead


class ChangedHead(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    title: str
    last_updated: str | UnsetType = UNSET
    token_count: TokenCount | UnsetType = UNSET


class ConversationUpdate(_Sent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    conversation: ChangedHead


class CreateBody(Struct, frozen=True, forbid_unknown_fields=True):
    conversation: ConversationCreate


class UpdateBody(Struct, frozen=True, forbid_unknown_fields=True):
    conversation: ConversationUpdate


class PatchBody(Struct, frozen=True, forbid_unknown_fields=True):
    public: Flag | UnsetType = UNSET
    archived: Flag | UnsetType = UNSET


class ListBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`query` is taken and not used, as upstream."""

    query: str | UnsetType = UNSET


class Head(Struct, frozen=True):
    id: str
    title: str
    last_updated: str


class Conversation(Struct, frozen=True):
    """Times are UTC. `namespace` is the project. `user` is not there if nobody knows who began it."""

    timestamp: str = field(name="@timestamp")
    user: Author | UnsetType
    conversation: Head
    systemMessage: str
    messages: tuple[WireMessage, ...]
    labels: dict[str, str]
    numeric_labels: dict[str, float]
    namespace: str
    public: bool
    archived: bool


class Conversations(Struct, frozen=True):
    conversations: tuple[Conversation, ...]


class Nothing(Struct, frozen=True):
    """`{}`"""
