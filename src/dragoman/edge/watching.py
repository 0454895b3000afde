"""Open streams are looked at again: is whoever reads still let in?

A stream may be open for hours. What its reader was asked at the door it is asked again every few seconds: is the
credential, or the ticket, still good, does it hold the scopes, is the conversation there for it. Who has no
answer to that any more is sent away. One look serves all streams of one credential: thousands of readers cost no
more than the few credentials they come with.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from dragoman.access.credentials import Authenticator, Standing
from dragoman.core.errors import DragomanError, NotAllowed, NotAuthenticated, Unavailable
from dragoman.core.names import ConversationId, Principal, Scope

logger = logging.getLogger("dragoman.edge")

LOOK_EVERY_S = 4.0
"""With the time a round takes, a revoked credential's streams are closed within 5 s."""
AT_ONCE = 50
PAUSE_S = 0.25
"""After so many credentials comes a pause: 200 a second at most, so that 10,000 different ones, which take 50 s, do not
keep a store busy."""
LOST = "The credential that this was read with is good no longer; come again with one that is."

Check = Callable[[Principal, ConversationId], Awaitable[object]]
"""Raises NotFound if the principal cannot read the conversation."""
Sleep = Callable[[float], Awaitable[Any]]


class Watched(Protocol):
    """A stream."""

    def send_away(self, error: DragomanError) -> None:
        """End it, and say why. Must not raise."""
        ...


class Reading(Struct, frozen=True, gc=False):
    """By what right a stream is read. `conversation` None = it is there for everybody in the project. `until_end` = it
    is the answer to what its reader asked while it might: it may be read to its end, also past an expiry."""

    principal: Principal
    scopes: Collection[Scope]
    conversation: ConversationId | None = None
    until_end: bool = False


class _Group:
    """The streams that are read by one credential's text, or one ticket."""

    __slots__ = ("standing", "streams")

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.streams: dict[Watched, Reading] = {}


class Watching:
    """Held while a stream is open. A class, and slots: there are as many as there are readers."""

    __slots__ = ("_reading", "_standing", "_stream", "_watch")

    def __init__(self, watch: "Watch", stream: Watched, standing: Standing, reading: Reading) -> None:
        self._watch = watch
        self._stream = stream
        self._standing = standing
        self._reading = reading

    def __enter__(self) -> None:
        self._watch.add(self._stream, self._standing, self._reading)

    def __exit__(self, *raised: object) -> None:
        self._watch.remove(self._stream, self._standing)


class Watch:
    def __init__(self, authenticator: Authenticator, check: Check, *, sleep: Sleep = asyncio.sleep) -> None:
        self._authenticator = authenticator
        self._check = check
        self._sleep = sleep
        self._groups: dict[bytes, _Group] = {}

    def __len__(self) -> int:
        """Credentials and tickets by which something is read."""
        return len(self._groups)

    def over(self, stream: Watched, standing: Standing, reading: Reading) -> Watching:
        """To be entered for as long as the stream is open."""
        return Watching(self, stream, standing, reading)

    def add(self, stream: Watched, standing: Standing, reading: Reading) -> None:
        group = self._groups.get(standing.digest)
        if group is None:
            group = self._groups[standing.digest] = _Group(standing)
        group.streams[stream] = reading

    def remove(self, stream: Watched, standing: Standing) -> None:
        group = self._groups[standing.digest]
        del group.streams[stream]
        if not group.streams:
            del self._groups[standing.digest]

    async def keep_looking(self) -> None:
        """Until cancelled."""
        while True:
            await self._sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Unavailable as error:
                logger.warning("who reads could not be looked at again: %s", error)  # nor can anything new be read
            except Exception:
                logger.exception("who reads could not be looked at again")  # the next round tries once more

    async def look(self) -> None:
        """Once at all. Raises Unavailable."""
        for number, group in enumerate(tuple(self._groups.values()), start=1):
            standing = await self._authenticator.again(group.standing)
            for stream, reading in tuple(group.streams.items()):
                principal = standing.principal if reading.until_end or not standing.expired else None
                try:
                    await self._judge(reading, principal)
                except Unavailable:
                    raise
                except DragomanError as error:
                    stream.send_away(error)
                else:
                    if principal is not None and principal != reading.principal and stream in group.streams:
                        group.streams[stream] = replace(reading, principal=principal)
            if number % AT_ONCE == 0:
                await self._sleep(PAUSE_S)

    async def _judge(self, reading: Reading, principal: Principal | None) -> None:
        """Raises an error of the tree if the stream is not for this reader any more."""
        if principal is None:
            raise NotAuthenticated(LOST)
        if principal == reading.principal:
            return
        for scope in reading.scopes:
            if not principal.may(scope):
                raise NotAllowed(f"This credential lacks the scope {scope}.")
        if reading.conversation is not None:
            await self._check(principal, reading.conversation)
