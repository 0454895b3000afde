"""Knowledge in memory, searched by BM25.

Synchronous inside: between two awaits of a caller a method has happened wholly or not at all.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from dragoman.core.errors import Unavailable
from dragoman.core.knowledge import Found, KnowledgeEntry, Query
from dragoman.core.names import Clock, ProjectId
from dragoman.runtime.knowledge_rules import (
    TITLE_WEIGHT,
    asked_of,
    check_entries,
    check_search,
    check_sort,
    folded,
    names_of,
    over,
    words,
)
from dragoman.runtime.record_rules import check_name

_MORE, _LENGTH = 1.2, 0.75
"""The two constants of BM25: how much more often a word must stand there to count more, and what long texts pay."""


class _Kept:
    """An entry, how often each word stands in it, and how many there are."""

    __slots__ = ("counts", "entry", "length")

    def __init__(self, entry: KnowledgeEntry) -> None:
        title, text = Counter(words(entry.title)), Counter(words(entry.text))
        self.entry = entry
        self.counts = {word: title[word] * TITLE_WEIGHT + text[word] for word in title | text}
        self.length = title.total() + text.total()


class MemoryKnowledge:
    """See `core.knowledge.Knowledge` for what each method promises, but for durability."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[ProjectId, dict[str, _Kept]] | None = {}

    def _of(self, project: ProjectId) -> dict[str, _Kept]:
        if self._open is None:
            raise Unavailable("The store is closed.")
        return self._open.get(project, {})

    def close(self) -> None:
        """Everything is gone."""
        self._open = None

    def drop_project(self, project: ProjectId) -> None:
        if self._open is not None:
            self._open.pop(project, None)

    async def put(self, entries: Sequence[KnowledgeEntry]) -> None:
        checked = check_entries(entries)
        if self._open is None:
            raise Unavailable("The store is closed.")
        now = self._clock.now()
        for entry in checked:
            kept = self._open.setdefault(entry.project, {})
            before = kept.get(entry.id)
            kept[entry.id] = _Kept(replace(over(entry, before and before.entry), updated_at=now))

    async def get(self, project: ProjectId, entry_id: str) -> KnowledgeEntry | None:
        check_name(project, "knowledge", id=entry_id)
        kept = self._of(project).get(entry_id)
        return None if kept is None else kept.entry

    async def delete(self, project: ProjectId, entry_id: str) -> bool:
        check_name(project, "knowledge", id=entry_id)
        return self._of(project).pop(entry_id, None) is not None

    async def page(
        self, project: ProjectId, *, containing: str = "", sort: str = "title", descending: bool = False, limit: int
    ) -> Sequence[KnowledgeEntry]:
        check_name(project, "knowledge", containing=containing)
        check_sort(sort)
        wanted = folded(containing)
        found = [each.entry for each in self._of(project).values()]
        found = [entry for entry in found if wanted in names_of(entry.title, entry.id)]
        found.sort(key=lambda entry: entry.id)
        found.sort(key=lambda entry: getattr(entry, sort), reverse=descending)
        return tuple(found[: max(limit, 0)])

    async def search(
        self, project: ProjectId, queries: Sequence[Query], *, owner: str, labels: Mapping[str, str], limit: int
    ) -> Sequence[Found]:
        check_search(project, queries, owner, labels)
        seen = [kept for kept in self._of(project).values() if _may_see(kept.entry, owner, labels)]
        scored = _scored(seen, queries) if queries else ((kept.entry, 1.0) for kept in seen)
        found = [Found(entry, score) for entry, score in scored]
        found.sort(key=lambda each: (-each.score, -each.entry.updated_at, each.entry.id))
        return tuple(found[: max(limit, 0)])

    async def count(self, project: ProjectId) -> int:
        check_name(project, "knowledge")
        return len(self._of(project))


def _may_see(entry: KnowledgeEntry, owner: str, labels: Mapping[str, str]) -> bool:
    return (entry.public or entry.owner == owner) and labels.items() <= entry.labels.items()


def _scored(seen: Sequence[_Kept], queries: Sequence[Query]) -> Iterator[tuple[KnowledgeEntry, float]]:
    """Those that share a word with a query, by BM25."""
    asked = asked_of(queries)
    every = {word for wanted, _ in asked for word in wanted}
    holders = Counter(word for kept in seen for word in every & kept.counts.keys())
    rarity = {word: math.log(1 + (len(seen) - count + 0.5) / (count + 0.5)) for word, count in holders.items()}
    average = sum(kept.length for kept in seen) / max(len(seen), 1)
    for kept in seen:
        if every.isdisjoint(kept.counts):
            continue
        room = _MORE * (1 - _LENGTH + _LENGTH * kept.length / max(average, 1))
        worth = {word: rarity[word] * count * (_MORE + 1) / (count + room) for word, count in _shared(kept, every)}
        yield kept.entry, sum(boost * sum(worth.get(word, 0.0) for word in wanted) for wanted, boost in asked)


def _shared(kept: _Kept, asked: set[str]) -> Iterator[tuple[str, float]]:
    return ((word, kept.counts[word]) for word in asked & kept.counts.keys())
