"""The whole engine as one object: `runtime.ports.Store` and `access.ports.AccessStore` over one database."""

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial

from dragoman.access.ports import Credential, Project
from dragoman.core.errors import DragomanError
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
    no_conversation,
)
from dragoman.runtime.leases import Bell
from dragoman.runtime.ports import LEASE_S, Accepted, Claim, NewTurn
from dragoman.runtime.tail import Tails
from dragoman.stores.postgres import access, reading, tapes, upkeep
from dragoman.stores.postgres.books import SEQ_MASK, microseconds, place
from dragoman.stores.postgres.carriers import Notifying, over_redis
from dragoman.stores.postgres.claims import Claims
from dragoman.stores.postgres.connection import Connection, Pool, Server, connect, storage_error
from dragoman.stores.postgres.knowledge import PostgresKnowledge
from dragoman.stores.postgres.lookups import KEY_KEPT_US, About, home_of
from dragoman.stores.postgres.migrations import migrate, schema_number, settle_schema, steps
from dragoman.stores.postgres.queries import QUERIES
from dragoman.stores.postgres.reading import SharedReads, first_of, last_of, told, told_runs
from dragoman.stores.postgres.records import PostgresRecords
from dragoman.stores.postgres.requests import Plan
from dragoman.stores.postgres.tasks import Tasks
from dragoman.stores.postgres.wakeups import LOOK_EVERY_S, SURE_S, Carrier, Wakeups
from dragoman.stores.postgres.writer import Shared, Writers

POOL_MAX = 10
"""Connections that read; writing and wake-ups take five more."""
DELETED_AT_ONCE = 50
"""Conversations of a project that are deleted side by side."""

_ACCEPT = Plan(tapes.accept, fuses=("accept.before_commit", "accept.after_commit"))
_APPEND = Plan(tapes.append, fuses=("append.before_commit", "append.after_commit"))
_FINISH = Plan(tapes.finish, fuses=("finish.before_commit", "finish.after_commit"))
_ASK = Plan(tapes.ask, fuses=("ask.before_commit", "ask.after_commit"), locked=True)
_NOTE = Plan(tapes.note, fuses=("note.before_commit", "note.after_commit"), locked=True)
_END_WAITING = Plan(tapes.end_waiting, locked=True)
_PUT_MESSAGES = Plan(tapes.put_messages, locked=True)
_REPLACE_MESSAGES = Plan(tapes.replace_messages, locked=True)


async def open_store(
    url: str,
    *,
    clock: Clock | None = None,
    lease_s: float = LEASE_S,
    wakeups: str = "",
    pool_max: int = POOL_MAX,
    password: str = "",
) -> "PostgresStore":
    """The store in the database at `url`, in the first schema of its search path, which is set up if it is empty.

    `clock`: None = the database's, which all servers share; any other is for tests. `wakeups`: a redis:// URL whose
    server carries the wake-ups; "" = the database does. `password`: "" = the URL's, PGPASSWORD or ~/.pgpass. Raises
    Unavailable, which says what to do.
    """
    server = Server(url, password)
    connection = await connect(server)
    try:
        await settle_schema(connection, server)
        await migrate(connection, server, steps())
        installation = await connection.fetchval("select id from installation")
        number = await schema_number(connection)
        carrier = over_redis(wakeups, installation) if wakeups else Notifying(server, f"dragoman_{number}")
    except BaseException as error:
        connection.terminate()
        if isinstance(error, DragomanError) or not isinstance(error, Exception):
            raise
        raise storage_error(error, server) from error
    store = PostgresStore(server, clock, carrier, connection, lease_s=lease_s, pool_max=pool_max)
    store.start()
    return store


