import typing

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import BadRequest, FieldFault, NotFound
from dragoman.core.events import Event, kind_of
from dragoman.core.messages import Image, Message, Text, said
from dragoman.core.names import CallId, ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import RunView
from dragoman.runtime import keeping
from dragoman.runtime.keeping import KINDS, check_keys
from dragoman.runtime.ports import NewTurn

P = ProjectId("p")
C = ConversationId("c")


def test_every_kind_has_its_tag():
    assert set(KINDS) == set(typing.get_args(Event))
    assert KINDS[ev.TextAdded] == kind_of(ev.TextAdded("x")) == "text_added"


def test_a_body_is_the_events_json():
    events = (ev.TextAdded("grüße \0"), ev.RunClaimed(2))
    assert keeping.bodies_of(events) == [ev.dump_event(event).decode() for event in events]


def test_half_a_character_has_no_body():
    with pytest.raises(BadRequest, match="surrogate"):
        keeping.bodies_of((ev.TextAdded("fine"), ev.TextAdded("\ud800")))


@pytest.mark.parametrize("key", ["", "a", "grüße", "🦉", "\x01\x7f", "\uffff"])
def test_any_other_text_is_a_key(key: str):
    check_keys(conversation=key)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("\ud800", "holds half a character (a lone surrogate)"),
        ("ok\udfff", "holds half a character (a lone surrogate)"),
        ("a\0", "holds a NUL character"),
        ("é\0", "holds a NUL character"),
    ],
)
def test_a_key_that_cannot_be_kept_is_named(key: str, message: str):
    with pytest.raises(BadRequest) as refused:
        check_keys(project="p", conversation=key)
    assert refused.value.faults == (FieldFault("conversation", message),)


def test_an_end_stands_last_and_only_in_finish():
    keeping.check_appended((ev.TextAdded("x"),))
    keeping.check_finished((ev.TextAdded("x"), ev.RunCompleted()))
    for events in ((ev.RunCompleted(),), (ev.RunFailed("a", "b"), ev.TextAdded("x"))):
        with pytest.raises(ValueError, match="finish"):
            keeping.check_appended(events)
    for events in ((), (ev.TextAdded("x"),), (ev.RunCompleted(), ev.RunCompleted())):
        with pytest.raises(ValueError, match="end"):
            keeping.check_finished(events)


def test_only_what_belongs_to_no_run_is_noted():
    keeping.check_noted((ev.TitleGiven("x"), ev.SharingChanged(shared=True), ev.ArchivingChanged(archived=False)))
    for events in ((), (ev.TextAdded("x"),), (ev.TitleGiven("x"), ev.CancelAsked()), (ev.ConversationCreated(P, C),)):
        with pytest.raises(ValueError, match="note"):
            keeping.check_noted(events)


def test_only_what_others_bring_is_asked():
    call = CallId("x")
    for event in (ev.CancelAsked(), ev.ApprovalDecided(call, approved=True), ev.ClientToolClaimed(call)):
        keeping.check_asked(event)
    with pytest.raises(ValueError, match="TitleGiven is written by the owner"):
        keeping.check_asked(ev.TitleGiven("x"))


def test_each_of_several_keys_is_looked_at():
    keeping.check_all(origins=("a", "é"), others=())
    with pytest.raises(BadRequest, match=r"^origins: holds a NUL character$"):
        keeping.check_all(origins=("a", "b\0"))


@pytest.mark.parametrize(
    ("only_owner", "owner", "refused"),
    [("", "ann", False), ("ann", "ann", False), ("ann", "bob", True), ("ann", "", True), ("", "", False)],
)
def test_a_turn_for_one_owner_is_refused_where_another_owns(only_owner: str, owner: str, refused: bool):
    new = NewTurn(P, C, RunId("r"), ev.TurnReceived(()), ev.ConversationCreated(P, C), only_owner=only_owner)
    if not refused:
        keeping.refuse_stranger(new, owner)
        return
    with pytest.raises(NotFound) as error:
        keeping.refuse_stranger(new, owner)
    assert str(error.value) == str(keeping.no_conversation(C))


