"""`runtime.ports.Log`, the same for every engine."""

import asyncio
from collections.abc import Sequence

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Conflict, LimitReached, NotFound
from dragoman.core.events import Entry, Event, dump_event
from dragoman.core.messages import Image, Message, Text, ToolCall, Usage, said
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from dragoman.runtime.ports import Accepted, Claim, StaleClaim
from tests.stores.conftest import Engine
from tests.stores.talk import PROJECT, answer, append, begin, created, finish, received, say, turn, wait
from tests.support import FixedClock


async def whole(store: Engine, tape: Tape) -> list[Entry]:
    return list(await store.read(tape, after=0))


def told(entries: Sequence[Entry]) -> list[tuple[int, str, Event]]:
    return [(entry.seq, entry.run, entry.event) for entry in entries]


def stale(claim: Claim) -> Claim:
    return Claim(claim.project, claim.conversation, claim.tape, claim.run, claim.epoch - 1, claim.seq)


# -- accept ----------------------------------------------------------------------------------------------------------


async def test_the_first_turn_makes_the_conversation_and_may_start(store: Engine, clock: FixedClock):
    accepted = await store.accept(turn("c", "r1", "hi"))
    c = ConversationId("c")
    claim = Claim(PROJECT, c, accepted.tape, RunId("r1"), 1, 3)
    assert accepted == Accepted(c, accepted.tape, RunId("r1"), 2, True, claim)
    assert await whole(store, accepted.tape) == [
        Entry(1, RunId(""), clock.at, created("c")),
        Entry(2, RunId("r1"), clock.at, received("hi")),
        Entry(3, RunId("r1"), clock.at, ev.RunClaimed(1)),
    ]


async def test_a_turn_in_a_conversation_at_rest_may_start(store: Engine):
    first = await say(store, "c", "r1", "hi", "hello")
    accepted = await store.accept(turn("c", "r2", "again"))
    c = ConversationId("c")
    claim = Claim(PROJECT, c, first.tape, RunId("r2"), 1, 8)
    assert accepted == Accepted(c, first.tape, RunId("r2"), 7, False, claim)
    assert told(await store.read(first.tape, after=6)) == [(7, "r2", received("again")), (8, "r2", ev.RunClaimed(1))]


async def test_a_turn_waits_while_another_is_live(store: Engine):
    claim = await begin(store, "c", "r1")
    accepted = await store.accept(turn("c", "r2", "second"))
    assert accepted == Accepted(ConversationId("c"), claim.tape, RunId("r2"), 4, False, None)
    assert told(await store.read(claim.tape, after=3)) == [(4, "r2", received("second"))]


@pytest.mark.parametrize("queue_max", [0, 1, 8])
async def test_a_queue_holds_so_many_and_refuses_the_next(store: Engine, queue_max: int):
    claim = await begin(store, "c", "live")
    for number in range(queue_max):
        await store.accept(turn("c", f"r{number}", queue_max=queue_max))
    with pytest.raises(LimitReached) as refused:
        await store.accept(turn("c", "one too many", queue_max=queue_max))
    assert refused.value.limit == "queue_per_conversation"
    assert len(await whole(store, claim.tape)) == 3 + queue_max
    assert await store.run(None, RunId("one too many")) is None


async def test_a_conversation_that_must_exist_is_not_made(store: Engine):
    with pytest.raises(NotFound) as refused:
        await store.accept(turn("c", "r1", must_exist=True))
    assert refused.value.what == "conversation"
    assert await store.get(PROJECT, ConversationId("c")) is None
    await say(store, "c", "r2", "hi", "hello")
    assert (await store.accept(turn("c", "r3", must_exist=True))).created is False


async def test_one_id_in_two_projects_is_two_conversations(store: Engine):
    mine = await begin(store, "c", "r1", project="mine")
    yours = await begin(store, "c", "r2", project="yours")
    assert mine.tape != yours.tape
    assert (mine.project, yours.project) == ("mine", "yours")


async def test_a_run_id_is_taken_once(store: Engine):
    claim = await begin(store, "c", "r1")
    for conversation in ("c", "d"):
        with pytest.raises(Conflict):
            await store.accept(turn(conversation, "r1"))
    assert len(await whole(store, claim.tape)) == 3
    assert await store.get(PROJECT, ConversationId("d")) is None


