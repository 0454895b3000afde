"""What must hold of approvals: asked for once, nothing begun without one, and none lost that somebody was told of."""

from collections.abc import Iterator

from dragoman.core import events as ev
from dragoman.core.events import Entry
from tests.crash.evidence import Reading, RunTape
from tests.crash.scripts import ASKED


def approvals_count(reading: Reading) -> Iterator[str]:
    for run in reading.runs.values():
        yield from _begun_with_approval(run)
    for record in reading.evidence.history:
        begun = reading.operations.get(record.id)
        if begun is None or begun.op != "approve" or record.kind != "ok":
            continue
        run = reading.runs.get(begun.run)
        if run is None or begun.key not in _decisions(run):
            yield f"call {begun.key} of run {begun.run} was approved with a 200, which stands on no tape"
        elif any(result.code == "denied" for result in run.results.get(begun.key, ())):
            yield f"call {begun.key} of run {begun.run} was approved with a 200, and refused to the model"


def _begun_with_approval(run: RunTape) -> Iterator[str]:
    requests: dict[str, list[Entry]] = {}
    for entry in run.of(ev.ApprovalRequested):
        requests.setdefault(entry.event.call.id, []).append(entry)
    for call_id, asked in requests.items():
        if len(asked) > 1:
            yield f"call {call_id} of run {run.id} was asked about {len(asked)} times"
    decisions = _decisions(run)
    for entry in run.of(ev.ToolStarted):
        call = entry.event.call
        if call.name != ASKED:
            continue
        decision = decisions.get(call.id)
        if decision is None or decision.seq > entry.seq or not decision.event.approved:
            yield f"call {call.id} of run {run.id} began at {entry.seq} without approval"


def _decisions(run: RunTape) -> dict[str, Entry]:
    """By call, the first decision that came in time about what was asked."""
    asked: dict[str, ev.ApprovalRequested] = {}
    decisions: dict[str, Entry] = {}
    for entry in run.of(ev.ApprovalRequested, ev.ApprovalDecided):
        event = entry.event
        if isinstance(event, ev.ApprovalRequested):
            asked.setdefault(event.call.id, event)
            continue
        request = asked.get(event.call_id)
        if request and entry.at < request.expires_at and event.arguments_hash == request.arguments_hash:
            decisions.setdefault(event.call_id, entry)
    return decisions
