"""Messages of this wire <-> ours, and each generation's spelling of them (rowboat spec 1.1, 1.4, 2, 3.2, 5.2).

    ours                                        told
    a reply's text                              assistant, external
    a reply's hidden text                       assistant, internal: said to other agents
    a reply's calls                             assistant, one message each, internal
    a result                                    tool, with the tool's name (Q8)
    a transfer that went through, its result    a pair; both hold `{"assistant": "<who has the word now>"}` (Q16)
    a transfer that was refused, its result     nothing

So a message of ours becomes none of theirs, or one, or several.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import UNSET, Struct

from dragoman.core.messages import Message, Role, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId
from dragoman.core.workflows import TRANSFER
from dragoman.dialects.rowboat import shapes


class Told(Struct, frozen=True):
    """A message in no generation's spelling. `calls` are an assistant's that says no text; `call_id` and `tool` are of
    a result. `at` is ISO 8601, "" = not told."""

    role: Role
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    sender: str = ""
    internal: bool = False
    call_id: CallId = CallId("")
    tool: str = ""
    at: str = ""

    @property
    def is_answer(self) -> bool:
        """A text for the user: what every answer ends with (Q5)."""
        return self.role == "assistant" and not self.calls and not self.internal


def iso(at: float) -> str:
    """Unix seconds as this wire writes times: UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- wire to ours ------------------------------------------------------------------------------------------------------


def opening_of(told: Sequence[Told]) -> str | None:
    """The text of the system message that a history begins with; None if it begins otherwise."""
    return told[0].content if told and told[0].role == "system" else None


def core_messages(told: Sequence[Told]) -> tuple[Message, ...]:
    """Messages that say nothing are left out: blank system messages, replies without text and calls, and results of
    calls that no message makes."""
    called: set[CallId] = set()
    messages: list[Message] = []
    for each in told:
        match each.role:
            case "assistant":
                called.update(call.id for call in each.calls)
                parts = (*([Text(each.content, hidden=each.internal)] if each.content else []), *each.calls)
                if parts:
                    messages.append(Message("assistant", parts, name=each.sender))
            case "tool":
                if each.call_id in called:
                    messages.append(Message("tool", (ToolResult(each.call_id, each.content),)))
            case "system" if not each.content.strip():
                pass
            case _:
                messages.append(said(each.role, each.content))
    return tuple(messages)


# -- ours to wire ------------------------------------------------------------------------------------------------------


class _Due(Struct, frozen=True):
    """What is to be told next. `open`: nobody knows yet whether it will be."""

    told: Told
    seq: int
    open: bool = False


class Telling:
    """What is told of a turn, message by message, as early as it is certain and in the order in which it was said.

    A transfer is not certain before its result; nor is a reply without a text, which is told only if nothing follows.
    """

    def __init__(self) -> None:
        self._due: list[_Due] = []
        self._names: dict[CallId, str] = {}
        self._told_seq = 0

    def add(self, message: Message, at: float, *, seq: int = 0) -> tuple[Told, ...]:
        """What is certain now that this was said. `seq`: where it stands on the tape, if `undo` is to be asked."""
        if message.role == "assistant":
            self._replied(message, iso(at), seq)
        elif message.role == "tool":
            for part in message.parts:
                if isinstance(part, ToolResult):
                    self._returned(part, iso(at), seq)
        return self._certain()

    def undo(self, from_seq: int) -> bool:
        """What stands on the tape from there on is void. False: some of it was told."""
        self._due = [due for due in self._due if due.seq < from_seq]
        return from_seq > self._told_seq

    def finish(self) -> tuple[Told, ...]:
        """What is left once the turn has completed."""
        rest = tuple(due.told for due in self._due if not due.told.calls or not due.open)
        self._due = []
        return rest

    def _replied(self, message: Message, at: str, seq: int) -> None:
        self._drop_empty()
        internal = "" if message.text else message.full_text
        calls = message.calls
        if message.text or internal or not calls:
            text = message.text or internal
            told = Told("assistant", text, sender=message.name, internal=bool(internal), at=at)
            self._due.append(_Due(told, seq, open=not text))
        for call in calls:
            self._names[call.id] = call.name
            told = Told("assistant", calls=(call,), sender=message.name, internal=True, at=at)
            self._due.append(_Due(told, seq, open=call.name == TRANSFER))

    def _returned(self, result: ToolResult, at: str, seq: int) -> None:
        self._drop_empty()
        name = self._names.get(result.call_id, "")
        if name == TRANSFER and not self._settle(result):
            return
        self._due.append(_Due(Told("tool", result.content, call_id=result.call_id, tool=name, at=at), seq))

    def _settle(self, result: ToolResult) -> bool:
        """Whether the transfer went through; its call is certain then, and leads where the result says: a pipeline's
        own name is known to the model alone."""
        for at, due in enumerate(self._due):
            if due.open and due.told.calls and due.told.calls[0].id == result.call_id:
                if result.is_error:
                    del self._due[at]
                    return False
                call = ToolCall(result.call_id, TRANSFER, result.content)
                self._due[at] = _Due(Told("assistant", "", (call,), due.told.sender, True, at=due.told.at), due.seq)
                return True
        return False

    def _drop_empty(self) -> None:
        self._due = [due for due in self._due if due.told.calls or not due.open]

    def _certain(self) -> tuple[Told, ...]:
        count = next((at for at, due in enumerate(self._due) if due.open), len(self._due))
        certain, self._due = self._due[:count], self._due[count:]
        self._told_seq = max([self._told_seq, *(due.seq for due in certain)])
        return tuple(due.told for due in certain)


