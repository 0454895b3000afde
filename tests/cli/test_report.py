"""A turn on the terminal: the answer on stdout, tool calls and the sum on stderr."""

import json

import pytest

from dragoman.cli import terminal
from dragoman.cli.options import Settings
from dragoman.cli.report import Report, size_of
from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.messages import ToolCall, Usage, said
from dragoman.core.names import CallId, RunId


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "settings", Settings)


CALL = ToolCall(CallId("c1"), "list_files", '{"path": "."}')


def fed(*events: Event, quiet: bool = False) -> Report:
    report = Report(quiet=quiet, conversation="k", run="r_1")
    for number, event in enumerate(events):
        report.entry(Entry(number + 1, RunId("r_1"), 100.0 + number / 2, event))
    return report


def test_text_goes_out_as_it_comes_and_once(capsys: pytest.CaptureFixture[str]):
    report = fed(
        ev.TurnReceived((said("user", "hi"),)),
        ev.RunClaimed(1),
        ev.ReplyStarted("a", "m"),
        ev.ThinkingAdded("hm"),
        ev.TextAdded("Hel"),
        ev.TextAdded("lo."),
        ev.ReplyFinished("Hello.", usage=Usage(3, 2)),
        ev.RunCompleted(Usage(3, 2)),
    )

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("Hello.\n", "")
    assert (report.status, report.text, report.steps) == ("completed", "Hello.", 1)
    assert report.sum() == "run r_1  1 step  0 tools  3.5 s  3 in / 2 out tokens      (dragoman runs show r_1)"


def test_a_reply_that_was_not_streamed_is_shown_whole(capsys: pytest.CaptureFixture[str]):
    fed(ev.ReplyStarted("a", "m"), ev.ReplyFinished("All at once.\n"), ev.RunCompleted())
    assert capsys.readouterr().out == "All at once.\n"


def test_a_tool_call_is_one_line_beside_the_text(capsys: pytest.CaptureFixture[str]):
    report = fed(
        ev.ReplyStarted("a", "m"),
        ev.TextAdded("I look."),
        ev.ReplyFinished("I look.", (CALL,)),
        ev.ToolStarted(CALL),
        ev.ToolReturned(CALL.id, "a\nb\nc", duration_ms=41),
        ev.ReplyStarted("a", "m"),
        ev.TextAdded("Three."),
        ev.ReplyFinished("Three."),
        ev.RunCompleted(Usage(10, 4)),
    )

    captured = capsys.readouterr()
    assert captured.out == "I look.\nThree.\n"
    assert captured.err == '  list_files  {"path": "."}   41 ms  3 lines\n'
    assert report.text == "Three."
    assert json.loads(report.as_json()) == {
        "conversation": "k",
        "run": "r_1",
        "status": "completed",
        "text": "Three.",
        "steps": 2,
        "tools": [{"name": "list_files", "ms": 41, "error": False}],
        "seconds": 4.0,
        "usage": {"prompt_tokens": 10, "completion_tokens": 4},
        "error": None,
    }


def test_a_failed_tool_says_why(capsys: pytest.CaptureFixture[str]):
    fed(
        ev.ReplyStarted("a", "m"),
        ev.ReplyFinished("", (CALL,)),
        ev.ToolReturned(CALL.id, "There is no folder x.\nTry another.", True, 2, "tool_failed"),
    )
    assert capsys.readouterr().err == '  list_files  {"path": "."}   2 ms  tool_failed: There is no folder x.\n'


def test_an_answer_that_was_cut_off_is_said_to_be_and_not_counted(capsys: pytest.CaptureFixture[str]):
    report = fed(
        ev.ReplyStarted("a", "m"),
        ev.TextAdded("Half"),
        ev.AttemptReset(2),
        ev.ReplyStarted("a", "m"),
        ev.TextAdded("Whole."),
        ev.ReplyFinished("Whole."),
        ev.RunCompleted(),
    )

    captured = capsys.readouterr()
    assert captured.out == "Half\nWhole.\n"
    assert captured.err == "  (that answer was cut off; it is being asked for again)\n"
    assert report.text == "Whole."


