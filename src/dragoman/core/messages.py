"""Messages and their parts: what people, models and tools say to each other, in no wire's spelling."""

from typing import Literal

from msgspec import Struct

from dragoman.core.names import CallId

Role = Literal["system", "user", "assistant", "tool"]


class Text(Struct, frozen=True, tag="text", tag_field="part", omit_defaults=True, gc=False):
    """`hidden` text goes to the model and is never shown, neither in a title nor in a view of the conversation: what a
    client adds to a prompt by itself, such as the time and what is on the screen."""

    text: str
    hidden: bool = False


class Thinking(Struct, frozen=True, tag="thinking", tag_field="part", gc=False):
    """A model's reasoning, where the provider shows it. Never sent back to a model."""

    text: str


class Image(Struct, frozen=True, tag="image", tag_field="part", gc=False):
    """`data` is base64; `url` is used when `data` is empty."""

    media_type: str
    data: str = ""
    url: str = ""


class ToolCall(Struct, frozen=True, tag="tool_call", tag_field="part", gc=False):
    """A model asks for a tool. `arguments` is the JSON text just as the model wrote it: it may be invalid."""

    id: CallId
    name: str
    arguments: str


class ToolResult(Struct, frozen=True, tag="tool_result", tag_field="part", omit_defaults=True, gc=False):
    """`shown` is JSON text for a user interface; no model is sent it."""

    call_id: CallId
    content: str
    is_error: bool = False
    shown: str = ""


Part = Text | Thinking | Image | ToolCall | ToolResult


class Message(Struct, frozen=True, omit_defaults=True, gc=False):
    """One message. `name` is the agent's name where several speak, else empty.

    `aside` is JSON text of what the wire that it came by says besides and wants back with it, such as a time in a
    spelling of its own. Only that wire reads it, and no model is sent it.
    """

    role: Role
    parts: tuple[Part, ...]
    name: str = ""
    aside: str = ""

    @property
    def text(self) -> str:
        """What is shown: all text parts joined; hidden text, images, thinking and calls left out."""
        return "".join([part.text for part in self.parts if isinstance(part, Text) and not part.hidden])

    @property
    def full_text(self) -> str:
        """What a model reads: hidden text too."""
        return "".join([part.text for part in self.parts if isinstance(part, Text)])

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple([part for part in self.parts if isinstance(part, ToolCall)])

    @property
    def is_internal(self) -> bool:
        """What one agent said to others, and nothing besides: there is nothing in it to be shown, not even its being
        there."""
        return self.role == "assistant" and bool(self.full_text) and not self.text and not self.calls


def said(role: Role, text: str) -> Message:
    """A message of one text part."""
    return Message(role, (Text(text),))


class Masked(Struct, frozen=True, gc=False):
    """A value that a model was told `mask` in place of. `entity` is its class, such as EMAIL."""

    entity: str
    value: str
    mask: str


class Usage(Struct, frozen=True, gc=False):
    """LLM tokens as the provider reported them; 0 where it said nothing."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens
