"""The machine as a conversation: events go in, the next step comes out."""

import pytest

from dragoman.core import events as ev
from dragoman.core.agents import Loop, Repeat, ToolSpec
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, Usage, said
from dragoman.core.names import CallId
from dragoman.runtime.budgets import Budget
from dragoman.runtime.machine import (
    CLAIMS_MAX,
    OUTCOME_UNKNOWN,
    AddCall,
    AskModel,
    End,
    Ended,
    RequestApprovals,
    RequestClientTool,
    ResetReply,
    RunTools,
    SettleCalls,
    Wait,
    distinct_calls,
    next_step,
)
from dragoman.runtime.run_state import PAUSES_FORGIVEN, RunState
from dragoman.runtime.waiting import Policy, arguments_hash

ASK = ev.TurnReceived((said("user", "hello"),))
CALL = ToolCall(CallId("c1"), "list_files", "{}")
OTHER = ToolCall(CallId("c2"), "write_file", '{"path":"a"}')
DEFAULT = Budget()
RULES = {"list_files": Repeat.PURE, "write_file": Repeat.ONCE}
CALLS = ev.ReplyFinished("", (CALL, OTHER), Usage(5, 2), "tool_calls")


def state(*events: ev.Event) -> RunState:
    folded = RunState()
    for seq, event in enumerate(events, start=1):
        folded.add(event, at=100.0, seq=seq)
    return folded


def step(*events: ev.Event, budget: Budget = DEFAULT, now: float = 100.0) -> object:
    return next_step(state(*events), budget, RULES, now=now)


def test_a_claimed_turn_is_put_to_the_model() -> None:
    assert step(ASK, ev.RunClaimed(1)) == AskModel(1)


def test_a_reply_without_calls_completes_the_run() -> None:
    finished = ev.ReplyFinished("hi", (), Usage(5, 2))
    assert step(ASK, ev.RunClaimed(1), ev.ReplyStarted("a", "m"), finished) == End(ev.RunCompleted(Usage(5, 2)))


def test_an_empty_reply_completes_the_run_too() -> None:
    assert step(ASK, ev.RunClaimed(1), ev.ReplyFinished("")) == End(ev.RunCompleted())


def test_all_calls_of_a_reply_run_at_once() -> None:
    assert step(ASK, ev.RunClaimed(1), CALLS) == RunTools((CALL, OTHER))


def test_the_model_is_asked_again_when_every_call_has_its_result() -> None:
    results = (ev.ToolReturned(CALL.id, "a.txt"), ev.ToolReturned(OTHER.id, "done"))
    assert step(ASK, ev.RunClaimed(1), CALLS, *results) == AskModel(2)


def test_half_a_reply_is_void_after_a_new_claim() -> None:
    events = (ASK, ev.RunClaimed(1), ev.ReplyStarted("a", "m"), ev.TextAdded("he"), ev.RunClaimed(2))
    assert step(*events) == ResetReply(3)
    assert step(*events, ev.AttemptReset(3)) == AskModel(1)


def test_an_interrupted_call_is_run_again_only_where_its_rule_allows() -> None:
    started = (ev.ToolStarted(CALL), ev.ToolStarted(OTHER))
    events = (ASK, ev.RunClaimed(1), CALLS, *started, ev.RunClaimed(2))
    lost = ev.ToolReturned(OTHER.id, OUTCOME_UNKNOWN, is_error=True, code="outcome_unknown")
    assert step(*events) == SettleCalls((lost,))
    assert step(*events, lost) == RunTools((CALL,), frozenset({CALL.id}))


def test_a_call_whose_intent_was_never_written_is_simply_run_after_a_new_claim() -> None:
    assert step(ASK, ev.RunClaimed(1), CALLS, ev.RunClaimed(2)) == RunTools((CALL, OTHER))


def test_a_call_of_the_clients_tool_ends_the_run_once_ours_have_returned() -> None:
    ask = ev.TurnReceived((said("user", "hello"),), client_tools=(ToolSpec("write_file", "", {}),))
    assert step(ask, ev.RunClaimed(1), CALLS) == RunTools((CALL,))
    ended = End(ev.RunNeedsClient((OTHER,), Usage(5, 2)), (ev.ClientToolRequested(OTHER),))
    assert step(ask, ev.RunClaimed(1), CALLS, ev.ToolReturned(CALL.id, "a.txt")) == ended


