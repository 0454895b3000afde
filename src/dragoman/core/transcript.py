"""Events -> turns and messages: the only fold that knows how.

Feed it entries in tape order, all at once or one by one: the result is the same. Entries of several runs may interleave
(a queued turn is received while another runs); turns stand in the order in which they were received.
"""

from collections.abc import Iterable
from typing import assert_never

from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import Masked, Message, Part, Text, Thinking, ToolCall, ToolResult
from dragoman.core.names import RunId
from dragoman.core.operations import TurnView
from dragoman.core.workflows import TRANSFER

_WHOLE_ENDS = ev.RunCompleted | ev.MessagesImported


class _Said(Struct, frozen=True, gc=False):
    """An answered message, and the seq it came from."""

    seq: int
    message: Message
    at: float
    took_ms: int = 0


class _Turn:
    """A turn while it is being folded."""

    def __init__(self, run: RunId, entry: Entry, asked: tuple[Message, ...]) -> None:
        self.run = run
        self.seq = entry.seq
        self.at = entry.at
        self.asked = asked
        self.answered: list[_Said] = []
        self.end: ev.Event | None = None
        self.agent = ""
        self.reply_at = entry.at
        self.partial = ""
        self.masked: dict[Masked, None] = {}
        self.by_several = False
        self.received = event if isinstance(event := entry.event, ev.TurnReceived) else ev.TurnReceived(())

    @property
    def completed(self) -> bool:
        return isinstance(self.end, _WHOLE_ENDS)

    def view(self, *, with_partial: bool) -> TurnView:
        answered = list(self.answered)
        if with_partial and self.partial:
            half = Message("assistant", (Text(self.partial),), name=self.agent)
            answered.append(_Said(0, half, self.reply_at))
        # What it retold counts once it has completed: until then the turns before it stand as they were.
        asked = self.asked if self.completed else self.asked[self.received.restates :]
        return TurnView(
            self.run,
            self.seq,
            self.at,
            asked,
            tuple(each.message for each in answered),
            self.end,
            tuple(each.at for each in answered),
            tuple(each.took_ms for each in answered),
            self.received.system,
            tuple(self.masked),
            self.by_several,
        )


class Transcript:
    """The fold. `turns()` may be asked for at any time."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._turns: dict[RunId | int, _Turn] = {}
        self.title = ""
        for entry in entries:
            self.add(entry)

    def turns(self, *, with_partial: bool = True) -> tuple[TurnView, ...]:
        """`with_partial` shows the text of a reply that is still being written as a message."""
        kept: list[_Turn] = []
        unanswered = False  # whether there is anything to sift out: mostly not, and conversations get long
        for turn in self._turns.values():
            if turn.completed and turn.received.restates:
                kept, unanswered = [], False
            elif turn.completed and turn.received.whole and unanswered:
                kept, unanswered = [each for each in kept if each.completed], False
            kept.append(turn)
            unanswered = unanswered or not turn.completed
        return tuple(turn.view(with_partial=with_partial) for turn in kept)

    def add(self, entry: Entry) -> None:
        event = entry.event
        match event:
            case ev.TurnReceived(messages=messages):
                self._turns[entry.run] = _Turn(entry.run, entry, messages)
                return
            case ev.MessagesImported(messages=messages):
                if event.replaces:
                    self._turns = {}
                turn = _Turn(entry.run, entry, messages)
                turn.end = event
                turn.by_several = any(is_between_agents(message) for message in messages)
                self._turns[entry.run or entry.seq] = turn
                return
            case ev.TitleGiven(title=title):
                self.title = title
                return
            case ev.ConversationCreated():
                return
            case _:
                pass
        turn = self._turns.get(entry.run)
        if turn is not None:  # absent when reading began after the turn was received
            _fold_into(turn, entry, event)


def _fold_into(turn: _Turn, entry: Entry, event: ev.Event) -> None:
    match event:
        case ev.ReplyStarted(agent=agent):
            turn.agent, turn.partial, turn.reply_at = agent, "", entry.at
        case ev.TextAdded(text=text):
            turn.partial += text
        case ev.ReplyFinished():
            reply = reply_message(event, turn.agent)
            turn.answered.append(_Said(entry.seq, reply, turn.reply_at))
            turn.partial = ""
            turn.by_several = turn.by_several or is_between_agents(reply)
            turn.masked.update(dict.fromkeys(event.masked))
        case ev.CallAdded(call=call):
            turn.answered.append(_Said(entry.seq, Message("assistant", (call,), name=turn.agent), entry.at))
            turn.by_several = turn.by_several or call.name == TRANSFER
        case ev.ToolReturned(call_id=call_id, content=content, is_error=is_error, duration_ms=took_ms, shown=shown):
            result = Message("tool", (ToolResult(call_id, content, is_error, shown),))
            turn.answered.append(_Said(entry.seq, result, entry.at, took_ms))
        case ev.AttemptReset(from_seq=from_seq):
            turn.answered = [each for each in turn.answered if each.seq < from_seq]
            turn.partial = ""
        case ev.RunCompleted() | ev.RunFailed() | ev.RunCancelled() | ev.RunNeedsClient():
            turn.end = event
        case (
            ev.RunClaimed()
            | ev.ThinkingAdded()
            | ev.ToolStarted()
            | ev.ApprovalRequested()
            | ev.ApprovalDecided()
            | ev.ClientToolRequested()
            | ev.HandedOver()
            | ev.ConversationCreated()
            | ev.MessagesImported()
            | ev.TurnReceived()
            | ev.TitleGiven()
            | ev.CancelAsked()
            | ev.ClientToolClaimed()
            | ev.ClientToolAnswered()
            | ev.SharingChanged()
            | ev.ArchivingChanged()
            | ev.Unread()
        ):
            pass
        case _:
            assert_never(event)


def reply_message(event: ev.ReplyFinished, agent: str) -> Message:
    """What was said in a reply. What an agent said to other agents is hidden text: models read it, and nobody else."""
    parts: list[Part] = []
    if event.thinking:
        parts.append(Thinking(event.thinking))
    if event.text:
        parts.append(Text(event.text))
    if event.internal:
        parts.append(Text(event.internal, hidden=True))
    parts.extend(event.calls)
    return Message("assistant", tuple(parts), name=agent)


def is_between_agents(message: Message) -> bool:
    """Whether agents of a workflow say something to each other in it, if only that the word goes over."""
    return message.role == "assistant" and any(
        part.name == TRANSFER if isinstance(part, ToolCall) else isinstance(part, Text) and part.hidden
        for part in message.parts
    )


def completed(turn: TurnView) -> bool:
    """Whether the turn was answered to its end, or came from elsewhere."""
    return isinstance(turn.end, _WHOLE_ENDS)


def ended_well(turn: TurnView) -> bool:
    """Whether a turn belongs to what later turns build on.

    A failed turn does not: its caller was told that it failed and will ask again. A cancelled one does, with what was
    said until then (docs/decisions/0027).
    """
    return turn.end is not None and not isinstance(turn.end, ev.RunFailed)
