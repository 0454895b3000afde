"""What a run waits for while it is alive: a person's decision about a call, or a result that the caller brings. Pure.

    a tool in `deny` ──────────────────────────────────────────────────────────► denied
    a tool in `ask` ──► ApprovalRequested ──► ApprovalDecided ──► approved: it runs
                                │                    └──────────► denied
                                └── nobody in time ─────────────► denied
    a client tool ────► ClientToolRequested ──► ClientToolAnswered ──► its result
    with `held_s`               └── nobody in time ──────────────────► timeout

What others bring counts if the store put it on the tape before `expires_at`, and only the first of it. `expires_at` was
set by the clock of the process that drove the run then, `Entry.at` is the store's: where those differ by a little, the
time there is differs by as much. A run gives up waiting only after it has read its tape at or after `expires_at` and
GRACE_S, so that what another process wrote at the last moment is not lost.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import assert_never

from msgspec import Struct

from dragoman.core import events as ev
from dragoman.core.agents import AgentSpec, ToolSpec
from dragoman.core.messages import ToolCall
from dragoman.core.names import CallId

GRACE_S = 1.0
"""From when something is written in time until every reader of the tape can see it, commit and clocks included."""

Asked = (
    ev.ApprovalRequested
    | ev.ApprovalDecided
    | ev.ClientToolRequested
    | ev.ClientToolClaimed
    | ev.ClientToolAnswered
    | ev.ToolReturned
)
"""What this fold takes."""


class Policy(Struct, frozen=True):
    """Which tools an agent may not call by itself, by their names."""

    ask: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    approval_s: float = 120.0


ALL_BY_ITSELF = Policy()


def policy_of(agent: AgentSpec, tools: Sequence[ToolSpec]) -> Policy:
    """`tools` are those that the agent holds, the caller's included."""
    return Policy(named(agent.ask, tools), named(agent.deny, tools), agent.approval_s)


def named(patterns: Iterable[str], tools: Sequence[ToolSpec]) -> frozenset[str]:
    """Names of the tools whose `toolset.name`, or plain name, matches one of the patterns."""
    return frozenset(
        tool.name
        for pattern in patterns
        for tool in tools
        if fnmatchcase(tool.name, pattern) or (tool.toolset and fnmatchcase(f"{tool.toolset}.{tool.name}", pattern))
    )


def arguments_hash(call: ToolCall) -> str:
    """SHA-256, in hex, over what is asked about: the tool, this very call, and its arguments, however they are spaced
    and ordered."""
    form, arguments = _canonical(call)
    asked = f'[{json.dumps(call.name)},{json.dumps(call.id)},"{form}",{arguments}]'
    return hashlib.sha256(asked.encode()).hexdigest()


def asked_arguments(call: ToolCall) -> str:
    """The arguments as the hash sees them: JSON in ASCII, keys sorted, no key twice; of no JSON, the text as a JSON
    string."""
    return _canonical(call)[1]


def _canonical(call: ToolCall) -> tuple[str, str]:
    try:
        return "json", json.dumps(json.loads(call.arguments), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):  # the model wrote no JSON: the tool will say so, if it is approved
        return "text", json.dumps(call.arguments)


class Approval(Struct):
    """A call that a person is asked about. `decision` is the one that counts; `returned` = the call has its result."""

    request: ev.ApprovalRequested
    asked_at: float = 0.0
    decision: ev.ApprovalDecided | None = None
    decision_seq: int | None = None
    returned: bool = False


class Held(Struct):
    """A call that the caller is to make while the run waits. `claim` and `answer` are those that count."""

    request: ev.ClientToolRequested
    asked_at: float
    claim: ev.ClientToolClaimed | None = None
    claim_seq: int | None = None
    answer: ev.ClientToolAnswered | None = None
    answer_seq: int | None = None
    answered_at: float = 0.0
    returned: bool = False


