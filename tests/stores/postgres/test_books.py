import pytest

from dragoman.core import events as ev
from dragoman.core.events import Entry, Event
from dragoman.core.names import ConversationId, RunId, Tape
from dragoman.runtime.keeping import bodies_of
from dragoman.stores.postgres.books import NOW, UNCHANGED, Books, OpenTape, place, title_text
from tests.stores.talk import PROJECT

C = ConversationId("c")
LIVE = ("r1", "running", 1, 1)


def row(
    number: int = 7, *, head: int = 3, run: tuple[str, str, int, int] | None = LIVE, at: int = 2
) -> tuple[object, ...]:
    """As the query `tapes` answers. `run`: id, status, epoch, users; `at`: where it begins."""
    tape = (number, PROJECT, C, '"t"', 4, 2, head, 3, 0, False, "me", True, False)
    if run is None:
        return (*tape, None, None, None, None, None, None, None)
    return (*tape, place(number, at), run[0], run[1], run[2], run[3], 0, False)


def known(books: Books, *rows: tuple[object, ...]) -> OpenTape:
    books.learn(rows or (row(),))
    tape = books.tape(Tape(7))
    assert tape is not None
    return tape


def put(books: Books, tape: OpenTape, *events: Event) -> int:
    return books.write(tape, tape.runs[0], events, bodies_of(events))


def test_a_tape_is_learnt_with_its_open_runs_in_order():
    books = Books()
    tape = known(books, row(), row(run=("r2", "queued", 0, 2), at=5))
    assert books.tape_of(PROJECT, C) is tape
    assert (tape.head, tape.was, tape.messages, tape.turns, tape.title) == (3, 3, 4, 2, '"t"')
    assert (tape.owner, tape.shared, tape.archived) == ("me", True, False)
    assert [(run.id, run.status, run.epoch, run.users, run.place) for run in tape.runs] == [
        ("r1", "running", 1, 1, place(7, 2)),
        ("r2", "queued", 0, 2, place(7, 5)),
    ]
    assert known(Books(), row(run=None)).runs == []


def test_what_is_forgotten_is_unknown():
    books = Books()
    known(books)
    books.forget(Tape(7))
    assert books.tape(Tape(7)) is None
    assert books.tape_of(PROJECT, C) is None
    known(books)
    books.forget_name(PROJECT, C)
    assert books.tape(Tape(7)) is None
    known(books)
    known(books, row(run=None))  # read again
    books.forget_all()
    books.forget_name(PROJECT, C)
    assert books.tape_of(PROJECT, C) is None


def test_events_get_their_places_and_expect_the_head_that_was():
    books = Books()
    tape = known(books)
    assert put(books, tape, ev.ReplyStarted("a", "m"), ev.TextAdded("x")) == 5
    assert put(books, tape, ev.ThinkingAdded("y")) == 6
    name, args = books.statement((None, 1, "o", 2))
    assert name == "append"
    numbers, was, heads = args[1:4]
    assert (list(numbers), list(was), list(heads)) == ([7], [3], [6])
    places, runs = args[7:9]
    assert (list(places), list(runs)) == ([place(7, 4)], [place(7, 2)])
    delta_places, _, delta_bodies = args[14:17]
    assert list(delta_places) == [place(7, 5), place(7, 6)]
    assert [body[:20] for body in delta_bodies] == ['{"kind":"text_added"', '{"kind":"thinking_ad']
    assert tape.spoke


def test_whatever_lists_show_takes_the_longer_statement():
    books = Books()
    tape = known(books)
    put(books, tape, ev.TitleGiven('a "\0"'))
    name, args = books.statement((None, 1, "o", 2))
    assert (name, len(args)) == ("write", 56)
    assert tape.title == title_text('a "\0"') == '"a \\"\\u0000\\""'
    assert tape.changed_at == NOW


@pytest.mark.parametrize("note", [ev.SharingChanged(shared=False), ev.ArchivingChanged(archived=True)])
def test_who_may_see_a_conversation_is_no_news_of_it(note: Event):
    books = Books()
    tape = known(books)
    assert books.write(tape, None, (note,), bodies_of((note,))) == 4
    name, _ = books.statement((None, 1, "o", 2))
    assert (name, tape.changed_at, tape.written) == ("write", UNCHANGED, 3)
    assert (tape.shared, tape.archived) != (True, False)


def test_only_the_finished_reply_that_counts_is_noted():
    books = Books()
    tape = known(books)
    put(books, tape, ev.ReplyFinished("x"), ev.ReplyFinished("y"))
    assert tape.replied == 4
    put(books, tape, ev.AttemptReset(5))
    assert tape.replied == 4
    put(books, tape, ev.AttemptReset(4))
    assert tape.replied == 0


def test_what_was_committed_is_shown_with_the_time_of_the_commit():
    books = Books()
    tape = known(books)
    put(books, tape, ev.TextAdded("x"))
    put(books, tape, ev.Unread("new_kind", '{"kind":"new_kind"}'))
    (first, second) = books.settle(frozenset({Tape(7)}), 1_500_000)
    assert first == (7, [Entry(4, RunId("r1"), 1.5, ev.TextAdded("x"))], [32])
    assert second[1] == [Entry(5, RunId("r1"), 1.5, ev.Unread("new_kind", '{"kind":"new_kind"}'))]
    assert (tape.was, tape.head) == (5, 5)
    books.begin()
    assert books.touched == {}


def test_of_a_tape_that_was_not_written_nothing_is_shown_and_nothing_known():
    books = Books()
    put(books, known(books), ev.TextAdded("x"))
    assert books.settle(frozenset(), 1) == []
    assert books.tape(Tape(7)) is None


def test_a_new_tape_takes_the_next_number():
    books = Books()
    books.numbers = [Tape(9), Tape(8)]
    events = (ev.ConversationCreated(PROJECT, C, "test", "me", "A title"),)
    tape = books.new_tape(events[0], at=5)
    assert (tape.origin, tape.owner, tape.title, tape.created_at) == ("test", "me", '"A title"', 5)
    run = books.new_run(tape, RunId("r1"), seq=2, users=3)
    assert (tape.number, run.place, run.users, books.numbers) == (8, place(8, 2), 3, [9])
    books.write(tape, None, events, bodies_of(events), at=5)
    ((_, entries, _),) = books.settle(frozenset({Tape(8)}), 99)
    assert entries == [Entry(1, RunId(""), 0.000005, events[0])]
    assert not tape.is_new
    assert not run.is_new


@pytest.mark.parametrize(("open_", "kept"), [(True, 4), (False, 0)])
def test_tapes_at_rest_are_forgotten_when_there_are_too_many(open_: bool, kept: int):
    books = Books(tapes_max=3)
    for number in range(4):
        books.learn([(number, PROJECT, f"c{number}", *row(run=LIVE if open_ else None)[3:])])
    books.begin()
    assert sum(books.tape(Tape(number)) is not None for number in range(4)) == (0 if kept == 4 else kept)
