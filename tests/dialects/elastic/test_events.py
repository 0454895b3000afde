"""This wire's own events, line for line."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core import errors
from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.messages import Masked, ToolCall
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Started
from dragoman.dialects.elastic.errors import RETOLD
from dragoman.dialects.elastic.events import ChatEvents, Events
from dragoman.dialects.elastic.messages import call_id
from dragoman.wire.dialect import Request

STARTED = Started(ConversationId("c-1"), Tape(1), RunId("run-1"), 2, created=True)
EPHEMERAL = replace(STARTED, ephemeral=True)
LS = ToolCall(CallId("c1"), "ls", '{"path":"."}')
CAT = ToolCall(CallId("c2"), "cat", "{}")
CONTEXT = ToolCall(CallId("c0"), "context", "{}")
BEGUN = (ev.RunClaimed(1), ev.ReplyStarted("assistant", "main"))
AT = "2023-11-14T22:13:20.000Z"


def request(**body: Any) -> Request:
    asked = json.dumps({"messages": [], **body}).encode()
    return Request("POST", "/", {}, {}, {}, asked, "abcdef012345", "0" * 32, 1_700_000_000.0)


class Playback:
    """Numbers events as a tape does, and collects what a reader is sent for each."""

    def __init__(self, *events: Event, started: Started = EPHEMERAL, asked: Request | None = None) -> None:
        self.encoder = Events(asked)
        self.seq = STARTED.seq
        self.sent = self.encoder.opened(started)
        self.add(*events)

    def add(self, *events: Event) -> list[Any]:
        frames = b""
        for event in events:
            self.seq += 1
            frames += self.encoder.entry(Entry(self.seq, STARTED.run, 1_700_000_000.0, event))
        self.sent += frames + self.encoder.held()
        return told(frames)

    @property
    def told(self) -> list[Any]:
        return told(self.sent)


def told(data: bytes) -> list[Any]:
    """Lines without ids, but for the one that clients know."""
    lines = [json.loads(each) for each in data.decode().split("\n")[:-1]]
    ids = [each.get("id") for each in lines if "id" in each]
    assert len(set(ids)) == len(ids)
    return [{key: value for key, value in each.items() if key != "id" or len(value) < 36} for each in lines]


def chunk(content: str, **call: str) -> dict[str, Any]:
    message: dict[str, Any] = {"content": content} | ({"function_call": call} if call else {})
    return {"type": "chatCompletionChunk", "message": message}


def message(content: str, **call: str) -> dict[str, Any]:
    return chunk(content, **call) | {"type": "chatCompletionMessage"}


def add(**said: Any) -> dict[str, Any]:
    return {"type": "messageAdd", "message": {"@timestamp": AT, "message": said}}


def add_call(name: str, arguments: str | None, content: str = "") -> dict[str, Any]:
    given = {} if arguments is None else {"arguments": arguments}
    return add(role="assistant", content=content, function_call={"name": name, "trigger": "assistant"} | given)


def add_result(name: str, content: str, **data: str) -> dict[str, Any]:
    return add(role="user", content=content, name=name, **data)


def failure(message: str, **code: str) -> dict[str, Any]:
    return {"type": "chatCompletionError", "error": {"message": message, "meta": {}} | code}


# -- answers -----------------------------------------------------------------------------------------------------------


def test_I1_a_plain_answer_behind_the_context_pair() -> None:
    tape = Playback(ev.RunClaimed(1), ev.CallAdded(CONTEXT), ev.ToolStarted(CONTEXT))
    content = '{"screen_description":"","learnings":[]}'
    tape.add(ev.ToolReturned(CONTEXT.id, content), *BEGUN[1:], ev.TextAdded("Hello!"), ev.ReplyFinished("Hello!"))
    tape.add(ev.RunCompleted())
    assert tape.told == [
        add_call("context", None),
        add_result("context", content),
        chunk("Hello!"),
        message("Hello!"),
        add_call("", "", "Hello!"),
    ]
    assert tape.encoder.closed


def test_what_is_for_the_screen_goes_as_data() -> None:
    tape = Playback(ev.CallAdded(CONTEXT), ev.ToolReturned(CONTEXT.id, "{}", shown='{"suggestions":[]}'))
    assert tape.told[1] == add_result("context", "{}", data='{"suggestions":[]}')


def test_a_call_is_told_when_it_is_begun_and_its_result_behind_it() -> None:
    tape = Playback(*BEGUN, ev.TextAdded("I look."))
    assert tape.add(ev.ReplyFinished("I look.", (LS,))) == [
        chunk("", name="ls", arguments='{"path":"."}'),
        message("I look.", name="ls", arguments='{"path":"."}'),
    ]
    assert tape.add(ev.ToolStarted(LS)) == [add_call("ls", '{"path":"."}', "I look.")]
    assert tape.add(ev.ToolStarted(LS)) == []  # begun again after a crash
    assert tape.add(ev.ToolReturned(LS.id, "1")) == [add_result("ls", "1")]
    assert tape.add(ev.ReplyStarted("assistant", "main"), ev.ReplyFinished("Done."), ev.RunCompleted()) == [
        chunk("Done."),
        message("Done."),
        add_call("", "", "Done."),
    ]


def test_of_several_calls_each_is_told_with_its_result_in_order() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS, CAT)))
    assert tape.add(ev.ToolStarted(LS), ev.ToolStarted(CAT)) == [add_call("ls", '{"path":"."}')]
    assert tape.add(ev.ToolReturned(CAT.id, "2")) == []
    assert tape.add(ev.ToolReturned(LS.id, "1")) == [
        add_result("ls", "1"),
        add_call("cat", "{}"),
        add_result("cat", "2"),
    ]


def test_the_next_call_is_told_when_its_turn_has_come() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS, CAT)), ev.ToolStarted(LS), ev.ToolStarted(CAT))
    assert tape.add(ev.ToolReturned(LS.id, "1")) == [add_result("ls", "1"), add_call("cat", "{}")]


def test_D4_a_call_of_no_tool_is_told_as_recovered() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (CAT,)))
    assert tape.add(ev.ToolReturned(CAT.id, '{"error":{}}', is_error=True, code="unknown_tool")) == [
        add_call("cat", "") | {"id": "error_recovery_message"},
        add_result("cat", '{"error":{}}'),
    ]


def test_D5_a_call_that_was_refused_is_told_as_it_was() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS,)))
    assert tape.add(ev.ToolReturned(LS.id, '{"error":{}}', is_error=True, code="bad_arguments")) == [
        add_call("ls", '{"path":"."}'),
        add_result("ls", '{"error":{}}'),
    ]


def test_a_call_that_the_caller_made_has_the_name_it_had_there() -> None:
    called = {"role": "assistant", "content": "", "function_call": {"name": "summarize", "trigger": "user"}}
    asked = request(messages=[{"@timestamp": AT, "message": called}])
    tape = Playback(ev.RunClaimed(1), ev.ToolReturned(call_id(0), "{}"), asked=asked)
    assert tape.told == [add_result("summarize", "{}")]
    begun = ToolCall(call_id(0), "summarize", "{}")
    tape = Playback(ev.RunClaimed(1), ev.ToolStarted(begun), ev.ToolReturned(begun.id, "{}"))
    assert tape.told == [add_result("summarize", "{}")]


def test_I4_a_call_of_an_action_is_the_last_message_and_nothing_is_kept() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS,)), started=STARTED)
    tape.add(ev.ClientToolRequested(LS), ev.RunNeedsClient((LS,)))
    assert tape.told[-1] == add_call("ls", '{"path":"."}')
    assert tape.encoder.closed


def test_results_that_are_there_come_before_a_call_of_an_action() -> None:
    tape = Playback(*BEGUN, ev.ReplyFinished("", (LS, CAT)), ev.ToolStarted(CAT), ev.ToolReturned(CAT.id, "2"))
    assert tape.add(ev.ClientToolRequested(LS), ev.RunNeedsClient((LS,))) == [
        add_call("cat", "{}"),
        add_result("cat", "2"),
        add_call("ls", '{"path":"."}'),
    ]


def test_a_forced_end_is_told_as_a_call_and_becomes_the_answer() -> None:
    call = ToolCall(CallId("c9"), "exit_loop", '{"response":"So far."}')
    tape = Playback(*BEGUN, ev.ReplyFinished("So far.", closing=call), ev.RunCompleted())
    assert tape.told == [
        chunk("", name="exit_loop", arguments='{"response":"So far."}'),
        chunk("So far."),
        message("So far."),
        add_call("", "", "So far."),
    ]


# -- what is kept ------------------------------------------------------------------------------------------------------


def kept(*events: Event, started: Started = STARTED, asked: Request | None = None) -> Any:
    return Playback(*BEGUN, ev.ReplyFinished("Hi"), *events, ev.RunCompleted(), started=started, asked=asked).told[-1]


def conversation(kind: str, title: str) -> dict[str, Any]:
    return {"type": kind, "conversation": {"title": title, "id": "c-1", "last_updated": AT}}


def test_I3_a_new_conversation_is_told_with_the_title_it_was_given() -> None:
    assert kept(ev.TitleGiven("About it")) == conversation("conversationCreate", "About it")
    assert kept(asked=request(title="Mine")) == conversation("conversationCreate", "Mine")
    assert kept() == conversation("conversationCreate", "New conversation")


def test_I5_a_conversation_that_goes_on_keeps_its_title() -> None:
    known = replace(STARTED, created=False, title="Old")
    assert kept(started=known, asked=request(conversationId="c-1")) == conversation("conversationUpdate", "Old")
    mine = request(conversationId="c-1", title="New")
    assert kept(started=known, asked=mine) == conversation("conversationUpdate", "New")


def test_nothing_is_told_of_one_that_is_not_kept() -> None:
    assert kept(started=EPHEMERAL)["type"] == "messageAdd"


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (ev.RunFailed("upstream_refused", "No."), failure("Error calling connector: No.")),
        (
            ev.RunFailed("reply_cut", "Token limit reached."),
            failure("Token limit reached.", code="tokenLimitReachedError"),
        ),
        (ev.RunFailed("step_limit", "Many."), failure("Many.", code="functionLimitExceededError")),
        (ev.RunFailed("not_found", "Gone."), failure("Gone.", code="notFoundError")),
        (ev.RunFailed("conflict", "Deleted."), failure("Deleted.", code="internalError")),
        (ev.RunCancelled(), failure("The answer was cancelled.")),
    ],
)
def test_a_run_that_failed_ends_with_an_error(end: ev.RunEnd, told: Any) -> None:
    tape = Playback(*BEGUN, ev.TextAdded("Half"), end, started=STARTED)
    assert tape.told == [chunk("Half"), told]
    assert tape.encoder.closed
    assert tape.add(ev.RunCompleted()) == []
    assert tape.encoder.failed(errors.Unavailable("Later.")) == b""


def test_a_stream_that_cannot_go_on_says_so() -> None:
    tape = Playback(*BEGUN)
    assert told(tape.encoder.failed(errors.Unavailable("Stopping."))) == [failure("Stopping.", code="internalError")]
    gone = Playback(*BEGUN).encoder.failed(errors.NotFound("Gone.", what="conversation"))
    assert told(gone) == [failure("Gone.", code="notFoundError")]


def test_a_reply_begun_again_is_told_if_it_goes_on() -> None:
    tape = Playback(*BEGUN, ev.TextAdded("Hel"), ev.AttemptReset(4), *BEGUN, ev.TextAdded("Hello"))
    assert tape.told == [chunk("Hel"), chunk("lo")]


@pytest.mark.parametrize("again", [ev.TextAdded("Bye"), ev.ReplyFinished("Bye", (LS,))])
def test_a_reply_that_comes_out_differently_ends_the_stream(again: Event) -> None:
    tape = Playback(*BEGUN, ev.TextAdded("Hel"), ev.AttemptReset(4), *BEGUN, again)
    assert tape.told == [chunk("Hel"), failure(RETOLD)]
    assert tape.encoder.closed


@pytest.mark.parametrize("settled", [ev.ReplyFinished("Hello"), ev.CallAdded(CONTEXT)])
def test_what_was_told_whole_cannot_be_taken_back(settled: Event) -> None:
    tape = Playback(ev.RunClaimed(1), ev.ReplyStarted("assistant", "main"), settled, ev.AttemptReset(4))
    assert tape.told[-1] == failure(RETOLD)


# -- what models were not told -----------------------------------------------------------------------------------------


def test_values_that_were_masked_are_told_with_the_reply() -> None:
    said = {"role": "user", "content": "I am jo@a.org"}
    asked = request(messages=[{"@timestamp": AT, "message": said}, {"@timestamp": AT, "message": {"role": "user"}}])
    tape = Playback(*BEGUN, ev.ReplyFinished("jo@a.org?", masked=(Masked("EMAIL", "jo@a.org", "M1"),)), asked=asked)
    entity = {"class_name": "EMAIL", "value": "jo@a.org", "mask": "M1"}
    assert tape.told[1]["deanonymized_input"] == [
        {"message": said, "deanonymizations": [{"start": 5, "end": 13, "entity": entity}]}
    ]
    assert tape.told[1]["deanonymized_output"] == {
        "message": {"content": "jo@a.org?"},
        "deanonymizations": [{"start": 0, "end": 8, "entity": entity}],
    }
    assert tape.told[2]["deanonymized_output"] == tape.told[1]["deanonymized_output"]


# -- one reply alone ---------------------------------------------------------------------------------------------------


def test_of_one_reply_only_chunks_and_the_message_are_told() -> None:
    encoder = ChatEvents()
    encoder.opened(EPHEMERAL)
    events = (*BEGUN, ev.TextAdded("I look."), ev.ReplyFinished("I look.", (LS,)), ev.RunNeedsClient((LS,)))
    sent = b"".join(encoder.entry(Entry(at, STARTED.run, 0.0, event)) for at, event in enumerate(events, start=3))
    call = {"name": "ls", "arguments": '{"path":"."}'}
    assert told(sent) == [chunk("I look."), chunk("", **call), message("I look.", **call)]
    assert encoder.closed


# -- silence -----------------------------------------------------------------------------------------------------------


def test_D12_a_flush_goes_out_at_every_second_silence() -> None:
    tape = Playback(*BEGUN)
    said = [tape.encoder.silence() for _ in range(4)]
    assert [each and json.loads(each) for each in said] == [b"", {"type": "bufferFlush", "data": "0"}] * 2
    tape.encoder.silence()
    tape.add(ev.TextAdded("Hi"))
    assert tape.encoder.silence() == b""


def test_a_body_that_cannot_be_read_counts_for_nothing() -> None:
    broken = Request("POST", "/", {}, {}, {}, b"\xff", "abcdef012345", "0" * 32, 0.0)
    assert kept(asked=broken) == conversation("conversationCreate", "New conversation")
