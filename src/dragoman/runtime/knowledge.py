"""What a project knows: entries that are saved, listed, recalled and removed, and the standing instructions of its
people (elastic spec 3.4).

Everybody may keep private entries. What is public, or somebody else's, is changed by who may `resources:write`; listing
shows all of it, recalling only what is public and one's own. Whether somebody may change an entry is looked at before
it is written: two who write the same id at once may both pass.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from dragoman.core.errors import BadRequest, Conflict, NotAllowed, NotFound
from dragoman.core.knowledge import (
    DeleteEntry,
    EntryGone,
    EntryPage,
    Found,
    InstructionList,
    KeptInstruction,
    Knowledge,
    KnowledgeEntry,
    KnowledgeKept,
    KnowledgeStatus,
    ListEntries,
    ListInstructions,
    PutInstruction,
    Query,
    ReadKnowledgeStatus,
    RecalledEntries,
    RecallEntries,
    SaveEntries,
)
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.core.operations import Operation
from dragoman.core.records import Records
from dragoman.runtime.history import CHARS_PER_TOKEN
from dragoman.runtime.instructions import Instructions
from dragoman.runtime.record_rules import NAME_CHARS_MAX

RECALL_MAX = 20
"""Entries of one search."""
RECALL_TOKENS_MAX = 4000
"""Of their texts together, in estimated LLM tokens."""
ENTRY_CHARS_MAX = RECALL_TOKENS_MAX * CHARS_PER_TOKEN
"""A longer text could never be recalled."""
TITLE_CHARS_MAX = 1000
LABELS_MAX = 50
LABEL_CHARS_MAX = 500
"""Of a label's name, and of its value."""
SAVED_MAX = 1000
"""Entries in one request."""
ENTRIES_MAX = 20_000
"""Of a project."""
LISTED_MAX = 500
QUERIES_MAX = 20
QUERY_CHARS_MAX = 8000
"""Of a query as it is searched for; what is longer is cut."""
BOOST_MAX = 1000.0

NO_LABELS: Mapping[str, str] = {}