def test_of_one_reply_every_call_is_left_to_the_caller() -> None:
    """And the model is asked whatever the messages end with."""
    for last in (Message("assistant", (CALL,)), said("assistant", "hm")):
        once = ev.TurnReceived((said("user", "hello"), last), loop=Loop(once=True))
        assert step(once, ev.RunClaimed(1)) == AskModel(1)
        assert step(once, ev.RunClaimed(1), CALLS) == End(ev.RunNeedsClient((CALL, OTHER), Usage(5, 2)))
        assert step(once, ev.RunClaimed(1), ev.ReplyFinished("hi")) == End(ev.RunCompleted())


def test_a_loop_begins_with_its_opening_unless_anything_was_done_by_then() -> None:
    """A call of the caller's own that was refused counts as that."""
    mine = ToolSpec("mine", "M", {})
    called = Message("assistant", (ToolCall(CallId("m"), "mine", "{}"),))
    loop = Loop(opening="look", checked=True)
    turn = ev.TurnReceived((said("user", "hello"), called), client_tools=(mine,), loop=loop)
    assert isinstance(step(turn, ev.RunClaimed(1)), End)
    refused = ev.ToolReturned(CallId("m"), "no", is_error=True, code="bad_arguments")
    assert step(turn, ev.RunClaimed(1), refused) == AskModel(1)
    assert isinstance(step(ev.TurnReceived((said("user", "hello"),), loop=loop), ev.RunClaimed(1)), AddCall)


def test_nothing_follows_an_end() -> None:
    assert step(ASK, ev.RunClaimed(1), ev.RunCancelled("me")) == Ended()


@pytest.mark.parametrize(("replies", "ended"), [(1, False), (2, True)])
def test_the_step_budget_allows_just_that_many_replies(replies: int, ended: bool) -> None:
    events: list[ev.Event] = [ASK, ev.RunClaimed(1)]
    for number in range(replies):
        call = ToolCall(CallId(f"c{number}"), "list_files", f'{{"n":{number}}}')
        events += [ev.ReplyFinished("", (call,)), ev.ToolReturned(call.id, "x")]
    result = step(*events, budget=Budget(steps=2))
    if ended:
        assert result == End(ev.RunFailed("step_limit", "The assistant stopped after 2 steps without an answer."))
    else:
        assert result == AskModel(replies + 1)


def test_the_same_call_again_and_again_is_broken_off() -> None:
    events: list[ev.Event] = [ASK, ev.RunClaimed(1)]
    for number in range(6):
        call = ToolCall(CallId(f"c{number}"), "list_files", "{}")
        events += [ev.ReplyFinished("", (call,)), ev.ToolReturned(call.id, "x")]
    sentence = "The assistant called list_files 6 times with the same arguments."
    assert step(*events[:-2]) == AskModel(6)
    assert step(*events) == End(ev.RunFailed("repeated_call", sentence))


def test_wall_time_counts_from_the_first_claim() -> None:
    budget = Budget(wall_s=10)
    assert step(ASK, ev.RunClaimed(1), budget=budget, now=109.9) == AskModel(1)
    ended = step(ASK, ev.RunClaimed(1), budget=budget, now=110.0)
    assert ended == End(ev.RunFailed("time_limit", "The run took longer than its 10 s."))


def claimed_after(pauses: int, *, each_s: float) -> RunState:
    """A run whose process died just after each claim, and whose next attempt came so much later."""
    folded = RunState()
    folded.add(ASK, at=0.0, seq=1)
    for number in range(pauses + 1):
        folded.add(ev.RunClaimed(number + 1), at=number * each_s, seq=number + 2)
    return folded


