"""W1: turns that a workflow answers. Hand-overs stand whole, whoever has the word speaks, the last word is for the
user, and a conversation keeps the version it began with. Part of the checker, and pure."""

from collections.abc import Iterator

from dragoman.core import events as ev
from dragoman.core.events import Entry
from tests.crash.evidence import Reading, RunTape

REFUSED = "not_handed_over"


def word_goes_round(reading: Reading) -> Iterator[str]:
    for run in reading.runs.values():
        staging = run.received.event.staging if run.received is not None else None
        if staging is None:
            continue
        first = run.tape.entries[0].event if run.tape.entries else None
        begun = first.workflow if isinstance(first, ev.ConversationCreated) else ""
        if staging.workflow != begun:
            yield f"run {run.id} is answered by {staging.workflow}, its conversation began with {begun}"
        yield from _pairs(run)
        yield from _speakers(run)
        yield from _last_word(run)


def refused_count(run: RunTape) -> int:
    """Transfers that were not granted: the same agent is asked again, with no commit between."""
    return sum(entry.event.code == REFUSED for entry in run.of(ev.ToolReturned))


def _pairs(run: RunTape) -> Iterator[str]:
    """Each transfer has one result if the run completed; one that was granted is followed by its hand-over."""
    transfers = run.transfers
    entries: list[Entry] = run.entries
    completed = bool(run.ends) and isinstance(run.ends[0].event, ev.RunCompleted)
    for id in transfers:
        if len(run.results.get(id, ())) != 1 and completed:
            yield f"transfer {id} of run {run.id} has {len(run.results.get(id, ()))} results"
    granted = 0
    for at, entry in enumerate(entries):
        event = entry.event
        if isinstance(event, ev.ToolReturned) and event.call_id in transfers and event.code != REFUSED:
            granted += 1
            rest = iter(entries[at + 1 :])
            after = next((each for each in rest if not _is_refusal(each, transfers)), None)
            if after is None or not isinstance(after.event, ev.HandedOver):
                yield f"transfer {event.call_id} of run {run.id} was granted at {entry.seq} and nobody has the word"
            elif f'"{after.event.to_agent}"' not in event.content:
                to = after.event.to_agent
                yield f"transfer {event.call_id} of run {run.id} says {event.content}, and went to {to}"
    handed = sum(1 for _ in run.of(ev.HandedOver))
    if handed != granted:
        yield f"run {run.id} has {handed} hand-overs and {granted} pairs of messages that tell of one"


def _is_refusal(entry: Entry, transfers: frozenset[str]) -> bool:
    event = entry.event
    return isinstance(event, ev.ToolReturned) and event.call_id in transfers and event.code == REFUSED


def _speakers(run: RunTape) -> Iterator[str]:
    speaker = ""
    for entry in run.entries:
        event = entry.event
        if isinstance(event, ev.ReplyStarted):
            if speaker and event.agent != speaker:
                yield f"{event.agent} speaks at {entry.seq} of run {run.id}, and {speaker} has the word"
            speaker = event.agent
        elif isinstance(event, ev.HandedOver):
            if event.from_agent != speaker:
                yield f"{event.from_agent} hands over at {entry.seq} of run {run.id}, and {speaker} has the word"
            speaker = event.to_agent


def _last_word(run: RunTape) -> Iterator[str]:
    if not run.ends or not isinstance(run.ends[0].event, ev.RunCompleted):
        return
    replies = [entry.event for entry in run.of(ev.ReplyFinished)]
    if not replies or not replies[-1].text or replies[-1].calls:
        yield f"run {run.id} completed without a last word for the user"
