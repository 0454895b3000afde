"""What is told of a turn, and how each generation spells it."""

from typing import Any

import msgspec
import pytest

from dragoman.core.messages import Message
from dragoman.dialects.rowboat.messages import Telling, Told, both, camel, iso, opening_of, snake, told_of
from tests.dialects.rowboat.chatting import AT, ISO, Json, calls, handed, result, text


def told(*messages: Message) -> list[Json]:
    """In the spelling of the first generation."""
    return [wire(snake(each)) for each in told_of(messages, (), at=AT)]


def brief(*messages: Message) -> list[str]:
    """One word for each message: the tool, the text."""
    return [each.calls[0].name if each.calls else each.tool or each.content for each in told_of(messages, (), at=AT)]


def call(name: str, number: int, arguments: str = "{}") -> Json:
    return {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_text_is_for_the_user_and_a_hidden_one_for_other_agents() -> None:
    assert told(text("A", "note", internal=True), text("B", "hello")) == [
        {"role": "assistant", "content": "note", "agenticSender": "A", "agenticResponseType": "internal"},
        {"role": "assistant", "content": "hello", "agenticSender": "B", "agenticResponseType": "external"},
    ]


def test_calls_of_one_reply_are_a_message_each_and_results_have_the_tools_name() -> None:
    messages = (calls("A", "get_order", "refund"), result("c2", "no"), result("c1", "late"), text("A", "Sorry."))
    sender = {"agenticSender": "A", "agenticResponseType": "internal"}
    assert told(*messages)[:4] == [
        {"role": "assistant", "tool_calls": [call("get_order", 1)], **sender},
        {"role": "assistant", "tool_calls": [call("refund", 2)], **sender},
        {"role": "tool", "content": "no", "tool_call_id": "c2", "tool_name": "refund"},
        {"role": "tool", "content": "late", "tool_call_id": "c1", "tool_name": "get_order"},
    ]


def test_what_is_said_before_a_call_is_a_message_before_it() -> None:
    messages = (calls("A", "get_order", said="Let me see."), result("c1", "late"), text("A", "It is late."))
    assert brief(*messages) == ["Let me see.", "get_order", "get_order", "It is late."]


def test_a_transfer_is_told_as_a_pair_that_names_who_has_the_word_now() -> None:
    pair = handed("A", "Step One", asked="The Line")
    first, second = told(*pair, text("Step One", "done", internal=True), text("A", "So."))[:2]
    arguments = '{"assistant": "Step One"}'
    assert first["tool_calls"] == [call("transfer_to_agent", 1, arguments)]
    assert second == {
        "role": "tool",
        "content": arguments,
        "tool_call_id": "c1",
        "tool_name": "transfer_to_agent",
    }


def test_a_transfer_that_was_refused_is_not_told_nor_is_one_that_came_to_nothing() -> None:
    refused = (calls("A", "transfer_to_agent"), result("c1", "No.", is_error=True), text("A", "Myself, then."))
    assert brief(*refused) == ["Myself, then."]
    assert brief(calls("A", "get_order", "transfer_to_agent"), result("c1", "late"), text("A", "So.")) == [
        "get_order",
        "get_order",
        "So.",
    ]


def test_of_several_transfers_only_the_one_that_went_through_is_told() -> None:
    messages = (
        calls("A", "transfer_to_agent", "transfer_to_agent"),
        result("c2", "One at a time.", is_error=True),
        result("c1", '{"assistant": "B"}'),
        text("B", "Hi."),
    )
    assert brief(*messages) == ["transfer_to_agent", "transfer_to_agent", "Hi."]


def test_a_tool_that_failed_is_told() -> None:
    assert (
        brief(calls("A", "get_order"), result("c1", "It broke.", is_error=True), text("A", "Sorry."))[1] == "get_order"
    )


def test_a_reply_without_a_text_is_told_only_as_the_last_one() -> None:
    empty = text("A", "")
    assert brief(empty, *handed("A", "B"), text("B", "Hi.")) == ["transfer_to_agent", "transfer_to_agent", "Hi."]
    assert told(empty) == [
        {"role": "assistant", "content": "", "agenticSender": "A", "agenticResponseType": "external"}
    ]


def test_times_are_those_of_the_messages_or_of_the_turn() -> None:
    assert [each.at for each in told_of((text("A", "x"),), (AT,), at=0.0)] == [ISO]
    assert [each.at for each in told_of((text("A", "x"),), (), at=AT)] == [ISO]
    assert iso(AT + 0.0625) == "2025-08-06T00:00:00.062Z"


# -- as it comes -------------------------------------------------------------------------------------------------------


def heard(telling: Telling, *messages: Message) -> list[list[str]]:
    return [
        [each.calls[0].name if each.calls else each.tool or each.content for each in telling.add(message, AT, seq=at)]
        for at, message in enumerate(messages, start=1)
    ]


def test_a_message_is_told_as_soon_as_it_is_certain_and_none_overtakes_another() -> None:
    telling = Telling()
    messages = (
        calls("A", "get_order", "transfer_to_agent", "refund"),
        result("c1", "late"),
        result("c3", "no"),
        result("c2", '{"assistant": "B"}'),
        text("B", "Hi."),
    )
    assert heard(telling, *messages) == [
        ["get_order"],
        [],
        [],
        ["transfer_to_agent", "refund", "get_order", "refund", "transfer_to_agent"],
        ["Hi."],
    ]
    assert telling.finish() == ()


def test_what_was_told_as_it_came_is_what_is_told_at_the_end() -> None:
    messages = (
        calls("A", "transfer_to_agent", "get_order", said="One moment."),
        result("c2", "late"),
        result("c1", "No.", is_error=True),
        text("A", ""),
        *handed("A", "B", call=7),
        text("B", "Hi."),
    )
    telling = Telling()
    pieces = [each for message in messages for each in telling.add(message, AT)]
    assert (*pieces, *telling.finish()) == told_of(messages, (), at=AT)


def test_what_is_not_told_yet_can_be_taken_back_and_what_is_cannot() -> None:
    telling = Telling()
    telling.add(text("A", "Hi."), AT, seq=5)
    telling.add(calls("A", "transfer_to_agent"), AT, seq=7)
    assert telling.undo(6)
    assert telling.finish() == ()
    assert not telling.undo(5)


# -- spellings ---------------------------------------------------------------------------------------------------------

CALLED = told_of((calls("A", "get_order"), result("c1", "late")), (), at=AT)
SAID = Told("assistant", "hi", sender="A", at=ISO)


def wire(message: Any) -> Json:
    return msgspec.json.decode(msgspec.json.encode(message))


def test_camel_case_has_null_with_calls_and_a_type_with_texts() -> None:
    assert [wire(camel(each, timed=True)) for each in (*CALLED, SAID)] == [
        {
            "role": "assistant",
            "content": None,
            "toolCalls": [call("get_order", 1)],
            "agentName": "A",
            "timestamp": ISO,
        },
        {"role": "tool", "content": "late", "toolCallId": "c1", "toolName": "get_order", "timestamp": ISO},
        {"role": "assistant", "content": "hi", "agentName": "A", "responseType": "external", "timestamp": ISO},
    ]


def test_without_times_it_says_the_name_as_its_client_library_reads_it_too() -> None:
    spoken = wire(camel(SAID, timed=False))
    assert spoken == {
        "role": "assistant",
        "content": "hi",
        "agentName": "A",
        "agenticName": "A",
        "responseType": "external",
    }


def test_an_unknown_sender_is_left_out_in_the_first_generation_and_null_later() -> None:
    nobody = Told("assistant", "hi")
    assert "agenticSender" not in wire(snake(nobody))
    assert wire(camel(nobody, timed=False))["agentName"] is None
    assert [wire(both(nobody))[name] for name in ("agenticSender", "agentName", "agenticName")] == [None] * 3


def test_every_spelling_at_once() -> None:
    assert [wire(both(each)) for each in (*CALLED, SAID)] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("get_order", 1)],
            "toolCalls": [call("get_order", 1)],
            "agenticSender": "A",
            "agentName": "A",
            "agenticName": "A",
            "agenticResponseType": "internal",
            "responseType": "internal",
            "timestamp": ISO,
        },
        {
            "role": "tool",
            "content": "late",
            "tool_call_id": "c1",
            "toolCallId": "c1",
            "tool_name": "get_order",
            "toolName": "get_order",
            "timestamp": ISO,
        },
        {
            "role": "assistant",
            "content": "hi",
            "agenticSender": "A",
            "agentName": "A",
            "agenticName": "A",
            "agenticResponseType": "external",
            "responseType": "external",
            "timestamp": ISO,
        },
    ]


@pytest.mark.parametrize("role", ["system", "user"])
def test_questions_are_spelled_alike_everywhere(role: Any) -> None:
    asked = Told(role, "hello", at=ISO)
    assert wire(snake(asked)) == {"role": role, "content": "hello"}
    timed = {"role": role, "content": "hello", "timestamp": ISO}
    assert wire(camel(asked, timed=True)) == wire(both(asked)) == timed


def test_a_history_opens_with_a_system_message_or_not() -> None:
    system, user = Told("system", "Be brief."), Told("user", "hello")
    assert (opening_of((system, user)), opening_of((user, system)), opening_of(())) == ("Be brief.", None, None)
