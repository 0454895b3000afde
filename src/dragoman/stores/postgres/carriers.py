"""Who carries wake-ups between processes: PostgreSQL's own NOTIFY, on connections that do nothing else."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from dragoman.core.errors import Unavailable
from dragoman.stores.postgres.connection import Connection, Link, Server, connect, storage_error
from dragoman.stores.postgres.wakeups import Carrier

CHECK_EVERY_S = 5.0
"""How often a connection on which nothing is heard is asked whether it still stands."""
CHECK_S = 5.0


class Notifying:
    """LISTEN and NOTIFY on one channel."""

    def __init__(self, server: Server, channel: str) -> None:
        self._server = server
        self._channel = channel
        # A lost wake-up needs no sync.
        self._link = Link(server, {"application_name": f"{server.name} tells", "synchronous_commit": "off"})

    async def publish(self, messages: Sequence[str]) -> None:
        if not messages:
            return
        connection = await self._link.get()
        try:
            for message in messages:
                await connection.execute("select pg_notify($1, $2)", self._channel, message)
        except Exception as error:
            self._link.drop()
            raise storage_error(error, self._server) from None

    async def listen(self, heard: Callable[[str], None], started: Callable[[], None]) -> None:
        connection = await connect(self._server, {"application_name": f"{self._server.name} listens"})
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(self._channel, _telling(heard))
            started()
            while not await _within(lost, CHECK_EVERY_S):
                await connection.execute("select 1", timeout=CHECK_S)
        except Unavailable:
            raise
        except Exception as error:
            raise storage_error(error, self._server) from None
        finally:
            connection.terminate()
        raise Unavailable("The connection that listens was lost.", internal=self._server.where)

    async def close(self) -> None:
        await self._link.close()


def _telling(heard: Callable[[str], None]) -> Callable[[Connection, int, str, str], None]:
    def tell(_connection: Any, _process: int, _channel: str, message: str) -> None:
        heard(message)

    return tell


async def _within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def over_redis(url: str, installation: str) -> Carrier:
    """What carries wake-ups over a Redis server. Raises Unavailable if its driver is not installed."""
    try:
        from dragoman.stores.postgres.redis_carrier import Publishing  # noqa: PLC0415 an extra of its own
    except ModuleNotFoundError as error:
        raise Unavailable(
            "[store] wakeups names Redis, whose driver is not installed: pip install 'dragoman[redis]'",
            code="storage_unavailable",
            internal=str(error),
        ) from error
    return Publishing(url, f"dragoman:{installation}")
