"""Wake-ups carried by Redis, for those who have one: it takes them off the database, and nothing else."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio

from dragoman.core.errors import Unavailable
from dragoman.stores.postgres.connection import Server

CONNECT_S = 5.0
ANSWER_S = 5.0
CHECK_EVERY_S = 5.0
"""How often a connection on which nothing is heard is asked whether it still stands."""


class Publishing:
    """PUBLISH and SUBSCRIBE on one channel."""

    def __init__(self, url: str, channel: str) -> None:
        """Raises Unavailable for a URL that is none."""
        self._channel = channel
        try:
            self._secrets = Server(url)  # knows how to keep a password to itself
            self._client: Any = redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType] its keywords
                url, socket_connect_timeout=CONNECT_S, socket_timeout=ANSWER_S, decode_responses=True
            )
        except (ValueError, Unavailable):  # whose text may show all of it
            raise Unavailable(
                "The address of Redis cannot be read; correct [store] wakeups.", code="storage_unavailable"
            ) from None

    async def publish(self, messages: Sequence[str]) -> None:
        try:
            for message in messages:
                await self._client.publish(self._channel, message)
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(error) from None

    async def listen(self, heard: Callable[[str], None], started: Callable[[], None]) -> None:
        channel: Any = self._client.pubsub()
        try:
            await channel.subscribe(self._channel)
            quiet = 0
            while True:
                message = await channel.get_message(timeout=CHECK_EVERY_S)
                if message is None:
                    quiet += 1
                    if quiet > 1:
                        raise self._unavailable(TimeoutError("no answer to a ping"))
                    await channel.ping()
                    continue
                quiet = 0
                if message["type"] == "subscribe":
                    started()
                elif message["type"] == "message":
                    heard(message["data"])
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(error) from None
        finally:
            await asyncio.shield(channel.aclose())

    async def close(self) -> None:
        await self._client.aclose()

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(
            "Redis does not answer; wake-ups between servers take up to a second.",
            code="storage_unavailable",
            internal=self._secrets.scrub(f"{urlsplit(self._secrets.url).hostname}: {type(error).__name__}: {error}"),
        )
