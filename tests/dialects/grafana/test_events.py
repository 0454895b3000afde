"""A chat's event stream, frame for frame."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from dragoman.core import errors
from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Started
from dragoman.dialects.grafana.events import ChatStream
from dragoman.dialects.grafana.ids import request_id
from tests.dialects.grafana.asking import request
from tests.dialects.grafana.reading import Chat

AT = 1_700_000_000.0
RUN, NEXT = RunId("r1"), RunId("r2")
LS = ToolCall(CallId("c1"), "list_files", '{"path":"."}')
ASKED = ev.TurnReceived((said("user", "q"),))
REMOTE = ev.ClientToolRequested(LS, AT + 120, "client")


class Playback:
    """Numbers events as a tape does, and collects what a reader is sent. `head` > 0: so much is past for it."""

    def __init__(self, cursor: str = "", *, head: int = 0) -> None:
        asked = request(headers={"last-event-id": cursor}) if cursor else None
        self.stream = ChatStream(asked)
        self.chat = Chat()
        self.seq = 0
        started = Started(ConversationId("chat"), Tape(1), RunId(""), 0, created=False, head=head)
        self.sent = self.stream.opened(started)

    def add(self, *events: Event, run: RunId = RUN) -> list[tuple[str, str, dict[str, Any]]]:
        """One batch without its `held`."""
        data = b""
        for event in events:
            self.seq += 1
            data += self.stream.entry(Entry(self.seq, run, AT, event))
        return self._new(data)

    def hold(self) -> list[tuple[str, str, dict[str, Any]]]:
        return self._new(self.stream.held())

    def _new(self, data: bytes) -> list[tuple[str, str, dict[str, Any]]]:
        self.sent += data
        before = len(self.chat.frames)
        return self.chat.read(data).frames[before:]


def kinds(frames: Sequence[tuple[str, str, dict[str, Any]]]) -> list[tuple[str, str]]:
    return [(frame_id, kind) for frame_id, kind, _ in frames]


def text_of(frame: tuple[str, str, dict[str, Any]]) -> str:
    return "".join(part.get("text", "") for part in frame[2]["content"])


BEGUN = (ASKED, ev.RunClaimed(1), ev.ReplyStarted("ops", "main"))


# -- plain answers ---------------------------------------------------------------------------------------------------


def test_a_turn_is_a_message_an_execution_the_growing_answer_and_its_end() -> None:
    tape = Playback()
    assert kinds(tape.add(*BEGUN)) == [("1", "MESSAGE_CREATED"), ("2", "AGENT_EXECUTION_STARTED")]
    assert tape.add(ev.TextAdded("It is "), ev.TextAdded("fi")) == []
    (created,) = tape.hold()
    assert (created[:2], text_of(created)) == (("5", "MESSAGE_CREATED"), "It is fi")
    assert tape.hold() == []
    assert tape.add(ev.TextAdded("ne.")) == []
    (updated,) = tape.hold()
    assert (updated[:2], text_of(updated)) == (("6", "MESSAGE_UPDATED"), "It is fine.")
    last = tape.add(ev.ReplyFinished("It is fine."), ev.RunCompleted())
    assert kinds(last) == [("8", "AGENT_EXECUTION_COMPLETED")]  # the whole answer was told already
    assert last[0][2] == {"chatId": "chat", "taskId": "r1"}
    assert not tape.stream.closed  # the reader of the tape ends it


def test_the_bytes_are_an_id_and_one_line_of_json_without_an_events_name() -> None:
    tape = Playback()
    tape.add(ev.TurnReceived((said("user", "é\n\u2028"),)))
    assert (
        tape.sent
        == (
            ': connected\n\nid: 1\ndata: {"type":"MESSAGE_CREATED","data":{"id":"r1-q1","role":"user",'
            '"content":[{"type":"text","text":"é\\n\u2028"}],"type":"message","created":"2023-11-14T22:13:20.000Z",'
            '"hidden":false,"audience":"","chatId":"chat"}}\n\n'
        ).encode()
    )
    assert tape.stream.silence() == b": ping\n\n"


def test_text_that_is_followed_by_another_frame_is_told_before_it() -> None:
    tape = Playback()
    tape.add(*BEGUN)
    frames = tape.add(ev.TextAdded("It is "), ev.RunFailed("upstream_failed", "The model broke off."))
    assert kinds(frames) == [("4", "MESSAGE_CREATED"), ("5", "AGENT_EXECUTION_FAILED")]
    assert frames[1][2] == {"chatId": "chat", "taskId": "r1", "error": "The model broke off."}


def test_the_end_of_a_reply_is_told_if_there_is_more_in_it_than_was_told() -> None:
    tape = Playback()
    tape.add(*BEGUN, ev.TextAdded("It is fi"))
    tape.hold()
    (frame,) = tape.add(ev.ReplyFinished("It is fine."))
    assert (frame[:2], text_of(frame)) == (("5", "MESSAGE_UPDATED"), "It is fine.")


def test_a_long_answer_is_told_again_when_it_has_grown_enough_or_nothing_else_happens() -> None:
    tape = Playback()
    tape.add(*BEGUN, ev.TextAdded("x" * 10_000))
    assert len(tape.hold()) == 1
    tape.add(ev.TextAdded("y" * 20))
    assert tape.hold() == []
    ping, _, frame = tape.stream.silence().partition(b"\n\n")
    assert (ping, frame[:6], frame.count(b"y" * 20), b"MESSAGE_UPDATED" in frame) == (b": ping", b"id: 5\n", 1, True)
    assert tape.stream.silence() == b": ping\n\n"  # each id once, however long the model is silent
    tape.add(ev.TextAdded("y" * 40))
    assert [text_of(frame)[-60:] for frame in tape.hold()] == ["y" * 60]
    assert tape.stream.silence() == b": ping\n\n"
    tape.add(ev.TextAdded("z"))
    assert tape.hold() == []
    assert [frame_id for frame_id, _, _ in tape.add(ev.RunCancelled("me"))] == ["7", "8"]


def test_the_bytes_of_a_long_answer_are_bounded_by_its_length() -> None:
    tape = Playback()
    tape.add(*BEGUN)
    size = 0
    for _ in range(3000):
        tape.stream.entry(Entry(4, RUN, AT, ev.TextAdded("word ")))
        size += len(tape.stream.held())
    assert size < 15_000 * 256 * 1.5


def test_an_answer_that_was_not_streamed_is_one_message() -> None:
    frames = Playback().add(*BEGUN, ev.ReplyFinished("All at once."), ev.RunCompleted())
    assert kinds(frames)[2:] == [("4", "MESSAGE_CREATED"), ("5", "AGENT_EXECUTION_COMPLETED")]


def test_an_empty_answer_is_an_empty_text_and_is_not_hidden() -> None:
    frames = Playback().add(*BEGUN, ev.ReplyFinished(""))
    assert (frames[2][2]["content"], frames[2][2]["hidden"]) == ([{"type": "text", "text": ""}], False)


def test_thoughts_are_shown_as_they_come() -> None:
    tape = Playback()
    tape.add(*BEGUN, ev.ThinkingAdded("hm"))
    assert tape.hold()[0][2]["content"] == [{"type": "thinking", "thinking": "hm"}]
    tape.add(ev.TextAdded("So."))
    assert tape.hold()[0][2]["content"] == [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "So."}]


@pytest.mark.parametrize(
    ("end", "kind", "error"),
    [
        (ev.RunCompleted(), "AGENT_EXECUTION_COMPLETED", None),
        (ev.RunNeedsClient((LS,)), "AGENT_EXECUTION_COMPLETED", None),
        (ev.RunFailed("step_limit", "Too many steps."), "AGENT_EXECUTION_FAILED", "Too many steps."),
        (ev.RunCancelled("me"), "AGENT_EXECUTION_FAILED", "cancelled"),
    ],
)
def test_every_end_is_told(end: ev.RunEnd, kind: str, error: str | None) -> None:
    frame = Playback().add(*BEGUN, end)[-1]
    assert (frame[1], frame[2].get("error")) == (kind, error)


def test_what_is_not_said_is_not_shown() -> None:
    tape = Playback()
    tape.add(*BEGUN)
    quiet = (
        ev.TextAdded(""),
        ev.ThinkingAdded(""),
        ev.ToolStarted(LS),
        ev.ApprovalRequested(LS, "hash", AT + 9),
        ev.ApprovalDecided(LS.id, approved=True),
        ev.ClientToolClaimed(LS.id, "x"),
        ev.ClientToolAnswered(LS.id, "x"),
        ev.HandedOver("a", "b"),
        ev.CancelAsked("me"),
        ev.RunClaimed(2),
        ev.Unread("newer", "{}"),
    )
    assert tape.add(*quiet) + tape.hold() == []
    of_the_chat = (ev.TitleGiven("x"), ev.SharingChanged(True), ev.ArchivingChanged(True))
    assert tape.add(*of_the_chat, run=RunId("")) + tape.hold() == []


# -- tools -----------------------------------------------------------------------------------------------------------


def test_results_come_into_the_message_of_the_reply_that_called() -> None:
    tape = Playback()
    frames = tape.add(*BEGUN, ev.ReplyFinished("Look.", (LS,)), ev.ToolStarted(LS))
    assert [part["type"] for part in frames[2][2]["content"]] == ["text", "tool_use"]
    frames = tape.add(
        ev.ToolReturned(LS.id, "a.txt", duration_ms=42), ev.ReplyStarted("ops", "m"), ev.ReplyFinished("One.")
    )
    assert kinds(frames) == [("6", "MESSAGE_UPDATED"), ("8", "MESSAGE_CREATED")]
    assert frames[0][2]["content"][2] == {
        "type": "tool_result",
        "toolUseId": "c1",
        "toolName": "list_files",
        "toolResult": [{"type": "text", "text": "a.txt"}],
        "isError": False,
        "durationMs": 42,
    }
    assert [frame[2]["id"] for frame in frames] == ["r1-a1", "r1-a2"]


def test_a_client_is_asked_to_run_its_tool() -> None:
    tape = Playback()
    frames = tape.add(*BEGUN, ev.ReplyFinished("", (LS,)), REMOTE)
    assert kinds(frames)[-1] == ("5", "REMOTE_TOOL_REQUEST")
    assert frames[-1][2] == {
        "requestId": request_id(RUN, LS.id),
        "chatId": "chat",
        "toolName": "list_files",
        "toolInput": {"path": "."},
        "timeoutMs": 120_000,
    }


@pytest.mark.parametrize("asked", [ev.ClientToolRequested(LS), ev.ClientToolRequested(LS, AT + 120, "tunnel")])
def test_what_the_run_does_not_wait_for_or_another_client_is_to_run_is_not_asked_here(asked: Event) -> None:
    tape = Playback()
    tape.add(*BEGUN, ev.ReplyFinished("", (LS,)))
    assert tape.add(asked) + tape.hold() == []


def test_a_clients_results_of_an_earlier_turn_are_a_message_of_role_tool() -> None:
    tape = Playback()
    tape.add(*BEGUN, ev.ReplyFinished("", (LS,)), ev.RunNeedsClient((LS,)))
    (frame,) = tape.add(ev.TurnReceived((Message("tool", (ToolResult(LS.id, "a.txt"),)),)), run=NEXT)
    assert (frame[2]["role"], frame[2]["content"][0]["toolName"]) == ("tool", "list_files")


# -- several frames of one entry -------------------------------------------------------------------------------------

THREE = ev.TurnReceived((said("user", "a"), said("assistant", "b"), said("user", "c")))


def test_each_frame_of_an_entry_has_an_id_of_its_own() -> None:
    assert [frame_id for frame_id, _, _ in Playback().add(THREE)] == ["1.1", "1.2", "1"]


@pytest.mark.parametrize(
    ("cursor", "ids"),
    [("0", ["1.1", "1.2", "1"]), ("1.1", ["1.2", "1"]), ("1.2", ["1"]), ("1", [])],
)
def test_a_reader_goes_on_within_an_entry(cursor: str, ids: list[str]) -> None:
    assert [frame_id for frame_id, _, _ in Playback(cursor).add(THREE)] == ids


def test_messages_from_elsewhere_are_created() -> None:
    frames = Playback().add(ev.MessagesImported((said("user", "q"), said("assistant", "a"))), run=RunId(""))
    assert [(frame_id, data["id"]) for frame_id, _, data in frames] == [("1.1", "m1-q1"), ("1", "m1-q2")]


def test_hidden_text_is_not_sent() -> None:
    tape = Playback()
    tape.add(ev.TurnReceived((Message("user", (Text("Hi"), Text("<context>secret</context>", hidden=True))),)))
    assert b"secret" not in tape.sent and b'"text":"Hi"' in tape.sent


# -- half replies ----------------------------------------------------------------------------------------------------


def test_a_reply_that_is_begun_again_fills_the_same_message() -> None:
    tape = Playback()
    tape.add(*BEGUN, ev.TextAdded("wrong"))
    tape.hold()
    frames = tape.add(ev.RunClaimed(2), ev.AttemptReset(3), ev.ReplyStarted("ops", "main"), ev.TextAdded("right"))
    assert frames == []
    (updated,) = tape.hold()
    assert (updated[1], updated[2]["id"], text_of(updated)) == ("MESSAGE_UPDATED", "r1-a1", "right")


def test_a_void_reply_is_shown_empty_and_hidden_while_nothing_takes_its_place() -> None:
    tape = Playback()
    tape.add(*BEGUN, ev.TextAdded("wrong"))
    tape.hold()
    tape.add(ev.AttemptReset(3))
    ((frame_id, kind, data),) = tape.hold()
    assert (frame_id, kind) == ("5", "MESSAGE_UPDATED")
    assert (data["content"], data["hidden"]) == ([{"type": "text", "text": ""}], True)
    tape.add(ev.ReplyStarted("ops", "main"), ev.TextAdded("right"))
    assert tape.hold()[0][2]["hidden"] is False


def test_a_void_reply_that_nobody_saw_is_not_told() -> None:
    tape = Playback()
    tape.add(*BEGUN, ev.TextAdded("wrong"), ev.AttemptReset(3))
    assert tape.hold() == []
    assert kinds(tape.add(ev.RunFailed("x", "No."))) == [("6", "AGENT_EXECUTION_FAILED")]


# -- the past --------------------------------------------------------------------------------------------------------

FIRST = (*BEGUN, ev.TextAdded("One"), ev.ReplyFinished("One."), ev.RunCompleted())  # 1 to 6
SECOND = (*BEGUN, ev.ReplyFinished("Two."), ev.RunCompleted())  # 7 to 11


def test_of_turns_that_are_over_only_the_last_is_told_as_it_ran() -> None:
    tape = Playback(head=11)
    tape.add(*FIRST)
    tape.hold()
    tape.add(*SECOND, run=NEXT)
    assert kinds(tape.chat.frames) == [
        ("1", "MESSAGE_CREATED"),
        ("5", "MESSAGE_CREATED"),
        ("7", "MESSAGE_CREATED"),
        ("8", "AGENT_EXECUTION_STARTED"),
        ("10", "MESSAGE_CREATED"),
        ("11", "AGENT_EXECUTION_COMPLETED"),
    ]


def test_a_turn_that_is_at_work_is_told_as_far_as_it_is() -> None:
    tape = Playback(head=10)
    tape.add(*FIRST)
    frames = tape.add(*BEGUN, ev.TextAdded("Tw"), run=NEXT)
    assert kinds(frames)[2:] == [("8", "AGENT_EXECUTION_STARTED"), ("10", "MESSAGE_CREATED")]
    tape.add(ev.TextAdded("o."), run=NEXT)
    assert kinds(tape.hold()) == [("11", "MESSAGE_UPDATED")]


def test_a_note_at_the_end_of_the_past_holds_nothing_back() -> None:
    tape = Playback(head=7)
    assert kinds(tape.add(*FIRST))[-1] == ("1", "MESSAGE_CREATED")
    assert kinds(tape.add(ev.TitleGiven("x"), run=RunId("")))[-1] == ("6", "AGENT_EXECUTION_COMPLETED")


def test_a_turn_that_waited_makes_the_one_before_it_an_earlier_one() -> None:
    tape = Playback(head=10)
    tape.add(*BEGUN)
    tape.add(ASKED, run=NEXT)  # 4, while the first is at work
    tape.add(ev.ReplyFinished("One."), ev.RunCompleted())  # 5, 6
    tape.add(*SECOND[1:], run=NEXT)
    assert kinds(tape.chat.frames) == [
        ("1", "MESSAGE_CREATED"),
        ("4", "MESSAGE_CREATED"),
        ("5", "MESSAGE_CREATED"),
        ("7", "AGENT_EXECUTION_STARTED"),
        ("9", "MESSAGE_CREATED"),
        ("10", "AGENT_EXECUTION_COMPLETED"),
    ]


def test_who_resumes_is_told_every_end_he_has_not() -> None:
    tape = Playback("5", head=11)
    tape.add(*FIRST)
    tape.add(*SECOND, run=NEXT)
    assert [frame_id for frame_id, _, _ in tape.chat.frames] == ["6", "7", "8", "10", "11"]


@pytest.mark.parametrize("cursor", ["", "3"])
def test_a_call_that_was_answered_is_not_asked_for_again(cursor: str) -> None:
    tape = Playback(cursor, head=7)
    tape.add(*BEGUN, ev.ReplyFinished("", (LS,)), REMOTE)
    tape.hold()  # the batch ends here, and the answer is in the next one
    tape.add(ev.ClientToolAnswered(LS.id, "a.txt"), ev.ToolReturned(LS.id, "a.txt"))
    assert [kind for _, kind, _ in tape.chat.frames if kind == "REMOTE_TOOL_REQUEST"] == []
    assert len(tape.chat.messages["r1-a1"]["content"]) == 2


@pytest.mark.parametrize("cursor", ["", "3"])
def test_a_call_that_is_still_waited_for_is_asked_for(cursor: str) -> None:
    tape = Playback(cursor, head=6)
    tape.add(*BEGUN, ev.ReplyFinished("", (LS,)), REMOTE)
    tape.add(ASKED, run=NEXT)
    assert kinds(tape.chat.frames)[-2:] == [("5", "REMOTE_TOOL_REQUEST"), ("6", "MESSAGE_CREATED")]


def test_who_was_asked_for_a_call_is_not_asked_again() -> None:
    tape = Playback("5", head=5)
    assert tape.add(*BEGUN, ev.ReplyFinished("", (LS,)), REMOTE) + tape.hold() == []


def test_entries_of_a_run_whose_beginning_was_not_read_are_left_out() -> None:
    """A reader of a turn that waited begins where that was received, amid the turn before it."""
    tape = Playback("9")
    assert tape.add(ev.TextAdded("x"), ev.ReplyFinished("x"), ev.ToolReturned(LS.id, "y"), ev.RunCompleted()) == []


# -- streams that break off ------------------------------------------------------------------------------------------


def test_of_a_server_that_stops_a_reader_hears_when_to_come_again() -> None:
    tape = Playback()
    tape.add(*BEGUN)
    assert tape.stream.failed(errors.Unavailable("The server is stopping.")) == b"retry: 2000\n\n"
    assert tape.stream.closed
    assert tape.add(ev.RunCompleted()) + tape.hold() == []
    assert tape.stream.failed(errors.Unavailable("Again.")) == b""


@pytest.mark.parametrize("error", [errors.NotAuthenticated("No longer."), errors.NotAllowed("No longer.")])
def test_who_may_not_read_on_is_told_so_when_it_comes_again(error: errors.DragomanError) -> None:
    tape = Playback()
    tape.add(*BEGUN)
    assert tape.stream.failed(error) == b"retry: 2000\n\n"  # the execution has not failed
    assert tape.stream.closed


def test_of_a_chat_that_is_deleted_a_reader_hears_so() -> None:
    tape = Playback()
    tape.add(*BEGUN)
    frame = tape.stream.failed(errors.Conflict("The conversation was deleted while it was being read."))
    assert json.loads(frame.removeprefix(b"data: ")) == {
        "type": "AGENT_EXECUTION_FAILED",
        "data": {
            "chatId": "chat",
            "taskId": "r1",
            "error": "The conversation was deleted while it was being read.",
        },
    }