def told_of(answered: Sequence[Message], said_at: Sequence[float], *, at: float) -> tuple[Told, ...]:
    """All that is told of a turn that completed. `at` stands in for times that are not known."""
    telling = Telling()
    times = said_at if len(said_at) == len(answered) else (at,) * len(answered)
    told = [each for message, when in zip(answered, times, strict=True) for each in telling.add(message, when)]
    return (*told, *telling.finish())


# -- spellings ---------------------------------------------------------------------------------------------------------


def snake(told: Told) -> shapes.SnakeMessage:
    """G1. A sender that is not known is left out (rowboat spec 1.4)."""
    match told.role:
        case "system":
            return shapes.SystemMessage(told.content)
        case "user":
            return shapes.UserMessage(told.content)
        case "tool":
            return shapes.SnakeTool(told.content, told.call_id, told.tool)
        case "assistant":
            return shapes.SnakeAssistant(
                content=UNSET if told.calls else told.content,
                tool_calls=_calls(told) or UNSET,
                agenticSender=told.sender or UNSET,
                agenticResponseType=_visible(told),
            )


def camel(told: Told, *, timed: bool) -> shapes.CamelMessage:
    """G2 if `timed`. Else G1.5, whose client library sends back only what it calls `agenticName`: without it every turn
    would begin at the workflow's start again."""
    at = told.at if timed else UNSET
    match told.role:
        case "system":
            return shapes.SystemMessage(told.content, at)
        case "user":
            return shapes.UserMessage(told.content, at)
        case "tool":
            return shapes.CamelTool(told.content, told.call_id, told.tool, at)
        case "assistant":
            return shapes.CamelAssistant(
                content=None if told.calls else told.content,
                toolCalls=_calls(told) or UNSET,
                agentName=told.sender or None,
                agenticName=UNSET if timed else (told.sender or None),
                responseType=UNSET if told.calls else _visible(told),
                timestamp=at,
            )


def both(told: Told) -> shapes.BothMessage:
    match told.role:
        case "system":
            return shapes.SystemMessage(told.content, told.at)
        case "user":
            return shapes.UserMessage(told.content, told.at)
        case "tool":
            return shapes.BothTool(told.content, told.call_id, told.call_id, told.tool, told.tool, told.at)
        case "assistant":
            calls, sender, visible = _calls(told) or UNSET, told.sender or None, _visible(told)
            return shapes.BothAssistant(
                content=None if told.calls else told.content,
                tool_calls=calls,
                toolCalls=calls,
                agenticSender=sender,
                agentName=sender,
                agenticName=sender,
                agenticResponseType=visible,
                responseType=visible,
                timestamp=told.at,
            )


def _calls(told: Told) -> tuple[shapes.Call, ...]:
    return tuple(
        shapes.Call(call.id, "function", shapes.CalledFunction(call.name, call.arguments)) for call in told.calls
    )


def _visible(told: Told) -> shapes.Visible:
    return "internal" if told.internal else "external"
