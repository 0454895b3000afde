"""Runs that ask people and callers, in random histories: decisions, answers, deadlines and crashes at any place.

A driver without I/O carries out what the machine says over a list that is the tape. Whoever decides writes to the tape
with a clock of his own; the driver hears of it late, or only when it reads the tape.
"""

from collections import Counter
from collections.abc import Sequence
from typing import assert_never

from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.agents import Repeat, ToolSpec
from dragoman.core.events import Entry, Event
from dragoman.core.messages import ToolCall, said
from dragoman.core.names import CallId, RunId
from dragoman.runtime import machine
from dragoman.runtime.budgets import Budget
from dragoman.runtime.run_state import RunState
from dragoman.runtime.waiting import GRACE_S, Policy, arguments_hash

RULES = {"auto": Repeat.ONCE, "look": Repeat.PURE, "ask": Repeat.ONCE, "ask_look": Repeat.PURE, "never": Repeat.ONCE}
POLICY = Policy(ask=frozenset({"ask", "ask_look"}), deny=frozenset({"never"}), approval_s=20.0)
CLIENT = (ToolSpec("held", "", {}, held_s=10.0), ToolSpec("loose", "", {}))
NO_LIMIT = Budget(steps=0, wall_s=0.0, llm_tokens=0, same_call=0)
KINDS = [*RULES, "held", "loose", "ask", "held"]
SKEW_S = GRACE_S / 2
"""Between the store's clock and the driver's, either way."""


class Crashed(Exception):
    pass


