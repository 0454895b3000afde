"""What is new in a conversation that its caller sends whole, held against what stands on the tape. Pure.

A wire that keeps nothing between its requests sends everything each time, and it may have changed what was said
before. Two tellings are the same if the same things were said in the same order: who spoke, the text that is shown, the
calls with their results. Ids of calls, times, thinking, hidden text, images and what a wire says besides do not count:
no caller sends those back as they were. System messages belong to no telling.

A call and its result are compared as one, wherever the result stands: of several calls in one reply some wires tell
call after call, each with its result, and others all calls and then all results.
"""

from collections.abc import Iterable, Sequence

import msgspec

from dragoman.core import transcript
from dragoman.core.messages import Message, ToolResult
from dragoman.core.names import CallId
from dragoman.core.operations import TurnView


def completed_turns(turns: Iterable[TurnView]) -> tuple[TurnView, ...]:
    """Those that a whole conversation consists of: they came to an answer, or were written into it from elsewhere."""
    return tuple(filter(transcript.completed, turns))


def messages_of(turns: Iterable[TurnView]) -> tuple[Message, ...]:
    return tuple(message for turn in turns for message in (*turn.asked, *turn.answered))


def beyond(turns: Sequence[TurnView], messages: Sequence[Message], *, opening: str = "") -> tuple[Message, ...] | None:
    """The messages behind those that the turns hold, without system messages; () if there are none. None if the
    messages do not begin as the turns do. Calls of the tool `opening` need not be told: the server makes them by
    itself, and not every caller hears of them."""
    told = messages_of(turns)
    known, sent = _units(told), _units(messages)
    common = _common(known, sent, opening)
    if common is None:
        return None
    news = sent[common:]
    if not news:
        return ()
    if news[0].kind == "assistant" and told and told[-1].role == "assistant" and not (told[-1].text or told[-1].calls):
        return None  # what stands there without a text has one now
    first = news[0].first
    if any(unit.last >= first for unit in sent[:common]):
        return None  # one message, or a call and its result, would be torn apart
    return tuple(message for message in messages[first:] if message.role != "system")


def new_part(
    turns: Sequence[TurnView], messages: Sequence[Message], *, opening: str = ""
) -> tuple[tuple[Message, ...], int]:
    """What a turn has to bring of a whole conversation, given its completed turns, and how many of these messages tell
    again what was said before (`TurnReceived.restates`). System messages are left out. `opening`: as for `beyond`.

    If the conversation goes on from the turns: what is new, 0. Else all messages, of which those before the last
    question are told anew. So it is also where nothing is asked beyond the turns: then the last question is asked
    again. A telling anew counts at least 1, but for a conversation of no messages.
    """
    told = tuple(message for message in messages if message.role != "system")
    news = beyond(turns, told, opening=opening)
    if news is not None and any(message.role in ("user", "tool") for message in news):
        return news, 0
    questions = [at for at, message in enumerate(told) if message.role == "user"]
    last = questions[-1] if questions else len(told) - 1
    return told, min(max(last, 1), len(told))


class _Unit:
    """A text, or a call with its result; from which message to which it reaches."""

    __slots__ = ("arguments", "first", "kind", "last", "result", "text")

    def __init__(self, kind: str, text: str, at: int, *, arguments: str = "") -> None:
        self.kind = kind
        self.text = text
        self.arguments = arguments
        self.result: str | None = None
        self.first = self.last = at


def _units(messages: Iterable[Message]) -> list[_Unit]:
    """In order of where they begin. A reply without a text says nothing besides its calls, and a result that nobody
    called for says nothing at all: not every wire can tell it."""
    units: list[_Unit] = []
    waiting: dict[CallId, _Unit] = {}
    for at, message in enumerate(messages):
        if message.role == "user" or (message.role == "assistant" and message.text):
            units.append(_Unit(message.role, message.text, at))
        for call in message.calls:
            waiting[call.id] = unit = _Unit("call", call.name, at, arguments=call.arguments)
            units.append(unit)
        for part in message.parts:
            if not isinstance(part, ToolResult):
                continue
            called = waiting.pop(part.call_id, None)
            if called is not None:
                called.result, called.last = part.content, at
    return units


def _common(known: Sequence[_Unit], sent: Sequence[_Unit], opening: str) -> int | None:
    """How many of what was sent is what is known; None if not all that is known was sent."""
    at = 0
    for unit in known:
        if at < len(sent) and _same(unit, sent[at]):
            at += 1
        elif not opening or (unit.kind, unit.text) != ("call", opening):
            return None
    return at


def _same(one: _Unit, other: _Unit) -> bool:
    return (
        (one.kind, one.text) == (other.kind, other.text)
        and _same_json(one.arguments or "{}", other.arguments or "{}")
        and (one.result is None) == (other.result is None)
        and _same_json(one.result or "", other.result or "")
    )


def _same_json(one: str, other: str) -> bool:
    """Also if only spaces or the order of keys differ."""
    return one == other or _canonical(one) == _canonical(other)


def _canonical(text: str) -> bytes | str:
    try:
        return msgspec.json.encode(msgspec.json.decode(text), order="sorted")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return text
