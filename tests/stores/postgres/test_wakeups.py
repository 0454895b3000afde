import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import Unavailable
from dragoman.core.events import Entry
from dragoman.core.names import RunId, Tape
from dragoman.runtime.leases import Bell
from dragoman.runtime.tail import Tails
from dragoman.stores.postgres.tasks import Tasks
from dragoman.stores.postgres.wakeups import MESSAGE_BYTES_MAX, Wakeups

T = Tape(7)


class Hand:
    """A carrier that is worked by hand. `broken`: nothing can be sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.broken = False
        self.closed = False
        self.sending = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.listeners: asyncio.Queue[tuple[Callable[[str], None], Callable[[], None], asyncio.Future[None]]]
        self.listeners = asyncio.Queue()

    async def publish(self, messages: Sequence[str]) -> None:
        if self.broken:
            raise Unavailable("broken")
        self.sending.set()
        await self.go_on.wait()
        self.sent += messages

    async def listen(self, heard: Callable[[str], None], started: Callable[[], None]) -> None:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self.listeners.put((heard, started, lost))
        await lost

    async def close(self) -> None:
        self.closed = True


class House:
    """Wake-ups over a carrier worked by hand, and what they wake."""

    def __init__(self, *, look_every_s: float = 60.0) -> None:
        self.hand = Hand()
        self.tails = Tails(sure_s=60.0)
        self.bell = Bell()
        self.tasks = Tasks()
        self.in_database: dict[int, int] = {}
        self.looks = 0
        self.away = False
        self.wakeups = Wakeups(
            self.hand, self.tails, self.bell, self.tasks, self._heads, sender="me", look_every_s=look_every_s
        )

    async def _heads(self, tapes: Sequence[Tape]) -> list[tuple[int, int]]:
        self.looks += 1
        if self.away:
            raise Unavailable("away")
        return [(tape, self.in_database[tape]) for tape in tapes if tape in self.in_database]

    def push(self, *seqs: int) -> None:
        entries = [Entry(seq, RunId("r"), 0.0, ev.TextAdded("x")) for seq in seqs]
        self.tails.push(T, entries, [1] * len(entries))

    async def wait(self, after: int) -> "asyncio.Task[None]":
        """Somebody who waits on the tape."""

        async def look() -> int:
            return after

        task = asyncio.ensure_future(self.tails.grown(T, after=after, look=look))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
        return task

    async def rang(self) -> bool:
        task = asyncio.ensure_future(self.bell.rung())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        return task.done() and not task.cancelled()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    yield made
    await made.tasks.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


# -- telling ---------------------------------------------------------------------------------------------------------


async def test_what_happens_while_a_message_is_on_its_way_goes_into_the_next(house: House):
    house.hand.go_on.clear()
    house.wakeups.wrote(T, 3)
    await asyncio.wait_for(house.hand.sending.wait(), 5)
    for head in (4, 5, 6):
        house.wakeups.wrote(T, head)
    house.wakeups.wrote(Tape(8), 2)
    house.wakeups.gone(Tape(9))
    house.wakeups.ring()
    house.hand.go_on.set()
    await until(lambda: len(house.hand.sent) == 2)
    assert house.hand.sent == ["me 7:3", "me 7:6 8:2 9:0 !"]
    assert await house.rang()  # one's own bell does not wait for anybody


async def test_a_message_is_never_longer_than_can_be_carried(house: House):
    for tape in range(3000):
        house.wakeups.wrote(Tape(10**6 + tape), 10**6)
    await until(lambda: len(house.hand.sent) > 1)
    assert all(len(message) <= MESSAGE_BYTES_MAX for message in house.hand.sent)
    words = [word for message in house.hand.sent for word in message.split(" ")[1:]]
    assert len(set(words)) == len(words) == 3000


async def test_news_that_cannot_be_told_is_dropped_and_the_next_is_told(house: House):
    house.hand.broken = True
    house.wakeups.wrote(T, 3)
    await asyncio.sleep(0.01)
    house.hand.broken = False
    house.wakeups.wrote(Tape(8), 4)
    await until(lambda: house.hand.sent)
    assert house.hand.sent == ["me 8:4"]


async def test_who_closes_says_what_is_left_to_say(house: House):
    house.hand.go_on.clear()
    house.wakeups.wrote(T, 3)
    await asyncio.wait_for(house.hand.sending.wait(), 5)
    house.wakeups.ring()
    house.hand.go_on.set()
    await house.wakeups.close()
    assert house.hand.sent == ["me 7:3", "me !"]
    assert house.hand.closed
    house.wakeups.wrote(T, 4)
    await asyncio.sleep(0)
    assert len(house.hand.sent) == 2


# -- hearing ---------------------------------------------------------------------------------------------------------


async def test_who_waits_is_woken_by_news_from_elsewhere(house: House):
    house.wakeups.start()
    heard, started, _ = await asyncio.wait_for(house.hand.listeners.get(), 5)
    assert not house.wakeups.listening
    started()
    assert house.wakeups.listening
    waiting = await house.wait(3)
    heard("other 8:9")
    heard("other 7:3")
    heard("me 7:4")  # our own, told before
    heard("other 7:x 7 : ! x:4 \ud800 7:-4")
    await asyncio.sleep(0)
    assert not waiting.done()
    heard("other 7:4")
    await asyncio.wait_for(waiting, 5)
    assert house.tails.read(T, after=3, limit=10) is None  # it is in the log


async def test_a_tape_that_is_gone_wakes_who_waits(house: House):
    house.wakeups.start()
    heard, _, _ = await asyncio.wait_for(house.hand.listeners.get(), 5)
    waiting = await house.wait(3)
    heard("other 7:0")
    await asyncio.wait_for(waiting, 5)
    assert len(house.tails) == 0


async def test_a_ring_is_heard_by_others(house: House):
    house.wakeups.start()
    heard, _, _ = await asyncio.wait_for(house.hand.listeners.get(), 5)
    assert not await house.rang()
    heard("other !")
    assert await house.rang()


async def test_who_listens_again_looks_for_what_it_missed(house: House):
    house.wakeups.start()
    _, started, lost = await asyncio.wait_for(house.hand.listeners.get(), 5)
    started()
    waiting = await house.wait(3)
    lost.set_exception(Unavailable("lost"))
    await until(lambda: not house.wakeups.listening)
    house.in_database[7] = 9
    _, started, _ = await asyncio.wait_for(house.hand.listeners.get(), 5)
    started()
    await asyncio.wait_for(waiting, 5)
    assert await house.rang()
    assert house.wakeups.wakeups_lost == 0  # that was to be expected


# -- looking ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def watchful() -> AsyncIterator[House]:
    made = House(look_every_s=0.01)
    yield made
    await made.tasks.close()


async def test_what_nobody_told_is_found_and_counted(watchful: House):
    watchful.wakeups.start()
    waiting = await watchful.wait(3)
    watchful.in_database[7] = 4
    await asyncio.wait_for(waiting, 5)
    await until(lambda: watchful.wakeups.wakeups_lost == 1)


async def test_a_deleted_tape_is_found_gone(watchful: House):
    watchful.wakeups.start()
    await asyncio.wait_for(await watchful.wait(3), 5)


async def test_only_tapes_that_somebody_waits_on_are_looked_up(watchful: House):
    watchful.push(1, 2, 3)
    watchful.wakeups.start()
    await asyncio.sleep(0.05)
    assert watchful.looks == 0


async def test_a_database_that_is_away_is_asked_again(watchful: House):
    watchful.away = True
    watchful.in_database[7] = 4
    watchful.wakeups.start()
    waiting = await watchful.wait(3)
    await until(lambda: watchful.looks > 2)
    assert not waiting.done()
    watchful.away = False
    await asyncio.wait_for(waiting, 5)
