"""One reader's stream, from entries to chunks."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, DragomanError, NotAuthenticated
from dragoman.core.events import Entry
from dragoman.core.names import RunId
from dragoman.core.operations import Started
from dragoman.edge.silence import Wheel
from dragoman.edge.streaming import FRAMES_BYTES, FrameStream

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

    def held(self) -> bytes:
        return b""

    def failed(self, error: DragomanError) -> bytes:
        self.closed = True
        return b"!" + error.detail.encode()

    def silence(self) -> bytes:
        return b"."


class Gathering(Plain):
    """Holds texts back until it knows that no more are at hand, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self._texts = b""

    def entry(self, entry: Entry) -> bytes:
        if isinstance(entry.event, ev.TextAdded):
            self._texts += entry.event.text.encode()
            return b""
        return self._texts + super().entry(entry)

    def held(self) -> bytes:
        assert not self.closed
        self.asked += 1
        texts, self._texts = self._texts, b""
        return b"[" + texts + b"]" if texts else b""


class Tape:
    """A reader that a test feeds."""

    cursor = 0

    def __init__(self) -> None:
        self._batches: asyncio.Queue[Any] = asyncio.Queue()

    def add(self, *events: ev.Event) -> None:
        self._batches.put_nowait([Entry(1, RunId("r"), 0.0, event) for event in events])

    def end(self) -> None:
        self._batches.put_nowait([])

    def fail(self, error: DragomanError) -> None:
        self._batches.put_nowait(error)

    @property
    def left(self) -> int:
        """Batches that nobody has read yet."""
        return self._batches.qsize()

    async def batch(self) -> Sequence[Entry]:
        batch = await self._batches.get()
        if isinstance(batch, DragomanError):
            raise batch
        return batch


