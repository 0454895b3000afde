"""What an agent of a workflow sees of the conversation. Pure.

Of earlier turns what was said aloud: what tools said then stays with who called them. Of the turn at hand what the
agent itself said and called, as it stands; what others said and found out comes as lines that name them, in user
messages with a name. A hand-over of its own that was reported on is, to it, a call whose result is that report. So no
prompt holds calls of tools that its agent was not offered, which some providers refuse, and none ends with the words of
somebody else in the assistant's role. Sources: rowboat spec 4.3 (texts only), 4.4.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from dragoman.core.events import HandedOver, RunNeedsClient
from dragoman.core.messages import Message, Part, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId
from dragoman.core.operations import TurnView
from dragoman.core.workflows import TRANSFER, Handing
from dragoman.runtime.weights import beginning

FINDING_CHARS_MAX = 8_000
"""Of a tool's result, where it is told to another agent than the one that called."""
ARGUMENTS_CHARS_MAX = 500
NOTHING_REPORTED = "It ended without a report."


def past_texts(past: Sequence[TurnView]) -> tuple[TurnView, ...]:
    """Earlier turns without their calls. The last one keeps them if the turn at hand brings its results."""
    return tuple(
        turn
        if at == len(past) - 1 and isinstance(turn.end, RunNeedsClient)
        else replace(turn, asked=_texts(turn.asked), answered=_texts(turn.answered), said_at=(), took_ms=())
        for at, turn in enumerate(past)
    )


def turn_messages(
    messages: Sequence[Message], handings: Sequence[HandedOver], *, received: int, viewer: str, nobody: str = ""
) -> tuple[Message, ...]:
    """The turn at hand for `viewer`. The first `received` messages came with the request; `nobody` is the name of
    whoever spoke before the first agent did: what the server called by itself belongs to the viewer."""
    asked = [at for at in range(received) if messages[at].role == "user"]
    edge = asked[-1] if asked else 0
    seen = [*_texts(messages[:edge]), *messages[edge:received]]
    return (*seen, *_Telling(messages, handings, viewer, (viewer, nobody, "")).tell(messages[received:]))


def _texts(messages: Iterable[Message]) -> tuple[Message, ...]:
    """What was said aloud, in words alone. Neighbouring texts of the assistant become one: some providers refuse two
    messages of the same role in a row."""
    texts: list[Message] = []
    for message in messages:
        if message.role == "tool" or not message.full_text or message.is_internal:
            continue
        if message.role != "assistant":
            texts.append(message)
        elif texts and texts[-1].role == "assistant":
            texts[-1] = said("assistant", f"{texts[-1].text}\n\n{message.text}")
        else:
            texts.append(said("assistant", message.text))
    return tuple(texts)


class _Telling:
    """Tells one agent what happened in the turn."""

    def __init__(
        self, messages: Sequence[Message], handings: Sequence[HandedOver], viewer: str, mine: tuple[str, ...]
    ) -> None:
        self._viewer = viewer
        self._mine = mine
        self._handings = iter(handings)
        self._results = _results(messages)
        self._calls: dict[CallId, tuple[str, ToolCall]] = {}
        """Of others: who called, and what."""
        self._told: list[Message] = []
        self._open: CallId | None = None
        """The viewer's own hand-over that is being reported on."""
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
        return tuple(self._told)

    def _spoke(self, message: Message) -> None:
        handed = [call for call in message.calls if call.name == TRANSFER and self._went_through(call)]
        by_itself = bool(handed) and not message.full_text and len(message.calls) == 1
        handing = next(self._handings, None) if handed else None
        if message.name not in self._mine:
            self._others(message)
            return
        back = handing is not None and handing.how in (Handing.RETURNED, Handing.STEPPED, Handing.RESTARTED)
        if back and by_itself:
            self._left_out |= {call.id for call in message.calls}
            return  # the server's own: the viewer never asked for it
        self._close()
        parts = tuple(part for part in message.parts if not isinstance(part, Text) or part.text)
        if parts:
            self._told.append(replace(message, parts=tuple(map(_aloud, parts)), name="", aside=""))
        if handing is not None and handing.how in (Handing.CALLED, Handing.ENTERED):
            self._open, self._report = handed[0].id, []

    def _others(self, message: Message) -> None:
        for call in message.calls:
            self._calls[call.id] = (message.name, call)
        if message.full_text:
            self._line(message.name, f"{message.name}: {message.full_text}")

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
            self._told.append(Message("user", (Text(f"[another agent] {line}"),), name=speaker))
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


def _results(messages: Iterable[Message]) -> Mapping[CallId, ToolResult]:
    return {part.call_id: part for message in messages for part in message.parts if isinstance(part, ToolResult)}


def _aloud(part: Part) -> Part:
    """What the viewer itself said to others is no secret to it."""
    return Text(part.text) if isinstance(part, Text) else part
