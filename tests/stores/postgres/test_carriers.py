import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from dragoman.core.errors import Unavailable
from dragoman.stores.postgres.carriers import Notifying
from dragoman.stores.postgres.connection import Server
from tests.stores.postgres.database import connect, end_connections, with_settings

NAME = f"test_carriers_{os.getpid()}"


class Listener:
    """Somebody who listens on a carrier, and what they heard."""

    def __init__(self, carrier: Notifying) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.started = asyncio.Event()
        self.task = asyncio.ensure_future(carrier.listen(self.heard.put_nowait, self.started.set))

    async def next(self) -> str:
        return await asyncio.wait_for(self.heard.get(), 5)


@pytest.fixture
async def carrier() -> AsyncIterator[Notifying]:
    await (await connect()).close()
    made = Notifying(Server(with_settings(application_name=NAME)), NAME)
    yield made
    await made.close()


@pytest.fixture
async def listener(carrier: Notifying) -> AsyncIterator[Listener]:
    made = Listener(carrier)
    await asyncio.wait_for(made.started.wait(), 5)
    yield made
    made.task.cancel()
    await asyncio.wait([made.task])


async def test_messages_arrive_in_order_as_they_were_sent(carrier: Notifying, listener: Listener):
    long = "x" * 7168
    await carrier.publish(["a 1:2", "b"])
    await carrier.publish([])
    await carrier.publish([long])
    assert [await listener.next() for _ in range(3)] == ["a 1:2", "b", long]


async def test_another_channel_is_not_heard(carrier: Notifying, listener: Listener):
    other = Notifying(Server(with_settings(application_name=NAME)), f"{NAME}_other")
    await other.publish(["no"])
    await other.close()
    await carrier.publish(["yes"])
    assert await listener.next() == "yes"


async def test_a_listener_that_is_cut_off_says_so_at_once(listener: Listener):
    assert await end_connections(f"{NAME} listens") == 1
    with pytest.raises(Unavailable):
        await asyncio.wait_for(listener.task, 5)


async def test_a_teller_that_is_cut_off_says_so_and_comes_back(carrier: Notifying, listener: Listener):
    await carrier.publish(["one"])
    assert await listener.next() == "one"
    assert await end_connections(f"{NAME} tells") == 1
    for _ in range(2):  # the loss may be noticed by trying only
        try:
            await carrier.publish(["two"])
            break
        except Unavailable:
            continue
    assert await listener.next() == "two"
