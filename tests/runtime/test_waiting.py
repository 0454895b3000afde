"""What a run waits for, as a fold: what was asked and what came goes in; results, requests and deadlines come out."""

from hashlib import sha256

import pytest

from dragoman.core import events as ev
from dragoman.core.agents import NO_ARGUMENTS, AgentSpec, ToolSpec
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId
from dragoman.runtime.waiting import (
    ALL_BY_ITSELF,
    GRACE_S,
    Asked,
    Policy,
    Waits,
    arguments_hash,
    asked_arguments,
    named,
    policy_of,
)

SEND = ToolCall(CallId("c1"), "send", '{"to":"ops"}')
HASH = arguments_hash(SEND)
ASK = Policy(ask=frozenset({"send"}), approval_s=60.0)
REQUESTED = ev.ApprovalRequested(SEND, HASH, 160.0)
YES = ev.ApprovalDecided(SEND.id, True, "ann", HASH)
NO = ev.ApprovalDecided(SEND.id, False, "bob", HASH)
HELD = ev.ClientToolRequested(SEND, 130.0, "client")
SEEN = ev.ClientToolAnswered(SEND.id, "seen")


def fold(*events: tuple[Asked, float]) -> Waits:
    waits = Waits()
    for seq, (event, at) in enumerate(events, start=1):
        waits.add(event, at=at, seq=seq)
    return waits


# -- approvals -------------------------------------------------------------------------------------------------------


def test_a_call_that_must_be_approved_is_asked_about_once() -> None:
    waits = Waits()
    (request,) = waits.unasked([SEND], ASK, now=100.0)
    assert request == REQUESTED
    waits.add(request, at=100.0)
    assert waits.unasked([SEND], ASK, now=101.0) == ()
    assert not waits.approves(SEND, ASK) and waits.result(SEND, ASK) is None
    assert waits.until() == 160.0 + GRACE_S


def test_a_call_that_nobody_need_approve_runs_by_itself() -> None:
    assert Waits().unasked([SEND], ALL_BY_ITSELF, now=100.0) == ()
    assert Waits().approves(SEND, ALL_BY_ITSELF)
    assert Waits().until() is None


def test_an_approved_call_runs() -> None:
    waits = fold((REQUESTED, 100.0), (YES, 110.0))
    assert waits.approves(SEND, ASK) and waits.result(SEND, ASK) is None and waits.until() is None


def test_a_denied_call_has_a_result_that_says_who_denied_it() -> None:
    waits = fold((REQUESTED, 100.0), (NO, 110.0))
    result = waits.result(SEND, ASK)
    assert result is not None and (result.call_id, result.is_error, result.code) == (SEND.id, True, "denied")
    assert result.content.startswith("bob was asked about this call of send and denied it. Do not make the same call")
    assert waits.until() is None


@pytest.mark.parametrize("later", [NO, YES])
def test_the_first_decision_counts(later: ev.ApprovalDecided) -> None:
    waits = fold((REQUESTED, 100.0), (YES, 110.0), (later, 111.0))
    assert waits.approves(SEND, ASK) and waits.approvals[SEND.id].decision_seq == 2


def test_a_decision_about_other_arguments_is_none() -> None:
    waits = fold((REQUESTED, 100.0), (ev.ApprovalDecided(SEND.id, True, "ann", "other"), 110.0))
    assert waits.approvals[SEND.id].decision is None and not waits.approves(SEND, ASK)


def test_a_decision_counts_before_the_deadline_and_not_at_it() -> None:
    assert fold((REQUESTED, 100.0), (YES, 159.999)).approves(SEND, ASK)
    assert not fold((REQUESTED, 100.0), (YES, 160.0)).approves(SEND, ASK)


