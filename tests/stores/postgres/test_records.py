"""What only this engine does; the rest is in tests/stores/test_records.py."""

import asyncio

import pytest
from msgspec.structs import replace

from dragoman.core.errors import NotFound
from dragoman.core.names import ProjectId
from dragoman.core.records import Record
from dragoman.stores.postgres.store import open_store
from tests.stores.postgres.database import new_schema
from tests.stores.postgres.replicas import replicas

RULE = Record(ProjectId("p"), "rule", "r", "{}")


async def test_several_servers_give_out_an_id_a_key_and_a_version_once():
    async with replicas(3) as servers:
        for number in range(10):
            taken = await asyncio.gather(
                *(each.records.put(replace(RULE, id=str(number)), expect=0) for each in servers),
                *(
                    each.records.put(replace(RULE, id=f"{number} {index}", key=str(number)), expect=None)
                    for index, each in enumerate(servers)
                ),
                return_exceptions=True,
            )
            names = [type(result).__name__ for result in taken]
            assert sorted(names[:3]) == sorted(names[3:]) == ["Conflict", "Conflict", "Record"]
            changed = await asyncio.gather(
                *(each.records.put(replace(RULE, id=str(number)), expect=1) for each in servers),
                return_exceptions=True,
            )
            assert sorted(type(result).__name__ for result in changed) == ["Conflict", "Conflict", "Record"]
            gone = await asyncio.gather(*(each.records.delete(RULE.project, "rule", str(number)) for each in servers))
            assert sorted(gone) == [False, False, True]


async def test_the_time_is_the_databases():
    async with new_schema("records") as url:
        store = await open_store(url)
        put = await store.records.put(replace(RULE, expires_at=1.0), expect=0)
        assert put.created_at == put.updated_at > 1_700_000_000
        assert await store.records.get(RULE.project, "rule", "r") is None
        later = put.created_at + 3600
        again = await store.records.put(replace(RULE, expires_at=later), expect=0)
        assert await store.records.get(RULE.project, "rule", "r") == again
        await store.records.put(replace(RULE, id="other", expires_at=1.0), expect=None)
        with pytest.raises(NotFound):
            await store.records.put(replace(RULE, id="other"), expect=1)
        assert await store.records.forget_expired() == 1
        await store.close()
