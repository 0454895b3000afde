"""What frames are made of."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Started
from dragoman.dialects.grafana import a2a_artifacts as make
from dragoman.dialects.grafana.a2a_artifacts import TEXT_BYTES_MAX, inputs_of, pieces_of

STARTED = Started(ConversationId("c"), Tape(1), RunId("r"), 1, created=True)


@pytest.mark.parametrize("unit", ["x", "word ", "line\n", "é", "\u6f22", "\x00", "\U0001f600 ", '"', "a\n\nb " * 9])
@pytest.mark.parametrize("bytes_", [TEXT_BYTES_MAX // 2, TEXT_BYTES_MAX, 3 * TEXT_BYTES_MAX])
def test_a_long_text_is_cut_into_pieces_that_fit(unit: str, bytes_: int) -> None:
    text = unit * (bytes_ // len(unit.encode()))
    pieces = pieces_of(text)
    assert "".join(pieces) == text
    sizes = [len(msgspec.json.encode(piece)) for piece in pieces]
    assert max(sizes) <= TEXT_BYTES_MAX + 2  # the quotes
    assert all(size > TEXT_BYTES_MAX // 3 for size in sizes[:-1])


def test_a_text_is_cut_where_a_reader_would() -> None:
    for mark in ("\n\n", "\n", " "):
        text = "x" * (TEXT_BYTES_MAX - 100) + mark + "x" * TEXT_BYTES_MAX
        assert pieces_of(text)[0].endswith("x" + mark)
    text = "x" * (TEXT_BYTES_MAX - 100) + "\n" + "x" * 50 + " " + "x" * 500
    assert pieces_of(text)[0].endswith("x\n")


@given(st.text())
def test_a_short_text_is_one_piece_and_none_is_none(text: str) -> None:
    assert pieces_of(text) == ([text] if text else [])


def test_long_arguments_are_shown_by_their_beginning() -> None:
    arguments = '{"a":"' + "x" * 70_000 + '"}'
    assert inputs_of(ToolCall(CallId("c"), "look", arguments)) == arguments[: 64 * 1024] + "…"
    assert inputs_of(ToolCall(CallId("c"), "look", "[" * 5_000)) == "[" * 5_000
    assert inputs_of(ToolCall(CallId("c"), "look", '{"a":"\ud800"}')) == '{"a":"\ud800"}'


def test_a_request_that_is_late_leaves_no_time() -> None:
    asked = ev.ClientToolRequested(ToolCall(CallId("c"), "look", "no json"), 10.0, "client")
    told = make.remote_request(STARTED, asked, at=11.0).data
    assert (told.timeout_ms, told.tool_input) == (0, {})


@pytest.mark.parametrize(
    ("end", "state", "text"),
    [
        (ev.RunCompleted(), "completed", ""),
        (ev.RunNeedsClient(()), "completed", ""),
        (ev.RunFailed("x", "It broke."), "failed", "It broke."),
        (ev.RunFailed("x", ""), "failed", "The assistant could not answer."),
        (ev.RunCancelled(), "canceled", "The task was cancelled."),
    ],
)
def test_every_end_has_a_state_and_a_bad_one_its_words(end: ev.RunEnd, state: str, text: str) -> None:
    assert (make.state_of(end), make.end_text(end)) == (state, text)


def test_times_are_utc_with_milliseconds() -> None:
    assert make.rfc3339(1_700_000_000.0) == "2023-11-14T22:13:20.000Z"
    assert make.rfc3339(1_700_000_000.1239) == "2023-11-14T22:13:20.123Z"
