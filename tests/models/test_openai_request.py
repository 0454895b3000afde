import json
from typing import Any

import pytest

from dragoman.core.agents import ToolSpec
from dragoman.core.errors import BackendFailed, BadRequest
from dragoman.core.messages import Image, Message, Text, Thinking, ToolCall, ToolResult, said
from dragoman.core.names import CallId
from dragoman.models.openai_request import SHOWN_CHARS_MAX, TOOL_LISTS_KEPT_MAX, RequestWriter
from dragoman.runtime.ports import Prompt

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
TOOL = ToolSpec("read_file", "Read a file.", SCHEMA, examples=("read it",), keywords=("read",))


def body(prompt: Prompt, *, stream: bool = False, **params: Any) -> Any:
    return json.loads(RequestWriter("gpt-x", params).body(prompt, stream=stream))


def wire(*messages: Message) -> Any:
    return body(Prompt(messages))["messages"]


def test_a_blocking_question_asks_for_nothing_but_the_answer() -> None:
    assert body(Prompt((said("system", "Be brief."), said("user", "hi")))) == {
        "model": "gpt-x",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "stream": False,
    }


def test_a_streamed_question_asks_for_usage_too() -> None:
    assert body(Prompt((said("user", "hi"),)), stream=True) == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_name_the_caller_gave_goes_on_the_wire() -> None:
    assert body(Prompt((said("user", "hi"),), model_name="gpt-y"))["model"] == "gpt-y"


def test_tools_are_sent_without_what_is_not_for_a_model() -> None:
    assert body(Prompt((said("user", "hi"),), tools=(TOOL,)))["tools"] == [
        {
            "type": "function",
            "function": {"name": "read_file", "description": "Read a file.", "parameters": SCHEMA},
        }
    ]


def test_tool_lists_beyond_those_remembered_are_still_sent_right() -> None:
    writer = RequestWriter("gpt-x", {})
    for number in range(TOOL_LISTS_KEPT_MAX + 2):
        prompt = Prompt((said("user", "hi"),), tools=(ToolSpec(f"t{number}", "", SCHEMA),))
        for _ in range(2):
            sent = json.loads(writer.body(prompt, stream=False))
            assert [tool["function"]["name"] for tool in sent["tools"]] == [f"t{number}"]


def test_calls_and_results_keep_their_ids() -> None:
    call = ToolCall(CallId("c1"), "read_file", '{"path":"a"}')
    assert wire(
        said("user", "read a"),
        Message("assistant", (Text("Looking."), call)),
        Message("tool", (ToolResult(CallId("c1"), "text of a"),)),
    ) == [
        {"role": "user", "content": "read a"},
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "read_file", "arguments": '{"path":"a"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "text of a"},
    ]


def test_a_reply_of_calls_alone_has_null_content_and_arguments_that_are_json() -> None:
    (message,) = wire(Message("assistant", (ToolCall(CallId("c"), "ls", ""), ToolCall(CallId("d"), "ls", "{}"))))
    assert message["content"] is None
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == ["{}", "{}"]


@pytest.mark.parametrize(
    ("wrote", "sent"),
    [
        ('{"a":1}', '{"a":1}'),
        (" \n", "{}"),
        ('"{\\"a\\":1}"', '{"a":1}'),
        ('{"a":1,}', '{"unreadable_arguments":"{\\"a\\":1,}"}'),
        ("[1]", '{"unreadable_arguments":"[1]"}'),
        ('"[1]"', '{"unreadable_arguments":"[1]"}'),
        ('{"a":"\ud800"}', '{"unreadable_arguments":"{\\"a\\":\\"?\\"}"}'),
        ("x" * 300_000, '{"unreadable_arguments":"' + "x" * SHOWN_CHARS_MAX + '"}'),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, None),
    ],
)
def test_arguments_of_an_earlier_call_are_always_the_text_of_an_object(wrote: str, sent: str | None) -> None:
    """Servers that parse them refuse the whole conversation for one call they cannot read."""
    (message,) = wire(Message("assistant", (ToolCall(CallId("c"), "ls", wrote),)))
    arguments = message["tool_calls"][0]["function"]["arguments"]
    assert sent is None or arguments == sent
    assert isinstance(json.loads(arguments), dict)
    assert len(arguments) < 3 * SHOWN_CHARS_MAX


