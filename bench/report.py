"""Results -> what is printed and what is written: ratios against budgets, with their spread. Pure."""

import statistics
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from bench.figures import Figure
from bench.measure import Installed, Machine
from bench.rounds import Case, Sample, Samples

TITLE_CHARS = 46
OTHERS_SHARE_MAX = 0.15
"""Of one core. Beyond it somebody else was working on this machine, and the figures are worth less."""
BUSY_SHARE_MAX = 0.9
"""Of one core. Beyond it the upstream or the load generator may be what was measured on the wall clock."""


class Ratio(Struct, frozen=True):
    """A target's CPU time against the relay's in the same case, round by round."""

    case: str
    title: str
    target: str
    per: str
    relay_ms: float
    target_ms: float
    values: tuple[float, ...]
    budget: float

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def over(self) -> bool:
        return bool(self.budget) and self.median > self.budget


class Report(Struct, frozen=True):
    """All that one run found. `budgeted` names the target that the budgets are for."""

    machine: Machine
    rounds: int
    relay: str
    budgeted: str
    cases: tuple[Case, ...]
    samples: Samples
    figures: tuple[Figure, ...]
    core: Installed | None
    asks_per_chat: dict[str, float]

    @property
    def ratios(self) -> list[Ratio]:
        return [ratio for case in self.cases for ratio in self._ratios(case)]

    def _ratios(self, case: Case) -> Iterable[Ratio]:
        by_target = self.samples[case.key]
        relay = [sample.cpu_ms(case.per) for sample in by_target[self.relay]]
        for target, samples in by_target.items():
            if target in (self.relay, "upstream"):
                continue
            own = [sample.cpu_ms(case.per) for sample in samples]
            yield Ratio(
                case=case.key,
                title=case.title,
                target=target,
                per=case.per,
                relay_ms=statistics.median(relay),
                target_ms=statistics.median(own),
                values=tuple(ours / theirs for ours, theirs in zip(own, relay, strict=True)),
                budget=case.budget if target == self.budgeted else 0.0,
            )

    @property
    def over(self) -> list[str]:
        """What missed its budget."""
        ratios = [f"{ratio.title}: {ratio.median:.2f} times the relay" for ratio in self.ratios if ratio.over]
        return ratios + [
            f"{figure.title}: {figure.median:.2f} {figure.unit}".rstrip()
            for figure in self.figures
            if figure.budget and figure.median > figure.budget
        ]


# -- as text ---------------------------------------------------------------------------------------------------------


def text(report: Report) -> str:
    parts = [_machine(report), _ratios(report), _walls(report), _figures(report), _cautions(report)]
    return "\n\n".join(part for part in parts if part)


def _machine(report: Report) -> str:
    machine = report.machine
    versions = "  ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"{machine.cores} cores of {machine.processor}, Linux {machine.kernel}, Python {machine.python}\n{versions}\n"
        f"database on {machine.scratch}; load before {machine.load_before:.2f}; {report.rounds} rounds"
    )


def _ratios(report: Report) -> str:
    if not report.cases:
        return ""
    lines = [
        f"{'CPU time, median of rounds':<{TITLE_CHARS}} {'relay':>10} {'target':>10}   ratio (min–max)      budget"
    ]
    for ratio in report.ratios:
        title = f"{ratio.title}, {ratio.target}"
        spread = f"{ratio.median:.2f} ({min(ratio.values):.2f}–{max(ratio.values):.2f})"
        costs = f"{_cost(ratio.relay_ms, ratio.per):>10} {_cost(ratio.target_ms, ratio.per):>10}"
        lines.append(
            f"{title:<{TITLE_CHARS}} {costs}   {spread:<20} {_verdict(ratio.budget, over=ratio.over)}".rstrip()
        )
    return "\n".join(lines)


def _cost(ms: float, per: str) -> str:
    return f"{ms * 1000:.1f} µs/Δ" if per == "delta" else f"{ms:.3f} ms"


def _verdict(budget: float, *, over: bool) -> str:
    return f"≤ {budget:g}  {'OVER' if over else 'ok'}" if budget else ""


def _walls(report: Report) -> str:
    if not report.cases:
        return ""
    lines = [
        f"{'Wall clock, median of rounds':<{TITLE_CHARS}} {'answers/s':>10} {'p50 ms':>9} {'p99 ms':>9} {'1st text':>9}"
        f" {'gap p99':>9} {'kernel':>7} {'texts/Δ':>8}"
    ]
    for case in report.cases:
        for target, samples in report.samples[case.key].items():
            lines.append(f"{f'{case.title}, {target}':<{TITLE_CHARS}} {_wall(samples)}")
    return "\n".join(lines)


