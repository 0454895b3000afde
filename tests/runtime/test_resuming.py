"""A workflow's turn that its caller must do something for goes on where it stopped."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.core import events as ev
from dragoman.core.agents import Loop
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId
from dragoman.core.transcript import Transcript
from dragoman.core.workflows import TRANSFER, Handing, Staging, Workflow
from dragoman.runtime.resuming import AtHand, take_up
from dragoman.runtime.workflow import Cast, Errand, transfer_text
from tests.runtime.looping import ACTION
from tests.runtime.scene import Scene
from tests.runtime.test_casting import desk_of, spoken
from tests.runtime.workflows import InTurn, calls, desk, hand, internal, member, say, staged

ASKED = said("user", "hi")


def call(id: str, name: str = ACTION.name, arguments: str = "{}") -> Message:
    return Message("assistant", (ToolCall(CallId(id), name, arguments),))


def result(id: str, content: str = "done", *, is_error: bool = False) -> Message:
    return Message("tool", (ToolResult(CallId(id), content, is_error),))


def handed(id: str, to: str, *, wanted: str = "") -> tuple[Message, Message]:
    return call(id, TRANSFER, transfer_text(wanted or to)), result(id, transfer_text(to))


def taken_up(*messages: Message, workflow: Workflow | None = None, **staging: Any) -> tuple[Cast, AtHand]:
    return take_up(workflow or desk(), Staging("w1", **staging), (), messages)


def hows(at_hand: AtHand) -> list[tuple[str, Handing]]:
    return [(handing.to_agent, handing.how) for handing in at_hand.handings]


# -- from what a caller tells ------------------------------------------------------------------------------------------


def test_a_turn_that_begins_with_its_question_is_as_it_came() -> None:
    before = said("assistant", "1")
    cast, at_hand = taken_up(said("user", "one"), before, ASKED)
    assert at_hand == AtHand((), (said("user", "one"), before, ASKED), 3)
    assert cast.stage(()).speaker == "Front"


def test_who_had_the_word_has_it_again_and_is_named() -> None:
    cast, at_hand = taken_up(ASKED, *handed("t1", "Tech"), call("c1"), result("c1"))
    assert cast.stage(()).speaker == "Tech"
    assert (cast.stage(()).given_by, cast.stage(()).switches) == ("Front", 1)
    assert (at_hand.asked, hows(at_hand)) == (1, [("Tech", Handing.TRANSFERRED)])
    assert [message.name for message in at_hand.messages] == ["", "Front", "", "Tech", ""]


def test_who_waits_for_a_report_still_does() -> None:
    cast, at_hand = taken_up(ASKED, *handed("t1", "Researcher"), call("c1"), result("c1"))
    assert hows(at_hand) == [("Researcher", Handing.CALLED)]
    assert cast.stage(()).errands == (Errand("Front"),)


def test_a_pipeline_goes_on_with_the_step_that_was_at_work() -> None:
    entered = (*handed("t1", "One", wanted="Intake"), *handed("t2", "Two"))
    cast, at_hand = taken_up(ASKED, *entered, call("c1"), result("c1"))
    assert hows(at_hand) == [("One", Handing.ENTERED), ("Two", Handing.STEPPED)]
    assert cast.stage(()).errands == (Errand("Front", "Intake", 1),)


def test_a_report_that_came_gives_the_word_back() -> None:
    back = (*handed("t1", "Researcher"), *handed("t2", "Front"))
    cast, at_hand = taken_up(ASKED, *back, call("c1"), result("c1"))
    assert hows(at_hand) == [("Researcher", Handing.CALLED), ("Front", Handing.RETURNED)]
    assert (cast.stage(()).speaker, cast.stage(()).errands) == ("Front", ())
    assert cast.stage(()).asked == {("Front", "Researcher"): 1}


@pytest.mark.parametrize("content", ["It was not handed over.", transfer_text("Nobody"), transfer_text("One")])
def test_a_transfer_that_led_nowhere_is_an_error_to_who_asked(content: str) -> None:
    asked_for = call("t1", TRANSFER, transfer_text("Nobody"))
    cast, at_hand = taken_up(ASKED, asked_for, result("t1", content), call("c1"), result("c1"))
    assert (cast.stage(()).speaker, at_hand.handings) == ("Front", ())
    assert at_hand.messages[2] == result("t1", content, is_error=True)


def test_of_two_transfers_in_one_reply_one_led_somewhere() -> None:
    both = Message("assistant", (*call("t1", TRANSFER, transfer_text("Tech")).parts, *handed("t2", "Billing")[0].parts))
    results = (result("t1", transfer_text("Tech")), result("t2", transfer_text("Billing")))
    cast, at_hand = taken_up(ASKED, both, *results, call("c1"), result("c1"))
    assert cast.stage(()).speaker == "Tech" and len(at_hand.handings) == 1
    assert [message.parts[0].is_error for message in at_hand.messages[2:4]] == [False, True]  # type: ignore[union-attr]


def test_the_callers_own_account_of_who_spoke_last_is_not_questioned() -> None:
    messages = (ASKED, *handed("t1", "Tech"), call("c1"), result("c1"))
    cast, at_hand = taken_up(*messages, last="Billing")
    assert (cast.stage(()).speaker, at_hand) == ("Billing", AtHand((), messages, 5))


def test_results_without_a_question_begin_a_turn() -> None:
    cast, at_hand = taken_up(result("c1"))
    assert (cast.stage(()).speaker, at_hand.asked) == ("Front", 1)


# -- from the tape, driven ---------------------------------------------------------------------------------------------


def asked(*messages: Message) -> ev.TurnReceived:
    return replace(staged(messages=messages), client_tools=(ACTION,))


async def go_on(scene: Scene, *, whole: bool) -> None:
    """The call that the first run ended with is answered: as a result alone, or with all that its caller heard."""
    (turn,) = Transcript(await scene.tape()).turns()
    assert isinstance(turn.end, ev.RunNeedsClient)
    (made,) = turn.end.calls
    if not whole:
        await scene.drive(asked(result(made.id, "restarted")), "r2")
        return
    told = [replace(message, name="") for message in heard(turn.answered)]
    received = replace(asked(*turn.asked, *told, result(made.id, "restarted")), whole=True, loop=Loop(checked=False))
    await scene.drive(received, "r2")


def heard(messages: Sequence[Message]) -> list[Message]:
    """Nobody hears what agents say to each other."""
    return [message for message in messages if not message.is_internal]


@pytest.mark.parametrize("whole", [False, True], ids=["the result alone", "the whole conversation"])
async def test_the_agent_that_called_goes_on_though_its_turns_begin_with_another(whole: bool) -> None:
    model = InTurn(hand("Tech"), calls("restart"))
    async with desk_of(model) as s:
        await s.drive(asked(ASKED))
        model._script = (say("It runs again."),)  # pyright: ignore[reportPrivateUsage]
        await go_on(s, whole=whole)
        assert model.told(3) == [
            ("system", "You are Tech."),
            ("user", "hi"),
            ("assistant", "call restart({})"),
            ("tool", "restarted"),
        ]
        assert await spoken(s, "r2") == ["Tech: It runs again.", "completed"]


@pytest.mark.parametrize("whole", [False, True], ids=["the result alone", "the whole conversation"])
async def test_what_an_internal_agent_finds_with_the_callers_help_is_reported(whole: bool) -> None:
    model = InTurn(hand("Researcher"), calls("restart"))
    async with desk_of(model) as s:
        await s.drive(asked(ASKED))
        model._script = (say("It was down."), say("It runs again."))  # pyright: ignore[reportPrivateUsage]
        await go_on(s, whole=whole)
        assert await spoken(s, "r2") == [
            "(Researcher: It was down.)",
            "Researcher -> Front returned",
            "Front: It runs again.",
            "completed",
        ]
        assert model.told(4)[-1] == ("tool", "Researcher: It was down.")


async def test_a_report_from_before_the_call_is_still_read() -> None:
    model = InTurn(hand("Researcher"), say("It was down."), calls("restart"))
    async with desk_of(model) as s:
        await s.drive(asked(ASKED))
        model._script = (say("It runs again."),)  # pyright: ignore[reportPrivateUsage]
        await go_on(s, whole=False)
        assert model.told(4)[-3:] == [
            ("tool", "Researcher: It was down."),
            ("assistant", "call restart({})"),
            ("tool", "restarted"),
        ]


async def test_who_asks_something_else_instead_begins_a_new_turn() -> None:
    model = InTurn(hand("Researcher"), calls("restart", text="inside"))
    async with desk_of(model) as s:
        await s.drive(asked(ASKED))
        model._script = (say("Well."),)  # pyright: ignore[reportPrivateUsage]
        await s.drive(asked(said("user", "never mind")), "r2")
        assert model.told(3) == [("system", "You are Front."), ("user", "hi"), ("user", "never mind")]


async def test_counts_of_hand_overs_go_on_too() -> None:
    workflow = Workflow("w", "Front", (member("Front", agents=("Deep",)), internal("Deep", calls_max=1)))
    model = InTurn(hand("Deep"), say("found"), calls("restart"))
    async with desk_of(model, workflow) as s:
        await s.drive(asked(ASKED))
        model._script = (say("It runs again."),)  # pyright: ignore[reportPrivateUsage]
        await go_on(s, whole=False)
        assert model.targets(4) == []
        assert [message.parts for message in model.prompts[3].messages[:1]] == [(Text("You are Front."),)]