@pytest.mark.parametrize(
    ("speaker", "refused"),
    [("widget:ann", False), ("widget:bob", True), ("c_1", True), ("ann", True), ("", True)],
)
def test_in_a_visitors_chat_nobody_else_says_anything(speaker: str, refused: bool):
    new = NewTurn(P, C, RunId("r"), ev.TurnReceived(()), ev.ConversationCreated(P, C, owner=speaker))
    if not refused:
        keeping.refuse_stranger(new, "widget:ann")
        return
    with pytest.raises(NotFound):
        keeping.refuse_stranger(new, "widget:ann")


@pytest.mark.parametrize(
    ("status", "epoch", "expected"),
    [("completed", 0, True), ("completed", 1, False), ("cancelled", 0, False), ("queued", 0, False)],
)
def test_an_import_is_told_from_a_turn(status: str, epoch: int, expected: bool):
    assert keeping.is_import(RunView(RunId("r"), C, Tape(1), status, epoch, 2, 1.0)) is expected


def test_users_are_counted_in_a_turn():
    messages = (said("system", "x"), said("user", "a"), said("tool", "y"), Message("user", ()))
    assert keeping.users_in(ev.TurnReceived(messages)) == 2


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], 0),
        ([(4, ev.TextAdded("x"))], 0),
        ([(4, ev.ReplyFinished("x")), (8, ev.ReplyFinished("y"))], 4),
        ([(4, ev.ReplyFinished("x")), (9, ev.AttemptReset(5))], 4),
        ([(4, ev.ReplyFinished("x")), (9, ev.AttemptReset(4))], 0),
        ([(4, ev.ReplyFinished("x")), (9, ev.AttemptReset(2)), (10, ev.ReplyFinished("y"))], 10),
    ],
)
def test_a_reply_counts_until_it_is_void(steps: list[tuple[int, Event]], expected: int):
    replied = 0
    for seq, event in steps:
        replied = keeping.replied_at(replied, event, seq)
    assert replied == expected


@pytest.mark.parametrize(
    ("end", "replied", "messages", "status"),
    [
        (ev.RunCompleted(), True, 3, "completed"),
        (ev.RunNeedsClient(()), False, 3, "needs_client"),
        (ev.RunCancelled(), True, 3, "cancelled"),
        (ev.RunCancelled(), False, 0, "cancelled"),
        (ev.RunFailed("a", "b"), True, 0, "failed"),
    ],
)
def test_an_end_has_a_status_and_raises_the_count(end: Event, replied: bool, messages: int, status: str):
    assert keeping.counted(end, users=2, replied=replied) == messages
    assert keeping.status_of(end) == status


def test_nothing_else_has_a_status():
    with pytest.raises(ValueError, match="TextAdded is no run's end"):
        keeping.status_of(ev.TextAdded("x"))


def test_an_import_counts_what_was_said_and_weighs_its_characters():
    imported = ev.MessagesImported(
        (
            said("system", "12"),
            said("user", "345"),
            said("assistant", "6789"),
            Message("assistant", ()),
            Message("user", (Text("ab"), Image("image/png", "x" * 99))),
        )
    )
    assert keeping.counted_import(imported) == 3
    assert keeping.weight_of_import(imported) == 11


def test_messages_that_replace_all_before_them_weigh_more_than_any_history_may():
    messages = (said("user", "abc"), said("assistant", "de"))
    assert keeping.weight_of_import(ev.MessagesImported(messages)) == 5
    assert keeping.weight_of_import(ev.MessagesImported(messages, replaces=True)) == keeping.HISTORY_CHARS_MAX + 6
    assert keeping.weight_of_import(ev.MessagesImported((), replaces=True)) > keeping.history_chars(2**70)
    assert [keeping.history_chars(chars) for chars in (-1, 0, 7)] == [0, 0, 7]


def test_only_messages_that_say_so_replace_others():
    keeping.check_replacing(ev.MessagesImported((), replaces=True))
    with pytest.raises(ValueError, match="replace nothing"):
        keeping.check_replacing(ev.MessagesImported(()))