def _wall(samples: Sequence[Sample]) -> str:
    def median(values: Iterable[float]) -> float:
        return statistics.median(values)

    streamed = samples[0].deltas > 0
    rate = median(sample.per_s for sample in samples)
    latency = f"{median(s.latency.p50 for s in samples):>9.2f} {median(s.latency.p99 for s in samples):>9.2f}"
    first = f"{median(s.first_frame.p50 for s in samples):>9.2f}" if streamed else " " * 9
    gap = f"{median(s.gap.p99 for s in samples):>9.2f}" if streamed else " " * 9
    kernel = median(s.kernel_s / s.cpu_s for s in samples)
    merged = f"{median(s.frames / s.deltas for s in samples):>8.2f}" if streamed else ""
    return f"{rate:>10.1f} {latency} {first} {gap} {kernel:>7.0%} {merged}".rstrip()


def _figures(report: Report) -> str:
    if not report.figures:
        return ""
    lines = [f"{'One server by itself':<{TITLE_CHARS}} {'median':>14}   {'(min–max)':<20} budget"]
    for figure in report.figures:
        spread = f"({min(figure.values):.3g}–{max(figure.values):.3g})" if len(figure.values) > 1 else ""
        value = f"{figure.median:.3g} {figure.unit}".rstrip()
        verdict = _verdict(figure.budget, over=figure.median > figure.budget)
        lines.append(f"{figure.title:<{TITLE_CHARS}} {value:>14}   {spread:<20} {verdict}".rstrip())
    if report.core is not None:
        largest = sorted(report.core.sizes.items(), key=lambda item: -item[1])[:6]
        lines.append("  largest: " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in largest))
    return "\n".join(lines)


def _cautions(report: Report) -> str:
    """What makes these figures worth less than they look."""
    lines: list[str] = []
    if report.core is not None and report.core.missing:
        lines.append(f"not installed here, so not counted: {', '.join(report.core.missing)}")
    if "tmpfs" in report.machine.scratch:
        lines.append("the database lay in memory: commits cost nothing here. Use --scratch with a folder on a disk.")
    for target, asks in report.asks_per_chat.items():
        if asks != 1:
            lines.append(f"{target} asked the LLM {asks:g} times for one chat")
    samples = [sample for targets in report.samples.values() for of in targets.values() for sample in of]
    if samples:
        shares = [sample.others_cpu_s / sample.wall_s for sample in samples]
        disturbed = sum(share > OTHERS_SHARE_MAX for share in shares)
        if disturbed:
            lines.append(
                f"other processes took more than {OTHERS_SHARE_MAX:.0%} of a core in {disturbed} of {len(shares)}"
                f" measurements (median {statistics.median(shares):.0%}, most {max(shares):.0%}):"
                " run it again on a quiet machine"
            )
    lines += _busy(report)
    return "\n".join(["Cautions", *(f"  {line}" for line in lines)]) if lines else ""


def _busy(report: Report) -> Iterable[str]:
    for case in report.cases:
        for target, samples in report.samples[case.key].items():
            for who, spent in (
                ("the upstream", [sample.upstream_cpu_s / sample.wall_s for sample in samples]),
                ("the load generator", [sample.load_cpu_s / sample.wall_s for sample in samples]),
            ):
                share = statistics.median(spent)
                if share > BUSY_SHARE_MAX and target != "upstream":
                    yield f"{case.title}, {target}: {who} was busy {share:.0%} of the time; its wall clock says little"


# -- as JSON ---------------------------------------------------------------------------------------------------------


class _Written(Struct, frozen=True):
    machine: Machine
    rounds: int
    over: list[str]
    ratios: list[dict[str, object]]
    figures: list[dict[str, object]]
    core_bytes: dict[str, int]
    asks_per_chat: dict[str, float]
    cases: tuple[Case, ...]
    samples: Samples


def to_json(report: Report) -> bytes:
    """Everything, single samples included: times in seconds unless the name says otherwise."""
    written = _Written(
        machine=report.machine,
        rounds=report.rounds,
        over=report.over,
        ratios=[{**msgspec.structs.asdict(ratio), **_spread(ratio.values)} for ratio in report.ratios],
        figures=[{**msgspec.structs.asdict(figure), **_spread(figure.values)} for figure in report.figures],
        core_bytes=report.core.sizes if report.core else {},
        asks_per_chat=report.asks_per_chat,
        cases=report.cases,
        samples=report.samples,
    )
    return msgspec.json.format(msgspec.json.encode(written), indent=2) + b"\n"


def _spread(values: Sequence[float]) -> dict[str, object]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}
