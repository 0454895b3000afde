"""The ends of live tapes, kept in this process: committed entries for readers that are near the end, and wake-ups.

A cache beside the log, never a path of its own: what is in here was committed first, and a reader that is too far
behind reads the log. Wake-ups carry nothing. Everything here belongs to the event loop's thread.

Where other processes write too, what they wrote is heard of (`heard`), later than it was committed or never. So what is
known of a tape counts for a while only, after which readers are sent to the log again.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from dragoman.core.events import Entry
from dragoman.core.names import Tape

TAPES_MAX = 4096
"""Tapes remembered; the longest untouched go first, those that somebody waits on stay."""
ENTRIES_MAX = 256
"""Newest entries kept of one tape."""
CHARS_MAX = 64 * 1024
"""Characters of JSON kept of one tape."""
TOTAL_CHARS_MAX = 16 * 1024 * 1024
"""Characters of JSON kept of all tapes."""
EVICTIONS_MAX = 8
"""Tapes looked at for eviction by one push, so that a push stays cheap when everybody waits."""

_UNKNOWN = -1


class _Tail:
    """`head` is the seq of the last committed entry, `_UNKNOWN` until we have heard of one; `entries` end there. Both
    count until `sure_until`, on the clock that never goes back."""

    __slots__ = ("chars", "entries", "head", "sizes", "sure_until", "waiters")

    def __init__(self) -> None:
        self.head = _UNKNOWN
        self.entries: list[Entry] = []
        self.sizes: list[int] = []
        self.chars = 0
        self.sure_until = 0.0
        self.waiters: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()


class Tails:
    """What this process knows of the ends of its tapes."""

    def __init__(
        self,
        *,
        tapes_max: int = TAPES_MAX,
        entries_max: int = ENTRIES_MAX,
        chars_max: int = CHARS_MAX,
        total_chars_max: int = TOTAL_CHARS_MAX,
        sure_s: float | None = None,
    ) -> None:
        """`sure_s`: for how long after we heard of a tape nothing is taken to have been written unheard; None = for
        ever, since nobody else writes."""
        self._sure_s = sure_s
        self._tapes_max = tapes_max
        self._entries_max = entries_max
        self._chars_max = chars_max
        self._total_chars_max = total_chars_max
        self._tails: OrderedDict[Tape, _Tail] = OrderedDict()
        self._chars = 0

    def push(self, tape: Tape, entries: Sequence[Entry], sizes: Sequence[int]) -> None:
        """Take over entries just committed, in order, and wake those who wait. `sizes`: characters of each."""
        tail = self._tails.get(tape)
        if tail is None:
            tail = self._tails[tape] = _Tail()
        else:
            self._tails.move_to_end(tape)
            if entries[-1].seq <= tail.head:
                tail.wake()
                return  # we heard of later ones before; these are in the log
            if tail.entries and entries[0].seq != tail.head + 1:
                self._empty(tail)
        self._hear(tail, entries[-1].seq)
        tail.entries.extend(entries)
        tail.sizes.extend(sizes)
        chars = sum(sizes)
        tail.chars += chars
        self._chars += chars
        if len(tail.entries) > self._entries_max or tail.chars > self._chars_max:
            self._shorten(tail)
        if tail.waiters:
            tail.wake()
        if len(self._tails) > self._tapes_max or self._chars > self._total_chars_max:
            self._evict()

    def read(self, tape: Tape, *, after: int, limit: int) -> Sequence[Entry] | None:
        """Committed entries beyond `after`, at most `limit`; None if this reaches not back that far: read the log."""
        tail = self._tails.get(tape)
        if tail is None or tail.head == _UNKNOWN or (self._sure_s is not None and time.monotonic() > tail.sure_until):
            return None
        missing = tail.head - after
        if missing <= 0:
            return ()
        held = len(tail.entries)
        if missing > held:
            return None
        first = held - missing
        return tail.entries[first : first + limit]

    async def grown(self, tape: Tape, *, after: int, look: Callable[[], Awaitable[int | None]]) -> None:
        """Return when the tape may hold an entry beyond `after`, or was forgotten.

        `look` finds the tape's last committed seq in the log, None if there is no such tape. It is asked only when we
        have not heard of the tape, and only once we already listen: nothing can be committed unheard in between.
        """
        tail = self._tails.get(tape)
        if tail is None:
            tail = self._tails[tape] = _Tail()
        elif tail.head > after:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tail.waiters.add(waiter)
        if len(self._tails) > self._tapes_max:
            self._evict()
        try:
            if tail.head == _UNKNOWN:
                head = await look()
                if head is None:
                    return
                tail.waiters.discard(waiter)  # others may wait for this very news
                self._heard(tail, head)
                if tail.head > after:
                    return
                tail.waiters.add(waiter)
            await waiter
        finally:
            tail.waiters.discard(waiter)
            if tail.head == _UNKNOWN and not tail.waiters and self._tails.get(tape) is tail:
                del self._tails[tape]

    def heard(self, tape: Tape, head: int) -> bool:
        """Somebody says that this is the seq of the tape's last committed entry: whether that was news. It may be
        wrong, and a reader who finds it so should forget the tape."""
        tail = self._tails.get(tape)
        return tail is not None and self._heard(tail, head)

    def awaited(self) -> list[Tape]:
        """Tapes that somebody waits on."""
        return [tape for tape, tail in self._tails.items() if tail.waiters]

    def head(self, tape: Tape) -> int | None:
        """The seq of the last committed entry that we have heard of. None if we would not hear of the tape."""
        tail = self._tails.get(tape)
        return None if tail is None or tail.head == _UNKNOWN else tail.head

    def forget(self, tape: Tape) -> None:
        """The tape was deleted: keep nothing of it and wake those who wait, who will find it gone."""
        tail = self._tails.pop(tape, None)
        if tail is not None:
            self._chars -= tail.chars
            tail.wake()

    def __len__(self) -> int:
        """Tapes remembered."""
        return len(self._tails)

    @property
    def chars(self) -> int:
        """Characters of JSON kept of all tapes."""
        return self._chars

    def _hear(self, tail: _Tail, head: int) -> None:
        tail.head = head
        if self._sure_s is not None:
            tail.sure_until = time.monotonic() + self._sure_s

    def _heard(self, tail: _Tail, head: int) -> bool:
        is_news = head > tail.head
        if is_news:
            self._empty(tail)  # those between are in the log
            tail.wake()
        if head >= tail.head:
            self._hear(tail, head)
        return is_news

    def _shorten(self, tail: _Tail) -> None:
        entries, chars = len(tail.entries), tail.chars
        dropped = 0
        # To three quarters, so that a tape that grows entry by entry is cut now and then and not each time.
        while dropped < entries and (
            entries - dropped > self._entries_max * 3 // 4 or chars > self._chars_max * 3 // 4
        ):
            chars -= tail.sizes[dropped]
            dropped += 1
        del tail.entries[:dropped], tail.sizes[:dropped]
        self._chars -= tail.chars - chars
        tail.chars = chars

    def _empty(self, tail: _Tail) -> None:
        self._chars -= tail.chars
        tail.entries, tail.sizes, tail.chars = [], [], 0

    def _evict(self) -> None:
        for _ in range(EVICTIONS_MAX):
            if len(self._tails) <= self._tapes_max and self._chars <= self._total_chars_max:
                return
            tape, tail = next(iter(self._tails.items()))
            self._empty(tail)
            if tail.waiters:
                self._tails.move_to_end(tape)  # readers will find their entries in the log; their wake-up stays here
            else:
                del self._tails[tape]
