"""Whom an agent of a workflow hands over to, chosen by shared words. Pure; part of the offline router.

It hands over to whoever's name and description share clearly more words with the question than anybody else's, or than
the tool that fits. In one turn it asks nobody twice, nor anybody who has had the word already: two agents that each
find the other a little better would otherwise pass the question back and forth.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from dragoman.core.agents import ToolSpec
from dragoman.core.messages import Message, Part, ToolCall, ToolResult
from dragoman.core.names import CallId
from dragoman.core.workflows import TARGET, TRANSFER
from dragoman.models.offline_reading import Reading
from dragoman.models.offline_routing import share_known
from dragoman.runtime.workflow_view import OTHERS

SHARE_MIN = 0.3
"""Of the question's words. Less than a tool must know: handing over changes nothing that could not be changed back."""
CLEARLY = 1.5
"""So many times the share of anything else that fits."""

_MARKER = "§"


class Target(Struct, frozen=True):
    """Somebody that the agent may hand over to."""

    name: str
    description: str


def without_transfer(tools: Sequence[ToolSpec]) -> tuple[ToolSpec, ...]:
    """A caller's tool of that name that names nobody is a tool like any other."""
    return tuple(tool for tool in tools if tool.name != TRANSFER or not _names_in(tool.parameters))


def targets_of(tools: Iterable[ToolSpec]) -> tuple[Target, ...]:
    """The names that the tool for hand-overs takes, each with what its description says of it; () without that tool."""
    tool = next((tool for tool in tools if tool.name == TRANSFER), None)
    if tool is None:
        return ()
    lines = tool.description.splitlines()
    return tuple(Target(name, _said_of(name, lines)) for name in _names_in(tool.parameters))


def _names_in(parameters: Any) -> list[str]:
    found: Any = parameters
    for key in ("properties", TARGET, "enum"):
        found = cast("dict[str, Any]", found).get(key) if isinstance(found, dict) else None
    names = cast("list[Any]", found) if isinstance(found, list) else []
    return [name for name in names if isinstance(name, str)]


def _said_of(name: str, lines: Iterable[str]) -> str:
    begin = f"- {name}:"
    return next((line.removeprefix(begin).strip() for line in lines if line.startswith(begin)), "")


def chosen(asked: Reading, targets: Sequence[Target], tool: ToolSpec | None) -> Target | None:
    """The target that the question is for, or None; `tool` is the one that fits it best, if any does."""
    text = f" {' '.join(asked.text.casefold().split())} "
    named = [target for target in targets if _stands_in(target.name.casefold(), text)]
    if len(named) == 1:
        return named[0]
    words = [word for word in asked.words if not word.startswith(_MARKER) and not word.isdigit()]
    shares = [share_known(words, ToolSpec(target.name, target.description, {})) for target in targets]
    ranked = sorted(range(len(targets)), key=lambda at: (-shares[at], at))
    if not ranked or shares[ranked[0]] < SHARE_MIN:
        return None
    others = [shares[at] for at in ranked[1:2]] + ([] if tool is None else [share_known(words, tool)])
    return targets[ranked[0]] if shares[ranked[0]] >= CLEARLY * max(others, default=0.0) else None


def _stands_in(name: str, text: str) -> bool:
    """Whether a name stands in a text as words of its own."""
    at = text.find(name) if name.strip() else -1
    while at > 0:
        if not text[at - 1].isalnum() and not text[at + len(name)].isalnum():
            return True
        at = text.find(name, at + 1)
    return False


# -- what happened in the turn ---------------------------------------------------------------------------------------


def is_others(message: Message) -> bool:
    return message.role == "user" and message.name != ""


def in_turn(messages: Sequence[Message]) -> tuple[Message, ...]:
    """What came after the last question."""
    asked = [at for at, message in enumerate(messages) if message.role == "user" and not is_others(message)]
    return tuple(messages[asked[-1] + 1 :]) if asked else ()


def untried(targets: Iterable[Target], messages: Sequence[Message]) -> tuple[Target, ...]:
    """Those that the agent has not asked for in this turn, and that have said and called nothing in it."""
    turn = in_turn(messages)
    asked = {_object(call.arguments).get(TARGET) for message in turn for call in message.calls if call.name == TRANSFER}
    spoke = {message.name for message in turn if is_others(message)}
    return tuple(target for target in targets if target.name not in asked and target.name not in spoke)


def is_report(call_name: str, result: ToolResult) -> bool:
    """Whether somebody that was called reports back in it. What says that the word has gone over is no report."""
    return call_name == TRANSFER and not result.is_error and TARGET not in _object(result.content)


def heard(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages but for what other agents said, and for hand-overs on which nobody reported."""
    calls = {call.id: call for message in messages for call in message.calls}
    silent: set[CallId] = set()
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolResult) and (call := calls.get(part.call_id)) and call.name == TRANSFER:
                silent |= set() if is_report(call.name, part) else {call.id}
    kept = [_without(message, silent) if silent else message for message in messages if not is_others(message)]
    return tuple(message for message in kept if message.parts or message.role == "user")


def _without(message: Message, silent: Collection[CallId]) -> Message:
    parts = [part for part in message.parts if _call_id(part) not in silent]
    return replace(message, parts=tuple(parts))


def _call_id(part: Part) -> CallId | None:
    match part:
        case ToolCall(id=call_id) | ToolResult(call_id=call_id):
            return call_id
        case _:
            return None


def last_said(messages: Sequence[Message]) -> str:
    """What another agent last said or found out in this turn; "" if none did."""
    lines = [message.text.removeprefix(f"{OTHERS} ") for message in in_turn(messages) if is_others(message)]
    return lines[-1] if lines else ""


def _object(text: str) -> dict[str, Any]:
    try:
        value: Any = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
