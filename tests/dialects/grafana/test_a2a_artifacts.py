"""What frames are made of."""

import json
from typing import Any

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


def asked_about(arguments: str) -> Any:
    call = ToolCall(CallId("c"), "run", arguments)
    return make.approval(STARTED, ev.ApprovalRequested(call, "hash", 130.0), at=10.0).data


HIDING = ["\x1b[2K", "\r", "\x00", "\x9b", "\u202e", "\u2066", "\u200b", "\u2028", "\ufeff", "\U000e0041"]


@pytest.mark.parametrize("char", HIDING)
def test_who_decides_sees_what_would_hide_something(char: str) -> None:
    asked = asked_about(json.dumps({"cmd": f"ls {char}; rm -r /", f"k{char}": [{"x": char}]}))
    shown = asked.description + json.dumps(asked.tool_input, ensure_ascii=False)
    assert char not in shown
    assert asked.tool_input["cmd"] == f"ls {json.dumps(char)[1:-1]}; rm -r /".replace("\\r", "\\u000d")
    assert "rm -r /" in asked.description


def test_what_is_only_written_elsewhere_is_read_as_it_is() -> None:
    asked = asked_about('{"text": "größer\\n\\t漢 🦉"}')
    assert asked.tool_input == {"text": "größer\n\t漢 🦉"}
    assert asked.description.startswith('it would run with {"text":"größer\\n\\t漢 🦉"}; decide within 120 s')


def test_who_decides_is_told_what_counts_and_how_much_is_not_shown() -> None:
    assert 'with {"cmd":"rm"};' in asked_about('{"cmd":"ls",\n"cmd":"rm"}').description
    long = asked_about(json.dumps({"a": "x" * 1_200, "z": "rm -r /"})).description
    assert "… (and 222 more characters, which are not shown)" in long
    assert "with {};" in asked_about("").description
    assert "with no\\u001bjson;" in asked_about("no\x1bjson").description
    deep = '{"a":' + "[" * 900 + "]" * 900 + "}"
    assert asked_about(deep).tool_input


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
