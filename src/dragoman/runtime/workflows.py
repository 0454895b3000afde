"""The workflows of a project: versions taken in, which of them is published, and those of the configuration.

    add ──► version: line (listed) + body (workflow, source)      written once, never changed
    publish ──► the one record `live` of the project ──► live()   who asks for no version is answered by it

A version is compiled when it is taken in: a turn that goes on after a crash, or years later, runs the very workflow
that it began with. So each may be kept in memory as long as there is room. Workflows of the configuration are found
under their names, in every project; they may change with a restart, and are no versions.
"""

from asyncio import Lock
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from dragoman.core.errors import BadRequest, Conflict, FieldFault, NotFound, TooLarge
from dragoman.core.names import ProjectId
from dragoman.core.records import Record, Records
from dragoman.core.versions import SOURCE_BYTES_MAX, Version, VersionLine, is_version_id
from dragoman.core.workflow_checks import check, errors
from dragoman.core.workflows import Workflow
from dragoman.runtime.crossing import uncrossed

LINES = "workflow"
BODIES = "workflow_body"
LIVE = "workflow_live"
LIVE_ID = "live"

VERSIONS_MAX = 10_000
"""Of one project. They are never deleted: conversations go on with the one they began with."""
COMPILED_BYTES_MAX = 4 * 1024 * 1024
"""Of one workflow, with every agent's prompts in its instructions."""
NAME_CHARS_MAX = 200
NUMBER_TRIES_MAX = 50
"""To get a number while other processes take versions in: whoever loses one to them does not want theirs, but the next.
Six processes that do nothing else lose 5 in a row once in five times."""
CACHED_MAX = 128
"""Compiled workflows in memory, of all projects."""
CACHED_BYTES_MAX = 32 * 1024 * 1024
"""Of them all together, as they are stored. The one that was read last stays, however large it is."""


class _Line(Struct, frozen=True):
    number: int
    name: str


class _Body(Struct, frozen=True):
    workflow: Workflow
    source: str


class _Live(Struct, frozen=True):
    workflow: str


