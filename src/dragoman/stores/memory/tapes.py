"""Everything the engine holds: tapes, runs and keys, and how an event changes them."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import assert_never

from msgspec.structs import replace

from dragoman.access.ports import Credential, Project
from dragoman.core import events as ev
from dragoman.core.errors import LimitReached
from dragoman.core.events import ASKS, DELTAS, NOTES, ConversationCreated, Entry, Event, Note
from dragoman.core.names import Clock, ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import Archived, ConversationInfo, RunView
from dragoman.runtime.keeping import (
    counted,
    counted_import,
    is_import,
    key_reused,
    replied_at,
    run_taken,
    stale,
    stale_after,
    status_of,
    weight_of_import,
)
from dragoman.runtime.leases import Leases
from dragoman.runtime.ports import KEY_KEPT_S, Accepted, Claim, NewTurn
from dragoman.runtime.tail import Tails


class OneRun:
    """A run; `view` is what callers see of it. `written` is the seq of the last entry that its owner wrote, `asked` the
    seq of the last one that others wrote, `last` that of its last entry; `spoke` = it has deltas."""

    __slots__ = (
        "asked",
        "fingerprint",
        "key",
        "last",
        "project",
        "replied_seq",
        "spoke",
        "users",
        "view",
        "weight",
        "written",
    )

    def __init__(self, project: ProjectId, view: RunView, *, users: int, fingerprint: str = "", key: str = "") -> None:
        self.project = project
        self.view = view
        self.users = users
        self.fingerprint = fingerprint
        self.key = key
        self.replied_seq = 0
        self.last = 0
        self.written = 0
        self.asked = 0
        self.weight = 0
        self.spoke = False


class OneTape:
    """`open` are the runs that have not ended, in order, the first of them live; `ended_well` those a history may hold,
    in order of their ends."""

    __slots__ = ("ended_well", "entries", "info", "open", "project", "runs")

    def __init__(self, project: ProjectId, info: ConversationInfo) -> None:
        self.project = project
        self.info = info
        self.entries: list[Entry] = []
        self.runs: list[OneRun] = []
        self.open: list[OneRun] = []
        self.ended_well: list[OneRun] = []

    def index(self, after: int) -> int:
        """Where in `entries` those behind this seq begin: deltas that were pruned are missing."""
        if len(self.entries) == self.info.head:
            return min(max(after, 0), self.info.head)
        return bisect_right(self.entries, after, key=lambda entry: entry.seq)

    def of(self, run: OneRun, *, after: int = 0) -> list[Entry]:
        """The run's entries behind a seq."""
        first = self.index(max(after, run.view.first_seq - 1))
        return [entry for entry in self.entries[first : self.index(run.last)] if entry.run == run.view.id]

    def stand_behind(self, after: int, run: OneRun, events: Sequence[Event]) -> bool:
        """Whether the entries that the run's owners wrote behind this seq are exactly these events."""
        own = [entry.event for entry in self.of(run, after=after) if not isinstance(entry.event, ASKS)]
        return own == list(events)

    def history(self, before: int, chars_max: int) -> tuple[Entry, ...]:
        """As `Log.history`."""
        found: list[Entry] = []
        chars = 0
        for run in reversed(self.ended_well):
            if run.view.first_seq < before:
                found += (entry for entry in self.of(run) if not isinstance(entry.event, DELTAS))
                chars += run.weight
                if chars > chars_max:
                    break
        return tuple(sorted(found, key=lambda entry: entry.seq))


class KeptKey:
    """What is known of a key: the run it began, and what was answered to that request."""

    __slots__ = ("answer", "at", "fingerprint", "run")

    def __init__(self, run: OneRun, fingerprint: str, at: float) -> None:
        self.run = run
        self.fingerprint = fingerprint
        self.at = at
        self.answer: bytes | None = None


