"""Events -> turns and messages: the only fold that knows how.

Feed it entries in tape order, all at once or one by one: the result is the same. Entries of several runs may interleave
(a queued turn is received while another runs); turns stand in the order in which they were received.
"""

from collections.abc import Iterable
from typing import assert_never

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import Message, Part, Text, Thinking, ToolResult
from dragoman.core.names import RunId
from dragoman.core.operations import TurnView


class _Turn:
    """A turn while it is being folded. `marks` remembers each answered message with the seq it came from."""

    def __init__(self, run: RunId, entry: Entry, asked: tuple[Message, ...]) -> None:
        self.run = run
        self.seq = entry.seq
        self.at = entry.at
        self.asked = asked
        self.answered: list[tuple[int, Message]] = []
        self.end: ev.Event | None = None
        self.agent = ""
        self.partial = ""

    def view(self, *, with_partial: bool) -> TurnView:
        answered = tuple(message for _, message in self.answered)
        if with_partial and self.partial:
            answered += (Message("assistant", (Text(self.partial),), name=self.agent),)
        return TurnView(self.run, self.seq, self.at, self.asked, answered, self.end)


class Transcript:
    """The fold. `turns()` may be asked for at any time."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._turns: dict[RunId | int, _Turn] = {}
        self.title = ""
        for entry in entries:
            self.add(entry)

    def turns(self, *, with_partial: bool = True) -> tuple[TurnView, ...]:
        """`with_partial` shows the text of a reply that is still being written as a message."""
        return tuple(turn.view(with_partial=with_partial) for turn in self._turns.values())

    def add(self, entry: Entry) -> None:
        event = entry.event
        match event:
            case ev.TurnReceived(messages=messages):
                self._turns[entry.run] = _Turn(entry.run, entry, messages)
                return
            case ev.MessagesImported(messages=messages):
                turn = _Turn(entry.run, entry, messages)
                turn.end = event
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
            _fold_into(turn, entry.seq, event)


def _fold_into(turn: _Turn, seq: int, event: ev.Event) -> None:
    match event:
        case ev.ReplyStarted(agent=agent):
            turn.agent, turn.partial = agent, ""
        case ev.TextAdded(text=text):
            turn.partial += text
        case ev.ReplyFinished():
            turn.answered.append((seq, _reply(event, turn.agent)))
            turn.partial = ""
        case ev.ToolReturned(call_id=call_id, content=content, is_error=is_error):
            turn.answered.append((seq, Message("tool", (ToolResult(call_id, content, is_error),))))
        case ev.AttemptReset(from_seq=from_seq):
            turn.answered = [(at, message) for at, message in turn.answered if at < from_seq]
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
            | ev.Unread()
        ):
            pass
        case _:
            assert_never(event)


def _reply(event: ev.ReplyFinished, agent: str) -> Message:
    parts: list[Part] = []
    if event.thinking:
        parts.append(Thinking(event.thinking))
    if event.text:
        parts.append(Text(event.text))
    parts.extend(event.calls)
    return Message("assistant", tuple(parts), name=agent)


def ended_well(turn: TurnView) -> bool:
    """Whether a turn belongs to what later turns build on.

    A failed turn does not: its caller was told that it failed and will ask again. A cancelled one does, with what was
    said until then (docs/decisions/0027).
    """
    return turn.end is not None and not isinstance(turn.end, ev.RunFailed)
