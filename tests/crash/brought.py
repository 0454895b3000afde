"""What must hold of what clients bring besides turns: results of their own tools, and names of conversations."""

from collections import Counter
from collections.abc import Iterator

from dragoman.core import events as ev
from tests.crash.evidence import Reading
from tests.crash.history import Record
from tests.crash.scripts import answer_to


def _acknowledged(reading: Reading, op: str) -> Iterator[Record]:
    """The beginnings of those operations that were."""
    for record in reading.evidence.history:
        begun = reading.operations.get(record.id)
        if begun is not None and (begun.op, record.kind) == (op, "ok"):
            yield begun


def answers_kept(reading: Reading) -> Iterator[str]:
    for run in reading.runs.values():
        asked = Counter(entry.event.call.id for entry in run.of(ev.ClientToolRequested))
        for call_id, times in asked.items():
            if times > 1:
                yield f"the client of run {run.id} was asked {times} times to make call {call_id}"
    for begun in _acknowledged(reading, "answer"):
        run = reading.runs.get(begun.run)
        if run is not None and begun.run in reading.cancelled:
            continue
        results = run.results.get(begun.key, []) if run is not None else []
        if [result.content for result in results] != [answer_to(begun.key)]:
            yield f"call {begun.key} of run {begun.run} was answered with a 200; its result is {results}"


def names_kept(reading: Reading) -> Iterator[str]:
    tapes = {(tape.project, tape.conversation): tape.entries for tape in reading.evidence.dump.tapes}
    for begun in _acknowledged(reading, "rename"):
        entries = tapes.get((begun.project, begun.conversation), [])
        given = [entry.event.title for entry in entries if isinstance(entry.event, ev.TitleGiven)]
        if given.count(begun.text) != 1:
            yield f"the name {begun.text!r} was acknowledged and stands {given.count(begun.text)} times"
