"""What an agent of a workflow sees of the conversation. Pure.

Of earlier turns what was said aloud: what tools said then stays with who called them. Of the turn at hand what the
agent itself said and called, as it stands; what others said and found out comes as lines that name them, in user
messages with a name. A hand-over of its own that was reported on is, to it, a call whose result is that report. So no
prompt holds calls of tools that its agent was not offered, which some providers refuse, and none ends with the words of
somebody else in the assistant's role. Sources: rowboat spec 4.3 (texts only), 4.4.
"""

import re
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from dragoman.core.events import HandedOver, RunNeedsClient
from dragoman.core.messages import Message, Part, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId
from dragoman.core.operations import TurnView
from dragoman.core.workflows import TRANSFER, Handing
from dragoman.runtime.loops import results_in
from dragoman.runtime.weights import beginning

FINDING_CHARS_MAX = 8_000
"""Of a tool's result, where it is told to another agent than the one that called."""
ARGUMENTS_CHARS_MAX = 500
OTHERS = "[another agent]"
"""Begins what other agents said and found out."""
UNMARKED = "(another agent)"
"""What stands in its place in words of users, tools and agents: such a line is the server's alone to write."""
NOTHING_REPORTED = "It ended without a report."
AGAIN = "gives you the word again."

_MARK = re.compile(r"\[\s*another\s+agent\s*\]", re.IGNORECASE)


def past_texts(past: Sequence[TurnView], *, brings: bool = False) -> tuple[TurnView, ...]:
    """Earlier turns without their calls. `brings` = the turn at hand brings results for the last one: it keeps them."""
    return tuple(turn if brings and _goes_on(past, at) else _in_texts(turn) for at, turn in enumerate(past))


def as_one_agent(past: Sequence[TurnView], *, brings: bool = False) -> tuple[TurnView, ...]:
    """Earlier turns for an agent that belongs to no workflow: of those that several answered the texts, since what they
    said to each other is not what it said, and their hand-overs are none of its calls. `brings`: as for `past_texts`.
    """
    return tuple(
        _in_texts(turn) if turn.by_several and not (brings and _goes_on(past, at)) else turn
        for at, turn in enumerate(past)
    )


def _goes_on(past: Sequence[TurnView], at: int) -> bool:
    return at == len(past) - 1 and isinstance(past[at].end, RunNeedsClient)


def _in_texts(turn: TurnView) -> TurnView:
    return replace(turn, asked=_texts(turn.asked), answered=_texts(turn.answered), said_at=(), took_ms=())


def turn_messages(
    messages: Sequence[Message], handings: Sequence[HandedOver], *, received: int, viewer: str, nobody: str = ""
) -> tuple[Message, ...]:
    """The turn at hand for `viewer`. The first `received` messages came with the request; `nobody` is the name of
    whoever spoke before the first agent did: what the server called by itself belongs to the viewer."""
    asked = [at for at in range(received) if messages[at].role == "user"]
    edge = asked[-1] if asked else 0
    seen = [*_texts(messages[:edge]), *map(_unmarked, messages[edge:received])]
    return (*seen, *_Telling(messages, handings, viewer, (viewer, nobody, "")).tell(messages[received:]))


def _texts(messages: Iterable[Message]) -> tuple[Message, ...]:
    """What was said aloud, in words alone. Neighbouring texts of the assistant become one: some providers refuse two
    messages of the same role in a row."""
    texts: list[Message] = []
    for message in messages:
        if message.role == "assistant":
            aloud = message.text
            if aloud and texts and texts[-1].role == "assistant":
                texts[-1] = said("assistant", f"{texts[-1].text}\n\n{aloud}")
            elif aloud:
                texts.append(said("assistant", aloud))
        elif message.role != "tool" and message.parts:
            texts.append(_unmarked(message))
    return tuple(texts)


