"""Events -> turns."""

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import Masked, Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId, RunId
from dragoman.core.operations import TurnView
from dragoman.core.transcript import Transcript, ended_well
from dragoman.core.workflows import TRANSFER, Handing

CALL = ToolCall(CallId("c"), "look", "{}")


def tape(*events: tuple[str, ev.Event]) -> list[Entry]:
    return [Entry(seq, RunId(run), float(seq), event) for seq, (run, event) in enumerate(events, start=1)]


def test_a_turn_is_its_question_its_answer_and_its_end() -> None:
    entries = tape(
        ("r1", ev.TurnReceived((said("user", "q"),))),
        ("r1", ev.RunClaimed(1)),
        ("r1", ev.ReplyStarted("ops", "m")),
        ("r1", ev.TextAdded("let ")),
        ("r1", ev.TextAdded("me")),
        ("r1", ev.ReplyFinished("let me", (CALL,))),
        ("r1", ev.ToolStarted(CALL)),
        ("r1", ev.ToolReturned(CALL.id, "seen", duration_ms=7)),
        ("r1", ev.ReplyStarted("ops", "m")),
        ("r1", ev.ReplyFinished("done")),
        ("r1", ev.RunCompleted()),
    )
    answered = (
        Message("assistant", (Text("let me"), CALL), name="ops"),
        Message("tool", (ToolResult(CALL.id, "seen"),)),
        Message("assistant", (Text("done"),), name="ops"),
    )
    said_at, took_ms = (3.0, 8.0, 9.0), (0, 7, 0)
    expected = TurnView(RunId("r1"), 1, 1.0, (said("user", "q"),), answered, ev.RunCompleted(), said_at, took_ms)
    assert Transcript(entries).turns() == (expected,)


def test_a_reply_being_written_shows_as_far_as_it_goes_and_only_if_asked() -> None:
    entries = tape(
        ("r", ev.TurnReceived((said("user", "q"),))), ("r", ev.ReplyStarted("a", "m")), ("r", ev.TextAdded("ha"))
    )
    assert Transcript(entries).turns()[0].answered == (Message("assistant", (Text("ha"),), name="a"),)
    assert Transcript(entries).turns(with_partial=False)[0].answered == ()


def test_what_an_attempt_reset_voids_is_gone() -> None:
    entries = tape(
        ("r", ev.TurnReceived((said("user", "q"),))),
        ("r", ev.ReplyStarted("", "m")),
        ("r", ev.TextAdded("wrong")),
        ("r", ev.AttemptReset(2)),
        ("r", ev.ReplyStarted("", "m")),
        ("r", ev.ReplyFinished("right")),
    )
    assert Transcript(entries).turns()[0].answered == (said("assistant", "right"),)


def test_turns_of_interleaved_runs_stand_in_the_order_they_were_received() -> None:
    entries = tape(
        ("r1", ev.TurnReceived((said("user", "one"),))),
        ("r2", ev.TurnReceived((said("user", "two"),))),
        ("r1", ev.ReplyFinished("1")),
        ("r1", ev.RunCompleted()),
        ("r2", ev.ReplyFinished("2")),
        ("r2", ev.RunFailed("x", "y")),
    )
    turns = Transcript(entries).turns()
    assert [(turn.asked[0].text, turn.answered[0].text, ended_well(turn)) for turn in turns] == [
        ("one", "1", True),
        ("two", "2", False),
    ]


def test_messages_from_elsewhere_are_a_turn_that_ended_well() -> None:
    imported = ev.MessagesImported((said("user", "q"), said("assistant", "a")), source="file")
    (turn,) = Transcript(tape(("", imported))).turns()
    assert (turn.asked, turn.answered, ended_well(turn)) == (imported.messages, (), True)


def test_the_fold_does_not_depend_on_where_reading_began() -> None:
    entries = tape(("r1", ev.TextAdded("lost")), ("r1", ev.RunCompleted()), ("", ev.TitleGiven("Title")))
    transcript = Transcript(entries)
    assert (transcript.turns(), transcript.title) == ((), "Title")


# -- conversations that a caller sends whole, and messages that take the place of others -------------------------------


def exchange(run: str, *asked: Message, says: str, end: ev.Event | None = None, **said_so: object) -> list[Entry]:
    """The entries of a turn."""
    received = ev.TurnReceived(asked, **said_so)  # type: ignore[arg-type] whichever fields the test is about
    return tape((run, received), (run, ev.ReplyFinished(says)), (run, end or ev.RunCompleted()))


def after(*parts: list[Entry]) -> list[Entry]:
    """One behind the other on one tape."""
    return tape(*((str(entry.run), entry.event) for part in parts for entry in part))


def spoken(entries: list[Entry]) -> list[list[str]]:
    """What stands in each turn."""
    turns = Transcript(entries).turns()
    return [[message.text for message in (*turn.asked, *turn.answered)] for turn in turns]


FIRST = exchange("r1", said("user", "one?"), says="1")
RETOLD = (said("user", "uno?"), said("assistant", "1"), said("user", "two?"))


