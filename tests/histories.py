"""Legal histories of one run, as hypothesis strategies: what a machine, its crashes included, may put on a tape.

A history begins after its TurnReceived, as readers see it, and holds exactly one end. It is drawn in *replies*: each
may be tried several times (a crash voids the half that was said), and each but the last calls tools.
"""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Outcome, Started
from dragoman.core.transcript import Transcript
from dragoman.core.workflows import TRANSFER, Handing

RUN = RunId("run-1")

words = st.text(max_size=12)
"""Any text that UTF-8 can carry: quotes, line ends, NUL, characters beyond the first plane."""

names = st.text("abc_.é", min_size=1, max_size=8)
usages = st.builds(Usage, st.integers(0, 10**6), st.integers(0, 10**6))


@dataclass(frozen=True)
class History:
    """One run as a reader sees it. `text`, `calls` and `replies` are those of its Outcome."""

    started: Started
    entries: tuple[Entry, ...]
    text: str
    replies: int
    calls: tuple[ToolCall, ...]

    @property
    def end(self) -> ev.RunEnd:
        end = self.entries[-1].event
        assert isinstance(end, ev.RunEnd)
        return end

    @property
    def completed(self) -> bool:
        return isinstance(self.end, ev.RunCompleted)

    @property
    def outcome(self) -> Outcome:
        received = Entry(self.started.seq, RUN, 1_700_000_000.0, ev.TurnReceived(()))
        turn = Transcript((received, *self.entries)).turns()[0]
        return Outcome(
            self.started,
            self.end,
            self.text,
            self.replies,
            self.calls,
            self.end.usage,
            turn.answered,
            turn.said_at,
        )

    @property
    def was_reset(self) -> bool:
        return any(isinstance(entry.event, ev.AttemptReset) for entry in self.entries)


@dataclass
class _Tape:
    """A tape being written."""

    seq: int
    entries: list[Entry] = field(default_factory=list)
    epoch: int = 1
    text: str = ""
    replies: int = 0
    calls: list[ToolCall] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)

    def put(self, event: Event) -> int:
        self.seq += 1
        self.entries.append(Entry(self.seq, RUN, 1_700_000_000.0 + self.seq, event))
        return self.seq

    def claimed_again(self) -> None:
        self.epoch += 1
        self.put(ev.RunClaimed(self.epoch))


def _say(draw: st.DrawFn, tape: _Tape, text: str) -> None:
    """The text in pieces, thoughts between them."""
    while text:
        size = draw(st.integers(1, len(text)))
        tape.put(ev.TextAdded(text[:size]))
        text = text[size:]
        if draw(st.booleans()):
            tape.put(ev.ThinkingAdded(draw(words)))


def _half_a_reply(draw: st.DrawFn, tape: _Tape, text: str, agent: str) -> None:
    """A try that said part of `text`, or something else, and is void: its process died, or its model took it back."""
    began = tape.put(ev.ReplyStarted(agent, "model"))
    _say(draw, tape, draw(st.one_of(st.integers(0, len(text)).map(lambda size: text[:size]), words)))
    if draw(st.booleans()):
        tape.claimed_again()
    tape.put(ev.AttemptReset(began))


def _reply(draw: st.DrawFn, tape: _Tape, calls: tuple[ToolCall, ...]) -> None:
    text, agent = draw(words), draw(names)
    for _ in range(draw(st.integers(0, 2))):
        _half_a_reply(draw, tape, text, agent)
    tape.put(ev.ReplyStarted(agent, "model"))
    if draw(st.booleans()):  # else the model does not stream
        _say(draw, tape, text)
    usage, closing = draw(usages), None
    if not calls and draw(st.integers(0, 4)) == 0:  # the rest of the text stood in the call that closed the loop
        closing, text = ToolCall(CallId("call_exit"), "exit_loop", "{}"), text + draw(words)
    tape.put(ev.ReplyFinished(text, calls, usage, "tool_calls" if calls else "stop", draw(words), closing))
    tape.text, tape.usage = text, tape.usage + usage
    tape.replies += 1
    tape.calls.extend(calls)


def _calls(draw: st.DrawFn, tape: _Tape) -> tuple[ToolCall, ...]:
    first = len(tape.calls)
    count = draw(st.integers(1, 3))
    return tuple(
        ToolCall(CallId(f"call_{first + at}"), draw(names), draw(st.sampled_from(["{}", '{"a":1}', "no json"])))
        for at in range(count)
    )


