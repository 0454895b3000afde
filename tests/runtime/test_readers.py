"""Readers begin anywhere on a run and hear everything behind that place once, and nothing of other runs."""

import asyncio
from collections.abc import Sequence

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Expired, NotFound
from dragoman.core.events import Entry
from dragoman.core.names import ProjectId, RunId
from dragoman.core.operations import FollowRun
from dragoman.runtime.readers import BATCH_CHARS, READ_MAX, OutcomeFold
from dragoman.stores.memory.store import MemoryStore
from tests.parts import ADMIN, Gate, ScriptedReplies, text_reply
from tests.runtime.scene import Scene, scene_of, until, within
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
