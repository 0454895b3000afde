"""Grip's stream, frame for frame."""

import itertools
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import errors
from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.messages import ToolCall, Usage
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Started
from dragoman.dialects.grip.encode import Stream

STARTED = Started(ConversationId("st1"), Tape(1), RunId("run-1"), 2, created=True)
START = b'event: start\ndata: {"session_key": "st1"}\n\n'
ERROR = b'event: error\ndata: {"detail": "Agent execution failed"}\n\n'
LS = ToolCall(CallId("c1"), "list_files", '{"path":"."}')
CAT = ToolCall(CallId("c2"), "read_file", "{}")
BEGUN = (ev.RunClaimed(1), ev.ReplyStarted("assistant", "main"))


class Playback:
    """Numbers events as a tape does, and collects what a reader is sent for each."""

    def __init__(self, *events: Event) -> None:
        self.stream = Stream()
        self.seq = STARTED.seq
        self.sent = self.stream.opened(STARTED)
        self.add(*events)

    def add(self, *events: Event) -> bytes:
        frames = b""
        for event in events:
            self.seq += 1
            frames += self.stream.entry(Entry(self.seq, STARTED.run, 1_700_000_000.0, event))
        self.sent += frames
        return frames


def frame(event: str, data: str) -> bytes:
    return f"event: {event}\ndata: {data}\n\n".encode()


def token(text: str) -> bytes:
    return frame("token", f'{{"text": "{text}"}}')


def tool(event: str, name: str) -> bytes:
    return frame(event, f'{{"tool": "{name}"}}')


def done(iterations: int, usage: tuple[int, int], calls: str = "[]") -> bytes:
    counted = f'{{"prompt_tokens": {usage[0]}, "completion_tokens": {usage[1]}}}'
    return frame("done", f'{{"iterations": {iterations}, "usage": {counted}, "tool_calls_made": {calls}}}')


def texts(*pieces: str) -> Iterable[Event]:
    return map(ev.TextAdded, pieces)


# -- plain answers -----------------------------------------------------------------------------------------------------


def test_a_plain_answer_is_start_tokens_message_done() -> None:
    tape = Playback(
        *BEGUN,
        *texts("Echo: ", "hi"),
        ev.ReplyFinished("Echo: hi", usage=Usage(5, 2)),
        ev.RunCompleted(Usage(5, 2)),
    )
    assert tape.sent == (
        START + token("Echo: ") + token("hi") + frame("message", '{"text": "Echo: hi"}') + done(1, (5, 2))
    )
    assert tape.stream.closed


def test_an_answer_that_was_not_streamed_is_one_token() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("All at once."), ev.RunCompleted())
    assert tape.sent == START + token("All at once.") + frame("message", '{"text": "All at once."}') + done(1, (0, 0))


def test_an_empty_answer_has_neither_token_nor_message() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished(""), ev.RunCompleted(Usage(7, 0)))
    assert tape.sent == START + done(1, (7, 0))


def test_each_text_added_is_one_frame_at_once() -> None:
    tape = Playback(*BEGUN)
    assert [tape.add(event) for event in texts("a", "b", "")] == [token("a"), token("b"), b""]


def test_thinking_and_the_houses_own_events_are_not_shown() -> None:
    tape = Playback(ev.RunClaimed(1), ev.ReplyStarted("a", "m"), ev.ThinkingAdded("hm"), ev.HandedOver("a", "b"))
    assert tape.add(ev.TitleGiven("x"), ev.ApprovalDecided(CallId("c"), True)) == b""
    assert tape.sent == START


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("é ", r"\u00e9 "),
        ("\U0001f600", r"\ud83d\ude00"),
        ('say "x" \\ / ', r"say \"x\" \\ / "),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\0\x1f\x7f", r"\u0000\u001f\u007f"),
        ("\u2028</script>", r"\u2028</script>"),
    ],
)
def test_text_is_escaped_to_ascii_as_json(text: str, escaped: str) -> None:
    assert Playback(*BEGUN).add(ev.TextAdded(text)) == token(escaped)


def test_a_session_key_beyond_ascii_is_escaped_too() -> None:
    started = Started(ConversationId("ключ"), Tape(1), RunId("r"), 2, created=True)
    assert Stream().opened(started) == frame("start", r'{"session_key": "\u043a\u043b\u044e\u0447"}')


def test_silence_is_a_comment() -> None:
    assert Stream().silence() == b": ping\n\n"


# -- tools -------------------------------------------------------------------------------------------------------------


