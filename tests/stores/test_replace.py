"""`runtime.ports.Conversations.replace_messages`, the same for every engine."""

import asyncio
from pathlib import Path

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.messages import Message, said
from dragoman.core.names import ConversationId, ProjectId, RunId
from dragoman.core.operations import ConversationInfo, RunView
from dragoman.core.transcript import Transcript
from dragoman.runtime.keeping import HISTORY_CHARS_MAX
from dragoman.stores.postgres.store import PostgresStore
from tests.stores.conftest import DURABLE, ENGINES, Engine
from tests.stores.postgres.replicas import replicas
from tests.stores.talk import PROJECT, answer, begin, finish, say, seqs, turn, wait
from tests.support import FixedClock

C = ConversationId("c")
NEW = (said("user", "uno"), said("assistant", "dos"), said("user", "tres"))


def over(*messages: Message) -> ev.MessagesImported:
    return ev.MessagesImported(messages or NEW, "elastic", replaces=True)


async def replace(store: Engine | PostgresStore, run: str = "r-new", *messages: Message) -> ConversationInfo:
    return await store.replace_messages(PROJECT, C, over(*messages), run=RunId(run))


async def info(store: Engine | PostgresStore) -> ConversationInfo:
    found = await store.get(PROJECT, C)
    assert found is not None
    return found


async def spoken(store: Engine, *, chars_max: int, before: int = 1000) -> list[list[str]]:
    """What is said in each turn of the history."""
    entries = await store.history((await info(store)).tape, before=before, chars_max=chars_max)
    turns = Transcript(entries).turns()
    return [[message.text for message in (*each.asked, *each.answered)] for each in turns]


async def test_the_messages_stand_at_the_end_of_the_tape_as_a_turn_of_their_own(store: Engine, clock: FixedClock):
    began = clock.at
    await say(store, "c", "r1", "hi", "hello")
    await store.note(PROJECT, C, (ev.TitleGiven("Title"), ev.SharingChanged(shared=True)))
    before = await info(store)
    clock.move(7.5)
    made = await replace(store)
    assert made == ConversationInfo(
        *(C, before.tape, "Title", "test", began, clock.at, 3, 1, 9, None, "c1"), shared=True
    )
    assert await info(store) == made
    (last,) = await store.read(before.tape, after=8)
    assert (last.seq, last.run, last.at, last.event) == (9, "r-new", clock.at, over())
    view = await store.run(PROJECT, RunId("r-new"))
    assert view == RunView(RunId("r-new"), C, before.tape, "completed", 0, 9, clock.at, clock.at)
    assert view is not None
    assert list(await store.read_run(view)) == [last]
    assert [run.id for run in await store.runs(PROJECT, limit=5)] == ["r-new", "r1"]
    assert len(await store.read(before.tape, after=0)) == 9


async def test_nothing_before_them_belongs_to_the_conversation_any_more(store: Engine):
    await say(store, "c", "r1", "hi", "hello")
    await say(store, "c", "r2", "more", "yes")
    assert await spoken(store, chars_max=10**6) == [["hi", "hello"], ["more", "yes"]]
    await replace(store)
    expected = [["uno", "dos", "tres"]]
    for chars_max in (0, 5, 100, 10**6, HISTORY_CHARS_MAX, 2**62):
        assert await spoken(store, chars_max=chars_max) == expected
    await say(store, "c", "r3", "cuatro", "cinco")
    expected.append(["cuatro", "cinco"])
    for chars_max in (11, 100, 10**6, HISTORY_CHARS_MAX, 2**62):
        assert await spoken(store, chars_max=chars_max) == expected
    assert await spoken(store, chars_max=10) == expected[1:]
    everything = Transcript(await store.read((await info(store)).tape, after=0)).turns()
    assert [each.run for each in everything] == ["r-new", "r3"]


async def test_no_messages_at_all_leave_an_empty_conversation(store: Engine):
    await say(store, "c", "r1", "hi", "hello")
    made = await store.replace_messages(PROJECT, C, ev.MessagesImported((), replaces=True), run=RunId("r2"))
    assert (made.messages, made.turns) == (0, 1)
    assert await spoken(store, chars_max=10**6) == [[]]


async def test_messages_and_turns_are_counted_anew(store: Engine, clock: FixedClock):
    for number in range(3):
        await say(store, "c", f"r{number}", "q", "a")
    assert ((await info(store)).messages, (await info(store)).turns) == (6, 3)
    made = await replace(store, "r-new", said("user", "x"), said("tool", "result"), said("system", "rules"))
    assert (made.messages, made.turns) == (1, 1)
    await say(store, "c", "r-next", "q", "a")
    assert ((await info(store)).messages, (await info(store)).turns) == (3, 2)
    again = await replace(store, "r-again")
    assert (again.messages, again.turns) == (3, 1)
    assert await spoken(store, chars_max=10**6) == [["uno", "dos", "tres"]]
    assert await store.turns_since(PROJECT, at=clock.at - 1) == 4


async def test_it_is_the_newest_conversation_then(store: Engine, clock: FixedClock):
    for name in ("c", "d"):
        clock.move(1)
        await say(store, name, f"r-{name}", "q", "a")
    clock.move(1)
    await replace(store)
    page = await store.page(PROJECT, after="", limit=0)
    assert max(page.items, key=lambda item: item.updated_at).id == "c"


