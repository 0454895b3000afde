"""A title for a conversation, thought of by its model (elastic spec 4.4). Pure."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from dragoman.core.agents import ToolSpec
from dragoman.core.messages import Message, said
from dragoman.runtime.ports import ReplyDone
from dragoman.runtime.weights import beginning

NO_TITLE = "New conversation"
TITLE_CHARS_MAX = 200
ASKED_CHARS_MAX = 8_000
"""What of the conversation is shown for it: the beginning tells what it is about."""

TOOL = ToolSpec(
    "title_conversation",
    "Gives the conversation its title.",
    {
        "type": "object",
        "properties": {"title": {"type": "string", "description": "The title, a few words long"}},
        "required": ["title"],
    },
)
_SYSTEM = (
    "You give a conversation between a person and an assistant a short title, by which the person will find it again"
    " in a list. Say what it is about in at most eight words, in the language of the conversation. Call"
    " title_conversation with it."
)


class _Titled(Struct, frozen=True):
    title: str


def question(messages: Sequence[Message]) -> tuple[Message, ...]:
    """What the model is asked."""
    lines = [f"{message.role}: {message.text}" for message in messages if message.text and message.role != "system"]
    return said("system", _SYSTEM), said("user", beginning("\n".join(lines), ASKED_CHARS_MAX))


def title_of(done: ReplyDone) -> str:
    """The title in the model's reply, without the quotes that models like to put around it."""
    for call in done.calls:
        if call.name != TOOL.name:
            continue
        try:
            title = msgspec.json.decode(call.arguments, type=_Titled).title
        except (msgspec.MsgspecError, UnicodeError):
            continue
        title = " ".join(title.split()).strip("\"'“”‘’").strip()
        if title:
            return title[:TITLE_CHARS_MAX]
    return NO_TITLE