def test_tools_are_shown_as_they_start_and_end() -> None:
    tape = Playback(
        *BEGUN,
        ev.ReplyFinished("", (LS, CAT), Usage(5, 1)),
        ev.ToolStarted(LS),
        ev.ToolStarted(CAT),
        ev.ToolReturned(CAT.id, "text"),
        ev.ToolReturned(LS.id, "a.txt", is_error=True),
        ev.ReplyStarted("assistant", "main"),
        ev.TextAdded("One file."),
        ev.ReplyFinished("One file.", usage=Usage(6, 2)),
        ev.RunCompleted(Usage(11, 3)),
    )
    assert tape.sent == (
        START
        + tool("tool_start", "list_files")
        + tool("tool_start", "read_file")
        + tool("tool_end", "read_file")
        + tool("tool_end", "list_files")
        + token("One file.")
        + frame("message", '{"text": "One file."}')
        + done(2, (11, 3), '["list_files", "read_file"]')
    )


def test_what_is_said_before_a_tool_is_set_off_and_is_not_part_of_the_message() -> None:
    tape = Playback(
        *BEGUN,
        ev.TextAdded("Let me look."),
        ev.ReplyFinished("Let me look.", (LS,)),
        ev.ToolStarted(LS),
        ev.ToolReturned(LS.id, "a.txt"),
        *texts("One ", "file."),
        ev.ReplyFinished("One file."),
        ev.RunCompleted(),
    )
    assert tape.sent == (
        START
        + token("Let me look.")
        + token("\\n\\n")
        + tool("tool_start", "list_files")
        + tool("tool_end", "list_files")
        + token("One ")
        + token("file.")
        + frame("message", '{"text": "One file."}')
        + done(2, (0, 0), '["list_files"]')
    )


def test_what_is_said_before_a_tool_and_ends_in_a_space_needs_nothing_to_set_it_off() -> None:
    assert Playback(*BEGUN).add(ev.TextAdded("Well:\n"), ev.ReplyFinished("Well:\n", (LS,))) == token("Well:\\n")


def test_a_call_that_is_run_again_after_a_crash_is_shown_once() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS,)), ev.ToolStarted(LS))
    assert tape.add(ev.RunClaimed(2), ev.ToolStarted(LS)) == b""
    assert tape.add(ev.ToolReturned(LS.id, "x")) == tool("tool_end", "list_files")


def test_a_result_of_a_call_that_was_never_shown_starting_is_shown_whole() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS,)))
    assert tape.add(ev.ToolReturned(LS.id, "x")) == tool("tool_start", "list_files") + tool("tool_end", "list_files")


def test_calls_are_counted_one_by_one_with_duplicates() -> None:
    again = ToolCall(CallId("c3"), "list_files", "{}")
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS, CAT)), ev.ReplyFinished("", (again,)), ev.ReplyFinished("x"))
    frames = tape.add(ev.RunCompleted())
    assert frames.endswith(done(3, (0, 0), '["list_files", "read_file", "list_files"]'))


# -- failure -----------------------------------------------------------------------------------------------------------

ENDS = [ev.RunFailed("upstream_failed", "secret"), ev.RunCancelled("me"), ev.RunNeedsClient((LS,))]


@pytest.mark.parametrize("end", ENDS, ids=ev.kind_of)
def test_a_run_that_goes_wrong_before_it_says_anything_is_start_and_error(end: Event) -> None:
    tape = Playback(ev.RunClaimed(1), end)
    assert tape.sent == START + ERROR
    assert tape.stream.closed


@pytest.mark.parametrize("end", ENDS, ids=ev.kind_of)
def test_a_run_that_goes_wrong_half_way_ends_in_error_without_message_or_done(end: Event) -> None:
    assert Playback(*BEGUN, ev.TextAdded("Echo: "), end).sent == START + token("Echo: ") + ERROR


def test_an_open_tool_is_closed_before_the_error() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS, CAT)), ev.ToolStarted(LS), ev.ToolStarted(CAT))
    tape.add(ev.ToolReturned(LS.id, "x"))
    assert tape.add(ev.RunFailed("time_limit", "x")) == tool("tool_end", "read_file") + ERROR


def test_after_the_last_frame_there_is_nothing_more() -> None:
    tape = Playback(*BEGUN, ev.RunFailed("x", "y"))
    assert tape.add(ev.TextAdded("late"), ev.ToolStarted(LS), ev.RunCompleted()) == b""
    assert tape.stream.failed(errors.Unavailable("x")) == b""


def test_a_stream_that_cannot_go_on_says_error_and_nothing_of_the_cause() -> None:
    tape = Playback(*BEGUN, ev.TextAdded("a"))
    assert tape.stream.failed(errors.Unavailable("The server is stopping.", internal="secret")) == ERROR
    assert tape.stream.closed


# -- a reply begun again -----------------------------------------------------------------------------------------------


def begun_again(tape: Playback, shown: str) -> None:
    """Half a reply is said and void."""
    began = tape.seq + 1
    tape.add(ev.ReplyStarted("assistant", "main"), ev.TextAdded(shown), ev.RunClaimed(2))
    tape.add(ev.AttemptReset(began), ev.ReplyStarted("assistant", "main"))


def pieces_of(text: str, cuts: Iterable[int]) -> list[str]:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(places)]


