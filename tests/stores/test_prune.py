"""Text as it grew is dropped a while after its run's end, `Log.prune`; the same for every engine."""

from collections.abc import Sequence

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.names import ConversationId, RunId
from dragoman.core.operations import Mark, RunView
from dragoman.runtime.ports import KEY_KEPT_S, Claim
from tests.stores.conftest import Engine
from tests.stores.talk import PROJECT, append, begin, created, finish, say, seqs, turn, wait
from tests.support import FixedClock

SPOKEN = (
    ev.ReplyStarted("a", "m"),
    ev.ThinkingAdded("hm"),
    ev.TextAdded("x"),
    ev.TextAdded("y"),
    ev.ReplyFinished("xy"),
)


async def spoken(store: Engine, conversation: str, run: str) -> Claim:
    """A whole turn with deltas."""
    claim = await begin(store, conversation, run, "q")
    await append(store, claim, SPOKEN)
    await finish(store, claim, (ev.RunCompleted(),), weight=3)
    return claim


async def view(store: Engine, run: str) -> RunView:
    found = await store.run(None, RunId(run))
    assert found is not None
    return found


def without_deltas(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if not isinstance(entry.event, ev.DELTAS)]


async def test_of_a_run_that_ended_before_all_but_the_deltas_is_kept(store: Engine, clock: FixedClock):
    claim = await spoken(store, "c", "r1")
    whole = await store.read(claim.tape, after=0)
    assert len(without_deltas(whole)) == len(whole) - 3
    clock.move(100.0)
    assert await store.prune(ended_before=clock.at - 50, limit=10) == 1
    assert list(await store.read(claim.tape, after=0)) == without_deltas(whole)
    assert list(await store.read_run(claim)) == without_deltas(whole)[1:]
    assert seqs(list(await store.read(claim.tape, after=3))) == [4, 8, 9]
    assert seqs(list(await store.read(claim.tape, after=5, limit=1))) == [8]
    assert seqs(list(await store.read(claim.tape, after=8))) == [9]
    assert list(await store.history(claim.tape, before=100, chars_max=100)) == without_deltas(whole)[1:]


async def test_the_run_says_that_it_was_pruned(store: Engine, clock: FixedClock):
    await spoken(store, "c", "r1")
    await spoken(store, "c", "r2")
    assert (await view(store, "r1")).pruned is False
    clock.move(1.0)
    assert await store.prune(ended_before=clock.at, limit=1) == 1
    assert [(run.id, run.pruned) for run in await store.runs(PROJECT, limit=9)] == [("r2", False), ("r1", True)]
    assert (await view(store, "r1")).pruned is True


async def test_only_what_ended_before_is_pruned_and_only_once(store: Engine, clock: FixedClock):
    claim = await spoken(store, "c", "r1")
    ended_at = clock.at
    before = await store.read(claim.tape, after=0)
    assert await store.prune(ended_before=ended_at, limit=10) == 0
    assert await store.read(claim.tape, after=0) == before
    assert await store.prune(ended_before=ended_at + 0.001, limit=10) == 1
    assert await store.prune(ended_before=ended_at + 0.001, limit=10) == 0


async def test_the_longest_ended_go_first_and_so_many(store: Engine, clock: FixedClock):
    for number in range(5):
        await spoken(store, f"c{9 - number}", f"r{number}")
        clock.move(1.0)
    assert await store.prune(ended_before=clock.at, limit=0) == 0
    assert await store.prune(ended_before=clock.at, limit=2) == 2
    assert [run.pruned for run in await store.runs(PROJECT, limit=9)] == [False, False, False, True, True]
    assert await store.prune(ended_before=clock.at, limit=10) == 3


async def test_a_run_without_deltas_has_nothing_to_lose(store: Engine, clock: FixedClock):
    await say(store, "c", "r1", "q", "a")
    await store.put_messages(created("d"), ev.MessagesImported(()), at=1.0, updated_at=2.0, run=RunId("r2"))
    await begin(store, "e", "r3")
    await wait(store, "e", "r4")
    await store.end_waiting(RunId("r4"), ev.RunCancelled())
    clock.move(100.0)
    assert await store.prune(ended_before=clock.at, limit=10) == 0
    assert not any(run.pruned for run in await store.runs(PROJECT, limit=9))


async def test_what_is_at_work_keeps_its_deltas(store: Engine, clock: FixedClock):
    claim = await begin(store, "c", "r1")
    await append(store, claim, (ev.TextAdded("x"),))
    clock.move(1000.0)
    assert await store.prune(ended_before=clock.at, limit=10) == 0
    assert await append(store, claim, (ev.TextAdded("y"),)) == 5
    assert seqs(list(await store.read_run(claim))) == [2, 3, 4, 5]


async def test_deltas_of_other_runs_on_the_tape_stay(store: Engine, clock: FixedClock):
    first = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await append(store, first, (ev.TextAdded("one"),))
    second = await finish(store, first, (ev.RunCompleted(),))
    assert second is not None
    clock.move(100.0)
    await append(store, second, (ev.TextAdded("two"),))
    assert await store.prune(ended_before=clock.at, limit=10) == 1
    texts = [entry.event for entry in await store.read(first.tape, after=0) if isinstance(entry.event, ev.DELTAS)]
    assert texts == [ev.TextAdded("two")]
    await append(store, second, (ev.TextAdded("three"),))
    info = await store.get(PROJECT, ConversationId("c"))
    assert info is not None
    assert info.head == 9
    assert seqs(list(await store.read(first.tape, after=0))) == [1, 2, 3, 4, 6, 7, 8, 9]


async def test_a_conversation_goes_on_and_is_deleted_after_it_was_pruned(store: Engine, clock: FixedClock):
    claim = await spoken(store, "c", "r1")
    clock.move(1.0)
    await store.prune(ended_before=clock.at, limit=10)
    again = await spoken(store, "c", "r2")
    assert again.tape == claim.tape
    assert seqs(list(await store.read(claim.tape, after=9))) == list(range(10, 18))
    assert await store.delete(PROJECT, ConversationId("c")) == []
    assert list(await store.read(claim.tape, after=0)) == []


async def test_old_keys_are_forgotten(store: Engine, clock: FixedClock):
    await store.accept(turn("c", "r1", mark=Mark("f", key="old")))
    clock.move(KEY_KEPT_S / 2)
    await store.accept(turn("d", "r2", mark=Mark("f", key="new")))
    clock.move(KEY_KEPT_S / 2 + 1)
    await store.prune(ended_before=0.0, limit=1)
    clock.at -= KEY_KEPT_S / 2  # they would be young enough again
    assert (await store.accept(turn("c", "r3", mark=Mark("f", key="old")))).replayed is False
    assert (await store.accept(turn("d", "r4", mark=Mark("f", key="new")))).replayed is True
