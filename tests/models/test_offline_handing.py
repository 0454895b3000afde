"""Whom the offline router hands over to, and that it passes nothing back and forth."""

import pytest

from dragoman.core.agents import ToolSpec
from dragoman.core.events import HandedOver
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId
from dragoman.core.workflows import TARGET, TRANSFER, Handing
from dragoman.models import offline_handing as handing
from dragoman.models.offline import SIGNATURE, Offline
from dragoman.models.offline_handing import Target, chosen, heard, in_turn, last_said, targets_of, untried
from dragoman.models.offline_reading import read
from dragoman.runtime import workflow_view
from dragoman.runtime.ports import Prompt, ReplyDone
from dragoman.runtime.workflow import Target as Offered
from dragoman.runtime.workflow import transfer_text, transfer_tool
from tests.models.asking import ask

BILLING = Target("Billing Desk", "Looks up orders and charges and starts refunds.")
TECH = Target("Tech Desk", "Troubleshoots gear, the mobile app and login problems using the knowledge base.")
HUMAN = Target("Human Escalation", "Collects contact details for a call back from a person.")
DESKS = (BILLING, TECH, HUMAN)
GET_ORDER = ToolSpec(
    "get_order",
    "Fetch one order with its line items, charges and delivery state.",
    {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
    examples=("Fetch order HO-1",),
)


def offered(*targets: Target) -> ToolSpec:
    """The tool as the runtime makes it."""
    return transfer_tool([Offered(each.name, each.description, each.name, Handing.TRANSFERRED) for each in targets])


def transfer(name: str, call_id: str = "t1") -> ToolCall:
    return ToolCall(CallId(call_id), TRANSFER, transfer_text(name))


def result(content: str, call_id: str = "t1", *, is_error: bool = False) -> Message:
    return Message("tool", (ToolResult(CallId(call_id), content, is_error),))


def others(name: str, line: str) -> Message:
    return Message("user", (Text(f"{workflow_view.OTHERS} {line}"),), name=name)


# -- who is there ------------------------------------------------------------------------------------------------------


def test_names_and_descriptions_are_read_from_the_tool_that_the_runtime_offers() -> None:
    assert targets_of((GET_ORDER, offered(*DESKS))) == DESKS
    assert targets_of((offered(Target("Bare", "")),)) == (Target("Bare", ""),)
    assert targets_of((GET_ORDER,)) == ()


@pytest.mark.parametrize("parameters", [{}, {"properties": []}, {"properties": {TARGET: {"enum": "x"}}}])
def test_a_callers_tool_of_that_name_is_a_tool_like_any_other(parameters: object) -> None:
    tool = ToolSpec(TRANSFER, "Transfers money to an agent.", parameters)  # type: ignore[arg-type]
    assert targets_of((tool,)) == ()
    assert handing.without_transfer((tool, GET_ORDER)) == (tool, GET_ORDER)
    assert handing.without_transfer((offered(BILLING), GET_ORDER)) == (GET_ORDER,)


# -- who is chosen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("I was charged twice for HO-10442", BILLING),
        ("I want a refund for my last order, please", BILLING),
        ("The mobile app does not let me log in, there are login problems", TECH),
        ("Can a person call me back?", HUMAN),
        ("Please get me the tech desk.", TECH),
        ("What is the weather like in Oslo?", None),
        ("hi", None),
        ("", None),
        ("Which desk is open?", None),  # fits two of them alike
        ("tech desk or billing desk?", None),
        ("4711", None),
    ],
)
def test_whoever_clearly_shares_most_words_with_the_question_is_chosen(asked: str, target: Target | None) -> None:
    assert chosen(read(asked), DESKS, None) == target


def test_a_tool_that_fits_as_well_comes_first() -> None:
    reading = read("Which charges does my order have?")
    assert chosen(reading, (BILLING,), None) == BILLING
    assert chosen(reading, (BILLING,), GET_ORDER) is None


def test_a_name_counts_only_as_words_of_its_own() -> None:
    targets = (Target("Ann", ""), Target("Bob", ""))
    assert chosen(read("an annual report"), targets, None) is None
    assert chosen(read("Ask ann!"), targets, None) == targets[0]
    assert chosen(read("anniversary of Ann"), targets, None) == targets[0]
    assert chosen(read("Ask"), (Target(" ", ""),), None) is None


# -- what happened in the turn -----------------------------------------------------------------------------------------


