"""Frames from a tape to a socket: back-pressure, life signs on silence, and notice of a reader that went away."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Never, Protocol

from starlette.types import Receive, Send

from dragoman.core.errors import DragomanError, NotAuthenticated, Unavailable
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

    __slots__ = (
        "_away",
        "_encoder",
        "_ended",
        "_pumping",
        "_putting",
        "_reader",
        "_send",
        "_unsaid",
        "_wheel",
        "sent_at",
        "slot",
    )

    def __init__(self, encoder: Encoder, reader: Source, wheel: Wheel, send: Send) -> None:
        self._encoder = encoder
        self._reader = reader
        self._wheel = wheel
        self._send = send
        self._pumping: asyncio.Task[Any] | None = None
        """The task that sends, as long as it may be interrupted."""
        self._away: DragomanError | None = None
        """Why the reader is sent away."""
        self._putting = False
        self._ended = False
        """The body is closed."""
        self._unsaid = b""
        """What silence was to be broken with, and the socket had no room for: it goes before all that follows."""
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
            await self._send_entries()
        except DragomanError as error:
            # Of a server that stops all readers are sent away at once: that is no news of each of them.
            level = logging.INFO if isinstance(error, Unavailable | NotAuthenticated) else logging.WARNING
            logger.log(level, "a stream ended early: %s", error)
            await self._put(encoder.failed(error), more=False)
            return
        if not self._ended:  # also by an encoder that had nothing to say of the end
            await self._put(b"", more=False)

    async def _send_entries(self) -> None:
        """Raises what the reader is sent away with."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is sent by a task")
        encoder, cancelled_before = self._encoder, task.cancelling()
        self._pumping = task
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
        except asyncio.CancelledError:
            # As asyncio.timeout does it: ours is taken back, and if it was the only one, we speak for it.
            if self._away is None or task.uncancel() > cancelled_before:
                raise
            raise self._away from None
        finally:
            self._pumping = None

    def send_away(self, error: DragomanError) -> None:
        """End the stream, and say why, unless it is ending anyway. Not to be called by the task that sends."""
        if self._pumping is not None and self._away is None:
            self._away = error
            self._pumping.cancel()

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
        body, self._unsaid = self._unsaid + body, b""
        self._putting, self._ended = True, not more
        try:
            await self._send_on(body, more=more)
        finally:
            self._putting = False

    async def _send_on(self, body: bytes, *, more: bool) -> None:
        self.sent_at = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": torn(body) if more else body, "more_body": more})

    def speak_up(self) -> None:
        """Say a word, if it can be said at once: who is behind in reading hears something anyway. A socket without room
        has taken nothing of it, and then it is said later."""
        if self._encoder.closed or self._putting:
            return
        body, self._unsaid = self._unsaid + self._encoder.silence(), b""
        saying = self._send_on(body, more=True)
        try:
            saying.send(None)
        except StopIteration:
            pass
        except OSError as error:
            logger.debug("a reader could not be told anything: %s", error)
        else:
            saying.close()
            self._unsaid = body


async def _until_gone(receive: Receive) -> Never:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _Gone