@pytest.mark.parametrize(
    "conversation", ["ünïcödé 🦉", "a/b?c=d", "'; drop table entries; --", "%_", " ", "\u00e9", "e\u0301", "x" * 128]
)
async def test_any_text_names_a_conversation_and_is_kept_as_it_is(store: Engine, conversation: str):
    claim = await begin(store, conversation, "r1")
    assert claim.conversation == conversation
    info = await store.get(PROJECT, ConversationId(conversation))
    assert info is not None
    assert info.id == conversation


async def test_ids_are_compared_by_their_bytes(store: Engine):
    names = ["a", "A", "\u00e9", "e\u0301", "a ", "\uff41"]
    tapes = {(await begin(store, name, f"r{number}")).tape for number, name in enumerate(names)}
    assert len(tapes) == len(names)


@pytest.mark.parametrize("bad", ["\ud800", "a\0b"])
async def test_a_key_that_no_engine_can_keep_is_refused_and_named(store: Engine, bad: str):
    refused: list[str] = []
    for attempt in (turn(bad, "r1"), turn("c", bad), turn("c", "r1", project=bad)):
        with pytest.raises(BadRequest) as error:
            await store.accept(attempt)
        refused += [fault.field for fault in error.value.faults]
    assert refused == ["conversation", "run", "project"]


async def test_half_a_character_in_a_text_is_refused_and_the_store_goes_on(store: Engine):
    with pytest.raises(BadRequest):
        await store.accept(turn("c", "r1", "\ud800"))
    claim = await begin(store, "c", "r2")
    with pytest.raises(BadRequest):
        await append(store, claim, (ev.TextAdded("fine"), ev.TextAdded("\udfff")))
    with pytest.raises(BadRequest):
        await finish(store, claim, answer("\ud800"), weight=1)
    assert await append(store, claim, (ev.TextAdded("fine"),)) == 4


# -- append ----------------------------------------------------------------------------------------------------------


async def test_append_gives_the_place_of_the_last(store: Engine):
    claim = await begin(store, "c", "r1")
    assert await append(store, claim, (ev.ReplyStarted("a", "m"), ev.TextAdded("x"), ev.TextAdded("y"))) == 6
    assert await append(store, claim, (ev.ReplyFinished("xy"),)) == 7


EVERY_KIND: tuple[Event, ...] = (
    ev.ReplyStarted("assistant", "m"),
    ev.ThinkingAdded('hm\n"quoted" \\ / \t \u2028 \x7f \x01 \0'),
    ev.TextAdded("grüße 🦉"),
    ev.ReplyFinished("x", (ToolCall(CallId("1"), "t", '{"a": 1}'),), Usage(1, 2), "tool_calls", "hm"),
    ev.ToolStarted(ToolCall(CallId("1"), "t", "not json")),
    ev.ToolReturned(CallId("1"), "", True, 12, "timeout"),
    ev.ApprovalRequested(ToolCall(CallId("2"), "t", ""), "hash", 1_700_000_000.123),
    ev.ApprovalDecided(CallId("2"), False, "me"),
    ev.ClientToolRequested(ToolCall(CallId("3"), "t", "")),
    ev.HandedOver("a", "b"),
    ev.AttemptReset(4),
    ev.TitleGiven("A title"),
)


async def test_every_kind_of_event_comes_back_as_it_went_in(store: Engine):
    claim = await begin(store, "c", "r1")
    await append(store, claim, EVERY_KIND)
    await finish(store, claim, (ev.RunNeedsClient((ToolCall(CallId("1"), "t", "{}"),), Usage(3, 4)),), weight=1)
    view = await store.run(None, RunId("r1"))
    assert view is not None
    from_tape = [entry.event for entry in await store.read(claim.tape, after=3)]
    from_run = [entry.event for entry in (await store.read_run(view))[2:]]
    expected = [*EVERY_KIND, ev.RunNeedsClient((ToolCall(CallId("1"), "t", "{}"),), Usage(3, 4))]
    assert from_tape == from_run == expected
    assert [dump_event(event) for event in from_run] == [dump_event(event) for event in expected]


