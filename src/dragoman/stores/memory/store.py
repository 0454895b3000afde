"""The store over the tapes in memory.

Synchronous inside: between two awaits of a caller a method has happened wholly or not at all.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from msgspec.structs import replace

from dragoman.access.ports import Credential, Project
from dragoman.core.errors import Unavailable
from dragoman.core.events import ConversationCreated, Entry, Event, MessagesImported
from dragoman.core.names import Clock, ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import Archived, ConversationInfo, ConversationPage, ConversationShelf, RunView
from dragoman.runtime.fuses import blow
from dragoman.runtime.keeping import (
    bodies_of,
    check_all,
    check_appended,
    check_asked,
    check_finished,
    check_keys,
    check_noted,
    check_replacing,
    conversation_at_work,
    conversation_taken,
    history_chars,
    no_conversation,
    no_project,
    project_taken,
    queue_full,
    refuse_stranger,
    stale_after,
    users_in,
)
from dragoman.runtime.leases import Bell, Leases
from dragoman.runtime.ports import LEASE_S, Accepted, Claim, NewTurn, StaleClaim
from dragoman.runtime.tail import Tails
from dragoman.stores.memory.knowledge import MemoryKnowledge
from dragoman.stores.memory.records import MemoryRecords
from dragoman.stores.memory.tapes import Tapes


class MemoryStore:
    """See the ports for what each method promises, but for durability. Both `Store` and `AccessStore`."""

    def __init__(self, clock: Clock, *, tapes_max: int | None = None, lease_s: float = LEASE_S) -> None:
        """`tapes_max`: conversations kept; past that those whose last turn ended longest ago are dropped, and a new one
        is refused (LimitReached) while all have a turn at work. None = no limit."""
        self._clock = clock
        self._tails = Tails(entries_max=0)  # for wake-ups only: the tapes are here
        self._leases = Leases(clock, lease_s=lease_s)
        self._bell = Bell()
        self.records = MemoryRecords(clock)
        self.knowledge = MemoryKnowledge(clock)
        self._open: Tapes | None = Tapes(clock, self._tails, self._leases, tapes_max=tapes_max)

    @property
    def _kept(self) -> Tapes:
        if self._open is None:
            raise Unavailable("The store is closed.")
        return self._open

    async def probe(self) -> None:
        _ = self._kept

    async def close(self) -> None:
        """Everything is gone."""
        self._open = None
        self.records.close()
        self.knowledge.close()

    # -- Log -------------------------------------------------------------------------------------------------------

    async def accept(self, turn: NewTurn) -> Accepted:
        check_keys(project=turn.project, conversation=turn.conversation, run=turn.run, key=turn.mark.key)
        check_keys(owner=turn.created.owner)
        bodies_of((turn.created, turn.received))
        kept = self._kept
        before = kept.accepted_before(turn)
        if before is not None:
            return before
        tape = kept.tape_of(turn.project, turn.conversation)
        created = tape is None
        if tape is None and turn.must_exist:
            raise no_conversation(turn.conversation)
        if tape is not None:
            refuse_stranger(turn, tape.info.owner)
            if len(tape.open) > turn.queue_max:
                raise queue_full(len(tape.open) - 1)
        kept.refuse_taken(turn.run)
        blow("accept.before_commit")
        now = self._clock.now()
        if tape is None:
            tape = kept.add_tape(turn.created, at=now)
        fingerprint = turn.received.fingerprint
        users = users_in(turn.received)
        run = kept.add_run(tape, turn.run, users=users, at=now, fingerprint=fingerprint, key=turn.mark.key)
        kept.keep_key(run, fingerprint)
        seq = run.view.first_seq
        kept.write(tape, run, (turn.received,))
        claim = kept.claim(tape, run) if tape.open[0] is run else None
        kept.update(tape, turns=tape.info.turns + 1)
        blow("accept.after_commit")
        return Accepted(tape.info.id, tape.info.tape, turn.run, seq, created, claim)

    async def append(self, claim: Claim, events: Sequence[Event], *, after: int) -> int:
        check_appended(events)
        bodies_of(events)
        kept = self._kept
        tape, run = kept.owned(claim)
        if not events:
            return after
        if after != run.written:
            if tape.stand_behind(after, run, events):
                return run.written
            raise stale_after(claim, after)
        blow("append.before_commit")
        kept.write(tape, run, events)
        blow("append.after_commit")
        return tape.info.head

    async def finish(self, claim: Claim, events: Sequence[Event], *, after: int, weight: int) -> Claim | None:
        check_finished(events)
        bodies_of(events)
        kept = self._kept
        try:
            tape, run = kept.owned(claim)
        except StaleClaim:
            return kept.ended_with(claim, events, after)
        if after != run.written:
            raise stale_after(claim, after)
        blow("finish.before_commit")
        kept.write(tape, run, events)
        kept.end(tape, run, events[-1], weight=weight)
        following = kept.claim(tape, tape.open[0]) if tape.open else None
        blow("finish.after_commit")
        return following

    async def renew(self, claims: Sequence[Claim]) -> frozenset[RunId]:
        kept = self._kept
        lost: set[RunId] = set()
        good: dict[RunId, int] = {}
        for claim in claims:
            try:
                kept.owned(claim)
            except StaleClaim:
                lost.add(claim.run)
            else:
                good[claim.run] = claim.epoch
        self._leases.give(good)
        return frozenset(lost)

    async def release(self, claims: Sequence[Claim]) -> None:
        self._leases.release(claims)
        self._bell.ring()

    async def take_lost(self, *, limit: int) -> Sequence[Claim]:
        kept, live = self._kept, self._leases.live()
        running = (run for run in kept.runs.values() if run.view.status == "running" and run.view.id not in live)
        lost = list(islice(running, max(limit, 0)))
        if not lost:
            return ()
        blow("claim.before_commit")
        claims = [kept.claim(kept.home_of(run), run) for run in lost]
        blow("claim.after_commit")
        return claims

    async def reclaim(self, run: RunId) -> Claim | None:
        check_keys(run=run)
        found = self._kept.runs.get(run)
        if found is None or found.view.status != "running":
            return None
        blow("claim.before_commit")
        claim = self._kept.claim(self._kept.home_of(found), found)
        blow("claim.after_commit")
        return claim

    async def unfinished(self) -> Sequence[RunView]:
        return tuple(run.view for run in self._kept.runs.values() if run.view.status == "running")

    async def end_waiting(self, run: RunId, end: Event) -> bool:
        check_keys(run=run)
        check_finished((end,))
        bodies_of((end,))
        found = self._kept.runs.get(run)
        if found is None or found.view.status != "queued":
            return False
        tape = self._kept.home_of(found)
        self._kept.write(tape, found, (end,))
        self._kept.end(tape, found, end, weight=0)
        return True

    async def ask(self, run: RunId, event: Event) -> int:
        check_keys(run=run)
        check_asked(event)
        bodies_of((event,))
        found = self._kept.runs.get(run)
        if found is None or found.view.status != "running":
            return 0
        blow("ask.before_commit")
        self._kept.ask(self._kept.home_of(found), found, event)
        self._bell.ring()
        blow("ask.after_commit")
        return found.asked

    async def asked(self, claims: Sequence[Claim]) -> Mapping[RunId, int]:
        runs = self._kept.runs
        found = ((claim, runs.get(claim.run)) for claim in claims)
        return {
            claim.run: run.asked
            for claim, run in found
            if run is not None and run.view.status == "running" and run.asked > claim.seq
        }

    async def note(self, project: ProjectId, conversation: ConversationId, events: Sequence[Event]) -> int:
        check_keys(project=project, conversation=conversation)
        check_noted(events)
        bodies_of(events)
        tape = self._kept.tape_of(project, conversation)
        if tape is None:
            raise no_conversation(conversation)
        blow("note.before_commit")
        self._kept.write(tape, None, events)
        blow("note.after_commit")
        return tape.info.head

    async def bell(self) -> None:
        await self._bell.rung()

    async def prune(self, *, ended_before: float, limit: int) -> int:
        return self._kept.prune(ended_before=ended_before, limit=limit)

    async def read(self, tape: Tape, *, after: int, limit: int = 1000) -> Sequence[Entry]:
        found = self._kept.tapes.get(tape)
        if found is None:
            return ()
        first = found.index(after)
        return tuple(found.entries[first : first + max(limit, 0)])

    async def grown(self, tape: Tape, *, after: int) -> None:
        async def head() -> int | None:
            found = self._kept.tapes.get(tape)
            return None if found is None else found.info.head

        await self._tails.grown(tape, after=after, look=head)

    async def read_run(self, run: RunView | Claim) -> Sequence[Entry]:
        found = self._kept.runs.get(run.run if isinstance(run, Claim) else run.id)
        return () if found is None else tuple(self._kept.home_of(found).of(found))

    async def history(self, tape: Tape, *, before: int, chars_max: int) -> Sequence[Entry]:
        found = self._kept.tapes.get(tape)
        return () if found is None else found.history(before, history_chars(chars_max))

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

    async def browse(
        self,
        project: ProjectId,
        *,
        owner: str | None,
        origins: Collection[str],
        archived: Archived,
        limit: int,
        offset: int,
        shared: bool = False,
    ) -> ConversationShelf:
        check_keys(project=project, owner=owner or "")
        check_all(origins=origins)
        found = self._kept.shelf(project, owner, origins, archived, shared=shared)
        first = max(offset, 0)
        return ConversationShelf(tuple(found[first : first + max(limit, 0)]), len(found))

    async def count(self, project: ProjectId) -> int:
        check_keys(project=project)
        return sum(tape.project == project for tape in self._kept.tapes.values())

    async def turns_since(self, project: ProjectId, *, at: float) -> int:
        check_keys(project=project)
        return self._kept.turns_since(project, at)

    async def live_of(self, project: ProjectId, owner: str) -> Sequence[ConversationInfo]:
        check_keys(project=project, owner=owner)
        return tuple(info for info in self._kept.live(project) if owner in ("", info.owner))

    async def delete(self, project: ProjectId, conversation: ConversationId) -> Sequence[RunId] | None:
        check_keys(project=project, conversation=conversation)
        tape = self._kept.tape_of(project, conversation)
        if tape is None:
            return None
        self._kept.drop(tape)
        return [run.view.id for run in tape.open]

    async def put_messages(
        self, created: ConversationCreated, imported: MessagesImported, *, at: float, updated_at: float, run: RunId
    ) -> ConversationInfo:
        check_keys(project=created.project, conversation=created.conversation, run=run, owner=created.owner)
        bodies_of((created, imported))
        if self._kept.tape_of(created.project, created.conversation) is not None:
            raise conversation_taken(created.conversation)
        self._kept.refuse_taken(run)
        return self._kept.put_messages(created, imported, at=at, updated_at=updated_at, run=run)

    async def replace_messages(
        self, project: ProjectId, conversation: ConversationId, imported: MessagesImported, *, run: RunId
    ) -> ConversationInfo:
        check_keys(project=project, conversation=conversation, run=run)
        check_replacing(imported)
        bodies_of((imported,))
        tape = self._kept.tape_of(project, conversation)
        if tape is None:
            raise no_conversation(conversation)
        if tape.open:
            raise conversation_at_work(conversation)
        self._kept.refuse_taken(run)
        return self._kept.add_messages(tape, imported, run)

    async def run(self, project: ProjectId | None, run: RunId) -> RunView | None:
        check_keys(project=project or "", run=run)
        found = self._kept.runs.get(run)
        return None if found is None or project not in (None, found.project) else found.view

    async def runs(self, project: ProjectId, *, limit: int) -> Sequence[RunView]:
        check_keys(project=project)
        newest = (run.view for run in reversed(self._kept.runs.values()) if run.project == project)
        return tuple(islice(newest, max(limit, 0)))

    async def keep_answer(self, project: ProjectId, key: str, answer: bytes) -> None:
        check_keys(project=project, key=key)
        found = self._kept.key(project, key)
        if found is not None and found.answer is None:
            found.answer = answer

    async def answer_kept(self, project: ProjectId, key: str) -> bytes | None:
        check_keys(project=project, key=key)
        found = self._kept.key(project, key)
        return None if found is None else found.answer

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
        kept.credentials = {name: one for name, one in kept.credentials.items() if one.project != project}
        self.records.drop_project(project)
        self.knowledge.drop_project(project)
        return kept.projects.pop(project, None) is not None

    async def credential(self, credential_id: str) -> Credential | None:
        check_keys(credential=credential_id)
        return self._kept.credentials.get(credential_id)

    async def credentials(self, project: ProjectId | None) -> Sequence[Credential]:
        check_keys(project=project or "")
        found = (one for one in self._kept.credentials.values() if project in (None, one.project))
        return tuple(sorted(found, key=lambda credential: (credential.created_at, credential.id)))

    async def put_credential(self, credential: Credential) -> None:
        check_keys(id=credential.id, project=credential.project, name=credential.name, subject=credential.subject)
        if credential.project not in self._kept.projects:
            raise no_project(credential.project)
        self._kept.credentials[credential.id] = credential

    async def touch_credential(self, credential_id: str, *, at: float) -> None:
        check_keys(credential=credential_id)
        found = self._kept.credentials.get(credential_id)
        if found is not None and at > (found.last_used_at or 0.0):
            self._kept.credentials[credential_id] = replace(found, last_used_at=at)
