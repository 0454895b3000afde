"""Wake-ups between processes that share the database: which tapes have grown, which are gone, that somebody rang.

They carry numbers, never events: whoever hears one reads the tape. They may come late, twice, in any order or not at
all; what nobody told of is found by looking, once a second, at the tapes that somebody here waits on. They are sent
after the commit and beside it, never in its transaction: PostgreSQL lets only one transaction with a NOTIFY commit at a
time.

A message is `sender tape:head tape:head tape:0 !`: grown, grown, gone, and a ring of the bell.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from dragoman.core.names import Tape
from dragoman.runtime.leases import Bell
from dragoman.runtime.tail import Tails
from dragoman.stores.postgres.tasks import Tasks

logger = logging.getLogger("dragoman.stores.postgres")

MESSAGE_BYTES_MAX = 7 * 1024
"""PostgreSQL takes 8000."""
GAP_S = 0.005
"""Between two messages of one process, so that a busy one does not spend itself on telling."""
GAP_MAX_S = 1.0
"""…while nothing can be told."""
LOOK_EVERY_S = 1.0
SURE_S = LOOK_EVERY_S
"""For how long a tape of which we heard is not looked up again."""
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
LAST_MESSAGE_S = 1.0
"""What a closing store spends on its last message."""

BELL = "!"
WORD_CHARS_MAX = 40
"""Two numbers of a tape have no more."""

Heads = Callable[[Sequence[Tape]], Awaitable[Iterable[tuple[int, int]]]]
"""Looks up the heads of tapes: number and head of those that exist."""


class Carrier(Protocol):
    """Takes messages to all processes that share the database, if it can. Raises whatever it likes when it cannot."""

    async def publish(self, messages: Sequence[str]) -> None: ...

    async def listen(self, heard: Callable[[str], None], started: Callable[[], None]) -> None:
        """Give every message to `heard` until the connection is lost, which it raises. `started`: from here on nothing
        is missed."""
        ...

    async def close(self) -> None: ...


class Wakeups:
    """`listening`: messages of others reach us. `wakeups_lost` counts news that was found by looking before anybody had
    told of it: a few are no harm, many mean that nobody tells."""

    def __init__(
        self,
        carrier: Carrier,
        tails: Tails,
        bell: Bell,
        tasks: Tasks,
        heads: Heads,
        *,
        sender: str,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self.listening = False
        self.wakeups_lost = 0
        self._carrier = carrier
        self._tails = tails
        self._bell = bell
        self._tasks = tasks
        self._heads = heads
        self._sender = sender
        self._look_every_s = look_every_s
        self._due: dict[Tape, int] = {}
        self._rung = False
        self._sending: asyncio.Task[None] | None = None
        self._telling = True
        self._look_now = asyncio.Event()
        self._closed = False

    def start(self) -> None:
        self._tasks.spawn(self._keep_listening())
        self._tasks.spawn(self._keep_looking())

    async def close(self) -> None:
        """Say what is left to say. The tasks are ended by their owner."""
        self._closed = True
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=LAST_MESSAGE_S)
        with suppress(Exception):
            async with asyncio.timeout(LAST_MESSAGE_S):
                await self._carrier.publish(list(self._messages()))
        await self._carrier.close()

    # -- telling ---------------------------------------------------------------------------------------------------

    def wrote(self, tape: Tape, head: int) -> None:
        self._due[tape] = head
        self._send()

    def gone(self, tape: Tape) -> None:
        self._due[tape] = 0
        self._send()

    def ring(self) -> None:
        self._bell.ring()
        self._rung = True
        self._send()

    def _send(self) -> None:
        if self._sending is None and not self._closed:
            self._sending = self._tasks.spawn(self._keep_sending())

    async def _keep_sending(self) -> None:
        try:
            pause_s = GAP_S
            while (self._due or self._rung) and not self._closed:
                pause_s = GAP_S if await self._publish() else min(pause_s * 2, GAP_MAX_S)
                await asyncio.sleep(pause_s)
        finally:
            self._sending = None

    async def _publish(self) -> bool:
        """Tell what is due, and forget it whether or not that went well: others look for themselves."""
        try:
            await self._carrier.publish(list(self._messages()))
        except Exception as error:
            if self._telling:
                logger.warning("other processes cannot be told of news, they find it within a second: %r", error)
            self._telling = False
        else:
            self._telling = True
        return self._telling

    def _messages(self) -> Iterator[str]:
        """What is due, which then is not any more."""
        due, self._due = self._due, {}
        words = [f"{tape}:{head}" for tape, head in due.items()]
        if self._rung:
            self._rung = False
            words.append(BELL)
        message = self._sender
        for word in words:
            if len(message) + 1 + len(word) > MESSAGE_BYTES_MAX:
                yield message
                message = self._sender
            message += " " + word
        if words:
            yield message

    # -- hearing ---------------------------------------------------------------------------------------------------

    async def _keep_listening(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                await self._carrier.listen(self._heard, self._started)
            except Exception as error:
                if self.listening or backoff_s == BACKOFF_FIRST_S:
                    logger.warning("news of other processes is looked for every %g s: %r", self._look_every_s, error)
            if self.listening:
                backoff_s = BACKOFF_FIRST_S
                self.listening = False
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    def _started(self) -> None:
        """We listen; what was said before we missed."""
        self.listening = True
        self._look_now.set()
        self._bell.ring()

    def _heard(self, message: str) -> None:
        sender, *words = message.split(" ")
        if sender == self._sender:
            return
        for word in words:
            if word == BELL:
                self._bell.ring()
                continue
            tape, _, head = word.partition(":")
            if len(word) <= WORD_CHARS_MAX and tape.isdecimal() and head.isdecimal():
                self._tell(Tape(int(tape)), int(head))

    def _tell(self, tape: Tape, head: int) -> bool:
        if head:
            return self._tails.heard(tape, head)
        self._tails.forget(tape)
        return True

    # -- looking ---------------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_every_s):
                    await self._look_now.wait()
            expected = self._look_now.is_set()
            self._look_now.clear()
            try:
                found = await self.look()
            except Exception as error:
                logger.debug("nobody could be asked for news: %r", error)
            else:
                self.wakeups_lost += 0 if expected else found

    async def look(self) -> int:
        """Ask for the heads of all tapes that somebody waits on; how many of them were news."""
        awaited = self._tails.awaited()
        if not awaited:
            return 0
        heads = dict(await self._heads(awaited))
        return sum(self._tell(tape, heads.get(tape, 0)) for tape in awaited)