def test_an_undecided_call_is_given_up_once_the_tape_was_read_after_the_grace() -> None:
    waits = fold((REQUESTED, 100.0))
    waits.looked_at = 160.0 + GRACE_S - 0.001
    assert waits.result(SEND, ASK) is None
    waits.looked_at = 160.0 + GRACE_S
    result = waits.result(SEND, ASK)
    assert result is not None and result.code == "denied"
    assert result.content.startswith("Nobody approved this call of send in time, which counts as denied.")


def test_what_was_approved_is_not_given_up() -> None:
    waits = fold((REQUESTED, 100.0), (YES, 110.0))
    waits.looked_at = 1e9
    assert waits.result(SEND, ASK) is None and waits.approves(SEND, ASK)


def test_a_decision_after_the_result_is_none() -> None:
    waits = fold((REQUESTED, 100.0), (ev.ToolReturned(SEND.id, "no", True, code="denied"), 110.0), (YES, 111.0))
    assert waits.approvals[SEND.id].decision is None and waits.until() is None


def test_a_decision_that_nobody_asked_for_is_none() -> None:
    assert fold((YES, 110.0)).approvals == {}


def test_an_approval_binds_the_arguments_it_was_given_for() -> None:
    waits = fold((ev.ApprovalRequested(SEND, "old", 160.0), 100.0))
    waits.add(ev.ApprovalDecided(SEND.id, True, "ann", "old"), at=110.0, seq=2)
    result = waits.result(SEND, ASK)
    assert result is not None and result.code == "denied" and "for other arguments" in result.content


def test_what_was_asked_about_waits_for_its_decision_also_if_it_need_not_be_asked_about_any_more() -> None:
    assert not fold((REQUESTED, 100.0)).approves(SEND, ALL_BY_ITSELF)


def test_what_is_not_allowed_has_a_result_at_once() -> None:
    result = Waits().result(SEND, Policy(deny=frozenset({"send"})))
    assert result is not None and (result.is_error, result.code) == (True, "denied")
    assert result.content.startswith("Whoever runs this server does not allow send here. Do not call it again")


# -- client tools ----------------------------------------------------------------------------------------------------


def test_a_held_call_has_the_callers_result_and_took_as_long_as_that() -> None:
    waits = fold((HELD, 100.0))
    assert waits.until() == 130.0 + GRACE_S and waits.result(SEND, ALL_BY_ITSELF) is None
    waits.add(SEEN, at=101.25, seq=2)
    assert waits.until() is None
    assert waits.result(SEND, ALL_BY_ITSELF) == ev.ToolReturned(SEND.id, "seen", duration_ms=1250)


def test_a_callers_error_is_an_error() -> None:
    waits = fold((HELD, 100.0), (ev.ClientToolAnswered(SEND.id, "no such file", is_error=True), 100.0))
    failed = ev.ToolReturned(SEND.id, "no such file", is_error=True, code="tool_failed")
    assert waits.result(SEND, ALL_BY_ITSELF) == failed


def test_a_held_call_that_nobody_answers_in_time_is_a_timeout() -> None:
    waits = fold((HELD, 100.0), (SEEN, 130.0))
    waits.looked_at = 130.0 + GRACE_S
    result = waits.result(SEND, ALL_BY_ITSELF)
    assert result is not None and (result.code, result.is_error, result.duration_ms) == ("timeout", True, 30_000)
    assert result.content.startswith("The client did not bring the result of send within 30 s.")


def test_the_first_answer_counts() -> None:
    waits = fold((HELD, 100.0), (SEEN, 101.0), (ev.ClientToolAnswered(SEND.id, "other"), 102.0))
    assert waits.held[SEND.id].answer == SEEN and waits.held[SEND.id].answer_seq == 2


def test_the_first_claim_counts_and_none_after_the_answer_or_the_deadline() -> None:
    ann, bob = (ev.ClientToolClaimed(SEND.id, name) for name in ("ann", "bob"))
    assert fold((HELD, 100.0), (ann, 101.0), (bob, 102.0)).held[SEND.id].claim == ann
    assert fold((HELD, 100.0), (SEEN, 101.0), (bob, 102.0)).held[SEND.id].claim is None
    assert fold((HELD, 100.0), (bob, 130.0)).held[SEND.id].claim is None