class PostgresStore:
    """See the ports for what each method promises. Made by `open_store`; safe to use from one event loop.

    What `read` and `grown` say of a tape that another process writes may be up to a second old, but is never older than
    anything else this store has said.
    """

    def __init__(
        self,
        server: Server,
        clock: Clock | None,
        carrier: Carrier,
        connection: Connection,
        *,
        lease_s: float,
        pool_max: int,
    ) -> None:
        """`connection`: one that is open already."""
        self.owner = secrets.token_hex(8)
        """Names this object wherever the database says who holds what."""
        self._tasks = Tasks()
        self._tails = Tails(sure_s=SURE_S)
        self._bell = Bell()
        self._reads = SharedReads(self._tasks)
        self._pool = Pool(server, pool_max, self._tasks, connection)
        heads = partial(reading.heads, self._pool)
        self.wakeups = Wakeups(carrier, self._tails, self._bell, self._tasks, heads, sender=self.owner)
        self._shared = Shared(server, clock, self._tails, self.wakeups, owner=self.owner, lease_s=lease_s)
        self._writers = Writers(self._shared, self._tasks)
        self._claims = Claims(self._shared, self._pool)
        self.records = PostgresRecords(self._pool, clock)
        self.knowledge = PostgresKnowledge(self._pool, clock)

    def start(self) -> None:
        """Begin to hear of other processes."""
        self.wakeups.start()

    async def close(self) -> None:
        """Commit what was asked for, then let go of all connections. Whatever is asked later raises Unavailable."""
        await self._writers.close()
        await self.wakeups.close()
        await self._tasks.close()
        await self._pool.close()

    @property
    def listening(self) -> bool:
        """Whether wake-ups of other processes reach us; if not, their news is found within a second."""
        return self.wakeups.listening

    @property
    def wakeups_lost(self) -> int:
        """News of other processes that was found by looking for it before anybody had told."""
        return self.wakeups.wakeups_lost

    async def probe(self) -> None:
        now_us = self._shared.now_us
        await self._pool.do(lambda connection: connection.execute(QUERIES["probe"], self.owner, now_us))

    # -- Log: writing ----------------------------------------------------------------------------------------------

    async def accept(self, turn: NewTurn) -> Accepted:
        check_keys(project=turn.project, conversation=turn.conversation, run=turn.run, key=turn.mark.key)
        check_keys(fingerprint=turn.received.fingerprint, owner=turn.created.owner)
        bodies = bodies_of((turn.created, turn.received))
        return await self._writers.submit(_ACCEPT, About(turn.project, turn.conversation, turn=turn), turn, bodies)

    async def append(self, claim: Claim, events: Sequence[Event], *, after: int) -> int:
        check_appended(events)
        bodies = bodies_of(events)
        submit = self._writers.submit if events else self._writers.confirm
        return await submit(_APPEND, _about(claim), claim, events, bodies, after)

    async def finish(self, claim: Claim, events: Sequence[Event], *, after: int, weight: int) -> Claim | None:
        check_finished(events)
        bodies = bodies_of(events)
        return await self._writers.submit(_FINISH, _about(claim), claim, events, bodies, after, weight)

    async def end_waiting(self, run: RunId, end: Event) -> bool:
        check_keys(run=run)
        check_finished((end,))
        body = bodies_of((end,))[0]
        about = await home_of(self._pool, run)
        return about is not None and await self._writers.submit(_END_WAITING, about, about.tape, run, end, body)

    async def ask(self, run: RunId, event: Event) -> int:
        check_keys(run=run)
        check_asked(event)
        body = bodies_of((event,))[0]
        about = await home_of(self._pool, run)
        seq = 0 if about is None else await self._writers.submit(_ASK, about, about.tape, run, event, body)
        if seq:
            self.wakeups.ring()
        return seq

    async def note(self, project: ProjectId, conversation: ConversationId, events: Sequence[Event]) -> int:
        check_keys(project=project, conversation=conversation)
        check_noted(events)
        about = About(project, conversation)
        return await self._writers.submit(_NOTE, about, project, conversation, events, bodies_of(events))

    async def delete(self, project: ProjectId, conversation: ConversationId) -> Sequence[RunId] | None:
        check_keys(project=project, conversation=conversation)
        about, shared = About(project, conversation), self._shared
        return await self._writers.run(
            about, lambda connection: upkeep.delete(connection, shared, project, conversation)
        )

    async def put_messages(
        self, created: ConversationCreated, imported: MessagesImported, *, at: float, updated_at: float, run: RunId
    ) -> ConversationInfo:
        check_keys(project=created.project, conversation=created.conversation, run=run, owner=created.owner)
        bodies = bodies_of((created, imported))
        about = About(created.project, created.conversation)
        return await self._writers.submit(_PUT_MESSAGES, about, created, imported, bodies, at, updated_at, run)

    async def replace_messages(
        self, project: ProjectId, conversation: ConversationId, imported: MessagesImported, *, run: RunId
    ) -> ConversationInfo:
        check_keys(project=project, conversation=conversation, run=run)
        check_replacing(imported)
        about, body = About(project, conversation), bodies_of((imported,))[0]
        await self._writers.submit(_REPLACE_MESSAGES, about, project, conversation, imported, body, run)
        found = await self.get(project, conversation)  # it bears the time of the commit
        if found is None:
            raise no_conversation(conversation)
        return found

    async def prune(self, *, ended_before: float, limit: int) -> int:
        return await upkeep.prune(self._pool, self._shared, ended_before=ended_before, limit=limit)

    # -- Log: claims -----------------------------------------------------------------------------------------------

    async def renew(self, claims: Sequence[Claim]) -> frozenset[RunId]:
        return await self._claims.renew(claims)

    async def release(self, claims: Sequence[Claim]) -> None:
        await self._claims.release(claims)

    async def take_lost(self, *, limit: int) -> Sequence[Claim]:
        return await self._claims.take_lost(limit=limit)

    async def reclaim(self, run: RunId) -> Claim | None:
        check_keys(run=run)
        return await self._claims.reclaim(run)

    async def asked(self, claims: Sequence[Claim]) -> Mapping[RunId, int]:
        return await self._claims.asked(claims)

    async def bell(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._bell.rung()

    # -- Log: reading ----------------------------------------------------------------------------------------------

    async def read(self, tape: Tape, *, after: int, limit: int = 1000) -> Sequence[Entry]:
        after = min(max(after, 0), SEQ_MASK)  # a reader's own cursor: it may name any number, but no other tape
        limit = min(max(limit, 0), SEQ_MASK)
        held = self._tails.read(tape, after=after, limit=limit)
        if held is not None:
            return held
        head = self._tails.head(tape)

        async def ask() -> Sequence[Entry]:
            return await reading.entries(self._pool, "entries_after", place(tape, after), last_of(tape), limit)

        # Answers are shared as long as nothing new was heard; of a tape we do not watch we would not hear.
        found = await (ask() if head is None else self._reads.get((tape, after, limit, head), ask))
        if found:
            # As many as asked for: there may be more, of which we have not heard.
            self._tails.heard(tape, found[-1].seq + (len(found) == limit))
        elif limit and (self._tails.head(tape) or 0) > after:
            self._tails.forget(tape)  # what was heard was wrong, or the tape is gone
        return found

    async def grown(self, tape: Tape, *, after: int) -> None:
        await self._tails.grown(tape, after=after, look=lambda: reading.number(self._pool, "head", tape))

    async def read_run(self, run: RunView | Claim) -> Sequence[Entry]:
        name = run.run if isinstance(run, Claim) else run.id
        return await reading.entries(self._pool, "entries_of_run", name)

    async def history(self, tape: Tape, *, before: int, chars_max: int) -> Sequence[Entry]:
        until = place(tape, min(max(before, 0), SEQ_MASK))
        args = (first_of(tape), last_of(tape), until, history_chars(chars_max))
        return await reading.entries(self._pool, "history", *args)

    async def unfinished(self) -> Sequence[RunView]:
        return told_runs(self._tails, await reading.runs(self._pool, "runs_unfinished"))

    # -- Conversations and Runs ------------------------------------------------------------------------------------

    async def get(self, project: ProjectId, conversation: ConversationId) -> ConversationInfo | None:
        check_keys(project=project, conversation=conversation)
        found = told(self._tails, await reading.conversations(self._pool, "conversation", project, conversation))
        return found[0] if found else None

    async def page(self, project: ProjectId, *, after: str, limit: int) -> ConversationPage:
        check_keys(project=project, after=after)
        one_more = limit + 1 if limit else None
        found = told(
            self._tails, await reading.conversations(self._pool, "conversations_page", project, after, one_more)
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
        found, total = await reading.shelf(self._pool, project, owner, list(origins), wanted, count, first, shared)
        return ConversationShelf(tuple(told(self._tails, found)), total)

    async def count(self, project: ProjectId) -> int:
        check_keys(project=project)
        return await reading.number(self._pool, "conversations_count", project) or 0

    async def turns_since(self, project: ProjectId, *, at: float) -> int:
        check_keys(project=project)
        return await reading.number(self._pool, "turns_since", project, microseconds(at)) or 0

    async def live_of(self, project: ProjectId, owner: str) -> Sequence[ConversationInfo]:
        check_keys(project=project, owner=owner)
        return told(self._tails, await reading.conversations(self._pool, "conversations_live", project, owner))

    async def run(self, project: ProjectId | None, run: RunId) -> RunView | None:
        check_keys(project=project or "", run=run)
        found = told_runs(self._tails, await reading.runs(self._pool, "run", project, run))
        return found[0] if found else None

    async def runs(self, project: ProjectId, *, limit: int) -> Sequence[RunView]:
        check_keys(project=project)
        return told_runs(self._tails, await reading.runs(self._pool, "runs_newest", project, max(limit, 0)))

    async def keep_answer(self, project: ProjectId, key: str, answer: bytes) -> None:
        check_keys(project=project, key=key)
        args = (self._shared.now_us, KEY_KEPT_US, project, key, answer)
        await self._pool.do(lambda connection: connection.execute(QUERIES["keep_answer"], *args))

    async def answer_kept(self, project: ProjectId, key: str) -> bytes | None:
        check_keys(project=project, key=key)
        args = (self._shared.now_us, KEY_KEPT_US, project, key)
        return await self._pool.do(lambda connection: connection.fetchval(QUERIES["answer_kept"], *args))

    # -- AccessStore -----------------------------------------------------------------------------------------------

    async def project(self, project: ProjectId) -> Project | None:
        check_keys(project=project)
        found = await access.read_projects(self._pool, project)
        return found[0] if found else None

    async def projects(self) -> Sequence[Project]:
        return await access.read_projects(self._pool, None)

    async def put_project(self, project: Project) -> None:
        check_keys(project=project.id, name=project.name)
        await access.put_project(self._pool, project)

    async def delete_project(self, project: ProjectId) -> bool:
        """Not at once: its credentials, then conversation after conversation, then the project. May be repeated."""
        check_keys(project=project)
        await access.delete_credentials(self._pool, project)
        await self.records.delete_all(project)
        await self.knowledge.delete_all(project)
        while found := await access.conversations_of(self._pool, project, DELETED_AT_ONCE):
            await asyncio.gather(*(self.delete(project, conversation) for conversation in found))
        return await access.delete_project(self._pool, project)

    async def credential(self, credential_id: str) -> Credential | None:
        check_keys(credential=credential_id)
        found = await access.read_credentials(self._pool, "credential", credential_id)
        return found[0] if found else None

    async def credentials(self, project: ProjectId | None) -> Sequence[Credential]:
        check_keys(project=project or "")
        return await access.read_credentials(self._pool, "credentials", project)

    async def put_credential(self, credential: Credential) -> None:
        check_keys(id=credential.id, project=credential.project, name=credential.name, subject=credential.subject)
        await access.put_credential(self._pool, credential)

    async def touch_credential(self, credential_id: str, *, at: float) -> None:
        check_keys(credential=credential_id)
        await access.touch_credential(self._pool, credential_id, at)


def _about(claim: Claim) -> About:
    return About(claim.project, claim.conversation, claim.tape)
