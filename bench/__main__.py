"""`python -m bench`: what `make bench` runs. `--help` lists the options, `README.md` says what the figures mean."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench import chart, figures, measure, readers, report
from bench.rounds import Case, Generator, Meter, Samples, alternate, cases
from bench.targets import (
    ROOT,
    Failed,
    Process,
    Target,
    as_upstream,
    running_grip,
    start_dragoman,
    start_floor,
    start_upstream,
)
from bench.workflows import workflows

CHATS = ("blocking", "streamed", "burst", "pace")
ALONE = ("turns", "workflows", "start", "help", "size")
TOOLS_GROUPS = ("blocking", "streamed")
"""With tools on only what a request costs is asked: a delta does not know of them."""

OUT = ROOT / "bench" / "out"
ROUNDS, ROUNDS_QUICK = 5, 3
SECONDS, SECONDS_QUICK = 1.2, 0.7
PACE_S, PACE_S_QUICK = 5.0, 3.0
ALONE_ROUNDS, ALONE_ROUNDS_QUICK = 5, 3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="What a chat costs over a bare relay on the same stack, and other budgets."
        " `python -m bench readers` measures what readers cost that have nothing to read, or do not.",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a first impression")
    parser.add_argument("--only", metavar="GROUPS", default="", help=f"of {', '.join((*CHATS, *ALONE))}; with commas")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help=f"rounds of chats (default {ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, single samples included")
    parser.add_argument("--no-plot", action="store_true", help=f"do not write {OUT.relative_to(ROOT)}/ratios.svg")
    parser.add_argument("--check", action="store_true", help="exit 1 if a budget is missed")
    parser.add_argument("--null", action="store_true", help="the relay against itself: what the method's noise is")
    parser.add_argument("--no-tools", action="store_true", help="leave out the column with the agent's tools on")
    parser.add_argument("--upstream-alone", action="store_true", help="a column for the LLM itself")
    parser.add_argument("--upstream", metavar="URL", help="use this OpenAI-compatible server, on this machine")
    parser.add_argument(
        "--upstream-port", type=int, default=0, metavar="PORT", help="where ours listens (default: any)"
    )
    parser.add_argument("--grip", metavar="URL", help="a column for a running Grip server before the same upstream")
    parser.add_argument("--grip-token", metavar="T", default="", help="its token")
    parser.add_argument("--scratch", type=Path, help="folder for databases; choose a disk, not memory")
    arguments = parser.parse_args()
    arguments.groups = tuple(group for group in arguments.only.split(",") if group) or (*CHATS, *ALONE)
    unknown = set(arguments.groups) - {*CHATS, *ALONE}
    if unknown:
        parser.error(f"--only knows {', '.join((*CHATS, *ALONE))}, not {', '.join(sorted(unknown))}")
    if arguments.null:
        arguments.groups = tuple(group for group in arguments.groups if group in CHATS)
    return arguments


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Run:
    """One run: the upstream and the load generator stay, servers come and go."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path, stack: ExitStack) -> None:
        self._arguments = arguments
        self._scratch = scratch
        self._stack = stack
        self._own_upstream: Process | None = None
        if arguments.upstream:
            self._upstream = arguments.upstream.rstrip("/").removesuffix("/v1")
            self._upstream_pid = _listener(self._upstream)
        else:
            self._own_upstream = start_upstream(scratch, arguments.upstream_port)
            stack.callback(self._own_upstream.stop)
            self._upstream, self._upstream_pid = self._own_upstream.url, self._own_upstream.pid
        load = Generator()
        stack.callback(load.close)
        self._meter = Meter(load, self._upstream_pid)
        self._asks: dict[str, float] = {}

    def report(self) -> report.Report:
        arguments = self._arguments
        quick = arguments.quick
        machine = measure.machine(self._scratch)
        rounds = arguments.rounds or (ROUNDS_QUICK if quick else ROUNDS)
        chosen = [case for case in cases(pace_s=PACE_S_QUICK if quick else PACE_S) if case.group in arguments.groups]
        samples = self._chats(chosen, rounds=rounds, seconds=SECONDS_QUICK if quick else SECONDS) if chosen else {}
        alone, core = self._alone(ALONE_ROUNDS_QUICK if quick else ALONE_ROUNDS)
        return report.Report(
            machine=machine,
            rounds=rounds,
            relay="relay",
            budgeted="dragoman",
            cases=tuple(chosen),
            samples=samples,
            figures=tuple(alone),
            core=core,
            asks_per_chat=self._asks,
        )

    def _chats(self, chosen: Sequence[Case], *, rounds: int, seconds: float) -> Samples:
        with ExitStack() as stack:
            targets = list(self._targets(stack))
            if self._own_upstream is not None:
                self._asks = {
                    target.name: figures.asks_per_chat(self._own_upstream, target, self._meter) for target in targets
                }
            return alternate(self._meter, targets, chosen, rounds=rounds, seconds=seconds, say=_say, only=_wanted)

    def _targets(self, stack: ExitStack) -> list[Target]:
        """The relay first: each round begins with it."""
        arguments = self._arguments
        started = [start_floor(self._upstream, self._scratch)]
        stack.callback(started[0].stop)
        if arguments.null:
            begin = [lambda: start_floor(self._upstream, self._scratch, "relay again")]
        else:
            begin = [lambda: start_dragoman(self._upstream, self._scratch)]
            if not arguments.no_tools:
                begin.append(lambda: start_dragoman(self._upstream, self._scratch, "dragoman+tools", tools=["*"]))
        for start in begin:
            started.append(start())
            stack.callback(started[-1].stop)
        if arguments.grip:
            started.append(running_grip(arguments.grip, arguments.grip_token))
        if arguments.upstream_alone:
            started.append(as_upstream(self._upstream, self._upstream_pid))
        return started

    def _alone(self, rounds: int) -> tuple[list[figures.Figure], measure.Installed | None]:
        groups, found, core = self._arguments.groups, list[figures.Figure](), None
        if "turns" in groups:
            found += figures.turns(self._upstream, self._scratch, self._meter, rounds=rounds, say=_say)
        if "workflows" in groups:
            seconds = SECONDS_QUICK if self._arguments.quick else SECONDS
            found += workflows(self._upstream, self._scratch, self._meter, rounds=rounds, seconds=seconds, say=_say)
        if "start" in groups:
            found += figures.start(self._upstream, self._scratch, self._meter, rounds=rounds, say=_say)
        if "help" in groups:
            found += figures.help_text(rounds=2 * rounds, say=_say)
        if "size" in groups:
            sizes, core = figures.size()
            found += sizes
        return found, core


