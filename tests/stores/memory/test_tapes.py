from collections.abc import Sequence

from dragoman.core import events as ev
from dragoman.core.events import Event
from dragoman.core.names import ConversationId, ProjectId, RunId
from dragoman.runtime.leases import Leases
from dragoman.runtime.tail import Tails
from dragoman.stores.memory.tapes import OneRun, OneTape, Tapes
from tests.stores.talk import created
from tests.support import FixedClock

SPOKEN: tuple[Event, ...] = (ev.ReplyStarted("a", "m"), ev.TextAdded("x"), ev.TextAdded("y"), ev.ReplyFinished("xy"))


def begun(events: Sequence[Event] = SPOKEN) -> tuple[Tapes, OneTape, OneRun]:
    clock = FixedClock()
    kept = Tapes(clock, Tails(entries_max=0), Leases(clock), tapes_max=None)
    tape = kept.add_tape(created("c"), at=1.0)
    run = kept.add_run(tape, RunId("r1"), users=1, at=1.0)
    kept.claim(tape, run)
    kept.write(tape, run, events)
    return kept, tape, run


def test_an_entry_is_found_by_its_seq_also_once_others_are_gone():
    kept, tape, run = begun()
    kept.write(tape, run, (ev.RunCompleted(),))
    kept.end(tape, run, ev.RunCompleted(), weight=1)
    assert [tape.index(after) for after in (-5, 0, 3, 6, 7, 99)] == [0, 0, 3, 6, 7, 7]
    kept.prune(ended_before=2e9, limit=1)
    assert [entry.seq for entry in tape.entries] == [1, 2, 3, 6, 7]
    assert [tape.index(after) for after in (-5, 0, 3, 4, 5, 6, 99)] == [0, 0, 3, 3, 3, 4, 5]


def test_what_others_wrote_stands_not_in_the_way_of_what_the_owner_wrote():
    kept, tape, run = begun(SPOKEN[:1])
    kept.ask(tape, run, ev.CancelAsked())
    assert (run.written, run.asked, run.last) == (3, 4, 4)
    kept.write(tape, run, SPOKEN[1:2])
    assert (run.written, run.asked, run.last) == (5, 4, 5)
    assert tape.stand_behind(2, run, SPOKEN[:2])
    assert tape.stand_behind(3, run, SPOKEN[1:2])
    assert not tape.stand_behind(2, run, SPOKEN[:1])
    assert not tape.stand_behind(1, run, SPOKEN[:2])


def test_what_is_dropped_leaves_nothing_behind():
    kept, tape, run = begun()
    run.key = "k"
    kept.keep_key(run, "f")
    kept.drop(tape)
    assert (kept.tapes, kept.runs) == ({}, {})
    assert kept.key(ProjectId("default"), "k") is None
    assert kept.tape_of(ProjectId("default"), ConversationId("c")) is None
