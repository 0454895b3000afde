"""All that a trial leaves behind for the checker, and a first reading of it."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property

from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import ToolCall
from tests.crash.history import Record
from tests.crash.homes import Dump, TapeDump
from tests.crash.ledgers import Bill, Effect
from tests.crash.scripts import OPENING, TRANSFER, Script, again, read_script

FAULTS = ("kill", "freeze", "stop", "cut", "back")
"""Notes of the history after which runs may have to be taken over. While the database is away nobody can: that counts
from when it is back."""


class Violation(Struct, frozen=True):
    invariant: str
    text: str


class Evidence(Struct, frozen=True):
    history: Sequence[Record]
    dump: Dump
    effects: Sequence[Effect] = ()
    bills: Sequence[Bill] = ()
    leftovers: Sequence[str] = ()
    """What was still there 5 s after everything was stopped: processes, sockets, files."""
    calm: bool = True
    """The calm phase came to its end, so that every run must have come to its own."""
    shared_lease_s: float = 0.0
    """Of a store that several servers may share; 0 = its one server need wait for nobody's lease."""


class Turn:
    """One append as its client saw it: all tries under one token."""

    def __init__(self, first: Record) -> None:
        self.token = first.token
        self.project = first.project
        self.conversation = first.conversation
        self.script: Script | None = read_script(first.text)
        self.invoked_at = first.at
        self.acknowledged_at: float | None = None
        self.runs: set[str] = set()
        """Ids of the run it was told."""
        self.open_ends = 0
        """Tries of which nobody knows what became of them."""

    @property
    def acknowledged(self) -> bool:
        return self.acknowledged_at is not None


class RunTape:
    """The entries of one run."""

    def __init__(self, id: str, tape: TapeDump) -> None:
        self.id = id
        self.tape = tape
        self.entries: list[Entry] = []
        self.script: Script | None = None
        self.replied = 0
        """Replies of the script that another turn had, on which this one goes on."""

    def of(self, *kinds: type) -> Iterator[Entry]:
        return (entry for entry in self.entries if isinstance(entry.event, kinds))

    @cached_property
    def received(self) -> Entry | None:
        return next(self.of(ev.TurnReceived), None)

    @cached_property
    def ends(self) -> list[Entry]:
        return [entry for entry in self.entries if ev.is_end(entry.event)]

    @cached_property
    def claims(self) -> int:
        return sum(1 for _ in self.of(ev.RunClaimed))

    @cached_property
    def tries(self) -> int:
        """Attempts that got somewhere: the model spoke or a tool was begun; but for those that died while it waited
        for somebody."""
        tries, at_work, waiting = 0, False, False
        for entry in self.entries:
            if isinstance(entry.event, ev.RunClaimed):
                tries -= at_work and waiting
                at_work = False
            elif isinstance(entry.event, ev.ApprovalRequested | ev.ClientToolRequested):
                waiting = True
            elif isinstance(entry.event, ev.ApprovalDecided | ev.ClientToolAnswered | ev.ToolReturned):
                waiting = False
            elif not at_work and isinstance(
                entry.event, ev.TextAdded | ev.ThinkingAdded | ev.ReplyFinished | ev.ToolStarted
            ):
                at_work = True
                tries += 1
        return tries

    @cached_property
    def calls(self) -> dict[str, tuple[float, ToolCall]]:
        """call id -> when its intent was committed first, and the call."""
        calls: dict[str, tuple[float, ToolCall]] = {}
        for entry in self.of(ev.ToolStarted):
            call = entry.event.call
            calls.setdefault(call.id, (entry.at, call))
        return calls

    @cached_property
    def transfers(self) -> frozenset[str]:
        """Ids of the calls that ask for a hand-over."""
        called = [call for entry in self.of(ev.ReplyFinished) for call in entry.event.calls]
        called += [entry.event.call for entry in self.of(ev.CallAdded)]
        return frozenset(call.id for call in called if call.name == TRANSFER)

    @cached_property
    def results(self) -> dict[str, list[ev.ToolReturned]]:
        results: dict[str, list[ev.ToolReturned]] = defaultdict(list)
        for entry in self.of(ev.ToolReturned):
            results[entry.event.call_id].append(entry.event)
        return results


class Reading:
    """The evidence, sorted: turns by token, runs by id, and where each token stands on the tapes."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.turns: dict[str, Turn] = {}
        self.operations: dict[int, Record] = {}
        self.heard: dict[int, list[Record]] = defaultdict(list)
        self.refused: dict[int, Record] = {}
        self.cancelled: set[str] = set()
        """Runs that somebody asked to cancel."""
        for record in evidence.history:
            self._read(record)
        self.runs: dict[str, RunTape] = {}
        self.places: dict[str, list[tuple[TapeDump, Entry]]] = defaultdict(list)
        for tape in evidence.dump.tapes:
            for entry in tape.entries:
                self._place(tape, entry)

    def _read(self, record: Record) -> None:
        if record.kind == "invoke":
            self.operations[record.id] = record
            if record.op == "cancel":
                self.cancelled.add(record.run)
            if record.op == "append":
                self.turns.setdefault(record.token, Turn(record))
            return
        begun = self.operations.get(record.id)
        if record.kind == "heard":
            self.heard[record.id].append(record)
        if begun is None or begun.op != "append":
            return
        turn = self.turns[begun.token]
        if record.run:
            turn.runs.add(record.run)
        if record.kind == "ok" and record.conversation:
            turn.conversation = record.conversation  # a new one's name is its server's to give
        if record.kind == "ok" and turn.acknowledged_at is None:
            turn.acknowledged_at = record.at
        elif record.kind == "info":
            turn.open_ends += 1
        elif record.kind == "fail":
            self.refused[record.id] = record

    def takeovers(self) -> Iterator[tuple[RunTape, Entry, float]]:
        """Attempts after a run's first, and how long after the last fault they began."""
        faults = [each.at for each in self.evidence.history if each.op in FAULTS]
        for run in self.runs.values():
            for claim in run.of(ev.RunClaimed):
                if claim.event.epoch > 1:
                    at = bisect_right(faults, claim.at)
                    if at:
                        yield run, claim, claim.at - faults[at - 1]

    def _place(self, tape: TapeDump, entry: Entry) -> None:
        if not entry.run:
            return
        run = self.runs.get(entry.run)
        if run is None:
            run = self.runs[entry.run] = RunTape(entry.run, tape)
        run.entries.append(entry)
        if isinstance(entry.event, ev.TurnReceived):
            self._received(tape, run, entry, entry.event)

    def _received(self, tape: TapeDump, run: RunTape, entry: Entry, received: ev.TurnReceived) -> None:
        messages = received.messages
        question = next((at for at in reversed(range(len(messages))) if messages[at].role == "user"), None)
        run.script = read_script(messages[question].text) if question is not None else None
        if run.script is None or question is None:
            return
        replied = [message for message in messages[question:] if message.role == "assistant"]
        run.replied = sum(all(call.name != OPENING for call in message.calls) for message in replied)
        token = run.script.token if messages[-1].role == "user" else again(run.script.token)
        self.places[token].append((tape, entry))
        turn = self.turns.get(token)
        if turn is not None and not turn.conversation:
            turn.conversation = tape.conversation  # there are wires that tell its name with the answer alone
