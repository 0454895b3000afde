"""Conversations: read whole, listed, deleted, and taken in from elsewhere; each inside its own project."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Conflict, NotFound
from dragoman.core.messages import Message, Text, said
from dragoman.core.names import ConversationId, Principal, ProjectId, RunId, Scope, Tape
from dragoman.core.operations import (
    Archived,
    BrowseConversations,
    ConversationPage,
    ConversationView,
    DeleteConversation,
    Deleted,
    FollowConversation,
    ListConversations,
    ReadConversation,
    StartTurn,
    TurnView,
    UpdateConversation,
)
from dragoman.runtime import conversations
from tests.parts import ADMIN, Gate, ScriptedReplies, text_reply
from tests.runtime.scene import CONVERSATION, Scene, scene_of, until, within

PROJECT = ADMIN.project
ELSEWHERE = ProjectId("elsewhere")
STRANGER = replace(ADMIN, project=ELSEWHERE)


def read(s: Scene, principal: Any = ADMIN, *, turns: bool = True, **settings: Any) -> Any:
    return s.conversations.read(principal, ReadConversation(CONVERSATION, turns, **settings))


def delete(s: Scene, principal: Any = ADMIN) -> Any:
    return s.conversations.delete(principal, DeleteConversation(CONVERSATION))


async def test_a_conversation_is_read_with_its_turns() -> None:
    async with scene_of(ScriptedReplies(text_reply("It is ", "fine."))) as s:
        await s.outcome(await s.start())
        view = await read(s)
        answer = Message("assistant", (Text("It is fine."),), "helper")
        asked, at = (said("user", "how is it?"),), s.clock.at
        turn = TurnView(RunId("r1"), 2, at, asked, (answer,), view.turns[0].end, (at,), (0,))
        assert view == ConversationView(await s.store.get(PROJECT, CONVERSATION), (turn,))
        assert (view.info.messages, view.info.turns, view.info.head) == (2, 1, 8)
        assert await read(s, turns=False) == ConversationView(view.info, ())


async def test_a_long_conversation_is_read_in_pieces_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        for number in range(20):
            await s.outcome(await s.start(f"m{number}"))
        whole = await read(s)
        monkeypatch.setattr(conversations, "READ_ENTRIES", 3)
        assert await read(s) == whole
        assert [turn.asked[0].text for turn in whole.turns] == [f"m{number}" for number in range(20)]


async def test_a_conversation_of_another_project_is_not_there() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await s.outcome(await s.start())
        listen = FollowConversation(CONVERSATION)
        update = UpdateConversation(CONVERSATION, title="x")
        for asking in (
            read(s, STRANGER),
            s.conversations.whole(ELSEWHERE, CONVERSATION),
            s.conversations.follow(STRANGER, listen),
            s.conversations.update(STRANGER, update),
            delete(s, STRANGER),
        ):
            with pytest.raises(NotFound) as missing:
                await asking
            assert (missing.value.what, missing.value.detail) == ("conversation", "There is no conversation c.")
        assert await s.conversations.page(ELSEWHERE, ListConversations()) == ConversationPage(())
        assert [await s.conversations.count(project) for project in (PROJECT, ELSEWHERE)] == [1, 0]


async def test_conversations_are_listed_page_by_page() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        for name in ("b", "c", "a"):
            await s.outcome(await s.start(conversation=name))
        first = await s.conversations.page(PROJECT, ListConversations(limit=2))
        rest = await s.conversations.page(PROJECT, ListConversations(after=first.next, limit=2))
        assert [[info.id for info in page.items] for page in (first, rest)] == [["a", "b"], ["c"]]
        assert rest.next == ""


async def test_a_deletion_stops_what_is_live_and_nothing_comes_back() -> None:
    model = ScriptedReplies(text_reply("late"))
    model.gate = Gate()
    async with scene_of(model) as s:
        await s.start("live")
        await s.start("waits")
        await until(lambda: bool(model.prompts))
        assert await delete(s) == Deleted(CONVERSATION)
        assert (model.closed, s.runs.live) == (1, 0)
        model.gate.open()
        await s.settled()
        assert await s.store.count(PROJECT) == 0
        assert await s.store.unfinished() == ()
        with pytest.raises(NotFound):
            await delete(s)
        again = await s.start("new")
        assert (again.tape, again.seq, again.created) == (Tape(2), 2, True)
        await s.outcome(again)
        assert [len(prompt.messages) for prompt in model.prompts] == [2, 2]


async def test_a_deletion_in_the_moment_a_run_begins_leaves_nothing_behind() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await s.start()
        await delete(s)  # the run's task has not made its first step
        await s.settled()
        assert not s.runs._live
        assert await s.store.count(PROJECT) == 0


async def test_a_deletion_needs_no_write_for_runs_that_are_gone_with_it() -> None:
    """A store that is full afterwards must not make a deletion fail that has happened."""
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await s.accept(ev.TurnReceived((said("user", "live"),)))
        await s.accept(ev.TurnReceived((said("user", "waits"),)), "r2")
        assert await delete(s) == Deleted(CONVERSATION)
        assert s.store.writes == ["accept", "accept", "delete"]


async def test_a_conversation_from_elsewhere_goes_on_here() -> None:
    model = ScriptedReplies(text_reply("a"))
    imported = ev.MessagesImported((said("user", "hi"), said("assistant", "hello")), source="grip")
    async with scene_of(model) as s:
        info = await s.conversations.take_in(PROJECT, CONVERSATION, imported, created_at=10.0, updated_at=20.0)
        assert (info.created_at, info.updated_at, info.messages, info.origin) == (10.0, 20.0, 2, "grip")
        with pytest.raises(Conflict):
            await s.conversations.take_in(PROJECT, CONVERSATION, imported, created_at=10.0, updated_at=20.0)
        await s.outcome(await s.start("and now?"))
        assert model.prompts[0].messages[1:] == (*imported.messages, said("user", "and now?"))


async def test_deletions_and_arrivals_are_done_once_what_is_derived_from_the_tape_is_up_to_date() -> None:
    told: list[tuple[str, str]] = []
    ready = asyncio.Event()

    async def changed(project: ProjectId, conversation: ConversationId) -> None:
        told.append((project, conversation))
        await ready.wait()

    imported = ev.MessagesImported((said("user", "hi"),))
    async with scene_of(ScriptedReplies(text_reply("a")), changed=changed) as s:
        taking = s.conversations.take_in(PROJECT, CONVERSATION, imported, created_at=1.0, updated_at=1.0)
        for at, asking in enumerate((taking, delete(s)), start=1):
            waiting = asyncio.create_task(asking)
            await until(lambda wanted=at: len(told) == wanted)
            assert not waiting.done()
            ready.set()
            await within(waiting)
            ready.clear()
        assert told == [("default", "c")] * 2


# -- whose it is, and what is said about it --------------------------------------------------------------------------

ANNA, BERT = (Principal(PROJECT, name, name, frozenset({Scope.CHAT_RUN})) for name in ("anna", "bert"))


async def begin(s: Scene, principal: Principal, conversation: str = CONVERSATION, **settings: Any) -> None:
    turn = StartTurn(ConversationId(conversation), (said("user", "how is it?"),), **settings)
    await s.outcome(await s.runs.start(principal, turn))


def update(s: Scene, principal: Principal = ANNA, **changes: Any) -> Any:
    return s.conversations.update(principal, UpdateConversation(CONVERSATION, **changes))


@pytest.mark.parametrize(
    "ask",
    [
        lambda s, principal: read(s, principal, private=True),
        lambda s, principal: s.conversations.follow(principal, FollowConversation(CONVERSATION, private=True)),
        lambda s, principal: update(s, principal, title="x", private=True),
        lambda s, principal: s.conversations.delete(principal, DeleteConversation(CONVERSATION, private=True)),
    ],
    ids=["read", "follow", "update", "delete"],
)
async def test_a_private_conversation_is_not_there_for_anybody_else(ask: Any) -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await begin(s, ANNA)
        with pytest.raises(NotFound) as missing:
            await ask(s, BERT)
        assert (missing.value.what, missing.value.detail) == ("conversation", "There is no conversation c.")
        assert (await s.store.get(PROJECT, CONVERSATION)).title == ""
        await ask(s, ANNA)


async def test_a_shared_conversation_is_read_by_everybody_and_changed_by_its_owner() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await begin(s, ANNA)
        for asking in (read(s, BERT, private=True), read(s, BERT, private=True, shared_only=True)):
            with pytest.raises(NotFound):
                await asking
        with pytest.raises(NotFound):
            await read(s, ANNA, private=True, shared_only=True)
        assert (await update(s, shared=True, private=True)).shared
        for principal in (ANNA, BERT, ADMIN):
            view = await read(s, principal, private=True, shared_only=True)
            assert len(view.turns) == 1
        await s.conversations.follow(BERT, FollowConversation(CONVERSATION, private=True))
        for asking in (
            update(s, BERT, title="x", private=True),
            s.conversations.delete(BERT, DeleteConversation(CONVERSATION, private=True)),
        ):
            with pytest.raises(NotFound):
                await asking
        assert not (await update(s, shared=False, private=True)).shared
        with pytest.raises(NotFound):
            await read(s, BERT, private=True)


async def test_what_has_changed_is_written_down_and_nothing_else() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await begin(s, ANNA, title="Old")
        head = (await s.tape())[-1].seq
        info = await update(s, title="  New one \n", shared=True, archived=True)
        assert (info.title, info.shared, info.archived, info.head) == ("New one", True, True, head + 3)
        assert [(entry.run, entry.event) for entry in (await s.tape())[head:]] == [
            ("", ev.TitleGiven("New one")),
            ("", ev.SharingChanged(True)),
            ("", ev.ArchivingChanged(True)),
        ]
        assert await update(s, title="New one", shared=True, archived=True) == info
        assert await update(s) == info
        assert (await update(s, archived=False)).archived is False
        assert len(await s.tape()) == head + 4


@pytest.mark.parametrize("title", ["", " \t\n", "x" * 201])
async def test_a_title_that_is_none_changes_nothing(title: str) -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        await begin(s, ANNA)
        with pytest.raises(BadRequest, match="A title has 1 to 200 characters; this one has"):
            await update(s, title=title, shared=True)
        info = await s.store.get(PROJECT, CONVERSATION)
        assert (info.title, info.shared) == ("", False)
        assert (await update(s, title="x" * 200)).title == "x" * 200


async def test_a_conversation_is_renamed_while_it_is_being_answered() -> None:
    model = ScriptedReplies(text_reply("It is ", "fine."))
    model.gate = Gate()
    async with scene_of(model) as s:
        started = await s.runs.start(ANNA, StartTurn(CONVERSATION, (said("user", "how is it?"),)))
        model.gate.release()
        await until(lambda: "append" in s.store.called)
        await update(s, title="Live")
        model.gate.open()
        assert (await s.outcome(started)).text == "It is fine."
        assert (await s.store.get(PROJECT, CONVERSATION)).title == "Live"


async def test_a_change_is_told_once_what_is_derived_from_the_tape_is_up_to_date() -> None:
    told: list[str] = []

    async def changed(project: ProjectId, conversation: ConversationId) -> None:
        told.append(conversation)

    async with scene_of(ScriptedReplies(text_reply("a")), changed=changed) as s:
        await begin(s, ANNA)
        told.clear()
        await update(s, title="New")
        await update(s, title="New")
        assert told == ["c"]


async def test_a_private_list_holds_what_is_the_callers_own_and_all_of_it_for_an_admin() -> None:
    async with scene_of(ScriptedReplies(text_reply("a"))) as s:
        for principal, name, origin in ((ANNA, "a1", "cli"), (BERT, "b1", "cli"), (ANNA, "a2", "assistant")):
            await begin(s, principal, name, origin=origin)
            s.clock.move(1)
            s.store._store._clock.move(1)
        await s.conversations.update(ANNA, UpdateConversation(ConversationId("a1"), archived=True))

        async def ids(principal: Principal, **settings: Any) -> list[str]:
            shelf = await s.conversations.browse(principal, BrowseConversations(**settings))
            assert shelf.total >= len(shelf.items)
            return [info.id for info in shelf.items]

        assert await ids(ANNA, private=True) == ["a2"]
        assert await ids(ANNA, private=True, archived=Archived.WITH) == ["a2", "a1"]
        assert await ids(ANNA, private=True, archived=Archived.ONLY) == ["a1"]
        assert await ids(BERT, private=True) == ["b1"]
        assert await ids(ADMIN, private=True) == ["a2", "b1"]
        await s.conversations.update(BERT, UpdateConversation(ConversationId("b1"), shared=True))
        assert await ids(ANNA, private=True) == ["a2"]
        assert await ids(ANNA, private=True, shared=True) == ["a2", "b1"]
        assert await ids(BERT, private=True, shared=True) == ["b1"]
        assert await ids(BERT) == ["a2", "b1"]
        assert await ids(BERT, origins=("cli",), archived=Archived.WITH) == ["b1", "a1"]
        shelf = await s.conversations.browse(ADMIN, BrowseConversations(limit=1, offset=1))
        assert ([info.id for info in shelf.items], shelf.total) == (["b1"], 2)
