"""Runs as tasks."""

import json
from typing import Any

import pytest
from hypothesis import given

from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.messages import Message, Text, ToolCall, said
from dragoman.core.names import CallId, ConversationId, RunId, Tape
from dragoman.core.operations import Outcome, RunView, Started, Timeline
from dragoman.dialects.grafana import a2a_tasks as tasks
from dragoman.wire.dialect import Reply, Request
from tests.histories import History, histories

RUN, CHAT = RunId("run-1"), ConversationId("chat-1")
STARTED = Started(CHAT, Tape(1), RUN, 1, created=True)
CALL = ToolCall(CallId("c1"), "look", "{}")


def request(**params: Any) -> Request:
    body = {"jsonrpc": "2.0", "id": 5, "method": "tasks/get", "params": {"id": RUN} | params}
    return Request("POST", "/", {}, {}, {}, json.dumps(body).encode(), "r", "0" * 32, 0.0)


def result(reply: Reply) -> dict[str, Any]:
    said_ = json.loads(reply.body)
    assert (reply.status, said_["jsonrpc"], said_["id"]) == (200, "2.0", 5)
    return said_["result"]


def view(status: str, ended_at: float | None = None) -> RunView:
    return RunView(RUN, CHAT, Tape(1), status, 1, 1, 1_700_000_000.0, ended_at)


def timeline(status: str, *events: Event, ended_at: float | None = None) -> Timeline:
    entries = tuple(Entry(seq, RUN, 1_700_000_000.0 + seq, event) for seq, event in enumerate(events, start=2))
    return Timeline(view(status, ended_at), entries)


def test_a_task_that_is_not_waited_for_is_submitted() -> None:
    assert result(tasks.begun(STARTED, request())) == {
        "kind": "task",
        "id": "run-1",
        "contextId": "chat-1",
        "status": {"state": "submitted"},
    }


def test_a_task_that_was_waited_for_holds_the_answer() -> None:
    outcome = Outcome(STARTED, ev.RunCompleted(), "It is fine.", 1, (), ev.RunCompleted().usage)
    assert result(tasks.done(outcome, request())) == {
        "kind": "task",
        "id": "run-1",
        "contextId": "chat-1",
        "status": {"state": "completed"},
        "artifacts": [
            {
                "kind": "artifact",
                "artifactId": "run-1-1",
                "name": "step.message",
                "parts": [{"kind": "text", "text": "It is fine."}],
            }
        ],
    }


def test_a_task_that_failed_says_why_in_two_places() -> None:
    outcome = Outcome(STARTED, ev.RunFailed("x", "It broke."), "", 0, (), ev.RunCompleted().usage)
    told = result(tasks.done(outcome, request()))
    assert told["status"]["state"] == "failed"
    assert told["status"]["message"]["parts"] == [{"kind": "text", "text": "It broke."}]
    assert told["metadata"] == {"error": "It broke."}
    assert "artifacts" not in told


HISTORY = (
    ev.TurnReceived((Message("user", (Text("hi"), Text("\n<context>now</context>", hidden=True))),)),
    ev.RunClaimed(1),
    ev.ReplyStarted("a", "m"),
    ev.ReplyFinished("Let me look.", (CALL,)),
    ev.ToolStarted(CALL),
    ev.ToolReturned(CALL.id, "seen"),
    ev.ReplyStarted("a", "m"),
    ev.ReplyFinished("It is fine."),
)


def test_a_task_is_read_with_everything_a_reader_of_its_stream_was_told() -> None:
    told = result(tasks.task(timeline("completed", *HISTORY, ev.RunCompleted()), request()))
    assert told["status"] == {"state": "completed", "timestamp": "2023-11-14T22:13:30.000Z"}
    assert [artifact["name"] for artifact in told["artifacts"]] == [
        "step.message",
        "step.toolCall",
        "step.complete",
        "step.toolResult",
        "step.message",
        "step.complete",
    ]
    assert told["history"] == [
        {
            "kind": "message",
            "role": "user",
            "messageId": "run-1-q0",
            "parts": [{"kind": "text", "text": "hi"}],
            "contextId": "chat-1",
            "taskId": "run-1",
        }
    ]


@pytest.mark.parametrize(
    ("status", "state"),
    [("queued", "submitted"), ("running", "working"), ("needs_client", "completed"), ("cancelled", "canceled")],
)
def test_a_tasks_state_is_that_of_its_run(status: str, state: str) -> None:
    assert result(tasks.task(timeline(status), request()))["status"]["state"] == state


def test_a_failed_task_is_read_with_its_error() -> None:
    told = result(tasks.task(timeline("failed", ev.RunFailed("x", "It broke.")), request()))
    assert (told["status"]["state"], told["metadata"]) == ("failed", {"error": "It broke."})


@pytest.mark.parametrize(("length", "count"), [(None, 2), (0, None), (1, 1), (9, 2)])
def test_as_much_history_is_told_as_is_asked_for(length: int | None, count: int | None) -> None:
    received = ev.TurnReceived((said("user", "a"), said("assistant", "b"), said("user", "c")))
    told = result(tasks.task(timeline("running", received), request(historyLength=length)))
    assert len(told["history"]) == count if count else "history" not in told


@pytest.mark.parametrize(("status", "state"), [("cancelled", "canceled"), ("running", "working")])
def test_a_task_that_is_being_stopped_says_how_far_that_is(status: str, state: str) -> None:
    assert result(tasks.cancelled(view(status), request()))["status"]["state"] == state


@pytest.mark.parametrize("status", ["completed", "failed", "needs_client"])
def test_a_task_that_has_ended_cannot_be_stopped(status: str) -> None:
    error = json.loads(tasks.cancelled(view(status), request()).body)["error"]
    assert error["code"] == -32002
    assert error["message"].startswith("The task has ended already: it is ")


@given(history=histories())
def test_a_task_waited_for_and_a_task_read_tell_the_same_end(history: History) -> None:
    status = {"RunCompleted": "completed", "RunFailed": "failed", "RunCancelled": "cancelled"}
    kind = status.get(type(history.end).__name__, "needs_client")
    run = RunView(history.started.run, history.started.conversation, Tape(1), kind, 1, 1, 0.0, 0.0)
    read = result(tasks.task(Timeline(run, history.entries), request()))
    done = result(tasks.done(history.outcome, request()))
    assert read["status"]["state"] == done["status"]["state"]
    assert read["status"].get("message") == done["status"].get("message")
    assert read.get("metadata") == done.get("metadata")
