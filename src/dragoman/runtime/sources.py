"""Sources: kept, filled, searched. Documents are cut into passages, which are found by their words (decision 0049).

    document ─┬─ record {title, text}                whole, for those who want it whole
              └─ passages ─► knowledge entries       private to the source: nobody else recalls them

A document's record is written before its passages and deleted after them, and the source's last of all: what a crash
leaves half done can be removed by removing the source again. The number of documents is counted, not kept.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, zip_longest

import msgspec
from msgspec import Struct

from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.knowledge import EntryRole, Found, Knowledge, KnowledgeEntry, Query
from dragoman.core.names import ProjectId
from dragoman.core.records import Record, Records
from dragoman.core.sources import Document, Passage, Source
from dragoman.runtime.crossing import uncrossed
from dragoman.runtime.knowledge import ENTRIES_MAX, QUERY_CHARS_MAX

SOURCES = "source"
DOCUMENTS = "source_document"

SOURCES_MAX = 100
"""Of a project."""
DOCUMENTS_MAX = 500
"""Of a source."""
DOCUMENT_CHARS_MAX = 500_000
ADDED_CHARS_MAX = 5_000_000
"""Of the documents that are added at once."""
NAME_CHARS_MAX = 100
"""Of a source."""
DESCRIPTION_CHARS_MAX = 1000
TITLE_CHARS_MAX = 300
"""Of a document, and of its name."""
PASSAGE_CHARS = 1024
OVERLAP_CHARS = 20
"""So much of a passage stands at the beginning of the next one too."""
FOUND_MAX = 20
DOCUMENTS_LOOKED_AT = 5
"""For each whole document that is wanted so many passages are looked for: several may be of one document."""

_ID = re.compile(r"[0-9a-f]{24}")
_SENTENCE_END = re.compile(r"[.!?…](?=\s)|[。！？]|\n")


class _Body(Struct, frozen=True, omit_defaults=True):
    name: str
    description: str = ""
    active: bool = True


class _Document(Struct, frozen=True, omit_defaults=True):
    """`passages`: how many there are."""

    title: str
    text: str
    passages: int
    name: str = ""


class Sources:
    """`new_id` gives 24 hex digits that were never given before."""

    def __init__(self, records: Records, knowledge: Knowledge, *, new_id: Callable[[], str]) -> None:
        self._records = records
        self._knowledge = knowledge
        self._new_id = new_id

    # -- kept ------------------------------------------------------------------------------------------------------

    async def create(self, project: ProjectId, name: str, description: str = "", *, source_id: str = "") -> Source:
        """An empty one; `source_id` is what a workflow that was written elsewhere calls it. Raises BadRequest; Conflict
        if there is one of that name or id, or as many as may be."""
        title = name.strip()
        if not title or len(title) > NAME_CHARS_MAX or not title.isprintable():
            raise BadRequest(f"The name of a source has 1 to {NAME_CHARS_MAX} printable characters.")
        if len(description) > DESCRIPTION_CHARS_MAX:
            raise BadRequest(f"The description of a source has {DESCRIPTION_CHARS_MAX} characters at most.")
        if source_id and _ID.fullmatch(source_id) is None:
            raise BadRequest("The id of a source is 24 hex digits, in small letters.")
        if source_id and await self._record(project, source_id) is not None:
            raise Conflict(f"The project has a source with the id {source_id} already; add to it.")
        there = await self._records.page(project, SOURCES, limit=1, offset=0)
        if there.total >= SOURCES_MAX:
            raise Conflict(f"The project has {there.total} sources, which is as many as may be; remove one first.")
        if await self._records.find(project, SOURCES, title) is not None:
            raise Conflict(f"The project has a source {title} already; add to it, or choose another name.")
        return await self._shown(
            await self._put(project, source_id or self._new_id(), _Body(title, description), expect=0)
        )

    async def page(self, project: ProjectId) -> tuple[Source, ...]:
        """All of them, oldest first."""
        found = await self._records.page(project, SOURCES, limit=0, offset=0)
        return tuple([await self._shown(record) for record in found.items])

    async def get(self, project: ProjectId, source_id: str) -> Source | None:
        """None also for what cannot be an id."""
        record = await self._record(project, source_id)
        return None if record is None else await self._shown(record)

    async def set_active(self, project: ProjectId, source_id: str, *, active: bool) -> Source:
        """Raises NotFound."""

        async def change() -> Record:
            record = await self._found(project, source_id)
            body = msgspec.structs.replace(_bodies.decode(record.body), active=active)
            return await self._put(project, source_id, body, expect=record.version)

        return await self._shown(await uncrossed(change))

    async def remove(self, project: ProjectId, source_id: str) -> None:
        """With all its documents. Raises NotFound."""
        await self._found(project, source_id)
        documents = await self._records.page(project, DOCUMENTS, owner=_owner(source_id), limit=0, offset=0)
        for record in documents.items:
            for number in range(_documents.decode(record.body).passages):
                await self._knowledge.delete(project, _passage_id(record.id, number))
            await self._records.delete(project, DOCUMENTS, record.id)
        await self._records.delete(project, SOURCES, source_id)

    # -- filled ----------------------------------------------------------------------------------------------------

    async def add(self, project: ProjectId, source_id: str, documents: Sequence[Document]) -> tuple[str, ...]:
        """The ids of the documents, in order; each is written whole or not at all. Raises NotFound, BadRequest naming
        the document; Conflict if the source, or what the project knows, would be too large."""
        await self._found(project, source_id)
        cut = [passages_of(check_document(document).text) for document in documents]
        if sum(len(document.text) for document in documents) > ADDED_CHARS_MAX:
            raise BadRequest(f"At most {ADDED_CHARS_MAX} characters are added at once; add the documents in parts.")
        there = await self._count(project, source_id)
        if there + len(documents) > DOCUMENTS_MAX:
            raise Conflict(
                f"The source has {there} documents and {len(documents)} more were to be added; {DOCUMENTS_MAX} is as"
                " many as may be. Make another source."
            )
        known = await self._knowledge.count(project)
        if known + sum(map(len, cut)) > ENTRIES_MAX:
            raise Conflict(
                f"The project knows {known} texts, the documents would make {sum(map(len, cut))} passages of it, and"
                f" {ENTRIES_MAX} is as many as may be; remove some first."
            )
        return tuple(
            [
                await self._add(project, source_id, document, passages)
                for document, passages in zip(documents, cut, strict=True)
            ]
        )

    async def _add(self, project: ProjectId, source_id: str, document: Document, passages: Sequence[str]) -> str:
        document_id = self._new_id()
        owner = _owner(source_id)
        body = _Document(document.title, document.text, len(passages), document.name)
        text = msgspec.json.encode(body).decode()
        await self._records.put(Record(project, DOCUMENTS, document_id, text, owner=owner), expect=0)
        entries = [
            KnowledgeEntry(
                project,
                _passage_id(document_id, number),
                passage,
                document.title,
                public=False,
                role=EntryRole.PROGRAM,
                labels={
                    "source": source_id,
                    "document": document_id,
                    "chunk": str(number),
                    "name": document.name or document.title,
                },
                owner=owner,
            )
            for number, passage in enumerate(passages)
        ]
        await self._knowledge.put(entries)
        return document_id

    # -- searched --------------------------------------------------------------------------------------------------

    async def search(
        self, project: ProjectId, source_ids: Sequence[str], query: str, *, found_max: int, whole: bool = False
    ) -> tuple[Passage, ...]:
        """The best of those sources that are there and active, best first; `whole` = each document in which something
        was found, once. Of several sources the best of each come first: their scores mean nothing to each other."""
        wanted = max(1, min(found_max, FOUND_MAX))
        looked_for = wanted * DOCUMENTS_LOOKED_AT if whole else wanted
        asked = Query(query[:QUERY_CHARS_MAX])
        lists: list[Sequence[Found]] = []
        for source_id in dict.fromkeys(source_ids[:SOURCES_MAX]):
            record = await self._record(project, source_id)
            if record is None or not _bodies.decode(record.body).active:
                continue
            owner = _owner(source_id)
            found = await self._knowledge.search(
                project, [asked], owner=owner, labels={"source": source_id}, limit=looked_for
            )
            # What others made public and labelled so is not of this source.
            lists.append([each for each in found if each.entry.owner == owner])
        ranked = [each.entry for rank in zip_longest(*lists) for each in rank if each is not None]
        if whole:
            return await self._whole(project, ranked, wanted)
        return tuple(_passage(entry.labels, entry.title, entry.text) for entry in ranked[:wanted])

    async def _whole(self, project: ProjectId, ranked: Sequence[KnowledgeEntry], wanted: int) -> tuple[Passage, ...]:
        first: dict[str, Mapping[str, str]] = {}
        for entry in ranked:
            first.setdefault(entry.labels["document"], entry.labels)
        found: list[Passage] = []
        for document_id, labels in islice(first.items(), wanted):
            record = await self._records.get(project, DOCUMENTS, document_id)
            if record is not None:
                document = _documents.decode(record.body)
                found.append(_passage(labels, document.title, document.text))
        return tuple(found)

    # -- within ----------------------------------------------------------------------------------------------------

    async def _record(self, project: ProjectId, source_id: str) -> Record | None:
        if _ID.fullmatch(source_id) is None:
            return None
        return await self._records.get(project, SOURCES, source_id)

    async def _found(self, project: ProjectId, source_id: str) -> Record:
        record = await self._record(project, source_id)
        if record is None:
            raise NotFound(f"There is no source {source_id[:100]}.", what="source")
        return record

    async def _count(self, project: ProjectId, source_id: str) -> int:
        return (await self._records.page(project, DOCUMENTS, owner=_owner(source_id), limit=1, offset=0)).total

    async def _put(self, project: ProjectId, source_id: str, body: _Body, *, expect: int) -> Record:
        text = msgspec.json.encode(body).decode()
        record = Record(project, SOURCES, source_id, text, wide=True, key=body.name)
        return await self._records.put(record, expect=expect)

    async def _shown(self, record: Record) -> Source:
        body = _bodies.decode(record.body)
        documents = await self._count(record.project, record.id)
        return Source(record.id, body.name, body.description, documents, body.active, record.created_at)


_bodies = msgspec.json.Decoder(_Body)
_documents = msgspec.json.Decoder(_Document)


def check_document(document: Document) -> Document:
    """Raises BadRequest naming the document."""
    shown = ascii(document.name or document.title)[:80]
    if not document.text.strip():
        raise BadRequest(f"The document {shown} has no text.")
    if len(document.text) > DOCUMENT_CHARS_MAX:
        raise BadRequest(
            f"The document {shown} has {len(document.text)} characters; at most {DOCUMENT_CHARS_MAX} are taken. Split"
            " it."
        )
    if not document.title.strip() or max(len(document.title), len(document.name)) > TITLE_CHARS_MAX:
        raise BadRequest(f"The title and the name of a document have 1 to {TITLE_CHARS_MAX} characters: {shown}.")
    return document


def passages_of(text: str) -> list[str]:
    """The text in pieces of at most PASSAGE_CHARS, each but the first beginning with the end of the one before. A piece
    ends with a sentence if one ends in its second half, else with a word, else anywhere. No piece is only spaces."""
    pieces: list[str] = []
    at = 0
    while at < len(text):
        end = at + PASSAGE_CHARS
        if end < len(text):
            end = _end(text, at, end)
        piece = text[at:end].strip()
        if piece:
            pieces.append(piece)
        if end >= len(text):
            break
        at = _start(text, end)
    return pieces


def _end(text: str, at: int, end: int) -> int:
    half = at + PASSAGE_CHARS // 2
    ends = [match.end() for match in _SENTENCE_END.finditer(text, half, end)]
    if ends:
        return ends[-1]
    space = max(text.rfind(char, half, end) for char in " \t\n\u3000")
    return space + 1 if space >= 0 else end


def _start(text: str, end: int) -> int:
    """Where the next piece begins: with a whole word, if one begins among the characters that it has in common."""
    space = text.find(" ", end - OVERLAP_CHARS, end - 1)
    return space + 1 if space >= 0 else end - OVERLAP_CHARS


def _passage(labels: Mapping[str, str], title: str, text: str) -> Passage:
    return Passage(labels["source"], labels["document"], title, labels["name"], text)


def _owner(source_id: str) -> str:
    return f"source:{source_id}"


def _passage_id(document_id: str, number: int) -> str:
    return f"{document_id}-{number}"
