"""`dragoman simulate`: FILE, ls, show."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dragoman.cli.conversations import write_whole
from dragoman.cli.failing import OURS, UPSTREAM
from dragoman.cli.main import INTERRUPTED
from dragoman.cli.opening import in_house, local_principal, project_of
from dragoman.cli.options import global_options, json_option, project_option
from dragoman.cli.simulation_reports import (
    described,
    junit,
    result_line,
    result_table,
    rows_of,
    say_failures,
    total,
    worst,
)
from dragoman.cli.terminal import dim, note, printable, progress, say, say_json, say_table
from dragoman.cli.test_profiles import read_bounded
from dragoman.cli.times import stamp
from dragoman.core.errors import BadRequest
from dragoman.core.simulations import SimulationResult, SimulationRun, Status, Suite, Verdict

if TYPE_CHECKING:
    from dragoman.runtime.simulation_runs import SimulationRuns
    from dragoman.server.house import House

RUNS_MAX = 100
CONCURRENCY = 4
CONCURRENCY_MAX = 32

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class _FileOrVerb(click.Group):
    """What begins with none of the verbs is a file to be simulated."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("simulate", cls=_FileOrVerb, short_help="Simulations: play users against a workflow, and judge it.")
def command() -> None:
    """Simulations: `dragoman simulate FILE` plays users against a workflow and says how it did.

    `simulate FILE` is short for `simulate run FILE`; see `simulate run --help` for its options.
    """


@command.command("run")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--runs", type=click.IntRange(1, RUNS_MAX), default=1, show_default=True, help="How often each.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, CONCURRENCY_MAX),
    default=CONCURRENCY,
    show_default=True,
    help="How many at once.",
)
@click.option(
    "--transcripts", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="A file for each result."
)
@click.option(
    "--junit",
    "junit_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The results as JUnit's XML.",
)
@project_option
@json_option
@global_options
def run(
    file: Path,
    runs: int,
    concurrency: int,
    transcripts: Path | None,
    junit_file: Path | None,
    project: str,
    as_json: bool,
) -> int:
    """Simulate what is in FILE, TOML or JSON; - = from stdin. Exit code 0 if all passed, 1 if one failed, 5 if one
    could not be told.

    It runs in this process, also beside a running server: nothing that is said is kept. Ctrl-C or SIGTERM stops it,
    and what was done is told.
    """
    from dragoman.server.simulation_files import read_suite  # noqa: PLC0415 keeps the verb's --help fast

    suite = read_suite(read_bounded(file), str(file))
    _check_writable(transcripts, junit_file)
    folder = Path() if str(file) == "-" else file.parent
    name = "stdin" if str(file) == "-" else file.stem

    async def work(house: "House") -> SimulationRun:
        return await _simulated(house, suite, project or suite.project, name, folder, runs, concurrency)

    done = in_house(work, writer=False, resolve_secrets=True)
    if transcripts is not None:
        _write_transcripts(transcripts, done)
    if junit_file is not None:
        write_whole(junit_file, junit(done))
    if as_json:
        say_json(described(done))
    else:
        say_table(("SIMULATION", "VERDICTS", "PASSED"), rows_of(done))
        say_failures(done)
    note(dim(total(done)))
    return _exit_code(done)


@command.command("ls")
@project_option
@json_option
@global_options
def ls(project: str, as_json: bool) -> None:
    """List the last runs, the newest first."""

    async def work(house: "House") -> tuple[SimulationRun, ...]:
        return await _kept(house).ls(await project_of(house, project))

    found = in_house(work, writer=False)
    if as_json:
        say_json([described(each, whole=False) for each in found])
        return
    rows = [
        (each.id, each.name, each.status, f"{each.aggregate.passed}/{each.planned} passed", stamp(each.started_at))
        for each in found
    ]
    say_table(("ID", "NAME", "STATUS", "RESULT", "STARTED"), rows)
    if not found:
        note("Nothing was simulated yet. Begin with: dragoman simulate FILE")


@command.command("show")
@click.argument("run")
@project_option
@json_option
@global_options
def show(run: str, project: str, as_json: bool) -> None:
    """Show how RUN went, with the transcripts of what did not pass."""

    async def work(house: "House") -> SimulationRun:
        return await _kept(house).get(await project_of(house, project), run)

    found = in_house(work, writer=False)
    if as_json:
        say_json(described(found))
        return
    say(dim(f"run {found.id}  {printable(found.name)}  {found.status}  {stamp(found.started_at)} UTC"))
    if found.detail:
        say(printable(found.detail))
    say_table(("SIMULATION", "VERDICTS", "PASSED"), rows_of(found))
    say_failures(found)


def _kept(house: "House") -> "SimulationRuns":
    from dragoman.runtime.simulation_runs import SimulationRuns  # noqa: PLC0415 keeps the verb's --help fast

    return SimulationRuns(house.records, house.clock)


async def _simulated(
    house: "House", suite: Suite, project: str, name: str, folder: Path, runs: int, concurrency: int
) -> SimulationRun:
    from dragoman.server.simulator import simulator_for, workflow_of  # noqa: PLC0415 keeps the verb's --help fast

    where = await project_of(house, project)
    workflow = await workflow_of(house, where, suite.workflow, folder)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        for each in _STOPPING:
            loop.remove_signal_handler(each)  # a second one ends this process at once
        stop.set()

    for each in _STOPPING:
        loop.add_signal_handler(each, asked)
    try:
        with progress("simulated", total=len(suite.simulations) * runs) as bar:

            def told(result: SimulationResult) -> None:
                bar.clear()
                note(result_line(result, runs))
                bar.step()

            return await simulator_for(house, local_principal(house.config, where)).run(
                where,
                suite,
                name=name,
                workflow=workflow,
                stop=stop,
                told=told,
                attempts=runs,
                concurrency=concurrency,
            )
    finally:
        for each in _STOPPING:
            loop.remove_signal_handler(each)


def _check_writable(transcripts: Path | None, junit_file: Path | None) -> None:
    """Raises BadRequest before anything is simulated: afterwards it would be too late. The folder of the transcripts
    is made."""
    if transcripts is not None:
        try:
            transcripts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadRequest(f"--transcripts: {transcripts} cannot be made: {error.strerror}.") from None
    for option, folder in (("--transcripts", transcripts), ("--junit", junit_file and junit_file.parent)):
        if folder is None:
            continue
        if not folder.is_dir():
            raise BadRequest(f"{option}: there is no folder {folder}; make it first.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BadRequest(f"{option}: nothing can be written into {folder}.")


def _write_transcripts(folder: Path, done: SimulationRun) -> None:
    for result in done.results:
        body = json.dumps(result_table(result), indent=2, ensure_ascii=False).encode()
        write_whole(folder / f"{result.simulation}-{result.attempt}.json", body + b"\n")


def _exit_code(done: SimulationRun) -> int:
    if done.status is Status.CANCELLED:
        return INTERRUPTED
    return {Verdict.PASS: 0, Verdict.FAIL: OURS, Verdict.ERROR: UPSTREAM}[worst(done.results)]