def test_a_turn_that_restates_takes_the_place_of_all_before_it() -> None:
    second = exchange("r2", *RETOLD, says="2", whole=True, restates=2)
    third = exchange("r3", said("user", "three?"), says="3", whole=True)
    assert spoken(after(FIRST, second)) == [["uno?", "1", "two?", "2"]]
    assert spoken(after(FIRST, second, third)) == [["uno?", "1", "two?", "2"], ["three?", "3"]]


def test_what_is_told_anew_counts_once_the_turn_has_completed() -> None:
    for end in (ev.RunFailed("x", "y"), ev.RunCancelled(), ev.RunNeedsClient(())):
        second = exchange("r2", *RETOLD, says="2", whole=True, restates=2, end=end)
        assert spoken(after(FIRST, second)) == [["one?", "1"], ["two?", "2"]]
        assert spoken(after(FIRST, second[:-1])) == [["one?", "1"], ["two?", "2"]]
        assert spoken(after(FIRST, second[:1])) == [["one?", "1"], ["two?"]]


def test_a_whole_turn_drops_what_did_not_complete_before_it_and_nothing_else() -> None:
    waits = exchange("r2", said("user", "two?"), says="you look", end=ev.RunNeedsClient((CALL,)))
    third = exchange("r3", said("user", "two?"), says="2", whole=True)
    assert spoken(after(FIRST, waits)) == [["one?", "1"], ["two?", "you look"]]
    assert spoken(after(FIRST, waits, third[:-1])) == [["one?", "1"], ["two?", "you look"], ["two?", "2"]]
    assert spoken(after(FIRST, waits, third)) == [["one?", "1"], ["two?", "2"]]
    later = exchange("r4", said("user", "three?"), says="oh", end=ev.RunFailed("x", "y"))
    assert spoken(after(FIRST, waits, third, later)) == [["one?", "1"], ["two?", "2"], ["three?", "oh"]]
    plain = exchange("r3", said("user", "two?"), says="2")
    assert spoken(after(FIRST, waits, plain)) == [["one?", "1"], ["two?", "you look"], ["two?", "2"]]


def test_messages_that_replace_leave_nothing_of_what_was_before() -> None:
    other = (said("user", "uno?"), said("assistant", "1"))
    put = tape(("i1", ev.MessagesImported(other, replaces=True)))
    third = exchange("r3", said("user", "three?"), says="3", whole=True)
    assert spoken(after(FIRST, put)) == [["uno?", "1"]]
    assert spoken(after(FIRST, put, third)) == [["uno?", "1"], ["three?", "3"]]
    beside = tape(("i1", ev.MessagesImported(other)))
    assert spoken(after(FIRST, beside)) == [["one?", "1"], ["uno?", "1"]]


def test_a_fold_that_is_asked_in_between_ends_the_same() -> None:
    entries = after(
        FIRST,
        exchange("r2", *RETOLD, says="2", whole=True, restates=2),
        tape(("i1", ev.MessagesImported((said("user", "uno?"),), replaces=True))),
        exchange("r3", said("user", "x"), says="3", whole=True),
    )
    step_by_step = Transcript()
    for entry in entries:
        step_by_step.add(entry)
        step_by_step.turns()
    assert step_by_step.turns() == Transcript(entries).turns()


def test_a_call_that_the_server_added_stands_among_the_answers_and_its_result_is_shown() -> None:
    entries = tape(
        ("r", ev.TurnReceived((said("user", "q"),), system="Be brief.")),
        ("r", ev.CallAdded(CALL)),
        ("r", ev.ToolReturned(CALL.id, "{}", shown='{"rows":[]}')),
        ("r", ev.ReplyFinished("a", masked=(Masked("EMAIL", "x@y", "m"), Masked("EMAIL", "x@y", "m")))),
        ("r", ev.RunCompleted()),
    )
    (turn,) = Transcript(entries).turns()
    result = Message("tool", (ToolResult(CALL.id, "{}", shown='{"rows":[]}'),))
    assert turn.answered == (Message("assistant", (CALL,)), result, said("assistant", "a"))
    assert (turn.system, turn.masked) == ("Be brief.", (Masked("EMAIL", "x@y", "m"),))


def test_a_turn_that_agents_answered_among_themselves_is_told_from_others() -> None:
    inside = Message("assistant", (Text("clause 4", hidden=True),), name="B")
    briefed = Message("user", (Text("on the screen", hidden=True),))
    handing = Message("assistant", (ToolCall(CallId("t"), TRANSFER, "{}"),))
    for messages, by_several in (((inside,), True), ((handing,), True), ((briefed, said("assistant", "a")), False)):
        (turn,) = Transcript([Entry(1, RunId(""), 1.0, ev.MessagesImported(messages))]).turns()
        assert turn.by_several is by_several


def test_a_tape_from_before_there_were_workflows_reads_the_same() -> None:
    handed = ev.load_event('{"kind":"handed_over","from_agent":"a","to_agent":"b"}')
    assert handed == ev.HandedOver("a", "b", Handing.TRANSFERRED, "")
    replied = ev.load_event('{"kind":"reply_finished","text":"Fine.","calls":[],"usage":{}}')
    assert isinstance(replied, ev.ReplyFinished) and (replied.internal, replied.closing) == ("", None)
