"""`runtime.ports.Conversations`, the same for every engine."""

import asyncio

import pytest
from msgspec import structs

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.events import Event
from dragoman.core.messages import Image, Message, Text, said
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import ConversationInfo, ConversationPage
from dragoman.runtime.ports import StaleClaim
from tests.stores.conftest import Engine
from tests.stores.talk import PROJECT, answer, append, begin, created, finish, say, turn, wait
from tests.support import FixedClock

C = ConversationId("c")


async def info(store: Engine, conversation: str = "c", project: str = PROJECT) -> ConversationInfo:
    found = await store.get(ProjectId(project), ConversationId(conversation))
    assert found is not None
    return found


# -- the fold --------------------------------------------------------------------------------------------------------


async def test_what_lists_show_follows_the_tape(store: Engine, clock: FixedClock):
    began = clock.at
    claim = await begin(store, "c", "r1", "hi")
    at_work = ConversationInfo(C, claim.tape, "", "test", began, began, 0, 1, 3, RunId("r1"), "c1")
    assert await info(store) == at_work
    clock.move(3.5)
    await append(store, claim, (ev.ReplyStarted("a", "m"), ev.TextAdded("x")))
    assert await info(store) == ConversationInfo(C, claim.tape, "", "test", began, began, 0, 1, 5, RunId("r1"), "c1")
    clock.move(1.0)
    await finish(store, claim, (ev.ReplyFinished("x"), ev.RunCompleted()), weight=3)
    assert await info(store) == ConversationInfo(C, claim.tape, "", "test", began, began + 4.5, 2, 1, 7, None, "c1")


async def test_a_title_is_the_last_one_given(store: Engine, clock: FixedClock):
    claim = await begin(store, "c", "r1")
    clock.move(1.0)
    await append(store, claim, (ev.TitleGiven("First"), ev.TextAdded("x")))
    assert ((await info(store)).title, (await info(store)).updated_at) == ("First", clock.at)
    await finish(store, claim, (ev.TitleGiven("Zweiter \0 Titel \"🦉'"), ev.RunCompleted()), weight=1)
    assert (await info(store)).title == "Zweiter \0 Titel \"🦉'"


@pytest.mark.parametrize(
    ("events", "messages"),
    [
        ((ev.ReplyFinished("x"), ev.RunCompleted()), 3),
        ((ev.RunCompleted(),), 3),
        ((ev.ReplyFinished(""), ev.RunNeedsClient(())), 3),
        ((ev.ReplyFinished("x"), ev.RunFailed("a", "b")), 0),
        ((ev.RunCancelled(),), 0),
        ((ev.ReplyStarted("a", "m"), ev.TextAdded("half"), ev.RunCancelled()), 0),
        ((ev.ReplyFinished("x"), ev.RunCancelled()), 3),
        ((ev.ReplyFinished("void"), ev.AttemptReset(4), ev.RunCancelled()), 0),
        ((ev.ReplyFinished("x"), ev.ReplyStarted("a", "m"), ev.AttemptReset(5), ev.RunCancelled()), 3),
        ((ev.ReplyFinished("void"), ev.AttemptReset(4), ev.ReplyFinished("x"), ev.RunCancelled()), 3),
    ],
)
async def test_messages_are_counted_where_a_turn_ended_well(store: Engine, events: tuple[Event, ...], messages: int):
    claim = await begin(store, "c", "r1", "one", "two")
    await finish(store, claim, events, weight=1)
    assert (await info(store)).messages == messages


async def test_only_what_the_user_said_is_counted_of_a_turn(store: Engine):
    new = turn("c", "r1")
    results = (said("tool", "result"), said("system", "rule"), said("user", "hi"))
    accepted = await store.accept(type(new)(PROJECT, C, RunId("r1"), ev.TurnReceived(results), created("c")))
    assert accepted.claim is not None
    await finish(store, accepted.claim, answer("x"), weight=1)
    assert (await info(store)).messages == 2


