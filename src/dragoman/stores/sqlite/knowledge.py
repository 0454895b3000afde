"""Knowledge in the file, and SQLite's full-text search over it. Written by the server and, beside it, by the command
line."""

import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from dragoman.core.knowledge import Found, KnowledgeEntry, Query
from dragoman.core.names import Clock, ProjectId
from dragoman.runtime.knowledge_rules import (
    asked_of,
    check_entries,
    check_search,
    check_sort,
    entry_of,
    folded,
    labels_text,
    names_of,
    scope_word,
    words,
)
from dragoman.runtime.record_rules import check_name
from dragoman.stores.sqlite import reading
from dragoman.stores.sqlite.open_tapes import SEQ_MASK
from dragoman.stores.sqlite.queries import statement
from dragoman.stores.sqlite.reading import Readers
from dragoman.stores.sqlite.statements import Change, Statements

_Written = tuple[tuple[Any, ...], tuple[Any, ...]]
"""The parameters of an entry's two statements."""


class SqliteKnowledge:
    """See `core.knowledge.Knowledge` for what each method promises."""

    def __init__(self, readers: Readers, change: Change, clock: Clock) -> None:
        self._readers = readers
        self._change = change
        self._clock = clock

    async def put(self, entries: Sequence[KnowledgeEntry]) -> None:
        checked, now = check_entries(entries), self._clock.now()
        # Neither on the loop's thread nor on the writer's: an import has thousands.
        rows = await self._readers.do(lambda _connection: [_written(entry, now) for entry in checked])
        if rows:
            await self._change(partial(_put, rows=rows))

    async def get(self, project: ProjectId, entry_id: str) -> KnowledgeEntry | None:
        check_name(project, "knowledge", id=entry_id)
        rows = await self._rows("knowledge_entry", project, entry_id)
        return entry_of(rows[0]) if rows else None

    async def delete(self, project: ProjectId, entry_id: str) -> bool:
        check_name(project, "knowledge", id=entry_id)
        return await self._change(lambda statements: statements.change("delete_knowledge_entry", project, entry_id) > 0)

    async def page(
        self, project: ProjectId, *, containing: str = "", sort: str = "title", descending: bool = False, limit: int
    ) -> Sequence[KnowledgeEntry]:
        check_name(project, "knowledge", containing=containing)
        check_sort(sort)
        rows = await self._rows("knowledge_page", project, folded(containing), _at_most(limit), sort, descending)
        return tuple(map(entry_of, rows))

    async def search(
        self, project: ProjectId, queries: Sequence[Query], *, owner: str, labels: Mapping[str, str], limit: int
    ) -> Sequence[Found]:
        check_search(project, queries, owner, labels)
        wanted = labels_text(labels)
        if queries:
            asked = msgspec.json.encode([(_match(project, asked), boost) for asked, boost in asked_of(queries)])
            rows = await self._rows("knowledge_found", project, owner, wanted, asked.decode(), _at_most(limit))
        else:
            rows = await self._rows("knowledge_all", project, owner, wanted, _at_most(limit))
        return tuple(Found(entry_of(row), row[10]) for row in rows)

    async def count(self, project: ProjectId) -> int:
        check_name(project, "knowledge")
        found = await self._readers.do(lambda connection: reading.number(connection, "knowledge_count", project))
        return found or 0

    async def _rows(self, name: str, *parameters: Any) -> list[Sequence[Any]]:
        def read(connection: sqlite3.Connection) -> list[Sequence[Any]]:
            return connection.execute(*statement(name, parameters)).fetchall()

        return await self._readers.do(read)


def _put(statements: Statements, rows: Sequence[_Written]) -> None:
    for entry, entry_words in rows:
        statements.change("put_knowledge", *entry)
        statements.change("put_knowledge_words", *entry_words)


def _written(entry: KnowledgeEntry, now: float) -> _Written:
    name = (entry.project, entry.id)
    row = (
        *(*name, entry.text, entry.title, entry.public, entry.role.value, labels_text(entry.labels)),
        *(entry.owner, entry.owner_name, now, names_of(entry.title, entry.id)),
    )
    return row, (*name, scope_word(entry.project), " ".join(words(entry.title)), " ".join(words(entry.text)))


def _match(project: ProjectId, asked: Sequence[str]) -> str:
    """Any of these words in the entries of one project. All are quoted: none is an operator."""
    any_word = " OR ".join(f'"{word}"' for word in asked)
    return f'scope : "{scope_word(project)}" AND {{title text}} : ({any_word})'


def _at_most(limit: int) -> int:
    return min(max(limit, 0), SEQ_MASK)