class Waits:
    """The fold of one run's events over what it asked for and what came. Call ids are those of the whole run: no two of
    its calls have the same."""

    def __init__(self) -> None:
        self.approvals: dict[CallId, Approval] = {}
        self.held: dict[CallId, Held] = {}
        self.pending: set[CallId] = set()
        """Calls for which nothing has come yet and that have no result."""
        self.looked_at = 0.0
        """When its owner last read the whole tape: what stands on it was written before or a little after."""

    def add(self, event: Asked, *, at: float, seq: int | None = None) -> None:
        match event:
            case ev.ApprovalRequested(call=call):
                self.approvals.setdefault(call.id, Approval(event, at))
                self.pending.add(call.id)
            case ev.ApprovalDecided():
                self._decided(event, at, seq)
            case ev.ClientToolRequested(call=call, expires_at=expires_at):
                if expires_at:  # else the run ends with it
                    self.held.setdefault(call.id, Held(event, at))
                    self.pending.add(call.id)
            case ev.ClientToolClaimed():
                held = self._open(event.call_id, at)
                if held is not None and held.claim is None:
                    held.claim, held.claim_seq = event, seq
            case ev.ClientToolAnswered():
                held = self._open(event.call_id, at)
                if held is not None:
                    held.answer, held.answer_seq, held.answered_at = event, seq, at
                    self.pending.discard(event.call_id)
            case ev.ToolReturned(call_id=call_id):
                self._returned(call_id)
            case _:
                assert_never(event)

    def _decided(self, event: ev.ApprovalDecided, at: float, seq: int | None) -> None:
        approval = self.approvals.get(event.call_id)
        if approval is None or approval.returned or approval.decision is not None:
            return
        if at < approval.request.expires_at and event.arguments_hash == approval.request.arguments_hash:
            approval.decision, approval.decision_seq = event, seq
            self.pending.discard(event.call_id)

    def _open(self, call: CallId, at: float) -> Held | None:
        held = self.held.get(call)
        if held is None or held.returned or held.answer is not None or at >= held.request.expires_at:
            return None
        return held

    def _returned(self, call: CallId) -> None:
        self.pending.discard(call)
        for asked in (self.approvals.get(call), self.held.get(call)):
            if asked is not None:
                asked.returned = True

    def until(self) -> float | None:
        """When the first of what is waited for is given up; None if nothing is."""
        return min((self._expires_at(call) + GRACE_S for call in self.pending), default=None)

    def _expires_at(self, call: CallId) -> float:
        approval = self.approvals.get(call)
        return self.held[call].request.expires_at if approval is None else approval.request.expires_at

    def _given_up(self, call: CallId) -> bool:
        return call in self.pending and self.looked_at >= self._expires_at(call) + GRACE_S

    # -- what comes of it ------------------------------------------------------------------------------------------

    def result(self, call: ToolCall, policy: Policy) -> ev.ToolReturned | None:
        """The result of an open call that nothing of ours is run for; None if it may run, or is still waited for."""
        if call.name in policy.deny:
            return _refused(call, NEVER_ALLOWED.format(tool=call.name))
        held = self.held.get(call.id)
        if held is not None:
            return self._brought(call, held)
        approval = self.approvals.get(call.id)
        if approval is None:
            return None
        if approval.decision is None:
            return _refused(call, NOT_APPROVED.format(tool=call.name)) if self._given_up(call.id) else None
        if not approval.decision.approved:
            return _refused(call, DENIED.format(tool=call.name, who=approval.decision.decided_by or "Somebody"))
        if approval.request.arguments_hash != arguments_hash(call):
            return _refused(call, OTHER_ARGUMENTS.format(tool=call.name))
        return None

    def _brought(self, call: ToolCall, held: Held) -> ev.ToolReturned | None:
        if held.answer is not None:
            took_ms = max(round((held.answered_at - held.asked_at) * 1000), 0)
            code = "tool_failed" if held.answer.is_error else ""
            return ev.ToolReturned(call.id, held.answer.content, held.answer.is_error, took_ms, code)
        if not self._given_up(call.id):
            return None
        allowed_s = held.request.expires_at - held.asked_at
        said = NOT_ANSWERED.format(tool=call.name, seconds=max(round(allowed_s), 0))
        return ev.ToolReturned(call.id, said, is_error=True, duration_ms=round(allowed_s * 1000), code="timeout")

    def approves(self, call: ToolCall, policy: Policy) -> bool:
        """Whether a call that has no result yet may run: nobody need be asked, or somebody has approved it."""
        approval = self.approvals.get(call.id)
        if approval is None:
            return call.name not in policy.ask
        return approval.decision is not None and approval.decision.approved

    def unasked(self, calls: Iterable[ToolCall], policy: Policy, *, now: float) -> tuple[ev.ApprovalRequested, ...]:
        """The requests that are due: none of a call that was asked about before, by whichever attempt."""
        return tuple(
            ev.ApprovalRequested(call, arguments_hash(call), now + policy.approval_s)
            for call in calls
            if call.name in policy.ask and call.id not in self.approvals
        )


NEVER_ALLOWED = (
    "Whoever runs this server does not allow {tool} here. Do not call it again: go on without it, or say that it is not"
    " allowed."
)
DENIED = (
    "{who} was asked about this call of {tool} and denied it. Do not make the same call again: go on without it, or ask"
    " what to do instead."
)
NOT_APPROVED = (
    "Nobody approved this call of {tool} in time, which counts as denied. Do not make the same call again: go on"
    " without it, or say what needs approval."
)
OTHER_ARGUMENTS = (
    "The approval of this call of {tool} was given for other arguments, so it was not run. Say what you wanted to do"
    " and that it needs approval."
)
NOT_ANSWERED = (
    "The client did not bring the result of {tool} within {seconds} s. Whether it took effect is unknown: look before"
    " you repeat it."
)


def _refused(call: ToolCall, said: str) -> ev.ToolReturned:
    return ev.ToolReturned(call.id, said, is_error=True, code="denied")
