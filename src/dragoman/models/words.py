"""Usage and pieces for models that have no tokens: they count, and stream, words."""

import re
from collections.abc import Iterable

from dragoman.core.messages import Message, Text, ToolCall, ToolResult, Usage

_WORD = re.compile(r"\s*\S+\s*")


def counted(messages: Iterable[Message], answer: str) -> Usage:
    """Words of a prompt (texts, arguments, results) and of the answer."""
    return Usage(sum(map(_words_of, messages)), len(answer.split()))


def in_words(text: str) -> list[str]:
    """The text in pieces of one word each, with the space around it; together they are the text."""
    return _WORD.findall(text) or ([text] if text else [])


def last_asked(messages: Iterable[Message]) -> str:
    """The text of the last message of the user, "" if there is none. One with a name is another agent's."""
    return next(
        (message.text for message in reversed(tuple(messages)) if message.role == "user" and not message.name), ""
    )


def _words_of(message: Message) -> int:
    words = 0
    for part in message.parts:
        if isinstance(part, Text):
            words += len(part.text.split())
        elif isinstance(part, ToolResult):
            words += len(part.content.split())
        elif isinstance(part, ToolCall):
            words += len(part.arguments.split())
    return words
