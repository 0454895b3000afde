"""Conversations as whole documents: read, listed, written, replaced, copied. Also: what a turn brings whose caller
sends the whole conversation.

A document is the tape's completed turns, and beside them a record of labels, kept where there is something to keep.
A change is written in steps, each of them whole by itself: messages, then notes, then labels. Whoever got no answer
sends it again and has it all; messages that are there already are not written twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from dragoman.core.documents import (
    CreateDocument,
    Document,
    DocumentList,
    DuplicateDocument,
    Labels,
    ListDocuments,
    PatchDocument,
    ReadDocument,
    ReplaceDocument,
)
from dragoman.core.events import ConversationCreated, MessagesImported
from dragoman.core.messages import Message
from dragoman.core.names import Clock, ConversationId, Principal, ProjectId, RunId
from dragoman.core.operations import (
    Archived,
    BrowseConversations,
    ConversationInfo,
    DeleteConversation,
    Deleted,
    Operation,
    StartTurn,
    TurnView,
    UpdateConversation,
)
from dragoman.core.records import Record
from dragoman.runtime.conversations import Conversations, title_of
from dragoman.runtime.keeping import no_conversation
from dragoman.runtime.ports import Store
from dragoman.runtime.runs import Changed
from dragoman.runtime.visibility import readable, writable
from dragoman.runtime.whole import beyond, messages_of, new_part

KIND = "document"
"""Of the records of labels; their id is the conversation's."""
READS_AT_ONCE = 8
"""Conversations of a list that are read at the same time."""
SHELVES_MAX = 5
"""How often a list looks for more, where conversations without a completed turn leave room in it."""
NAMES_MAX = 500
NAME_KNOWN_S = 60.0
"""How long a name that was looked up is taken to be right."""


class Names(Protocol):
    """Who is behind an owner."""

    async def name_of(self, project: ProjectId, owner: str) -> str:
        """The name to show for a `Principal.owner`; "" = it is not known (any more). Raises Unavailable."""
        ...


class _Kept(Struct, frozen=True, omit_defaults=True):
    """A record's body. `head` is the conversation's when it was written: a turn that stands behind it has a system
    message of its own, which is the later one."""

    labels: dict[str, str] = field(default_factory=dict[str, str])
    numeric_labels: dict[str, float] = field(default_factory=dict[str, float])
    system: str = ""
    head: int = 0


_NOTHING = _Kept()