def test_the_time_in_which_nobody_was_at_work_does_not_count_but_not_for_ever() -> None:
    budget = Budget(wall_s=10)
    back = claimed_after(PAUSES_FORGIVEN, each_s=1000.0)
    assert next_step(back, budget, RULES, now=PAUSES_FORGIVEN * 1000.0 + 9.9) == AskModel(1)
    assert isinstance(next_step(back, budget, RULES, now=PAUSES_FORGIVEN * 1000.0 + 10.0), End)
    doomed = claimed_after(PAUSES_FORGIVEN + 1, each_s=1000.0)
    assert isinstance(next_step(doomed, budget, RULES, now=PAUSES_FORGIVEN * 1000.0 + 1000.0), End)


def test_llm_tokens_are_bounded() -> None:
    events = (ASK, ev.RunClaimed(1), CALLS, ev.ToolReturned(CALL.id, "x"), ev.ToolReturned(OTHER.id, "y"))
    assert step(*events, budget=Budget(llm_tokens=8)) == AskModel(2)
    failed = ev.RunFailed("token_limit", "The run used its 7 LLM tokens.", Usage(5, 2))
    assert step(*events, budget=Budget(llm_tokens=7)) == End(failed)


def test_the_turns_messages_are_what_the_model_must_see() -> None:
    folded = state(ASK, ev.RunClaimed(1), CALLS, ev.ToolReturned(CALL.id, "a.txt"))
    assert folded.messages == [
        said("user", "hello"),
        Message("assistant", (CALL, OTHER)),
        Message("tool", (ToolResult(CALL.id, "a.txt"),)),
    ]
    assert folded.weight == len("hello") + len("list_files{}") + len('write_file{"path":"a"}') + len("a.txt")


def test_call_ids_are_made_distinct_over_a_whole_run() -> None:
    folded = state(ASK, ev.RunClaimed(1), ev.ReplyFinished("", (CALL,)), ev.ToolReturned(CALL.id, "x"))
    again = distinct_calls(folded, (CALL, CALL, ToolCall(CallId(""), "t", "{}")))
    assert [call.id for call in again] == ["c1_2", "c1_3", "call_3"]


def test_text_of_a_reply_is_kept_with_its_calls() -> None:
    folded = state(ASK, ev.RunClaimed(1), ev.ReplyFinished("let me look", (CALL,)))
    assert folded.messages[-1] == Message("assistant", (Text("let me look"), CALL))


# -- attempts that died, wishes, and what a newer version wrote ------------------------------------------------


DIED_AT_WORK: tuple[ev.Event, ...] = (ev.ReplyStarted("a", "m"), ev.TextAdded("half"))


def claims(*between: tuple[ev.Event, ...]) -> list[ev.Event]:
    """A turn, and attempts that died after these events; then it was claimed once more."""
    events: list[ev.Event] = [ASK]
    for epoch, attempt in enumerate(between, start=1):
        events += [ev.RunClaimed(epoch), *attempt]
    return [*events, ev.RunClaimed(len(between) + 1)]


def test_a_third_attempt_is_made_and_a_fourth_is_not() -> None:
    assert step(*claims(DIED_AT_WORK, DIED_AT_WORK)) == ResetReply(6)
    failed = step(*claims(DIED_AT_WORK, DIED_AT_WORK, DIED_AT_WORK))
    assert isinstance(failed, End)
    assert isinstance(failed.event, ev.RunFailed) and failed.event.code == "retries_exhausted"


def test_attempts_that_got_nowhere_are_not_counted() -> None:
    assert step(*claims(*[()] * 10)) == AskModel(1)
    assert step(*claims(*[(ev.ReplyStarted("a", "m"),)] * 10)) == ResetReply(21)


def test_but_not_for_ever() -> None:
    assert step(*claims(*[()] * (CLAIMS_MAX - 1))) == AskModel(1)
    failed = step(*claims(*[()] * CLAIMS_MAX))
    assert isinstance(failed, End)
    assert isinstance(failed.event, ev.RunFailed) and failed.event.code == "retries_exhausted"


@pytest.mark.parametrize("worked", [ev.TextAdded("x"), ev.ThinkingAdded("x"), CALLS, ev.ToolStarted(CALL)])
def test_the_models_first_word_and_a_tools_intent_make_an_attempt_count(worked: ev.Event) -> None:
    assert state(*claims((worked,))).tries == 1


