"""Requests that come a second time, `NewTurn.mark` and what was answered to them; the same for every engine."""

import asyncio

import pytest
from msgspec.structs import replace

from dragoman.core.errors import BadRequest, KeyReused, LimitReached, NotFound
from dragoman.core.events import MessagesImported, TurnStaged
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, ProjectId, RunId
from dragoman.core.operations import Mark
from dragoman.core.workflows import Staging
from dragoman.runtime.ports import KEY_KEPT_S, Accepted
from tests.stores.conftest import Engine
from tests.stores.talk import PROJECT, begin, created, finish, say, turn, wait
from tests.stores.talk import answer as ending
from tests.support import FixedClock

KEYED = Mark("f1", key="k1")
RETRIED = Mark("f1", window_s=10.0)
PLAIN = Mark("f1")


def replay_of(first: Accepted) -> tuple[object, ...]:
    return (first.conversation, first.tape, first.run, first.seq, None, True)


def told(accepted: Accepted) -> tuple[object, ...]:
    return (
        accepted.conversation,
        accepted.tape,
        accepted.run,
        accepted.seq,
        accepted.claim,
        accepted.replayed,
    )


# -- keys ------------------------------------------------------------------------------------------------------------


async def test_the_same_key_is_the_same_turn(store: Engine):
    first = await store.accept(turn("c", "r1", "hi", mark=KEYED))
    assert (first.run, first.replayed) == ("r1", False)
    again = await store.accept(turn("another", "r2", "hi", mark=KEYED))
    assert told(again) == replay_of(first)
    assert await store.run(None, RunId("r2")) is None
    assert await store.get(PROJECT, ConversationId("another")) is None
    assert len(await store.read(first.tape, after=0)) == 3


async def test_a_key_holds_after_the_run_has_ended_and_its_conversation_went_on(store: Engine):
    await say(store, "c", "r0", "q", "a")
    first = await store.accept(turn("c", "r1", mark=KEYED))
    assert first.claim is not None
    await finish(store, first.claim, ending("x"))
    await begin(store, "c", "r2")
    assert told(await store.accept(turn("c", "r3", mark=KEYED))) == replay_of(first)


async def test_a_turn_that_waits_is_found_by_its_key(store: Engine):
    await begin(store, "c", "r0")
    first = await store.accept(turn("c", "r1", mark=KEYED))
    assert first.claim is None
    assert told(await store.accept(turn("c", "r2", mark=KEYED))) == replay_of(first)


async def test_a_repeat_is_recognised_before_anything_is_refused(store: Engine):
    await begin(store, "c", "r0")
    first = await store.accept(turn("c", "r1", queue_max=1, mark=KEYED))
    with pytest.raises(LimitReached):
        await store.accept(turn("c", "r2", queue_max=1))
    assert told(await store.accept(turn("c", "r2", queue_max=1, mark=KEYED))) == replay_of(first)
    assert told(await store.accept(turn("d", "r2", must_exist=True, mark=KEYED))) == replay_of(first)
    assert told(await store.accept(turn("c", "r1", mark=KEYED))) == replay_of(first)


async def test_a_turn_that_was_refused_leaves_no_key(store: Engine):
    with pytest.raises(NotFound):
        await store.accept(turn("c", "r1", must_exist=True, mark=KEYED))
    assert (await store.accept(turn("c", "r1", mark=KEYED))).replayed is False


async def test_a_key_that_means_something_else_is_refused(store: Engine):
    first = await store.accept(turn("c", "r1", mark=KEYED))
    with pytest.raises(KeyReused):
        await store.accept(turn("c", "r2", mark=Mark("f2", key="k1")))
    assert len(await store.read(first.tape, after=0)) == 3
    assert (await store.accept(turn("c", "r2", mark=Mark("f2", key="k2")))).replayed is False


async def test_many_at_once_with_one_key_are_one_turn(store: Engine):
    accepted = await asyncio.gather(*(store.accept(turn("c", f"r{n}", mark=KEYED)) for n in range(20)))
    assert sum(not one.replayed for one in accepted) == 1
    assert len({(one.conversation, one.tape, one.run, one.seq) for one in accepted}) == 1
    assert sum(one.claim is not None for one in accepted) == 1
    assert len(await store.read(accepted[0].tape, after=0)) == 3


