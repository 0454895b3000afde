"""What simulates with a house: turns through its desk, its models, and the workflow that a suite asks for."""

import asyncio
import hashlib
from pathlib import Path

import msgspec

from dragoman.core.errors import BadRequest, NotFound, TooLarge
from dragoman.core.names import Principal, ProjectId
from dragoman.core.operations import CancelRun, Outcome, StartTurn
from dragoman.core.records import Record
from dragoman.core.versions import SOURCE_BYTES_MAX
from dragoman.core.workflow_checks import check, errors
from dragoman.runtime.simulating import Simulator
from dragoman.server.house import House
from dragoman.server.staging_parts import simulator
from dragoman.server.workflow_files import workflow_from_file

TAKEN_IN = "simulated_workflow"
"""Records: the id of the version that a file's text became, by the digest of the text."""
SUFFIXES = (".json", ".toml")


def simulator_for(house: House, principal: Principal) -> Simulator:
    """Whose turns are the principal's. The house may be one that writes no tapes: nothing is said on any."""

    async def take(turn: StartTurn) -> Outcome:
        started = await house.desk.answer(principal, turn)
        try:
            return await house.desk.outcome(started)
        except asyncio.CancelledError:
            await house.desk.answer(principal, CancelRun(started.run))
            raise

    return simulator(house, take)


async def workflow_of(house: House, project: ProjectId, wanted: str, folder: Path) -> str:
    """The id of the version that is meant, or its configured name. `wanted` may be the path of a file, seen from
    `folder`: it becomes a version that is not published, once.

    Raises NotFound; BadRequest naming what is wrong with the file.
    """
    if not wanted:
        live = await house.workflows.live(project)
        if not live:
            raise NotFound(
                "The project has no published workflow, and the file names none: publish one with dragoman workflows"
                ' publish ID, or write workflow = "…" into the file.',
                what="published_workflow",
            )
        return live
    if await house.workflows.workflow(project, wanted) is not None:
        return wanted
    path = folder / wanted
    if not wanted.endswith(SUFFIXES):
        raise NotFound(f"There is no workflow {wanted[:100]}; list them with: dragoman workflows ls", what="workflow")
    try:
        with path.open("rb") as opened:
            source = opened.read(SOURCE_BYTES_MAX + 1)
    except OSError as error:
        raise NotFound(f"The workflow {wanted} cannot be read: {error.strerror}.", what="workflow") from None
    if len(source) > SOURCE_BYTES_MAX:
        raise TooLarge(f"{wanted} has more than {SOURCE_BYTES_MAX} bytes.", bytes_max=SOURCE_BYTES_MAX)
    return await _taken_in(house, project, source, path)


async def _taken_in(house: House, project: ProjectId, source: bytes, path: Path) -> str:
    """The version that this text became, now or earlier."""
    known = hashlib.sha256(source).hexdigest()
    record = await house.records.get(project, TAKEN_IN, known)
    if record is not None:
        version_id = msgspec.json.decode(record.body, type=str)
        if await house.workflows.workflow(project, version_id) is not None:
            return version_id
    workflow = workflow_from_file(source, name=path.stem).workflow
    if found := errors(check(workflow)):
        raise BadRequest(f"{path.name} cannot answer anybody: {'; '.join(map(str, found))}.")
    version = await house.workflows.add(project, workflow, source=source.decode("utf-8-sig"), name=path.stem)
    body = msgspec.json.encode(version.id).decode()
    await house.records.put(Record(project, TAKEN_IN, known, body, wide=True), expect=None)
    return version.id
