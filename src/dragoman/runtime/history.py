"""What the model sees: instructions, as much of the earlier turns as fits, and the turn at hand. Pure.

The cost of a prompt depends on its budget and not on how long the conversation is: `Log.history` hands over only the
newest turns, and this file cuts them to the budget. A tool call is never parted from its result: messages are dropped
in *groups*, and a reply with calls forms one group with the results that follow it. Results that a caller brings belong
to the calls with which the turn before ended (`RunNeedsClient`); such a turn is part of the turn at hand.
"""

from collections.abc import Iterable, Sequence

from dragoman.core.events import RunNeedsClient
from dragoman.core.messages import Message, Part, ToolCall, ToolResult, said
from dragoman.core.names import CallId
from dragoman.core.operations import TurnView
from dragoman.core.transcript import ended_well
from dragoman.runtime.weights import CHARS_PER_TOKEN, beginning, weight_of

RESULT_CHARS_MAX = 60_000
"""A single tool result is shown to the model up to here; the tape keeps it whole."""


def prompt(
    instructions: Sequence[str], past: Iterable[TurnView], turn: Sequence[Message], *, tokens_max: int
) -> tuple[Message, ...]:
    """Instructions as one system message, then the newest whole groups of `past` within `tokens_max`, then `turn`."""
    system = "\n\n".join(text for text in instructions if text)
    messages = [said("system", system)] if system else []
    earlier = [each for each in past if ended_well(each)]
    at_hand = _continued(earlier, turn)
    messages.extend(_newest(earlier, tokens_max * CHARS_PER_TOKEN))
    messages.extend(at_hand)
    return tuple(_shortened(message) for message in messages)


def _continued(earlier: list[TurnView], turn: Sequence[Message]) -> Sequence[Message]:
    """The turn at hand, with those before it (taken from `earlier`) whose calls it brings the results of. Callers may
    send calls and results in any order, and calls that nobody answered; models take neither (elastic/kibana#214005)."""
    messages = list(turn)
    while messages and messages[0].role == "tool" and earlier and isinstance(earlier[-1].end, RunNeedsClient):
        begun = earlier.pop()
        messages[:0] = (*begun.asked, *begun.answered)
    if len(messages) == len(turn) and _adjacent(turn):
        return turn
    return [message for group in _groups(messages) for message in group]


def _newest(past: Iterable[TurnView], chars_max: int) -> list[Message]:
    said_before = [message for turn in past for message in (*turn.asked, *turn.answered)]
    groups = _groups(said_before)
    chars = 0
    first = len(groups)
    while first > 0:
        chars += sum(weight_of(_shortened(message)) for message in groups[first - 1])
        if chars > chars_max:
            break
        first -= 1
    kept = groups[first:]
    # A conversation that begins with an answer to nothing confuses models, and some providers refuse it.
    while kept and kept[0][0].role not in ("user", "system"):
        kept.pop(0)
    return [message for group in kept for message in group]


def _adjacent(messages: Sequence[Message]) -> bool:
    """Every call has its one result right behind it, and every result its call right before it."""
    due: set[CallId] = set()
    for message in messages:
        if message.role != "tool":
            if due:
                return False
            due = {call.id for call in message.calls}
            continue
        for part in message.parts:
            if isinstance(part, ToolResult):
                if part.call_id not in due:
                    return False
                due.remove(part.call_id)
    return not due


def _groups(messages: Sequence[Message]) -> list[list[Message]]:
    """Messages in groups, each kept or dropped whole. A result joins its call, however far behind it stands; calls
    without results and stray results are left out."""
    groups: list[tuple[list[Message], bool]] = []
    waiting: dict[CallId, list[Message]] = {}
    for message in messages:
        if message.role == "tool":
            _join(message, waiting)
        elif message.parts:
            calls, group = message.calls, [message]
            groups.append((group, bool(calls)))
            for call in calls:
                waiting[call.id] = group
    # Most messages call nothing and stay as they are.
    return [whole for group, calling in groups if (whole := _paired(group) if calling else group)]


def _join(result: Message, waiting: dict[CallId, list[Message]]) -> None:
    """Put a result to the calls that wait for it."""
    groups = [
        waiting.pop(part.call_id) for part in result.parts if isinstance(part, ToolResult) and part.call_id in waiting
    ]
    for at, group in enumerate(groups):
        if not any(group is before for before in groups[:at]):
            group.append(result)


def _paired(group: Sequence[Message]) -> list[Message]:
    """Of a reply only the calls that have a result, and the first result of each; cancelled turns leave others."""
    reply, *results = group
    open_calls = {call.id for call in reply.calls}
    kept: list[Message] = []
    for result in results:
        parts = tuple(part for part in result.parts if isinstance(part, ToolResult) and part.call_id in open_calls)
        open_calls -= {part.call_id for part in parts}
        if parts:
            kept.append(Message(result.role, parts, result.name))
    parts = tuple(part for part in reply.parts if not isinstance(part, ToolCall) or part.id not in open_calls)
    return [Message(reply.role, parts, reply.name), *kept] if parts else []


def _shortened(message: Message) -> Message:
    if message.role != "tool" or weight_of(message) <= RESULT_CHARS_MAX:
        return message
    return Message("tool", tuple(_shortened_part(part) for part in message.parts), message.name)


def _shortened_part(part: Part) -> Part:
    if not isinstance(part, ToolResult) or len(part.content) <= RESULT_CHARS_MAX:
        return part
    shown = beginning(part.content, RESULT_CHARS_MAX)
    left_out = len(part.content) - len(shown)
    notice = f"\n[{left_out} more characters left out; ask for a smaller part]"
    return ToolResult(part.call_id, shown + notice, part.is_error)