class KnowledgeBase:
    def __init__(self, knowledge: Knowledge, records: Records) -> None:
        self._knowledge = knowledge
        self._instructions = Instructions(records)

    def handlers(self) -> Mapping[type[Operation[Any]], Callable[[Principal, Any], Awaitable[object]]]:
        return {
            SaveEntries: self.save,
            ListEntries: self.page,
            DeleteEntry: self.delete,
            RecallEntries: self.recall_as,
            ReadKnowledgeStatus: self.status,
            ListInstructions: self.instructions,
            PutInstruction: self.put_instruction,
        }

    # -- entries ---------------------------------------------------------------------------------------------------

    async def save(self, principal: Principal, operation: SaveEntries) -> KnowledgeKept:
        """Of entries with the same id the last one counts."""
        if len(operation.entries) > SAVED_MAX:
            raise BadRequest(
                f"At most {SAVED_MAX} entries are taken at once, and here are {len(operation.entries)}; send them in"
                " several requests."
            )
        named = {entry.id: entry for entry in operation.entries}
        entries = [
            replace(entry, project=principal.project, owner=principal.owner, owner_name=principal.name)
            for entry in named.values()
        ]
        for entry in entries:
            check_entry(entry)
        for entry in entries:
            await self._check_allowed(principal, entry)
        await self._put(principal.project, entries)
        return KnowledgeKept(len(entries))

    async def remember(self, entry: KnowledgeEntry) -> None:
        """Write an entry for its owner. Raises BadRequest, Conflict, Unavailable."""
        await self.keep([entry])

    async def keep(self, entries: Sequence[KnowledgeEntry]) -> None:
        """Write entries of one project as they stand, each for the owner it names, all or none. Raises as above."""
        for entry in entries:
            check_entry(entry)
        if entries:
            await self._put(entries[0].project, entries)

    async def page(self, principal: Principal, operation: ListEntries) -> EntryPage:
        found = await self._knowledge.page(
            principal.project,
            containing=operation.containing,
            sort=operation.sort,
            descending=operation.descending,
            limit=min(operation.limit, LISTED_MAX),
        )
        return EntryPage(tuple(found))

    async def delete(self, principal: Principal, operation: DeleteEntry) -> EntryGone:
        """An instruction of the principal's own goes by its id too: there is no other way to be rid of it."""
        entry = await self._knowledge.get(principal.project, operation.id)
        if entry is None:
            gone = await self._instructions.forget(principal, operation.id)
        else:
            _check_changeable(principal, entry)
            gone = await self._knowledge.delete(principal.project, entry.id)
        if not gone:
            raise NotFound(f"There is no knowledge entry {operation.id!r}.", what="entry")
        return EntryGone(operation.id)

    async def count(self, project: ProjectId) -> int:
        return await self._knowledge.count(project)

    async def status(self, principal: Principal, _operation: ReadKnowledgeStatus) -> KnowledgeStatus:
        return KnowledgeStatus(await self.count(principal.project))

    async def _check_allowed(self, principal: Principal, entry: KnowledgeEntry) -> None:
        """Raises NotAllowed."""
        if principal.may(Scope.RESOURCES_WRITE):
            return
        _check_changeable(principal, entry)
        over = await self._knowledge.get(principal.project, entry.id)
        if over is not None:
            _check_changeable(principal, over)

    async def _put(self, project: ProjectId, entries: Sequence[KnowledgeEntry]) -> None:
        """Raises Conflict if there would be too many. Looked at before it is written: a few that come at once may pass
        it together."""
        room = ENTRIES_MAX - await self._knowledge.count(project)
        if len(entries) > room:
            there = [await self._knowledge.get(project, entry.id) for entry in entries]
            if there.count(None) > room:
                raise Conflict(
                    f"The project has {ENTRIES_MAX - room} knowledge entries, and {ENTRIES_MAX} is as many as may be;"
                    " delete some first."
                )
        if entries:
            await self._knowledge.put(entries)

    # -- recalling -------------------------------------------------------------------------------------------------

    async def recall_as(self, principal: Principal, operation: RecallEntries) -> RecalledEntries:
        if len(operation.queries) > QUERIES_MAX:
            raise BadRequest(f"At most {QUERIES_MAX} queries are taken at once.")
        for query in operation.queries:
            if not 0 < query.boost <= BOOST_MAX:  # also false for what is no number
                raise BadRequest(f"A boost must be above 0, and {BOOST_MAX:g} at most.")
        found = await self.recall(principal.project, operation.queries, owner=principal.owner, labels=operation.labels)
        return RecalledEntries(found)

    async def recall(
        self, project: ProjectId, queries: Sequence[Query], *, owner: str, labels: Mapping[str, str] = NO_LABELS
    ) -> tuple[Found, ...]:
        """The best entries for somebody, best first, up to the one that would pass RECALL_TOKENS_MAX."""
        cut = [Query(query.text[:QUERY_CHARS_MAX], query.boost) for query in queries]
        found = await self._knowledge.search(project, cut, owner=owner, labels=labels, limit=RECALL_MAX)
        chars = 0
        for at, each in enumerate(found):
            chars += len(each.entry.text)
            if chars > RECALL_TOKENS_MAX * CHARS_PER_TOKEN:
                return tuple(found[:at])
        return tuple(found)

    # -- instructions ----------------------------------------------------------------------------------------------

    async def instructions(self, principal: Principal, _operation: ListInstructions) -> InstructionList:
        return InstructionList(await self._instructions.of(principal))

    async def put_instruction(self, principal: Principal, operation: PutInstruction) -> KeptInstruction:
        return await self._instructions.put(principal, operation)


def check_entry(entry: KnowledgeEntry) -> None:
    """Raises BadRequest naming the entry and what of it is too long or missing."""
    shown = ascii(entry.id[:60])
    if not entry.id:
        raise BadRequest("A knowledge entry needs an id.")
    if not entry.text.strip():
        raise BadRequest(f"The knowledge entry {shown} has no text.")
    if len(entry.labels) > LABELS_MAX:
        raise BadRequest(f"The knowledge entry {shown} has {len(entry.labels)} labels; at most {LABELS_MAX} are taken.")
    longest = max((len(part) for label in entry.labels.items() for part in label), default=0)
    for noun, chars, chars_max, hint in (
        ("an id", len(entry.id), NAME_CHARS_MAX, ""),
        ("a title", len(entry.title), TITLE_CHARS_MAX, ""),
        ("a text", len(entry.text), ENTRY_CHARS_MAX, "; split it into several entries"),
        ("a label", longest, LABEL_CHARS_MAX, ""),
    ):
        if chars > chars_max:
            raise BadRequest(
                f"The knowledge entry {shown} has {noun} of {chars} characters; at most {chars_max} are taken{hint}."
            )


def _check_changeable(principal: Principal, entry: KnowledgeEntry) -> None:
    if (entry.public or entry.owner != principal.owner) and not principal.may(Scope.RESOURCES_WRITE):
        raise NotAllowed(
            f"Only a credential with the scope {Scope.RESOURCES_WRITE} may change knowledge that is public or somebody"
            " else's; private entries of your own you may change without it."
        )
