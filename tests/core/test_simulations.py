"""Transcripts of simulations, and the checks that need no model."""

import pytest

from dragoman.core.messages import Message, Text, Thinking, ToolCall, ToolResult
from dragoman.core.names import CallId
from dragoman.core.simulations import (
    Aggregate,
    Checks,
    Line,
    SimulationResult,
    SimulationRun,
    Status,
    Verdict,
    as_text,
    echoed,
    failed_checks,
    lines_of,
)


def called(name: str, arguments: str, *, call: str, agent: str = "Front Desk", text: str = "") -> Message:
    parts = (*((Text(text),) if text else ()), ToolCall(CallId(call), name, arguments))
    return Message("assistant", parts, name=agent)


def gave(content: str, *, call: str, is_error: bool = False) -> Message:
    return Message("tool", (ToolResult(CallId(call), content, is_error),))


HANDED = '{"assistant": "Billing"}'
TURN = (
    called("transfer_to_agent", '{"assistant": "Nobody"}', call="c0", text="One moment."),
    gave("There is no Nobody.", call="c0", is_error=True),
    called("transfer_to_agent", HANDED, call="c1"),
    gave(HANDED, call="c1"),
    Message("assistant", (Thinking("Hm."), Text("Look it up.", hidden=True)), name="Researcher"),
    called("get_order", '{"id": 7}', call="c2", agent="Billing"),
    gave("no such order", call="c2", is_error=True),
    Message("assistant", (Text("Order 7 is LATE."),), name="Billing"),
)
LINES = (
    Line("agent", "One moment.", "Front Desk"),
    Line("handed", "Billing", "Front Desk"),
    Line("internal", "Look it up.", "Researcher"),
    Line("tool", "no such order", "get_order", '{"id": 7}'),
    Line("agent", "Order 7 is LATE.", "Billing"),
)


def test_a_transcript_has_what_was_said_and_done_without_refused_hand_overs():
    assert lines_of(TURN) == LINES


def test_what_is_sent_back_has_no_refused_hand_overs_and_all_else():
    back = echoed(TURN)
    assert back == (Message("assistant", (Text("One moment."),), name="Front Desk"), *TURN[2:])
    assert lines_of(back) == LINES


def test_two_calls_in_one_message_lose_only_the_refused_one():
    both = Message(
        "assistant",
        (ToolCall(CallId("a"), "get_order", "{}"), ToolCall(CallId("b"), "transfer_to_agent", "{}")),
        name="Billing",
    )
    back = echoed((both, gave("no", call="a", is_error=True), gave("no", call="b", is_error=True)))
    assert [[call.id for call in message.calls] for message in back] == [["a"], []]
    assert len(back) == 2


@pytest.mark.parametrize(
    ("content", "target"),
    [(HANDED, "Billing"), ("Billing", "Billing"), ("[1]", "[1]"), ('{"assistant": 7}', '{"assistant": 7}')],
)
def test_the_result_of_a_hand_over_says_to_whom(content: str, target: str):
    call = ToolCall(CallId("a"), "transfer_to_agent", "{}")
    handed = lines_of((Message("assistant", (call,), name="Front Desk"), gave(content, call="a")))
    assert handed == (Line("handed", target, "Front Desk"),)


@pytest.mark.parametrize(
    "checks",
    [
        Checks(),
        Checks(contains=("order 7", "late"), not_contains=("look it up", "no such order")),
        Checks(last_agent="Billing", tools_called=("get_order",), tools_not_called=("send_refund",)),
        Checks(replies_max=2),
    ],
)
def test_checks_that_hold(checks: Checks):
    assert failed_checks(checks, LINES) == ()


@pytest.mark.parametrize(
    ("checks", "fault"),
    [
        (Checks(contains=("look it up",)), 'The user was not told "look it up".'),
        (Checks(not_contains=("one MOMENT",)), 'The user was told "one MOMENT".'),
        (Checks(last_agent="Front Desk"), "The last to speak was Billing and not Front Desk."),
        (Checks(tools_called=("send_refund",)), "send_refund was not called."),
        (Checks(tools_not_called=("get_order",)), "get_order was called."),
        (Checks(replies_max=1), "The user got 2 messages, and 1 are allowed."),
        (Checks(replies_max=0), "The user got 2 messages, and 0 are allowed."),
    ],
)
def test_a_check_that_does_not_hold_says_what_was_otherwise(checks: Checks, fault: str):
    assert failed_checks(checks, LINES) == (fault,)


def test_a_hand_over_is_no_tool_that_was_called_and_nobody_is_the_last_of_nothing():
    faults = failed_checks(Checks(tools_called=("transfer_to_agent",), last_agent="Billing"), LINES[1:2])
    assert faults == (
        "The last to speak was nobody and not Billing.",
        "transfer_to_agent was not called.",
    )


def test_only_checks_that_ask_for_something_are_any():
    assert not Checks().any
    assert Checks(replies_max=0).any and Checks(contains=("x",)).any


def test_a_transcript_can_be_read():
    assert as_text((Line("user", "Where is it?"), *LINES)).splitlines() == [
        "User: Where is it?",
        "Front Desk: One moment.",
        "[Front Desk handed over to Billing]",
        "[Researcher, to other agents: Look it up.]",
        '[get_order {"id": 7} gave: no such order]',
        "Billing: Order 7 is LATE.",
    ]
    assert as_text((Line("agent", "Hi."),)) == "Assistant: Hi."


def test_a_run_counts_its_verdicts():
    verdicts = [Verdict.PASS, Verdict.FAIL, Verdict.PASS, Verdict.ERROR, Verdict.PASS]
    results = tuple(SimulationResult("s", n, verdict, "", ()) for n, verdict in enumerate(verdicts))
    run = SimulationRun("0" * 24, "suite", "w", Status.COMPLETED, 5, 0.0, results=results)
    assert run.aggregate == Aggregate(total=5, passed=3, failed=1, errors=1)
