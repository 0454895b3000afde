"""Results of trials -> what is printed and published: totals per campaign, a table, reliability.json. Pure."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from tests.crash.scene import Result, Trial

START_P95_S = 1.5
"""Bar of R02: from the start of a process until it listens."""

COUNTED = ("cuts", "editions")
"""Of `Result.measured`: what is no time."""


class Machine(Struct, frozen=True):
    date: str
    commit: str
    python: str
    cpu: str
    cores: int
    jobs: int
    load: float = 0.0
    """Processes at work before we began. On a busy machine times say little."""

    @property
    def busy(self) -> bool:
        return self.load > self.cores / 2


class Total(Struct, frozen=True):
    """One campaign on one engine."""

    campaign: str
    title: str
    engine: str
    trials: int
    unblown: int
    """Trials whose fault never came to pass."""
    kills: int
    appends: int
    acknowledged: int
    lost: int
    duplicated: int
    effects: int
    violations: int
    errors: int
    checked: int
    starts_s: list[float]
    takeovers_s: list[float]
    measured: dict[str, list[float]]
    seconds: float
    skipped: str = ""
    """Why it was not run."""
    missed: tuple[str, ...] = ()
    """Bars in seconds that were not held."""

    @property
    def failed(self) -> bool:
        return bool(self.violations or self.errors)


def total(campaign: str, title: str, engine: str, results: Sequence[Result], seconds: float) -> Total:
    measured: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for name, values in result.measured.items():
            measured[name] += values
    starts = sorted(value for result in results for value in result.starts_s)
    missed: list[str] = []
    if campaign == "R02" and starts and (p95 := quantile(starts, 0.95)) > START_P95_S:
        missed.append(f"start to ready p95 {p95:.2f} s > {START_P95_S:g} s")
    return Total(
        campaign,
        title,
        engine,
        len(results),
        sum(not result.blown for result in results),
        sum(result.kills for result in results),
        sum(result.appends for result in results),
        sum(result.acknowledged for result in results),
        sum(result.lost for result in results),
        sum(result.duplicated for result in results),
        sum(result.effects for result in results),
        sum(len(result.violations) for result in results),
        sum(bool(result.error) for result in results),
        sum(result.checked for result in results),
        starts,
        sorted(value for result in results for value in result.takeovers_s),
        {name: sorted(values) for name, values in measured.items()},
        round(seconds, 1),
        missed=tuple(missed),
    )


def skipped(campaign: str, title: str, engine: str, why: str) -> Total:
    return Total(campaign, title, engine, *([0] * 11), [], [], {}, 0.0, skipped=why)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of values in order; 0 of none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def spread(values: Sequence[float]) -> str:
    """median, 95th percentile and most, in seconds."""
    if not values:
        return ""
    return f"{statistics.median(values):.2f} {quantile(values, 0.95):.2f} {values[-1]:.2f}"


def _told(name: str, values: Sequence[float]) -> str:
    """What only one campaign measures: seconds, or how often something happened."""
    if name in COUNTED:
        return f"{name}: {sum(values):.0f}"
    return f"{name} s (p50 p95 max): {spread(values)}"


COLUMNS = (
    ("campaign", lambda row: f"{row.campaign} {row.engine}"),
    ("trials", lambda row: str(row.trials)),
    ("kills", lambda row: str(row.kills)),
    ("turns", lambda row: str(row.appends)),
    ("acked", lambda row: str(row.acknowledged)),
    ("effects", lambda row: str(row.effects)),
    ("lost", lambda row: str(row.lost)),
    ("twice", lambda row: str(row.duplicated)),
    ("faults", lambda row: str(row.violations + row.errors)),
    ("start s (p50 p95 max)", lambda row: spread(row.starts_s)),
    ("taken over s (p50 p95 max)", lambda row: spread(row.takeovers_s)),
    ("time s", lambda row: f"{row.seconds:.0f}"),
)


def table(totals: Iterable[Total]) -> str:
    """Columns side by side; then what was not run and which bars were missed."""
    rows = [[name for name, _ in COLUMNS]]
    notes: list[str] = []
    for row in totals:
        if row.skipped:
            notes.append(f"{row.campaign} {row.engine}: not run: {row.skipped}")
            continue
        rows.append([cell(row) for _, cell in COLUMNS])
        if row.unblown:
            notes.append(f"{row.campaign} {row.engine}: in {row.unblown} trials the fault never came to pass")
        notes += [f"{row.campaign} {row.engine}: {_told(name, values)}" for name, values in row.measured.items()]
        notes += [f"{row.campaign} {row.engine}: MISSED {miss}" for miss in row.missed]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *notes])


def command(trial: Trial) -> str:
    """What brings the same trial about again."""
    return f"python -m tests.crash --trial '{msgspec.json.encode(trial).decode()}'"


def failure(result: Result, machine: Machine) -> str:
    trial = result.trial
    lines = [
        f"FAILED {trial.campaign} on {trial.engine}: seed {trial.seed}, options {json.dumps(trial.options)}",
        f"  fuses: {' | '.join(result.fuses) or 'none'}; commit {machine.commit}; kept in {result.folder}",
        *(f"  {each.invariant}: {each.text}" for each in result.violations[:12]),
    ]
    if len(result.violations) > 12:
        lines.append(f"  … and {len(result.violations) - 12} more")
    if result.error:
        lines += ["  the harness itself:", *(f"  {line}" for line in result.error.rstrip().splitlines()[-25:])]
    return "\n".join([*lines, f"  again: {command(trial)}"])


def as_json(totals: Sequence[Total], machine: Machine, *, tier: str, seed: int, seconds: float) -> bytes:
    body = {
        "machine": machine,
        "tier": tier,
        "seed": seed,
        "command": f"python -m tests.crash --tier {tier} --seed {seed}",
        "seconds": round(seconds, 1),
        "campaigns": totals,
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n"