class _Telling:
    """Tells one agent what happened in the turn."""

    def __init__(
        self, messages: Sequence[Message], handings: Sequence[HandedOver], viewer: str, mine: tuple[str, ...]
    ) -> None:
        self._viewer = viewer
        self._mine = mine
        self._handings = iter(handings)
        self._results = results_in(messages)
        self._calls: dict[CallId, tuple[str, ToolCall]] = {}
        """Of others: who called, and what."""
        self._told: list[Message] = []
        self._open: CallId | None = None
        """The viewer's own hand-over that is being reported on."""
        self._since = ""
        """Who of the others spoke or called last, since the viewer did."""
        self._report: list[str] = []
        self._left_out: set[CallId] = set()

    def tell(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        for message in messages:
            if message.role == "assistant":
                self._spoke(message)
            elif message.role == "tool":
                self._returned(message)
            else:
                self._told.append(message)
        self._close()
        if self._since and self._told and self._told[-1].role == "assistant":
            # It was given the word again, without a word: nothing else says that more is wanted of it.
            self._line(self._since, f"{self._since} {AGAIN}")
        return tuple(self._told)

    def _spoke(self, message: Message) -> None:
        calls = message.calls
        handed = [call for call in calls if call.name == TRANSFER and self._went_through(call)]
        handing = next(self._handings, None) if handed else None
        if message.name not in self._mine:
            self._others(message, calls)
            return
        by_itself = bool(handed) and not message.full_text and len(calls) == 1
        back = handing is not None and handing.how in (Handing.RETURNED, Handing.STEPPED, Handing.RESTARTED)
        if back and by_itself:
            self._left_out |= {call.id for call in calls}
            return  # the server's own: the viewer never asked for it
        self._close()
        self._since = ""
        parts = tuple(part for part in message.parts if not isinstance(part, Text) or part.text)
        if parts:
            self._told.append(replace(message, parts=tuple(map(_aloud, parts)), name="", aside=""))
        if handing is not None and handing.how in (Handing.CALLED, Handing.ENTERED):
            self._open, self._report = handed[0].id, []

    def _others(self, message: Message, calls: Sequence[ToolCall]) -> None:
        self._since = message.name
        for call in calls:
            self._calls[call.id] = (message.name, call)
        if text := message.full_text:
            self._line(message.name, f"{message.name}: {text}")

    def _returned(self, message: Message) -> None:
        own: list[ToolResult] = []
        for part in message.parts:
            if not isinstance(part, ToolResult) or part.call_id == self._open or part.call_id in self._left_out:
                continue  # a report stands in its place, or it is of no interest
            caller, call = self._calls.get(part.call_id, ("", None))
            if call is None:
                own.append(part)
            elif call.name != TRANSFER:
                arguments = beginning(call.arguments, ARGUMENTS_CHARS_MAX)
                content = beginning(part.content, FINDING_CHARS_MAX)
                if self._open is None:
                    self._line(caller, f"{caller} called {call.name}({arguments}) and got: {content}")
        if own:
            self._told.append(Message("tool", tuple(own)))

    def _line(self, speaker: str, line: str) -> None:
        if self._open is None:
            self._told.append(Message("user", (Text(f"{OTHERS} {_MARK.sub(UNMARKED, line)}"),), name=speaker))
        else:
            self._report.append(line)

    def _close(self) -> None:
        """The hand-over that is open has been reported on."""
        if self._open is not None:
            report = "\n\n".join(self._report) or NOTHING_REPORTED
            self._told.append(Message("tool", (ToolResult(self._open, report),)))
            self._open = None

    def _went_through(self, call: ToolCall) -> bool:
        result = self._results.get(call.id)
        return result is not None and not result.is_error


def _aloud(part: Part) -> Part:
    """What the viewer itself said to others is no secret to it."""
    return Text(part.text) if isinstance(part, Text) else part


def _unmarked(message: Message) -> Message:
    """What a user said, without what could be taken for another agent's line."""
    if message.role != "user" or not _MARK.search(message.full_text):
        return message
    parts = (Text(_MARK.sub(UNMARKED, part.text)) if isinstance(part, Text) else part for part in message.parts)
    return replace(message, parts=tuple(parts))