class Workflows:
    """`configured` are those of the configuration by name, of which `default` ("" = none) is the published one of each
    project that has published none."""

    def __init__(
        self, records: Records, configured: Mapping[str, Workflow], *, default: str, new_id: Callable[[], str]
    ) -> None:
        self._records = records
        self._configured = configured
        self._default = default
        self._new_id = new_id
        self._cached: OrderedDict[tuple[ProjectId, str], tuple[Workflow, int]] = OrderedDict()
        """With how many bytes each has."""
        self._cached_bytes = 0
        self._numbering = Lock()

    @property
    def configured(self) -> Mapping[str, Workflow]:
        return self._configured

    # -- taking in -------------------------------------------------------------------------------------------------

    async def add(
        self, project: ProjectId, workflow: Workflow, *, source: str, publish: bool = False, name: str = ""
    ) -> Version:
        """Keep it as the project's next version; without a name it is called `Version N`. Raises TooLarge, Conflict if
        the project has VERSIONS_MAX, and BadRequest if it is to be published and cannot be."""
        name = name or workflow.name
        if len(name) > NAME_CHARS_MAX:
            raise BadRequest(f"The name of a workflow has {NAME_CHARS_MAX} characters at most.")
        if publish:
            _check_publishable(workflow)
        _check_size("workflow's text", len(source.encode()), SOURCE_BYTES_MAX)
        _check_size("workflow, prompts in their places,", len(msgspec.json.encode(workflow)), COMPILED_BYTES_MAX)
        body = msgspec.json.encode(_Body(workflow, source)).decode()
        version_id = self._new_id()
        # Nobody finds the body before its line is there: a crash in between leaves no half a version.
        await self._records.put(Record(project, BODIES, version_id, body, wide=True), expect=0)
        try:
            async with self._numbering:
                line = await uncrossed(lambda: self._number(project, version_id, name), tries_max=NUMBER_TRIES_MAX)
        except _Otherwise as error:
            await self._records.delete(project, BODIES, version_id)  # whoever tries again and again leaves nothing
            raise Conflict(error.args[0]) from None
        if publish:
            await self._put_live(project, version_id)
        return _version(line, workflow, source, version_id if publish else "")

    async def _number(self, project: ProjectId, version_id: str, name: str) -> Record:
        """Write its line under the next number. Raises Conflict if somebody else took the number, _Otherwise if there
        is none left."""
        there = await self._records.page(project, LINES, limit=1, offset=0)
        if there.total >= VERSIONS_MAX:
            raise _Otherwise(
                f"The project has {there.total} versions of workflows, which is as many as it may keep; use another"
                " project for further ones."
            )
        number = there.total + 1
        line = msgspec.json.encode(_Line(number, name or f"Version {number}")).decode()
        return await self._records.put(Record(project, LINES, version_id, line, wide=True, key=str(number)), expect=0)

    # -- publishing ------------------------------------------------------------------------------------------------

    async def publish(self, project: ProjectId, version_id: str) -> Version:
        """From the next turn on it answers who asks for no version. Of several at once the last one counts. Raises
        NotFound, BadRequest with what keeps it from being published."""
        found = await self.version(project, version_id)
        if found is None:
            raise self._not_found(version_id)
        _check_publishable(found.workflow)
        await self._put_live(project, version_id)
        return msgspec.structs.replace(found, published=True)

    async def unpublish(self, project: ProjectId, version_id: str = "") -> str:
        """From the next turn on no version of the project is published; the id of the one that was, "" = none.

        With a `version_id` only if it is that one: raises Conflict if it is another."""

        async def change() -> str:
            record = await self._records.get(project, LIVE, LIVE_ID)
            published = "" if record is None else _lives.decode(record.body).workflow
            if version_id and version_id != published:
                raise _Otherwise(f"{version_id[:100]} is not published" + (f"; {published} is." if published else "."))
            if record is not None:
                await self._records.delete(project, LIVE, LIVE_ID, expect=record.version)
            return published

        try:
            return await uncrossed(change)
        except _Otherwise as error:
            raise Conflict(error.args[0]) from None

    async def _put_live(self, project: ProjectId, version_id: str) -> None:
        body = msgspec.json.encode(_Live(version_id)).decode()
        await self._records.put(Record(project, LIVE, LIVE_ID, body, wide=True), expect=None)

    async def live(self, project: ProjectId) -> str:
        """Id of the published version, else the name of the configured default; "" = there is neither."""
        return await self._published(project) or self._default

    async def _published(self, project: ProjectId) -> str:
        record = await self._records.get(project, LIVE, LIVE_ID)
        return "" if record is None else _lives.decode(record.body).workflow

    # -- reading ---------------------------------------------------------------------------------------------------

    async def versions(self, project: ProjectId) -> tuple[VersionLine, ...]:
        """All of the project, the first one first, without what they hold."""
        page = await self._records.page(project, LINES, limit=0, offset=0)
        published = await self._published(project)
        return tuple(sorted((_line(record, published) for record in page.items), key=lambda line: line.number))

    async def version(self, project: ProjectId, version_id: str) -> Version | None:
        """None also for what cannot be an id, and for workflows of the configuration."""
        if not is_version_id(version_id):
            return None
        line = await self._records.get(project, LINES, version_id)
        body = None if line is None else await self._body(project, version_id)
        if line is None or body is None:
            return None
        return _version(line, body.workflow, body.source, await self._published(project))

    async def workflow(self, project: ProjectId, version_id: str) -> Workflow | None:
        """What runs under this id, which may be a name of the configuration; None = nothing."""
        if version_id in self._configured:
            return self._configured[version_id]
        if not is_version_id(version_id):
            return None
        key = (project, version_id)
        if key in self._cached:
            self._cached.move_to_end(key)
            return self._cached[key][0]
        record = await self._records.get(project, BODIES, version_id)
        if record is None:
            return None
        workflow = _bodies.decode(record.body).workflow
        self._remember(key, workflow, len(record.body))
        return workflow

    def _remember(self, key: tuple[ProjectId, str], workflow: Workflow, size: int) -> None:
        _, before = self._cached.pop(key, (None, 0))  # two may have read it at once
        self._cached[key] = (workflow, size)
        self._cached_bytes += size - before
        while len(self._cached) > CACHED_MAX or (self._cached_bytes > CACHED_BYTES_MAX and len(self._cached) > 1):
            _, (_, gone) = self._cached.popitem(last=False)
            self._cached_bytes -= gone

    async def _body(self, project: ProjectId, version_id: str) -> _Body | None:
        record = await self._records.get(project, BODIES, version_id)
        return None if record is None else _bodies.decode(record.body)

    def _not_found(self, version_id: str) -> NotFound:
        if version_id in self._configured:
            return NotFound(
                f"{version_id} is a workflow of the configuration; publish it with [defaults] workflow there.",
                what="workflow",
            )
        return NotFound(
            f"There is no workflow {version_id[:100]}; list them with: dragoman workflows ls", what="workflow"
        )


class _Otherwise(Exception):
    """What is there is not what the caller thinks, and will not be if it is tried again."""


_lines = msgspec.json.Decoder(_Line)
_bodies = msgspec.json.Decoder(_Body)
_lives = msgspec.json.Decoder(_Live)


def _line(record: Record, published: str) -> VersionLine:
    line = _lines.decode(record.body)
    return VersionLine(record.project, record.id, line.number, line.name, record.created_at, record.id == published)


def _version(record: Record, workflow: Workflow, source: str, published: str) -> Version:
    line = _line(record, published)
    return Version(line.project, line.id, line.number, line.name, line.created_at, line.published, workflow, source)


def _check_publishable(workflow: Workflow) -> None:
    """Raises BadRequest with everything that keeps it from answering."""
    found = errors(check(workflow))
    if found:
        faults = tuple(FieldFault(finding.place, finding.message) for finding in found)
        raise BadRequest(f"The workflow cannot be published: {'; '.join(map(str, found))}.", faults=faults)


def _check_size(what: str, size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise TooLarge(f"The {what} has {size} bytes; {bytes_max} at most can be.", bytes_max=bytes_max)