async def test_a_kind_of_a_newer_version_comes_back_byte_for_byte(store: Engine):
    body = '{"kind":"moon_risen","at":1.50,"who":{"a":[1,2]}}'
    unread = ev.Unread("moon_risen", body)
    claim = await begin(store, "c", "r1")
    assert await store.append(claim, (ev.TextAdded("x"), unread), after=3) == 5
    assert await store.append(claim, (ev.TextAdded("x"), unread), after=3) == 5
    await store.finish(claim, answer("x"), after=5, weight=1)
    view = await store.run(None, RunId("r1"))
    assert view is not None
    for entries in (
        await store.read(claim.tape, after=4, limit=1),
        [entry for entry in await store.read_run(view) if entry.seq == 5],
        [entry for entry in await store.history(claim.tape, before=99, chars_max=99) if entry.seq == 5],
    ):
        assert [entry.event for entry in entries] == [unread]
        assert dump_event(entries[0].event) == body.encode()


async def test_times_come_from_the_clock_of_the_store(store: Engine, clock: FixedClock):
    claim = await begin(store, "c", "r1")
    clock.move(1.5)
    await append(store, claim, (ev.TextAdded("x"),))
    clock.move(-10.0)
    await append(store, claim, (ev.TextAdded("y"),))
    times = [entry.at - 1_700_000_000.25 for entry in await store.read_run(claim)]
    assert times == [0.0, 0.0, 1.5, -8.5]


async def test_many_writers_get_numbers_without_a_gap(store: Engine):
    claims = [await begin(store, f"c{number % 4}-{number}", f"r{number}") for number in range(16)]

    async def write(claim: Claim) -> list[int]:
        got = [claim.seq]
        for n in range(10):
            got.append(await store.append(claim, (ev.TextAdded(str(n)), ev.TextAdded("more")), after=got[-1]))
        return got[1:]

    got = await asyncio.gather(*(write(claim) for claim in claims))
    assert got == [[5 + 2 * n for n in range(10)]] * 16
    for claim in claims:
        entries = await whole(store, claim.tape)
        assert [entry.seq for entry in entries] == list(range(1, 24))
        assert [entry.event for entry in entries[3::2]] == [ev.TextAdded(str(n)) for n in range(10)]


# -- the same again --------------------------------------------------------------------------------------------------


async def test_events_that_stand_there_already_are_not_written_twice(store: Engine):
    claim = await begin(store, "c", "r1")
    events = (ev.ReplyStarted("a", "m"), ev.TextAdded("x"), ev.ThinkingAdded("y"))
    for _ in range(3):
        assert await store.append(claim, events, after=3) == 6
    assert len(await whole(store, claim.tape)) == 6
    assert await store.append(claim, (ev.TextAdded("x"),), after=6) == 7
    assert await store.append(claim, (ev.TextAdded("x"),), after=7) == 8
    assert await store.append(claim, (ev.TextAdded("x"),), after=7) == 8
    assert len(await whole(store, claim.tape)) == 8


async def test_only_the_very_events_behind_their_place_are_taken_for_a_repeat(store: Engine):
    claim = await begin(store, "c", "r1")
    written = (ev.TextAdded("x"), ev.TextAdded("y"))
    await store.append(claim, written, after=3)
    others: tuple[tuple[Event, ...], ...] = (
        (ev.TextAdded("x"),),
        (ev.TextAdded("y"), ev.TextAdded("x")),
        (ev.TextAdded("x"), ev.ThinkingAdded("y")),
        (*written, ev.TextAdded("z")),
    )
    for events in others:
        with pytest.raises(StaleClaim):
            await store.append(claim, events, after=3)
    for after in (-1, 0, 2, 4, 6, 2**32 + 3, 2**70):
        with pytest.raises(StaleClaim):
            await store.append(claim, written, after=after)
    assert len(await whole(store, claim.tape)) == 5


async def test_no_events_only_ask_whether_the_claim_is_good(store: Engine):
    claim = await begin(store, "c", "r1")
    await store.append(claim, (ev.TextAdded("x"),), after=3)
    assert [await store.append(claim, (), after=after) for after in (3, 4)] == [3, 4]
    await store.reclaim(RunId("r1"))
    with pytest.raises(StaleClaim):
        await store.append(claim, (), after=4)


