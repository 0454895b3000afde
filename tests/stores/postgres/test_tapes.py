import pytest

from dragoman.core import events as ev
from dragoman.core.names import ConversationId, RunId, Tape
from dragoman.runtime.keeping import bodies_of
from dragoman.runtime.ports import Claim, StaleClaim
from dragoman.stores.postgres import tapes
from dragoman.stores.postgres.books import Behind, Books, place
from dragoman.stores.postgres.tapes import Look
from tests.stores.postgres.test_books import known, row
from tests.stores.talk import PROJECT, turn

CLAIM = Claim(PROJECT, ConversationId("c"), Tape(7), RunId("r1"), 1, 3)
EVENTS = (ev.TextAdded("x"), ev.ReplyFinished("x"))
END = (ev.RunCompleted(),)


@pytest.fixture
def books() -> Books:
    made = Books()
    known(made)
    return made


def test_events_that_build_on_another_entry_are_looked_for_before_anything_is_said(books: Books):
    with pytest.raises(Look) as look:
        tapes.append(books, CLAIM, EVENTS, bodies_of(EVENTS), 2)
    assert (look.value.claim, look.value.after, look.value.count) == (CLAIM, 2, 2)
    assert books.touched == {}
    books.behind["r1", 1, 2] = Behind(bodies_of(EVENTS), 4)  # pyright: ignore[reportArgumentType] a run's id
    assert tapes.append(books, CLAIM, EVENTS, bodies_of(EVENTS), 2) == 4
    with pytest.raises(StaleClaim):
        tapes.append(books, CLAIM, EVENTS[:1], bodies_of(EVENTS[:1]), 2)
    assert books.touched == {}


def test_an_end_that_may_have_been_written_is_looked_for(books: Books):
    books.learn([row(run=None)])
    with pytest.raises(Look):
        tapes.finish(books, CLAIM, END, bodies_of(END), 3, 1)
    following = Claim(PROJECT, ConversationId("c"), Tape(7), RunId("r2"), 1, 5)
    books.behind[CLAIM.run, 1, 3] = Behind(bodies_of(END), 4, following)
    assert tapes.finish(books, CLAIM, END, bodies_of(END), 3, 1) == following
    books.behind[CLAIM.run, 1, 3] = Behind([], 3)
    with pytest.raises(StaleClaim, match="is not the last entry"):
        tapes.finish(books, CLAIM, END, bodies_of(END), 3, 1)
    books.behind[CLAIM.run, 1, 3] = Behind(None)
    with pytest.raises(StaleClaim, match="no longer claimed"):
        tapes.finish(books, CLAIM, END, bodies_of(END), 3, 1)


@pytest.mark.parametrize("after", [-1, 2**32])
def test_a_place_that_none_can_be_is_not_looked_for(books: Books, after: int):
    with pytest.raises(StaleClaim):
        tapes.append(books, CLAIM, EVENTS, bodies_of(EVENTS), after)


def test_only_a_live_run_that_nobody_else_holds_is_taken(books: Books):
    tape = known(books)
    claim = tapes.take(books, Tape(7))
    assert claim == Claim(PROJECT, ConversationId("c"), Tape(7), RunId("r1"), 2, 4)
    assert tape.runs[0].leased
    tape.runs[0].held = True
    assert tapes.take(books, Tape(7)) is None
    books.learn([row(run=None)])
    assert tapes.take(books, Tape(7)) is None
    assert tapes.take(books, Tape(8)) is None


def test_a_turn_taken_for_the_first_of_its_conversation_needs_a_number(books: Books):
    books.numbers = [Tape(8)]
    new = turn("new", "r9", "hi")
    accepted = tapes.accept(books, new, bodies_of((new.created, new.received)))
    assert (accepted.tape, accepted.seq, accepted.created) == (8, 2, True)
    assert accepted.claim is not None
    assert accepted.claim.seq == 3
    made = books.tape(Tape(8))
    assert made is not None
    assert (made.was, made.head, made.is_new, made.written) == (0, 3, True, 3)
    assert made.runs[0].place == place(8, 2)
