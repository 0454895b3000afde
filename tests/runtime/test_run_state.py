"""The fold of one run's events, where the machine's own tests do not look."""

from dragoman.core import events as ev
from dragoman.core.agents import Loop, ToolSpec
from dragoman.core.messages import Message, ToolCall, said
from dragoman.core.names import CallId
from dragoman.core.workflows import TRANSFER
from dragoman.runtime.run_state import RunState

QUESTION = said("user", "how is it?")
MINE = ToolSpec("mine", "Mine.", {"type": "object"})


def call(id: str, name: str = "look") -> ToolCall:
    return ToolCall(CallId(id), name, "{}")


def state(*events: ev.Event) -> RunState:
    folded = RunState()
    for seq, event in enumerate(events, start=1):
        folded.add(event, at=100.0, seq=seq)
    return folded


def test_calls_of_ours_that_were_let_through_count_and_calls_of_the_callers_that_we_refused() -> None:
    received = ev.TurnReceived((QUESTION,), client_tools=(MINE,), loop=Loop(calls_max=8))
    replied = ev.ReplyFinished("", (call("a"), call("b"), call("c", "mine"), call("d", "mine")))
    results = (
        ev.ToolReturned(CallId("a"), "seen"),
        ev.ToolReturned(CallId("b"), "no", is_error=True, code="call_limit"),
        ev.ToolReturned(CallId("c"), "bad", is_error=True, code="bad_arguments"),
        ev.ToolReturned(CallId("d"), "theirs"),
        ev.ToolReturned(CallId("?"), "of no call"),
    )
    assert state(received, replied, *results).calls_made == 2


def test_a_call_that_the_server_added_is_open_until_it_returned() -> None:
    added = ev.CallAdded(call("a", "context"))
    opened = state(ev.TurnReceived((QUESTION,), loop=Loop()), added)
    assert opened.open_calls == {CallId("a"): added.call} and opened.replies == 0
    assert opened.messages[-1].calls == (added.call,)
    opened.add(ev.ToolReturned(CallId("a"), "{}"), at=100.0, seq=3)
    assert not opened.open_calls and not opened.answered


def test_calls_with_which_messages_end_are_open_only_in_a_loop_of_its_own() -> None:
    messages = (QUESTION, Message("assistant", (call("a"),)))
    assert not state(ev.TurnReceived(messages)).open_calls
    begun = state(ev.TurnReceived(messages, loop=Loop()))
    assert list(begun.open_calls) == ["a"] and "a" in begun.used_call_ids


def test_ids_of_calls_in_an_answer_that_was_begun_are_taken() -> None:
    def asked(id: str) -> tuple[Message, ...]:
        return (QUESTION, Message("assistant", (call(id),)))

    assert state(ev.TurnReceived((*asked("a"), *asked("b")))).used_call_ids == {"b"}
    assert state(ev.TurnReceived((*asked("a"), *asked("b")), loop=Loop())).used_call_ids == {"a", "b"}


def test_a_hand_over_that_waits_behind_a_question_to_somebody_takes_no_time_of_the_run() -> None:
    both = (call("a"), call("t", TRANSFER))
    begun = (
        ev.TurnReceived((QUESTION,)),
        ev.RunClaimed(1),
        ev.ReplyFinished("", both),
        ev.ApprovalRequested(both[0], "hash", 900.0),
    )
    folded = state(*begun)
    folded.add(ev.RunClaimed(2), at=500.0)
    assert (folded.idle_claims, folded.time.by(500.0, None)) == (1, 0.0)


def test_hand_overs_are_no_calls_and_several_that_speak_to_each_other_are_noted() -> None:
    refused = ev.ToolReturned(CallId("t"), "no", is_error=True, code="not_handed_over")
    begun = (ev.TurnReceived((QUESTION,)), ev.ReplyFinished("", (call("t", TRANSFER), call("a"))), refused)
    folded = state(*begun, ev.ToolReturned(CallId("a"), "seen"))
    assert (folded.calls_made, folded.by_several) == (1, True)
    added = (ev.CallAdded(call("u", TRANSFER)), ev.ToolReturned(CallId("u"), "{}"), ev.HandedOver("A", "B"))
    for event in added:
        folded.add(event, at=100.0)
    assert folded.calls_made == 1
    assert not state(ev.TurnReceived((QUESTION,)), ev.ReplyFinished("Fine.", (call("a"),))).by_several


def test_it_is_answered_by_a_reply_without_calls() -> None:
    answered = (QUESTION, said("assistant", "Fine."))
    assert not state(ev.TurnReceived(answered)).answered
    assert state(ev.TurnReceived(answered, loop=Loop())).answered
    assert state(ev.TurnReceived((QUESTION,)), ev.ReplyFinished("Fine.")).answered
    assert state(ev.TurnReceived((QUESTION,)), ev.ReplyFinished("")).answered
    assert not state(ev.TurnReceived((QUESTION,)), ev.ReplyFinished("", (call("a"),))).answered


def test_a_reply_that_was_cut_short_is_told_from_one_that_was_not() -> None:
    received = ev.TurnReceived((QUESTION,))
    assert state(received, ev.ReplyFinished("It", finish_reason="length")).cut_short
    assert not state(received, ev.ReplyFinished("It", finish_reason="length"), ev.ReplyFinished("It is.")).cut_short