async def test_readers_are_told(store: Engine):
    claim = await say(store, "c", "r1", "hi", "hello")
    waiting = asyncio.ensure_future(store.grown(claim.tape, after=6))
    await asyncio.sleep(0)
    assert not waiting.done()
    await replace(store)
    await asyncio.wait_for(waiting, 5)
    assert seqs(list(await store.read(claim.tape, after=6))) == [7]


async def test_nothing_is_replaced_while_a_turn_is_at_work_or_waits(store: Engine):
    claim = await begin(store, "c", "r1")
    with pytest.raises(Conflict):
        await replace(store)
    await wait(store, "c", "r2")
    following = await finish(store, claim, answer("x"))
    assert following is not None
    with pytest.raises(Conflict):
        await replace(store)
    assert await store.run(None, RunId("r-new")) is None
    await finish(store, following, answer("y"))
    assert (await replace(store)).turns == 1
    assert await store.unfinished() in ([], ())
    assert list(await store.live_of(PROJECT, "")) == []


async def test_what_is_not_there_is_not_replaced(store: Engine):
    await say(store, "c", "r1", "q", "a")
    for project, conversation in ((PROJECT, "d"), (ProjectId("other"), "c")):
        with pytest.raises(NotFound) as refused:
            await store.replace_messages(project, ConversationId(conversation), over(), run=RunId("r-new"))
        assert refused.value.what == "conversation"
    with pytest.raises(Conflict):
        await replace(store, "r1")
    with pytest.raises(ValueError, match="replace nothing"):
        await store.replace_messages(PROJECT, C, ev.MessagesImported(NEW), run=RunId("r-new"))
    assert (await info(store)).head == 6


@pytest.mark.parametrize("bad", ["\ud800", "a\0"])
async def test_bad_keys_are_refused(store: Engine, bad: str):
    for call in (
        store.replace_messages(ProjectId(bad), C, over(), run=RunId("r")),
        store.replace_messages(PROJECT, ConversationId(bad), over(), run=RunId("r")),
        store.replace_messages(PROJECT, C, over(), run=RunId(bad)),
    ):
        with pytest.raises(BadRequest):
            await call


async def test_a_text_with_a_nul_is_kept_and_half_a_character_is_not(store: Engine):
    await say(store, "c", "r1", "q", "a")
    await replace(store, "r-new", said("user", 'a\0"replaces":true}'))
    assert await spoken(store, chars_max=100) == [['a\0"replaces":true}']]
    with pytest.raises(BadRequest):
        await replace(store, "r-bad", said("user", "\ud800"))
    assert (await info(store)).head == 7


async def test_it_goes_with_its_conversation(store: Engine):
    await say(store, "c", "r1", "q", "a")
    await replace(store)
    assert await store.delete(PROJECT, C) == []
    assert await store.run(None, RunId("r-new")) is None
    assert (await replace_in_a_new_one(store)).head == 7


async def replace_in_a_new_one(store: Engine) -> ConversationInfo:
    await say(store, "c", "r1", "q", "a")
    return await replace(store)


async def test_of_a_turn_and_a_replacement_at_once_none_is_lost(store: Engine):
    await say(store, "c", "r0", "q", "a")
    for number in range(10):
        accepted, replaced = await asyncio.gather(
            store.accept(turn("c", f"r-turn{number}", "hi")),
            replace(store, f"r-over{number}"),
            return_exceptions=True,
        )
        assert not isinstance(accepted, BaseException)
        assert accepted.claim is not None
        assert isinstance(replaced, ConversationInfo | Conflict)
        await finish(store, accepted.claim, answer("x"))
        view = await store.run(None, RunId(f"r-over{number}"))
        assert (view is None) == isinstance(replaced, Conflict)


@pytest.mark.parametrize("engine", DURABLE)
async def test_who_opens_the_store_next_finds_the_same(engine: str, tmp_path: Path, clock: FixedClock):
    async with ENGINES[engine](tmp_path, clock) as store:
        await say(store, "c", "r1", "hi", "hello")
        made = await replace(store)
        await say(store, "c", "r2", "cuatro", "cinco")
    async with DURABLE[engine](tmp_path, clock) as beside:
        assert (await info(beside)).tape == made.tape
        assert await spoken(beside, chars_max=10**6) == [["uno", "dos", "tres"], ["cuatro", "cinco"]]


async def test_of_several_servers_one_replaces_at_a_time():
    async with replicas(2) as servers:
        await say(servers[0], "c", "r1", "hi", "hello")
        await say(servers[1], "c", "r2", "more", "yes")  # what the first remembers is out of date now
        await asyncio.gather(
            *(replace(server, f"r-{index}-{number}") for index, server in enumerate(servers) for number in range(5))
        )
        found = await info(servers[0])
        assert (found.head, found.messages, found.turns) == (11 + 10, 3, 1)
        entries = await servers[1].read(found.tape, after=11)
        assert seqs(list(entries)) == list(range(12, 22))
        assert {entry.event for entry in entries} == {over()}
        claim = (await servers[0].accept(turn("c", "r3", "hi"))).claim
        assert claim is not None
        with pytest.raises(Conflict):
            await replace(servers[1], "r-late")
        assert (await info(servers[1])).head == claim.seq
