"""The house's endpoints for approvals: which calls wait for a person, and what he says to one.

For whoever has no client that asks: an operator at a terminal, a page of one's own, callers of a wire that cannot ask.
"""

from msgspec import Struct

from dragoman.core.names import CallId, RunId, Scope
from dragoman.core.waits import DecideApproval, ListApprovals, Settled, WaitingApprovals
from dragoman.wire.dialect import Reply, Request, Route, json_reply
from dragoman.wire.structs import decode


class Decision(Struct, frozen=True):
    """`arguments_hash` is that of the list: what was looked at, and nothing else, is what the decision is about."""

    approved: bool
    arguments_hash: str


class Decided(Struct, frozen=True):
    """`repeated` = the same had been decided before."""

    run: RunId
    call: CallId
    approved: bool
    repeated: bool


def _decision(request: Request) -> DecideApproval:
    said = decode(request.body, Decision)
    run, call = RunId(request.params["run"]), CallId(request.params["call"])
    return DecideApproval(run, call, said.approved, said.arguments_hash, private=True)


def _decided(settled: Settled, request: Request) -> Reply:
    approved = decode(request.body, Decision).approved
    return json_reply(Decided(settled.run, CallId(request.params["call"]), approved, settled.repeated))


def _listed(waiting: WaitingApprovals, request: Request) -> Reply:
    return json_reply(waiting)


ROUTES = (
    Route(
        "GET",
        "/api/waiting",
        lambda request: ListApprovals(),
        answer=_listed,
        scopes=(Scope.TOOLS_APPROVE,),
        gives=WaitingApprovals,
        summary="Calls in your own conversations that wait for approval, oldest first; for an admin: in everybody's",
    ),
    Route(
        "POST",
        "/api/runs/{run}/approvals/{call:path}",
        _decision,
        answer=_decided,
        scopes=(Scope.TOOLS_APPROVE,),
        takes=Decision,
        gives=Decided,
        summary="Approve or deny a call that waits: just the one whose arguments have this hash, and once",
    ),
)