class Tapes:
    def __init__(self, clock: Clock, tails: Tails, leases: Leases, *, tapes_max: int | None) -> None:
        self.tapes: dict[Tape, OneTape] = {}
        self.runs: dict[RunId, OneRun] = {}
        self.projects: dict[ProjectId, Project] = {}
        self.credentials: dict[str, Credential] = {}
        self._clock = clock
        self._tails = tails
        self._leases = leases
        self._tapes_max = tapes_max
        self._numbers: dict[tuple[ProjectId, ConversationId], Tape] = {}
        self._idle: OrderedDict[Tape, None] = OrderedDict()
        """Tapes without an open run, longest idle first."""
        self._keys: dict[tuple[ProjectId, str], KeptKey] = {}
        self._last_tape = 0

    # -- tapes and runs --------------------------------------------------------------------------------------------

    def tape_of(self, project: ProjectId, conversation: ConversationId) -> OneTape | None:
        number = self._numbers.get((project, conversation))
        return None if number is None else self.tapes[number]

    def home_of(self, run: OneRun) -> OneTape:
        return self.tapes[run.view.tape]

    def refuse_taken(self, run: RunId) -> None:
        if run in self.runs:
            raise run_taken()

    def add_tape(self, created: ConversationCreated, *, at: float) -> OneTape:
        """A tape with its first entry. Raises LimitReached if there is no room for it."""
        while self._tapes_max is not None and len(self.tapes) >= self._tapes_max:
            if not self._idle:
                raise LimitReached("Too many conversations are at work at once; try again soon.", limit="tapes_max")
            self.drop(self.tapes[next(iter(self._idle))])
        self._last_tape += 1
        number = Tape(self._last_tape)
        info = ConversationInfo(
            *(created.conversation, number, created.title, created.origin, at, at, 0, 0, 0), owner=created.owner
        )
        tape = self.tapes[number] = OneTape(created.project, info)
        self._numbers[created.project, created.conversation] = number
        self.write(tape, None, (created,), at=at)
        return tape

    def add_run(
        self, tape: OneTape, run: RunId, *, users: int, at: float, fingerprint: str = "", key: str = ""
    ) -> OneRun:
        view = RunView(run, tape.info.id, tape.info.tape, "queued", 0, tape.info.head + 1, at)
        new = self.runs[run] = OneRun(tape.project, view, users=users, fingerprint=fingerprint, key=key)
        tape.runs.append(new)
        tape.open.append(new)
        self._idle.pop(tape.info.tape, None)
        return new

    def put_messages(
        self, created: ConversationCreated, imported: ev.MessagesImported, *, at: float, updated_at: float, run: RunId
    ) -> ConversationInfo:
        return self._import(self.add_tape(created, at=at), imported, at=at, updated_at=updated_at, run=run)

    def add_messages(self, tape: OneTape, imported: ev.MessagesImported, run: RunId) -> ConversationInfo:
        """Of a tape on which nothing is at work."""
        now = self._clock.now()
        return self._import(tape, imported, at=now, updated_at=now, run=run)

    def _import(
        self, tape: OneTape, imported: ev.MessagesImported, *, at: float, updated_at: float, run: RunId
    ) -> ConversationInfo:
        new = self.add_run(tape, run, users=0, at=at)
        self.write(tape, new, (imported,), at=at)
        tape.open.remove(new)
        tape.ended_well.append(new)
        new.weight = weight_of_import(imported)
        new.view = replace(new.view, status="completed", ended_at=updated_at)
        tape.info = replace(tape.info, messages=counted_import(imported), turns=1, updated_at=updated_at, live_run=None)
        self.rest(tape)
        return tape.info

    def drop(self, tape: OneTape) -> None:
        del self.tapes[tape.info.tape]
        del self._numbers[tape.project, tape.info.id]
        self._idle.pop(tape.info.tape, None)
        for run in tape.runs:
            del self.runs[run.view.id]
            if run.key:
                self._keys.pop((run.project, run.key), None)
        self._leases.end(run.view.id for run in tape.open)
        self._tails.forget(tape.info.tape)

    def owned(self, claim: Claim) -> tuple[OneTape, OneRun]:
        """What a claim is good for. Raises StaleClaim."""
        tape = self.tapes.get(claim.tape)
        run = tape.open[0] if tape is not None and tape.open else None
        if tape is None or run is None or run.view.id != claim.run or run.view.epoch != claim.epoch:
            raise stale(claim)
        return tape, run

    def shelf(
        self, project: ProjectId, owner: str | None, origins: Collection[str], archived: Archived, *, shared: bool
    ) -> list[ConversationInfo]:
        wanted = {Archived.WITHOUT: (False,), Archived.ONLY: (True,), Archived.WITH: (False, True)}[archived]
        found = [
            tape.info
            for tape in self.tapes.values()
            if tape.project == project
            and (owner in (None, tape.info.owner) or (shared and tape.info.shared))
            and (not origins or tape.info.origin in origins)
            and tape.info.archived in wanted
        ]
        return sorted(found, key=lambda info: (-info.updated_at, info.id))

    def live(self, project: ProjectId) -> Iterator[ConversationInfo]:
        """Conversations with a run at work, oldest run first."""
        live = (run for run in self.runs.values() if run.view.status == "running" and run.project == project)
        return (self.home_of(run).info for run in live)

    def turns_since(self, project: ProjectId, at: float) -> int:
        views = (run.view for run in self.runs.values() if run.project == project)
        return sum(view.started_at >= at and not is_import(view) for view in views)

    # -- what happens to them --------------------------------------------------------------------------------------

    def claim(self, tape: OneTape, run: OneRun) -> Claim:
        epoch = run.view.epoch + 1
        run.view = replace(run.view, status="running", epoch=epoch)
        self.write(tape, run, (ev.RunClaimed(epoch),))
        tape.info = replace(tape.info, live_run=run.view.id)
        return self.lease(tape, run)

    def lease(self, tape: OneTape, run: OneRun) -> Claim:
        """The claim whose RunClaimed was the last that was written of the run."""
        self._leases.give({run.view.id: run.view.epoch})
        return Claim(tape.project, tape.info.id, tape.info.tape, run.view.id, run.view.epoch, run.written)

    def write(self, tape: OneTape, run: OneRun | None, events: Sequence[Event], *, at: float | None = None) -> None:
        """Put events at the end of a tape; of a run's, those that its owner wrote."""
        if not events:
            return
        seq = tape.info.head
        at = self._clock.now() if at is None else at
        run_id = RunId("") if run is None else run.view.id
        added: list[Entry] = []
        for event in events:
            seq += 1
            added.append(Entry(seq, run_id, at, event))
            if isinstance(event, NOTES):
                self._fold(tape, event)
            elif run is not None:
                run.replied_seq = replied_at(run.replied_seq, event, seq)
                run.spoke = run.spoke or isinstance(event, DELTAS)
        tape.entries += added
        tape.info = replace(tape.info, head=seq)
        if run is not None:
            run.last = run.written = seq
        self._tails.push(tape.info.tape, added, [0] * len(added))

    def _fold(self, tape: OneTape, note: Note) -> None:
        match note:
            case ev.TitleGiven(title=title):
                self.update(tape, title=title)
            case ev.SharingChanged(shared=shared):
                tape.info = replace(tape.info, shared=shared)
            case ev.ArchivingChanged(archived=archived):
                tape.info = replace(tape.info, archived=archived)
            case _:
                assert_never(note)

    def ask(self, tape: OneTape, run: OneRun, event: Event) -> None:
        """Put an event of others than its owner at the end of a run."""
        written = run.written
        self.write(tape, run, (event,))
        run.written, run.asked = written, tape.info.head

    def end(self, tape: OneTape, run: OneRun, end: Event, *, weight: int) -> None:
        """Fold the run's end, which was just written."""
        now = self._clock.now()
        tape.open.remove(run)
        run.weight = weight
        run.view = replace(run.view, status=status_of(end), ended_at=now)
        self._leases.end((run.view.id,))
        if not isinstance(end, ev.RunFailed):
            tape.ended_well.append(run)
        self.rest(tape)
        self.update(
            tape,
            messages=tape.info.messages + counted(end, users=run.users, replied=run.replied_seq > 0),
            live_run=tape.open[0].view.id if tape.open else None,
        )

    def rest(self, tape: OneTape) -> None:
        """Nothing is at work on the tape from now on, unless something is."""
        if not tape.open:
            self._idle[tape.info.tape] = None

    def update(self, tape: OneTape, **changes: object) -> None:
        tape.info = replace(tape.info, updated_at=self._clock.now(), **changes)

    def ended_with(self, claim: Claim, events: Sequence[Event], after: int) -> Claim | None:
        """The claim that came of a run's end, which was written before, if it still stands. Raises StaleClaim."""
        tape, run = self.tapes.get(claim.tape), self.runs.get(claim.run)
        if tape is None or run is None or run.view.tape != claim.tape or run.view.epoch != claim.epoch:
            raise stale(claim)
        if not tape.stand_behind(after, run, events):
            raise stale_after(claim, after)
        following = tape.open[0] if tape.open else None
        if following is None or following.view.epoch != 1:
            return None
        behind = tape.entries[tape.index(run.last)]
        if behind.run != following.view.id or behind.event != ev.RunClaimed(1):
            return None
        return replace(self.lease(tape, following), seq=behind.seq)

    def prune(self, *, ended_before: float, limit: int) -> int:
        found = [
            run
            for run in self.runs.values()
            if run.spoke and not run.view.pruned and run.view.ended_at is not None and run.view.ended_at < ended_before
        ]
        found.sort(key=lambda run: run.view.ended_at or 0.0)
        pruned = found[: max(limit, 0)]
        for run in pruned:
            tape = self.home_of(run)
            tape.entries = [
                entry for entry in tape.entries if entry.run != run.view.id or not isinstance(entry.event, DELTAS)
            ]
            run.view = replace(run.view, pruned=True)
        self._keys = {name: key for name, key in self._keys.items() if self._is_known(key)}
        return len(pruned)

    # -- keys ------------------------------------------------------------------------------------------------------

    def key(self, project: ProjectId, key: str) -> KeptKey | None:
        """None if it is unknown or too old."""
        kept = self._keys.get((project, key))
        return kept if kept is not None and self._is_known(kept) else None

    def keep_key(self, run: OneRun, fingerprint: str) -> None:
        if not run.key:
            return
        replaced = self._keys.get((run.project, run.key))
        if replaced is not None:
            replaced.run.key = ""
        self._keys[run.project, run.key] = KeptKey(run, fingerprint, self._clock.now())

    def accepted_before(self, turn: NewTurn) -> Accepted | None:
        """The turn that this request began the first time, if it can be recognised. Raises KeyReused."""
        run: OneRun | None = None
        if turn.mark.key:
            key = self.key(turn.project, turn.mark.key)
            if key is not None:
                if key.fingerprint != turn.received.fingerprint:
                    raise key_reused()
                run = key.run
        elif turn.mark.window_s > 0 and turn.received.fingerprint:
            since = self._clock.now() - turn.mark.window_s
            run = self._newest(turn, since)
        if run is None:
            return None
        view = run.view
        created = view.first_seq == 2
        return Accepted(view.conversation, view.tape, view.id, view.first_seq, created, None, replayed=True)

    def _newest(self, turn: NewTurn, since: float) -> OneRun | None:
        for run in reversed(self.runs.values()):
            if run.fingerprint == turn.received.fingerprint and run.project == turn.project:
                return run if run.view.started_at >= since else None
        return None

    def _is_known(self, key: KeptKey) -> bool:
        return key.at >= self._clock.now() - KEY_KEPT_S
