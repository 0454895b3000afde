"""Our messages as this wire's objects: what views and events both show (views: test_encode.py)."""

from typing import Any

import pytest

from dragoman.core.messages import Message, Text, Thinking, ToolCall, ToolResult, said
from dragoman.core.names import CallId, RunId
from dragoman.core.operations import TurnView
from dragoman.dialects.grafana import shapes
from dragoman.dialects.grafana.messages import (
    NO_CONTENT,
    Names,
    asked_messages,
    contents,
    reply_message,
    result_content,
    tool_input,
    turn_messages,
)

AT = 1_700_000_000.0
CALL = ToolCall(CallId("c1"), "list_files", "{}")


def test_neighbouring_texts_are_one_and_calls_are_remembered_by_name() -> None:
    names: Names = {}
    shown = contents((Thinking("hm"), Text("a"), Text("", hidden=True), Text("b"), CALL), names)
    assert shown == [
        shapes.ThinkingContent("hm"),
        shapes.TextContent("ab"),
        shapes.ToolUse(toolId="c1", toolName="list_files", toolInput={}),
    ]
    assert names == {"c1": "list_files"}
    result = result_content(ToolResult(CALL.id, "out", is_error=True), names, took_ms=5)
    assert isinstance(result, shapes.ToolResultContent)
    assert (result.toolName, result.isError, result.durationMs) == ("list_files", True, 5)


def test_a_result_of_a_call_that_nobody_knows_has_no_name() -> None:
    result = result_content(ToolResult(CALL.id, "out"), {})
    assert isinstance(result, shapes.ToolResultContent)
    assert result.toolName == ""


def test_what_shows_nothing_is_an_empty_text() -> None:
    assert reply_message(RunId("r"), 1, [], at=AT).content == NO_CONTENT
    (asked,) = asked_messages((Message("user", ()),), {}, of="m3", at=AT)
    assert (asked.id, asked.content) == ("m3-q1", NO_CONTENT)


def test_a_result_without_a_reply_before_it_is_left_out() -> None:
    """No run begins with one; a view that did would have no message to show it in."""
    turn = TurnView(RunId("r"), 2, AT, (said("user", "q"),), (Message("tool", (ToolResult(CALL.id, "x"),)),), None)
    assert [message.id for message in turn_messages(turn, {})] == ["r-q1"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ("", {}),
        (" ", {}),
        ('{"a": "\ud800"}', {"arguments": '{"a": "\ud800"}'}),
        ("no json", {"arguments": "no json"}),
        ("[1]", {"arguments": "[1]"}),
        ('{"a":', {"arguments": '{"a":'}),
        ("[" * 3000, {"arguments": "[" * 3000}),
        ('{"a": 1e999}', {"arguments": '{"a": 1e999}'}),
    ],
    ids=["object", "empty", "blank", "surrogate", "text", "array", "half", "deep", "too large"],
)
def test_arguments_are_an_object_or_shown_as_the_text_they_are(arguments: str, shown: dict[str, Any]) -> None:
    assert tool_input(arguments) == shown
