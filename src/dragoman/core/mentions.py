"""Mentions: how the text of an agent names other things of its workflow. Pure.

    [@agent:Billing Desk](#mention)     [@tool:get_order](#mention)     [@variable:Insurer]

The part in round brackets is what an editor draws its links from; it may be missing. Source: rowboat spec 4.1.
"""

import re
from enum import StrEnum

from msgspec import Struct

NAME_CHARS_MAX = 100
"""Of an agent, prompt, pipeline or tool: a longer text in the brackets is no mention."""

_MENTION = re.compile(rf"\[@(agent|tool|prompt|variable|pipeline):([^\[\]\n]{{1,{NAME_CHARS_MAX}}})\](?:\(#mention\))?")


class Kind(StrEnum):
    """What is mentioned."""

    AGENT = "agent"
    TOOL = "tool"
    PROMPT = "prompt"
    """Of any type: a `variable` is one too."""
    PIPELINE = "pipeline"


class Mention(Struct, frozen=True):
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"[@{self.kind}:{self.name}]"


def mentions(text: str) -> tuple[Mention, ...]:
    """Those in the text, in order, each once."""
    found = (Mention(Kind.PROMPT if kind == "variable" else Kind(kind), name) for kind, name in _MENTION.findall(text))
    return tuple(dict.fromkeys(found))


def spoken(text: str) -> str:
    """The text as a model is told it: mentions without what is only for editors."""
    return _MENTION.sub(r"[@\1:\2]", text)


def can_be_named(name: str) -> bool:
    """Whether a mention can hold this name, so that others can refer to it."""
    return 1 <= len(name) <= NAME_CHARS_MAX and name.isprintable() and not set(name) & {"[", "]"} and bool(name.strip())
