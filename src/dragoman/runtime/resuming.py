"""Where a turn of a workflow goes on that ended so that its caller could make a call. Pure.

    question ─► Front ── hands over ─► Tech ── calls what the caller runs ─► RunNeedsClient
                                         ▲                                        │
                                         └──── the next request, with the result ─┘

To the workflow both are one turn: who made the call has the word again, whoever that is, and those that wait for a
report still do. Hand-overs are read from the messages, since not every caller's conversation stands on a tape: a call
of `TRANSFER` and its result say who was asked for and who got the word, and the rules say how.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.messages import Message, Part, ToolCall, ToolResult
from dragoman.core.names import CallId
from dragoman.core.operations import TurnView
from dragoman.core.transcript import ended_well
from dragoman.core.workflows import TRANSFER, Staging, Workflow, target_of
from dragoman.runtime.loops import results_in, since_question
from dragoman.runtime.workflow import Cast, Stage, open_cast


class AtHand(Struct, frozen=True):
    """A turn as its agents find it: `messages`, of which the first `asked` are the question and what the caller told
    before it, and the hand-overs among the others. `past` are the turns before it."""

    past: tuple[TurnView, ...]
    messages: tuple[Message, ...]
    asked: int
    handings: tuple[ev.HandedOver, ...] = ()


def take_up(
    workflow: Workflow, staging: Staging, past: Sequence[TurnView], received: Sequence[Message]
) -> tuple[Cast, AtHand]:
    """The workflow for a turn that brings these messages."""
    earlier, messages = _begun(past, received)
    said_before = [message for turn in filter(ended_well, earlier) for message in (*turn.asked, *turn.answered)]
    edge = _behind_the_question(messages)
    if edge is None or staging.last is not None:
        cast = open_cast(workflow, staging, (*said_before, *messages))
        return cast, AtHand(tuple(past), tuple(received), len(received))
    cast = open_cast(workflow, staging, (*said_before, *messages[:edge]))
    told, handings = _Retelling(cast, messages[edge:]).told()
    at_hand = AtHand(earlier, (*messages[:edge], *told), edge, handings)
    return Cast(workflow, staging, cast.stage(handings)), at_hand


def _begun(past: Sequence[TurnView], received: Sequence[Message]) -> tuple[tuple[TurnView, ...], Sequence[Message]]:
    """The earlier turns, and the messages of the turn since its question."""
    earlier, messages = list(past), list(received)
    while messages and messages[0].role == "tool" and earlier and isinstance(earlier[-1].end, ev.RunNeedsClient):
        begun = earlier.pop()
        messages[:0] = (*begun.asked, *begun.answered)
    return tuple(earlier), messages


def _behind_the_question(messages: Sequence[Message]) -> int | None:
    """Where the answer begins that these messages break off with a call or its result; None if they do not."""
    if not messages or not (messages[-1].role == "tool" or messages[-1].calls):
        return None
    behind = len(messages) - len(since_question(messages))
    return behind or None


class _Retelling:
    """Reads an answer that was begun: who said what, and how the word went."""

    def __init__(self, cast: Cast, messages: Sequence[Message]) -> None:
        self._cast = cast
        self._messages = messages
        self._results = results_in(messages)
        self._handings: list[ev.HandedOver] = []
        self._refused: set[CallId] = set()

    def told(self) -> tuple[tuple[Message, ...], tuple[ev.HandedOver, ...]]:
        told: list[Message] = []
        for message in self._messages:
            if message.role == "assistant":
                told.append(replace(message, name=self._stage.speaker))
                self._hand_over(message)
            else:
                told.append(replace(message, parts=tuple(map(self._result, message.parts))))
        return tuple(told), tuple(self._handings)

    @property
    def _stage(self) -> Stage:
        return self._cast.stage(self._handings)

    def _hand_over(self, message: Message) -> None:
        """The first transfer that led somewhere; the others were refused, whatever their results look like now."""
        handed = False
        for call in message.calls:
            if call.name != TRANSFER:
                continue
            handing = None if handed else self._handing(call)
            if handing is None:
                self._refused.add(call.id)
            else:
                self._handings.append(handing)
                handed = True

    def _handing(self, call: ToolCall) -> ev.HandedOver | None:
        result = self._results.get(call.id)
        if result is None or result.is_error:
            return None
        stage, to = self._stage, target_of(result.content)
        if self._cast.member(stage.speaker).internal:
            by_itself = self._cast.after_text(stage)
            if by_itself is not None and by_itself.to == to:
                return ev.HandedOver(stage.speaker, to, by_itself.how, by_itself.pipeline)
        wanted = target_of(call.arguments)
        for target in self._cast.targets(stage):
            if (target.name, target.to) == (wanted, to):
                return ev.HandedOver(stage.speaker, to, target.how, target.pipeline)
        return None

    def _result(self, part: Part) -> Part:
        if isinstance(part, ToolResult) and part.call_id in self._refused:
            return replace(part, is_error=True)
        return part
