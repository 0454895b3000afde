"""Who speaks next: the rules by themselves. `test_casting.py` has them at work."""

import msgspec
import pytest

from dragoman.core.agents import Repeat
from dragoman.core.events import HandedOver
from dragoman.core.messages import Message, Text, ToolCall, said
from dragoman.core.names import CallId
from dragoman.core.workflows import CALLS_MAX, TRANSFER, Control, Handing, Staging, Workflow
from dragoman.runtime.workflow import (
    DESCRIPTION_CHARS_MAX,
    SWITCHES_MAX,
    Cast,
    HandOver,
    Target,
    is_greeting,
    last_report,
    open_cast,
    transfer_text,
    transfer_tool,
)
from tests.runtime.workflows import desk, internal, member


def cast_of(workflow: Workflow | None = None, **staging: object) -> Cast:
    return open_cast(workflow or desk(), Staging("w1", **staging), ())  # pyright: ignore[reportArgumentType]


def asks(cast: Cast, arguments: str, *handings: HandedOver) -> object:
    return cast.transfer(cast.stage(handings), [ToolCall(CallId("1"), TRANSFER, arguments)])


def names(cast: Cast, *handings: HandedOver) -> list[str]:
    return [target.name for target in cast.targets(cast.stage(handings))]


@pytest.mark.parametrize("arguments", ["", "{", "[]", '"Billing"', "{}", '{"assistant": 7}', '{"assistant": null}'])
def test_a_transfer_without_a_readable_target_is_refused(arguments: str) -> None:
    refused = asks(cast_of(), arguments)
    assert isinstance(refused, tuple) and refused[0].code == "not_handed_over" and refused[0].is_error


def test_a_pipeline_is_entered_at_its_first_step() -> None:
    step = asks(cast_of(), '{"assistant": "Intake"}')
    assert isinstance(step, HandOver)
    assert (step.to, step.how, step.pipeline) == ("One", Handing.ENTERED, "Intake")


def test_after_so_many_switches_nothing_is_offered() -> None:
    pair = [HandedOver("Front", "Billing"), HandedOver("Billing", "Front")]
    ping = (pair * SWITCHES_MAX)[: SWITCHES_MAX - 1]
    assert names(cast_of(), *ping) != []
    assert names(cast_of(), *ping, HandedOver("Billing", "Front")) == []


def test_returns_and_steps_do_not_count_as_switches() -> None:
    once = [
        HandedOver("Front", "One", Handing.ENTERED, "Intake"),
        HandedOver("One", "Two", Handing.STEPPED, "Intake"),
        HandedOver("Two", "Three", Handing.STEPPED, "Intake"),
        HandedOver("Three", "Front", Handing.RETURNED),
    ]
    assert cast_of().stage(once).switches == 1


def test_a_stage_is_that_of_its_hand_overs_whatever_was_asked_before() -> None:
    cast, over, back = cast_of(), HandedOver("Front", "Billing"), HandedOver("Billing", "Front")
    first = cast.stage([over])
    assert cast.stage([HandedOver("Front", "Billing")]) is first
    assert [cast.stage(handings).speaker for handings in ((), [over], [over, back], [over])] == [
        "Front",
        "Billing",
        "Front",
        "Billing",
    ]
    assert names(cast, over) == names(cast_of(), over) != names(cast)


def test_the_cap_of_an_internal_agent_is_its_own_or_the_general_one_and_counts_by_caller() -> None:
    members = (member("Front", agents=("Deep", "Other")), internal("Deep"), member("Other", agents=("Deep",)))
    cast = cast_of(Workflow("w", "Front", members))
    once = [HandedOver("Front", "Deep", Handing.CALLED), HandedOver("Deep", "Front", Handing.RETURNED)]
    assert "Deep" in names(cast, *once * (CALLS_MAX - 1))
    assert "Deep" not in names(cast, *once * CALLS_MAX)
    assert "Deep" in names(cast, *once * CALLS_MAX, HandedOver("Front", "Other"))


def test_a_cap_of_nought_means_never() -> None:
    cast = cast_of(Workflow("w", "Front", (member("Front", agents=("Deep",)), internal("Deep", calls_max=0))))
    assert names(cast) == []


def test_the_start_is_gone_back_to_so_often_and_no_more() -> None:
    members = (member("Front", agents=("Deep",)), internal("Deep", control=Control.TO_START, calls_max=99))
    cast = cast_of(Workflow("w", "Front", members))
    once = [HandedOver("Front", "Deep", Handing.CALLED), HandedOver("Deep", "Front", Handing.RESTARTED)]
    handings = (once * SWITCHES_MAX)[:SWITCHES_MAX]
    assert handings[-1].to_agent == "Deep"
    last = cast.stage(handings[:-2])
    assert cast.after_text(last) == HandOver("Front", Handing.RESTARTED) and last.switches == SWITCHES_MAX - 2
    full = cast.stage(handings)
    assert cast.after_text(full) == HandOver("Front", Handing.RETURNED) and full.switches == SWITCHES_MAX


def test_a_hand_over_that_names_what_is_not_there_is_of_another_workflow() -> None:
    cast = cast_of()
    known = HandedOver("Front", "One", Handing.ENTERED, "Intake")
    assert cast.knows([HandedOver("Front", "Billing"), known])
    for stranger in (
        HandedOver("Front", "Gone"),
        HandedOver("Gone", "Front"),
        HandedOver("Front", "One", Handing.ENTERED, "Gone"),
    ):
        assert not cast.knows([known, stranger])


def test_agents_that_are_not_there_are_not_offered() -> None:
    assert names(cast_of(Workflow("w", "Front", (member("Front", agents=("Gone",), pipelines=("Gone",)),)))) == []


def test_what_may_be_repeated_after_a_crash() -> None:
    cast = cast_of()
    assert tuple(cast.repeat(tool, "Billing") for tool in ("look_up", "rag_search", "other")) == (
        Repeat.PURE,
        Repeat.PURE,
        None,
    )
    assert cast.repeat("look_up", "Front") is None  # a tool of the server's may have that name
    assert cast_of(mocks={"other": "x"}).repeat("other", "Front") is Repeat.PURE
    assert cast_of(mock_all=True).repeat("other", "Front") is Repeat.PURE


def test_the_tool_says_who_there_is_within_a_limit() -> None:
    long = Target("Tech", "t" * (DESCRIPTION_CHARS_MAX + 1), "Tech", Handing.TRANSFERRED)
    tool = transfer_tool([Target("Billing", "Bills.", "Billing", Handing.TRANSFERRED), long])
    assert "- Billing: Bills.\n" in tool.description
    assert tool.description.endswith(f"- Tech: {'t' * DESCRIPTION_CHARS_MAX}")
    assert tool.parameters["properties"]["assistant"]["enum"] == ["Billing", "Tech"]


def test_a_hand_over_is_spelled_with_a_space_and_is_json_whatever_the_name() -> None:
    assert transfer_text("B") == '{"assistant": "B"}'
    assert msgspec.json.decode(transfer_text('say "ä"\n')) == {"assistant": 'say "ä"\n'}


def test_a_turn_without_a_question_is_a_greeting() -> None:
    assert is_greeting(()) and is_greeting([said("system", "x")])
    assert not is_greeting([said("system", "x"), said("user", "")])


def test_the_last_report_is_of_this_turn() -> None:
    inside = Message("assistant", (Text("report", hidden=True),), name="Deep")
    assert last_report([inside, said("user", "x")], begun=1) == ""
    assert last_report([said("user", "x"), inside, said("assistant", "")], begun=1) == "report"
