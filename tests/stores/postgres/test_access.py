import asyncio

from msgspec.structs import replace

from dragoman.core.errors import NotFound
from dragoman.core.names import ConversationId
from tests.stores.postgres.replicas import replicas
from tests.stores.talk import begin
from tests.stores.test_access import MINE, PLAIN


async def test_a_credential_that_comes_while_its_project_goes_does_not_outlive_it():
    async with replicas(2) as (one, other):
        for number in range(10):
            await one.put_project(MINE)
            results = await asyncio.gather(
                one.delete_project(MINE.id),
                *(other.put_credential(replace(PLAIN, id=f"k{number}-{index}")) for index in range(5)),
                return_exceptions=True,
            )
            assert results[0] is True
            assert all(result is None or isinstance(result, NotFound) for result in results[1:])
            assert list(await one.credentials(None)) == []


async def test_a_project_with_more_conversations_than_go_at_once_is_gone_with_all():
    async with replicas(2) as (one, other):
        await one.put_project(MINE)
        await asyncio.gather(*(begin(one, f"c{n}", f"r{n}", project=MINE.id) for n in range(120)))
        assert await other.delete_project(MINE.id) is True
        assert await one.count(MINE.id) == 0
        assert await one.get(MINE.id, ConversationId("c7")) is None
        again = await begin(one, "c7", "r7", project=MINE.id)
        assert again.seq == 3
