"""One reader's stream, from entries to chunks."""

import asyncio
from collections.abc import Sequence
from typing import Any

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, DragomanError
from dragoman.core.events import Entry
from dragoman.core.names import RunId
from dragoman.core.operations import Started
from dragoman.edge.streaming import FrameStream

WAIT_S = 5.0


class Plain:
    """An encoder that shows texts as they are."""

    def __init__(self) -> None:
        self.closed = False

    def opened(self, started: Started) -> bytes:
        return b"<"

    def entry(self, entry: Entry) -> bytes:
        if isinstance(entry.event, ev.TextAdded):
            return entry.event.text.encode()
        self.closed = True
        return b">"

    def failed(self, error: DragomanError) -> bytes:
        self.closed = True
        return b"!" + error.detail.encode()

    def silence(self) -> bytes:
        return b"."


class Tape:
    """A reader that a test feeds."""

    cursor = 0

    def __init__(self) -> None:
        self._batches: asyncio.Queue[Any] = asyncio.Queue()

    def add(self, *events: ev.Event) -> None:
        self._batches.put_nowait([Entry(1, RunId("r"), 0.0, event) for event in events])

    def fail(self, error: DragomanError) -> None:
        self._batches.put_nowait(error)

    async def batch(self) -> Sequence[Entry]:
        batch = await self._batches.get()
        if isinstance(batch, DragomanError):
            raise batch
        return batch


class Socket:
    def __init__(self) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def receive(self) -> dict[str, Any]:
        return await self.inbox.get()

    async def send(self, message: Any) -> None:
        self.sent.put_nowait(dict(message))

    async def next(self) -> tuple[bytes, bool]:
        message = await asyncio.wait_for(self.sent.get(), WAIT_S)
        return message["body"], message["more_body"]


def streaming(tape: Tape, socket: Socket, **options: Any) -> "asyncio.Task[None]":
    stream = FrameStream(Plain(), tape, **options)  # type: ignore[arg-type] a reader by shape
    return asyncio.create_task(stream.run(b"<", socket.receive, socket.send))


async def test_a_batch_of_entries_is_one_chunk_and_the_last_closes_the_body() -> None:
    tape, socket = Tape(), Socket()
    task = streaming(tape, socket)
    assert await socket.next() == (b"<", True)
    tape.add(ev.TextAdded("a"), ev.TextAdded("b"))
    assert await socket.next() == (b"ab", True)
    tape.add(ev.TextAdded("c"), ev.RunCompleted())
    assert await socket.next() == (b"c>", False)
    await asyncio.wait_for(task, WAIT_S)


async def test_silence_is_broken_by_a_life_sign_and_only_silence() -> None:
    tape, socket = Tape(), Socket()
    task = streaming(tape, socket, silence_s=0.01)
    assert await socket.next() == (b"<", True)
    assert await socket.next() == (b".", True)
    tape.add(ev.RunCompleted())
    while (chunk := await socket.next()) == (b".", True):
        pass
    assert chunk == (b">", False)
    await asyncio.wait_for(task, WAIT_S)
    assert socket.sent.empty()


async def test_a_stream_that_cannot_go_on_says_so_in_its_own_words() -> None:
    tape, socket = Tape(), Socket()
    task = streaming(tape, socket)
    assert await socket.next() == (b"<", True)
    tape.fail(Conflict("gone"))
    assert await socket.next() == (b"!gone", False)
    await asyncio.wait_for(task, WAIT_S)


async def test_a_reader_that_goes_away_ends_the_stream_without_a_word() -> None:
    tape, socket = Tape(), Socket()
    task = streaming(tape, socket)
    assert await socket.next() == (b"<", True)
    socket.inbox.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(task, WAIT_S)
    assert socket.sent.empty()
