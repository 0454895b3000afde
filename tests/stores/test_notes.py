"""What is noted of a conversation beside its runs, `Log.note`; the same for every engine."""

import asyncio
from pathlib import Path

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, NotFound
from dragoman.core.events import Event
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ConversationId, ProjectId
from dragoman.core.operations import ConversationInfo
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from tests.stores.conftest import DURABLE, ENGINES, Engine
from tests.stores.talk import PROJECT, answer, append, begin, say, wait
from tests.support import FixedClock

C = ConversationId("c")
SHARED = ev.SharingChanged(shared=True)
ARCHIVED = ev.ArchivingChanged(archived=True)
TITLE = 'Größe \0 — "zitiert" 🦉'
ALL = (ev.TitleGiven(TITLE), SHARED, ARCHIVED)


async def info(store: Engine) -> ConversationInfo:
    found = await store.get(PROJECT, C)
    assert found is not None
    return found


async def test_notes_stand_on_the_tape_and_belong_to_no_run(store: Engine, clock: FixedClock):
    claim = await say(store, "c", "r1", "q", "a")
    clock.move(1.0)
    assert await store.note(PROJECT, C, ALL) == 9
    entries = await store.read(claim.tape, after=6)
    assert [(entry.seq, entry.run, entry.at, entry.event) for entry in entries] == [
        (seq, "", clock.at, event) for seq, event in enumerate(ALL, 7)
    ]
    view = await store.run(None, claim.run)
    assert view is not None
    assert [entry.seq for entry in await store.read_run(view)] == [2, 3, 4, 5, 6]
    assert [entry.seq for entry in await store.history(claim.tape, before=100, chars_max=100)] == [2, 3, 4, 5, 6]


async def test_lists_show_what_was_noted_last(store: Engine):
    await say(store, "c", "r1", "q", "a")
    assert ((await info(store)).shared, (await info(store)).archived) == (False, False)
    await store.note(PROJECT, C, ALL)
    found = await info(store)
    assert (found.title, found.shared, found.archived, found.head) == (TITLE, True, True, 9)
    await store.note(PROJECT, C, (ev.ArchivingChanged(archived=False), ev.SharingChanged(shared=False), SHARED))
    found = await info(store)
    assert (found.title, found.shared, found.archived, found.head) == (TITLE, True, False, 12)
    assert (await store.page(PROJECT, after="", limit=1)).items == (found,)


@pytest.mark.parametrize(("note", "news"), [(SHARED, False), (ARCHIVED, False), (ev.TitleGiven("t"), True)])
async def test_only_a_title_is_news_of_a_conversation(store: Engine, clock: FixedClock, note: Event, news: bool):
    await say(store, "c", "r1", "q", "a")
    before = (await info(store)).updated_at
    clock.move(5.0)
    await store.note(PROJECT, C, (note,))
    assert (await info(store)).updated_at == before + 5.0 * news
    await say(store, "c", "r2", "q", "a")
    assert (await info(store)).updated_at == clock.at


async def test_an_owner_may_give_a_title_between_its_own_entries(store: Engine):
    claim = await begin(store, "c", "r1")
    await append(store, claim, (ev.TitleGiven("own"), ev.TextAdded("x")))
    assert (await info(store)).title == "own"


@pytest.mark.parametrize("within", ["append", "finish"])
async def test_a_title_given_within_the_run_is_the_conversations_until_another_is(
    store: Engine, clock: FixedClock, within: str
):
    claim = await begin(store, "c", "r1")
    clock.move(1.0)
    titled = (ev.ReplyFinished("x"), ev.TitleGiven(TITLE))
    if within == "append":
        after = await store.append(claim, titled, after=claim.seq)
        assert (await info(store)).title == TITLE
        assert await store.append(claim, titled, after=claim.seq) == after  # the word of it was lost
        await store.finish(claim, (ev.RunCompleted(),), after=after, weight=1)
    else:
        await store.finish(claim, (*titled, ev.RunCompleted()), after=claim.seq, weight=1)
        assert await store.finish(claim, (*titled, ev.RunCompleted()), after=claim.seq, weight=1) is None
    found = await info(store)
    assert (found.title, found.messages, found.head, found.updated_at) == (TITLE, 2, 6, clock.at)
    (given,) = await store.read(claim.tape, after=4, limit=1)
    assert (given.run, given.event) == (claim.run, ev.TitleGiven(TITLE))
    assert [entry.seq for entry in await store.read_run(claim)] == [2, 3, 4, 5, 6]
    await store.note(PROJECT, C, (ev.TitleGiven("renamed"),))
    assert (await info(store)).title == "renamed"
    await say(store, "c", "r2", "q", "a")
    assert (await info(store)).title == "renamed"


@pytest.mark.parametrize("engine", DURABLE)
async def test_a_title_given_within_a_run_is_found_by_who_opens_the_store_next(
    engine: str, tmp_path: Path, clock: FixedClock
):
    async with ENGINES[engine](tmp_path, clock) as store:
        claim = await begin(store, "c", "r1")
        await append(store, claim, (ev.ReplyFinished("x"), ev.TitleGiven(TITLE)))
    clock.move(100.0)
    async with DURABLE[engine](tmp_path, clock) as beside:
        assert (await info(beside)).title == TITLE


