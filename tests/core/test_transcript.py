"""Events -> turns."""

from dragoman.core import events as ev
from dragoman.core.events import Entry
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId, RunId
from dragoman.core.operations import TurnView
from dragoman.core.transcript import Transcript, ended_well

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
