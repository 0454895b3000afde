"""Messages of this wire become ours and come back as they were."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.errors import BadRequest
from dragoman.core.events import MessagesImported, RunCompleted
from dragoman.core.messages import Image, Masked, Message, Text, Thinking, ToolCall, ToolResult, said
from dragoman.core.names import CallId, RunId
from dragoman.core.operations import TurnView
from dragoman.dialects.elastic.errors import STREAM_FAULT
from dragoman.dialects.elastic.messages import (
    Deanonymization,
    Entity,
    FunctionCall,
    WireBody,
    WireMessage,
    call_id,
    core_messages,
    deanonymizations,
    iso,
    wire_messages,
)

AT = "2025-06-25T23:45:00.000Z"
LS = ToolCall(CallId("c1"), "ls", '{"path":"."}')
CAT = ToolCall(CallId("c2"), "cat", "{}")


def wire(role: Any, content: str = "", **fields: Any) -> WireMessage:
    return WireMessage(AT, WireBody(role, content, **fields))


def calls(name: str, arguments: str = "{}", content: str = "", trigger: Any = "assistant") -> WireMessage:
    return wire("assistant", content, function_call=FunctionCall(name, trigger, arguments))


def turn(*asked: Message, answered: tuple[Message, ...] = (), at: float = 0.0, **fields: Any) -> TurnView:
    return TurnView(RunId("run-1"), 2, at, asked, answered, RunCompleted(), **fields)


def bare(*messages: Message) -> list[tuple[Any, ...]]:
    """Without asides."""
    return [(message.role, *message.parts) for message in messages]


def plain(messages: tuple[WireMessage, ...]) -> list[Any]:
    return [json.loads(msgspec.json.encode(each.message)) for each in messages]


# -- wire to ours ------------------------------------------------------------------------------------------------------


def test_each_role_becomes_ours() -> None:
    told = [
        wire("system", "Be kind."),
        wire("elastic", "On the page: errors."),
        wire("user", "What is there?"),
        wire("assistant", "Nothing."),
        wire("user", "Look again."),
        calls("ls", '{"path":"."}', "I will look."),
        wire("user", '["a"]', name="ls", data='{"seen":1}'),
        wire("assistant", "A file."),
    ]
    call = ToolCall(call_id(5), "ls", '{"path":"."}')
    assert bare(*core_messages(told)) == [
        ("system", Text("Be kind.")),
        ("system", Text("On the page: errors.")),
        ("user", Text("What is there?")),
        ("assistant", Text("Nothing.")),
        ("user", Text("Look again.")),
        ("assistant", Text("I will look."), call),
        ("tool", ToolResult(call.id, '{"response":["a"]}', shown='{"seen":1}')),
        ("assistant", Text("A file.")),
    ]


def test_a_function_message_with_a_name_is_a_result() -> None:
    told = [calls("ls"), wire("function", "{}", name="ls")]
    assert bare(*core_messages(told))[1] == ("tool", ToolResult(call_id(0), "{}"))


def test_a_result_is_of_the_latest_call_of_its_name() -> None:
    told = [calls("ls", "1"), wire("user", "{}", name="ls"), calls("ls", "2"), wire("user", "[]", name="ls")]
    messages = core_messages(told)
    assert [message.calls[0].id for message in messages if message.calls] == [call_id(0), call_id(2)]
    assert bare(messages[1], messages[3]) == [
        ("tool", ToolResult(call_id(0), "{}")),
        ("tool", ToolResult(call_id(2), '{"response":[]}')),
    ]


@pytest.mark.parametrize("call", [FunctionCall("", "assistant", ""), FunctionCall("", "user")])
def test_a_call_without_a_name_is_no_call(call: FunctionCall) -> None:
    assert bare(*core_messages([wire("assistant", "Hello.", function_call=call)])) == [("assistant", Text("Hello."))]


def test_a_call_without_arguments_has_none() -> None:
    told = WireMessage(AT, WireBody("assistant", "", function_call=FunctionCall("context", "assistant")))
    assert core_messages([told])[0].calls == (ToolCall(call_id(0), "context", "{}"),)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ([wire("user", "{}", name="ls")], "Could not find tool call request for ls"),
        ([calls("cat"), wire("function", "{}", name="ls")], "Could not find tool call request for ls"),
        ([wire("function", "{}")], "Unsupported message type: function"),
        ([wire("function", "{}", name="")], "Unsupported message type: function"),
    ],
)
def test_what_cannot_be_understood_is_to_be_said_in_the_stream(told: list[WireMessage], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        core_messages(told)
    assert (caught.value.detail, caught.value.faults[0].type) == (sentence, STREAM_FAULT)


def test_ids_are_six_hex_digits_and_differ() -> None:
    ids = [call_id(position) for position in range(20_000)]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 6 and int(each, 16) >= 0 for each in ids)


# -- steps of `query` --------------------------------------------------------------------------------------------------

QUERIED = (
    wire("user", "Logs?"),
    calls("query"),
    wire("user", '{"found":true}', name="query"),
    calls("execute_query", '{"query":"FROM logs"}'),
    wire("user", '{"columns":[],"rows":[]}', name="execute_query"),
)


def test_messages_behind_a_query_are_its_steps() -> None:
    messages = core_messages([*QUERIED, wire("assistant", "None.")])
    assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"]
    result = messages[2].parts[0]
    assert isinstance(result, ToolResult)
    content = json.loads(result.content)
    assert content["found"] is True
    assert [(step["role"], step.get("name")) for step in content["steps"]] == [
        ("assistant", None),
        ("tool", "execute_query"),
    ]
    assert content["steps"][0]["toolCalls"][0]["function"] == {
        "name": "execute_query",
        "arguments": {"query": "FROM logs"},
    }
    assert content["steps"][1]["response"] == {"columns": [], "rows": []}


def test_steps_come_back_as_the_messages_they_were() -> None:
    told = (*QUERIED, wire("assistant", "None."))
    assert wire_messages([turn(*core_messages(told))]) == told


def test_a_call_at_the_end_is_still_to_be_made() -> None:
    messages = core_messages([*QUERIED, calls("visualize_query", '{"query":"x"}', trigger="user")])
    assert messages[-1].calls[0].name == "visualize_query"


def test_only_an_object_can_take_steps() -> None:
    told = [calls("query"), wire("user", "[]", name="query"), calls("execute_query"), wire("user", "1", name="query")]
    assert len(core_messages(told)) == 4


# -- ours to wire ------------------------------------------------------------------------------------------------------


def test_what_a_model_said_is_told_with_an_empty_call() -> None:
    told = wire_messages([turn(said("user", "Hi"), answered=(said("assistant", "Hello"),), at=1.5, said_at=(2.25,))])
    assert [each.timestamp for each in told] == ["1970-01-01T00:00:01.500Z", "1970-01-01T00:00:02.250Z"]
    assert plain(told) == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Hello",
            "function_call": {"name": "", "trigger": "assistant", "arguments": ""},
        },
    ]


def test_the_context_pair_is_told_as_it_stands_in_the_stream() -> None:
    call = ToolCall(CallId("c0"), "context", "{}")
    answered = (
        Message("assistant", (call,)),
        Message("tool", (ToolResult(call.id, '{"learnings":[]}', shown='{"suggestions":[]}'),)),
    )
    assert plain(wire_messages([turn(said("user", "Hi"), answered=answered)]))[1:] == [
        {"role": "assistant", "content": "", "function_call": {"name": "context", "trigger": "assistant"}},
        {"role": "user", "content": '{"learnings":[]}', "name": "context", "data": '{"suggestions":[]}'},
    ]


def test_of_several_calls_each_is_told_with_its_result() -> None:
    answered = (
        Message("assistant", (Thinking("hm"), Text("I look."), LS, CAT)),
        Message("tool", (ToolResult(CAT.id, "2"),)),
        Message("tool", (ToolResult(LS.id, "1"),)),
        said("assistant", "Done."),
    )
    told = plain(wire_messages([turn(answered=answered, said_at=(1.0, 2.0, 3.0, 4.0))]))
    assert [(each["content"], each.get("name") or each["function_call"]["name"]) for each in told] == [
        ("I look.", "ls"),
        ("1", "ls"),
        ("", "cat"),
        ("2", "cat"),
        ("Done.", ""),
    ]


def test_what_is_hidden_and_images_are_not_told() -> None:
    asked = Message("user", (Text("It is noon. ", hidden=True), Text("Hi"), Image("image/png", "AA==")))
    assert plain(wire_messages([turn(asked)])) == [{"role": "user", "content": "Hi"}]


def test_a_result_that_nobody_called_for_is_left_out() -> None:
    assert wire_messages([turn(Message("tool", (ToolResult(CallId("x"), "{}"),)))]) == ()
    assert wire_messages([turn(Message("tool", ()))]) == ()


def test_a_result_of_an_earlier_turn_finds_its_name() -> None:
    first = turn(said("user", "Look"), answered=(Message("assistant", (LS,)),))
    second = turn(Message("tool", (ToolResult(LS.id, "1"),)))
    assert plain(wire_messages([first, second]))[-1]["name"] == "ls"


@pytest.mark.parametrize("aside", ["no json", '{"at":1}', '{"wire":"other","timestamp":"x"}'])
def test_an_aside_of_another_wire_counts_for_nothing(aside: str) -> None:
    (told,) = wire_messages([turn(Message("user", (Text("Hi"),), aside=aside), at=0.0)])
    assert told == WireMessage("1970-01-01T00:00:00.000Z", WireBody("user", "Hi"))


@pytest.mark.parametrize(
    ("at", "text"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1_750_895_100.25, "2025-06-25T23:45:00.250Z")],
)
def test_times_are_utc_to_the_millisecond(at: float, text: str) -> None:
    assert iso(at) == text


# -- round trip --------------------------------------------------------------------------------------------------------

texts = st.text(max_size=8)
triggers = st.sampled_from(["assistant", "user", "elastic"])
names = st.sampled_from(["", "ls", "context", "query", "execute_query", "visualize_query"])
function_calls = st.builds(
    FunctionCall, names, triggers, st.sampled_from([msgspec.UNSET, "", "{}", '{"a":1}', "no json"])
)
found = st.builds(Deanonymization, st.integers(0, 9), st.integers(0, 9), st.builds(Entity, texts, texts, texts))
optional = st.sampled_from([msgspec.UNSET, "", "{}", "[]", '{"a":[1]}', "x"])
bodies = st.builds(
    WireBody,
    st.sampled_from(["system", "assistant", "function", "user", "elastic"]),
    optional,
    st.one_of(st.just(msgspec.UNSET), names),
    optional,
    optional,
    st.one_of(st.just(msgspec.UNSET), function_calls),
    st.one_of(st.just(msgspec.UNSET), st.lists(found, max_size=2).map(tuple)),
)
wires = st.lists(st.builds(WireMessage, texts, bodies), max_size=7)


@given(told=wires)
def test_what_comes_in_goes_out_as_it_was(told: list[WireMessage]) -> None:
    try:
        messages = core_messages(told)
    except BadRequest as error:
        assert error.faults[0].type == STREAM_FAULT
        return
    imported = TurnView(RunId(""), 1, 0.0, messages, (), MessagesImported(messages))
    assert wire_messages([imported]) == tuple(told)


# -- what models were not told -----------------------------------------------------------------------------------------

MAIL = Masked("EMAIL", "jo@a.org", "EMAIL_1")
LONG = Masked("EMAIL", "bobjo@a.org", "EMAIL_2")


def test_values_that_were_masked_are_told_where_they_stand() -> None:
    asked = said("user", "I am jo@a.org")
    told = wire_messages([turn(asked, said("user", "Who?"), masked=(MAIL,))])
    assert told[0].message.deanonymizations == (Deanonymization(5, 13, Entity("EMAIL", "jo@a.org", "EMAIL_1")),)
    assert told[1].message.deanonymizations is msgspec.UNSET


def test_what_a_caller_told_of_them_itself_stays() -> None:
    own = (Deanonymization(0, 1, Entity("X", "I", "M")),)
    (message,) = core_messages([wire("user", "I am jo@a.org", deanonymizations=own)])
    assert wire_messages([turn(message, masked=(MAIL,))])[0].message.deanonymizations == own


def test_of_values_within_each_other_the_longer_one_is_told() -> None:
    assert [(each.start, each.entity.mask) for each in deanonymizations("x bobjo@a.org jo@a.org", (MAIL, LONG))] == [
        (2, "EMAIL_2"),
        (14, "EMAIL_1"),
    ]


def test_offsets_count_utf16_units() -> None:
    found = deanonymizations("😀 jo@a.org 😀😀jo@a.org", (MAIL,))
    assert [(each.start, each.end) for each in found] == [(3, 11), (16, 24)]


def test_an_empty_value_stands_nowhere() -> None:
    assert deanonymizations("abc", (Masked("X", "", "M"),)) == ()
