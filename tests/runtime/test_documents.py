"""Conversations as whole documents, and turns of callers that send the whole: over the memory and the SQLite store."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core import documents as doc
from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, Conflict, NotAllowed, NotFound
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId, ConversationId, ProjectId
from dragoman.core.operations import DeleteConversation, Deleted, StartTurn, UpdateConversation
from dragoman.runtime import documents
from dragoman.runtime.documents import KIND, NAME_KNOWN_S
from dragoman.runtime.whole import messages_of
from tests.documents import ADMIN, ANNA, BERT, ENGINES, PROJECT, Archive, C, archive_of

OTHER = ConversationId("d")
READ = doc.ReadDocument(C)
QUESTION, ANSWER = said("user", "q"), said("assistant", "a")
LABELS = doc.Labels({"team": "ops"}, {"weight": 2.5}, "Be kind.")


@pytest.fixture(params=ENGINES)
async def s(request: Any, tmp_path: Path) -> AsyncIterator[Archive]:
    async with archive_of(request.param, tmp_path) as archive:
        yield archive


def creation(*messages: Message, **settings: Any) -> doc.CreateDocument:
    settings = {"title": "T", "labels": doc.Labels(), **settings}
    return doc.CreateDocument(settings.pop("conversation", C), settings.pop("title"), messages, **settings)


def replacement(*messages: Message, **settings: Any) -> doc.ReplaceDocument:
    settings = {"title": "T", "labels": doc.Labels(), **settings}
    return doc.ReplaceDocument(settings.pop("conversation", C), settings.pop("title"), messages, **settings)


async def events_of(s: Archive, conversation: str = C) -> list[ev.Event]:
    info = await s.info(conversation)
    return [entry.event for entry in await s.store.read(info.tape, after=0)]


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_a_document_is_the_turns_that_completed(s: Archive) -> None:
    await s.talk("one?", "1", system="Be brief.")
    for end in (ev.RunFailed("x", "y"), ev.RunCancelled(), ev.RunNeedsClient(())):
        await s.talk("lost?", "half", end=end)
    live = await s.begin(said("user", "live?"))
    found = await s.do(READ)
    assert [message.text for message in messages_of(found.turns)] == ["one?", "1"]
    assert (found.info, found.project) == (await s.info(), PROJECT)
    assert (found.system, found.owner_name, found.labels) == ("Be brief.", "anna's key", doc.Labels())
    await s.end(live, ev.ReplyFinished("yes"), ev.RunCompleted())
    assert [message.text for message in messages_of((await s.do(READ)).turns)] == ["one?", "1", "live?", "yes"]


async def test_what_is_not_there_for_somebody_is_not_found(s: Archive) -> None:
    await s.talk()
    operations = (
        READ,
        replacement(QUESTION),
        doc.PatchDocument(C, shared=True),
        doc.DuplicateDocument(C, OTHER),
        DeleteConversation(C, private=True, tell_shared=True),
    )
    before = await s.info()
    for operation in operations:
        with pytest.raises(NotFound) as missing:
            await s.do(operation, BERT)
        assert (missing.value.what, missing.value.detail) == ("conversation", "There is no conversation c.")
        with pytest.raises(NotFound):
            await s.do(operation, replace(ADMIN, project=ProjectId("elsewhere")))
    assert await s.info() == before
    assert (await s.do(READ, ADMIN)).owner_name == "anna's key"


async def test_a_shared_one_is_read_by_all_and_changed_by_its_owner_and_that_is_said(s: Archive) -> None:
    await s.talk()
    assert (await s.do(doc.PatchDocument(C, shared=True))).info.shared
    assert (await s.do(READ, BERT)).owner_name == "anna's key"
    before = await s.info()
    refused = (
        (replacement(QUESTION), "Changing"),
        (doc.PatchDocument(C, archived=True), "Changing"),
        (DeleteConversation(C, private=True, tell_shared=True), "Deleting"),
    )
    for operation, doing in refused:
        with pytest.raises(NotAllowed) as error:
            await s.do(operation, BERT)
        assert error.value.detail == f"{doing} a conversation is only allowed for the owner of the conversation."
    with pytest.raises(NotFound):  # other wires do not tell
        await s.conversations.update(BERT, UpdateConversation(C, title="x", private=True))
    assert await s.info() == before
    assert (await s.do(doc.PatchDocument(C, shared=False, archived=True), ADMIN)).info.archived


async def test_names_are_looked_up_once_in_a_while(s: Archive) -> None:
    await s.talk()
    await s.do(doc.PatchDocument(C, shared=True))
    assert ((await s.do(READ)).owner_name, s.names.asked) == ("anna's key", 0)
    for _ in range(2):
        assert (await s.do(READ, BERT)).owner_name == "anna's key"
    assert s.names.asked == 1
    s.names.names.clear()
    s.clock.move(NAME_KNOWN_S)
    assert ((await s.do(READ, BERT)).owner_name, s.names.asked) == ("", 2)


async def test_names_are_not_remembered_without_end(s: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "NAMES_MAX", 1)
    for name, principal in (("c", ANNA), ("d", BERT)):
        await s.talk(conversation=name, by=principal)
        await s.do(doc.PatchDocument(ConversationId(name), shared=True), principal)
    for _ in range(2):
        assert len((await s.do(doc.ListDocuments(), ADMIN)).items) == 2
    assert len(s.documents._known_names) == 1  # pyright: ignore[reportPrivateUsage]


# -- lists -------------------------------------------------------------------------------------------------------------


async def listed(s: Archive, by: Any = ANNA, limit: int = 100) -> list[str]:
    return [document.info.id for document in (await s.do(doc.ListDocuments(limit), by)).items]


async def test_a_list_holds_ones_own_and_shared_ones_newest_first(s: Archive) -> None:
    assert await listed(s) == []
    for name, principal, shared in (("a1", ANNA, False), ("a2", ANNA, True), ("b1", BERT, False), ("b2", BERT, True)):
        await s.talk(conversation=name, by=principal)
        s.clock.move(1)
        if shared:
            await s.do(doc.PatchDocument(ConversationId(name), shared=True), principal)
        s.clock.move(1)
    await s.do(doc.PatchDocument(ConversationId("a1"), archived=True))
    assert sorted(await listed(s)) == ["a1", "a2", "b2"]
    assert sorted(await listed(s, BERT)) == ["a2", "b1", "b2"]
    await s.talk(conversation="a2")
    assert (await listed(s))[0] == "a2"
    assert len(await listed(s, ADMIN)) == 4


async def test_conversations_in_which_nothing_completed_leave_their_place_to_others(s: Archive) -> None:
    for number in range(3):
        await s.talk(conversation=f"good{number}")
        s.clock.move(1)
    for number in range(4):
        await s.talk(conversation=f"bad{number}", end=ev.RunFailed("x", "y"))
        s.clock.move(1)
    assert await listed(s, limit=2) == ["good2", "good1"]


async def test_a_list_looks_for_more_only_so_often(s: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "SHELVES_MAX", 2)
    await s.talk(conversation="good")
    for number in range(4):
        s.clock.move(1)
        await s.talk(conversation=f"bad{number}", end=ev.RunFailed("x", "y"))
    assert await listed(s, limit=2) == []
    assert await listed(s, limit=3) == ["good"]


# -- writing -----------------------------------------------------------------------------------------------------------


async def test_a_document_is_written_and_goes_on_as_a_conversation(s: Archive) -> None:
    written = await s.do(creation(QUESTION, ANSWER, labels=LABELS, shared=True, archived=True, origin="elsewhere"))
    assert written == await s.do(READ)
    assert (written.labels, written.system) == (LABELS, "Be kind.")
    assert messages_of(written.turns) == (QUESTION, ANSWER)
    info = written.info
    assert (info.title, info.origin, info.owner, info.shared, info.archived) == (
        *("T", "elsewhere", "user:anna"),
        *(True, True),
    )
    assert (info.created_at, info.messages, info.turns) == (s.clock.at, 2, 1)
    assert s.changed[0] == C
    with pytest.raises(Conflict):
        await s.do(creation(QUESTION))
    await s.talk("two?", "2", system="Be brief.")
    later = await s.do(READ)
    assert [message.text for message in messages_of(later.turns)] == ["q", "a", "two?", "2"]
    assert later.system == "Be brief."  # that of the last turn, which is newer than what was written


async def test_a_document_of_nothing_can_be_written_and_is_listed(s: Archive) -> None:
    written = await s.do(creation(title=" "))
    assert (written.info.title, messages_of(written.turns)) == ("", ())
    assert await listed(s) == [C]
    assert await s.store.records.get(PROJECT, KIND, C) is None


async def test_a_title_that_is_too_long_writes_nothing(s: Archive) -> None:
    with pytest.raises(BadRequest, match="A title has 1 to 200 characters; this one has 201"):
        await s.do(creation(QUESTION, title="x" * 201))
    assert await s.store.get(PROJECT, C) is None
    await s.talk()
    before = await s.info()
    with pytest.raises(BadRequest):
        await s.do(replacement(said("user", "other"), title="x" * 201))
    assert await s.info() == before


async def test_a_long_title_that_a_turn_brought_may_be_sent_back(s: Archive) -> None:
    await s.talk()
    await s.store.note(PROJECT, C, (ev.TitleGiven("x" * 300),))
    assert (await s.do(replacement(QUESTION, ANSWER, title="x" * 300))).info.title == "x" * 300
    assert (await s.do(doc.DuplicateDocument(C, OTHER))).info.title == "x" * 300


async def test_the_same_messages_are_not_written_again(s: Archive) -> None:
    await s.talk(system="Be brief.")
    head = len(await events_of(s))
    same = replacement(QUESTION, ANSWER, labels=doc.Labels({"a": "b"}, {}, "Be brief."), shared=True)
    document = await s.do(same)
    assert (await events_of(s))[head:] == [ev.TitleGiven("T"), ev.SharingChanged(True)]
    assert (document.labels, document.system) == (doc.Labels({"a": "b"}), "Be brief.")
    again = await s.do(same)
    assert again == document
    assert len(await events_of(s)) == head + 2
    record = await s.store.records.get(PROJECT, KIND, C)
    assert record is not None
    assert (record.version, record.owner, record.updated_by) == (1, "user:anna", "user:anna")


async def test_other_messages_take_the_place_of_all(s: Archive) -> None:
    await s.talk("one?", "1", system="Be brief.")
    document = await s.do(replacement(said("user", "uno?"), ANSWER, title=""))
    assert [message.text for message in messages_of(document.turns)] == ["uno?", "a"]
    assert (document.info.title, document.info.messages, document.info.turns) == ("", 2, 1)
    assert document.system == "Be brief."  # nothing else was said of it
    assert s.changed[-1] == C
    await s.talk("two?", "2")
    texts = [message.text for message in messages_of((await s.do(READ)).turns)]
    assert texts == ["uno?", "a", "two?", "2"]
    changed = await s.do(replacement(*messages_of((await s.do(READ)).turns), labels=doc.Labels(system="New.")))
    assert changed.system == "New."


async def test_messages_are_not_replaced_while_a_turn_is_at_work_but_all_else_is(s: Archive) -> None:
    await s.talk()
    live = await s.begin(said("user", "live?"))
    with pytest.raises(Conflict):
        await s.do(replacement(said("user", "other"), title="New"))
    assert (await s.info()).title == ""
    assert (await s.do(replacement(QUESTION, ANSWER, title="New", archived=True))).info.title == "New"
    await s.end(live, ev.ReplyFinished("yes"), ev.RunCompleted())
    assert (await s.do(replacement(said("user", "other")))).info.archived  # not told: as it was


async def test_labels_go_with_their_conversation(s: Archive) -> None:
    await s.do(creation(QUESTION, labels=LABELS))
    cleared = await s.do(replacement(QUESTION, labels=doc.Labels(system="Be kind.")))
    assert cleared.labels == doc.Labels(system="Be kind.")
    assert await s.do(DeleteConversation(C)) == Deleted(C)
    assert await s.store.records.get(PROJECT, KIND, C) is None
    with pytest.raises(NotFound):
        await s.do(READ)
    await s.talk()
    assert (await s.do(READ)).labels == doc.Labels()


# -- copies ------------------------------------------------------------------------------------------------------------


async def test_a_copy_belongs_to_whoever_made_it(s: Archive) -> None:
    call = ToolCall(CallId("x"), "look", "{}")
    between = (ev.ReplyFinished("", (call,)), ev.ToolReturned(call.id, "{}", shown='{"rows":[]}'))
    await s.do(creation(Message("user", (Text("q"),), aside='{"t":1}'), labels=LABELS, archived=True, shared=True))
    await s.talk("two?", "2", said_between=between, system="Be brief.")
    s.clock.move(60)
    original = await s.do(READ)
    copy = await s.do(doc.DuplicateDocument(C, OTHER), BERT)
    assert copy == await s.do(doc.ReadDocument(OTHER), BERT)
    assert messages_of(copy.turns) == messages_of(original.turns)
    assert messages_of(copy.turns)[0].aside == '{"t":1}'
    assert messages_of(copy.turns)[3].parts == (ToolResult(call.id, "{}", shown='{"rows":[]}'),)
    info = copy.info
    assert (info.owner, info.shared, info.archived, info.title) == ("user:bert", False, False, "T")
    assert (info.created_at, copy.owner_name) == (s.clock.at, "bert's key")
    assert (copy.system, copy.labels) == ("Be brief.", replace(LABELS, system="Be brief."))


# -- turns of callers that send the whole ------------------------------------------------------------------------------


def whole(*messages: Message, **settings: Any) -> StartTurn:
    settings = {"whole": True, "must_exist": True, "private": True, "tell_shared": True, **settings}
    return StartTurn(C, messages, **settings)


async def test_a_whole_turn_brings_what_is_new_and_learns_the_title(s: Archive) -> None:
    await s.talk()
    await s.do(replacement(QUESTION, ANSWER, title="Title"))
    await s.talk("lost?", "x", end=ev.RunNeedsClient(()))
    new = said("user", "new?")
    assert await s.take(whole(QUESTION, ANSWER, new)) == (whole(new), "Title")
    anew = whole(said("user", "Q"), ANSWER, new)
    assert await s.take(anew) == (replace(anew, restates=2), "Title")
    again = whole(QUESTION)
    assert await s.take(again) == (replace(again, restates=1), "Title")


async def test_a_turn_that_is_not_whole_is_left_as_it_is(s: Archive) -> None:
    plain = StartTurn(C, (QUESTION,))
    assert await s.take(plain) == (plain, "")
    fresh = whole(QUESTION, must_exist=False)
    assert await s.take(fresh) == (fresh, "")


async def test_a_whole_turn_is_refused_where_it_may_not_go_on(s: Archive) -> None:
    with pytest.raises(NotFound, match="There is no conversation c"):
        await s.take(whole(QUESTION))
    await s.talk()
    with pytest.raises(NotFound, match="There is no conversation c"):
        await s.take(whole(QUESTION), BERT)
    await s.do(doc.PatchDocument(C, shared=True))
    with pytest.raises(NotAllowed, match=r"^Continuing a conversation is only allowed for the owner"):
        await s.take(whole(QUESTION), BERT)
    with pytest.raises(NotFound):
        await s.take(whole(QUESTION, tell_shared=False), BERT)