def _wanted(target: Target, case: Case) -> bool:
    return target.name != "dragoman+tools" or case.group in TOOLS_GROUPS


def _listener(url: str) -> int:
    port = url.rpartition(":")[2]
    pid = measure.listener_pid(int(port)) if port.isdigit() else None
    if pid is None:
        raise Failed(f"No process of ours listens at {url}; start the upstream on this machine first.")
    return pid


def main() -> int:
    if sys.argv[1:2] == ["readers"]:
        return readers.main(sys.argv[2:])
    arguments = _arguments()
    if arguments.scratch:
        arguments.scratch.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="dragoman-bench-", dir=arguments.scratch))
    try:
        with ExitStack() as stack:
            found = Run(arguments, scratch, stack).report()
    except Failed as failed:
        _say(f"bench: {failed}\nLogs are in {scratch}.")
        return 1
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(scratch, ignore_errors=True)
    print(report.text(found))
    if arguments.json:
        arguments.json.write_bytes(report.to_json(found))
    if found.ratios and not arguments.no_plot:
        OUT.mkdir(exist_ok=True)
        machine = found.machine
        caption = f"{datetime.now(UTC):%Y-%m-%d}, {machine.cores} cores, Python {machine.python}, {found.rounds} rounds"
        (OUT / "ratios.svg").write_text(chart.svg(found.ratios, caption))
    if found.over:
        print("\nOver budget: " + "; ".join(found.over))
    return 1 if found.over and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