async def test_what_others_wrote_in_between_does_not_hide_a_repeat(store: Engine):
    claim = await begin(store, "c", "r1")
    await store.ask(RunId("r1"), ev.CancelAsked())
    assert await store.append(claim, (ev.TextAdded("x"), ev.ReplyFinished("x")), after=3) == 6
    await wait(store, "c", "r2")
    await store.ask(RunId("r1"), ev.CancelAsked())
    assert await store.append(claim, (ev.TextAdded("x"), ev.ReplyFinished("x")), after=3) == 6
    assert await store.append(claim, (ev.ReplyStarted("a", "m"),), after=6) == 9
    with pytest.raises(StaleClaim):
        await store.append(claim, (ev.TextAdded("x"), ev.ReplyFinished("x")), after=3)


async def test_an_end_that_was_written_is_not_written_twice(store: Engine):
    claim = await begin(store, "c", "r1")
    await store.ask(RunId("r1"), ev.CancelAsked())
    for _ in range(3):
        assert await store.finish(claim, answer("x"), after=3, weight=5) is None
    entries = await whole(store, claim.tape)
    assert [entry.event for entry in entries[4:]] == list(answer("x"))
    await begin(store, "c", "r2")
    assert await store.finish(claim, answer("x"), after=3, weight=5) is None
    info = await store.get(PROJECT, ConversationId("c"))
    assert info is not None
    assert (info.messages, info.turns, info.live_run) == (2, 2, "r2")