@pytest.mark.parametrize(
    ("end", "status", "code", "detail"),
    [
        (ev.RunFailed("step_limit", "It stopped."), "failed", "step_limit", "It stopped."),
        (ev.RunCancelled("me"), "cancelled", "", ""),
        (ev.RunNeedsClient((CALL,)), "needs_client", "", ""),
    ],
)
def test_every_end_has_its_status(end: ev.RunEnd, status: str, code: str, detail: str):
    report = fed(ev.RunClaimed(1), end)

    assert (report.status, report.code, report.detail) == (status, code, detail)
    assert report.sum().startswith(f"run r_1  {status}  0 steps")


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]):
    report = fed(
        ev.ReplyStarted("a", "m"),
        ev.TextAdded("x"),
        ev.ReplyFinished("x", (CALL,)),
        ev.ToolReturned(CALL.id, "y"),
        ev.RunFailed("upstream_failed", "No."),
        quiet=True,
    )

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert json.loads(report.as_json())["error"] == {"code": "upstream_failed", "detail": "No."}


def test_what_a_model_writes_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]):
    fed(ev.ReplyStarted("a", "m"), ev.TextAdded("\x1b]0;gotcha\x07ok"), ev.ReplyFinished("\x1b]0;gotcha\x07ok"))
    assert capsys.readouterr().out == "\ufffd]0;gotcha\ufffdok\n"


def framed(*frames: tuple[str, dict[str, object]]) -> Report:
    report = Report()
    for number, (event, data) in enumerate(frames):
        report.frame(event, data, now=10.0 + number / 10)
    return report


DONE = ("done", {"iterations": 2, "usage": {"prompt_tokens": 7, "completion_tokens": 3}, "tool_calls_made": ["x"]})


def test_a_servers_tokens_are_shown_and_the_whole_message_is_not_shown_again(capsys: pytest.CaptureFixture[str]):
    report = framed(
        ("start", {"session_key": "s"}),
        ("tool_start", {"tool": "x"}),
        ("tool_end", {"tool": "x"}),
        ("token", {"text": "Hel"}),
        ("token", {"text": "lo."}),
        ("message", {"text": "Hello."}),
        DONE,
    )

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("Hello.\n", "  x\n")
    assert (report.conversation, report.status, report.text) == ("s", "completed", "Hello.")
    assert report.sum() == "2 steps  1 tool  600 ms  7 in / 3 out tokens"


def test_a_servers_message_alone_is_shown(capsys: pytest.CaptureFixture[str]):
    framed(("start", {"session_key": "s"}), ("message", {"text": "Hello."}), DONE)
    assert capsys.readouterr().out == "Hello.\n"


def test_a_servers_error_ends_the_turn(capsys: pytest.CaptureFixture[str]):
    report = framed(("start", {"session_key": "s"}), ("token", {"text": "Ha"}), ("error", {"detail": "It broke."}))

    assert capsys.readouterr().out == "Ha\n"
    assert (report.status, report.code, report.detail) == ("failed", "upstream_failed", "It broke.")


def test_a_turn_that_was_left_is_not_said_to_be_cancelled(capsys: pytest.CaptureFixture[str]):
    report = framed(("start", {"session_key": "s"}), ("token", {"text": "Ha"}))
    report.left()

    assert (capsys.readouterr().out, report.status) == ("Ha\n", "left")


@pytest.mark.parametrize(
    ("text", "size"), [("", "0 lines"), ("one line", "one line"), ("a\nb", "2 lines"), ("x" * 70, "x" * 59 + "…")]
)
def test_a_result_is_one_short_line_or_a_count(text: str, size: str):
    assert size_of(text) == size