def test_nobody_is_asked_twice_in_a_turn_nor_who_had_the_word() -> None:
    before = (said("user", "old"), Message("assistant", (transfer("Billing Desk", "t0"),)), result("B: no", "t0"))
    turn = (
        said("user", "new"),
        others("Tech Desk", "Tech Desk: Did you restart it?"),
        others("Human Escalation", 'Human Escalation called ask({"a":1}) and got: 5'),
        Message("assistant", (transfer("Billing Desk"),)),
        result("Not now.", is_error=True),
    )
    assert untried(DESKS, before) == (TECH, HUMAN)
    assert untried(DESKS, (*before, said("user", "new"))) == DESKS
    assert untried(DESKS, (*before, *turn)) == ()
    assert in_turn((*before, *turn)) == turn[1:]
    assert in_turn(()) == ()


def test_calls_on_which_nobody_reported_are_left_out_and_reports_are_kept() -> None:
    other = ToolCall(CallId("c1"), "get_order", "{}")
    messages = (
        said("user", "q"),
        Message("assistant", (Text("Wait."), transfer("A", "t1"))),
        result(transfer_text("A"), "t1"),
        Message("assistant", (transfer("B", "t2"), other)),
        Message("tool", (ToolResult(CallId("t2"), "no", is_error=True), ToolResult(other.id, "5"))),
        Message("assistant", (transfer("C", "t3"),)),
        result("C: It is fine.", "t3"),
        others("D", "D: x"),
        Message("user", ()),
    )
    assert heard(messages) == (
        said("user", "q"),
        said("assistant", "Wait."),
        Message("assistant", (other,)),
        Message("tool", (ToolResult(other.id, "5"),)),
        *messages[5:7],
        Message("user", ()),
    )


def test_the_lines_of_others_are_told_as_the_runtime_tells_them() -> None:
    """They are recognised by how they begin."""
    turn = (
        said("user", "q"),
        Message("assistant", (Text("It is blue.", hidden=True),), name="Scout"),
        Message("assistant", (transfer("Writer"),), name="Scout"),
        result(transfer_text("Writer")),
    )
    handings = (HandedOver("Scout", "Writer", Handing.STEPPED, "P"),)
    seen = workflow_view.turn_messages(turn, handings, received=1, viewer="Writer")
    assert last_said(seen) == "Scout: It is blue."
    assert heard(seen) == (said("user", "q"),)
    assert last_said((said("user", "q"),)) == ""


# -- what it then says -------------------------------------------------------------------------------------------------


async def reply(*messages: Message, tools: tuple[ToolSpec, ...]) -> ReplyDone:
    (piece,) = await ask(Offline(), Prompt((said("system", "Be kind."), *messages), tools=tools), stream=False)
    assert isinstance(piece, ReplyDone)
    assert bool(piece.calls) != piece.text.endswith(SIGNATURE)
    return piece


async def test_it_hands_over_by_the_call_that_the_runtime_understands() -> None:
    done = await reply(said("user", "I was charged twice"), tools=(GET_ORDER, offered(*DESKS)))
    assert done.calls == (ToolCall(CallId("call_1"), TRANSFER, '{"assistant":"Billing Desk"}'),)


async def test_a_question_that_fits_nobody_has_its_usual_answer() -> None:
    done = await reply(said("user", "What is the weather like?"), tools=(GET_ORDER, offered(*DESKS)))
    alone = await reply(said("user", "What is the weather like?"), tools=(GET_ORDER,))
    assert done.text == alone.text
    assert TRANSFER not in done.text


async def test_what_somebody_reported_is_the_answer_signed_once() -> None:
    for reporter, shown in (("Billing Desk", "It is blue."), ("Scout", "Scout: It is blue.")):
        asked = (said("user", "Ask the billing desk."), Message("assistant", (transfer("Billing Desk"),)))
        report = f"{reporter}: It is blue.\n\n{SIGNATURE}"
        done = await reply(*asked, result(report), tools=(offered(*DESKS),))
        assert done.text == f"{shown}\n\n{SIGNATURE}"


async def test_a_refused_hand_over_is_not_tried_again() -> None:
    asked = (said("user", "I was charged twice"), Message("assistant", (transfer("Billing Desk"),)))
    done = await reply(*asked, result("Not now.", is_error=True), tools=(GET_ORDER, offered(*DESKS)))
    assert done.calls == () and done.text.startswith("I cannot answer that")


async def test_the_last_of_a_pipeline_quotes_who_came_before() -> None:
    done = await reply(
        said("user", "Tell me about it"), others("Scout", f"Scout: It is blue.\n\n{SIGNATURE}"), tools=()
    )
    assert done.text == f"This is what was found out before:\n\nScout: It is blue.\n\n{SIGNATURE}"


async def test_what_it_is_told_to_say_it_says_without_more() -> None:
    prompt = Prompt((said("user", "ls"),), (GET_ORDER,), choice="get_order", plain='{"order": 1}')
    *pieces, done = await ask(Offline(), prompt)
    assert isinstance(done, ReplyDone)
    assert (done.text, done.calls) == ('{"order": 1}', ())
    assert [getattr(piece, "text", "") for piece in pieces] == ['{"order": ', "1}"]
