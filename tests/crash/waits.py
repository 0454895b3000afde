"""A wire of the harness's own, beside the installed ones: what those do not offer, or offer in shapes that are theirs.
Turns with a tool of the client that is waited for, decisions, answers, and a run's entries as they stand on the tape.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from dragoman.core.agents import NO_ARGUMENTS, ToolSpec
from dragoman.core.errors import DragomanError, NotAuthenticated
from dragoman.core.messages import said
from dragoman.core.names import CallId, ConversationId, RunId, Scope
from dragoman.core.operations import ReadRun, Started, StartTurn, Timeline
from dragoman.core.waits import AnswerClientTool, DecideApproval, Settled
from dragoman.wire import structs
from dragoman.wire.dialect import Dialect, Reply, Request, Route, json_reply
from tests.crash.scripts import LOCAL

STATUSES = {"not_authenticated": 401, "not_allowed": 403, "not_found": 404, "conflict": 409, "expired": 410}
SCOPES = (Scope.CHAT_RUN, Scope.CHAT_READ)


class Turn(Struct):
    conversation: str
    message: str
    held_s: float = 0.0
    """0 = without a tool of the client."""


class Decision(Struct):
    call: str
    arguments_hash: str
    approved: bool


class Answer(Struct):
    call: str
    content: str


def _turn(request: Request) -> StartTurn:
    turn = structs.decode(request.body, Turn)
    local = ToolSpec(LOCAL, "The local tool.", NO_ARGUMENTS, toolset="client", held_s=turn.held_s)
    return StartTurn(
        ConversationId(turn.conversation),
        (said("user", turn.message),),
        client_tools=(local,) if turn.held_s else (),
        deltas=False,
        origin="waits",
    )


def _started(started: Started, request: Request) -> Reply:
    return json_reply({"run": started.run})


def _read(request: Request) -> ReadRun:
    return ReadRun(RunId(request.params["run"]))


def _entries(timeline: Timeline, request: Request) -> Reply:
    return Reply(200, msgspec.json.encode(timeline.entries))


def _decision(request: Request) -> DecideApproval:
    decision = structs.decode(request.body, Decision)
    run, call = RunId(request.params["run"]), CallId(decision.call)
    return DecideApproval(run, call, decision.approved, decision.arguments_hash)


def _answer(request: Request) -> AnswerClientTool:
    answer = structs.decode(request.body, Answer)
    return AnswerClientTool(RunId(request.params["run"]), CallId(answer.call), answer.content)


def _settled(settled: Settled, request: Request) -> Reply:
    return json_reply({"repeated": settled.repeated})


def _credential(headers: Mapping[str, str]) -> str:
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    if scheme != "Bearer":
        raise NotAuthenticated("Send a credential.")
    return credential


def _fail(error: DragomanError, request: Request | None) -> Reply:
    return json_reply({"code": error.code, "detail": error.detail}, status=STATUSES.get(error.code, 503))


WAITS = Dialect(
    name="waits",
    title="The crash harness",
    prefixes=("/waits/",),
    routes=(
        Route("POST", "/waits/turns", _turn, accept=_started, scopes=SCOPES),
        Route("GET", "/waits/runs/{run}", _read, answer=_entries, scopes=SCOPES),
        Route("POST", "/waits/runs/{run}/decision", _decision, answer=_settled, scopes=(Scope.TOOLS_APPROVE,)),
        Route("POST", "/waits/runs/{run}/answer", _answer, answer=_settled, scopes=SCOPES),
    ),
    credential=_credential,
    fail=_fail,
)
