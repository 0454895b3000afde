"""What a reader of a run is told, entry by entry."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.agents import ToolSpec
from dragoman.core.events import Entry, Event
from dragoman.core.messages import ToolCall, Usage, said
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Started
from dragoman.dialects.grafana import ids
from dragoman.dialects.grafana.a2a_artifacts import TEXT_BYTES_MAX
from dragoman.dialects.grafana.a2a_steps import Can, Steps
from tests.histories import History, histories

RUN = RunId("run-1")
STARTED = Started(ConversationId("chat-1"), Tape(1), RUN, 1, created=True)
AT = 1_700_000_000.0
LOOK = ToolCall(CallId("c1"), "look", '{"at":"it"}')
ASK = ToolCall(CallId("c2"), "getRequests", '{"limit":5}')
USAGE = Usage(10, 5)
PLAINLY = Can()
STREAMS = Can(token_streaming=True)
REMOTE = Can(remote_tools=True)


def tell(*events: Event, can: Can = PLAINLY, first: int = 2) -> list[dict[str, Any]]:
    """What is told about the entries, as JSON."""
    steps = Steps(can)
    steps.begin(STARTED)
    told: list[Any] = []
    for seq, event in enumerate(events, start=first):
        told += steps.take(Entry(seq, RUN, AT + seq, event))
    return json.loads(msgspec.json.encode(told))


def kinds(told: list[dict[str, Any]]) -> list[str]:
    """Each frame's state, artifact name or type."""
    return [
        each["status"]["state"]
        if each.get("kind") == "status-update"
        else each["artifact"]["name"]
        if each.get("kind") == "artifact-update"
        else each["type"]
        for each in told
    ]


