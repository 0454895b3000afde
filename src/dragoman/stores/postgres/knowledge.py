"""Knowledge in the database, and its text search over it. Written by any number of servers.

Words are handed over ready-made, without a text search configuration: those that come with PostgreSQL take `logs.nginx`
for the name of a host, which nobody finds by `nginx`, and `english` drops words of other languages for its own.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

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
from dragoman.stores.postgres.books import SEQ_MASK
from dragoman.stores.postgres.connection import Connection, Pool, in_transaction, rows_changed
from dragoman.stores.postgres.queries import QUERIES

PUT_AT_ONCE = 100
"""Entries that one statement writes."""
WEIGHED_MAX = 1000
"""Entries that a search compares: of the words it looks for it takes the rarest until so many have one of them. What is
left out then has only words that are common."""
PLACE_MAX = 16_383
PLACES_MAX = 255
"""A tsvector knows no places behind this one, and no more of one word."""


class PostgresKnowledge:
    """See `core.knowledge.Knowledge` for what each method promises."""

    def __init__(self, pool: Pool, clock: Clock | None) -> None:
        """`clock`: None = the database's."""
        self._pool = pool
        self._clock = clock

    async def put(self, entries: Sequence[KnowledgeEntry]) -> None:
        now = None if self._clock is None else float(self._clock.now())
        rows = await asyncio.to_thread(_rows_of, check_entries(entries))  # an import has thousands

        async def work(connection: Connection) -> None:
            for start in range(0, len(rows), PUT_AT_ONCE):
                columns = zip(*rows[start : start + PUT_AT_ONCE], strict=True)
                await connection.execute(QUERIES["put_knowledge"], now, *columns)

        if rows:
            await self._pool.do(lambda connection: in_transaction(connection, work))

    async def get(self, project: ProjectId, entry_id: str) -> KnowledgeEntry | None:
        check_name(project, "knowledge", id=entry_id)
        rows = await self._rows("knowledge_entry", project, entry_id)
        return entry_of(rows[0]) if rows else None

    async def delete(self, project: ProjectId, entry_id: str) -> bool:
        check_name(project, "knowledge", id=entry_id)
        query = QUERIES["delete_knowledge_entry"]
        status = await self._pool.do(lambda connection: connection.execute(query, project, entry_id), again=False)
        return rows_changed(status) > 0

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
        args = (project, owner, labels_text(labels))
        if queries:
            counts = _counts(queries)
            asked = ([_quoted(word) for word in counts], list(counts.values()))
            args = (*args, _own_word(project), *asked, _at_most(limit))
            rows = await self._rows("knowledge_found", *args, max(WEIGHED_MAX, _at_most(limit)))
        else:
            rows = await self._rows("knowledge_all", *args, _at_most(limit))
        return tuple(Found(entry_of(row), row[10]) for row in rows)

    async def count(self, project: ProjectId) -> int:
        check_name(project, "knowledge")
        return await self._pool.do(lambda connection: connection.fetchval(QUERIES["knowledge_count"], project))

    async def delete_all(self, project: ProjectId) -> None:
        await self._pool.do(lambda connection: connection.execute(QUERIES["delete_knowledge"], project))

    async def _rows(self, name: str, *args: Any) -> list[Any]:
        return await self._pool.do(lambda connection: connection.fetch(QUERIES[name], *args))


def lexemes(project: ProjectId, title: str, text: str) -> str:
    """The words of an entry as a tsvector is written: `'word':1A,7`, those of the title under A."""
    places: dict[str, list[str]] = {}
    titled = words(title)
    for place, word in enumerate((*titled, *words(text)), start=1):
        known = places.setdefault(word, [])
        if len(known) < PLACES_MAX:
            known.append(f"{min(place, PLACE_MAX)}{'A' if place <= len(titled) else ''}")
    found = [f"{_quoted(word)}:{','.join(known)}" for word, known in places.items()]
    return " ".join((_own_word(project), *found))


def _own_word(project: ProjectId) -> str:
    """That of all entries of a project, and of no text: it begins with what no word has in it."""
    return _quoted(f"={scope_word(project)}")


def _quoted(word: str) -> str:
    """Words hold neither quotes nor backslashes."""
    return f"'{word}'"


def _counts(queries: Sequence[Query]) -> dict[str, float]:
    """What each word that is asked for counts, in all queries together."""
    counts: dict[str, float] = {}
    for asked, boost in asked_of(queries):
        for word in asked:
            counts[word] = counts.get(word, 0.0) + boost
    return counts


def _rows_of(entries: Sequence[KnowledgeEntry]) -> list[tuple[Any, ...]]:
    return [_row(entry) for entry in entries]


def _row(entry: KnowledgeEntry) -> tuple[Any, ...]:
    return (
        *(entry.project, entry.id, entry.text, entry.title, entry.public, entry.role.value),
        *(labels_text(entry.labels), entry.owner, entry.owner_name, names_of(entry.title, entry.id)),
        lexemes(entry.project, entry.title, entry.text),
    )


def _at_most(limit: int) -> int:
    return min(max(limit, 0), SEQ_MASK)