async def test_an_end_that_is_told_again_gives_the_claim_that_came_of_it(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    following = await store.finish(claim, answer("x"), after=3, weight=5)
    assert following is not None
    assert following == Claim(PROJECT, ConversationId("c"), claim.tape, RunId("r2"), 1, 8)
    for _ in range(2):
        assert await store.finish(claim, answer("x"), after=3, weight=5) == following
    assert await store.append(following, (ev.TextAdded("y"),), after=8) == 9
    await wait(store, "c", "r3")
    assert await store.finish(claim, answer("x"), after=3, weight=5) == following
    assert len(await whole(store, claim.tape)) == 10


async def test_a_claim_that_came_of_an_end_is_not_given_again_once_it_is_stale(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await wait(store, "c", "r3")
    following = await store.finish(claim, answer("x"), after=3, weight=5)
    assert following is not None
    again = await store.reclaim(following.run)
    assert again is not None
    assert await store.finish(claim, answer("x"), after=3, weight=5) is None
    assert await store.finish(again, (ev.RunCompleted(),), after=again.seq, weight=1) is not None
    assert await store.finish(claim, answer("x"), after=3, weight=5) is None


async def test_only_the_very_end_of_the_very_claim_is_taken_for_a_repeat(store: Engine):
    old = await begin(store, "c", "r1")
    claim = await store.reclaim(RunId("r1"))
    assert claim is not None
    for after in (3, 5):
        with pytest.raises(StaleClaim):
            await store.finish(claim, (ev.RunCompleted(),), after=after, weight=1)
    await store.finish(claim, answer("x"), after=4, weight=1)
    wrong: list[tuple[Claim, tuple[Event, ...], int]] = [
        (old, answer("x"), 4),
        (old, answer("x"), 3),
        (claim, answer("y"), 4),
        (claim, answer("x")[1:], 4),
        (claim, answer("x"), 3),
        (claim, answer("x"), 7),
        (Claim(claim.project, claim.conversation, Tape(99), claim.run, 2, 4), answer("x"), 4),
    ]
    for stale_claim, events, after in wrong:
        with pytest.raises(StaleClaim):
            await store.finish(stale_claim, events, after=after, weight=1)
    assert await store.finish(claim, answer("x")[1:], after=5, weight=1) is None
    await store.delete(PROJECT, ConversationId("c"))
    with pytest.raises(StaleClaim):
        await store.finish(claim, answer("x"), after=4, weight=1)


async def test_the_same_call_twice_at_once_is_written_once(store: Engine):
    claim = await begin(store, "c", "r1")
    appended = await asyncio.gather(*(store.append(claim, (ev.TextAdded("x"),), after=3) for _ in range(5)))
    assert appended == [4] * 5
    await wait(store, "c", "r2")
    ended = await asyncio.gather(*(store.finish(claim, (ev.RunCompleted(),), after=4, weight=1) for _ in range(3)))
    assert ended == [Claim(PROJECT, ConversationId("c"), claim.tape, RunId("r2"), 1, 7)] * 3
    assert len(await whole(store, claim.tape)) == 7


async def test_a_run_is_carried_on_after_an_answer_was_lost(store: Engine):
    claim = await begin(store, "c", "r1")
    fuses.arm("append.after_commit=raise, finish.after_commit=raise")
    try:
        with pytest.raises(FuseBlown):
            await store.append(claim, (ev.TextAdded("x"),), after=3)
        assert await store.append(claim, (ev.TextAdded("x"),), after=3) == 4
        with pytest.raises(FuseBlown):
            await store.finish(claim, answer("x"), after=4, weight=1)
        assert await store.finish(claim, answer("x"), after=4, weight=1) is None
    finally:
        fuses.arm("")
    assert len(await whole(store, claim.tape)) == 7


async def test_an_end_is_not_appended_and_nothing_else_finishes(store: Engine):
    claim = await begin(store, "c", "r1")
    with pytest.raises(ValueError, match="finish"):
        await append(store, claim, (ev.RunCompleted(),))
    for events in ((), (ev.TextAdded("x"),), (ev.RunCompleted(), ev.RunCompleted())):
        with pytest.raises(ValueError, match="end"):
            await finish(store, claim, events, weight=0)
    assert len(await whole(store, claim.tape)) == 3


# -- finish and the queue --------------------------------------------------------------------------------------------


async def test_finish_ends_the_run_and_frees_the_conversation(store: Engine, clock: FixedClock):
    claim = await begin(store, "c", "r1")
    clock.move(2.0)
    assert await finish(store, claim, answer("hello"), weight=7) is None
    assert told(await store.read(claim.tape, after=3)) == [
        (4, "r1", ev.ReplyStarted("assistant", "m")),
        (5, "r1", ev.ReplyFinished("hello")),
        (6, "r1", ev.RunCompleted()),
    ]
    view = await store.run(PROJECT, RunId("r1"))
    assert view is not None
    assert (view.status, view.ended_at) == ("completed", clock.at)


async def test_finish_claims_the_next_in_order_of_acceptance(store: Engine):
    claim = await begin(store, "c", "r1")
    for run in ("r3", "r2", "r4"):
        await wait(store, "c", run)
    order: list[str] = []
    following: Claim | None = claim
    while following is not None:
        order.append(following.run)
        assert following.epoch == 1
        following = await finish(store, following, (ev.RunCompleted(),), weight=1)
    assert order == ["r1", "r3", "r2", "r4"]
    assert told(await store.read(claim.tape, after=6)) == [
        (7, "r1", ev.RunCompleted()),
        (8, "r3", ev.RunClaimed(1)),
        (9, "r3", ev.RunCompleted()),
        (10, "r2", ev.RunClaimed(1)),
        (11, "r2", ev.RunCompleted()),
        (12, "r4", ev.RunClaimed(1)),
        (13, "r4", ev.RunCompleted()),
    ]


async def test_nothing_of_a_run_comes_after_its_end(store: Engine):
    claim = await say(store, "c", "r1", "hi", "hello")
    with pytest.raises(StaleClaim):
        await append(store, claim, (ev.TextAdded("late"),))
    with pytest.raises(StaleClaim):
        await finish(store, claim, (ev.RunCompleted(),), weight=1)
    assert len(await whole(store, claim.tape)) == 6


async def test_a_place_in_the_queue_is_free_again_once_its_turn_has_begun(store: Engine):
    claim = await begin(store, "c", "r1")
    await store.accept(turn("c", "r2", queue_max=1))
    await finish(store, claim, (ev.RunCompleted(),), weight=1)
    assert (await store.accept(turn("c", "r3", queue_max=1))).claim is None


async def test_a_waiting_turn_can_be_ended_and_is_passed_over(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await wait(store, "c", "r3")
    assert await store.end_waiting(RunId("r2"), ev.RunCancelled("me")) is True
    assert told(await store.read(claim.tape, after=5)) == [(6, "r2", ev.RunCancelled("me"))]
    assert await store.end_waiting(RunId("r2"), ev.RunCancelled("me")) is False
    following = await finish(store, claim, (ev.RunCompleted(),), weight=1)
    assert following is not None
    assert following.run == "r3"


async def test_only_a_waiting_turn_is_ended_so(store: Engine):
    claim = await begin(store, "c", "r1")
    assert await store.end_waiting(RunId("r1"), ev.RunCancelled()) is False
    assert await store.end_waiting(RunId("nobody"), ev.RunCancelled()) is False
    await finish(store, claim, (ev.RunCompleted(),), weight=1)
    assert await store.end_waiting(RunId("r1"), ev.RunCancelled()) is False
    assert len(await whole(store, claim.tape)) == 4


# -- claims ----------------------------------------------------------------------------------------------------------


async def test_reclaiming_a_run_makes_its_old_owner_stale(store: Engine):
    old = await begin(store, "c", "r1")
    new = await store.reclaim(RunId("r1"))
    assert new == Claim(old.project, old.conversation, old.tape, old.run, 2, 4)
    with pytest.raises(StaleClaim):
        await append(store, old, (ev.TextAdded("old"),))
    with pytest.raises(StaleClaim):
        await finish(store, old, (ev.RunCompleted(),), weight=1)
    assert await append(store, new, (ev.TextAdded("new"),)) == 5
    assert told(await store.read(old.tape, after=3)) == [(4, "r1", ev.RunClaimed(2)), (5, "r1", ev.TextAdded("new"))]


async def test_only_a_claimed_run_can_be_reclaimed(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    assert await store.reclaim(RunId("r2")) is None
    assert await store.reclaim(RunId("nobody")) is None
    await finish(store, claim, (ev.RunCompleted(),), weight=1)
    assert await store.reclaim(RunId("r1")) is None


async def test_unfinished_runs_are_those_claimed_and_not_ended_oldest_first(store: Engine):
    first = await begin(store, "a", "r1")
    await begin(store, "b", "r2")
    await wait(store, "b", "r3")
    await begin(store, "c", "r4")
    await finish(store, first, (ev.RunFailed("x", "y"),), weight=1)
    views = await store.unfinished()
    assert [(view.id, view.status, view.epoch) for view in views] == [("r2", "running", 1), ("r4", "running", 1)]


async def test_a_claim_made_up_is_stale(store: Engine):
    claim = await begin(store, "c", "r1")
    for wrong in (
        stale(claim),
        Claim(claim.project, claim.conversation, Tape(claim.tape + 100), claim.run, 1, claim.seq),
        Claim(claim.project, claim.conversation, claim.tape, RunId("r2"), 1, claim.seq),
        Claim(claim.project, claim.conversation, claim.tape, claim.run, 2, claim.seq),
    ):
        with pytest.raises(StaleClaim):
            await store.append(wrong, (ev.TextAdded("x"),), after=claim.seq)
        with pytest.raises(StaleClaim):
            await store.append(wrong, (), after=claim.seq)
        with pytest.raises(StaleClaim):
            await store.finish(wrong, (ev.RunCompleted(),), after=claim.seq, weight=1)
    assert len(await whole(store, claim.tape)) == 3


# -- reading ---------------------------------------------------------------------------------------------------------


async def test_reading_goes_on_after_a_place_and_stops_at_the_limit(store: Engine):
    claim = await begin(store, "c", "r1")
    await append(store, claim, tuple(ev.TextAdded(str(n)) for n in range(10)))

    async def read(after: int, limit: int) -> list[int]:
        return [entry.seq for entry in await store.read(claim.tape, after=after, limit=limit)]

    assert await read(0, 1000) == list(range(1, 14))
    assert await read(0, 3) == [1, 2, 3]
    assert await read(11, 5) == [12, 13]
    assert await read(12, 1) == [13]
    assert await read(13, 5) == []
    assert await read(0, 0) == []


@pytest.mark.parametrize("after", [-1, -(2**40), 2**31, 2**32, 2**70])
async def test_a_cursor_never_leaves_its_tape(store: Engine, after: int):
    await begin(store, "a", "r1")
    claim = await begin(store, "b", "r2")
    await begin(store, "c", "r3")
    expected = await store.read(claim.tape, after=0) if after < 0 else []
    assert list(await store.read(claim.tape, after=after)) == list(expected)


async def test_a_tape_that_is_not_there_is_empty(store: Engine):
    assert list(await store.read(Tape(77), after=0)) == []
    assert list(await store.history(Tape(77), before=5, chars_max=100)) == []
    assert list(await store.read_run(Claim(PROJECT, ConversationId("c"), Tape(77), RunId("r"), 1, 3))) == []


async def test_a_run_is_read_without_what_stands_between(store: Engine):
    claim = await begin(store, "c", "r1", "one")
    await append(store, claim, (ev.ReplyStarted("a", "m"), ev.TextAdded("x")))
    await wait(store, "c", "r2", "two")
    await append(store, claim, (ev.TextAdded("y"), ev.ReplyFinished("xy")))
    following = await finish(store, claim, (ev.RunCompleted(),), weight=1)
    assert following is not None
    await append(store, following, (ev.TextAdded("z"),))
    first = await store.run(None, RunId("r1"))
    second = await store.run(None, RunId("r2"))
    assert first is not None
    assert second is not None
    assert told(await store.read_run(first)) == [
        (2, "r1", received("one")),
        (3, "r1", ev.RunClaimed(1)),
        (4, "r1", ev.ReplyStarted("a", "m")),
        (5, "r1", ev.TextAdded("x")),
        (7, "r1", ev.TextAdded("y")),
        (8, "r1", ev.ReplyFinished("xy")),
        (9, "r1", ev.RunCompleted()),
    ]
    expected = [(6, "r2", received("two")), (10, "r2", ev.RunClaimed(1)), (11, "r2", ev.TextAdded("z"))]
    assert told(await store.read_run(second)) == told(await store.read_run(following)) == expected


# -- waiting ---------------------------------------------------------------------------------------------------------


async def test_grown_returns_at_once_when_there_is_more(store: Engine):
    claim = await begin(store, "c", "r1")
    async with asyncio.timeout(5):
        await store.grown(claim.tape, after=2)


async def test_grown_waits_for_the_next_entry(store: Engine):
    claim = await begin(store, "c", "r1")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = [group.create_task(store.grown(claim.tape, after=3)) for _ in range(20)]
        await append(store, await begin(store, "d", "r2"), (ev.TextAdded("elsewhere"),))
        assert not any(task.done() for task in waiting)
        await append(store, claim, (ev.TextAdded("here"),))


async def test_grown_returns_when_the_conversation_is_deleted_or_was_never_there(store: Engine):
    claim = await begin(store, "c", "r1")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(store.grown(claim.tape, after=3))
        group.create_task(store.grown(claim.tape, after=10_000))
        group.create_task(store.grown(Tape(99), after=0))
        await asyncio.sleep(0)
        await store.delete(PROJECT, ConversationId("c"))
    assert list(await store.read(claim.tape, after=0)) == []


async def test_readers_that_wait_and_read_see_everything_once_and_in_order(store: Engine):
    claim = await begin(store, "c", "r1")
    texts = [str(n) for n in range(200)]

    async def read(start_after: int) -> list[Event]:
        seen: list[Event] = []
        cursor = start_after
        while len(seen) < len(texts):
            entries = await store.read(claim.tape, after=cursor, limit=7)
            if not entries:
                await store.grown(claim.tape, after=cursor)
            for entry in entries:
                assert entry.seq == cursor + 1
                cursor = entry.seq
                seen.append(entry.event)
        return seen

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        readers = [group.create_task(read(3)) for _ in range(5)]
        for text in texts:
            await append(store, claim, (ev.TextAdded(text),))
    expected = [ev.TextAdded(text) for text in texts]
    assert [reader.result() for reader in readers] == [expected] * 5


# -- history ---------------------------------------------------------------------------------------------------------


async def history(store: Engine, tape: Tape, *, before: int = 10_000, chars_max: int = 10_000) -> list[str]:
    """The runs a history holds, each once, in the order they come."""
    entries = await store.history(tape, before=before, chars_max=chars_max)
    assert [entry.seq for entry in entries] == sorted(entry.seq for entry in entries)
    return list(dict.fromkeys(entry.run for entry in entries))


async def test_a_history_is_whole_turns_in_order_without_deltas(store: Engine):
    await say(store, "c", "r1", "one", "first")
    claim = await begin(store, "c", "r2", "two")
    call = ToolCall(CallId("1"), "t", "{}")
    spoken: tuple[Event, ...] = (
        ev.ReplyStarted("a", "m"),
        ev.ThinkingAdded("hm"),
        ev.TextAdded("x"),
        ev.ReplyFinished("x", (call,)),
        ev.ToolStarted(call),
        ev.ToolReturned(CallId("1"), "ok"),
    )
    await append(store, claim, spoken)
    await finish(store, claim, answer("second"), weight=20)
    live = await store.accept(turn("c", "r3", "three"))
    entries = await store.history(claim.tape, before=live.seq, chars_max=1000)
    expected = [
        *(entry for entry in await store.read_run(await view(store, "r1"))),
        *(e for e in await store.read_run(await view(store, "r2")) if not isinstance(e.event, ev.DELTAS)),
    ]
    assert list(entries) == expected
    assert len(expected) == 5 + 2 + 4 + 3


async def view(store: Engine, run: str):
    found = await store.run(None, RunId(run))
    assert found is not None
    return found


async def test_the_turn_that_passes_the_measure_is_the_last(store: Engine):
    for number in range(1, 6):
        claim = await say(store, "c", f"r{number}", "q", "a", weight=10)
    assert await history(store, claim.tape, chars_max=0) == ["r5"]
    assert await history(store, claim.tape, chars_max=9) == ["r5"]
    assert await history(store, claim.tape, chars_max=10) == ["r4", "r5"]
    assert await history(store, claim.tape, chars_max=29) == ["r3", "r4", "r5"]
    assert await history(store, claim.tape, chars_max=10_000) == ["r1", "r2", "r3", "r4", "r5"]


async def test_a_history_stands_before_a_place(store: Engine):
    places = [(await say(store, "c", f"r{number}", "q", "a")).tape for number in range(3)]
    entries = await store.read(places[0], after=0)
    asked = [entry.seq for entry in entries if isinstance(entry.event, ev.TurnReceived)]
    assert await history(store, places[0], before=asked[2]) == ["r0", "r1"]
    assert await history(store, places[0], before=asked[0]) == []
    assert await history(store, places[0], before=-5) == []
    assert await history(store, places[0], before=2**40) == ["r0", "r1", "r2"]


async def test_a_history_leaves_out_what_failed_and_what_has_not_ended(store: Engine):
    ends: list[Event] = [
        ev.RunCompleted(),
        ev.RunFailed("upstream_failed", "no"),
        ev.RunCancelled("me"),
        ev.RunNeedsClient(()),
    ]
    for number, end in enumerate(ends):
        claim = await begin(store, "c", f"r{number}")
        await finish(store, claim, (end,), weight=5)
    await begin(store, "c", "live")
    await wait(store, "c", "waiting")
    assert await history(store, claim.tape) == ["r0", "r2", "r3"]
    assert await history(store, claim.tape, chars_max=5) == ["r2", "r3"]


async def test_a_history_holds_a_queued_turn_where_it_was_received(store: Engine):
    claim = await begin(store, "c", "r1", "one")
    await wait(store, "c", "r2", "two")
    following = await finish(store, claim, answer("first"), weight=8)
    assert following is not None
    await finish(store, following, answer("second"), weight=9)
    entries = await store.history(claim.tape, before=100, chars_max=100)
    assert told(entries) == told(await store.read(claim.tape, after=1))
    assert [entry.run for entry in entries] == ["r1", "r1", "r2", "r1", "r1", "r1", "r2", "r2", "r2", "r2"]
    assert await history(store, claim.tape, chars_max=0) == ["r2"]


async def test_imported_messages_are_a_turn_of_the_history(store: Engine):
    imported = ev.MessagesImported((said("user", "hi"), said("assistant", "hello")), source="file")
    info = await store.put_messages(created("c"), imported, at=1.0, updated_at=2.0, run=RunId("import"))
    claim = await begin(store, "c", "r1", "more")
    await finish(store, claim, answer("x"), weight=5)
    assert await history(store, info.tape) == ["import", "r1"]
    assert await history(store, info.tape, chars_max=4) == ["r1"]
    entries = await store.history(info.tape, before=3, chars_max=100)
    assert told(entries) == [(2, "import", imported)]


async def test_an_imported_turn_weighs_its_characters(store: Engine):
    image = Message("user", (Text("12345"), Image("image/png", "x" * 1000)))
    imported = ev.MessagesImported((image, said("assistant", "67890")))
    info = await store.put_messages(created("c"), imported, at=1.0, updated_at=2.0, run=RunId("old"))
    for number in range(3):
        await say(store, "c", f"r{number}", "q", "a", weight=1)
    assert await history(store, info.tape, chars_max=2) == ["r0", "r1", "r2"]
    assert await history(store, info.tape, chars_max=3) == ["old", "r0", "r1", "r2"]
