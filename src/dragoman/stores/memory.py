"""The engine without a disk: for ephemeral conversations and for tests. It keeps every promise but to survive.

Synchronous inside: between two awaits of a caller a method has happened wholly or not at all.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from msgspec.structs import replace

from dragoman.access.ports import Credential, Project
from dragoman.core import events as ev
from dragoman.core.errors import LimitReached, Unavailable
from dragoman.core.events import DELTAS, ConversationCreated, Entry, Event, MessagesImported
from dragoman.core.names import Clock, ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import ConversationInfo, ConversationPage, RunView
from dragoman.runtime.fuses import blow
from dragoman.runtime.keeping import (
    bodies_of,
    check_appended,
    check_finished,
    check_keys,
    conversation_taken,
    counted,
    counted_import,
    no_conversation,
    no_project,
    project_taken,
    queue_full,
    replied_at,
    run_taken,
    stale,
    status_of,
    users_in,
    weight_of_import,
)
from dragoman.runtime.ports import Accepted, Claim, NewTurn
from dragoman.runtime.tail import Tails


class _Run:
    """A run; `view` is what callers see of it."""

    __slots__ = ("last_seq", "project", "replied_seq", "users", "view", "weight")

    def __init__(self, project: ProjectId, view: RunView, users: int) -> None:
        self.project = project
        self.view = view
        self.users = users
        self.replied_seq = 0
        self.last_seq = 0
        self.weight = 0


class _Tape:
    """`open` are the runs that have not ended, in order, the first of them live; `ended_well` those a history may hold,
    in order of their ends."""

    __slots__ = ("ended_well", "entries", "info", "open", "project", "runs")

    def __init__(self, project: ProjectId, info: ConversationInfo) -> None:
        self.project = project
        self.info = info
        self.entries: list[Entry] = []
        self.runs: list[_Run] = []
        self.open: list[_Run] = []
        self.ended_well: list[_Run] = []


class _Kept:
    """All there is."""

    def __init__(self) -> None:
        self.tapes: dict[Tape, _Tape] = {}
        self.numbers: dict[tuple[ProjectId, ConversationId], Tape] = {}
        self.idle: OrderedDict[Tape, None] = OrderedDict()
        """Tapes without an open run, longest idle first."""
        self.runs: dict[RunId, _Run] = {}
        self.last_tape = 0
        self.projects: dict[ProjectId, Project] = {}
        self.credentials: dict[str, Credential] = {}

    def tape_of(self, project: ProjectId, conversation: ConversationId) -> _Tape | None:
        number = self.numbers.get((project, conversation))
        return None if number is None else self.tapes[number]

    def drop(self, tape: _Tape) -> None:
        del self.tapes[tape.info.tape]
        del self.numbers[tape.project, tape.info.id]
        self.idle.pop(tape.info.tape, None)
        for run in tape.runs:
            del self.runs[run.view.id]


class MemoryStore:
    """See the ports for what each method promises, but for durability. Both `Store` and `AccessStore`."""

    def __init__(self, clock: Clock, *, tapes_max: int | None = None) -> None:
        """`tapes_max`: conversations kept; past that those whose last turn ended longest ago are dropped, and a new one
        is refused (LimitReached) while all have a turn at work. None = no limit."""
        self._clock = clock
        self._tapes_max = tapes_max
        self._tails = Tails(entries_max=0)  # for wake-ups only: the tapes are here
        self._open: _Kept | None = _Kept()

    @property
    def _kept(self) -> _Kept:
        if self._open is None:
            raise Unavailable("The store is closed.")
        return self._open

    async def close(self) -> None:
        """Everything is gone."""
        self._open = None

    # -- Log -------------------------------------------------------------------------------------------------------

    async def accept(self, turn: NewTurn) -> Accepted:
        check_keys(project=turn.project, conversation=turn.conversation, run=turn.run)
        bodies_of((turn.created, turn.received))
        kept = self._kept
        tape = kept.tape_of(turn.project, turn.conversation)
        created = tape is None
        if tape is None and turn.must_exist:
            raise no_conversation(turn.conversation)
        if tape is not None and len(tape.open) > turn.queue_max:
            raise queue_full(len(tape.open) - 1)
        self._refuse_taken(turn.run)
        blow("accept.before_commit")
        if tape is None:
            tape = self._new_tape(turn.created, at=self._clock.now())
        run = self._new_run(tape, turn.run, users=users_in(turn.received), at=self._clock.now())
        seq = run.view.first_seq
        self._write(tape, run, (turn.received,))
        claim = self._claim(tape, run) if tape.open[0] is run else None
        kept.idle.pop(tape.info.tape, None)
        self._update(tape, turns=tape.info.turns + 1)
        blow("accept.after_commit")
        return Accepted(tape.info.tape, turn.run, seq, created, claim)

    async def append(self, claim: Claim, events: Sequence[Event]) -> int:
        check_appended(events)
        bodies_of(events)
        tape, run = self._owned(claim)
        blow("append.before_commit")
        self._write(tape, run, events)
        blow("append.after_commit")
        return tape.info.head

    async def finish(self, claim: Claim, events: Sequence[Event], *, weight: int) -> Claim | None:
        check_finished(events)
        bodies_of(events)
        tape, run = self._owned(claim)
        blow("finish.before_commit")
        self._write(tape, run, events)
        self._end(tape, run, events[-1], weight)
        following = self._claim(tape, tape.open[0]) if tape.open else None
        blow("finish.after_commit")
        return following

    async def reclaim(self, run: RunId) -> Claim | None:
        found = self._kept.runs.get(run)
        if found is None or found.view.status != "running":
            return None
        return self._claim(self._kept.tapes[found.view.tape], found)

    async def unfinished(self) -> Sequence[RunView]:
        return tuple(run.view for run in self._kept.runs.values() if run.view.status == "running")

    async def end_waiting(self, run: RunId, end: Event) -> bool:
        check_finished((end,))
        bodies_of((end,))
        found = self._kept.runs.get(run)
        if found is None or found.view.status != "queued":
            return False
        tape = self._kept.tapes[found.view.tape]
        self._write(tape, found, (end,))
        self._end(tape, found, end, 0)
        return True

    async def read(self, tape: Tape, *, after: int, limit: int = 1000) -> Sequence[Entry]:
        found = self._kept.tapes.get(tape)
        first = max(after, 0)
        return () if found is None else tuple(found.entries[first : first + max(limit, 0)])

    async def grown(self, tape: Tape, *, after: int) -> None:
        async def head() -> int | None:
            found = self._kept.tapes.get(tape)
            return None if found is None else found.info.head

        await self._tails.grown(tape, after=after, look=head)

    async def read_run(self, run: RunView | Claim) -> Sequence[Entry]:
        found = self._kept.runs.get(run.run if isinstance(run, Claim) else run.id)
        return () if found is None else _entries_of(self._kept.tapes[found.view.tape], found)

    async def history(self, tape: Tape, *, before: int, chars_max: int) -> Sequence[Entry]:
        found = self._kept.tapes.get(tape)
        if found is None:
            return ()
        entries: list[Entry] = []
        chars = 0
        for run in reversed(found.ended_well):
            if run.view.first_seq < before:
                entries += (entry for entry in _entries_of(found, run) if not isinstance(entry.event, DELTAS))
                chars += run.weight
                if chars > chars_max:
                    break
        return tuple(sorted(entries, key=lambda entry: entry.seq))

    # -- Conversations and Runs ------------------------------------------------------------------------------------

    async def get(self, project: ProjectId, conversation: ConversationId) -> ConversationInfo | None:
        check_keys(project=project, conversation=conversation)
        tape = self._kept.tape_of(project, conversation)
        return None if tape is None else tape.info

    async def page(self, project: ProjectId, *, after: str, limit: int) -> ConversationPage:
        check_keys(project=project, after=after)
        found = sorted(
            (tape.info for tape in self._kept.tapes.values() if tape.project == project and tape.info.id > after),
            key=lambda info: info.id,
        )
        if not limit or len(found) <= limit:
            return ConversationPage(tuple(found))
        return ConversationPage(tuple(found[:limit]), next=found[limit - 1].id)

    async def count(self, project: ProjectId) -> int:
        check_keys(project=project)
        return sum(tape.project == project for tape in self._kept.tapes.values())

    async def delete(self, project: ProjectId, conversation: ConversationId) -> Sequence[RunId] | None:
        check_keys(project=project, conversation=conversation)
        tape = self._kept.tape_of(project, conversation)
        if tape is None:
            return None
        self._kept.drop(tape)
        self._tails.forget(tape.info.tape)
        return [run.view.id for run in tape.open]

    async def put_messages(
        self, created: ConversationCreated, imported: MessagesImported, *, at: float, updated_at: float, run: RunId
    ) -> ConversationInfo:
        check_keys(project=created.project, conversation=created.conversation, run=run)
        bodies_of((created, imported))
        if self._kept.tape_of(created.project, created.conversation) is not None:
            raise conversation_taken(created.conversation)
        self._refuse_taken(run)
        tape = self._new_tape(created, at=at)
        new = self._new_run(tape, run, users=0, at=at)
        self._write(tape, new, (imported,), at=at)
        tape.open.remove(new)
        tape.ended_well.append(new)
        new.weight = weight_of_import(imported)
        new.view = replace(new.view, status="completed", ended_at=updated_at)
        tape.info = replace(tape.info, messages=counted_import(imported), turns=1, updated_at=updated_at, live_run=None)
        self._kept.idle[tape.info.tape] = None
        return tape.info

    async def run(self, project: ProjectId | None, run: RunId) -> RunView | None:
        check_keys(project=project or "", run=run)
        found = self._kept.runs.get(run)
        return None if found is None or project not in (None, found.project) else found.view

    async def runs(self, project: ProjectId, *, limit: int) -> Sequence[RunView]:
        check_keys(project=project)
        newest = (run.view for run in reversed(self._kept.runs.values()) if run.project == project)
        return tuple(islice(newest, max(limit, 0)))

    # -- AccessStore -----------------------------------------------------------------------------------------------

    async def project(self, project: ProjectId) -> Project | None:
        check_keys(project=project)
        return self._kept.projects.get(project)

    async def projects(self) -> Sequence[Project]:
        return tuple(sorted(self._kept.projects.values(), key=lambda project: (project.created_at, project.id)))

    async def put_project(self, project: Project) -> None:
        check_keys(project=project.id, name=project.name)
        if project.id in self._kept.projects:
            raise project_taken(project.id)
        self._kept.projects[project.id] = project

    async def delete_project(self, project: ProjectId) -> bool:
        check_keys(project=project)
        kept = self._kept
        for tape in [tape for tape in kept.tapes.values() if tape.project == project]:
            kept.drop(tape)
            self._tails.forget(tape.info.tape)
        kept.credentials = {name: one for name, one in kept.credentials.items() if one.project != project}
        return kept.projects.pop(project, None) is not None

    async def credential(self, credential_id: str) -> Credential | None:
        check_keys(credential=credential_id)
        return self._kept.credentials.get(credential_id)

    async def credentials(self, project: ProjectId | None) -> Sequence[Credential]:
        check_keys(project=project or "")
        found = (one for one in self._kept.credentials.values() if project in (None, one.project))
        return tuple(sorted(found, key=lambda credential: (credential.created_at, credential.id)))

    async def put_credential(self, credential: Credential) -> None:
        check_keys(credential=credential.id, project=credential.project, name=credential.name)
        if credential.project not in self._kept.projects:
            raise no_project(credential.project)
        self._kept.credentials[credential.id] = credential

    async def touch_credential(self, credential_id: str, *, at: float) -> None:
        check_keys(credential=credential_id)
        found = self._kept.credentials.get(credential_id)
        if found is not None and at > (found.last_used_at or 0.0):
            self._kept.credentials[credential_id] = replace(found, last_used_at=at)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _refuse_taken(self, run: RunId) -> None:
        if run in self._kept.runs:
            raise run_taken()

    def _new_tape(self, created: ConversationCreated, *, at: float) -> _Tape:
        """A tape with its first entry. Raises LimitReached if there is no room for it."""
        kept = self._kept
        while self._tapes_max is not None and len(kept.tapes) >= self._tapes_max:
            if not kept.idle:
                raise LimitReached("Too many conversations are at work at once; try again soon.", limit="tapes_max")
            oldest = kept.tapes[next(iter(kept.idle))]
            kept.drop(oldest)
            self._tails.forget(oldest.info.tape)
        kept.last_tape += 1
        number = Tape(kept.last_tape)
        info = ConversationInfo(created.conversation, number, "", created.origin, at, at, 0, 0, 0)
        tape = kept.tapes[number] = _Tape(created.project, info)
        kept.numbers[created.project, created.conversation] = number
        self._write(tape, None, (created,), at=at)
        return tape

    def _new_run(self, tape: _Tape, run: RunId, *, users: int, at: float) -> _Run:
        view = RunView(run, tape.info.id, tape.info.tape, "queued", 0, tape.info.head + 1, at)
        new = self._kept.runs[run] = _Run(tape.project, view, users)
        tape.runs.append(new)
        tape.open.append(new)
        return new

    def _owned(self, claim: Claim) -> tuple[_Tape, _Run]:
        tape = self._kept.tapes.get(claim.tape)
        run = tape.open[0] if tape is not None and tape.open else None
        if tape is None or run is None or run.view.id != claim.run or run.view.epoch != claim.epoch:
            raise stale(claim)
        return tape, run

    def _claim(self, tape: _Tape, run: _Run) -> Claim:
        epoch = run.view.epoch + 1
        run.view = replace(run.view, status="running", epoch=epoch)
        self._write(tape, run, (ev.RunClaimed(epoch),))
        tape.info = replace(tape.info, live_run=run.view.id)
        return Claim(tape.project, tape.info.id, tape.info.tape, run.view.id, epoch)

    def _write(self, tape: _Tape, run: _Run | None, events: Sequence[Event], *, at: float | None = None) -> None:
        seq = tape.info.head
        at = self._clock.now() if at is None else at
        added: list[Entry] = []
        for event in events:
            seq += 1
            added.append(Entry(seq, RunId("") if run is None else run.view.id, at, event))
            if isinstance(event, ev.TitleGiven):
                self._update(tape, title=event.title)
            elif run is not None:
                run.replied_seq = replied_at(run.replied_seq, event, seq)
        tape.entries += added
        tape.info = replace(tape.info, head=seq)
        if run is not None:
            run.last_seq = seq
        if added:
            self._tails.push(tape.info.tape, added, [0] * len(added))

    def _end(self, tape: _Tape, run: _Run, end: Event, weight: int) -> None:
        """Fold the run's end, which was just written."""
        now = self._clock.now()
        tape.open.remove(run)
        run.weight = weight
        run.view = replace(run.view, status=status_of(end), ended_at=now)
        if not isinstance(end, ev.RunFailed):
            tape.ended_well.append(run)
        if not tape.open:
            self._kept.idle[tape.info.tape] = None
        self._update(
            tape,
            messages=tape.info.messages + counted(end, users=run.users, replied=run.replied_seq > 0),
            live_run=tape.open[0].view.id if tape.open else None,
        )

    def _update(self, tape: _Tape, **changes: object) -> None:
        tape.info = replace(tape.info, updated_at=self._clock.now(), **changes)


def _entries_of(tape: _Tape, run: _Run) -> tuple[Entry, ...]:
    return tuple(entry for entry in tape.entries[run.view.first_seq - 1 : run.last_seq] if entry.run == run.view.id)