def test_a_wish_to_cancel_ends_the_run_whoever_drives_it_next() -> None:
    asked = ev.CancelAsked("somebody")
    assert step(ASK, ev.RunClaimed(1), *DIED_AT_WORK, asked) == End(ev.RunCancelled("somebody"))
    assert step(ASK, ev.RunClaimed(1), CALLS, asked, ev.RunClaimed(2)) == End(ev.RunCancelled("somebody", Usage(5, 2)))


def test_what_a_newer_version_wrote_is_noticed() -> None:
    assert state(ASK, ev.RunClaimed(1), ev.Unread("dreamt", '{"kind":"dreamt"}')).unread
    assert not state(ASK, ev.RunClaimed(1)).unread


# -- asking people and callers ---------------------------------------------------------------------------------------


POLICY = Policy(ask=frozenset({"write_file"}), approval_s=60.0)
LOCAL = ToolSpec("local", "", {}, toolset="client", held_s=30.0)
LOOSE = ToolSpec("loose", "", {}, toolset="client")
LOCAL_CALL = ToolCall(CallId("c3"), "local", "{}")
LOOSE_CALL = ToolCall(CallId("c4"), "loose", "{}")
WITH_CLIENT = ev.TurnReceived((said("user", "hello"),), client_tools=(LOCAL, LOOSE))
REQUESTED = ev.ApprovalRequested(OTHER, arguments_hash(OTHER), 160.0)
LISTED = ev.ToolReturned(CALL.id, "a.txt")
HELD = ev.ClientToolRequested(LOCAL_CALL, 130.0, "client")


def decided(approved: bool) -> ev.ApprovalDecided:
    return ev.ApprovalDecided(OTHER.id, approved, "ann", REQUESTED.arguments_hash)


def due(*events: ev.Event, policy: Policy = POLICY, looked_at: float = 0.0, budget: Budget = DEFAULT) -> object:
    folded = state(*events)
    folded.waits.looked_at = looked_at
    return next_step(folded, budget, RULES, policy, now=100.0)


def result_of(step: object) -> ev.ToolReturned:
    assert isinstance(step, SettleCalls)
    (result,) = step.results
    return result


def test_a_call_that_is_not_allowed_is_settled_before_anything_runs() -> None:
    never = Policy(deny=frozenset({"write_file"}))
    refused = result_of(due(ASK, ev.RunClaimed(1), CALLS, policy=never))
    assert (refused.call_id, refused.is_error, refused.code) == (OTHER.id, True, "denied")
    assert due(ASK, ev.RunClaimed(1), CALLS, refused, policy=never) == RunTools((CALL,))


def test_what_is_denied_and_to_be_asked_about_is_denied() -> None:
    both = Policy(ask=frozenset({"write_file"}), deny=frozenset({"write_file"}))
    assert result_of(due(ASK, ev.RunClaimed(1), CALLS, policy=both)).code == "denied"


def test_a_clients_tool_can_be_denied_and_is_not_asked_about() -> None:
    reply = ev.ReplyFinished("", (LOCAL_CALL,))
    asked = Policy(ask=frozenset({"local"}))
    assert due(WITH_CLIENT, ev.RunClaimed(1), reply, policy=asked) == RequestClientTool(HELD)
    never = Policy(deny=frozenset({"local"}))
    assert result_of(due(WITH_CLIENT, ev.RunClaimed(1), reply, policy=never)).code == "denied"


def test_approvals_are_asked_for_first_then_what_may_run_runs_then_the_run_waits() -> None:
    begun = (ASK, ev.RunClaimed(1), CALLS)
    assert due(*begun) == RequestApprovals((REQUESTED,))
    assert due(*begun, REQUESTED) == RunTools((CALL,))
    assert due(*begun, REQUESTED, ev.ToolStarted(CALL), LISTED) == Wait(161.0)


