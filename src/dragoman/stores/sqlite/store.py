"""The whole engine as one object: `runtime.ports.Store` and `access.ports.AccessStore` over one file."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from dragoman.access.ports import Credential, Project
from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.events import ConversationCreated, Entry, Event, MessagesImported
from dragoman.core.names import Clock, ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import Archived, ConversationInfo, ConversationPage, ConversationShelf, RunView
from dragoman.runtime.keeping import (
    bodies_of,
    check_all,
    check_appended,
    check_asked,
    check_finished,
    check_keys,
    check_noted,
    check_replacing,
    history_chars,
)
from dragoman.runtime.ports import KEY_KEPT_S, LEASE_S, Accepted, Claim, NewTurn
from dragoman.runtime.tail import Tails
from dragoman.stores.sqlite import access, reading, tapes
from dragoman.stores.sqlite.connection import FAILED, connect, storage_error
from dragoman.stores.sqlite.knowledge import SqliteKnowledge
from dragoman.stores.sqlite.lock import TapeLock
from dragoman.stores.sqlite.migrations import migrate, steps
from dragoman.stores.sqlite.open_tapes import SEQ_MASK, microseconds, place
from dragoman.stores.sqlite.reading import Readers
from dragoman.stores.sqlite.records import SqliteRecords
from dragoman.stores.sqlite.statements import Statements, in_own_transaction
from dragoman.stores.sqlite.writer import Plan, Writer

R = TypeVar("R")

_ACCEPT = Plan(
    tapes.accept,
    fuses=("accept.before_commit", "accept.after_commit"),
    key=lambda turn, bodies: (turn.project, turn.conversation),
)
_APPEND = Plan(tapes.append, fuses=("append.before_commit", "append.after_commit"))
_FINISH = Plan(tapes.finish, fuses=("finish.before_commit", "finish.after_commit"))
_CLAIM_FUSES = ("claim.before_commit", "claim.after_commit")
_TAKE_LOST = Plan(tapes.take_lost, fuses=_CLAIM_FUSES, may_idle=True)
_RECLAIM = Plan(tapes.reclaim, fuses=_CLAIM_FUSES, may_idle=True)
_RENEW = Plan(tapes.renew)
_ASK = Plan(tapes.ask, fuses=("ask.before_commit", "ask.after_commit"), may_idle=True)
_ASKED = Plan(tapes.asked)
_NOTE = Plan(tapes.note, fuses=("note.before_commit", "note.after_commit"))
_PRUNE = Plan(tapes.prune)
_KEEP_ANSWER = Plan(tapes.keep_answer)
_PROBE = Plan(tapes.probe)
_END_WAITING = Plan(tapes.end_waiting)
_DELETE = Plan(tapes.delete)
_PUT_MESSAGES = Plan(tapes.put_messages)
_REPLACE_MESSAGES = Plan(tapes.replace_messages)


async def open_store(path: Path, clock: Clock, *, writer: bool, lease_s: float = LEASE_S) -> "SqliteStore":
    """The store in the file at `path`, which is made if it does not exist.

    `writer`: this process writes the tapes, and is the only one; Conflict, naming the other, if one does already.
    Without it conversations can be read and access written, beside a process that writes. Raises Unavailable.
    """
    return await asyncio.to_thread(_open, path, clock, writer=writer, lease_s=lease_s)


def _open(path: Path, clock: Clock, *, writer: bool, lease_s: float) -> "SqliteStore":
    lock = TapeLock.take(path) if writer else None
    try:
        connection = connect(path, create=True)
        try:
            migrate(connection, path, steps(), holds_lock=writer)
            tails = Tails()
            writing = Writer(path, clock, tails, lease_s=lease_s) if writer else None
            return SqliteStore(path, tails, lock, writing, clock)
        finally:
            connection.close()
    except BaseException as error:
        if lock is not None:
            lock.release()
        if isinstance(error, Unavailable) and error.code == FAILED:
            raise _unusable(error) from error
        raise


def _unusable(error: Unavailable) -> Unavailable:
    """The same for whoever opens the store, who owns the machine and looks at no log yet."""
    return Unavailable(
        f"The store cannot be used: {error.internal}. Check owner and mode of that file and its folder, and the disk.",
        code=FAILED,
        internal=error.internal,
    )


class SqliteStore:
    """See the ports for what each method promises. Made by `open_store`; safe to use from one event loop."""

    def __init__(self, path: Path, tails: Tails, lock: TapeLock | None, writer: Writer | None, clock: Clock) -> None:
        self.path = path
        self._tails = tails
        self._lock = lock
        self._writer = writer
        self._readers = Readers(path)
        self.records = SqliteRecords(self._readers, self._change_access, clock)
        self.knowledge = SqliteKnowledge(self._readers, self._change_access, clock)

    def announce(self, url: str) -> None:
        """Write into the lock file where this process listens. Nothing without the lock."""
        if self._lock is not None:
            self._lock.announce(url)

    async def probe(self) -> None:
        await self._tape_writer.submit(_PROBE)

    async def close(self) -> None:
        """Commit what was asked for, then let go of file and lock. Whatever is asked later raises Unavailable."""
        await self._readers.close()
        if self._writer is not None:
            await self._writer.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    # -- Log -------------------------------------------------------------------------------------------------------

    async def accept(self, turn: NewTurn) -> Accepted:
        check_keys(project=turn.project, conversation=turn.conversation, run=turn.run, key=turn.mark.key)
        check_keys(owner=turn.created.owner)
        bodies = bodies_of((turn.created, turn.received))
        return await self._tape_writer.submit(_ACCEPT, turn, bodies)

    async def append(self, claim: Claim, events: Sequence[Event], *, after: int) -> int:
        check_appended(events)
        return await self._tape_writer.submit(_APPEND, claim, events, bodies_of(events), after)

    async def finish(self, claim: Claim, events: Sequence[Event], *, after: int, weight: int) -> Claim | None:
        check_keys(run=claim.run)
        check_finished(events)
        return await self._tape_writer.submit(_FINISH, claim, events, bodies_of(events), after, weight)

    async def renew(self, claims: Sequence[Claim]) -> frozenset[RunId]:
        writer = self._tape_writer
        writer.leases.extend(claims)  # also when the writer cannot look: our own runs are not to be lost by that
        return await writer.submit(_RENEW, claims)

    async def release(self, claims: Sequence[Claim]) -> None:
        writer = self._tape_writer
        writer.leases.release(claims)
        writer.bell.ring()

    async def take_lost(self, *, limit: int) -> Sequence[Claim]:
        return await self._tape_writer.submit(_TAKE_LOST, limit)

    async def reclaim(self, run: RunId) -> Claim | None:
        check_keys(run=run)
        return await self._tape_writer.submit(_RECLAIM, run)

    async def unfinished(self) -> Sequence[RunView]:
        return await self._readers.do(partial(reading.runs, name="runs_unfinished"))

    async def end_waiting(self, run: RunId, end: Event) -> bool:
        check_keys(run=run)
        check_finished((end,))
        return await self._tape_writer.submit(_END_WAITING, run, end, bodies_of((end,))[0])

    async def ask(self, run: RunId, event: Event) -> int:
        check_keys(run=run)
        check_asked(event)
        return await self._tape_writer.submit(_ASK, run, event, bodies_of((event,))[0])

    async def asked(self, claims: Sequence[Claim]) -> Mapping[RunId, int]:
        return await self._tape_writer.submit(_ASKED, claims)

    async def note(self, project: ProjectId, conversation: ConversationId, events: Sequence[Event]) -> int:
        check_keys(project=project, conversation=conversation)
        check_noted(events)
        return await self._tape_writer.submit(_NOTE, project, conversation, events, bodies_of(events))

    async def bell(self) -> None:
        await self._tape_writer.bell.rung()

    async def prune(self, *, ended_before: float, limit: int) -> int:
        return await self._tape_writer.submit(_PRUNE, ended_before, limit)

    async def read(self, tape: Tape, *, after: int, limit: int = 1000) -> Sequence[Entry]:
        after = min(max(after, 0), SEQ_MASK)  # a reader's own cursor: it may name any number, but no other tape
        limit = max(limit, 0)
        found = self._tails.read(tape, after=after, limit=limit)
        if found is not None:
            return found
        return await self._readers.do(
            lambda connection: reading.entries(
                connection, "entries_after", place(tape, after), place(tape, SEQ_MASK), limit
            )
        )

    async def grown(self, tape: Tape, *, after: int) -> None:
        await self._tails.grown(tape, after=after, look=lambda: self._head(tape))

    async def read_run(self, run: RunView | Claim) -> Sequence[Entry]:
        name = run.run if isinstance(run, Claim) else run.id
        return await self._readers.do(lambda connection: reading.entries(connection, "entries_of_run", name))

    async def history(self, tape: Tape, *, before: int, chars_max: int) -> Sequence[Entry]:
        first, last = place(tape, 0), place(tape, SEQ_MASK)
        until = min(max(first + before, first), last)
        return await self._readers.do(
            lambda connection: reading.entries(connection, "history", first, last, until, history_chars(chars_max))
        )

    async def _head(self, tape: Tape) -> int | None:
        return await self._readers.do(lambda connection: reading.number(connection, "head", tape))

    # -- Conversations and Runs ------------------------------------------------------------------------------------

    async def get(self, project: ProjectId, conversation: ConversationId) -> ConversationInfo | None:
        check_keys(project=project, conversation=conversation)
        found = await self._readers.do(
            lambda connection: reading.conversations(connection, "conversation", project, conversation)
        )
        return found[0] if found else None

    async def page(self, project: ProjectId, *, after: str, limit: int) -> ConversationPage:
        check_keys(project=project, after=after)
        one_more = limit + 1 if limit else -1
        found = await self._readers.do(
            lambda connection: reading.conversations(connection, "conversations_page", project, after, one_more)
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
        wanted = None if archived is Archived.WITH else archived is Archived.ONLY
        first, count = (min(max(number, 0), SEQ_MASK) for number in (offset, limit))
        args = (project, owner, msgspec.json.encode(list(origins)).decode(), wanted, count, first, shared)
        return await self._readers.do(lambda connection: reading.shelf(connection, "conversations_shelf", *args))

    async def count(self, project: ProjectId) -> int:
        check_keys(project=project)
        found = await self._readers.do(lambda connection: reading.number(connection, "conversations_count", project))
        return found or 0

    async def turns_since(self, project: ProjectId, *, at: float) -> int:
        check_keys(project=project)
        since = microseconds(at)
        found = await self._readers.do(lambda connection: reading.number(connection, "turns_since", project, since))
        return found or 0

    async def live_of(self, project: ProjectId, owner: str) -> Sequence[ConversationInfo]:
        check_keys(project=project, owner=owner)
        return await self._readers.do(
            lambda connection: reading.conversations(connection, "conversations_live", project, owner)
        )

    async def delete(self, project: ProjectId, conversation: ConversationId) -> Sequence[RunId] | None:
        check_keys(project=project, conversation=conversation)
        return await self._tape_writer.submit(_DELETE, project, conversation)

    async def put_messages(
        self, created: ConversationCreated, imported: MessagesImported, *, at: float, updated_at: float, run: RunId
    ) -> ConversationInfo:
        check_keys(project=created.project, conversation=created.conversation, run=run, owner=created.owner)
        bodies = bodies_of((created, imported))
        return await self._tape_writer.submit(_PUT_MESSAGES, created, imported, bodies, at, updated_at, run)

    async def replace_messages(
        self, project: ProjectId, conversation: ConversationId, imported: MessagesImported, *, run: RunId
    ) -> ConversationInfo:
        check_keys(project=project, conversation=conversation, run=run)
        check_replacing(imported)
        body = bodies_of((imported,))[0]
        return await self._tape_writer.submit(_REPLACE_MESSAGES, project, conversation, imported, body, run)

    async def run(self, project: ProjectId | None, run: RunId) -> RunView | None:
        check_keys(project=project or "", run=run)
        found = await self._readers.do(lambda connection: reading.runs(connection, "run", project, run))
        return found[0] if found else None

    async def runs(self, project: ProjectId, *, limit: int) -> Sequence[RunView]:
        check_keys(project=project)
        return await self._readers.do(lambda connection: reading.runs(connection, "runs_newest", project, limit))

    async def keep_answer(self, project: ProjectId, key: str, answer: bytes) -> None:
        check_keys(project=project, key=key)
        await self._tape_writer.submit(_KEEP_ANSWER, project, key, answer)

    async def answer_kept(self, project: ProjectId, key: str) -> bytes | None:
        check_keys(project=project, key=key)
        since = microseconds(self._tape_writer.now() - KEY_KEPT_S)
        return await self._readers.do(lambda connection: reading.blob(connection, "answer_kept", project, key, since))

    # -- AccessStore -----------------------------------------------------------------------------------------------

    async def project(self, project: ProjectId) -> Project | None:
        check_keys(project=project)
        found = await self._readers.do(lambda connection: access.read_projects(connection, project))
        return found[0] if found else None

    async def projects(self) -> Sequence[Project]:
        return await self._readers.do(lambda connection: access.read_projects(connection, None))

    async def put_project(self, project: Project) -> None:
        check_keys(project=project.id, name=project.name)
        await self._change_access(partial(access.put_project, project=project))

    async def delete_project(self, project: ProjectId) -> bool:
        check_keys(project=project)
        return await self._change_access(partial(access.delete_project, project=project))

    async def credential(self, credential_id: str) -> Credential | None:
        check_keys(credential=credential_id)
        return await self._readers.do(lambda connection: access.read_credential(connection, credential_id))

    async def credentials(self, project: ProjectId | None) -> Sequence[Credential]:
        check_keys(project=project or "")
        return await self._readers.do(lambda connection: access.read_credentials(connection, project))

    async def put_credential(self, credential: Credential) -> None:
        check_keys(id=credential.id, project=credential.project, name=credential.name, subject=credential.subject)
        await self._change_access(partial(access.put_credential, credential=credential))

    async def touch_credential(self, credential_id: str, *, at: float) -> None:
        check_keys(credential=credential_id)
        await self._change_access(partial(access.touch_credential, credential_id=credential_id, at=at))

    async def _change_access(self, work: Callable[[Statements], R]) -> R:
        if self._writer is not None:
            return await self._writer.submit(Plan(work))
        return await self._readers.do(lambda _reader: self._change_beside(work))

    def _change_beside(self, work: Callable[[Statements], R]) -> R:
        connection = connect(self.path)
        try:
            return in_own_transaction(connection, work)
        except sqlite3.Error as error:
            raise storage_error(error, self.path) from error
        finally:
            connection.close()

    @property
    def _tape_writer(self) -> Writer:
        if self._writer is None:
            raise Conflict(
                "This process only reads the store; turns are taken by the one that writes it.",
                internal=f"{self.path} was opened with writer=False",
            )
        return self._writer
