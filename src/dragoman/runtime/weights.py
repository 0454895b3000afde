"""How much a message takes up in a prompt, estimated by its characters, and beginnings of what takes too much. Pure."""

import re

from dragoman.core.messages import Message, Text, Thinking, ToolCall, ToolResult
from dragoman.core.operations import TurnView

CHARS_PER_TOKEN = 4
"""A rule of thumb for English and code; other scripts take more, so budgets leave room."""

_WORD_CHARS_MAX = 200
_LAST_WORD = re.compile(r"[^\s\"',;<>(){}\[\]|]+\Z")


def beginning(text: str, chars_max: int) -> str:
    """At most so many characters of it, whole words if the last is not too long: what is masked by its form, an address
    or a number, would not be known for it by its first half."""
    if len(text) <= chars_max:
        return text
    cut = text[:chars_max]
    last = _LAST_WORD.search(cut, max(0, chars_max - _WORD_CHARS_MAX, chars_max // 2))
    if last is None or _LAST_WORD.match(text[chars_max]) is None:
        return cut
    start = last.start()
    # It is long, and begins before.
    return cut if start == 0 or _LAST_WORD.match(cut[start - 1]) else cut[:start]


def weight_of(message: Message) -> int:
    """Characters a message takes in a prompt, images left out."""
    weight = 0
    for part in message.parts:
        match part:
            case Text(text=text):
                weight += len(text)
            case ToolCall(name=name, arguments=arguments):
                weight += len(name) + len(arguments)
            case ToolResult(content=content):
                weight += len(content)
            case Thinking():
                pass
            case _:
                pass
    return weight


def turn_weight(turn: TurnView) -> int:
    """Characters of a whole turn."""
    return sum(map(weight_of, turn.asked)) + sum(map(weight_of, turn.answered))
