"""Chats of visitors: whose they are, how many, how long they are kept, and what may still be said in them."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from msgspec.structs import replace

from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, Principal, ProjectId, Scope
from dragoman.core.operations import ConversationView, ReadConversation, StartTurn
from dragoman.core.records import Record
from dragoman.core.widget import (
    BeginWidgetChat,
    BrowseWidgetChats,
    CloseWidgetChat,
    ReadWidgetChat,
    ReadWidgetMessages,
    SayInWidgetChat,
)
from dragoman.runtime.conversations import Conversations
from dragoman.runtime.crossing import TRIES_MAX
from dragoman.runtime.keeping import no_conversation
from dragoman.runtime.widget import CHATS_MAX, CLOSED, KIND, UNUSED_S, WidgetChats
from dragoman.stores.memory.records import MemoryRecords
from tests.support import FixedClock

PROJECT = ProjectId("default")
CHAT = ConversationId("0" * 24)


class NothingSaid:
    """Conversations, of which there are none. `asked` is what was wanted."""

    def __init__(self) -> None:
        self.asked: list[tuple[Principal, ReadConversation]] = []

    async def read(self, principal: Principal, operation: ReadConversation) -> ConversationView:
        self.asked.append((principal, operation))
        raise no_conversation(operation.conversation)


class Meddled(MemoryRecords):
    """Others write before each of the next `times` writes."""

    times = 0
    before: Callable[[Record], Record] = staticmethod(lambda record: record)

    async def put(self, record: Record, *, expect: int | None) -> Record:
        if self.times and expect:
            self.times -= 1
            there = await self.get(record.project, record.kind, record.id)
            assert there is not None
            await super().put(self.before(there), expect=there.version)
        return await super().put(record, expect=expect)


class House:
    def __init__(self) -> None:
        self.clock = FixedClock()
        self.records = Meddled(self.clock)
        self.conversations = NothingSaid()
        self.chats = WidgetChats(self.records, cast(Conversations, self.conversations), self.clock)

    async def begin(self, user: str = "u", number: int = 0) -> ConversationId:
        self.clock.move(1)
        chat = ConversationId(f"{number:024x}")
        await self.chats.begin(visitor(user), BeginWidgetChat(chat))
        return chat


def visitor(user: str = "u", project: str = "default", name: str = "Ana") -> Principal:
    return Principal(ProjectId(project), "k", name, frozenset({Scope.CHAT_RUN}), subject=f"widget:{user}")


def turn(chat: ConversationId, kind: type[StartTurn] = SayInWidgetChat) -> StartTurn:
    return kind(chat, (said("user", "hi"),), instructions=("Be kind.",))


@pytest.fixture
def house() -> House:
    return House()


async def test_a_chat_is_what_its_visitor_began(house: House):
    chat = await house.begin()
    found = await house.chats.read(visitor(name="another name by now"), ReadWidgetChat(chat))
    assert (found.id, found.project, found.user_id, found.user_name) == (chat, PROJECT, "u", "Ana")
    assert (found.created_at, found.closed_at) == (house.clock.now(), None)


@pytest.mark.parametrize("other", [visitor("v"), visitor("u", "other"), visitor("")])
async def test_a_chat_is_not_there_for_anybody_else(house: House, other: Principal):
    chat = await house.begin()
    for asked in (
        house.chats.read(other, ReadWidgetChat(chat)),
        house.chats.messages(other, ReadWidgetMessages(chat)),
        house.chats.close(other, CloseWidgetChat(chat)),
        house.chats.prepare(other, turn(chat)),
    ):
        with pytest.raises(NotFound) as refused:
            await asked
        assert refused.value.what == "widget_chat"
    assert (await house.chats.browse(other, BrowseWidgetChats())).items == ()
    assert house.conversations.asked == []


async def test_an_id_is_given_once(house: House):
    await house.begin()
    with pytest.raises(Conflict):
        await house.begin("v")


async def test_a_visitor_has_so_many_chats_and_no_more(house: House):
    for number in range(CHATS_MAX):
        await house.begin(number=number)
    with pytest.raises(Conflict, match=f"{CHATS_MAX} chats"):
        await house.begin(number=CHATS_MAX)
    await house.begin("v", CHATS_MAX)


async def test_a_chat_in_which_nothing_was_said_is_forgotten(house: House):
    unused, used = await house.begin(number=1), await house.begin(number=2)
    await house.chats.prepare(visitor(), turn(used))
    house.clock.move(UNUSED_S)

    await house.chats.read(visitor(), ReadWidgetChat(used))
    with pytest.raises(NotFound):
        await house.chats.read(visitor(), ReadWidgetChat(unused))
    assert [chat.id for chat in (await house.chats.browse(visitor(), BrowseWidgetChats())).items] == [used]


async def test_chats_come_newest_first_whoever_else_has_some(house: House):
    made = [await house.begin(number=number) for number in range(12)]
    await house.begin("v", 12)
    first = await house.chats.browse(visitor(), BrowseWidgetChats())
    rest = await house.chats.browse(visitor(), BrowseWidgetChats(next=first.next))
    assert [chat.id for chat in (*first.items, *rest.items)] == made[::-1]
    assert (await house.chats.browse(visitor(), BrowseWidgetChats(previous=rest.previous))).items == first.items


async def test_nothing_more_is_said_in_a_closed_chat(house: House):
    chat = await house.begin()
    await house.chats.prepare(visitor(), turn(chat))
    house.clock.move(1)
    closed = await house.chats.close(visitor(), CloseWidgetChat(chat))
    house.clock.move(1)

    assert closed.closed_at == house.clock.now() - 1
    assert await house.chats.close(visitor(), CloseWidgetChat(chat)) == closed
    with pytest.raises(BadRequest, match=CLOSED):
        await house.chats.prepare(visitor(), turn(chat))


async def test_a_turn_is_told_who_asks_behind_what_it_has(house: House):
    chat = await house.begin()
    prepared = await house.chats.prepare(visitor(), turn(chat))
    assert prepared == replace(turn(chat), instructions=("Be kind.", prepared.instructions[1]))
    assert prepared.instructions[1].endswith(': {"userId":"u","userName":"Ana"}')


async def test_turns_that_are_in_no_chat_are_left_alone(house: House):
    other = turn(CHAT, StartTurn)
    assert await house.chats.prepare(visitor(), other) is other


async def test_only_the_first_turn_writes(house: House):
    chat = await house.begin()
    await house.chats.prepare(visitor(), turn(chat))
    await house.chats.prepare(visitor(), turn(chat))
    record = await house.records.get(PROJECT, KIND, chat)
    assert record is not None and (record.version, record.expires_at) == (2, None)


async def test_what_nobody_said_anything_in_is_an_empty_list(house: House):
    chat = await house.begin()
    page = await house.chats.messages(visitor(), ReadWidgetMessages(chat))
    assert (page.items, page.next, page.previous) == ((), "", "")
    assert house.conversations.asked == [(visitor(), ReadConversation(chat, private=True))]


async def test_a_close_that_comes_between_is_not_lost(house: House):
    chat = await house.begin()
    house.records.times = 1
    house.records.before = lambda record: replace(record, body='{"user_name":"Ana","closed_at":5.0}')
    with pytest.raises(BadRequest, match=CLOSED):
        await house.chats.prepare(visitor(), turn(chat))
    assert (await house.chats.read(visitor(), ReadWidgetChat(chat))).closed_at == 5.0


@pytest.mark.parametrize(("times", "fails"), [(TRIES_MAX - 1, False), (TRIES_MAX, True)])
async def test_others_writes_are_waited_out_so_often(house: House, times: int, fails: bool):
    chat = await house.begin()
    house.records.times = times
    closing: Any = house.chats.close(visitor(), CloseWidgetChat(chat))
    if fails:
        with pytest.raises(Conflict):
            await closing
    else:
        assert (await closing).closed_at is not None


def test_every_operation_has_its_handler(house: House):
    assert set(house.chats.handlers()) == {
        BeginWidgetChat,
        ReadWidgetChat,
        BrowseWidgetChats,
        ReadWidgetMessages,
        CloseWidgetChat,
    }
