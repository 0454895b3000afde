"""What only this engine does; the rest is in tests/stores/test_knowledge.py."""

import pytest

from dragoman.core.errors import Unavailable
from dragoman.core.knowledge import KnowledgeEntry, Query
from dragoman.core.names import ProjectId
from dragoman.stores.memory.knowledge import MemoryKnowledge
from tests.support import FixedClock

P = ProjectId("p")


async def test_a_word_that_stands_in_every_entry_still_finds_them_shorter_ones_first():
    knowledge = MemoryKnowledge(FixedClock())
    await knowledge.put(
        [KnowledgeEntry(P, name, f"word {filling}") for name, filling in (("long", "x " * 50), ("short", "x"))]
    )
    found = await knowledge.search(P, (Query("word"),), owner="", labels={}, limit=9)
    assert [each.entry.id for each in found] == ["short", "long"]
    assert found[0].score > found[1].score > 0


async def test_everything_is_gone_when_it_closes():
    knowledge = MemoryKnowledge(FixedClock())
    await knowledge.put((KnowledgeEntry(P, "e", "text"),))
    knowledge.close()
    knowledge.drop_project(P)
    with pytest.raises(Unavailable):
        await knowledge.get(P, "e")