async def test_many_at_once_with_keys_of_their_own_are_as_many_turns(store: Engine):
    marks = [Mark("f1", key=f"k{number}") for number in range(10)]
    accepted = await asyncio.gather(
        *(store.accept(turn(f"c{n % 3}", f"r{n}", mark=mark)) for n, mark in enumerate(marks))
    )
    assert [one.replayed for one in accepted] == [False] * 10
    again = await asyncio.gather(*(store.accept(turn("c", f"x{n}", mark=mark)) for n, mark in enumerate(marks)))
    assert list(map(told, again)) == list(map(replay_of, accepted))


async def test_keys_of_two_projects_are_two_keys(store: Engine):
    mine = await store.accept(turn("c", "r1", project="mine", mark=KEYED))
    yours = await store.accept(turn("c", "r2", project="yours", mark=KEYED))
    assert (mine.replayed, yours.replayed) == (False, False)
    assert mine.tape != yours.tape


async def test_a_key_goes_with_its_conversation(store: Engine):
    await store.accept(turn("c", "r1", mark=KEYED))
    await store.accept(turn("d", "r2", mark=Mark("f1", key="k2")))
    await store.delete(PROJECT, ConversationId("c"))
    assert (await store.accept(turn("c", "r3", mark=KEYED))).replayed is False
    assert (await store.accept(turn("d", "r4", mark=Mark("f1", key="k2")))).run == "r2"


async def test_a_key_goes_with_its_project(store: Engine):
    await store.accept(turn("c", "r1", project="mine", mark=KEYED))
    await store.delete_project(ProjectId("mine"))
    assert (await store.accept(turn("c", "r2", project="mine", mark=KEYED))).replayed is False


async def test_a_key_is_known_for_a_day(store: Engine, clock: FixedClock):
    first = await store.accept(turn("c", "r1", mark=KEYED))
    clock.move(KEY_KEPT_S)
    assert told(await store.accept(turn("c", "r2", mark=KEYED))) == replay_of(first)
    clock.move(0.001)
    second = await store.accept(turn("d", "r2", mark=Mark("another", key="k1")))
    assert (second.run, second.replayed) == ("r2", False)
    assert told(await store.accept(turn("d", "r3", mark=Mark("another", key="k1")))) == replay_of(second)


async def test_a_key_given_to_another_turn_does_not_go_with_the_first(store: Engine, clock: FixedClock):
    await store.accept(turn("c", "r1", mark=KEYED))
    clock.move(KEY_KEPT_S + 1)
    second = await store.accept(turn("d", "r2", mark=KEYED))
    await store.delete(PROJECT, ConversationId("c"))
    assert told(await store.accept(turn("c", "r3", mark=KEYED))) == replay_of(second)


async def test_a_key_that_comes_while_its_conversation_is_deleted_names_no_turn_that_is_gone(store: Engine):
    first, _, second = await asyncio.gather(
        store.accept(turn("c", "r1", mark=KEYED)),
        store.delete(PROJECT, ConversationId("c")),
        store.accept(turn("c", "r2", mark=KEYED)),
    )
    assert first.replayed is False
    third = await store.accept(turn("c", "r3", mark=KEYED))
    assert third.run in (second.run, "r3")
    assert await store.run(None, third.run) is not None


async def test_a_key_that_no_engine_can_keep_is_refused(store: Engine):
    with pytest.raises(BadRequest):
        await store.accept(turn("c", "r1", mark=Mark("f", key="a\0")))


# -- without a key ---------------------------------------------------------------------------------------------------


async def test_the_same_request_within_its_window_is_the_same_turn(store: Engine, clock: FixedClock):
    first = await store.accept(turn("c", "r1", mark=PLAIN))
    clock.move(10.0)
    assert told(await store.accept(turn("x", "r2", mark=RETRIED))) == replay_of(first)
    clock.move(0.001)
    assert (await store.accept(turn("c", "r2", mark=RETRIED))).replayed is False


async def test_without_a_window_saying_it_twice_is_two_turns(store: Engine):
    await store.accept(turn("c", "r1", mark=PLAIN))
    assert (await store.accept(turn("c", "r2", mark=PLAIN))).replayed is False


