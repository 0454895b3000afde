"""Chats under load, one server after the other: relay, dragoman, relay, dragoman, … for each case, several rounds.

Each ratio is taken inside one round, between two measurements that lie seconds apart, so that what changes on the
machine over minutes touches both.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import IO, cast

import msgspec
from msgspec import Struct

from bench import measure
from bench.load import Job, Outcome, Spread
from bench.targets import ROOT, Failed, Target

SETTLE_S = 0.1
"""What a server still does after the last answer belongs to that answer."""

Say = Callable[[str], None]


class Case(Struct, frozen=True, kw_only=True):
    """One way of asking. `per` is what CPU time is divided by; `budget` the most that the ratio may be, 0 = none set.

    `pace` cases run one stream per caller, of so many `words` that it lasts the measurement.
    """

    group: str
    title: str
    callers: int
    words: int
    streamed: bool
    per: str = "request"
    budget: float = 0.0
    gap_ms: int = 0

    @property
    def key(self) -> str:
        return f"{self.group}-{self.callers}"


WORDS = 50
"""An everyday answer."""
WORDS_BURST = 500
GAP_MS = 20
"""50 words a second."""
BLOCKING_BUDGET = 1.5
DELTA_BUDGET = 2.0


def cases(*, pace_s: float) -> tuple[Case, ...]:
    both = (1, 32)

    def title(what: str, callers: int) -> str:
        return f"{what}, {callers} caller{'s' if callers > 1 else ''}"

    paced = Case(
        group="pace",
        title=f"32 streams at {1000 // GAP_MS} words/s",
        callers=32,
        words=int(pace_s * 1000 / GAP_MS),
        streamed=True,
        per="delta",
        budget=DELTA_BUDGET,
        gap_ms=GAP_MS,
    )
    return (
        *(
            Case(
                group="blocking",
                title=title("blocking chat", callers),
                callers=callers,
                words=WORDS,
                streamed=False,
                budget=BLOCKING_BUDGET,
            )
            for callers in both
        ),
        *(
            Case(group="streamed", title=title("streamed chat", callers), callers=callers, words=WORDS, streamed=True)
            for callers in both
        ),
        *(
            Case(
                group="burst",
                title=title(f"burst of {WORDS_BURST} words", callers),
                callers=callers,
                words=WORDS_BURST,
                streamed=True,
                per="delta",
                budget=DELTA_BUDGET,
            )
            for callers in both
        ),
        paced,
    )


class Sample(Struct, frozen=True):
    """One case on one target in one round. `cpu_s` and `kernel_s` are the target's; `deltas` as the upstream sent them,
    `frames` of text as they arrived: fewer where a server put several into one."""

    round: int
    responses: int
    deltas: int
    frames: int
    wall_s: float
    cpu_s: float
    kernel_s: float
    upstream_cpu_s: float
    load_cpu_s: float
    others_cpu_s: float
    latency: Spread
    first_frame: Spread
    gap: Spread

    def cpu_ms(self, per: str) -> float:
        """Of the target, per request or per delta."""
        return self.cpu_s * 1000 / (self.deltas if per == "delta" else self.responses)

    @property
    def per_s(self) -> float:
        return self.responses / self.wall_s


class Generator:
    """The load process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        self._to = cast("IO[bytes]", self._process.stdin)
        self._from = cast("IO[bytes]", self._process.stdout)

    def prepare(self, job: Job) -> None:
        """Returns when connections are open and warm."""
        self._write(msgspec.json.encode(job))
        self._read()

    def go(self) -> Outcome:
        self._write(b"go")
        return msgspec.json.decode(self._read(), type=Outcome)

    def close(self) -> None:
        self._to.close()
        self._from.close()
        self._process.wait()

    def _write(self, line: bytes) -> None:
        self._to.write(line + b"\n")
        self._to.flush()

    def _read(self) -> bytes:
        line = self._from.readline()
        if not line:
            raise Failed("The load generator ended; what it said stands above.")
        return line


class Meter:
    """Runs jobs against targets, and reads the clocks of everyone who takes part."""

    def __init__(self, load: Generator, upstream_pid: int) -> None:
        self._load = load
        self._upstream_pid = upstream_pid
        self._series = 0

    def series(self) -> int:
        """A number for the sessions of one job: no two jobs share one."""
        self._series += 1
        return self._series

    def sample(self, target: Target, job: Job, *, words: int, number: int = 0) -> Sample:
        """Run the job. `words` = how many deltas the upstream sends per answer. Raises Failed on any wrong answer."""
        self._load.prepare(job)
        pids = (target.pid, self._upstream_pid)
        before = [measure.cpu(pid) for pid in pids]
        busy_before = measure.busy_s()
        outcome = self._load.go()
        time.sleep(SETTLE_S)
        spent, upstream = (measure.cpu(pid).since(cpu) for pid, cpu in zip(pids, before, strict=True))
        if outcome.errors or not outcome.responses:
            raise Failed(f"{target.name}: {outcome.errors} of its answers were wrong; the first: {outcome.first_error}")
        ours_s = spent.total_s + upstream.total_s + outcome.cpu_s
        return Sample(
            round=number,
            responses=outcome.responses,
            deltas=outcome.responses * words if job.delta else 0,
            frames=outcome.frames,
            wall_s=outcome.wall_s,
            cpu_s=spent.total_s,
            kernel_s=spent.kernel_s,
            upstream_cpu_s=upstream.total_s,
            load_cpu_s=outcome.cpu_s,
            others_cpu_s=max(0.0, measure.busy_s() - busy_before - ours_s),
            latency=outcome.latency,
            first_frame=outcome.first_frame,
            gap=outcome.gap,
        )

    def case(self, target: Target, case: Case, *, seconds: float, number: int) -> Sample:
        paced = bool(case.gap_ms)
        job = target.job(
            case.words,
            series=self.series(),
            callers=case.callers,
            streamed=case.streamed,
            gap_ms=case.gap_ms,
            seconds=0.0 if paced else seconds,
            each=1 if paced else 0,
            warm=0 if paced else 2,
            stagger_s=case.gap_ms / 1000,
        )
        return self.sample(target, job, words=case.words, number=number)


Samples = dict[str, dict[str, list[Sample]]]
"""By case, then by target."""


def alternate(
    meter: Meter,
    targets: Sequence[Target],
    chosen: Iterable[Case],
    *,
    rounds: int,
    seconds: float,
    say: Say,
    only: Callable[[Target, Case], bool] = lambda target, case: True,
) -> Samples:
    """Every case on every target, in turns, so many rounds. Raises Failed."""
    chosen = tuple(chosen)
    samples: Samples = {case.key: {target.name: [] for target in targets if only(target, case)} for case in chosen}
    for number in range(1, rounds + 1):
        for case in chosen:
            for target in targets:
                if not only(target, case):
                    continue
                sample = meter.case(target, case, seconds=seconds, number=number)
                samples[case.key][target.name].append(sample)
                cost = sample.cpu_ms(case.per)
                cost_text = f"{cost * 1000:.1f} µs" if case.per == "delta" else f"{cost:.3f} ms"
                say(f"round {number}/{rounds}  {case.title:<26} {target.name:<16} {cost_text:>10} CPU per {case.per}")
    return samples