def test_all_approvals_of_a_reply_are_asked_for_at_once() -> None:
    both = Policy(ask=frozenset({"write_file", "list_files"}), approval_s=60.0)
    first = ev.ApprovalRequested(CALL, arguments_hash(CALL), 160.0)
    assert due(ASK, ev.RunClaimed(1), CALLS, policy=both) == RequestApprovals((first, REQUESTED))
    approved = ev.ApprovalDecided(CALL.id, True, "ann", first.arguments_hash)
    # The one that is approved does not wait for the other.
    assert due(ASK, ev.RunClaimed(1), CALLS, first, REQUESTED, approved, policy=both) == RunTools((CALL,))


def test_an_approved_call_runs_and_a_denied_one_is_settled() -> None:
    begun = (ASK, ev.RunClaimed(1), CALLS, REQUESTED, ev.ToolStarted(CALL), LISTED)
    assert due(*begun, decided(True)) == RunTools((OTHER,))
    assert result_of(due(*begun, decided(False))).content.startswith("ann was asked about this call of write_file")
    assert due(*begun, decided(False), ev.ToolReturned(OTHER.id, "no", True, code="denied")) == AskModel(2)


def test_a_call_decided_early_runs_with_those_that_need_no_approval() -> None:
    assert due(ASK, ev.RunClaimed(1), CALLS, REQUESTED, decided(True)) == RunTools((CALL, OTHER))


def test_an_approval_that_does_not_come_is_given_up_only_after_a_last_look_at_the_tape() -> None:
    begun = (ASK, ev.RunClaimed(1), CALLS, REQUESTED, LISTED)
    assert due(*begun, looked_at=160.9) == Wait(161.0)
    assert result_of(due(*begun, looked_at=161.0)).code == "denied"


def test_nothing_is_asked_for_twice_by_a_later_attempt() -> None:
    begun = (ASK, ev.RunClaimed(1), CALLS, REQUESTED, LISTED)
    assert due(*begun, ev.RunClaimed(2)) == Wait(161.0)
    assert due(*begun, decided(True), ev.RunClaimed(2)) == RunTools((OTHER,))


def test_an_approved_call_that_was_begun_is_not_begun_again_by_itself() -> None:
    begun = (ASK, ev.RunClaimed(1), CALLS, REQUESTED, LISTED, decided(True), ev.ToolStarted(OTHER))
    lost = ev.ToolReturned(OTHER.id, OUTCOME_UNKNOWN, is_error=True, code="outcome_unknown")
    assert due(*begun, ev.RunClaimed(2)) == SettleCalls((lost,))


def test_calls_of_a_later_reply_are_asked_about_anew() -> None:
    again = ToolCall(CallId("c9"), OTHER.name, OTHER.arguments)
    events = (ASK, ev.RunClaimed(1), ev.ReplyFinished("", (OTHER,)), REQUESTED, decided(True), ev.ToolStarted(OTHER))
    later = (*events, ev.ToolReturned(OTHER.id, "ok"), ev.ReplyFinished("", (again,)))
    assert due(*later) == RequestApprovals((ev.ApprovalRequested(again, arguments_hash(again), 160.0),))


def test_a_spent_budget_is_told_before_somebody_is_asked() -> None:
    begun = (WITH_CLIENT, ev.RunClaimed(1), ev.ReplyFinished("", (OTHER, LOCAL_CALL), Usage(5, 2)))
    spent = Budget(llm_tokens=7)
    assert isinstance(due(*begun, budget=spent), End)
    done = ev.ToolReturned(OTHER.id, "ok")
    assert due(*begun, done) == RequestClientTool(HELD)
    assert isinstance(due(*begun, done, budget=spent), End)


