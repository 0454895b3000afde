import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from dragoman.core.errors import Unavailable
from dragoman.stores.postgres.redis_carrier import Publishing
from tests.stores.postgres.test_carriers import Listener
from tests.stores.postgres.test_connection import closed_port

URL = os.environ.get("DRAGOMAN_TEST_REDIS", "redis://127.0.0.1:6379/")


@pytest.fixture
async def admin() -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(URL, socket_connect_timeout=2)
    try:
        await client.ping()
    except (redis.RedisError, OSError) as error:
        await client.aclose()
        pytest.skip(f"no Redis at DRAGOMAN_TEST_REDIS or {URL}: {type(error).__name__}")
    yield client
    await client.aclose()


@pytest.fixture
async def carrier(admin: redis.asyncio.Redis) -> AsyncIterator[Publishing]:
    made = Publishing(URL, f"test_redis_carrier_{os.getpid()}")
    yield made
    await made.close()


@pytest.fixture
async def listener(carrier: Publishing) -> AsyncIterator[Listener]:
    made = Listener(carrier)  # pyright: ignore[reportArgumentType] it listens like the other one
    await asyncio.wait_for(made.started.wait(), 5)
    yield made
    made.task.cancel()
    await asyncio.wait([made.task])


async def test_messages_arrive_in_order_as_they_were_sent(carrier: Publishing, listener: Listener):
    await carrier.publish(["a 1:2", "b"])
    await carrier.publish(["c"])
    assert [await listener.next() for _ in range(3)] == ["a 1:2", "b", "c"]


async def test_a_listener_that_is_cut_off_says_so(admin: redis.asyncio.Redis, carrier: Publishing):
    others = {client["id"] for client in await admin.client_list()}
    listener = Listener(carrier)  # pyright: ignore[reportArgumentType] it listens like the other one
    await asyncio.wait_for(listener.started.wait(), 5)
    for client in await admin.client_list(_type="pubsub"):
        if client["id"] not in others:
            await admin.client_kill_filter(_id=client["id"])
    with pytest.raises(Unavailable):
        await asyncio.wait_for(listener.task, 5)


async def test_nobody_there_is_said_without_the_password():
    carrier = Publishing(f"redis://me:secret@127.0.0.1:{closed_port()}/0", "x")
    with pytest.raises(Unavailable) as told:
        await carrier.publish(["x"])
    with pytest.raises(Unavailable) as heard:
        await carrier.listen(lambda _: None, lambda: None)
    await carrier.close()
    for error in (told.value, heard.value):
        assert "secret" not in f"{error} {error.internal}"


@pytest.mark.parametrize("url", ["http://secret@x", "redis://:secret@[::1", "secret"])
async def test_a_url_that_is_none_is_not_shown(url: str):
    with pytest.raises(Unavailable) as refused:
        Publishing(url, "x")
    assert "secret" not in f"{refused.value} {refused.value.internal}"
