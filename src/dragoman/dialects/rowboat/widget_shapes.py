"""What the chat widget's API takes and gives (rowboat spec 8.1). Times are RFC 3339 in UTC, to the millisecond."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

VERSION = "v1"


class UserToken(Struct, frozen=True, rename="camel"):
    """`userDataJwt` is HS256, signed with the project's secret: `userId` and, if it has one, `userName`."""

    user_data_jwt: str


class Session(Struct, frozen=True, rename="camel"):
    """`sessionId` is what every other call sends as Bearer."""

    session_id: str


class BeginChat(Struct, frozen=True):
    """Nothing need be said."""


class Say(Struct, frozen=True):
    message: str


class UserData(Struct, frozen=True, rename="camel"):
    user_id: str
    user_name: str


class Chat(Struct, frozen=True, rename="camel"):
    """`closed`, `closedAt` and `closeReason` only once it is closed."""

    version: Literal["v1"]
    project_id: str
    user_id: str
    created_at: str
    user_data: UserData
    id: str
    closed: bool | UnsetType = UNSET
    closed_at: str | UnsetType = UNSET
    close_reason: Literal["user-closed-chat"] | UnsetType = UNSET


class Chats(Struct, frozen=True):
    """`next` and `previous` are what to ask with for the pages beside this one, where there are any."""

    chats: tuple[Chat, ...]
    next: str | UnsetType = UNSET
    previous: str | UnsetType = UNSET


class UserMessage(Struct, frozen=True, rename="camel", tag_field="role", tag="user"):
    content: str
    version: Literal["v1"]
    chat_id: str
    created_at: str
    id: str


class AssistantMessage(Struct, frozen=True, rename="camel", tag_field="role", tag="assistant"):
    content: str
    agentic_sender: str | UnsetType
    agentic_response_type: Literal["external"]
    version: Literal["v1"]
    chat_id: str
    created_at: str
    id: str


class ChatMessages(Struct, frozen=True):
    """`next` and `previous` as in a list of chats."""

    messages: tuple[UserMessage | AssistantMessage, ...]
    next: str | UnsetType = UNSET
    previous: str | UnsetType = UNSET
