"""Frames from a tape to a socket: back-pressure, life signs on silence, and notice of a reader that went away."""

import asyncio
import logging

from starlette.types import Receive, Send

from dragoman.core.errors import DragomanError
from dragoman.runtime.runs import Reader
from dragoman.wire.dialect import Encoder

logger = logging.getLogger("dragoman.edge")

SILENCE_S = 15.0
"""A comment goes out after this long without a frame, so that no proxy takes the connection for dead."""


class _Gone(Exception):
    """The reader closed its connection."""


class FrameStream:
    """One reader's stream. `send` waits while the socket is full, so a slow reader holds only its own cursor back."""

    def __init__(self, encoder: Encoder, reader: Reader, *, silence_s: float = SILENCE_S) -> None:
        self._encoder = encoder
        self._reader = reader
        self._silence_s = silence_s
        self._sent = 0

    async def run(self, opening: bytes, receive: Receive, send: Send) -> None:
        """Send `opening` and all frames until the run's end, and close the body. The headers were sent before.

        Returns early, without a word, when the reader is gone: that changes nothing for the run.
        """
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch(receive, send))
                await self._pump(opening, send)
                watch.cancel()
        except* (_Gone, OSError):
            logger.debug("a reader went away at entry %d", self._reader.cursor)

    async def _pump(self, opening: bytes, send: Send) -> None:
        encoder = self._encoder
        if opening:
            await self._put(send, opening, more=True)
        try:
            while not encoder.closed:
                entries = await self._reader.batch()
                if not entries:
                    break
                if body := b"".join(map(encoder.entry, entries)):
                    await self._put(send, body, more=not encoder.closed)
        except DragomanError as error:
            logger.warning("a stream ended early: %s", error)
            await self._put(send, encoder.failed(error), more=False)
            return
        if not encoder.closed:
            await self._put(send, b"", more=False)

    async def _put(self, send: Send, body: bytes, *, more: bool) -> None:
        self._sent += 1
        await send({"type": "http.response.body", "body": body, "more_body": more})

    async def _watch(self, receive: Receive, send: Send) -> None:
        while True:
            sent_before = self._sent
            try:
                async with asyncio.timeout(self._silence_s):
                    message = await receive()
            except TimeoutError:
                if self._sent == sent_before and not self._encoder.closed:
                    await self._put(send, self._encoder.silence(), more=True)
                continue
            if message["type"] == "http.disconnect":
                raise _Gone