async def test_another_request_or_none_that_is_known_is_no_repeat(store: Engine):
    await store.accept(turn("c", "r1", mark=PLAIN))
    await store.accept(turn("c", "r2"))
    assert (await store.accept(turn("c", "r3", mark=Mark("f2", window_s=10.0)))).replayed is False
    assert (await store.accept(turn("c", "r4", mark=Mark("", window_s=10.0)))).replayed is False
    assert (await store.accept(turn("c", "r5", project="other", mark=RETRIED))).replayed is False


async def test_of_several_the_newest_is_the_one_that_is_repeated(store: Engine, clock: FixedClock):
    await store.accept(turn("a", "r1", mark=PLAIN))
    clock.move(1.0)
    second = await store.accept(turn("b", "r2", mark=PLAIN))
    assert told(await store.accept(turn("a", "r3", mark=RETRIED))) == replay_of(second)


async def test_repeats_at_once_are_one_turn(store: Engine):
    accepted = await asyncio.gather(*(store.accept(turn("c", f"r{n}", mark=RETRIED)) for n in range(10)))
    assert sum(not one.replayed for one in accepted) == 1
    assert len({one.run for one in accepted}) == 1


async def test_a_key_is_looked_at_and_not_the_window(store: Engine):
    await store.accept(turn("c", "r1", mark=PLAIN))
    assert (await store.accept(turn("c", "r2", mark=Mark("f1", key="k1", window_s=10.0)))).replayed is False


async def test_a_repeat_is_recognised_behind_many_other_turns_and_imports(store: Engine):
    first = await store.accept(turn("c", "r1", mark=PLAIN))
    for number in range(8):
        await wait(store, "c", f"w{number}", "x")
        await begin(store, f"c{number}", f"b{number}")
    await store.put_messages(created("old"), MessagesImported(()), at=1.0, updated_at=2.0, run=RunId("import"))
    assert told(await store.accept(turn("x", "r2", mark=RETRIED))) == replay_of(first)
    await store.delete(PROJECT, ConversationId("c"))
    assert (await store.accept(turn("x", "r2", mark=RETRIED))).replayed is False


# -- answers ---------------------------------------------------------------------------------------------------------


async def test_an_answer_is_kept_beside_its_key(store: Engine):
    assert await store.answer_kept(PROJECT, "k1") is None
    await store.accept(turn("c", "r1", mark=KEYED))
    assert await store.answer_kept(PROJECT, "k1") is None
    await store.keep_answer(PROJECT, "k1", b"\x00\xff answer")
    assert await store.answer_kept(PROJECT, "k1") == b"\x00\xff answer"
    assert await store.answer_kept(ProjectId("other"), "k1") is None


async def test_the_first_answer_stays(store: Engine):
    await store.accept(turn("c", "r1", mark=KEYED))
    await store.keep_answer(PROJECT, "k1", b"")
    await store.keep_answer(PROJECT, "k1", b"second")
    assert await store.answer_kept(PROJECT, "k1") == b""


async def test_an_answer_to_an_unknown_key_is_not_kept(store: Engine):
    await store.keep_answer(PROJECT, "k1", b"early")
    assert await store.answer_kept(PROJECT, "k1") is None
    await store.accept(turn("c", "r1", mark=KEYED))
    assert await store.answer_kept(PROJECT, "k1") is None


async def test_an_answer_goes_with_its_key(store: Engine, clock: FixedClock):
    await store.accept(turn("c", "r1", mark=KEYED))
    await store.keep_answer(PROJECT, "k1", b"x")
    clock.move(KEY_KEPT_S + 1)
    assert await store.answer_kept(PROJECT, "k1") is None
    await store.keep_answer(PROJECT, "k1", b"late")
    await store.accept(turn("d", "r2", mark=KEYED))
    assert await store.answer_kept(PROJECT, "k1") is None
    await store.keep_answer(PROJECT, "k1", b"y")
    await store.delete(PROJECT, ConversationId("d"))
    assert await store.answer_kept(PROJECT, "k1") is None


async def test_a_turn_of_a_workflow_is_recognised_like_any_other(store: Engine):
    asked = TurnStaged((said("user", "hi"),), fingerprint="f1", staging=Staging("v1"))
    first = await store.accept(replace(turn("c", "r1"), received=asked, mark=PLAIN))
    again = await store.accept(replace(turn("d", "r2"), received=asked, mark=RETRIED))
    assert told(again) == replay_of(first)
    assert next(entry.event for entry in await store.read(first.tape, after=first.seq - 1)) == asked