@given(text=st.text(max_size=20), shown=st.integers(0, 20), cuts=st.lists(st.integers(0, 20), max_size=5))
def test_an_attempt_that_extends_what_was_shown_goes_on_wherever_it_is_cut(
    text: str, shown: int, cuts: list[int]
) -> None:
    tape = Playback(ev.RunClaimed(1))
    begun_again(tape, text[:shown])
    said_before = tape.sent
    tape.add(*texts(*pieces_of(text, cuts)), ev.ReplyFinished(text), ev.RunCompleted())
    assert _tokens(said_before) == text[:shown]
    assert _tokens(tape.sent) == text
    assert b"event: error" not in tape.sent


@given(
    text=st.text("ab", max_size=8),
    shown=st.text("ab", min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 8), max_size=3),
)
def test_an_attempt_that_says_something_else_ends_in_error_as_soon_as_that_is_known(
    text: str, shown: str, cuts: list[int]
) -> None:
    tape = Playback(ev.RunClaimed(1))
    begun_again(tape, shown)
    before = tape.sent
    read = ""
    for piece in pieces_of(text, cuts):
        read += piece
        tape.add(ev.TextAdded(piece))
        differs = not (shown.startswith(read) or read.startswith(shown))
        assert tape.stream.closed is differs
        if differs:
            assert tape.sent == before + ERROR
            return
    tape.add(ev.ReplyFinished(text))
    assert tape.stream.closed is not text.startswith(shown)


def _tokens(sent: bytes) -> str:
    """Text of all tokens, read as a client does."""

    blocks = [block.split("\n") for block in sent.decode().split("\n\n") if block.startswith("event: token")]
    return "".join(json.loads(data.removeprefix("data: "))["text"] for _, data in blocks)


def test_a_new_attempt_is_silent_until_it_passes_what_was_shown() -> None:
    tape = Playback(ev.RunClaimed(1))
    begun_again(tape, "Once upon")
    assert [tape.add(event) for event in texts("On", "ce", " up", "on a time")] == [b"", b"", b"", token(" a time")]


def test_an_attempt_may_begin_again_and_again() -> None:
    tape = Playback(ev.RunClaimed(1))
    begun_again(tape, "Once")
    began = tape.seq
    tape.add(ev.TextAdded("Once upon"), ev.AttemptReset(began), ev.ReplyStarted("a", "m"), ev.TextAdded("On"))
    tape.add(ev.AttemptReset(began + 3), ev.ReplyStarted("a", "m"))
    tape.add(ev.ReplyFinished("Once upon a time"), ev.RunCompleted())
    assert tape.sent == (
        START
        + token("Once")
        + token(" upon")
        + token(" a time")
        + frame("message", '{"text": "Once upon a time"}')
        + done(1, (0, 0))
    )


def test_an_attempt_that_ends_before_it_reaches_what_was_shown_ends_in_error() -> None:
    tape = Playback(ev.RunClaimed(1))
    begun_again(tape, "Once upon")
    assert tape.add(ev.TextAdded("Once"), ev.ReplyFinished("Once")) == ERROR


def test_an_attempt_that_calls_a_tool_instead_of_what_was_shown_ends_in_error() -> None:
    tape = Playback(ev.RunClaimed(1))
    begun_again(tape, "Once upon")
    assert tape.add(ev.ReplyFinished("", (LS,)), ev.ToolStarted(LS)) == ERROR


def test_a_reset_of_a_reply_that_had_shown_nothing_is_not_noticed() -> None:
    tape = Playback(ev.RunClaimed(1))
    begun_again(tape, "")
    assert tape.add(ev.TextAdded("Hello"), ev.ReplyFinished("Hello")) == token("Hello")


def test_a_reset_after_a_tool_concerns_only_the_reply_behind_it() -> None:
    tape = Playback(*BEGUN, ev.TextAdded("Look. "), ev.ReplyFinished("Look. ", (LS,)))
    tape.add(ev.ToolStarted(LS), ev.ToolReturned(LS.id, "x"))
    begun_again(tape, "One")
    assert tape.add(ev.TextAdded("One file"), ev.ReplyFinished("One file"), ev.RunCompleted()) == (
        token(" file") + frame("message", '{"text": "One file"}') + done(2, (0, 0), '["list_files"]')
    )


def test_a_reset_that_reaches_behind_a_finished_reply_cannot_be_told() -> None:
    tape = Playback(*BEGUN, ev.TextAdded("Look. "), ev.ReplyFinished("Look. ", (LS,)))
    assert tape.add(ev.AttemptReset(STARTED.seq + 2)) == ERROR


def test_a_reset_that_reaches_behind_a_tool_cannot_be_told() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS,)), ev.ToolStarted(LS))
    assert tape.add(ev.AttemptReset(tape.seq)) == tool("tool_end", "list_files") + ERROR