def only(told: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The data, or the text, of the one artifact of that name."""
    (part,) = artifact(told, name)["parts"]
    return part["data"] if part["kind"] == "data" else part["text"]


def artifact(told: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [each["artifact"] for each in told if each.get("artifact", {}).get("name") == name]
    return found


def texts(told: list[dict[str, Any]]) -> list[str]:
    return [each["artifact"]["parts"][0]["text"] for each in told if kinds([each]) == ["step.message"]]


def reply(text: str, *calls: ToolCall, streamed: bool = False) -> list[Event]:
    pieces: list[Event] = [ev.TextAdded(text)] if streamed else []
    return [ev.ReplyStarted("assistant", "m-1"), *pieces, ev.ReplyFinished(text, calls, USAGE)]


PLAIN: list[Event] = [ev.RunClaimed(1), *reply("It is fine."), ev.RunCompleted(USAGE)]


# -- sequences -----------------------------------------------------------------------------------------------------


def test_a_plain_answer_is_one_whole_message_and_one_last_status() -> None:
    told = tell(*PLAIN)
    assert kinds(told) == ["working", "step.message", "step.complete", "completed"]
    assert told[1] == {
        "kind": "artifact-update",
        "taskId": "run-1",
        "contextId": "chat-1",
        "artifact": {
            "kind": "artifact",
            "artifactId": "run-1-3",
            "name": "step.message",
            "parts": [{"kind": "text", "text": "It is fine."}],
        },
    }
    assert told[3] == {
        "kind": "status-update",
        "taskId": "run-1",
        "contextId": "chat-1",
        "status": {"state": "completed", "timestamp": "2023-11-14T22:13:25.000Z"},
        "final": True,
    }


def test_a_step_says_why_it_stopped_and_what_it_used() -> None:
    told = tell(*PLAIN)
    assert only(told, "step.complete") == {"stepId": "run-1-step-1", "stopReason": "end_turn"}
    assert artifact(told, "step.complete")["metadata"] == {
        "agent-traceability": {"usage": {"InputTokens": 10, "OutputTokens": 5, "Model": "m-1"}}
    }


def test_a_model_without_a_name_is_not_named() -> None:
    told = tell(ev.ReplyStarted("a", ""), ev.ReplyFinished("x", (), USAGE), ev.RunCompleted())
    usage = artifact(told, "step.complete")["metadata"]["agent-traceability"]["usage"]
    assert usage == {"InputTokens": 10, "OutputTokens": 5}


def test_a_tool_is_shown_with_its_call_and_its_result_before_the_answer() -> None:
    told = tell(
        ev.RunClaimed(1),
        *reply("Let me look.", LOOK),
        ev.ToolStarted(LOOK),
        ev.ToolReturned(LOOK.id, "seen", duration_ms=7),
        *reply("It is fine."),
        ev.RunCompleted(),
    )
    assert kinds(told) == [
        "working",
        "step.message",
        "step.toolCall",
        "step.complete",
        "step.toolResult",
        "step.message",
        "step.complete",
        "completed",
    ]
    assert only(told[:4], "step.toolCall") == {"toolId": "c1", "toolName": "look", "inputs": {"at": "it"}}
    assert only(told[:4], "step.complete")["stopReason"] == "tool_use"
    assert only(told, "step.toolResult") == {
        "toolId": "c1",
        "toolName": "look",
        "result": "seen",
        "isError": False,
        "durationMs": 7,
    }


@pytest.mark.parametrize(
    ("arguments", "inputs"), [("", {}), ("no json", "no json"), ("[1]", "[1]"), ('{"a":{"b":1}}', {"a": {"b": 1}})]
)
def test_arguments_that_are_no_object_are_shown_as_the_model_wrote_them(arguments: str, inputs: Any) -> None:
    told = tell(ev.ToolStarted(ToolCall(CallId("c1"), "look", arguments)))
    assert only(told, "step.toolCall")["inputs"] == inputs


def test_a_call_that_is_made_again_after_a_crash_is_shown_once() -> None:
    again = [ev.ToolStarted(LOOK), ev.RunClaimed(2), ev.ToolStarted(LOOK), ev.ToolReturned(LOOK.id, "seen")]
    told = tell(ev.RunClaimed(1), *reply("", LOOK), *again)
    assert kinds(told) == ["working", "step.toolCall", "step.complete", "step.toolResult"]


def test_a_call_that_is_settled_without_being_made_is_shown_with_its_result() -> None:
    told = tell(*reply("", LOOK), ev.ToolReturned(LOOK.id, "There is no tool look.", is_error=True))
    assert kinds(told) == ["working", "step.toolCall", "step.complete", "step.toolResult"]
    assert only(told, "step.toolResult")["isError"] is True


def test_a_long_result_is_shown_in_part() -> None:
    told = tell(*reply("", LOOK), ev.ToolReturned(LOOK.id, "x" * 20_001))
    assert only(told, "step.toolResult")["result"] == "x" * 20_000 + "…"


def test_a_time_series_is_shown_as_a_chart_besides() -> None:
    result = '{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"values":[[1700000000,"1"]]}]}'
    told = tell(*reply("", LOOK), ev.ToolReturned(LOOK.id, result))
    assert kinds(told)[-2:] == ["step.toolResult", "chart.data"]
    assert only(told, "chart.data")["series"][0]["points"] == [{"ts": 1_700_000_000_000, "v": 1.0}]
    assert "chart.data" not in kinds(tell(*reply("", LOOK), ev.ToolReturned(LOOK.id, result, is_error=True)))


def test_no_two_artifacts_have_one_id() -> None:
    told = tell(
        ev.RunClaimed(1),
        *reply("a", LOOK, ASK),
        ev.ToolStarted(LOOK),
        ev.ToolStarted(ASK),
        ev.ToolReturned(LOOK.id, "1"),
        ev.ToolReturned(ASK.id, "2"),
        *reply("b"),
        ev.RunCompleted(),
    )
    names = [each["artifact"]["artifactId"] for each in told if "artifact" in each]
    assert len(names) == len(set(names)) == 8


# -- ends ----------------------------------------------------------------------------------------------------------


def test_a_failure_is_said_in_the_status() -> None:
    told = tell(ev.RunClaimed(1), ev.RunFailed("upstream_idle", "The model said nothing for 60 s."))
    assert kinds(told) == ["working", "failed"]
    assert told[1]["final"] is True
    message = told[1]["status"]["message"]
    assert (message["role"], message["parts"]) == (
        "agent",
        [{"kind": "text", "text": "The model said nothing for 60 s."}],
    )


def test_a_reader_that_drops_the_text_of_a_status_is_told_by_a_message() -> None:
    told = tell(ev.RunFailed("upstream_idle", "The model was silent."), can=Can(status_text=False))
    assert kinds(told) == ["step.message", "failed"]
    assert texts(told) == ["The model was silent."]


@pytest.mark.parametrize("code", ["token_limit", "upstream_limited"])
def test_a_spent_limit_is_said_in_words_that_clients_know(code: str) -> None:
    (status,) = tell(ev.RunFailed(code, "It did not work."))
    text = status["status"]["message"]["parts"][0]["text"]
    assert text.startswith("It did not work. ")
    assert "limit" in text.lower() and text.endswith("reached.")


def test_a_cancelled_run_says_so() -> None:
    (status,) = tell(ev.RunCancelled("someone"))
    assert status["status"]["state"] == "canceled"
    assert status["status"]["message"]["parts"][0]["text"] == "The task was cancelled."


def test_a_run_that_waits_for_another_wires_client_is_over_here() -> None:
    told = tell(*reply("", ASK), ev.ClientToolRequested(ASK), ev.RunNeedsClient((ASK,)))
    assert kinds(told) == ["working", "step.toolCall", "step.complete", "completed"]


def test_an_empty_answer_is_no_message() -> None:
    told = tell(*reply(""), ev.RunCompleted())
    assert kinds(told) == ["working", "step.complete", "completed"]


# -- waiting -------------------------------------------------------------------------------------------------------


def test_an_approval_is_asked_for_behind_the_call() -> None:
    asked = ev.ApprovalRequested(LOOK, "hash", AT + 4 + 120)
    told = tell(*reply("", LOOK), asked)
    assert kinds(told) == ["working", "step.toolCall", "step.complete", "step.approval"]
    assert only(told, "step.approval") == {
        "id": ids.approval_id(RUN, LOOK.id, "hash"),
        "chatId": "chat-1",
        "tenantId": "",
        "userId": "",
        "toolName": "look",
        "toolInput": {"at": "it"},
        "description": 'it would run with {"at":"it"}; decide within 120 s, by 2023-11-14T22:15:24.000Z'
        " (no answer counts as no)",
    }


def test_long_arguments_are_asked_about_by_their_beginning() -> None:
    asked = ev.ApprovalRequested(ToolCall(CallId("c1"), "look", "x" * 1_001), "hash", AT + 4 + 120)
    assert (
        f"it would run with {'x' * 1_000}… (and 1 more characters, which are not shown); decide"
        in only(tell(asked), "step.approval")["description"]
    )


def test_a_client_is_asked_to_run_its_tool_while_the_stream_goes_on() -> None:
    told = tell(*reply("", ASK), ev.ClientToolRequested(ASK, AT + 4 + 120, "client"), can=REMOTE)
    assert kinds(told) == ["working", "step.toolCall", "step.complete", "REMOTE_TOOL_REQUEST"]
    assert told[-1] == {
        "type": "REMOTE_TOOL_REQUEST",
        "data": {
            "requestId": ids.request_id(RUN, ASK.id),
            "chatId": "chat-1",
            "toolName": "getRequests",
            "toolInput": {"limit": 5},
            "timeoutMs": 120_000,
        },
    }


def test_a_reader_that_runs_no_tools_is_not_asked_to() -> None:
    told = tell(*reply("", ASK), ev.ClientToolRequested(ASK, AT + 124, "client"))
    assert kinds(told) == ["working", "step.toolCall", "step.complete"]


def test_a_tunnels_call_is_shown_like_the_servers_own_and_asked_of_no_reader() -> None:
    request = ev.ClientToolRequested(ASK, AT + 124, "tunnel")
    assert kinds(tell(*reply("", ASK), request)) == ["working", "step.toolCall", "step.complete"]
    assert "REMOTE_TOOL_REQUEST" not in kinds(tell(*reply("", ASK), request, can=REMOTE))


def test_who_runs_tools_sees_no_calls_but_its_own() -> None:
    """It would wait for ever for a request that matches them."""
    told = tell(
        *reply("", LOOK, ASK),
        ev.ToolStarted(LOOK),
        ev.ToolReturned(LOOK.id, "seen"),
        ev.ClientToolRequested(ASK, AT + 200, "client"),
        ev.ToolReturned(ASK.id, "[]"),
        can=REMOTE,
    )
    calls = [each for each in told if kinds([each]) == ["step.toolCall"]]
    assert [each["artifact"]["parts"][0]["data"]["toolId"] for each in calls] == ["c2"]


# -- token streaming -----------------------------------------------------------------------------------------------


def test_a_message_that_grows_stands_around_its_whole_text() -> None:
    pieces = [ev.ThinkingAdded("hm"), ev.TextAdded("It is "), ev.TextAdded("fine.")]
    told = tell(ev.ReplyStarted("a", "m"), *pieces, ev.ReplyFinished("It is fine."), can=STREAMS)
    assert kinds(told) == [
        "working",
        "message.stream.start",
        "message.content.delta",
        "message.content.delta",
        "message.content.delta",
        "step.message",
        "message.stream.complete",
    ]
    assert len({each["artifact"]["artifactId"] for each in told[1:]}) == 1
    assert told[1]["artifact"]["parts"] == told[6]["artifact"]["parts"] == []
    assert [each["artifact"]["parts"][0]["data"] for each in told[2:5]] == [
        {"delta": "hm", "contentType": "thinking"},
        {"delta": "It is ", "contentType": "text"},
        {"delta": "fine.", "contentType": "text"},
    ]


def test_without_being_asked_for_nothing_is_shown_before_it_is_whole() -> None:
    told = tell(ev.ReplyStarted("a", "m"), ev.ThinkingAdded("hm"), ev.TextAdded("It"), ev.ReplyFinished("It"))
    assert kinds(told) == ["working", "step.message"]


def test_a_reply_that_did_not_stream_is_said_at_once() -> None:
    assert kinds(tell(*reply("It is fine."), can=STREAMS)) == ["working", "step.message"]


def test_a_new_try_that_says_the_same_goes_on_where_it_was() -> None:
    told = tell(
        ev.ReplyStarted("a", "m"),
        ev.ThinkingAdded("hm"),
        ev.TextAdded("It is "),
        ev.RunClaimed(2),
        ev.AttemptReset(2),
        ev.ReplyStarted("a", "m"),
        ev.ThinkingAdded("hm hm"),
        ev.TextAdded("It "),
        ev.TextAdded("is fine"),
        ev.ReplyFinished("It is fine."),
        can=STREAMS,
    )
    deltas = [each["artifact"]["parts"][0]["data"]["delta"] for each in told if kinds([each]) == [DELTA]]
    assert deltas == ["hm", "It is ", "fine", "."]
    assert kinds(told).count("message.stream.start") == kinds(told).count("message.stream.complete") == 1
    assert texts(told) == ["It is fine."]


DELTA = "message.content.delta"


def test_a_new_try_that_says_something_else_is_another_message() -> None:
    told = tell(
        ev.ReplyStarted("a", "m"),
        ev.TextAdded("It is "),
        ev.AttemptReset(2),
        ev.ReplyStarted("a", "m"),
        ev.TextAdded("It was"),
        ev.ReplyFinished("It was."),
        can=STREAMS,
    )
    assert kinds(told) == [
        "working",
        "message.stream.start",
        DELTA,
        "message.stream.complete",
        "message.stream.start",
        DELTA,
        DELTA,
        "step.message",
        "message.stream.complete",
    ]
    first, second = told[1]["artifact"]["artifactId"], told[4]["artifact"]["artifactId"]
    assert first != second
    assert [each["artifact"]["artifactId"] for each in told[5:]] == [second] * 4
    assert told[5]["artifact"]["parts"][0]["data"]["delta"] == "It was"


def test_a_new_try_that_says_less_is_another_message() -> None:
    told = tell(
        ev.ReplyStarted("a", "m"),
        ev.TextAdded("It is fine"),
        ev.AttemptReset(2),
        ev.ReplyStarted("a", "m"),
        ev.TextAdded("It is"),
        ev.ReplyFinished("It is"),
        can=STREAMS,
    )
    assert kinds(told)[-3:] == [DELTA, "message.stream.complete", "step.message"]
    assert told[-1]["artifact"]["artifactId"] != told[-2]["artifact"]["artifactId"]


def test_a_failure_closes_the_message_that_is_open() -> None:
    told = tell(ev.ReplyStarted("a", "m"), ev.TextAdded("It"), ev.RunFailed("x", "It broke."), can=STREAMS)
    assert kinds(told)[-2:] == ["message.stream.complete", "failed"]
    assert texts(told) == []


# -- long texts ----------------------------------------------------------------------------------------------------

LONG = "line of text\n" * (3 * TEXT_BYTES_MAX // 13)


@pytest.mark.parametrize("can", [PLAINLY, STREAMS])
def test_a_text_too_long_for_a_line_is_several_messages(can: Can) -> None:
    told = tell(*reply(LONG, streamed=can.token_streaming), can=can)
    pieces = texts(told)
    assert "".join(pieces) == LONG
    assert len(pieces) > 2 and all(piece.endswith("\n") for piece in pieces)
    names = [each["artifact"]["artifactId"] for each in told if kinds([each]) == ["step.message"]]
    assert len(set(names)) == len(names)


def test_each_piece_behind_the_first_stands_in_a_stream_of_its_own() -> None:
    """Else a reader that shows deltas would take it for news."""
    told = kinds(tell(*reply(LONG, streamed=True), can=STREAMS))
    assert told[-3:] == ["message.stream.start", "step.message", "message.stream.complete"]
    assert told.count("message.stream.start") == told.count("step.message") == told.count("message.stream.complete")


# -- properties ----------------------------------------------------------------------------------------------------

readers = st.builds(Can, st.booleans(), st.booleans(), st.booleans())


@given(history=histories(), can=readers)
def test_each_replys_text_is_in_exactly_one_message_and_one_last_status_closes(history: History, can: Can) -> None:
    steps = Steps(can)
    steps.begin(history.started)
    told: list[Any] = []
    for entry in history.entries:
        assert not steps.ended
        told += steps.take(entry)
    assert steps.ended
    shown: list[dict[str, Any]] = json.loads(msgspec.json.encode(told))
    finished = [entry.event.text for entry in history.entries if isinstance(entry.event, ev.ReplyFinished)]
    expected = [text for text in finished if text]
    if not can.status_text and not isinstance(history.end, ev.RunCompleted | ev.RunNeedsClient):
        expected.append(shown[-1]["status"]["message"]["parts"][0]["text"])
    assert texts(shown) == expected
    finals = [each for each in shown if each.get("final")]
    assert finals == [shown[-1]]
    assert kinds(shown).count("working") == 1


def test_notes_and_what_others_write_are_not_shown() -> None:
    received = ev.TurnReceived((said("user", "hi"),), client_tools=(ToolSpec("t", "", {}),))
    others: list[Event] = [
        received,
        ev.ApprovalDecided(LOOK.id, approved=True),
        ev.ClientToolAnswered(ASK.id, "[]"),
        ev.CancelAsked(),
        ev.TitleGiven("x"),
        ev.HandedOver("a", "b"),
    ]
    assert tell(*others) == []
