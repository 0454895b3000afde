"""What is new in a conversation sent whole: examples, then what holds for every conversation and every edit of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.messages import Image, Message, Text, Thinking, ToolCall, ToolResult, said
from dragoman.core.names import CallId
from dragoman.core.operations import TurnView
from dragoman.runtime.whole import beyond, completed_turns, messages_of, new_part
from tests.tellings import NEWS, TURNS, turn

Q1, A1, Q2, A2 = said("user", "one?"), said("assistant", "1"), said("user", "two?"), said("assistant", "2")


def call(name: str = "look", arguments: str = "{}", *, id: str = "c1") -> Message:
    return Message("assistant", (ToolCall(CallId(id), name, arguments),))


def result(content: str = '{"seen":1}', *, id: str = "c1", **more: Any) -> Message:
    return Message("tool", (ToolResult(CallId(id), content, **more),))


def test_what_goes_on_is_what_is_new() -> None:
    turns = (turn(Q1, A1),)
    assert new_part(turns, (Q1, A1, Q2)) == ((Q2,), 0)
    assert new_part((), (Q1, A1, Q2)) == ((Q1, A1, Q2), 0)
    asked = (Q2, call(), result())
    assert new_part(turns, (Q1, A1, *asked)) == (asked, 0)


@pytest.mark.parametrize(
    ("sent", "restates"),
    [
        ((said("user", "ONE?"), A1, Q2), 2),  # an earlier question was edited
        ((Q1, said("assistant", "one"), Q2), 2),  # an earlier answer was
        ((Q1, Q2), 1),  # an answer was taken out
        ((Q2,), 1),  # everything was
        ((Q1, A1), 1),  # the last question is asked again, and with it comes the answer it had
        ((Q1,), 1),  # and without
        ((A1,), 1),  # there is no question at all
        ((Q1, A1, call()), 1),  # nothing is asked beyond the turns: a call that the caller makes up
        ((), 0),
    ],
)
def test_what_does_not_go_on_is_told_anew(sent: tuple[Message, ...], restates: int) -> None:
    assert new_part((turn(Q1, A1),), sent) == (sent, restates)


def test_a_question_behind_the_retold_past_may_come_with_calls_and_results() -> None:
    sent = (said("user", "other"), A1, Q2, call(), result())
    assert new_part((turn(Q1, A1),), sent) == (sent, 2)


@pytest.mark.parametrize("tells", [True, False])
def test_what_a_turn_opened_with_need_not_be_told(tells: bool) -> None:
    opened, known = (call("context"), result("{}")), turn(Q1, call("context"), result("{}"), A1)
    back = (Q1, *(opened if tells else ()), A1)
    assert new_part((known,), (*back, Q2), opening="context") == ((Q2,), 0)
    assert beyond((known,), back, opening="context") == ()
    assert beyond((turn(Q1, call(), result(), A1),), (Q1, A1), opening="context") is None
    assert (beyond((known,), back) == ()) is tells


def test_system_messages_are_left_out_on_both_sides_and_never_handed_on() -> None:
    system = said("system", "Be brief.")
    turns = (turn(system, Q1, A1, asked=2),)
    assert new_part(turns, (Q1, system, A1, system, Q2, system)) == ((Q2,), 0)
    assert new_part(turns, (system, Q2)) == ((Q2,), 1)
    assert beyond(turns, (system, Q1, A1, system)) == ()


def test_what_callers_do_not_send_back_is_not_compared() -> None:
    asked = Message("user", (Text("one?"), Text("at noon", hidden=True), Image("image/png", "AA==")), "anna", '{"t":1}')
    answer = Message("assistant", (Thinking("hm"), Text("1")), "helper")
    told = turn(
        asked, call("look", "", id="a"), result('{"a": 1, "b": 2}', id="a", shown='{"x":1}', is_error=True), answer
    )
    sent = (Q1, call("look", " { } ", id="z"), result('{"b":2,"a":1}', id="z"), A1, Q2)
    assert new_part((told,), sent) == ((Q2,), 0)
    assert new_part((told,), (*sent[:2], result('{"b":2,"a":2}', id="z"), *sent[3:])) != ((Q2,), 0)


def test_true_is_not_one() -> None:
    assert beyond((turn(Q1, call(arguments='{"a":1}'), result(), A1),), (Q1, call(arguments='{"a":true}'))) is None
    assert beyond((turn(Q1, call(arguments="{"), result(), A1),), (Q1, call(arguments="["), result(), A1)) is None
    assert beyond((turn(Q1, call(arguments="{"), result(), A1),), (Q1, call(arguments="{"), result(), A1)) == ()


def test_calls_of_one_reply_may_be_told_one_by_one_with_their_results() -> None:
    both = Message("assistant", (Text("I look"), *call(id="a").parts, *call("see", id="b").parts))
    told = turn(Q1, both, result('"x"', id="a"), result('"y"', id="b"), A1)
    one_by_one = (Q1, said("assistant", "I look"), call(id="c"), result('"x"', id="c"))
    rest = (call("see", id="d"), result('"y"', id="d"), A1, Q2)
    assert new_part((told,), (*one_by_one, *rest)) == ((Q2,), 0)
    swapped = (*one_by_one[:3], result('"y"', id="c"), rest[0], result('"x"', id="d"), A1, Q2)
    assert new_part((told,), swapped)[1] > 0


def test_ids_of_calls_may_come_again_in_every_turn() -> None:
    turns = tuple(turn(said("user", f"{n}?"), call(), result(f'"{n}"'), said("assistant", f"{n}!")) for n in range(3))
    assert new_part(turns, (*messages_of(turns), Q2)) == ((Q2,), 0)
    assert new_part(turns[::-1], (*messages_of(turns), Q2))[1] > 0


def test_a_result_that_comes_late_is_no_prefix() -> None:
    """A call without a result is another thing than one with it, and neither may be torn from the other."""
    waiting = turn(Q1, call(), end=ev.MessagesImported(()))
    sent = (Q1, call(), result())
    assert new_part((waiting,), sent) == (sent, 1)
    torn = (Q1, A1, call(), Q2, result())
    assert new_part((turn(*torn[:3], *torn[4:]),), torn) == (torn, 3)


def test_a_result_that_nobody_called_for_says_nothing() -> None:
    orphan = (Q1, result(id="x"), A1)
    assert new_part((turn(*orphan),), (Q1, A1, Q2)) == ((Q2,), 0)
    assert new_part((turn(Q1, A1),), (*orphan, Q2)) == ((Q2,), 0)
    assert new_part((turn(Q1, A1),), (Q1, A1, result(id="x"))) == ((Q1, A1, result(id="x")), 1)


def test_one_message_is_not_torn_apart() -> None:
    told = turn(Q1, said("assistant", "I look"))
    sent = (Q1, Message("assistant", (Text("I look"), *call().parts)), result(), Q2)
    assert beyond((told,), sent) is None
    assert new_part((told,), sent) == (sent, 3)


def test_a_reply_without_a_text_says_nothing() -> None:
    silent = Message("assistant", ())
    assert new_part((turn(Q1, silent),), (Q1, silent, Q2)) == ((Q2,), 0)
    assert new_part((turn(Q1, silent),), (Q1, Q2)) == ((Q2,), 0)
    assert new_part((turn(Q1, A1),), (Q1, A1, said("user", ""))) == ((said("user", ""),), 0)


def test_only_turns_that_came_to_an_answer_count() -> None:
    ends = (
        ev.RunCompleted(),
        ev.RunFailed("x", "y"),
        ev.RunCancelled(),
        ev.RunNeedsClient(()),
        ev.MessagesImported(()),
        None,
    )
    turns = tuple(replace(turn(Q1, A1), end=end) for end in ends)
    assert [each.end for each in completed_turns(turns)] == [ends[0], ends[4]]


# -- every conversation ------------------------------------------------------------------------------------------------


@given(TURNS)
def test_the_same_is_the_same_and_asks_its_last_question_again(turns: list[TurnView]) -> None:
    messages = messages_of(turns)
    assert beyond(turns, messages) == ()
    told, restates = new_part(turns, messages)
    assert told == messages
    assert restates == (0 if not messages else max(1, max(n for n, m in enumerate(messages) if m.role == "user")))


@given(TURNS, NEWS)
def test_what_is_added_is_what_is_new(turns: list[TurnView], news: tuple[Message, ...]) -> None:
    assert new_part(turns, (*messages_of(turns), *news)) == (news, 0)


@given(TURNS.filter(bool), NEWS, st.data())
def test_an_edit_anywhere_is_told_anew(turns: list[TurnView], news: tuple[Message, ...], data: st.DataObject) -> None:
    messages = list(messages_of(turns))
    at = data.draw(st.integers(0, len(messages) - 1))
    messages[at] = _edited(messages[at])
    sent = (*messages, *news)
    assert new_part(turns, sent) == (sent, max(n for n, m in enumerate(sent) if m.role == "user"))


def _edited(message: Message) -> Message:
    part = message.parts[0] if message.parts else Text("")
    match part:
        case ToolResult():
            return replace(message, parts=(replace(part, content=part.content + " edited"),))
        case ToolCall():
            return replace(message, parts=(replace(part, name=part.name + "x"), *message.parts[1:]))
        case Text():
            return replace(message, parts=(Text(part.text + " edited"), *message.parts[1:]))
        case _:
            raise AssertionError(part)


@given(TURNS.filter(bool), st.data())
def test_a_deletion_anywhere_is_told_anew_unless_nothing_was_said(turns: list[TurnView], data: st.DataObject) -> None:
    messages = list(messages_of(turns))
    gone = messages.pop(data.draw(st.integers(0, len(messages) - 1)))
    sent = (*messages, said("user", "and now?"))
    if gone == said("assistant", ""):
        assert new_part(turns, sent) == (sent[-1:], 0)
    else:
        assert new_part(turns, sent) == (sent, max(1, len(messages)))


def test_a_text_in_place_of_an_empty_answer_is_told_anew() -> None:
    turns = (turn(said("user", "q"), said("assistant", "")),)
    told = (said("user", "q"), said("assistant", "edited"), said("user", "new"))
    assert new_part(turns, told) == (told, 2)