def test_several_results_in_one_message_become_one_message_each() -> None:
    results = (ToolResult(CallId("c"), "1"), ToolResult(CallId("d"), "2", is_error=True))
    assert wire(Message("tool", results)) == [
        {"role": "tool", "tool_call_id": "c", "content": "1"},
        {"role": "tool", "tool_call_id": "d", "content": "2"},
    ]


def test_thinking_is_never_sent() -> None:
    assert wire(
        Message("assistant", (Thinking("hmm"), Text("Yes."))), Message("assistant", (Thinking("only this"),))
    ) == [{"role": "assistant", "content": "Yes."}]


def test_images_go_as_data_urls_or_by_their_url_in_their_place() -> None:
    parts = (Text("What is this? "), Image("image/png", data="QUJD"), Image("image/png", url="https://x/y.png"))
    assert wire(Message("user", parts)) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this? "},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            ],
        }
    ]


def test_text_in_several_parts_is_joined_and_a_user_who_said_nothing_still_has_a_message() -> None:
    assert wire(Message("user", (Text("a"), Text("b"))), Message("user", ())) == [
        {"role": "user", "content": "ab"},
        {"role": "user", "content": ""},
    ]


def test_extra_parameters_are_sent_as_configured() -> None:
    sent = body(Prompt((said("user", "hi"),)), temperature=0.2, stop=["é"], max_tokens=7)
    assert {key: sent[key] for key in ("temperature", "stop", "max_tokens")} == {
        "temperature": 0.2,
        "stop": ["é"],
        "max_tokens": 7,
    }


@pytest.mark.parametrize(
    ("params", "bound"),
    [
        ({}, {"max_tokens": 5}),
        ({"max_tokens": 7}, {"max_tokens": 5}),
        ({"max_completion_tokens": 7}, {"max_completion_tokens": 5}),
    ],
)
def test_the_bound_of_one_answer_takes_the_place_of_the_configured_one(params: Any, bound: Any) -> None:
    sent = body(Prompt((said("user", "hi"),), max_tokens=5), **params)
    assert {key: value for key, value in sent.items() if key.startswith("max_")} == bound


@pytest.mark.parametrize("key", ["model", "messages", "tools", "stream", "stream_options"])
def test_parameters_that_are_ours_to_set_are_refused_by_name(key: str) -> None:
    with pytest.raises(BadRequest) as caught:
        RequestWriter("gpt-x", {key: 1})
    assert caught.value.detail == f"params.{key}: this is ours to set; take it out"


def test_half_a_surrogate_pair_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(BackendFailed) as caught:
        body(Prompt((said("user", "a\udcffb"),)))
    assert (caught.value.code, caught.value.retryable) == ("upstream_refused", False)


HI = (said("user", "hi"),)


@pytest.mark.parametrize(
    ("choice", "params", "sent"),
    [
        ("", {}, None),
        ("auto", {}, "auto"),
        ("read_file", {}, {"type": "function", "function": {"name": "read_file"}}),
        ("", {"tool_choice": "required"}, "required"),
        ("auto", {"tool_choice": "required"}, "required"),
        ("read_file", {"tool_choice": "required"}, {"type": "function", "function": {"name": "read_file"}}),
    ],
)
def test_a_choice_is_sent_with_tools_and_never_without(choice: str, params: dict[str, Any], sent: object) -> None:
    """Elastic spec 4.1, D9."""
    assert body(Prompt(HI, (TOOL,), choice=choice), **params).get("tool_choice") == sent
    assert "tool_choice" not in body(Prompt(HI, choice=choice), **params)


def test_a_temperature_is_sent_unless_one_is_configured() -> None:
    assert body(Prompt(HI, temperature=0.25))["temperature"] == 0.25
    assert body(Prompt(HI, temperature=0.0))["temperature"] == 0.0
    assert body(Prompt(HI, temperature=0.25), temperature=1)["temperature"] == 1
    assert "temperature" not in body(Prompt(HI))


@pytest.mark.parametrize("schema", [{}, {"type": "object"}, {"properties": {}}])
def test_a_tool_without_parameters_still_says_that_it_takes_an_object(schema: dict[str, Any]) -> None:
    (tool,) = body(Prompt(HI, (ToolSpec("now", "The time.", schema),)))["tools"]
    assert tool["function"]["parameters"] == {"type": "object", "properties": {}}
