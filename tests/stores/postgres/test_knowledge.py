"""What only this engine does; the rest is in tests/stores/test_knowledge.py."""

import asyncio

from dragoman.core.knowledge import KnowledgeEntry, Query
from dragoman.core.names import ProjectId
from dragoman.stores.postgres.knowledge import PLACE_MAX, PLACES_MAX, WEIGHED_MAX, lexemes
from dragoman.stores.postgres.store import PostgresStore, open_store
from tests.stores.postgres.database import new_schema
from tests.stores.postgres.replicas import replicas

P = ProjectId("p")


async def search(store: PostgresStore, text: str, *, owner: str = "", limit: int = 20) -> list[str]:
    found = await store.knowledge.search(P, (Query(text),), owner=owner, labels={}, limit=limit)
    return [each.entry.id for each in found]


def test_words_are_written_as_the_database_reads_them_those_of_the_title_under_a():
    own, *others = lexemes(P, "Disk full", "disks: 会社").split()
    assert own.startswith("'=")
    assert others == ["'disk':1A,3", "'full':2A", "'会':4", "'社':5", "'会社':6"]
    assert lexemes(ProjectId("q"), "", "") != lexemes(P, "", "") == own


def test_no_word_has_more_places_than_the_database_keeps():
    (_, found) = lexemes(P, "", "x " * (PLACE_MAX + 10)).split()
    assert found.count(",") + 1 == PLACES_MAX
    ((_, last),) = [lexemes(P, "", "x " * PLACE_MAX + "y").split()[1:]]
    assert last == f"'y':{PLACE_MAX}"


async def test_several_servers_write_the_same_entries_in_whatever_order():
    async with replicas(3) as servers:
        names = [f"e{number}" for number in range(150)]
        await asyncio.gather(
            *(
                server.knowledge.put([KnowledgeEntry(P, name, f"by {index}") for name in names[:: 1 - 2 * (index % 2)]])
                for index, server in enumerate(servers)
                for _ in range(3)
            )
        )
        assert await servers[0].knowledge.count(P) == 150
        texts = {entry.text for entry in await servers[1].knowledge.page(P, limit=500)}
        assert len(texts) == 1
        gone = await asyncio.gather(*(server.knowledge.delete(P, "e1") for server in servers))
        assert sorted(gone) == [False, False, True]
        assert await search(servers[2], "by", limit=500) == sorted(set(names) - {"e1"})


async def test_the_time_is_the_databases():
    async with new_schema("knowledge") as url:
        store = await open_store(url)
        await store.knowledge.put((KnowledgeEntry(P, "e", "text", updated_at=1.0),))
        found = await store.knowledge.get(P, "e")
        assert found is not None
        assert found.updated_at > 1_700_000_000
        await store.close()


async def test_of_very_many_those_with_rare_words_are_weighed_and_what_others_hide_does_not_count():
    async with replicas(1) as (store,):
        many = WEIGHED_MAX + 100
        await store.knowledge.put([KnowledgeEntry(P, f"common{n}", "common") for n in range(many)])
        await store.knowledge.put(
            [KnowledgeEntry(P, f"hidden{n}", "rare", public=False, owner="bob") for n in range(many)]
        )
        await store.knowledge.put((KnowledgeEntry(P, "both", "common rare"), KnowledgeEntry(P, "rare", "rare")))
        assert sorted(await search(store, "common rare", limit=2)) == ["both", "rare"]
        assert len(await search(store, "common rare", limit=many * 3)) == many + 2
        assert len(await search(store, "common rare", limit=100)) == 100
        assert len(await search(store, "rare", owner="bob", limit=many * 3)) == many + 2
