"""Frames from a tape to a socket: back-pressure, life signs on silence, and notice of a reader that went away."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Never, Protocol

from starlette.types import Receive, Send

from dragoman.core.errors import DragomanError, Unavailable
from dragoman.core.events import Entry
from dragoman.edge.silence import Wheel
from dragoman.runtime.fuses import torn
from dragoman.wire.dialect import Encoder

logger = logging.getLogger("dragoman.edge")

FRAMES_BYTES = 32 * 1024
"""Frames made and sent at once. A reader that takes nothing holds twice that: what is sent, and what is next."""


class Source(Protocol):
    """Where a stream's entries come from: a reader of a run, or of a tape."""

    @property
    def cursor(self) -> int: ...

    async def batch(self) -> Sequence[Entry]:
        """The next entries, as soon as there are any; empty if there will be none. Raises errors of the tree."""
        ...


class _Gone(Exception):
    """The reader closed its connection."""


class FrameStream:
    """One reader's stream. `send` waits while the socket is full, so a slow reader holds only its own cursor back."""

    __slots__ = ("_encoder", "_reader", "_send", "_wheel", "sent_at", "slot")

    def __init__(self, encoder: Encoder, reader: Source, wheel: Wheel, send: Send) -> None:
        self._encoder = encoder
        self._reader = reader
        self._wheel = wheel
        self._send = send
        self.sent_at = 0.0
        self.slot = 0

    async def run(self, opening: bytes, receive: Receive) -> None:
        """Send `opening` and all frames until the end, and close the body. The headers were sent before.

        Returns early, without a word, when the reader is gone: that changes nothing for the run.
        """
        self._wheel.add(self)
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(_until_gone(receive))
                await self._pump(opening)
                watch.cancel()
        except* (_Gone, OSError):
            logger.debug("a reader went away at entry %d", self._reader.cursor)
        finally:
            self._wheel.remove(self)

    async def _pump(self, opening: bytes) -> None:
        encoder = self._encoder
        if opening:
            await self._put(opening, more=True)
        try:
            while not encoder.closed:
                left = list(reversed(await self._reader.batch()))
                if not left:
                    break
                while left:
                    body = self._frames(left)
                    if not left and not encoder.closed:
                        body += encoder.held()
                    if body:
                        await self._put(body, more=not encoder.closed)
        except DragomanError as error:
            # Of a server that stops all readers are sent away at once: that is no news of each of them.
            level = logging.INFO if isinstance(error, Unavailable) else logging.WARNING
            logger.log(level, "a stream ended early: %s", error)
            await self._put(encoder.failed(error), more=False)
            return
        if not encoder.closed:
            await self._put(b"", more=False)

    def _frames(self, left: list[Entry]) -> bytes:
        """What is sent at once: the frames of entries from the end of `left`, taken off. One alone may be larger."""
        frames: list[bytes] = []
        size = 0
        while left and size < FRAMES_BYTES:
            frame = self._encoder.entry(left.pop())
            frames.append(frame)
            size += len(frame)
        return b"".join(frames)

    async def _put(self, body: bytes, *, more: bool) -> None:
        self.sent_at = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": torn(body) if more else body, "more_body": more})

    def speak_up(self) -> None:
        """Say a word, if it can be said at once: who is behind in reading hears something anyway."""
        if self._encoder.closed:
            return
        saying = self._put(self._encoder.silence(), more=True)
        try:
            saying.send(None)
        except StopIteration:
            pass
        except OSError as error:
            logger.debug("a reader could not be told anything: %s", error)
        else:
            saying.close()


async def _until_gone(receive: Receive) -> Never:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _Gone