class Documents:
    def __init__(
        self,
        store: Store,
        conversations: Conversations,
        names: Names,
        clock: Clock,
        *,
        new_id: Callable[[], RunId],
        changed: Changed | None = None,
    ) -> None:
        """`new_id` names the runs that stand for what is written in; `changed` as for `Conversations`."""
        self._store = store
        self._conversations = conversations
        self._names = names
        self._clock = clock
        self._new_id = new_id
        self._changed = changed
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._known_names: dict[tuple[ProjectId, str], tuple[str, float]] = {}

    def handlers(self) -> Mapping[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {
            ReadDocument: self.read,
            ListDocuments: self.page,
            CreateDocument: self.create,
            ReplaceDocument: self.replace,
            PatchDocument: self.patch,
            DuplicateDocument: self.duplicate,
            DeleteConversation: self.delete,
        }

    # -- reading ---------------------------------------------------------------------------------------------------

    async def read(self, principal: Principal, operation: ReadDocument) -> Document:
        """Raises NotFound."""
        info = await self._store.get(principal.project, operation.conversation)
        info = readable(info, operation.conversation, principal, private=True)
        document = await self._document(principal, info)
        if not document.turns:
            raise no_conversation(info.id)  # a first turn that came to no answer is in no list either
        return document

    async def page(self, principal: Principal, operation: ListDocuments) -> DocumentList:
        found: list[Document] = []
        offset = 0
        for _ in range(SHELVES_MAX):
            wanted = BrowseConversations(
                archived=Archived.WITH, limit=operation.limit, offset=offset, private=True, shared=True
            )
            shelf = await self._conversations.browse(principal, wanted)
            documents = await asyncio.gather(
                *(self._document(principal, info) for info in shelf.items if info.turns > 0)
            )
            found.extend(document for document in documents if document.turns)
            offset += len(shelf.items)
            if len(found) >= operation.limit or not shelf.items or offset >= shelf.total:
                break
        return DocumentList(tuple(found[: operation.limit]))

    async def _document(self, principal: Principal, info: ConversationInfo) -> Document:
        async with self._reading:
            turns = await self._conversations.told(info)
            kept = await self._kept(principal.project, info.id)
            owner_name = await self._name(principal, info.owner)
        return _document(principal.project, info, turns, kept, owner_name)

    async def _kept(self, project: ProjectId, conversation: ConversationId) -> _Kept:
        record = await self._store.records.get(project, KIND, conversation)
        return _NOTHING if record is None else msgspec.json.decode(record.body, type=_Kept)

    async def _name(self, principal: Principal, owner: str) -> str:
        if not owner:
            return ""
        if owner == principal.owner:
            return principal.name
        key, now = (principal.project, owner), self._clock.monotonic()
        known = self._known_names.get(key)
        if known is not None and now - known[1] < NAME_KNOWN_S:
            return known[0]
        name = await self._names.name_of(principal.project, owner)
        if len(self._known_names) >= NAMES_MAX:
            self._known_names.clear()
        self._known_names[key] = (name, now)
        return name

    # -- writing ---------------------------------------------------------------------------------------------------

    async def create(self, principal: Principal, operation: CreateDocument) -> Document:
        """Raises Conflict if there is one of that id; BadRequest for a title that is too long."""
        title = title_of(operation.title) if operation.title.strip() else ""
        info = await self._put(
            principal, operation.conversation, title, operation.messages, operation.labels, operation.origin
        )
        if operation.shared or operation.archived:
            wanted = UpdateConversation(
                operation.conversation, shared=operation.shared, archived=operation.archived, private=True
            )
            info = await self._conversations.update(principal, wanted)
        return await self._document(principal, info)

    async def duplicate(self, principal: Principal, operation: DuplicateDocument) -> Document:
        """Raises NotFound."""
        document = await self.read(principal, ReadDocument(operation.conversation))
        labels = replace(document.labels, system=document.system)
        messages, info = messages_of(document.turns), document.info
        copy = await self._put(principal, operation.copy, info.title, messages, labels, info.origin)
        return await self._document(principal, copy)

    async def _put(
        self,
        principal: Principal,
        conversation: ConversationId,
        title: str,
        messages: tuple[Message, ...],
        labels: Labels,
        origin: str,
    ) -> ConversationInfo:
        now = self._clock.now()
        created = ConversationCreated(principal.project, conversation, origin, principal.owner, title)
        imported = MessagesImported(messages, source=origin)
        info = await self._store.put_messages(created, imported, at=now, updated_at=now, run=self._new_id())
        await self._keep(principal, info, labels, _NOTHING)
        await self._tell(principal.project, conversation)
        return info

    async def replace(self, principal: Principal, operation: ReplaceDocument) -> Document:
        """Raises as `ReplaceDocument` says."""
        project, conversation = principal.project, operation.conversation
        found = await self._store.get(project, conversation)
        info = writable(found, conversation, principal, private=True, tell_shared=True)
        # One that it has is not looked at: a turn may have brought a longer one.
        title = title_of(operation.title) if operation.title.strip() not in ("", info.title) else None
        before = await self._document(principal, info)
        turns = before.turns
        if beyond(turns, operation.messages) != ():
            imported = MessagesImported(operation.messages, source=info.origin, replaces=True)
            await self._store.replace_messages(project, conversation, imported, run=self._new_id())
            await self._tell(project, conversation)
            turns = ()
        wanted = UpdateConversation(
            conversation,
            title=title,
            shared=operation.shared,
            archived=operation.archived,
            private=True,
            tell_shared=True,
        )
        info = await self._conversations.update(principal, wanted)
        system = operation.labels.system or before.system
        labels = replace(operation.labels, system="" if system == _last_system(turns)[1] else system)
        await self._keep(principal, info, labels, await self._kept(project, conversation))
        return await self._document(principal, info)

    async def patch(self, principal: Principal, operation: PatchDocument) -> Document:
        """Raises NotFound; NotAllowed."""
        wanted = UpdateConversation(
            operation.conversation,
            shared=operation.shared,
            archived=operation.archived,
            private=True,
            tell_shared=True,
        )
        return await self._document(principal, await self._conversations.update(principal, wanted))

    async def delete(self, principal: Principal, operation: DeleteConversation) -> Deleted:
        """Any conversation, with its labels. Raises as `Conversations.delete` does."""
        deleted = await self._conversations.delete(principal, operation)
        records, project = self._store.records, principal.project
        if await records.get(project, KIND, operation.conversation) is not None:  # mostly not: a commit saved
            await records.delete(project, KIND, operation.conversation)
        return deleted

    async def _keep(self, principal: Principal, info: ConversationInfo, labels: Labels, kept: _Kept) -> None:
        """Write the labels down, if they are not there; and nothing where there are none."""
        wanted = _Kept(labels.labels, labels.numeric_labels, labels.system, info.head)
        if replace(wanted, head=0) == replace(kept, head=0) and (not wanted.system or wanted.head == kept.head):
            return
        body = msgspec.json.encode(wanted).decode()
        record = Record(
            principal.project,
            KIND,
            info.id,
            body,
            owner=info.owner,
            created_by=principal.owner,
            updated_by=principal.owner,
        )
        await self._store.records.put(record, expect=None)

    async def _tell(self, project: ProjectId, conversation: ConversationId) -> None:
        if self._changed is not None:
            await self._changed(project, conversation)


async def prepare_whole(conversations: Conversations, principal: Principal, turn: StartTurn) -> tuple[StartTurn, str]:
    """A `whole` turn with only what is new in its messages, and the title that the conversation has. Others are
    returned as they are, with "".

    Raises NotFound if the conversation must exist and does not, or is not there for the principal; NotAllowed if the
    principal may only read it and `tell_shared` says so.
    """
    if not turn.whole:
        return turn, ""
    info = await conversations.find(principal.project, turn.conversation)
    if info is None and not turn.must_exist:
        return turn, ""
    info = writable(
        info,
        turn.conversation,
        principal,
        private=turn.private,
        tell_shared=turn.tell_shared,
        doing="Continuing",
    )
    told = await conversations.told(info)
    opening = turn.loop.opening if turn.loop is not None else ""
    messages, restates = new_part(told, turn.messages, opening=opening)
    loop = turn.loop
    if loop is not None and not (told or info.live_run or info.title or turn.title):
        loop = replace(loop, titled=True)  # nothing came of its first turn, which was to find the title
    return replace(turn, messages=messages, restates=restates, loop=loop), info.title


def _document(
    project: ProjectId, info: ConversationInfo, turns: tuple[TurnView, ...], kept: _Kept, owner_name: str
) -> Document:
    seq, system = _last_system(turns)
    if kept.system and seq <= kept.head:
        system = kept.system
    labels = Labels(kept.labels, kept.numeric_labels, kept.system)
    return Document(info, turns, labels, owner_name, system, project)


def _last_system(turns: Sequence[TurnView]) -> tuple[int, str]:
    """Of the last turn that had a system message: where it was received, and that message; 0, "" if none had."""
    return next(((turn.seq, turn.system) for turn in reversed(turns) if turn.system), (0, ""))