class Scene:
    def __init__(self, kinds: Sequence[str], skew_s: float) -> None:
        self.calls = tuple(ToolCall(CallId(f"c{n}"), kind, f'{{"n":{n}}}') for n, kind in enumerate(kinds))
        self.now = 1000.0
        self.tape: list[Entry] = []
        self.effects: Counter[str] = Counter()
        self._skew_s = skew_s
        self._crash_in = 0
        self._write(ev.TurnReceived((said("user", "go"),), client_tools=CLIENT), ev.RunClaimed(1))
        self._open()

    # -- the driver ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self.state = RunState()
        self.pending: list[Event] = []
        self.heard = 0
        self.look()

    def reopen(self) -> None:
        """The process died; the next one claims the run."""
        if not self.ended:
            self._write(ev.RunClaimed(self.state.epoch + 1))
        self._open()

    @property
    def ended(self) -> bool:
        return bool(self.tape) and ev.is_end(self.tape[-1].event)

    def look(self) -> None:
        """Read the tape."""
        own = self.state.received is None
        for entry in self.tape[self.heard :]:
            if own or isinstance(entry.event, ev.ASKS):
                self.state.add(entry.event, at=entry.at, seq=entry.seq)
        self.heard = len(self.tape)
        self.state.waits.looked_at = self.now

    def step(self, crash_in: int = 0) -> None:
        """One step; `crash_in`: the process dies at the nth place where it can."""
        self._crash_in = crash_in
        try:
            self._carry_out(machine.next_step(self.state, NO_LIMIT, RULES, POLICY, now=self.now))
        except Crashed:
            self.reopen()

    def _carry_out(self, step: machine.Step) -> None:
        match step:
            case machine.AskModel(number=number):
                self._note(ev.ReplyStarted("a", "m"), ev.ReplyFinished("", self.calls if number == 1 else ()))
            case machine.RunTools(calls=calls):
                self._note(*map(ev.ToolStarted, calls))
                self._commit()
                for call in calls:
                    self.effects[call.id] += 1
                    self._may_crash()
                    self._note(ev.ToolReturned(call.id, "ran"))
                    self._commit()
            case machine.SettleCalls(results=results):
                self._note(*results)
            case machine.RequestApprovals(requests=requests):
                self._note(*requests)
                self._commit()
            case machine.RequestClientTool(request=request):
                self._note(request)
                self._commit()
            case machine.Wait(until=until):
                self._commit()
                if self.now >= until:
                    self.look()
            case machine.ResetReply(from_seq=from_seq):
                self._note(ev.AttemptReset(from_seq))
            case machine.End(event=event, facts=facts):
                self._note(*facts, event)
                self._commit()
            case machine.Ended():
                pass
            case _:
                assert_never(step)

    def _note(self, *events: Event) -> None:
        for event in events:
            self.state.add(event, at=self.now)
        self.pending += events

    def _commit(self) -> None:
        self._may_crash()
        self._write(*self.pending)
        self.pending = []
        self._may_crash()

    def _may_crash(self) -> None:
        self._crash_in -= 1
        if self._crash_in == 0:
            raise Crashed

    # -- others ----------------------------------------------------------------------------------------------------

    def _write(self, *events: Event) -> None:
        for event in events:
            self.tape.append(Entry(len(self.tape) + 1, RunId("r"), self.now + self._skew_s, event))

    def decide(self, at: int, approved: bool, meant: bool) -> None:
        call = self.calls[at % len(self.calls)]
        if self.of(ev.ApprovalRequested, call) and not self.ended:
            self._write(ev.ApprovalDecided(call.id, approved, "ann", arguments_hash(call) if meant else "other"))

    def answer(self, at: int, content: str) -> None:
        call = self.calls[at % len(self.calls)]
        if self.of(ev.ClientToolRequested, call) and not self.ended:
            self._write(ev.ClientToolAnswered(call.id, content))

    def finish(self) -> None:
        for _ in range(200):
            if self.ended:
                return
            step = machine.next_step(self.state, NO_LIMIT, RULES, POLICY, now=self.now)
            if isinstance(step, machine.Wait):
                self.now = max(self.now, step.until)
            self.step()
        raise AssertionError("the run never ended")

    # -- what must hold --------------------------------------------------------------------------------------------

    def of(self, kind: type[Event], call: ToolCall) -> list[Entry]:
        def is_its(event: Event) -> bool:
            return getattr(event, "call_id", None) == call.id or getattr(event, "call", None) == call

        return [entry for entry in self.tape if isinstance(entry.event, kind) and is_its(entry.event)]

    def check(self) -> None:
        ends = [entry for entry in self.tape if ev.is_end(entry.event)]
        assert ends == self.tape[-1:]
        end = ends[0].event
        if isinstance(end, ev.RunFailed):
            assert end.code == "retries_exhausted"
            return
        handed = end.calls if isinstance(end, ev.RunNeedsClient) else ()
        for call in self.calls:
            results = self.of(ev.ToolReturned, call)
            assert len(results) == (0 if call in handed else 1), call
            assert len(self.of(ev.ApprovalRequested, call)) <= 1
            assert len(self.of(ev.ClientToolRequested, call)) <= 1
            if RULES.get(call.name) is Repeat.ONCE:
                assert self.effects[call.id] <= 1
            if results and isinstance(results[0].event, ev.ToolReturned):
                self._check_result(call, results[0].event, results[0].seq)

    def _check_result(self, call: ToolCall, result: ev.ToolReturned, returned_seq: int) -> None:
        if result.code == "denied" or call.name in ("never", "held", "loose"):
            assert self.effects[call.id] == 0
        if call.name == "never":
            assert result.code == "denied"
        if call.name == "held":
            requested = self.of(ev.ClientToolRequested, call)[0]
            came = self._first(call, ev.ClientToolAnswered, requested, returned_seq)
            assert isinstance(came, ev.ClientToolAnswered) or came is None
            assert result.content == came.content if came else result.code == "timeout"
        if call.name in POLICY.ask:
            requested = self.of(ev.ApprovalRequested, call)[0]
            decided = self._first(call, ev.ApprovalDecided, requested, returned_seq)
            approved = isinstance(decided, ev.ApprovalDecided) and decided.approved
            assert approved == (result.code != "denied")
            for started in self.of(ev.ToolStarted, call):
                assert self._first(call, ev.ApprovalDecided, requested, started.seq) == decided

    def _first(self, call: ToolCall, kind: type[Event], requested: Entry, before: int) -> Event | None:
        """What counts of what was brought."""
        expires_at = getattr(requested.event, "expires_at", 0.0)
        for entry in self.of(kind, call):
            meant = getattr(entry.event, "arguments_hash", "") in ("", arguments_hash(call))
            if requested.seq < entry.seq < before and entry.at < expires_at and meant:
                return entry.event
        return None


Acts = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.just(0)),
        st.tuples(st.just("step"), st.integers(0, 4)),
        st.tuples(st.just("look")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("tick"), st.sampled_from((0.25, 0.5, 10.0, 20.0))),
        st.tuples(st.just("decide"), st.integers(0, 2), st.booleans(), st.integers(0, 3).map(bool)),
        st.tuples(st.just("answer"), st.integers(0, 2), st.sampled_from(("x", "y"))),
    ),
    max_size=25,
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
    st.sampled_from((0.0, SKEW_S, -SKEW_S)),
    st.integers(0, 4),
    Acts,
)
def test_whatever_happens_each_call_has_one_result_and_nothing_is_asked_or_done_twice(
    kinds: list[str], skew_s: float, begun: int, acts: list[tuple[object, ...]]
) -> None:
    scene = Scene(kinds, skew_s)
    for _ in range(begun):
        scene.step()
    for name, *arguments in acts:
        if name == "tick":
            scene.now += float(str(arguments[0]))
        else:
            getattr(scene, str(name))(*arguments)
    scene.finish()
    scene.check()
