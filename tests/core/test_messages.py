"""Messages and what is read from their parts."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.messages import Image, Message, Text, Thinking, ToolCall, ToolResult, Usage, said
from dragoman.core.names import CallId

CALL = ToolCall(CallId("c1"), "look", "{}")
MIXED = Message(
    "assistant",
    (Thinking("hm"), Text("It is "), Image("image/png", data="aGk="), CALL, Text("fine."), ToolResult(CALL.id, "seen")),
    name="sre",
)

counts = st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts)
texts = st.text(max_size=8)
calls = st.builds(ToolCall, texts.map(CallId), texts, texts)
parts = st.one_of(
    st.builds(Text, texts),
    st.builds(Thinking, texts),
    st.builds(Image, texts, texts, texts),
    calls,
    st.builds(ToolResult, texts.map(CallId), texts, st.booleans()),
)
messages = st.builds(
    Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.lists(parts, max_size=4).map(tuple), texts
)


def test_the_text_of_a_message_is_its_text_parts_and_nothing_else() -> None:
    assert MIXED.text == "It is fine."
    assert Message("assistant", (CALL,)).text == ""


def test_the_calls_of_a_message_stand_in_order() -> None:
    other = ToolCall(CallId("c2"), "count", "not json")
    assert MIXED.calls == (CALL,)
    assert Message("assistant", (other, Text("and"), CALL)).calls == (other, CALL)


def test_what_was_said_is_one_text_part() -> None:
    assert said("user", "hi") == Message("user", (Text("hi"),), name="")


@given(messages)
def test_a_message_reads_back_as_it_was_written(message: Message) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=Message) == message


def test_a_part_of_an_unknown_kind_is_no_message() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"role":"user","parts":[{"part":"video","url":"x"}]}', type=Message)


@given(usages, usages, usages)
def test_usage_adds_up_in_any_order(a: Usage, b: Usage, c: Usage) -> None:
    assert (a + b) + c == c + (b + a)
    assert a + Usage() == a
    assert (a + b).total_tokens == a.total_tokens + b.total_tokens


def test_what_agents_said_to_each_other_is_internal_unless_there_is_more_to_it() -> None:
    hidden, call = Text("to others", hidden=True), ToolCall(CallId("c"), "ls", "{}")
    assert Message("assistant", (hidden,)).is_internal
    assert Message("assistant", (Thinking("hm"), hidden)).is_internal
    for message in (
        Message("user", (hidden,)),
        Message("assistant", (hidden, call)),
        Message("assistant", (hidden, Text("to all"))),
        Message("assistant", ()),
        Message("assistant", (Thinking("hm"),)),
    ):
        assert not message.is_internal
