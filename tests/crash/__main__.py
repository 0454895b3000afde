"""`python -m tests.crash`: what `make crash` runs. `--help` lists the options, `README.md` says what it all means."""

import argparse
import asyncio
import multiprocessing
import os
import platform
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tests.checkout import ROOT
from tests.crash import chart, databases, report
from tests.crash.campaigns import CAMPAIGNS, TIERS, Campaign, run_trial
from tests.crash.homes import Template, template, why_no_postgres
from tests.crash.report import Machine, Total
from tests.crash.scene import Order, Result, Trial

OUT = ROOT / "build" / "crash"
ENGINES = ("sqlite", "postgres")
PROGRESS_S = 10.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash", description="Kill, freeze and cut off real servers, and look for what was lost."
    )
    parser.add_argument("campaigns", nargs="*", metavar="NAME", help=f"of {', '.join(CAMPAIGNS)}; default: all")
    parser.add_argument("--tier", choices=TIERS, default="P", help="P: some minutes, for each push; N: nightly")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of everything that is drawn")
    parser.add_argument("--count", type=int, default=0, metavar="K", help="trials (R02: kills) instead of the tier's")
    parser.add_argument("--engine", choices=ENGINES, help="only this one")
    parser.add_argument(
        "--jobs", type=int, default=(os.cpu_count() or 1) + 1, help="trials at a time (default: cores + 1)"
    )
    parser.add_argument(
        "--trial", metavar="JSON", help="exactly this trial, as a failure printed it; its folder is kept"
    )
    parser.add_argument("--out", type=Path, default=OUT, help=f"where to (default: {OUT.relative_to(ROOT)})")
    arguments = parser.parse_args()
    if unknown := set(arguments.campaigns) - CAMPAIGNS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(CAMPAIGNS)}")
    return arguments


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def machine(jobs: int) -> Machine:
    described = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(described, cwd=ROOT, capture_output=True, text=True, check=False)
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return Machine(
        datetime.now(UTC).strftime("%Y-%m-%d"),
        done.stdout.strip() or "unknown",
        platform.python_version(),
        names[0].partition(": ")[2] if names else platform.machine(),
        os.cpu_count() or 1,
        jobs,
        round(os.getloadavg()[0], 2),
    )


class Session:
    """One run of the program: its workers, and where it keeps things."""

    def __init__(
        self, arguments: argparse.Namespace, pool: ProcessPoolExecutor, templates: dict[str, Template]
    ) -> None:
        self._arguments = arguments
        self._pool = pool
        self._templates = templates
        self.machine = machine(arguments.jobs)
        self._work: Path = arguments.out / f"trials-{os.getpid()}"

    def totals(self, absent: dict[str, str]) -> Iterator[Total]:
        for campaign in CAMPAIGNS.values():
            if self._arguments.campaigns and campaign.name not in self._arguments.campaigns:
                continue
            for engine in campaign.engines:
                if self._arguments.engine not in (None, engine):
                    continue
                if why := absent.get(engine) or campaign.lacks():
                    yield report.skipped(campaign.name, campaign.title, engine, why)
                else:
                    yield self._campaign(campaign, engine)

    def _campaign(self, campaign: Campaign, engine: str) -> Total:
        arguments = self._arguments
        rng = random.Random(f"{arguments.seed}/{campaign.name}/{engine}")
        planned = campaign.plan(Order(arguments.tier, arguments.count, engine, rng))
        trials = [msgspec.structs.replace(trial, engine=engine) for trial in planned]
        began = time.monotonic()
        results = self.run(trials)
        return report.total(campaign.name, campaign.title, engine, results, time.monotonic() - began)

    def run(self, trials: Sequence[Trial]) -> list[Result]:
        began = said_at = time.monotonic()
        futures = [
            self._pool.submit(
                run_trial, trial, self._work / f"{trial.campaign}-{number}-{trial.seed}", self._template(trial)
            )
            for number, trial in enumerate(trials)
        ]
        results: list[Result] = []
        for future in as_completed(futures):
            result = future.result()
            results.append(result)
            self._settle(result)
            now = time.monotonic()
            if now - said_at >= PROGRESS_S or len(results) == len(trials):
                said_at = now
                self._progress(results, len(trials), now - began)
        return results

    def _template(self, trial: Trial) -> Template:
        return self._templates[trial.engine]

    def _settle(self, result: Result) -> None:
        """Keep what a failed trial left; of others nothing remains."""
        folder = Path(result.folder)
        if result.failed or result.trial.options.get("keep"):
            kept = self._arguments.out / "failed" / folder.name
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder, kept)
            result.folder = str(kept)
            if result.failed:
                _say(report.failure(result, self.machine))
        else:
            shutil.rmtree(folder, ignore_errors=True)

    def _progress(self, results: Sequence[Result], planned: int, seconds: float) -> None:
        trial = results[0].trial
        _say(
            f"{trial.campaign} {trial.engine}: {len(results)}/{planned} trials, {sum(r.kills for r in results)} kills,"
            f" {sum(r.acknowledged for r in results)} turns acknowledged, {sum(r.lost for r in results)} lost,"
            f" {sum(r.duplicated for r in results)} twice, {sum(r.failed for r in results)} failed, {seconds:.0f} s"
        )

    def close(self) -> None:
        shutil.rmtree(self._work, ignore_errors=True)


