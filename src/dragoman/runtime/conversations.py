"""Conversations: read, list, delete, take in from elsewhere. Everything inside one project."""

from collections.abc import Callable

from dragoman.core.errors import NotFound
from dragoman.core.events import ConversationCreated, MessagesImported
from dragoman.core.names import ConversationId, Principal, ProjectId, RunId
from dragoman.core.operations import (
    ConversationInfo,
    ConversationPage,
    ConversationView,
    DeleteConversation,
    Deleted,
    ListConversations,
    ReadConversation,
)
from dragoman.core.transcript import Transcript
from dragoman.runtime.ports import Store
from dragoman.runtime.runs import Changed, Runs

READ_ENTRIES = 1000
"""Entries fetched at once while a whole conversation is read."""


class Conversations:
    def __init__(
        self, store: Store, runs: Runs, *, new_id: Callable[[], RunId], changed: Changed | None = None
    ) -> None:
        self._changed = changed
        self._store = store
        self._runs = runs
        self._new_id = new_id

    async def read(self, project: ProjectId, operation: ReadConversation) -> ConversationView:
        """Raises NotFound."""
        info = await self._store.get(project, operation.conversation)
        if info is None:
            raise NotFound(f"There is no conversation {operation.conversation}.", what="conversation")
        if not operation.turns:
            return ConversationView(info, ())
        transcript = Transcript()
        after = 0
        while entries := await self._store.read(info.tape, after=after, limit=READ_ENTRIES):
            for entry in entries:
                transcript.add(entry)
            after = entries[-1].seq
        return ConversationView(info, transcript.turns())

    async def page(self, project: ProjectId, operation: ListConversations) -> ConversationPage:
        return await self._store.page(project, after=operation.after, limit=operation.limit)

    async def count(self, project: ProjectId) -> int:
        return await self._store.count(project)

    async def delete(self, principal: Principal, operation: DeleteConversation) -> Deleted:
        """Raises NotFound. Runs still live on it are stopped; their writes find nothing to write to."""
        unfinished = await self._store.delete(principal.project, operation.conversation)
        if unfinished is None:
            raise NotFound(f"There is no conversation {operation.conversation}.", what="conversation")
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
