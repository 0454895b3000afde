"""Runs of simulations, kept so that earlier ones can be looked at: the last RUNS_KEPT_MAX of a project.

A run is written when it begins, again every now and then while its process lives, and when it ends. One of which
nothing was heard for long has failed, whatever stands in it (rowboat spec 6.3).
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from dragoman.core.errors import NotFound
from dragoman.core.names import Clock, ProjectId
from dragoman.core.records import Record, Records
from dragoman.core.simulations import Line, SimulationRun, Status, Verdict

KIND = "simulation_run"
RUNS_KEPT_MAX = 50
TRANSCRIPTS_CHARS_MAX = 200_000
"""Of all transcripts that are kept of a run. Those of what failed are kept first; of the others perhaps none."""
LINE_CHARS_MAX = 4000
DETAILS_CHARS_MAX = 1000
RESULTS_KEPT_MAX = 2000
SILENT_S = 20 * 60.0
"""A run that was written this long ago and has not ended is taken for lost."""

_bodies = msgspec.json.Decoder(SimulationRun)


class SimulationRuns:
    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    async def keep(self, project: ProjectId, run: SimulationRun) -> None:
        """Write it over what stands there of it; what is too much of it is left out."""
        body = msgspec.json.encode(_bounded(run)).decode()
        await self._records.put(Record(project, KIND, run.id, body, wide=True), expect=None)

    async def make_room(self, project: ProjectId) -> None:
        """For one more: the oldest go."""
        page = await self._records.page(project, KIND, limit=0, offset=0)
        for record in page.items[: max(0, page.total - RUNS_KEPT_MAX + 1)]:
            await self._records.delete(project, KIND, record.id)

    async def ls(self, project: ProjectId) -> tuple[SimulationRun, ...]:
        """The last to begin comes first."""
        page = await self._records.page(project, KIND, limit=0, offset=0)
        return tuple(self._run(record) for record in reversed(page.items))

    async def get(self, project: ProjectId, run_id: str) -> SimulationRun:
        """Raises NotFound."""
        record = await self._records.get(project, KIND, run_id)
        if record is None:
            raise NotFound(
                f"There is no run of simulations {run_id[:100]}; list them with: dragoman simulate ls",
                what="simulation_run",
            )
        return self._run(record)

    def _run(self, record: Record) -> SimulationRun:
        run = _bodies.decode(record.body)
        open_still = run.status in (Status.PENDING, Status.RUNNING)
        if open_still and record.updated_at < self._clock.now() - SILENT_S:
            detail = f"Nothing was heard of it for {SILENT_S / 60:.0f} minutes: its process is gone."
            return replace(run, status=Status.FAILED, detail=detail)
        return run


def _bounded(run: SimulationRun) -> SimulationRun:
    """What of it is kept."""
    results = list(run.results[:RESULTS_KEPT_MAX])
    room = TRANSCRIPTS_CHARS_MAX
    for at in sorted(range(len(results)), key=lambda at: (results[at].verdict is Verdict.PASS, at)):
        transcript = _cut(results[at].transcript)
        chars = _chars(transcript)
        kept = transcript if chars <= room else ()
        room -= chars if kept else 0
        results[at] = replace(results[at], transcript=kept, details=_shortened(results[at].details, DETAILS_CHARS_MAX))
    return replace(run, results=tuple(results))


def _cut(lines: Sequence[Line]) -> tuple[Line, ...]:
    return tuple(
        replace(line, text=_shortened(line.text, LINE_CHARS_MAX), arguments=_shortened(line.arguments, LINE_CHARS_MAX))
        for line in lines
    )


def _shortened(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def _chars(lines: Sequence[Line]) -> int:
    return sum(len(line.text) + len(line.arguments) for line in lines)