def _run_tools(draw: st.DrawFn, tape: _Tape, calls: tuple[ToolCall, ...]) -> None:
    if draw(st.booleans()):
        tape.put(ev.ApprovalRequested(calls[0], "hash", 1_800_000_000.0))
        tape.put(ev.ApprovalDecided(calls[0].id, approved=True))
    due = list(calls)
    for call in due:
        tape.put(ev.ToolStarted(call))
    while due:
        if draw(st.integers(0, 4)) == 0:
            tape.claimed_again()
            if draw(st.booleans()):  # may be repeated; else the result is settled as unknown
                for call in due:
                    tape.put(ev.ToolStarted(call))
        call = due.pop(draw(st.integers(0, len(due) - 1)))
        tape.put(ev.ToolReturned(call.id, draw(words), draw(st.booleans()), draw(st.integers(0, 9))))
    if draw(st.booleans()):
        tape.put(ev.HandedOver("one", "two"))


def _overheard(draw: st.DrawFn, tape: _Tape) -> None:
    """What an agent of a workflow says to others; then the server hands on what is next, or says it itself."""
    tape.put(ev.ReplyStarted("scout", "model"))
    usage = draw(usages)
    tape.put(ev.ReplyFinished("", (), usage, internal=draw(words.filter(bool))))
    tape.text, tape.usage = "", tape.usage + usage
    tape.replies += 1
    if draw(st.booleans()):
        call = ToolCall(CallId(f"call_handing_{tape.seq}"), TRANSFER, '{"assistant": "hub"}')
        for event in (
            ev.CallAdded(call),
            ev.ToolReturned(call.id, call.arguments),
            ev.HandedOver("scout", "hub", Handing.RETURNED),
        ):
            tape.put(event)


def _cut_short(draw: st.DrawFn, tape: _Tape) -> None:
    """An end that may come at any place: what was begun stays as it is."""
    if draw(st.booleans()):
        tape.put(ev.ReplyStarted("assistant", "model"))
        _say(draw, tape, draw(words))
    elif tape.calls and draw(st.booleans()):
        calls = _calls(draw, tape)
        _reply(draw, tape, calls)
        tape.put(ev.ToolStarted(calls[0]))
    failed = ev.RunFailed("upstream_failed", "The model did not answer.", tape.usage)
    tape.put(draw(st.sampled_from([failed, ev.RunCancelled("someone", tape.usage)])))


@st.composite
def histories(draw: st.DrawFn) -> History:
    seq = draw(st.integers(1, 40))
    started = Started(ConversationId(draw(st.text("ab:é-", min_size=1, max_size=9))), Tape(1), RUN, seq, seq == 2)
    tape = _Tape(seq)
    tape.put(ev.RunClaimed(1))
    if draw(st.integers(0, 2)) == 0:  # a loop begins with a call of ours
        opening = ToolCall(CallId("call_opening"), draw(names), "{}")
        tape.put(ev.CallAdded(opening))
        _run_tools(draw, tape, (opening,))
    for _ in range(draw(st.integers(0, 2))):
        calls = _calls(draw, tape)
        _reply(draw, tape, calls)
        _run_tools(draw, tape, calls)
        if draw(st.integers(0, 2)) == 0:
            _overheard(draw, tape)
    match draw(st.integers(0, 4)):
        case 0:
            _cut_short(draw, tape)
        case 1:
            calls = _calls(draw, tape)
            _reply(draw, tape, calls)
            for call in calls:
                tape.put(ev.ClientToolRequested(call))
            tape.put(ev.RunNeedsClient(calls, tape.usage))
        case _:
            _reply(draw, tape, ())
            if draw(st.booleans()):
                tape.put(ev.TitleGiven(draw(words)))
            tape.put(ev.RunCompleted(tape.usage))
    return History(started, tuple(tape.entries), tape.text, tape.replies, tuple(tape.calls))


def ends() -> st.SearchStrategy[Any]:
    """Every kind of end."""
    call = ToolCall(CallId("call_1"), "list_files", "{}")
    return st.sampled_from(
        [
            ev.RunCompleted(),
            ev.RunFailed("step_limit", "Too many steps."),
            ev.RunCancelled(),
            ev.RunNeedsClient((call,)),
        ]
    )