async def test_turns_count_when_they_are_received_and_the_first_in_line_is_live(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    assert ((await info(store)).turns, (await info(store)).live_run) == (2, "r1")
    await finish(store, claim, answer("x"), weight=1)
    assert ((await info(store)).turns, (await info(store)).live_run) == (2, "r2")
    assert (await info(store)).messages == 2


async def test_a_waiting_turn_that_is_ended_counts_as_a_turn_without_messages(store: Engine, clock: FixedClock):
    await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    clock.move(9.0)
    await store.end_waiting(RunId("r2"), ev.RunCancelled())
    found = await info(store)
    assert (found.turns, found.messages, found.live_run, found.updated_at) == (2, 0, "r1", clock.at)


async def test_a_conversation_has_the_title_it_was_made_with(store: Engine):
    titled = created("c", title='Größe \0 "🦉"')
    accepted = await store.accept(structs.replace(turn("c", "r1"), created=titled))
    assert accepted.claim is not None
    assert (await info(store)).title == titled.title
    await finish(store, accepted.claim, (ev.TitleGiven("another"), ev.RunCompleted()))
    assert (await info(store)).title == "another"


async def test_a_question_of_hidden_text_counts(store: Engine):
    hidden = Message("user", (Text("what the client adds", hidden=True),))
    new = structs.replace(turn("c", "r1"), received=ev.TurnReceived((hidden,)))
    accepted = await store.accept(new)
    assert accepted.claim is not None
    await finish(store, accepted.claim, answer("x"))
    assert (await info(store)).messages == 2
    (received,) = (entry.event for entry in await store.read(accepted.tape, after=1, limit=1))
    assert received == new.received


# -- whose it is -----------------------------------------------------------------------------------------------------


async def test_a_conversation_belongs_to_who_made_it(store: Engine):
    claim = await begin(store, "c", "r1", owner="ann")
    assert (await info(store)).owner == "ann"
    await finish(store, claim, answer("x"))
    accepted = await store.accept(turn("c", "r2", owner="bob"))
    assert accepted.created is False
    assert (await info(store)).owner == "ann"


async def test_a_turn_for_one_owner_only_finds_no_conversation_of_another(store: Engine):
    await finish(store, await begin(store, "c", "r1", owner="ann"), answer("x"))
    for stranger in ("bob", "Ann", "anne"):
        with pytest.raises(NotFound) as refused:
            await store.accept(turn("c", "r2", owner=stranger, only_owner=stranger))
        assert refused.value.what == "conversation"
        with pytest.raises(NotFound) as absent:
            await store.accept(turn("d", "r2", must_exist=True))
        assert refused.value.detail == absent.value.detail.replace(" d.", " c.")
    assert (await info(store)).turns == 1
    assert await store.run(None, RunId("r2")) is None
    accepted = await store.accept(turn("c", "r3", owner="ann", only_owner="ann"))
    assert accepted.claim is not None
    with pytest.raises(NotFound):  # also while a turn is at work, and before it is said that too many wait
        await store.accept(turn("c", "r4", only_owner="bob", queue_max=0))
    assert (await store.accept(turn("c", "r5", only_owner="ann"))).claim is None


async def test_a_turn_for_one_owner_only_makes_a_conversation(store: Engine):
    accepted = await store.accept(turn("c", "r1", owner="ann", only_owner="ann"))
    assert accepted.created
    assert (await info(store)).owner == "ann"


async def test_a_conversation_of_nobody_is_somebody_elses(store: Engine):
    await begin(store, "c", "r1", owner="")
    with pytest.raises(NotFound):
        await store.accept(turn("c", "r2", only_owner="ann"))
    assert (await store.accept(turn("c", "r3"))).claim is None


async def test_of_two_who_make_one_conversation_at_once_one_finds_it_taken(store: Engine):
    results = await asyncio.gather(
        *(store.accept(turn("c", f"r{owner}", owner=owner, only_owner=owner)) for owner in ("ann", "bob")),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Accepted", "NotFound"]
    assert (await info(store)).turns == 1


# -- get, page, count ------------------------------------------------------------------------------------------------


async def test_what_is_not_there_is_none(store: Engine):
    await begin(store, "c", "r1", project="other")
    assert await store.get(PROJECT, C) is None
    assert await store.page(PROJECT, after="", limit=0) == ConversationPage(())
    assert await store.count(PROJECT) == 0
    assert await store.delete(PROJECT, C) is None


async def test_pages_come_in_order_of_id_by_code_point(store: Engine):
    names = ["b", "a", "é", "Z", "10", "9", "🦉", "\uffff", "a/b", " "]
    for number, name in enumerate(names):
        await begin(store, name, f"r{number}")
    await begin(store, "c", "elsewhere", project="other")
    everything = await store.page(PROJECT, after="", limit=0)
    assert [item.id for item in everything.items] == sorted(names)
    assert everything.next == ""
    assert everything.items[0] == await info(store, " ")
    assert await store.count(PROJECT) == len(names)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
async def test_following_pages_show_each_conversation_once(store: Engine, limit: int):
    for number in range(5):
        await begin(store, f"c{number}", f"r{number}")
    seen: list[str] = []
    sizes: list[int] = []
    after = ""
    while True:
        page = await store.page(PROJECT, after=after, limit=limit)
        seen += [item.id for item in page.items]
        sizes.append(len(page.items))
        after = page.next
        if not after:
            break
    assert seen == [f"c{number}" for number in range(5)]
    assert max(sizes) <= limit
    assert min(sizes) > 0


@pytest.mark.parametrize("bad", ["\ud800", "a\0"])
async def test_bad_keys_are_refused_everywhere(store: Engine, bad: str):
    for call in (
        store.get(PROJECT, ConversationId(bad)),
        store.get(ProjectId(bad), C),
        store.page(PROJECT, after=bad, limit=1),
        store.page(ProjectId(bad), after="", limit=1),
        store.count(ProjectId(bad)),
        store.delete(PROJECT, ConversationId(bad)),
        store.put_messages(created(bad), ev.MessagesImported(()), at=1.0, updated_at=1.0, run=RunId("r")),
        store.run(PROJECT, RunId(bad)),
        store.runs(ProjectId(bad), limit=1),
        store.accept(turn("c", "r", owner=bad)),
    ):
        with pytest.raises(BadRequest):
            await call


# -- delete ----------------------------------------------------------------------------------------------------------


async def test_a_deleted_conversation_is_gone_with_everything(store: Engine):
    done = await say(store, "c", "r1", "hi", "hello")
    live = await begin(store, "c", "r2")
    await wait(store, "c", "r3")
    await say(store, "other", "r4", "stay", "yes")
    assert await store.delete(PROJECT, C) == ["r2", "r3"]
    assert await store.get(PROJECT, C) is None
    assert list(await store.read(done.tape, after=0)) == []
    assert list(await store.history(done.tape, before=100, chars_max=100)) == []
    assert list(await store.read_run(live)) == []
    assert [await store.run(None, RunId(run)) for run in ("r1", "r2", "r3")] == [None] * 3
    assert await store.unfinished() in ([], ())
    assert [run.id for run in await store.runs(PROJECT, limit=10)] == ["r4"]
    assert await store.count(PROJECT) == 1


async def test_who_still_writes_to_a_deleted_conversation_is_stale(store: Engine):
    claim = await begin(store, "c", "r1")
    await wait(store, "c", "r2")
    await store.delete(PROJECT, C)
    for attempt in (
        append(store, claim, (ev.TextAdded("x"),)),
        finish(store, claim, (ev.RunCompleted(),), weight=1),
    ):
        with pytest.raises(StaleClaim):
            await attempt
    assert await store.reclaim(RunId("r1")) is None
    assert await store.end_waiting(RunId("r2"), ev.RunCancelled()) is False
    assert await store.get(PROJECT, C) is None


async def test_a_conversation_made_anew_has_another_tape(store: Engine):
    old = await begin(store, "c", "r1")
    await store.delete(PROJECT, C)
    new = await begin(store, "c", "r1")
    assert new.tape > old.tape
    with pytest.raises(StaleClaim):
        await append(store, old, (ev.TextAdded("x"),))
    assert [entry.seq for entry in await store.read(new.tape, after=0)] == [1, 2, 3]


async def test_deleting_and_writing_at_once_is_one_after_the_other(store: Engine):
    claims = [await begin(store, f"c{number}", f"r{number}") for number in range(10)]
    results = await asyncio.gather(
        *(append(store, claim, (ev.TextAdded("x"),)) for claim in claims),
        *(store.delete(PROJECT, claim.conversation) for claim in claims),
        *(append(store, claim, (ev.TextAdded("y"),)) for claim in claims),
        return_exceptions=True,
    )
    assert results[10:20] == [[f"r{number}"] for number in range(10)]
    assert all(result == 4 or isinstance(result, StaleClaim) for result in results[:10])
    assert all(isinstance(result, StaleClaim) for result in results[20:])
    assert await store.count(PROJECT) == 0
    assert [len(await store.read(claim.tape, after=0)) for claim in claims] == [0] * 10


# -- put_messages ----------------------------------------------------------------------------------------------------


async def test_messages_from_elsewhere_begin_a_conversation_with_their_times(store: Engine):
    messages = (
        said("system", "rules"),
        said("user", "hi"),
        said("assistant", "hello"),
        said("tool", "x"),
        Message("assistant", ()),
        Message("user", (Image("image/png", "xx"),)),
        Message("user", (Text("look"), Image("image/png", "xx"))),
        Message("user", (Text("what the client adds", hidden=True),)),
    )
    imported = ev.MessagesImported(messages, source="file")
    new = ev.ConversationCreated(PROJECT, C, origin="import", owner="me", title='Früher \0 "🦉"')
    made = await store.put_messages(new, imported, at=100.5, updated_at=200.25, run=RunId("r1"))
    assert made == ConversationInfo(C, made.tape, new.title, "import", 100.5, 200.25, 4, 1, 2, None, "me")
    assert await info(store) == made
    entries = await store.read(made.tape, after=0)
    assert [(entry.seq, entry.run, entry.at, entry.event) for entry in entries] == [
        (1, "", 100.5, new),
        (2, "r1", 100.5, imported),
    ]
    view = await store.run(PROJECT, RunId("r1"))
    assert view is not None
    assert (view.status, view.first_seq, view.started_at, view.ended_at) == ("completed", 2, 100.5, 200.25)
    assert list(await store.read_run(view)) == list(entries[1:])


async def test_messages_are_not_put_over_a_conversation(store: Engine):
    claim = await say(store, "c", "r1", "hi", "hello")
    with pytest.raises(Conflict):
        await store.put_messages(created("c"), ev.MessagesImported(()), at=1.0, updated_at=1.0, run=RunId("r2"))
    with pytest.raises(Conflict):
        await store.put_messages(created("d"), ev.MessagesImported(()), at=1.0, updated_at=1.0, run=RunId("r1"))
    assert len(await store.read(claim.tape, after=0)) == 6
    assert await store.run(None, RunId("r2")) is None
    assert await store.get(PROJECT, ConversationId("d")) is None


async def test_a_conversation_from_elsewhere_goes_on(store: Engine, clock: FixedClock):
    imported = ev.MessagesImported((said("user", "hi"), said("assistant", "hello")))
    made = await store.put_messages(created("c"), imported, at=1.0, updated_at=2.0, run=RunId("r1"))
    accepted = await store.accept(turn("c", "r2", "more"))
    assert (accepted.tape, accepted.seq, accepted.created) == (made.tape, 3, False)
    assert accepted.claim is not None
    await finish(store, accepted.claim, answer("sure"), weight=8)
    found = await info(store)
    assert (found.messages, found.turns, found.head, found.created_at) == (4, 2, 7, 1.0)
    assert found.updated_at == clock.at


async def test_waiting_on_another_tape_is_not_disturbed_by_an_import(store: Engine):
    claim = await begin(store, "c", "r1")
    waiting = asyncio.ensure_future(store.grown(claim.tape, after=3))
    await store.put_messages(created("d"), ev.MessagesImported(()), at=1.0, updated_at=1.0, run=RunId("r2"))
    assert not waiting.done()
    assert (await info(store, "d")).tape != Tape(claim.tape)
    await append(store, claim, (ev.TextAdded("x"),))
    await asyncio.wait_for(waiting, 5)
