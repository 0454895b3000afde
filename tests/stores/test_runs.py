"""`runtime.ports.Runs`, the same for every engine."""

from dragoman.core import events as ev
from dragoman.core.names import ConversationId, ProjectId, RunId
from dragoman.core.operations import RunView
from tests.stores.conftest import Engine
from tests.stores.talk import PROJECT, begin, finish, wait
from tests.support import FixedClock


async def test_a_run_is_seen_from_its_queue_to_its_end(store: Engine, clock: FixedClock):
    at = clock.at
    claim = await begin(store, "c", "r1")
    clock.move(1.0)
    waiting = await wait(store, "c", "r2")
    c = ConversationId("c")
    assert await store.run(PROJECT, RunId("r1")) == RunView(RunId("r1"), c, claim.tape, "running", 1, 2, at)
    assert await store.run(PROJECT, RunId("r2")) == RunView(RunId("r2"), c, claim.tape, "queued", 0, 4, at + 1)
    assert waiting.seq == 4
    clock.move(1.0)
    following = await finish(store, claim, (ev.RunFailed("x", "y"),), weight=1)
    assert following is not None
    assert await store.run(PROJECT, RunId("r1")) == RunView(RunId("r1"), c, claim.tape, "failed", 1, 2, at, at + 2)
    assert await store.run(PROJECT, RunId("r2")) == RunView(RunId("r2"), c, claim.tape, "running", 1, 4, at + 1)
    await store.reclaim(RunId("r2"))
    assert await store.run(PROJECT, RunId("r2")) == RunView(RunId("r2"), c, claim.tape, "running", 2, 4, at + 1)


async def test_every_end_has_its_status(store: Engine):
    ends = {
        "completed": ev.RunCompleted(),
        "failed": ev.RunFailed("a", "b"),
        "cancelled": ev.RunCancelled("me"),
        "needs_client": ev.RunNeedsClient(()),
    }
    for status, end in ends.items():
        claim = await begin(store, "c", status)
        await finish(store, claim, (end,), weight=1)
    assert [run.status for run in await store.runs(PROJECT, limit=10)] == list(reversed(ends))


async def test_a_waiting_run_that_is_ended_was_never_claimed(store: Engine, clock: FixedClock):
    await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await store.end_waiting(RunId("r2"), ev.RunCancelled())
    view = await store.run(PROJECT, RunId("r2"))
    assert view is not None
    assert (view.status, view.epoch, view.ended_at) == ("cancelled", 0, clock.at)
    assert [entry.event for entry in await store.read_run(view)][1:] == [ev.RunCancelled()]


async def test_a_run_is_found_in_its_own_project_or_in_any(store: Engine):
    await begin(store, "c", "r1", project="mine")
    mine = await store.run(ProjectId("mine"), RunId("r1"))
    assert mine is not None
    assert await store.run(None, RunId("r1")) == mine
    assert await store.run(ProjectId("yours"), RunId("r1")) is None
    assert await store.run(None, RunId("R1")) is None


async def test_runs_come_newest_first_and_so_many(store: Engine):
    for number in range(5):
        await begin(store, f"c{number}", f"r{number}")
    await begin(store, "c", "other", project="other")
    assert [run.id for run in await store.runs(PROJECT, limit=10)] == ["r4", "r3", "r2", "r1", "r0"]
    assert [run.id for run in await store.runs(PROJECT, limit=2)] == ["r4", "r3"]
    assert list(await store.runs(PROJECT, limit=0)) == []
    assert list(await store.runs(ProjectId("nobody"), limit=10)) == []