async def test_a_call_that_the_server_added_counts_nothing(store: Engine):
    claim = await begin(store, "c", "r1")
    call = ToolCall(CallId("call_1"), "context", "")
    opening = (ev.CallAdded(call), ev.ToolStarted(call), ev.ToolReturned(call.id, "{}", shown="{}"))
    after = await store.append(claim, opening, after=claim.seq)
    assert (await info(store)).messages == 0
    assert [entry.event for entry in await store.read(claim.tape, after=3)] == list(opening)
    await store.finish(claim, (ev.RunCancelled(),), after=after, weight=1)
    assert (await info(store)).messages == 0
    assert [entry.event for entry in await store.history(claim.tape, before=100, chars_max=10)][2:-1] == list(opening)


async def test_what_is_not_there_is_not_noted(store: Engine):
    await begin(store, "c", "r1", project="other")
    with pytest.raises(NotFound) as refused:
        await store.note(PROJECT, C, ALL)
    assert refused.value.what == "conversation"
    claim = await begin(store, "c", "r2")
    await store.delete(PROJECT, C)
    with pytest.raises(NotFound):
        await store.note(PROJECT, C, ALL)
    assert await store.get(PROJECT, C) is None
    assert list(await store.read(claim.tape, after=0)) == []


async def test_what_belongs_to_a_run_is_not_noted(store: Engine):
    await begin(store, "c", "r1")
    for events in ((), (SHARED, ev.TextAdded("x")), (ev.CancelAsked(),), (ev.RunCompleted(),)):
        with pytest.raises(ValueError, match="note"):
            await store.note(PROJECT, C, events)
    with pytest.raises(BadRequest):
        await store.note(PROJECT, C, (ev.TitleGiven("\ud800"),))
    for bad in ("\ud800", "a\0"):
        with pytest.raises(BadRequest):
            await store.note(ProjectId(bad), C, ALL)
        with pytest.raises(BadRequest):
            await store.note(PROJECT, ConversationId(bad), ALL)
    assert (await info(store)).head == 3


async def test_an_owner_writes_on_behind_its_own_last_entry(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await store.note(PROJECT, C, ALL)
    for _ in range(2):  # the second time it stands there already
        assert await store.append(claim, (ev.ReplyStarted("a", "m"),), after=3) == 8
    await store.note(PROJECT, C, (SHARED,))
    following = await store.finish(claim, (ev.ReplyFinished("x"), ev.RunCompleted()), after=8, weight=1)
    assert following is not None
    assert (following.run, following.seq) == ("r2", 12)
    await store.note(PROJECT, C, (SHARED,))
    assert await store.finish(claim, (ev.ReplyFinished("x"), ev.RunCompleted()), after=8, weight=1) == following
    assert await store.append(following, (ev.TextAdded("y"),), after=12) == 14
    assert (await info(store)).messages == 2


async def test_notes_and_an_owner_at_once_leave_no_gap_and_stop_nobody(store: Engine):
    claim = await begin(store, "c", "r1")
    last = claim.seq

    async def write() -> None:
        nonlocal last
        for number in range(20):
            last = await store.append(claim, (ev.TextAdded(str(number)),), after=last)

    async def note(name: str) -> list[int]:
        return [await store.note(PROJECT, C, (ev.TitleGiven(f"{name}{number}"), SHARED)) for number in range(10)]

    async with asyncio.timeout(30):
        _, *noted = await asyncio.gather(write(), note("a"), note("b"))
    assert await store.finish(claim, answer("x"), after=last, weight=1) is None
    entries = await store.read(claim.tape, after=0)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    texts = [entry.event.text for entry in entries if isinstance(entry.event, ev.TextAdded)]
    assert texts == [str(number) for number in range(20)]
    for seqs in noted:
        assert seqs == sorted(seqs)
    titles = {entry.seq: entry.event.title for entry in entries if isinstance(entry.event, ev.TitleGiven)}
    assert sorted(seq - 1 for seqs in noted for seq in seqs) == sorted(titles)
    assert (await info(store)).title == titles[max(titles)]


async def test_a_note_wakes_who_reads_the_tape(store: Engine):
    claim = await begin(store, "c", "r1")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(store.grown(claim.tape, after=3))
        await asyncio.sleep(0)
        await store.note(PROJECT, C, (SHARED,))


@pytest.mark.parametrize(("fuse", "kept"), [("note.before_commit", 3), ("note.after_commit", 4)])
async def test_a_note_has_a_fuse_on_both_sides_of_its_commit(store: Engine, fuse: str, kept: int):
    claim = await begin(store, "c", "r1")
    fuses.arm(f"{fuse}=raise")
    try:
        with pytest.raises(FuseBlown):
            await store.note(PROJECT, C, (SHARED,))
    finally:
        fuses.arm("")
    assert len(await store.read(claim.tape, after=0)) == kept
    assert (await info(store)).shared == (kept == 4)
    assert await store.append(claim, (ev.TextAdded("x"),), after=3) == kept + 1


@pytest.mark.parametrize("engine", DURABLE)
async def test_what_was_noted_is_found_by_who_opens_the_store_next(engine: str, tmp_path: Path, clock: FixedClock):
    async with ENGINES[engine](tmp_path, clock) as store:
        claim = await begin(store, "c", "r1", owner="ann")
        await store.note(PROJECT, C, ALL)
        await append(store, claim, (ev.TextAdded("x"),))
        expected = await info(store)
    async with DURABLE[engine](tmp_path, clock) as beside:
        assert await info(beside) == expected
        assert (expected.title, expected.shared, expected.archived, expected.owner) == (TITLE, True, True, "ann")
        assert len(await beside.read(claim.tape, after=0)) == expected.head == 7
