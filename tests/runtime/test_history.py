"""What the model is shown of a conversation."""

from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId, RunId
from dragoman.core.operations import TurnView
from dragoman.runtime.history import RESULT_CHARS_MAX, prompt
from dragoman.runtime.weights import CHARS_PER_TOKEN, weight_of

DONE = ev.RunCompleted()


def turn(*answered: Message, asked: str = "q", end: ev.Event | None = DONE) -> TurnView:
    return TurnView(RunId("r"), 1, 0.0, (said("user", asked),), answered, end)


def call(name: str) -> ToolCall:
    return ToolCall(CallId(name), "look", "{}")


def result(name: str, content: str = "seen") -> Message:
    return Message("tool", (ToolResult(CallId(name), content),))


def test_instructions_come_first_as_one_system_message() -> None:
    shown = prompt(("Be brief.", "", "Be kind."), (), (said("user", "hi"),), tokens_max=10)
    assert shown == (said("system", "Be brief.\n\nBe kind."), said("user", "hi"))


def test_earlier_turns_stand_before_the_turn_at_hand() -> None:
    shown = prompt((), (turn(said("assistant", "a")),), (said("user", "hi"),), tokens_max=10)
    assert shown == (said("user", "q"), said("assistant", "a"), said("user", "hi"))


def test_a_failed_turn_is_not_shown_and_a_cancelled_one_is() -> None:
    failed = turn(asked="lost", end=ev.RunFailed("x", "y"))
    cancelled = turn(said("assistant", "half"), asked="kept", end=ev.RunCancelled())
    shown = prompt((), (failed, cancelled), (), tokens_max=10)
    assert shown == (said("user", "kept"), said("assistant", "half"))


def test_calls_without_results_and_results_without_calls_are_left_out() -> None:
    half = turn(
        Message("assistant", (Text("hm"), call("a"), call("b"))), result("b"), result("z"), end=ev.RunCancelled()
    )
    only_calls = turn(Message("assistant", (call("c"),)), end=ev.RunCancelled())
    shown = prompt((), (half, only_calls), (), tokens_max=100)
    assert shown == (
        said("user", "q"),
        Message("assistant", (Text("hm"), call("b"))),
        result("b"),
        said("user", "q"),
    )


def test_the_oldest_go_first_and_what_is_left_begins_with_a_user() -> None:
    past = (turn(said("assistant", "x" * 40), asked="first"), turn(said("assistant", "second answer"), asked="second"))
    shown = prompt((), past, (), tokens_max=15)
    assert shown == (said("user", "second"), said("assistant", "second answer"))


def needs(*names: str) -> TurnView:
    """A turn that ended with calls for its caller."""
    calls = tuple(map(call, names))
    return turn(Message("assistant", (Text("hm"), *calls)), asked="click", end=ev.RunNeedsClient(calls))


def test_results_that_the_caller_brings_stand_behind_the_calls_they_answer_whatever_the_budget() -> None:
    past = (turn(said("assistant", "a")), needs("b"))
    shown = prompt((), past, (result("b"), said("user", "and?")), tokens_max=0)
    assert shown == (
        said("user", "click"),
        Message("assistant", (Text("hm"), call("b"))),
        result("b"),
        said("user", "and?"),
    )


def test_a_caller_may_bring_results_again_and_again() -> None:
    again = TurnView(
        RunId("r2"), 2, 0.0, (result("b"),), (Message("assistant", (call("c"),)),), ev.RunNeedsClient((call("c"),))
    )
    shown = prompt((), (turn(said("assistant", "a")), needs("b"), again), (result("c"),), tokens_max=0)
    assert shown == (
        said("user", "click"),
        Message("assistant", (Text("hm"), call("b"))),
        result("b"),
        Message("assistant", (call("c"),)),
        result("c"),
    )


def test_a_call_that_the_caller_brings_no_result_for_is_left_out() -> None:
    shown = prompt((), (needs("b", "c"),), (result("c"),), tokens_max=100)
    assert shown == (said("user", "click"), Message("assistant", (Text("hm"), call("c"))), result("c"))


