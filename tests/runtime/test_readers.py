"""Readers begin anywhere on a run, or on a tape, and hear everything behind that place once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Conflict, Expired, NotFound, Unavailable
from dragoman.core.events import Entry
from dragoman.core.messages import said
from dragoman.core.names import Principal, ProjectId, RunId, Tape
from dragoman.core.operations import FollowConversation, FollowRun, Listening
from dragoman.runtime.ports import Claim, NewTurn
from dragoman.runtime.readers import BATCH_CHARS, READ_MAX, Line, OutcomeFold, TapeReader, resume_tape
from dragoman.stores.memory.store import MemoryStore
from tests.parts import ADMIN, Gate, ScriptedReplies, text_reply
from tests.runtime.scene import CONVERSATION, Scene, Waits, Watched, scene_of, until, within
from tests.support import FixedClock

PIECES = [f"{number} " for number in range(40)]
R1 = RunId("r1")


async def heard(s: Scene, after: int, *, run: str = "r1") -> list[Entry]:
    following = await s.runs.follow(ADMIN.project, FollowRun(RunId(run), after))
    reader = s.runs.reader(following.started, after=following.after)
    entries: list[Entry] = []
    async with asyncio.timeout(5):
        while batch := await reader.batch():
            entries.extend(batch)
    return entries


async def test_from_every_place_a_reader_hears_the_rest_once() -> None:
    async with scene_of(ScriptedReplies(text_reply(*PIECES))) as s:
        await s.outcome(await s.start())
        whole = await heard(s, 0)
        assert isinstance(whole[0].event, ev.TurnReceived) and isinstance(whole[-1].event, ev.RunCompleted)
        for after in range(whole[-1].seq + 1):
            assert await heard(s, after) == [entry for entry in whole if entry.seq > after]


async def test_a_reader_hears_nothing_of_other_runs_on_the_tape() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await s.outcome(await s.start("one"))
        await s.outcome(await s.start("two"))
        for after in range(20):
            try:
                assert {entry.run for entry in await heard(s, after, run="r2")} <= {"r2"}
            except BadRequest:
                assert after > (await s.tape())[-1].seq


async def test_a_reader_that_comes_back_while_the_run_speaks_hears_the_seam_once() -> None:
    """It hangs up after each entry and comes back while entries are being written."""
    model = ScriptedReplies(text_reply(*PIECES))
    model.gate = Gate()
    async with scene_of(model) as s:
        await s.start()
        cursor, entries = 0, []
        while not entries or not ev.is_end(entries[-1].event):
            model.gate.release()
            following = await s.runs.follow(ADMIN.project, FollowRun(R1, cursor))
            reader = s.runs.reader(following.started, after=following.after)
            entries.append((await within(reader.batch()))[0])
            cursor = entries[-1].seq
        assert entries == (await s.tape())[1:]


async def test_a_cursor_beyond_the_tape_is_refused() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await s.outcome(await s.start())
        head = (await s.tape())[-1].seq
        assert await heard(s, head) == []
        with pytest.raises(BadRequest, match=f"{head}"):
            await heard(s, head + 1)


async def test_another_projects_run_cannot_be_followed() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await s.outcome(await s.start())
        with pytest.raises(NotFound):
            await s.runs.follow(ProjectId("elsewhere"), FollowRun(R1))


async def test_after_pruning_a_reader_is_told_and_the_end_can_still_be_heard() -> None:
    clock = FixedClock()
    store = MemoryStore(clock)
    async with scene_of(ScriptedReplies(text_reply("a", "b")), store=store, clock=clock) as s:
        await s.outcome(await s.start())
        await s.settled()
        head = (await s.tape())[-1].seq
        clock.move(1)
        assert await store.prune(ended_before=clock.now(), limit=10) == 1
        for after in range(head):
            with pytest.raises(Expired, match="no longer kept"):
                await heard(s, after)
        assert await heard(s, head) == []


async def test_a_reader_takes_a_bounded_portion_at_once() -> None:
    model = ScriptedReplies(text_reply(*["x"] * (READ_MAX * 2)))
    async with scene_of(model) as s:
        started = await s.start()
        await s.outcome(started)
        reader = s.runs.reader(started)
        sizes: list[int] = []
        while batch := await reader.batch():
            sizes.append(len(batch))
        assert max(sizes) <= READ_MAX and sum(sizes) > READ_MAX * 2


async def test_an_outcome_without_an_end_is_none() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        started = await s.start()
        with pytest.raises(RuntimeError, match="no end"):
            OutcomeFold().outcome(started)
        await until(lambda: not s.runs.live)


# -- how much at once ------------------------------------------------------------------------------------------------


def text_of(batch: Sequence[Entry]) -> int:
    return sum(len(entry.event.text) for entry in batch if isinstance(entry.event, ev.TextAdded))


@pytest.mark.parametrize("piece", ["x" * 1000, "x" * 5000, "x" * (BATCH_CHARS + 1), "x"])
async def test_what_a_reader_takes_at_once_is_bounded_and_nothing_is_missed(piece: str) -> None:
    pieces = [piece] * 300
    model = ScriptedReplies(text_reply(*pieces))
    model.gate = Gate()
    async with scene_of(model) as s:
        started = await s.start()
        for _ in pieces:  # one by one, so that each becomes an entry
            model.gate.release()
            head = (await s.tape())[-1].seq
            await within(s.store.grown(started.tape, after=head))
        model.gate.open()
        await s.outcome(started)
        whole = await heard(s, 0)
        s.store.entries_read = 0
        reader = s.runs.reader(started, after=0)
        batches: list[Sequence[Entry]] = []
        while batch := await within(reader.batch()):
            batches.append(batch)
    assert [entry for batch in batches for entry in batch] == whole and len(whole) > len(pieces)
    assert all(text_of(batch) <= BATCH_CHARS or len(batch) == 1 for batch in batches)
    # One row too many now and then tells how many are worth asking for: the tape is not read many times over.
    assert s.store.entries_read < READ_MAX + 2 * len(whole)


# -- whole tapes -----------------------------------------------------------------------------------------------------

PROJECT = ADMIN.project


class Scribe:
    """Writes a tape as its owner and others would, without a driver."""

    def __init__(self) -> None:
        self.store = MemoryStore(FixedClock())
        self.line = Line()
        self.claim: Claim | None = None
        self.written = 0
        self.waiting: list[RunId] = []
        self._runs = 0

    async def accept(self) -> None:
        self._runs += 1
        run = RunId(f"r{self._runs}")
        received = ev.TurnReceived((said("user", "how is it?"),))
        created = ev.ConversationCreated(PROJECT, CONVERSATION)
        accepted = await self.store.accept(NewTurn(PROJECT, CONVERSATION, run, received, created, queue_max=100))
        if accepted.claim is None:
            self.waiting.append(run)
        else:
            self.claim, self.written = accepted.claim, accepted.claim.seq

    async def say(self) -> None:
        if self.claim is not None:
            self.written = await self.store.append(self.claim, (ev.TextAdded("a"),), after=self.written)

    async def finish(self) -> None:
        if self.claim is not None:
            self.claim = await self.store.finish(self.claim, (ev.RunCompleted(),), after=self.written, weight=1)
            if self.claim is not None:
                self.waiting.remove(self.claim.run)
                self.written = self.claim.seq

    async def give_up(self) -> None:
        """Somebody cancels the turn that waits longest."""
        if self.waiting:
            assert await self.store.end_waiting(self.waiting.pop(0), ev.RunCancelled())

    async def rename(self) -> None:
        if self._runs:
            await self.store.note(PROJECT, CONVERSATION, (ev.TitleGiven("A title"),))

    async def share(self, *, shared: bool) -> None:
        await self.store.note(PROJECT, CONVERSATION, (ev.SharingChanged(shared),))

    async def ask(self) -> None:
        if self.claim is not None:
            await self.store.ask(self.claim.run, ev.CancelAsked("somebody"))

    async def tape(self) -> Sequence[Entry]:
        return await self.store.read(Tape(1), after=0, limit=10**6)

    async def listening(self, after: int) -> Listening:
        info = await self.store.get(PROJECT, CONVERSATION)
        assert info is not None
        return await resume_tape(self.store, PROJECT, info, after=after)

    async def reader(self, after: int) -> TapeReader:
        return TapeReader(self.store, self.line, PROJECT, await self.listening(after))

    async def heard(self, after: int) -> tuple[list[Entry], bool]:
        """All that a reader is given, and whether it is done. Of a line that is cut nobody can wait."""
        self.line.cut()
        reader = await self.reader(after)
        entries: list[Entry] = []
        try:
            while batch := await within(reader.batch()):
                entries.extend(batch)
        except Unavailable:
            return entries, False
        return entries, True


def spans(tape: Sequence[Entry]) -> dict[RunId, tuple[int, float]]:
    """Of each run, the places of its first entry and of its end."""
    found: dict[RunId, tuple[int, float]] = {}
    for entry in tape:
        if entry.run:
            first, _ = found.get(entry.run, (entry.seq, inf))
            found[entry.run] = first, entry.seq if ev.is_end(entry.event) else inf
    return found


ACTIONS = ("accept", "accept", "say", "say", "finish", "finish", "give_up", "rename", "ask")


@given(actions=st.lists(st.sampled_from(ACTIONS), max_size=25))
def test_from_every_place_of_a_tape_a_listener_is_told_what_is_being_said_and_then_all_the_rest(
    actions: list[str],
) -> None:
    async def check() -> None:
        scribe = Scribe()
        await scribe.accept()
        for action in actions:
            await getattr(scribe, action)()
        tape = await scribe.tape()
        runs = spans(tape)
        last_end = max((end for _, end in runs.values() if end < inf), default=0)
        for after in range(len(tape) + 1):
            begun = [first for first, end in runs.values() if first <= after < end]
            begin = min(begun) - 1 if begun else after
            assert await scribe.listening(after) == Listening(CONVERSATION, Tape(1), begin, len(tape))
            entries, done = await scribe.heard(after)
            assert entries == list(tape[begin:])
            assert done == (scribe.claim is None and last_end > after)

    asyncio.run(check())


async def test_a_reader_of_a_tape_hears_what_comes_and_is_done_when_the_last_turn_has_ended() -> None:
    scribe = Scribe()
    await scribe.accept()
    await scribe.accept()
    reader = await scribe.reader(0)
    kinds = [ev.kind_of(entry.event) for entry in await within(reader.batch())]
    assert kinds == ["conversation_created", "turn_received", "run_claimed", "turn_received"]
    for act, told in ((scribe.say, ["text_added"]), (scribe.finish, ["run_completed", "run_claimed"])):
        waiting = asyncio.create_task(reader.batch())
        await asyncio.sleep(0)
        assert not waiting.done()
        await act()
        assert [ev.kind_of(entry.event) for entry in await within(waiting)] == told
    waiting = asyncio.create_task(reader.batch())
    await scribe.finish()
    assert [ev.kind_of(entry.event) for entry in await within(waiting)] == ["run_completed"]
    assert await within(reader.batch()) == () == await within(reader.batch())


async def test_a_turn_that_comes_and_goes_while_a_reader_looks_whether_it_is_done_is_heard() -> None:
    scribe = Scribe()
    await scribe.accept()
    await scribe.finish()
    store = Watched(scribe.store)
    reader = TapeReader(store, Line(), PROJECT, Listening(CONVERSATION, Tape(1), 0))
    assert len(await within(reader.batch())) == 4

    async def meanwhile() -> None:
        store.hooks.clear()
        await scribe.accept()
        await scribe.finish()

    store.hooks["get"] = meanwhile
    assert [ev.kind_of(entry.event) for entry in await within(reader.batch())] == [
        "turn_received",
        "run_claimed",
        "run_completed",
    ]
    assert await within(reader.batch()) == ()


async def test_a_wait_for_more_may_be_given_up_and_taken_up_again() -> None:
    scribe = Scribe()
    await scribe.accept()
    reader = await scribe.reader(0)
    await within(reader.batch())
    for _ in range(3):
        waiting = asyncio.create_task(reader.batch())
        await asyncio.sleep(0)
        waiting.cancel()
        await within(asyncio.wait([waiting]))
        assert waiting.cancelled()
    await scribe.say()
    assert [entry.seq for entry in await within(reader.batch())] == [4]


async def test_a_wake_up_without_news_ends_nothing_and_costs_a_look() -> None:
    scribe = Scribe()
    await scribe.accept()
    await scribe.finish()
    store = Watched(scribe.store)
    early, quiet = asyncio.Semaphore(3), asyncio.Event()

    async def wake_early() -> None:
        await early.acquire()
        if early.locked():
            quiet.set()

    reader = TapeReader(store, Line(), PROJECT, Listening(CONVERSATION, Tape(1), 4))
    store._store = Roused(scribe.store, wake_early)
    waiting = asyncio.create_task(reader.batch())
    await within(quiet.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert store.called.count("get") <= 3
    await scribe.accept()
    early.release()
    assert [ev.kind_of(entry.event) for entry in await within(waiting)] == ["turn_received", "run_claimed"]


class Roused:
    """A store whose readers are woken whenever a test says so, and by nothing else."""

    def __init__(self, store: MemoryStore, wake: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._wake = wake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def grown(self, tape: Tape, *, after: int) -> None:
        await self._wake()


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made anew"])
async def test_who_listens_to_a_conversation_that_is_deleted_is_told(again: bool) -> None:
    scribe = Scribe()
    await scribe.accept()
    await scribe.finish()
    reader = await scribe.reader(4)
    waiting = asyncio.create_task(reader.batch())
    await asyncio.sleep(0)
    await scribe.store.delete(PROJECT, CONVERSATION)
    if again:
        await scribe.accept()
    with pytest.raises(Conflict, match="deleted while it was being read"):
        await within(waiting)


async def test_whether_a_reader_may_still_read_is_looked_up_when_sharing_changes_and_nothing_is_lost_over_it() -> None:
    scribe = Scribe()
    await scribe.accept()
    stranger = Principal(PROJECT, "bert", "bert", frozenset())
    store = Watched(scribe.store)
    reader = TapeReader(store, Line(), PROJECT, Listening(CONVERSATION, Tape(1), 3), reader=stranger)
    await scribe.say()
    await scribe.share(shared=True)
    looking = Waits()
    store.hooks["get"] = looking
    given_up = asyncio.create_task(reader.batch())
    await within(looking.reached.wait())
    given_up.cancel()
    await within(asyncio.wait([given_up]))
    looking.open.set()
    assert [entry.seq for entry in await within(reader.batch())] == [4, 5]
    await scribe.share(shared=False)
    with pytest.raises(NotFound, match="There is no conversation c"):
        await within(reader.batch())


async def test_what_was_said_elsewhere_is_a_turn_that_has_ended() -> None:
    scribe = Scribe()
    created = ev.ConversationCreated(PROJECT, CONVERSATION)
    imported = ev.MessagesImported((said("user", "hi"), said("assistant", "hello")), source="grip")
    await scribe.store.put_messages(created, imported, at=1.0, updated_at=2.0, run=RunId("i1"))
    entries, done = await scribe.heard(0)
    assert ([ev.kind_of(entry.event) for entry in entries], done) == (
        ["conversation_created", "messages_imported"],
        True,
    )
    assert await scribe.heard(2) == ([], False)


async def test_a_tape_whose_deltas_are_gone_is_read_without_them() -> None:
    clock = FixedClock()
    store = MemoryStore(clock)
    async with scene_of(ScriptedReplies(text_reply("a", "b")), store=store, clock=clock) as s:
        await s.outcome(await s.start())
        await s.settled()
        clock.move(1)
        assert await store.prune(ended_before=clock.now(), limit=10) == 1
        listening = await s.conversations.follow(ADMIN, FollowConversation(CONVERSATION))
        reader = s.conversations.reader(ADMIN, listening)
        heard = [ev.kind_of(entry.event) for entry in await within(reader.batch())]
        assert "text_added" not in heard and heard[-2:] == ["reply_finished", "run_completed"]
        assert await within(reader.batch()) == ()


async def test_a_cursor_beyond_a_whole_tape_is_refused() -> None:
    scribe = Scribe()
    await scribe.accept()
    assert (await scribe.listening(3)).after == 1
    with pytest.raises(BadRequest, match="The cursor 4 lies beyond the last entry, 3"):
        await scribe.listening(4)
