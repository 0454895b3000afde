"""Chunks of the public route, frame for frame."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import errors
from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Started
from dragoman.dialects.elastic.errors import RETOLD
from dragoman.dialects.elastic.frames import Chunks

STARTED = Started(ConversationId("c-1"), Tape(1), RunId("run-1"), 2, created=True)
LS = ToolCall(CallId("c1"), "ls", '{"path":"."}')
CAT = ToolCall(CallId("c2"), "cat", "{}")
BEGUN = (ev.RunClaimed(1), ev.ReplyStarted("assistant", "main"))


class Playback:
    """Numbers events as a tape does, and collects what a reader is sent for each."""

    def __init__(self, *events: Event) -> None:
        self.encoder = Chunks()
        self.seq = STARTED.seq
        self.sent = self.encoder.opened(STARTED)
        self.add(*events)

    def add(self, *events: Event) -> bytes:
        frames = b""
        for event in events:
            self.seq += 1
            frames += self.encoder.entry(Entry(self.seq, STARTED.run, 1_700_000_000.25, event))
        self.sent += frames + self.encoder.held()
        return frames

    @property
    def told(self) -> list[Any]:
        """Texts, calls as pairs, errors as {"error"}, and the end."""
        return [_told(block.removeprefix("data: ")) for block in self.sent.decode().split("\n\n")[:-1]]


def _told(text: str) -> Any:
    if text == "[DONE]":
        return text
    value = json.loads(text)
    if "error" in value:
        return value
    delta = value["choices"][0]["delta"]
    if "function_call" in delta:
        assert delta["content"] == ""
        return delta["function_call"]["name"], delta["function_call"]["arguments"]
    return delta["content"]


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message}}


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_short_answer_is_one_chunk_and_done() -> None:
    tape = Playback(*BEGUN, ev.TextAdded('Hé "x"'), ev.ReplyFinished('Hé "x"'), ev.RunCompleted())
    first, done, rest = tape.sent.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    chunk = json.loads(first.removeprefix(b"data: "))
    assert list(chunk) == ["model", "choices", "created", "id", "object"]
    assert uuid.UUID(chunk["id"]).version == 4
    assert chunk | {"id": ""} == {
        "model": "unknown",
        "choices": [{"delta": {"content": 'Hé "x"'}, "finish_reason": None, "index": 0}],
        "created": 1_700_000_000_250,
        "id": "",
        "object": "chat.completion.chunk",
    }
    assert tape.encoder.closed


def test_an_answer_that_was_not_streamed_is_one_chunk() -> None:
    assert Playback(*BEGUN, ev.ReplyFinished("All."), ev.RunCompleted()).told == ["All.", "[DONE]"]


def test_an_empty_answer_is_done_at_once() -> None:
    assert Playback(*BEGUN, ev.ReplyFinished(""), ev.RunCompleted()).told == ["[DONE]"]


def test_each_chunk_has_an_id_of_its_own_and_always_the_same() -> None:
    events = (*BEGUN, ev.TextAdded("a"), ev.TextAdded("b"), ev.ReplyFinished("abc", (LS, CAT)))
    sent = Playback(*events).sent
    ids = [json.loads(block[6:])["id"] for block in sent.split(b"\n\n")[:-1]]
    assert len(set(ids)) == 5
    assert Playback(*events).sent == sent


def test_calls_are_chunks_of_their_own_behind_the_text() -> None:
    tape = Playback(*BEGUN, ev.TextAdded("I look."), ev.ReplyFinished("I look.", (LS, CAT)))
    assert tape.told == ["I look.", ("ls", '{"path":"."}'), ("cat", "{}")]
    tape.add(ev.ToolStarted(LS), ev.ToolReturned(LS.id, "1"), ev.ToolStarted(CAT), ev.ToolReturned(CAT.id, "2"))
    tape.add(ev.ReplyStarted("assistant", "main"), ev.ReplyFinished("Done."), ev.RunCompleted())
    assert tape.told[3:] == ["Done.", "[DONE]"]


def test_a_call_of_an_action_ends_the_stream() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS,)), ev.ClientToolRequested(LS), ev.RunNeedsClient((LS,)))
    assert tape.told == [("ls", '{"path":"."}'), "[DONE]"]


def test_the_opening_and_the_title_are_not_told() -> None:
    opening = ToolCall(CallId("c0"), "context", "{}")
    tape = Playback(ev.RunClaimed(1), ev.CallAdded(opening), ev.ToolStarted(opening), ev.ToolReturned(opening.id, "{}"))
    tape.add(ev.ReplyStarted("assistant", "main"), ev.ThinkingAdded("hm"), ev.ReplyFinished("Hi"))
    tape.add(ev.TitleGiven("A title"), ev.RunCompleted())
    assert tape.told == ["Hi", "[DONE]"]


def test_a_forced_end_is_told_as_a_call_and_again_as_text() -> None:
    call = ToolCall(CallId("c9"), "exit_loop", '{"response":"So far."}')
    tape = Playback(*BEGUN, ev.TextAdded("Well. "), ev.ReplyFinished("Well. So far.", closing=call), ev.RunCompleted())
    assert tape.told == ["Well. ", ("exit_loop", '{"response":"So far."}'), "So far.", "[DONE]"]


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (ev.RunFailed("upstream_unreachable", "No server there."), "Error calling connector: No server there."),
        (ev.RunFailed("reply_cut", "Token limit reached. It ended."), "Token limit reached. It ended."),
        (ev.RunFailed("token_limit", "The run used 5."), "Token limit reached. The run used 5."),
        (ev.RunFailed("step_limit", "Too many steps."), "Too many steps."),
        (ev.RunFailed("unavailable", "Later."), "Later."),
        (ev.RunFailed("error", ""), "An internal server error occurred"),
        (ev.RunCancelled("someone"), "The answer was cancelled."),
    ],
)
def test_a_run_that_failed_says_why_and_is_done(end: ev.RunEnd, message: str) -> None:
    tape = Playback(*BEGUN, ev.TextAdded("Half"), end)
    assert tape.told == ["Half", error(message), "[DONE]"]
    assert tape.encoder.closed
    assert tape.add(ev.RunCompleted()) == b""
    assert tape.encoder.failed(errors.Unavailable("Later.")) == b""


def test_a_stream_that_cannot_go_on_says_so() -> None:
    tape = Playback(*BEGUN)
    assert b"Stopping." in tape.encoder.failed(errors.Unavailable("Stopping."))
    assert tape.encoder.closed
    hidden = Playback(*BEGUN).encoder.failed(errors.DragomanError("secret"))
    assert b"secret" not in hidden and hidden.endswith(b"data: [DONE]\n\n")


# -- replies that are begun again --------------------------------------------------------------------------------------


def test_what_is_new_of_a_reply_begun_again_is_told() -> None:
    tape = Playback(*BEGUN, ev.TextAdded("Hel"))
    tape.add(ev.AttemptReset(4), *BEGUN, ev.TextAdded("He"), ev.TextAdded("llo"), ev.ReplyFinished("Hello!"))
    tape.add(ev.RunCompleted())
    assert tape.told == ["Hel", "lo", "!", "[DONE]"]


@pytest.mark.parametrize(
    "again", [(ev.TextAdded("Bye"),), (ev.TextAdded("He"), ev.ReplyFinished("He")), (ev.ReplyFinished("Bye"),)]
)
def test_a_reply_that_comes_out_differently_ends_the_stream(again: tuple[Event, ...]) -> None:
    tape = Playback(*BEGUN, ev.TextAdded("Hel"), ev.AttemptReset(4), *BEGUN, *again)
    assert tape.told == ["Hel", error(RETOLD), "[DONE]"]


def test_a_reply_with_calls_that_comes_out_differently_tells_no_calls() -> None:
    tape = Playback(*BEGUN, ev.TextAdded("Hel"), ev.AttemptReset(4), *BEGUN, ev.ReplyFinished("Bye", (LS,)))
    assert tape.told == ["Hel", error(RETOLD), "[DONE]"]


def test_a_finished_reply_cannot_be_taken_back() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("Hello", (LS,)), ev.AttemptReset(4))
    assert tape.told == ["Hello", ("ls", '{"path":"."}'), error(RETOLD), "[DONE]"]


@given(texts=st.lists(st.text(max_size=4), max_size=6), cut=st.integers(0, 30))
def test_the_chunks_of_a_reply_begun_again_add_up_to_it(texts: list[str], cut: int) -> None:
    whole = "".join(texts)
    tape = Playback(*BEGUN, *([ev.TextAdded(whole[:cut])] if whole[:cut] else []), ev.AttemptReset(4), *BEGUN)
    tape.add(*map(ev.TextAdded, texts), ev.ReplyFinished(whole), ev.RunCompleted())
    assert "".join(tape.told) == whole + "[DONE]"


# -- silence -----------------------------------------------------------------------------------------------------------


def test_a_life_sign_goes_out_at_every_second_silence() -> None:
    encoder = Playback(*BEGUN).encoder
    assert [encoder.silence() for _ in range(4)] == [b"", b": ping\n\n", b"", b": ping\n\n"]


def test_a_frame_breaks_the_silence() -> None:
    tape = Playback(*BEGUN)
    assert tape.encoder.silence() == b""
    tape.add(ev.ThinkingAdded("hm"))
    assert tape.encoder.silence() == b": ping\n\n"
    assert tape.encoder.silence() == b""
    tape.add(ev.TextAdded("Hi"))
    assert tape.encoder.silence() == b""
