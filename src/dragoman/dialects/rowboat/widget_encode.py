"""What the chat widget is answered (rowboat spec 8.1)."""

from datetime import UTC, datetime

from msgspec import UNSET

from dragoman.core.events import RunCompleted
from dragoman.core.operations import Outcome
from dragoman.core.widget import (
    WidgetChat,
    WidgetChatPage,
    WidgetMessage,
    WidgetMessagePage,
    WidgetSession,
    answer_in,
)
from dragoman.dialects.rowboat import errors, widget_shapes
from dragoman.wire.dialect import Reply, Request, json_reply

CLOSE_REASON = "user-closed-chat"


def session(opened: WidgetSession, request: Request) -> Reply:
    return json_reply(widget_shapes.Session(opened.text))


def chat(found: WidgetChat, request: Request) -> Reply:
    return json_reply(_chat(found))


def chats(page: WidgetChatPage, request: Request) -> Reply:
    shown = widget_shapes.Chats(tuple(map(_chat, page.items)), page.next or UNSET, page.previous or UNSET)
    return json_reply(shown)


def messages(page: WidgetMessagePage, request: Request) -> Reply:
    chat_id = request.params["chatId"].lower()
    shown = tuple(_message(chat_id, message) for message in page.items)
    return json_reply(widget_shapes.ChatMessages(shown, page.next or UNSET, page.previous or UNSET))


def turn(outcome: Outcome, request: Request) -> Reply:
    """The last text for the visitor; what the chat API says of a turn that failed, or came to none."""
    conversation, seq = outcome.started.conversation, outcome.started.seq
    answer = answer_in(conversation, seq, outcome.answered, outcome.said_at, request.at)
    if answer is None or not isinstance(outcome.end, RunCompleted):
        return errors.refusal_of(outcome.end)
    return json_reply(_message(conversation, answer))


def _chat(found: WidgetChat) -> widget_shapes.Chat:
    is_closed = found.closed_at is not None
    return widget_shapes.Chat(
        version=widget_shapes.VERSION,
        project_id=found.project,
        user_id=found.user_id,
        created_at=_time(found.created_at),
        user_data=widget_shapes.UserData(found.user_id, found.user_name),
        id=found.id,
        closed=True if is_closed else UNSET,
        closed_at=_time(found.closed_at) if found.closed_at is not None else UNSET,
        close_reason=CLOSE_REASON if is_closed else UNSET,
    )


def _message(chat_id: str, message: WidgetMessage) -> widget_shapes.UserMessage | widget_shapes.AssistantMessage:
    if message.role == "user":
        return widget_shapes.UserMessage(message.text, widget_shapes.VERSION, chat_id, _time(message.at), message.id)
    return widget_shapes.AssistantMessage(
        message.text,
        message.sender or UNSET,
        "external",
        widget_shapes.VERSION,
        chat_id,
        _time(message.at),
        message.id,
    )


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
