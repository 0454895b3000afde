"""Conversations: read whole, listed, deleted, and taken in from elsewhere; each inside its own project."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, NotFound
from dragoman.core.messages import Message, Text, said
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import (
    ConversationPage,
    ConversationView,
    DeleteConversation,
    Deleted,
    ListConversations,
    ReadConversation,
    TurnView,
)
from dragoman.runtime import conversations
from tests.parts import ADMIN, Gate, ScriptedReplies, text_reply
from tests.runtime.scene import CONVERSATION, Scene, scene_of, until, within

PROJECT = ADMIN.project
ELSEWHERE = ProjectId("elsewhere")
STRANGER = replace(ADMIN, project=ELSEWHERE)


def read(s: Scene, *, project: ProjectId = PROJECT, turns: bool = True) -> Any:
    return s.conversations.read(project, ReadConversation(CONVERSATION, turns))


def delete(s: Scene, principal: Any = ADMIN) -> Any:
    return s.conversations.delete(principal, DeleteConversation(CONVERSATION))


async def test_a_conversation_is_read_with_its_turns() -> None:
    async with scene_of(ScriptedReplies(text_reply("It is ", "fine."))) as s:
        await s.outcome(await s.start())
        view = await read(s)
        answer = Message("assistant", (Text("It is fine."),), "helper")
        turn = TurnView(RunId("r1"), 2, s.clock.at, (said("user", "how is it?"),), (answer,), view.turns[0].end)
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
        for asking in (read(s, project=ELSEWHERE), delete(s, STRANGER)):
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