def test_a_claim_is_no_answer() -> None:
    assert fold((HELD, 100.0), (ev.ClientToolClaimed(SEND.id, "ann"), 101.0)).pending == {SEND.id}


def test_a_call_that_the_run_does_not_wait_for_is_not_held() -> None:
    assert fold((ev.ClientToolRequested(SEND), 100.0), (SEEN, 101.0)).held == {}


# -- policies and hashes ---------------------------------------------------------------------------------------------


def spec(name: str, toolset: str = "") -> ToolSpec:
    return ToolSpec(name, "", NO_ARGUMENTS, toolset=toolset)


TOOLS = (spec("read_file", "workspace"), spec("write_file", "workspace"), spec("write_page"))


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ((), set()),
        (("*",), {"read_file", "write_file", "write_page"}),
        (("workspace.*",), {"read_file", "write_file"}),
        (("write_*",), {"write_file", "write_page"}),
        (("workspace.write_file", "write_page"), {"write_file", "write_page"}),
        (("Write_*", "workspace", ".*"), set()),
    ],
)
def test_patterns_name_tools_with_or_without_their_toolset(patterns: tuple[str, ...], names: set[str]) -> None:
    assert named(patterns, TOOLS) == names


def test_a_policy_is_made_of_an_agents_patterns() -> None:
    agent = AgentSpec("a", "", ask=("write_*",), deny=("workspace.read*",), approval_s=7.0)
    assert policy_of(agent, TOOLS) == Policy(frozenset({"write_file", "write_page"}), frozenset({"read_file"}), 7.0)


def test_a_hash_is_the_same_however_the_arguments_are_written() -> None:
    spaced = ToolCall(SEND.id, "send", ' { "b" : [1, 2],\n "a" : "\\u00e9" } ')
    assert arguments_hash(spaced) == arguments_hash(ToolCall(SEND.id, "send", '{"a":"é","b":[1,2]}'))
    assert len(arguments_hash(spaced)) == 64


@pytest.mark.parametrize(
    "other",
    [
        ToolCall(SEND.id, "send", '{"to":"dev"}'),
        ToolCall(SEND.id, "post", SEND.arguments),
        ToolCall(CallId("c2"), "send", SEND.arguments),
        ToolCall(SEND.id, "send", SEND.arguments + "]"),
        ToolCall(SEND.id, "send", '"{\\"to\\":\\"ops\\"}"'),
    ],
)
def test_a_hash_is_of_the_tool_the_call_and_the_arguments(other: ToolCall) -> None:
    assert arguments_hash(other) != HASH


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (' { "b" : [1, 2.0],\n "a" : "\u00e9" } ', '{"a":"\\u00e9","b":[1,2.0]}'),
        ('{"a":1,"a":2}', '{"a":2}'),
        ('{"a":"\u202e\u200b\u001b"}', '"{\\"a\\":\\"\\u202e\\u200b\\u001b\\"}"'),
        ("rm -rf /", '"rm -rf /"'),
    ],
)
def test_arguments_are_shown_as_they_are_hashed(arguments: str, shown: str) -> None:
    call = ToolCall(SEND.id, "send", arguments)
    assert asked_arguments(call) == shown and shown.isascii() and shown.isprintable()
    form = "text" if shown.startswith('"') else "json"
    assert arguments_hash(call) == sha256(f'["send","{SEND.id}","{form}",{shown}]'.encode()).hexdigest()


@pytest.mark.parametrize("arguments", ["", "{", "[" * 100_000, '"\ud800"', "NaN", "9" * 10_000])
def test_whatever_a_model_writes_has_a_hash(arguments: str) -> None:
    assert arguments_hash(ToolCall(SEND.id, "send", arguments)) != HASH