def test_held_calls_of_the_client_are_requested_one_after_the_other_once_ours_are_done() -> None:
    second = ToolCall(CallId("c5"), "local", '{"n":2}')
    begun = (WITH_CLIENT, ev.RunClaimed(1), ev.ReplyFinished("", (LOCAL_CALL, LOOSE_CALL, second, OTHER)))
    assert due(*begun) == RequestApprovals((REQUESTED,))
    assert due(*begun, REQUESTED) == Wait(161.0)
    ours = (*begun, REQUESTED, decided(True), ev.ToolStarted(OTHER), ev.ToolReturned(OTHER.id, "ok"))
    assert due(*ours) == RequestClientTool(HELD)
    assert due(*ours, HELD) == Wait(131.0)
    brought = ev.ClientToolAnswered(LOCAL_CALL.id, "mine")
    assert due(*ours, HELD, brought) == SettleCalls((ev.ToolReturned(LOCAL_CALL.id, "mine"),))
    first = (*ours, HELD, brought, ev.ToolReturned(LOCAL_CALL.id, "mine"))
    assert due(*first) == RequestClientTool(ev.ClientToolRequested(second, 130.0, "client"))
    # What is not held comes last, and ends the run.
    end = due(*first, ev.ToolReturned(second.id, "too"))
    assert end == End(ev.RunNeedsClient((LOOSE_CALL,)), (ev.ClientToolRequested(LOOSE_CALL),))


def test_a_held_call_is_not_requested_twice_and_is_given_up_after_a_last_look() -> None:
    begun = (WITH_CLIENT, ev.RunClaimed(1), ev.ReplyFinished("", (LOCAL_CALL,)), HELD, ev.RunClaimed(2))
    assert due(*begun) == Wait(131.0)
    assert result_of(due(*begun, looked_at=131.0)).code == "timeout"


def test_a_wish_to_cancel_ends_a_run_that_waits() -> None:
    begun = (ASK, ev.RunClaimed(1), CALLS, REQUESTED, LISTED, ev.CancelAsked("me"))
    assert due(*begun) == End(ev.RunCancelled("me", Usage(5, 2)))


def test_waiting_costs_no_wall_time_and_what_comes_before_and_after_does() -> None:
    folded = RunState()
    told: tuple[tuple[ev.Event, float], ...] = (
        (ASK, 0.0),
        (ev.RunClaimed(1), 0.0),
        (CALLS, 1.0),
        (REQUESTED, 1.0),
        (ev.ToolStarted(CALL), 1.0),
        (LISTED, 3.0),
        (decided(True), 59.0),
        (ev.ToolStarted(OTHER), 59.0),
        (ev.ToolReturned(OTHER.id, "ok"), 60.5),
    )
    for seq, (event, at) in enumerate(told, start=1):
        folded.add(event, at=at, seq=seq)
    assert folded.time.by(60.5, None) == 4.5
    budget = Budget(wall_s=5.0)
    assert next_step(folded, budget, RULES, POLICY, now=60.9) == AskModel(2)
    assert isinstance(next_step(folded, budget, RULES, POLICY, now=61.0), End)


def test_time_is_not_given_twice_to_a_run_that_waited_while_nobody_drove_it() -> None:
    folded = RunState()
    told: tuple[tuple[ev.Event, float], ...] = (
        (ASK, 0.0),
        (ev.RunClaimed(1), 0.0),
        (ev.ReplyFinished("", (OTHER,)), 1.0),
        (ev.ApprovalRequested(OTHER, REQUESTED.arguments_hash, 61.0), 1.0),
        (ev.RunClaimed(2), 20.0),
        (decided(True), 30.0),
        (ev.RunClaimed(3), 40.0),
    )
    for seq, (event, at) in enumerate(told, start=1):
        folded.add(event, at=at, seq=seq)
    assert folded.time.by(40.0, None) == 1.0


def test_attempts_that_died_while_the_run_waited_are_not_counted() -> None:
    waiting = [ASK, ev.RunClaimed(1), ev.ReplyFinished("", (OTHER,)), REQUESTED]
    restarts = [ev.RunClaimed(epoch) for epoch in range(2, CLAIMS_MAX + 10)]
    assert state(*waiting, *restarts).tries == 0
    assert due(*waiting, *restarts) == Wait(161.0)
    assert due(*waiting, *restarts, decided(True)) == RunTools((OTHER,))


def test_an_attempt_that_died_at_work_on_an_approved_call_is_counted() -> None:
    events = (ASK, ev.RunClaimed(1), CALLS, REQUESTED, ev.ToolStarted(CALL), ev.RunClaimed(2))
    assert state(*events).tries == 1
    assert state(*events, LISTED, decided(True), ev.RunClaimed(3), ev.ToolStarted(OTHER), ev.RunClaimed(4)).tries == 2