def test_calls_and_the_results_a_caller_brought_later_are_paired_in_the_past_too() -> None:
    brought = TurnView(RunId("r2"), 2, 0.0, (result("b"),), (said("assistant", "Done."),), DONE)
    shown = prompt((), (needs("b"), brought), (said("user", "next"),), tokens_max=100)
    assert shown == (
        said("user", "click"),
        Message("assistant", (Text("hm"), call("b"))),
        result("b"),
        said("assistant", "Done."),
        said("user", "next"),
    )


def test_calls_that_the_caller_never_answered_are_left_out_when_the_user_goes_on() -> None:
    shown = prompt((), (needs("b"),), (said("user", "never mind"),), tokens_max=100)
    assert shown == (said("user", "click"), said("assistant", "hm"), said("user", "never mind"))


def test_a_long_result_is_cut_with_a_notice() -> None:
    asked = Message("assistant", (call("a"),))
    shown = prompt((), (), (asked, result("a", "x" * (RESULT_CHARS_MAX + 7))), tokens_max=10)
    notice = "\n[7 more characters left out; ask for a smaller part]"
    assert shown == (asked, result("a", "x" * RESULT_CHARS_MAX + notice))


def test_results_join_their_calls_and_calls_without_one_go() -> None:
    """However a caller tells them: elastic/kibana#214005."""
    a, b, c = (Message("assistant", (call(name),)) for name in "abc")
    lost = Message("assistant", (Text("hm"), call("d")))
    told = (said("user", "1"), a, b, said("user", "2"), result("b"), c, result("a"), result("a", "twice"), lost)
    shown = prompt((), (), (*told, said("user", "3")), tokens_max=10)
    hm = Message("assistant", (Text("hm"),))
    users = [said("user", text) for text in "123"]
    assert shown == (users[0], a, result("a"), b, result("b"), users[1], hm, users[2])


def test_an_id_that_is_used_again_means_the_latest_call() -> None:
    first, again = (Message("assistant", (ToolCall(CallId("a"), name, "{}"),)) for name in ("look", "see"))
    told = (
        said("user", "q"),
        first,
        result("a", "1"),
        said("user", "more"),
        again,
        said("user", "well?"),
        result("a", "2"),
    )
    shown = prompt((), (), told, tokens_max=10)
    assert shown == (*told[:5], result("a", "2"), said("user", "well?"))


def test_a_turn_that_is_in_order_stays_as_it_is() -> None:
    told = (said("user", ""), Message("assistant", (call("a"), call("b"))), result("b"), result("a"), said("user", "x"))
    assert prompt((), (), told, tokens_max=10) == told


MESSAGES = st.lists(
    st.one_of(
        st.text(max_size=20).map(lambda text: [said("assistant", text)]),
        st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True).map(
            lambda names: [Message("assistant", tuple(map(call, names))), *map(result, names)]
        ),
        st.sampled_from("abcd").map(lambda name: [Message("assistant", (call(name),))]),
        st.sampled_from("abcd").map(lambda name: [result(name)]),
    ),
    max_size=5,
).map(lambda groups: [message for group in groups for message in group])


@given(st.lists(MESSAGES, max_size=5), st.integers(0, 60))
def test_no_trimming_parts_a_call_from_its_result(turns: list[list[Message]], tokens_max: int) -> None:
    shown = prompt((), [turn(*messages) for messages in turns], (), tokens_max=tokens_max)
    assert sum(weight_of(message) for message in shown) <= tokens_max * CHARS_PER_TOKEN
    waiting: set[str] = set()
    for message in shown:
        if message.role == "tool":
            found = {part.call_id for part in message.parts if isinstance(part, ToolResult)}
            assert found <= waiting
            waiting -= found
        else:
            assert not waiting
            waiting = {part.id for part in message.calls}
    assert not waiting
    assert not shown or shown[0].role == "user"
