"""Our messages -> the message objects of this wire (WIRE.md, section 3).

Ids are made of the run's: `{run}-q{n}` for what was asked, `{run}-a{n}` for its nth reply. A reply's tool results stand
in the reply's own message. Both the view of a chat and its event stream build their messages here, so that a reader of
either sees the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never, cast

import msgspec
from msgspec import UNSET

from dragoman.core.messages import Image, Message, Part, Text, Thinking, ToolCall, ToolResult
from dragoman.core.names import CallId, RunId
from dragoman.core.operations import TurnView
from dragoman.dialects.grafana import shapes
from dragoman.dialects.grafana.shapes import ChatMessage, Content, MessageRole
from dragoman.dialects.grafana.times import rfc3339

ROLES: Mapping[str, MessageRole] = {"user": "user", "assistant": "assistant", "tool": "tool", "system": "internal"}

NO_CONTENT: tuple[Content, ...] = (shapes.TextContent(""),)
"""What stands in a message that shows nothing: clients look at the first element."""

Names = dict[CallId, str]
"""Tools' names by call. A call's id is a run's own: of two runs' equal ids the later call counts."""


def object_of(arguments: str) -> dict[str, Any] | None:
    """A call's arguments; None if what the model wrote is no JSON object. "" is how some models write {}."""
    if not arguments.strip():
        return {}
    try:
        value: Any = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def tool_input(arguments: str) -> dict[str, Any]:
    """A call's arguments. What a model wrote that is no JSON object is shown as the text it is."""
    value = object_of(arguments)
    return {"arguments": arguments} if value is None else value


def result_content(result: ToolResult, names: Names, *, took_ms: int = 0) -> Content:
    return shapes.ToolResultContent(
        toolUseId=result.call_id,
        toolName=names.get(result.call_id, ""),
        toolResult=(shapes.TextContent(result.content),),
        isError=result.is_error,
        durationMs=took_ms or UNSET,
    )


def contents(parts: Sequence[Part], names: Names) -> list[Content]:
    """What is shown of a message's parts, neighbouring texts joined. Calls are noted in `names`."""
    shown: list[Content] = []
    for part in parts:
        match part:
            case Text(text=text, hidden=hidden):
                if hidden or not text:
                    continue
                if shown and isinstance(last := shown[-1], shapes.TextContent):
                    shown[-1] = shapes.TextContent(last.text + text)
                else:
                    shown.append(shapes.TextContent(text))
            case Thinking(text=text):
                shown.append(shapes.ThinkingContent(text))
            case Image(media_type=media_type, data=data, url=url):
                shown.append(shapes.ImageContent(f"data:{media_type};base64,{data}" if data else url))
            case ToolCall(id=call_id, name=name, arguments=arguments):
                names[call_id] = name
                shown.append(shapes.ToolUse(toolId=call_id, toolName=name, toolInput=tool_input(arguments)))
            case ToolResult():
                shown.append(result_content(part, names))
            case _:
                assert_never(part)
    return shown


def asked_messages(
    asked: Sequence[Message], names: Names, *, of: RunId | str, at: float, known: int = 0
) -> list[ChatMessage]:
    """What a turn was asked with, or what was said elsewhere: one object for each message, but for the first `known`,
    which only tell again what was said before."""
    created = rfc3339(at)
    return [
        ChatMessage(
            id=f"{of}-q{number}",
            role=ROLES[message.role],
            content=tuple(contents(message.parts, names)) or NO_CONTENT,
            created=created,
            hidden=message.role == "system",
        )
        for number, message in enumerate(asked[known:], start=known + 1)
    ]


def reply_message(run: RunId, number: int, content: Sequence[Content], *, at: float) -> ChatMessage:
    """The run's nth reply, as far as it has come, with the results of its calls."""
    return ChatMessage(
        id=f"{run}-a{number}", role="assistant", content=tuple(content) or NO_CONTENT, created=rfc3339(at)
    )


def turn_messages(turn: TurnView, names: Names) -> list[ChatMessage]:
    """A whole turn. A result comes to the reply it follows: whoever reads the calls reads their results with them. What
    agents said to each other has a number, and no message."""
    said_at = turn.said_at or (turn.at,) * len(turn.answered)
    took_ms = turn.took_ms or (0,) * len(turn.answered)
    replies: list[tuple[float, list[Content]]] = []
    internal: set[int] = set()
    for message, at, ms in zip(turn.answered, said_at, took_ms, strict=True):
        if message.role != "tool":
            replies.append((at, contents(message.parts, names)))
            if message.is_internal:
                internal.add(len(replies))
            continue
        results = [result_content(part, names, took_ms=ms) for part in message.parts if isinstance(part, ToolResult)]
        if replies:
            replies[-1][1].extend(results)
    asked = asked_messages(turn.asked, names, of=turn.run or f"m{turn.seq}", at=turn.at)
    answered = [
        reply_message(turn.run, number, content, at=at)
        for number, (at, content) in enumerate(replies, start=1)
        if number not in internal
    ]
    return [*asked, *answered]
