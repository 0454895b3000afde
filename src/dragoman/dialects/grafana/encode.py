"""Results about chats -> replies."""

from collections.abc import Mapping
from typing import Literal, assert_never

from msgspec import UNSET

from dragoman.core.admission import StreamTicket
from dragoman.core.operations import ConversationInfo, ConversationShelf, ConversationView, Deleted, Started
from dragoman.dialects.grafana import shapes
from dragoman.dialects.grafana.decode import limit_of, offset_of
from dragoman.dialects.grafana.messages import Names, turn_messages
from dragoman.dialects.grafana.prompts import NO_TITLE
from dragoman.dialects.grafana.shapes import ChatMessage, ToolResultContent, ToolUse, UiMessage, UiPart
from dragoman.dialects.grafana.times import rfc3339
from dragoman.wire.dialect import Reply, Request, json_reply

UI_ROLES: Mapping[str, Literal["user", "assistant", "system"]] = {
    "user": "user",
    "assistant": "assistant",
    "tool": "assistant",
    "internal": "system",
}


def success(data: object, *, status: int = 200) -> Reply:
    return json_reply(shapes.Success(data=data), status=status)


# -- replies ---------------------------------------------------------------------------------------------------------


def chat_started(started: Started, request: Request) -> Reply:
    return success(shapes.ChatStarted(started.conversation))


def chat(view: ConversationView, request: Request) -> Reply:
    return success(_chat(view.info, _messages(view)))


def all_messages(view: ConversationView, request: Request) -> Reply:
    return success(shapes.ChatMessages(_messages(view)))


def ui_messages(view: ConversationView, request: Request) -> Reply:
    return success(shapes.UiMessages("main", tuple(map(_ui_message, _messages(view)))))


def chats(shelf: ConversationShelf, request: Request) -> Reply:
    page = shapes.Pagination(shelf.total, limit_of(request.query), offset_of(request.query))
    return success(shapes.Chats(tuple(_chat(info) for info in shelf.items), page))


def chat_changed(info: ConversationInfo, request: Request) -> Reply:
    return success(_chat(info))


def chat_deleted(deleted: Deleted, request: Request) -> Reply:
    return success(shapes.ChatDeleted(deleted.conversation))


def ticket(issued: StreamTicket, request: Request) -> Reply:
    return success(shapes.Ticket(issued.text, rfc3339(issued.expires_at)))


# -- parts of replies ------------------------------------------------------------------------------------------------


def _chat(info: ConversationInfo, messages: tuple[ChatMessage, ...] | None = None) -> shapes.Chat:
    return shapes.Chat(
        id=info.id,
        name=info.title or NO_TITLE,
        created=rfc3339(info.created_at),
        modified=rfc3339(info.updated_at),
        userId=info.owner,
        messages=UNSET if messages is None else messages,
        source=info.origin,
        isPublic=info.shared,
        archived=info.archived,
        running=info.live_run is not None,
    )


def _messages(view: ConversationView) -> tuple[ChatMessage, ...]:
    names: Names = {}
    return tuple(message for turn in view.turns for message in turn_messages(turn, names))


def _ui_message(message: ChatMessage) -> UiMessage:
    """The same in the parts of a newer client: a call and its result are one part."""
    results = {part.toolUseId: part for part in message.content if isinstance(part, ToolResultContent)}
    parts: list[UiPart] = []
    for part in message.content:
        match part:
            case shapes.TextContent(text=text):
                parts.append(UiPart(kind="text", text=text))
            case shapes.ThinkingContent(thinking=text):
                parts.append(UiPart(kind="reasoning", text=text))
            case shapes.ImageContent(url=url):
                parts.append(UiPart(kind="file", url=url))
            case shapes.ToolUse():
                parts.append(_tool_part(part, results.pop(part.toolId, None)))
            case ToolResultContent():
                if part.toolUseId in results:  # of a call in another message
                    parts.append(_tool_part(None, results.pop(part.toolUseId)))
            case _:
                assert_never(part)
    hidden = shapes.UiMetadata(hidden=True) if message.hidden else UNSET
    return UiMessage(
        id=message.id, role=UI_ROLES[message.role], created=message.created, parts=tuple(parts), metadata=hidden
    )


def _tool_part(use: ToolUse | None, result: ToolResultContent | None) -> UiPart:
    """At least one of them is there."""
    text = "\n".join(each.text for each in result.toolResult) if result is not None else UNSET
    failed = result is not None and result.isError
    return UiPart(
        kind="dynamic-tool",
        toolName=use.toolName if use is not None else result.toolName if result is not None else UNSET,
        toolCallId=use.toolId if use is not None else result.toolUseId if result is not None else UNSET,
        state="input-available" if result is None else "output-error" if failed else "output-available",
        input=use.toolInput if use is not None else UNSET,
        output=UNSET if failed else text,
        errorText=text if failed else UNSET,
    )
