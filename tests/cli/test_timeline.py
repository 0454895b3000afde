"""A run drawn as lines of text."""

from dragoman.cli.timeline import timeline_lines
from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.messages import ToolCall, Usage, said
from dragoman.core.names import CallId, RunId

CALL = ToolCall(CallId("c1"), "query_prometheus", '{"expr": "up"}')
BARE = ToolCall(CallId("c2"), "list_files", "{}")


def entries(*timed: tuple[float, Event]) -> list[Entry]:
    return [Entry(number + 1, RunId("r"), 1000.0 + at, event) for number, (at, event) in enumerate(timed)]


def test_a_run_with_a_tool_is_drawn_to_scale():
    lines = timeline_lines(
        entries(
            (0.0, ev.TurnReceived((said("user", "which pods restart?"),), origin="grip", credential_id="k1")),
            (0.004, ev.RunClaimed(1)),
            (0.006, ev.ReplyStarted("a", "main")),
            (0.186, ev.TextAdded("I")),
            (0.5, ev.TextAdded(" look")),
            (0.716, ev.ReplyFinished("I look", (CALL,), Usage(812, 34))),
            (0.717, ev.ToolStarted(CALL)),
            (0.758, ev.ToolReturned(CALL.id, "2 series", duration_ms=41)),
            (0.759, ev.ReplyStarted("a", "")),
            (1.86, ev.ReplyFinished("Two.", (), Usage(853, 62))),
            (1.861, ev.RunCompleted(Usage(1665, 96))),
        )
    )

    assert lines == [
        "   0.000 accepted    by credential k1  grip  which pods restart?",
        "   0.004 claimed     epoch 1",
        "   0.006 ├ model     ░░███████  710 ms  main  first text 180 ms  812/34",
        '   0.717 ├ tool      █  41 ms  query_prometheus {"expr": "up"}  ok',
        "   0.759 └ model     ██████████████  1.1 s  853/62",
        "   1.861 completed   1665 in / 96 out tokens",
    ]


def test_what_failed_or_was_asked_again_is_said():
    lines = timeline_lines(
        entries(
            (0.0, ev.TurnReceived((said("user", "go"),))),
            (0.0, ev.RunClaimed(1)),
            (0.5, ev.ReplyStarted("a", "m")),
            (1.0, ev.RunClaimed(2)),
            (1.0, ev.AttemptReset(3)),
            (1.0, ev.ReplyStarted("a", "m")),
            (1.5, ev.ReplyFinished("", (BARE,))),
            (1.5, ev.ToolStarted(BARE)),
            (2.0, ev.ToolReturned(BARE.id, "No such folder.\nmore", True, 500, "tool_failed")),
            (2.0, ev.RunFailed("step_limit", "It stopped after 1 step.")),
        )
    )

    assert lines == [
        "   0.000 accepted    go",
        "   0.000 claimed     epoch 1",
        "   0.500 ├ model     ██████████████████  not finished  m",
        "   1.000 claimed     epoch 2",
        "   1.000 reset       what came from entry 3 on is void",
        "   1.000 ├ model     ██████  500 ms  m  0/0",
        "   1.500 └ tool      ██████  500 ms  list_files  tool_failed: No such folder.",
        "   2.000 failed      step_limit: It stopped after 1 step.",
    ]


def test_every_other_event_that_matters_has_its_line():
    lines = timeline_lines(
        entries(
            (0.0, ev.TurnReceived(())),
            (0.1, ev.ApprovalRequested(CALL, "h", 5.0)),
            (0.2, ev.ApprovalDecided(CALL.id, True, "ann")),
            (0.3, ev.ApprovalDecided(CALL.id, False, "bob")),
            (0.4, ev.HandedOver("a", "b")),
            (0.5, ev.ClientToolRequested(BARE)),
            (0.6, ev.RunNeedsClient((BARE,))),
        )
    )

    assert lines == [
        "   0.000 accepted",
        '   0.100 asks        for approval of query_prometheus {"expr": "up"}',
        "   0.200 approved    by ann",
        "   0.300 denied      by bob",
        "   0.400 handed      from a to b",
        "   0.500 asks        the caller to run list_files",
        "   0.600 waits       for its caller to run list_files",
    ]


def test_what_came_of_a_call_that_nothing_was_run_for_has_its_line():
    lines = timeline_lines(
        entries(
            (0.0, ev.ClientToolRequested(BARE, 5.0)),
            (0.1, ev.ClientToolClaimed(BARE.id, "laptop")),
            (0.2, ev.ClientToolAnswered(BARE.id, "a.txt")),
            (0.3, ev.ToolReturned(BARE.id, "a.txt")),
            (0.4, ev.ToolReturned(CALL.id, "Nobody approved it.", is_error=True, code="denied")),
        )
    )

    assert lines == [
        "   0.000 asks        the caller to run list_files",
        "   0.100 claimed     by laptop",
        "   0.200 answered    by the caller",
        "   0.400 denied      Nobody approved it.",
    ]


def test_a_cancelled_run_names_who_did_it():
    assert timeline_lines(entries((0.0, ev.RunCancelled("k1")))) == ["   0.000 cancelled   by k1"]
    assert timeline_lines(entries((0.0, ev.RunCancelled()))) == ["   0.000 cancelled"]


def test_nothing_is_nothing():
    assert timeline_lines([]) == []
