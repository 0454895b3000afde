"""Conversations: read, follow, list, change, delete, take in from elsewhere. Everything inside one project."""

from collections.abc import Callable

from dragoman.core.errors import BadRequest
from dragoman.core.events import (
    ArchivingChanged,
    ConversationCreated,
    MessagesImported,
    Note,
    SharingChanged,
    TitleGiven,
)
from dragoman.core.names import ConversationId, Principal, ProjectId, RunId
from dragoman.core.operations import (
    BrowseConversations,
    ConversationInfo,
    ConversationPage,
    ConversationShelf,
    ConversationView,
    DeleteConversation,
    Deleted,
    FollowConversation,
    ListConversations,
    Listening,
    ReadConversation,
    TurnView,
    UpdateConversation,
)
from dragoman.core.transcript import Transcript
from dragoman.runtime.keeping import no_conversation
from dragoman.runtime.ports import Store
from dragoman.runtime.readers import TapeReader, resume_tape
from dragoman.runtime.runs import Changed, Runs
from dragoman.runtime.visibility import only_owner, readable, writable
from dragoman.runtime.whole import completed_turns

READ_ENTRIES = 1000
"""Entries fetched at once while a whole conversation is read."""
TITLE_CHARS_MAX = 200
CHARS_OF_ALL = 2**31 - 1
"""No conversation is longer: a measure for `Log.history` that leaves nothing out."""


class Conversations:
    def __init__(
        self, store: Store, runs: Runs, *, new_id: Callable[[], RunId], changed: Changed | None = None
    ) -> None:
        self._changed = changed
        self._store = store
        self._runs = runs
        self._new_id = new_id

    async def read(self, principal: Principal, operation: ReadConversation) -> ConversationView:
        """Raises NotFound."""
        info = await self._store.get(principal.project, operation.conversation)
        info = readable(info, operation.conversation, principal, private=operation.private)
        if operation.shared_only and not info.shared:
            raise no_conversation(operation.conversation)
        return await self._view(info) if operation.turns else ConversationView(info, ())

    async def whole(self, project: ProjectId, conversation: ConversationId) -> ConversationView:
        """As it stands, whoever owns it: for what the server itself keeps beside the tape. Raises NotFound."""
        info = await self._store.get(project, conversation)
        if info is None:
            raise no_conversation(conversation)
        return await self._view(info)

    async def _view(self, info: ConversationInfo) -> ConversationView:
        transcript = Transcript()
        after = 0
        while entries := await self._store.read(info.tape, after=after, limit=READ_ENTRIES):
            for entry in entries:
                transcript.add(entry)
            after = entries[-1].seq
        return ConversationView(info, transcript.turns())

    async def find(self, project: ProjectId, conversation: ConversationId) -> ConversationInfo | None:
        """Whoever owns it; None if there is none."""
        return await self._store.get(project, conversation)

    async def told(self, info: ConversationInfo) -> tuple[TurnView, ...]:
        """What it consists of for who takes it as a whole: turns that completed, and what was written into it."""
        entries = await self._store.history(info.tape, before=info.head + 1, chars_max=CHARS_OF_ALL)
        return completed_turns(Transcript(entries).turns())

    async def follow(self, principal: Principal, operation: FollowConversation) -> Listening:
        """Where a reader of all that is said begins. Raises NotFound; BadRequest if its cursor is beyond the tape."""
        info = await self._store.get(principal.project, operation.conversation)
        info = readable(info, operation.conversation, principal, private=operation.private)
        return await resume_tape(self._store, principal.project, info, after=operation.after)

    def reader(self, principal: Principal, listening: Listening, *, private: bool = False) -> TapeReader:
        """`private`: for as long as the principal may read it."""
        reader = principal if private else None
        return TapeReader(self._store, self._runs.line, principal.project, listening, reader=reader)

    async def page(self, project: ProjectId, operation: ListConversations) -> ConversationPage:
        return await self._store.page(project, after=operation.after, limit=operation.limit)

    async def browse(self, principal: Principal, operation: BrowseConversations) -> ConversationShelf:
        """Newest first; of a private list what is the principal's own, and what others share if it is asked for, or
        everything for an admin."""
        return await self._store.browse(
            principal.project,
            owner=(only_owner(principal) or None) if operation.private else None,
            origins=operation.origins,
            archived=operation.archived,
            limit=operation.limit,
            offset=operation.offset,
            shared=operation.shared,
        )

    async def update(self, principal: Principal, operation: UpdateConversation) -> ConversationInfo:
        """Write down what is to be different; what is so already is not written again. Raises NotFound, BadRequest;
        NotAllowed where `tell_shared` says so."""
        project, conversation = principal.project, operation.conversation
        private, tell_shared = operation.private, operation.tell_shared
        info = await self._store.get(project, conversation)
        info = writable(info, conversation, principal, private=private, tell_shared=tell_shared)
        notes = _notes(info, operation)
        if not notes:
            return info
        await self._store.note(project, conversation, notes)
        if self._changed is not None:
            await self._changed(project, conversation)
        info = await self._store.get(project, conversation)
        return writable(info, conversation, principal, private=private, tell_shared=tell_shared)

    async def count(self, project: ProjectId) -> int:
        return await self._store.count(project)

    async def delete(self, principal: Principal, operation: DeleteConversation) -> Deleted:
        """Raises NotFound; NotAllowed where `tell_shared` says so. Runs still live on it are stopped; their writes find
        nothing to write to."""
        if operation.private:
            info = await self._store.get(principal.project, operation.conversation)
            told = operation.tell_shared
            writable(info, operation.conversation, principal, private=True, tell_shared=told, doing="Deleting")
        unfinished = await self._store.delete(principal.project, operation.conversation)
        if unfinished is None:
            raise no_conversation(operation.conversation)
        for run in unfinished:
            await self._runs.stop(run, cancelled_by=principal.credential_id)
        if self._changed is not None:
            await self._changed(principal.project, operation.conversation)
        return Deleted(operation.conversation)

    async def take_in(
        self,
        project: ProjectId,
        conversation: ConversationId,
        imported: MessagesImported,
        *,
        created_at: float,
        updated_at: float,
    ) -> ConversationInfo:
        """Make a conversation of messages from elsewhere. Raises Conflict if one of that id exists."""
        created = ConversationCreated(project, conversation, origin=imported.source)
        info = await self._store.put_messages(
            created, imported, at=created_at, updated_at=updated_at, run=self._new_id()
        )
        if self._changed is not None:
            await self._changed(project, conversation)
        return info


def title_of(text: str) -> str:
    """The title that is meant. Raises BadRequest for one that is none."""
    title = text.strip()
    if not 1 <= len(title) <= TITLE_CHARS_MAX:
        raise BadRequest(f"A title has 1 to {TITLE_CHARS_MAX} characters; this one has {len(title)}.")
    return title


def _notes(info: ConversationInfo, wanted: UpdateConversation) -> list[Note]:
    """What an update changes. Raises BadRequest for a title that is none."""
    notes: list[Note] = []
    if wanted.title is not None:
        title = title_of(wanted.title)
        if title != info.title:
            notes.append(TitleGiven(title))
    if wanted.shared is not None and wanted.shared != info.shared:
        notes.append(SharingChanged(wanted.shared))
    if wanted.archived is not None and wanted.archived != info.archived:
        notes.append(ArchivingChanged(wanted.archived))
    return notes
