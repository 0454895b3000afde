"""Readers of runs: a cursor over the tape, and what waits for an end. One source, and never a queue of their own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.events import Entry
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.operations import Outcome, Started
from dragoman.runtime.ports import Store

STOPPING = "The server is stopping; the answer is finished after its next start."
READ_FIRST, READ_MAX = 32, 200
"""Entries a reader takes at once: to begin with, and when it has seen that they are small."""
BATCH_CHARS = 32 * 1024
"""Text a reader takes at once, one entry at least: what a slow one keeps in memory."""
ENTRY_CHARS = 200
"""What an entry counts for besides its text."""
OPEN = ("queued", "running")
"""`RunView.status` of runs that have not ended."""


class Line:
    """What readers wait on, so that all can be sent away at once."""

    def __init__(self) -> None:
        self._is_cut = False
        self._waiting: set[asyncio.Task[Any]] = set()

    def cut(self) -> None:
        if self._is_cut:
            return
        self._is_cut = True
        for task in self._waiting:
            task.cancel()

    async def wait(self, grown: Callable[[], Awaitable[None]]) -> None:
        """Raises Unavailable once the line is cut."""
        if self._is_cut:
            raise Unavailable(STOPPING)
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a reader waits in a task")
        cancelled_before = task.cancelling()
        self._waiting.add(task)
        try:
            await grown()
        except asyncio.CancelledError:
            # As asyncio.timeout does it: ours is taken back, and if it was the only one, we speak for it.
            if not self._is_cut or task.uncancel() > cancelled_before:
                raise
            raise Unavailable(STOPPING) from None
        finally:
            self._waiting.discard(task)


class Reader:
    """A cursor over one run's entries. It has one source, the tape, and forgets nothing when a wait is cancelled."""

    def __init__(self, store: Store, line: Line, started: Started, after: int | None) -> None:
        self._store = store
        self._line = line
        self._started = started
        self.cursor = started.seq if after is None else after
        self._resumed = after is not None
        """The run may have ended before the cursor, so that no further entry will say so."""
        self._done = False
        self._limit = READ_FIRST
        """How many entries may be worth reading, by what fitted into the last batch."""

    async def batch(self) -> Sequence[Entry]:
        """The run's next entries, as soon as there are any; empty if its end was given or stands before the cursor.

        May be cancelled and called again. Raises Conflict if the conversation is deleted meanwhile; Unavailable.
        """
        store, tape, run = self._store, self._started.tape, self._started.run
        ended = woken = False
        while not self._done:
            entries = self._fitting(await store.read(tape, after=self.cursor, limit=self._limit))
            if entries:
                woken = False
                self.cursor = entries[-1].seq
                ours = [entry for entry in entries if entry.run == run]
                if ours:
                    self._done = isinstance(ours[-1].event, ev.RunEnd)
                    return ours
            elif ended:
                self._done = True
            elif woken or self._resumed:
                ended = await self._has_ended()  # if so, its end was committed by now: read once more
                woken = self._resumed = False
            else:
                await self._line.wait(lambda: store.grown(tape, after=self.cursor))
                woken = True
        return ()

    def _fitting(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """As many of the first as make a batch. What does not fit is read again."""
        if len(entries) < 2:
            return entries
        left = BATCH_CHARS
        for number, entry in enumerate(entries):
            left -= ENTRY_CHARS + _text_chars(entry.event)
            if left < 0 and number:
                self._limit = number
                return entries[:number]
        self._limit = min(self._limit + self._limit // 4 + 1, READ_MAX)
        return entries

    async def _has_ended(self) -> bool:
        view = await self._store.run(None, self._started.run)
        if view is None:
            raise Conflict("The conversation was deleted while the answer was being written.")
        return view.status not in OPEN


def _text_chars(event: ev.Event) -> int:
    """Only of the kinds that have much of it."""
    if isinstance(event, ev.TextAdded | ev.ThinkingAdded | ev.ReplyFinished):
        return len(event.text)
    return len(event.content) if isinstance(event, ev.ToolReturned) else 0


class OutcomeFold:
    """A run's entries -> its Outcome. Of a reply that was reset nothing remains."""

    def __init__(self) -> None:
        self._text = ""
        self._replies = 0
        self._calls: list[ToolCall] = []
        self._end: ev.RunEnd | None = None

    def add(self, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, ev.ReplyFinished):
            self._text = event.text
            self._replies += 1
            self._calls.extend(event.calls)
        elif isinstance(event, ev.RunEnd):
            self._end = event

    def outcome(self, started: Started) -> Outcome:
        if self._end is None:
            raise RuntimeError(f"run {started.run} has no end yet")
        usage: Usage = self._end.usage
        return Outcome(started, self._end, self._text, self._replies, tuple(self._calls), usage)
