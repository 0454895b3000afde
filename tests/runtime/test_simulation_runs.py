"""Runs of simulations as they are kept: the last ones, bounded, and lost ones told as failed."""

import pytest
from msgspec.structs import replace

from dragoman.core.errors import NotFound
from dragoman.core.messages import Usage
from dragoman.core.names import ProjectId
from dragoman.core.simulations import Line, SimulationResult, SimulationRun, Status, Verdict
from dragoman.runtime import simulation_runs as limits
from dragoman.runtime.simulation_runs import SILENT_S, SimulationRuns
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

P, Q = ProjectId("p"), ProjectId("q")
SAID = (Line("user", "Where?"), Line("tool", "lost", "get_order", "{}"), Line("agent", "Lost.", "Billing"))


class Place:
    def __init__(self) -> None:
        self.clock = FixedClock(1000.0)
        self.runs = SimulationRuns(MemoryRecords(self.clock), self.clock)


@pytest.fixture
def place() -> Place:
    return Place()


def result(verdict: Verdict, *lines: Line, number: int = 1, details: str = "so") -> SimulationResult:
    return SimulationResult("refund", number, verdict, details, lines, 1.5, Usage(3, 4))


def run_of(*results: SimulationResult, status: Status = Status.COMPLETED, name: str = "1") -> SimulationRun:
    return SimulationRun(name * 24, "suite", "w", status, len(results), 990.0, 999.0, results)


async def test_a_run_is_read_as_it_was_kept_the_last_time(place: Place):
    run = run_of(result(Verdict.PASS, *SAID), result(Verdict.FAIL, number=2))
    await place.runs.keep(P, replace(run, status=Status.RUNNING, results=()))
    await place.runs.keep(P, run)
    assert await place.runs.get(P, run.id) == run
    assert await place.runs.ls(P) == (run,)
    assert await place.runs.ls(Q) == ()
    for project, run_id in ((Q, run.id), (P, "2" * 24)):
        with pytest.raises(NotFound, match="simulate ls"):
            await place.runs.get(project, run_id)


async def test_room_is_made_by_the_oldest_and_the_last_comes_first(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "RUNS_KEPT_MAX", 3)
    for name in "12345":
        place.clock.move(1.0)
        await place.runs.make_room(P)
        await place.runs.keep(P, run_of(name=name))
    assert [run.id[0] for run in await place.runs.ls(P)] == ["5", "4", "3"]


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
async def test_one_that_is_silent_for_long_has_failed(place: Place, status: Status):
    run = run_of(status=status)
    await place.runs.keep(P, run)
    place.clock.move(SILENT_S)
    assert (await place.runs.get(P, run.id)).status == status
    place.clock.move(1.0)
    lost = await place.runs.get(P, run.id)
    assert (lost.status, lost.detail) == (Status.FAILED, "Nothing was heard of it for 20 minutes: its process is gone.")
    await place.runs.keep(P, run)  # it was only slow
    assert (await place.runs.ls(P))[0].status == status


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.CANCELLED, Status.ERROR])
async def test_one_that_has_ended_stays_as_it_ended(place: Place, status: Status):
    await place.runs.keep(P, run_of(status=status))
    place.clock.move(10 * SILENT_S)
    assert (await place.runs.ls(P))[0].status == status


async def test_long_lines_and_details_are_cut(place: Place):
    most, more = "x" * limits.LINE_CHARS_MAX, "x" * (limits.LINE_CHARS_MAX + 1)
    lines = (Line("tool", more, "get_order", more), Line("agent", most))
    await place.runs.keep(P, run_of(result(Verdict.FAIL, *lines, details="d" * (limits.DETAILS_CHARS_MAX + 1))))
    (kept,) = (await place.runs.ls(P))[0].results
    cut = most[:-1] + "…"
    assert kept.transcript == (Line("tool", cut, "get_order", cut), Line("agent", most))
    assert kept.details == "d" * (limits.DETAILS_CHARS_MAX - 1) + "…"


async def test_where_room_is_short_the_transcripts_of_what_failed_are_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    passed, failed, broken = (Line("user", letter * 10) for letter in "pfe")
    run = run_of(result(Verdict.PASS, passed), result(Verdict.FAIL, failed), result(Verdict.ERROR, broken))
    for room, kept in ((30, "pfe"), (29, "fe"), (19, "f"), (9, "")):
        monkeypatch.setattr(limits, "TRANSCRIPTS_CHARS_MAX", room)
        await place.runs.keep(P, run)
        found = (await place.runs.ls(P))[0]
        assert "".join(line.text[0] for each in found.results for line in each.transcript) == kept
        assert [each.verdict for each in found.results] == [Verdict.PASS, Verdict.FAIL, Verdict.ERROR]


async def test_so_many_results_are_kept(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "RESULTS_KEPT_MAX", 2)
    await place.runs.keep(P, run_of(*(result(Verdict.PASS, number=number) for number in (1, 2, 3))))
    assert [each.attempt for each in (await place.runs.ls(P))[0].results] == [1, 2]