class Socket:
    """Takes what it is sent, unless it is told not to, or to break."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.takes = asyncio.Event()
        self.takes.set()
        self.breaks = False
        self.offered = 0
        """What waits to be taken."""

    async def receive(self) -> dict[str, Any]:
        return await self.inbox.get()

    async def send(self, message: Any) -> None:
        if self.breaks:
            raise BrokenPipeError
        self.offered += 1
        await self.takes.wait()
        self.offered -= 1
        self.sent.put_nowait(dict(message))

    async def next(self) -> tuple[bytes, bool]:
        message = await asyncio.wait_for(self.sent.get(), WAIT_S)
        return message["body"], message["more_body"]


class Watched:
    """Something else on the wheel, which tells how often it was told to speak."""

    def __init__(self, wheel: Wheel) -> None:
        self.sent_at = 0.0
        self.slot = 0
        self._told = 0
        self._wheel = wheel
        wheel.add(self)

    def speak_up(self) -> None:
        self._told += 1

    async def turned(self, times: int) -> None:
        """Wait until all that is on the wheel was silent for so many times as long as it may, and leave."""
        async with asyncio.timeout(WAIT_S):
            while self._told < times:
                await asyncio.sleep(0.001)
        self._wheel.remove(self)


def streaming(
    tape: Tape, socket: Socket, *, wheel: Wheel | None = None, encoder: Plain | None = None
) -> "asyncio.Task[None]":
    stream = FrameStream(encoder or Plain(), tape, Wheel() if wheel is None else wheel, socket.send)
    return asyncio.create_task(stream.run(b"<", socket.receive))


async def test_a_batch_of_entries_is_one_chunk_and_the_last_closes_the_body() -> None:
    tape, socket = Tape(), Socket()
    task = streaming(tape, socket)
    assert await socket.next() == (b"<", True)
    tape.add(ev.TextAdded("a"), ev.TextAdded("b"))
    assert await socket.next() == (b"ab", True)
    tape.add(ev.TextAdded("c"), ev.RunCompleted())
    assert await socket.next() == (b"c>", False)
    await asyncio.wait_for(task, WAIT_S)


class Wordless(Plain):
    """Says nothing of the end."""

    def entry(self, entry: Entry) -> bytes:
        super().entry(entry)
        return b""


async def test_a_stream_that_ends_without_a_word_is_closed_all_the_same() -> None:
    tape, socket = Tape(), Socket()
    task = streaming(tape, socket, encoder=Wordless())
    assert await socket.next() == (b"<", True)
    tape.add(ev.RunCompleted())
    assert await socket.next() == (b"", False)
    await asyncio.wait_for(task, WAIT_S)
    assert socket.sent.empty()


async def test_silence_is_broken_by_a_life_sign_and_only_silence() -> None:
    tape, socket = Tape(), Socket()
    task = streaming(tape, socket, wheel=Wheel(silence_s=0.03))
    assert await socket.next() == (b"<", True)
    assert await socket.next() == (b".", True)
    tape.add(ev.RunCompleted())
    while (chunk := await socket.next()) == (b".", True):
        pass
    assert chunk == (b">", False)
    await asyncio.wait_for(task, WAIT_S)
    assert socket.sent.empty()


async def test_who_is_behind_in_reading_is_not_told_anything_on_top() -> None:
    """A sign of life is for those who wait. It does not queue up behind frames that are not taken."""
    tape, socket = Tape(), Socket()
    wheel = Wheel(silence_s=0.03)
    spoken = Watched(wheel)
    socket.takes.clear()
    task = streaming(tape, socket, wheel=wheel)
    await spoken.turned(3)
    socket.takes.set()
    tape.add(ev.RunCompleted())
    assert [await socket.next() for _ in range(2)] == [(b"<", True), (b">", False)]
    await asyncio.wait_for(task, WAIT_S)
    assert socket.sent.empty()


async def test_what_silence_was_to_be_broken_with_is_not_lost_on_a_socket_that_has_no_room_just_then() -> None:
    tape, socket = Tape(), Socket()
    wheel = Wheel(silence_s=0.03)
    task = streaming(tape, socket, wheel=wheel)
    assert await socket.next() == (b"<", True)
    spoken = Watched(wheel)
    socket.takes.clear()
    await spoken.turned(2)
    assert socket.sent.empty()
    tape.add(ev.RunCompleted())
    socket.takes.set()
    body, more = await socket.next()
    assert (body.rstrip(b">").strip(b"."), body[-1:], more) == (b"", b">", False) and len(body) > 1
    await asyncio.wait_for(task, WAIT_S)


async def test_a_socket_that_breaks_under_a_life_sign_harms_nobody_else() -> None:
    tape, socket = Tape(), Socket()
    wheel = Wheel(silence_s=0.03)
    spoken = Watched(wheel)
    broken, sound = streaming(tape, socket, wheel=wheel), streaming(other := Tape(), far := Socket(), wheel=wheel)
    assert await socket.next() == await far.next() == (b"<", True)
    socket.breaks = True
    await spoken.turned(2)
    socket.inbox.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(broken, WAIT_S)
    other.add(ev.RunCompleted())
    await asyncio.wait_for(sound, WAIT_S)
    assert far.sent.qsize() >= 2 and len(wheel) == 0


@pytest.mark.parametrize(("texts", "chunks"), [(["a" * 1000] * 100, 4), (["a" * 100_000, "b"], 2), (["a"] * 200, 1)])
async def test_not_all_that_is_read_at_once_is_sent_at_once(texts: list[str], chunks: int) -> None:
    tape, socket = Tape(), Socket()
    task = streaming(tape, socket)
    assert await socket.next() == (b"<", True)
    tape.add(*map(ev.TextAdded, texts))
    sent = [(await socket.next())[0] for _ in range(chunks)]
    assert b"".join(sent).decode() == "".join(texts)
    longest = max(map(len, texts))
    assert all(len(chunk) < FRAMES_BYTES + longest for chunk in sent)
    tape.add(ev.RunCompleted())
    assert await socket.next() == (b">", False)
    await asyncio.wait_for(task, WAIT_S)


async def test_a_reader_that_takes_nothing_holds_only_what_is_next() -> None:
    """Nothing more is read from the tape, and made into frames, before what was read is taken."""
    tape, socket = Tape(), Socket()
    task = streaming(tape, socket)
    assert await socket.next() == (b"<", True)
    socket.takes.clear()
    for _ in range(3):
        tape.add(*[ev.TextAdded("a" * 1000)] * 100)
    while tape.left == 3:
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert (tape.left, socket.offered) == (2, 1)
    socket.takes.set()
    tape.add(ev.RunCompleted())
    await asyncio.wait_for(task, WAIT_S)


async def test_what_is_held_back_is_said_once_for_all_that_came_together() -> None:
    tape, socket, encoder = Tape(), Socket(), Gathering()
    task = streaming(tape, socket, encoder=encoder)
    assert await socket.next() == (b"<", True)
    tape.add(*map(ev.TextAdded, "abc"))
    assert await socket.next() == (b"[abc]", True)
    tape.add(ev.TextAdded("d"))
    assert await socket.next() == (b"[d]", True)
    assert encoder.asked == 2
    tape.add(ev.TextAdded("e"), ev.RunCompleted())
    assert await socket.next() == (b"e>", False)
    await asyncio.wait_for(task, WAIT_S)
    assert encoder.asked == 2  # who has said its last word is not asked for more


async def test_what_is_held_back_waits_for_all_that_is_at_hand_however_many_chunks_that_makes() -> None:
    class Both(Gathering):
        def entry(self, entry: Entry) -> bytes:
            return super().entry(entry) + b"." * (FRAMES_BYTES // 2)

    tape, socket, encoder = Tape(), Socket(), Both()
    task = streaming(tape, socket, encoder=encoder)
    assert await socket.next() == (b"<", True)
    tape.add(*map(ev.TextAdded, "abcde"))
    chunks = [(await socket.next())[0] for _ in range(3)]
    assert [b"[" in chunk for chunk in chunks] == [False, False, True]
    assert chunks[-1].endswith(b"[abcde]") and encoder.asked == 1
    tape.add(ev.RunCompleted())
    await asyncio.wait_for(task, WAIT_S)


async def test_where_nothing_is_to_be_said_nothing_is_sent() -> None:
    tape, socket, encoder = Tape(), Socket(), Gathering()
    task = streaming(tape, socket, encoder=encoder)
    assert await socket.next() == (b"<", True)
    tape.add(ev.TextAdded(""))
    tape.add(ev.TextAdded("a"))
    assert await socket.next() == (b"[a]", True)
    tape.end()
    assert await socket.next() == (b"", False)
    await asyncio.wait_for(task, WAIT_S)


async def test_a_reader_that_has_no_more_ends_a_stream_whose_encoder_would_go_on() -> None:
    tape, socket = Tape(), Socket()
    task = streaming(tape, socket)
    assert await socket.next() == (b"<", True)
    tape.add(ev.TextAdded("a"))
    assert await socket.next() == (b"a", True)
    tape.end()
    assert await socket.next() == (b"", False)
    await asyncio.wait_for(task, WAIT_S)


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


# -- sent away ---------------------------------------------------------------------------------------------------------


def watched(tape: Tape, socket: Socket) -> tuple[FrameStream, "asyncio.Task[None]"]:
    stream = FrameStream(Plain(), tape, Wheel(), socket.send)
    return stream, asyncio.create_task(stream.run(b"<", socket.receive))


async def test_a_reader_that_waits_is_sent_away_with_the_reason() -> None:
    tape, socket = Tape(), Socket()
    stream, task = watched(tape, socket)
    assert await socket.next() == (b"<", True)
    await asyncio.sleep(0)
    stream.send_away(NotAuthenticated("revoked"))
    stream.send_away(NotAuthenticated("again"))
    assert await socket.next() == (b"!revoked", False)
    await asyncio.wait_for(task, WAIT_S)
    tape.add(ev.TextAdded("secret"))
    stream.send_away(NotAuthenticated("once more"))
    assert socket.sent.empty()


async def test_a_reader_that_does_not_read_gets_nothing_more_than_the_reason() -> None:
    tape, socket = Tape(), Socket()
    stream, task = watched(tape, socket)
    assert await socket.next() == (b"<", True)
    socket.takes.clear()
    tape.add(ev.TextAdded("secret"))
    while not socket.offered:
        await asyncio.sleep(0)
    tape.add(ev.TextAdded("more"))
    stream.send_away(NotAuthenticated("revoked"))
    await asyncio.sleep(0)
    socket.takes.set()
    assert await socket.next() == (b"!revoked", False)
    await asyncio.wait_for(task, WAIT_S)


async def test_a_task_that_is_cancelled_is_cancelled_also_while_its_reader_is_sent_away() -> None:
    tape, socket = Tape(), Socket()
    stream, task = watched(tape, socket)
    assert await socket.next() == (b"<", True)
    await asyncio.sleep(0)
    stream.send_away(NotAuthenticated("revoked"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, WAIT_S)
    assert socket.sent.empty()
