"""Runs as A2A's tasks: what message/send, tasks/get and tasks/cancel answer."""

from msgspec import UNSET

from dragoman.core import events as ev
from dragoman.core.operations import Outcome, RunView, Started, Timeline
from dragoman.dialects.grafana import a2a_artifacts as make
from dragoman.dialects.grafana import a2a_rpc as rpc
from dragoman.dialects.grafana.a2a_rpc import TASK_NOT_CANCELABLE, answer, call_of, refusal
from dragoman.dialects.grafana.a2a_shapes import (
    AgentMessage,
    Artifact,
    ArtifactUpdate,
    State,
    Status,
    StatusUpdate,
    Task,
    TaskParams,
    TextPart,
)
from dragoman.dialects.grafana.a2a_steps import Can, Steps
from dragoman.wire.dialect import Reply, Request

HISTORY_MAX = 100

_STATES: dict[str, State] = {
    "queued": "submitted",
    "running": "working",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "canceled",
    "needs_client": "completed",
}


def begun(started: Started, request: Request) -> Reply:
    """The answer to a message/send that does not wait (`configuration.blocking` false): ask again with tasks/get."""
    return answer(request, Task(started.run, started.conversation, make.status_of(started, "submitted")))


def done(outcome: Outcome, request: Request) -> Reply:
    """The answer to a message/send that waits. The text is that of the last reply."""
    started, end = outcome.started, outcome.end
    text = make.end_text(end)
    artifacts = tuple(
        Artifact(f"{started.run}-{number}", "step.message", (TextPart(piece),))
        for number, piece in enumerate(make.pieces_of(outcome.text), start=1)
    )
    task = Task(
        started.run,
        started.conversation,
        make.status_of(started, make.state_of(end), text=text),
        artifacts or UNSET,
        metadata={"error": text} if isinstance(end, ev.RunFailed) else UNSET,
    )
    return answer(request, task)


def task(timeline: Timeline, request: Request) -> Reply:
    """The answer to tasks/get: all that a reader of the stream would have been told."""
    run = timeline.run
    started = _started(run)
    steps = Steps(Can())
    steps.begin(started)
    artifacts: list[Artifact] = []
    status: Status = make.status_of(started, _STATES.get(run.status, "working"), at=run.ended_at)
    asked: list[AgentMessage] = []
    for entry in timeline.entries:
        if isinstance(entry.event, ev.TurnReceived):
            asked = _asked(entry.event, started)
        for result in steps.take(entry):
            if isinstance(result, ArtifactUpdate):
                artifacts.append(result.artifact)
            elif isinstance(result, StatusUpdate) and result.final:
                status = result.status
    history_max = rpc.params_of(call_of(request), TaskParams).history_length
    history = tuple(asked[-history_max:] if history_max else asked if history_max is None else ())
    failed = status.state == "failed" and status.message
    return answer(
        request,
        Task(
            run.id,
            run.conversation,
            status,
            tuple(artifacts) or UNSET,
            history or UNSET,
            {"error": failed.parts[0].text} if failed else UNSET,
        ),
    )


def cancelled(run: RunView, request: Request) -> Reply:
    """The answer to tasks/cancel. A run that another process ends is still `working` for a moment."""
    state = _STATES.get(run.status, "working")
    if state in ("completed", "failed"):
        return refusal(call_of(request), TASK_NOT_CANCELABLE, f"The task has ended already: it is {state}.")
    return answer(request, Task(run.id, run.conversation, make.status_of(_started(run), state, at=run.ended_at)))


def _started(run: RunView) -> Started:
    return Started(run.conversation, run.tape, run.id, run.first_seq, created=False)


def _asked(received: ev.TurnReceived, started: Started) -> list[AgentMessage]:
    """What the person wrote, without what their client added to it (Q19)."""
    return [
        AgentMessage("user", f"{started.run}-q{number}", (TextPart(said.text),), started.conversation, started.run)
        for number, said in enumerate(received.messages[-HISTORY_MAX:])
        if said.role == "user" and said.text
    ]