async def _prepare(
    stack: AsyncExitStack, folder: Path, wanted: Sequence[str]
) -> tuple[dict[str, Template], dict[str, str]]:
    """A template for each engine that is there, and why the others are not."""
    templates: dict[str, Template] = {}
    absent: dict[str, str] = {}
    for engine in wanted:
        if engine == "sqlite":
            templates[engine] = await stack.enter_async_context(template(engine, folder))
        elif not databases.lacks():  # one of our own: nobody else is on it, and it has connections enough
            made = await stack.enter_async_context(databases.instance(random.Random()))
            templates[engine] = await stack.enter_async_context(template(engine, folder, postgres=made.url))
        elif why := await why_no_postgres():
            absent[engine] = why
        else:
            templates[engine] = await stack.enter_async_context(template(engine, folder))
    return templates, absent


def main() -> int:
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    given = msgspec.json.decode(arguments.trial, type=Trial) if arguments.trial else None
    wanted = [given.engine] if given else [engine for engine in ENGINES if arguments.engine in (None, engine)]
    began = time.monotonic()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        templates, absent = runner.run(_prepare(stack, arguments.out / f"templates-{os.getpid()}", wanted))
        spawn = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(arguments.jobs, mp_context=spawn) as pool:
                session = Session(arguments, pool, templates)
                try:
                    return _trial(session, given) if given else _campaigns(session, absent, arguments, began)
                except KeyboardInterrupt:
                    for worker in multiprocessing.active_children():
                        os.kill(worker.pid or 0, signal.SIGINT)
                    raise
                finally:
                    session.close()
        except KeyboardInterrupt:
            _say("interrupted")
            return 130
        except BrokenProcessPool as error:
            _say(f"a process that carried out trials is gone: {error}")
            return 1
        finally:
            runner.run(stack.aclose())
            shutil.rmtree(arguments.out / f"templates-{os.getpid()}", ignore_errors=True)


def _trial(session: Session, trial: Trial) -> int:
    kept = msgspec.structs.replace(trial, options=trial.options | {"keep": True})
    result = session.run([kept])[0]
    print(f"kept in {result.folder}")
    return int(result.failed)


def _campaigns(session: Session, absent: dict[str, str], arguments: argparse.Namespace, began: float) -> int:
    _say(f"seed {arguments.seed}, tier {arguments.tier}, {arguments.jobs} trials at a time")
    totals = list(session.totals(absent))
    here = session.machine
    seconds = time.monotonic() - began
    body = report.as_json(totals, here, tier=arguments.tier, seed=arguments.seed, seconds=seconds)
    (arguments.out / "reliability.json").write_bytes(body)
    caption = (
        f"{here.date}, commit {here.commit}, tier {arguments.tier}, {here.cores} cores of {here.cpu}, {seconds:.0f} s"
    )
    (arguments.out / "reliability.svg").write_text(chart.svg(totals, caption))
    print(report.table(totals))
    print(f"seed {arguments.seed}, {seconds:.0f} s; {arguments.out / 'reliability.json'} and reliability.svg")
    if here.busy:
        print(f"the machine was busy before we began (load {here.load}): bars in seconds are not held against it")
    return int(any(row.failed or (row.missed and not here.busy) for row in totals))


if __name__ == "__main__":
    sys.exit(main())
