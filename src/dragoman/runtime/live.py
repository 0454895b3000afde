"""A run that this process drives, and the way from what others wrote to its tape to its driver.

Log.ask ──► the tape ──bell──► Attending ──► Runs.hear ──► Live.hear ──┬─ CancelAsked ──► the task is cut off
                                                                       └─ others ───────► Inbox ──► Driver
"""

import asyncio
from collections.abc import Sequence

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.runtime.ports import Claim


class PutDown(Exception):
    """The process stops, and the run only waits: the next process goes on waiting."""


class Inbox:
    """Entries of the tape for whoever waits for them, in order. They were committed first, and a driver that has read
    them there already knows it by their `seq`."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._filled = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """Nobody is waited for here any more; what has come is still to be taken."""
        self._closed = True
        self._filled.set()

    def put(self, entries: Sequence[Entry]) -> None:
        self._entries += entries
        self._filled.set()

    def take(self) -> Sequence[Entry]:
        """What has come since it was last asked."""
        if not self._filled.is_set():
            return ()
        self._filled.clear()
        taken, self._entries = self._entries, []
        return taken

    async def filled(self, *, within_s: float) -> None:
        """Return when something has come, or that much later. Raises PutDown if nothing has and it is closed."""
        if self._closed and not self._entries:
            raise PutDown
        try:
            async with asyncio.timeout(within_s):
                await self._filled.wait()
        except TimeoutError:
            pass


class Live:
    """A run this process drives, and who asked to stop it."""

    __slots__ = ("cancelled_by", "claim", "driving", "heard", "inbox", "lost", "task")

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.cancelled_by: str | None = None
        self.lost = False
        """It is no longer ours: stop, and write nothing."""
        self.driving = False
        """Its steps are being carried out, and a cancel may cut in. Before, it is enough to say so; after, too late."""
        self.heard = claim.seq
        """The last of what others asked of it that we have read. What was asked before its claim its driver reads."""
        self.inbox = Inbox()
        self.task: asyncio.Task[None]

    def hear(self, entries: Sequence[Entry]) -> None:
        """The run's entries, from wherever on: of what others asked, what is new."""
        asked = [entry for entry in entries if entry.seq > self.heard and isinstance(entry.event, ev.ASKS)]
        if not asked:
            return
        self.heard = asked[-1].seq
        if any(isinstance(entry.event, ev.CancelAsked) for entry in asked):
            self.cancel("")  # who it was stands on the tape
        else:
            self.inbox.put(asked)

    def cancel(self, by: str) -> None:
        if self.cancelled_by is None:
            self.cancelled_by = by
            if self.driving:
                self.task.cancel()
