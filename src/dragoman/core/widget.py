"""The chat widget: visitors of a website that talk with a project's workflow, as operations (rowboat spec 8.1).

    client id ──► session (a visitor, for a day) ──► chats, each a private conversation of that visitor's

A visitor holds no credential. The project's client id stands openly in its web pages and only says which project is
meant; a session says who asks. A chat is there before anything is said in it; its conversation, which has the chat's
id, is made with the first turn.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

from msgspec import Struct

from dragoman.core.events import MessagesImported, RunCompleted
from dragoman.core.messages import Message
from dragoman.core.names import ConversationId, ProjectId
from dragoman.core.operations import Operation, StartTurn, TurnView

OWNER = "widget:"
"""`Principal.owner` of a visitor begins so; the user id follows."""
PAGE = 10
"""Chats or messages in one answer."""


def owner_of(user_id: str) -> str:
    return OWNER + user_id


def user_of(owner: str) -> str:
    """The user id of the visitor that an owner is."""
    return owner.removeprefix(OWNER)


# -- sessions --------------------------------------------------------------------------------------------------------


class WidgetSession(Struct, frozen=True):
    """`text` proves who asks until `expires_at`, Unix seconds."""

    text: str
    expires_at: float

    def __repr__(self) -> str:
        return f"WidgetSession(expires_at={self.expires_at!r})"


class OpenGuestSession(Operation[WidgetSession], frozen=True):
    """For a visitor that nobody knows. Raises NotFound, `what` = widget_client, if no project has that client id."""

    client_id: str


class OpenUserSession(Operation[WidgetSession], frozen=True):
    """For a visitor that the website knows: `user_jwt` says who it is, signed with the project's secret. Raises as
    `OpenGuestSession`, and NotAuthenticated if it was not signed so, has expired or names nobody."""

    client_id: str
    user_jwt: str

    def __repr__(self) -> str:
        return f"OpenUserSession({self.client_id!r})"


# -- chats -----------------------------------------------------------------------------------------------------------


class WidgetChat(Struct, frozen=True):
    """Times are Unix seconds; `closed_at` None = it is open."""

    id: ConversationId
    project: ProjectId
    user_id: str
    user_name: str
    created_at: float
    closed_at: float | None = None


class WidgetMessage(Struct, frozen=True):
    """What a visitor said or was told. `sender` is the agent that said it. `id` is 24 hex digits; ids of one chat sort
    in the order of what was said."""

    id: str
    role: Literal["user", "assistant"]
    text: str
    at: float
    sender: str = ""


class WidgetChatPage(Struct, frozen=True):
    """Newest first. `next` and `previous` are what to ask with for the pages beside this one; "" = there is none."""

    items: tuple[WidgetChat, ...]
    next: str = ""
    previous: str = ""


class WidgetMessagePage(Struct, frozen=True):
    """Oldest first. `next` and `previous` as in `WidgetChatPage`."""

    items: tuple[WidgetMessage, ...]
    next: str = ""
    previous: str = ""


class BeginWidgetChat(Operation[WidgetChat], frozen=True):
    """`chat` is the id that it gets: 24 hex digits, which sort by time. Raises Conflict if the visitor has too many."""

    chat: ConversationId


class ReadWidgetChat(Operation[WidgetChat], frozen=True):
    """Raises NotFound, `what` = widget_chat, if it is not there or another's; so do all that follow."""

    chat: ConversationId


class BrowseWidgetChats(Operation[WidgetChatPage], frozen=True):
    """The visitor's own: the newest, those behind the one with the id `next`, or those before `previous`."""

    next: str = ""
    previous: str = ""


class ReadWidgetMessages(Operation[WidgetMessagePage], frozen=True):
    """What the visitor said and was told in turns that ended well, and what it said in others. `next` and `previous`
    are ids of messages, as in `BrowseWidgetChats`."""

    chat: ConversationId
    next: str = ""
    previous: str = ""


class CloseWidgetChat(Operation[WidgetChat], frozen=True):
    """Nothing more may be said in it. Closing it again changes nothing."""

    chat: ConversationId


class SayInWidgetChat(StartTurn, frozen=True):
    """A turn in a chat: `conversation` is the chat's id. Raises BadRequest if it is closed."""


# -- what is shown ---------------------------------------------------------------------------------------------------


class _Named(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_Named)


def page_of(
    items: Sequence[T], *, next_id: str, previous_id: str, newest_first: bool = False
) -> tuple[tuple[T, ...], str, str]:
    """`PAGE` of the items, which are in order of their ids, and the ids that lead to the pages behind and before it.
    The ids that are asked with need not be there any more."""
    if next_id:
        start = sum(item.id >= next_id if newest_first else item.id <= next_id for item in items)
        end = min(len(items), start + PAGE)
    elif previous_id:
        end = sum(item.id > previous_id if newest_first else item.id < previous_id for item in items)
        start = max(0, end - PAGE)
    else:
        start, end = 0, min(len(items), PAGE)
    shown = tuple(items[start:end])
    behind = shown[-1].id if shown and end < len(items) else ""
    before = shown[0].id if shown and start > 0 else ""
    return shown, behind, before


def asked_id(chat: ConversationId, seq: int, place: int) -> str:
    """The id of a turn's message number `place` that was asked; `seq` is that of the turn."""
    return _message_id(chat, seq, 0, place)


def answered_id(chat: ConversationId, seq: int, place: int) -> str:
    """…that was answered."""
    return _message_id(chat, seq, 1, place)


def shown_in(chat: ConversationId, turn: TurnView) -> tuple[WidgetMessage, ...]:
    """What of a turn the visitor is shown: neither calls nor what agents say to each other."""
    shown = [
        WidgetMessage(asked_id(chat, turn.seq, place), message.role, message.text, turn.at, message.name)
        for place, message in enumerate(turn.asked)
        if message.role in ("user", "assistant") and message.text
    ]
    if isinstance(turn.end, RunCompleted | MessagesImported):
        shown += answers_in(chat, turn.seq, turn.answered, turn.said_at, turn.at)
    return tuple(shown)


def answers_in(
    chat: ConversationId, seq: int, answered: Sequence[Message], said_at: Sequence[float], at: float
) -> list[WidgetMessage]:
    """The texts for the visitor in what was answered. `at` = when it was said where `said_at` does not tell."""
    return [
        WidgetMessage(
            answered_id(chat, seq, place),
            "assistant",
            message.text,
            said_at[place] if place < len(said_at) else at,
            message.name,
        )
        for place, message in enumerate(answered)
        if message.role == "assistant" and message.text
    ]


def answer_in(
    chat: ConversationId, seq: int, answered: Sequence[Message], said_at: Sequence[float], at: float
) -> WidgetMessage | None:
    """The last text for the visitor. Where there is none and the last thing said was nothing at all, that: a model may
    answer so. None if the turn ended with what was not for the visitor."""
    if texts := answers_in(chat, seq, answered, said_at, at):
        return texts[-1]
    if not answered or answered[-1].role != "assistant" or answered[-1].calls or answered[-1].full_text:
        return None
    place = len(answered) - 1
    when = said_at[place] if place < len(said_at) else at
    return WidgetMessage(answered_id(chat, seq, place), "assistant", "", when, answered[-1].name)


def _message_id(chat: ConversationId, seq: int, half: int, place: int) -> str:
    return f"{seq:010x}{half}{place:05x}{chat[-8:]:0>8}"
