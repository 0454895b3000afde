"""What a visitor is shown of a chat, the ids that it goes by, and pages of what there is."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from dragoman.core.events import MessagesImported, RunCompleted, RunFailed
from dragoman.core.messages import Message, Text, ToolCall, ToolResult, said
from dragoman.core.names import CallId, ConversationId, RunId
from dragoman.core.operations import TurnView
from dragoman.core.widget import (
    PAGE,
    OpenUserSession,
    WidgetSession,
    answer_in,
    answered_id,
    answers_in,
    asked_id,
    owner_of,
    page_of,
    shown_in,
    user_of,
)

CHAT = ConversationId("65535f10000a1b2c3d4e5f60")


class Item(Struct, frozen=True):
    id: str


def turn(*answered: Message, end: object = None, asked: tuple[Message, ...] = (said("user", "hi"),)) -> TurnView:
    ended = RunCompleted() if end is None else end
    return TurnView(RunId("r"), 7, 100.0, asked, answered, ended, tuple(101.0 + n for n in range(len(answered))))  # type: ignore[arg-type]


def test_an_owner_says_which_user_it_is():
    assert user_of(owner_of("widget:u")) == "widget:u"


def test_texts_that_prove_something_are_not_shown():
    assert "eyJ" not in repr(WidgetSession("eyJx", 1.0)) + repr(OpenUserSession("c", "eyJx"))


def test_calls_results_and_what_agents_say_to_each_other_are_not_shown():
    shown = shown_in(
        CHAT,
        turn(
            Message("assistant", (Text("Let me see."), ToolCall(CallId("c"), "t", "{}")), name="Desk"),
            Message("tool", (ToolResult(CallId("c"), "secret"),)),
            Message("assistant", (Text("inner", hidden=True),), name="Researcher"),
            Message("assistant", (Text("Done."),), name="Desk"),
            asked=(said("system", "be kind"), said("user", "hi")),
        ),
    )
    assert [(each.role, each.text, each.at, each.sender) for each in shown] == [
        ("user", "hi", 100.0, ""),
        ("assistant", "Let me see.", 101.0, "Desk"),
        ("assistant", "Done.", 104.0, "Desk"),
    ]
    assert [each.id for each in shown] == [asked_id(CHAT, 7, 1), answered_id(CHAT, 7, 0), answered_id(CHAT, 7, 3)]


def test_of_a_turn_that_failed_or_runs_only_what_was_asked_is_shown():
    half = Message("assistant", (Text("It i"),))
    for end in (RunFailed("upstream_failed", "It broke."), None):
        view = TurnView(RunId("r"), 7, 100.0, (said("user", "hi"),), (half,), end)
        assert [each.role for each in shown_in(CHAT, view)] == ["user"]


def test_what_was_said_elsewhere_is_shown_whoever_said_it():
    imported = (said("user", "hi"), said("assistant", "hello"))
    view = turn(asked=imported, end=MessagesImported(imported))
    assert [(each.role, each.text) for each in shown_in(CHAT, view)] == [("user", "hi"), ("assistant", "hello")]


def test_a_time_that_is_not_told_is_that_of_the_turn():
    (only,) = answers_in(CHAT, 7, (said("assistant", "x"),), (), 100.0)
    assert only.at == 100.0


def test_an_answer_is_the_last_text_or_a_model_that_said_nothing():
    hidden = Message("assistant", (Text("inner", hidden=True),), name="Clerk")
    calling = Message("assistant", (ToolCall(CallId("c"), "t", "{}"),))
    silent = Message("assistant", (), name="Desk")

    def answer(*answered: Message) -> str | None:
        found = answer_in(CHAT, 7, answered, (), 100.0)
        return None if found is None else found.text

    assert answer(said("assistant", "one"), said("assistant", "two"), hidden) == "two"
    assert answer(said("assistant", "one"), silent) == "one"
    assert answer(calling, silent) == ""
    assert [answer(), answer(hidden), answer(calling), answer(said("tool", ""))] == [None] * 4
    nothing = answer_in(CHAT, 7, (calling, silent), (1.0, 2.0), 100.0)
    assert nothing is not None and (nothing.id, nothing.at, nothing.sender) == (answered_id(CHAT, 7, 1), 2.0, "Desk")


seqs = st.integers(1, 16**10 - 1)
numbers = st.integers(0, 16**5 - 1)


@given(st.lists(st.tuples(seqs, st.booleans(), numbers), min_size=2, max_size=2, unique=True))
def test_ids_of_messages_sort_as_they_were_said(places):
    places.sort()
    one, two = ((answered_id if answered else asked_id)(CHAT, seq, place) for seq, answered, place in places)
    assert one < two and len(one) == len(two) == 24
    assert set(one + two) <= set("0123456789abcdef")


@given(st.integers(0, 45), st.booleans())
def test_pages_lead_through_everything_once_and_back(total: int, newest_first: bool):
    items = [Item(f"{n:024x}") for n in range(total)]
    if newest_first:
        items.reverse()
    seen: list[Item] = []
    cursor, pages = "", []
    while True:
        shown, behind, before = page_of(items, next_id=cursor, previous_id="", newest_first=newest_first)
        assert len(shown) <= PAGE and bool(before) == bool(seen)
        seen.extend(shown)
        pages.append(shown)
        if not behind:
            break
        cursor = behind
    assert seen == items
    while len(pages) > 1:
        shown, _, before = page_of(items, next_id="", previous_id=pages.pop()[0].id, newest_first=newest_first)
        assert shown == pages[-1]
    assert total == 0 or before == ""


def test_an_id_that_is_gone_leads_to_the_same_place():
    items = [Item(f"{n:024x}") for n in range(20) if n != 9]
    assert page_of(items, next_id=f"{9:024x}", previous_id="")[0][0].id == f"{10:024x}"
    assert page_of(items, next_id="", previous_id=f"{9:024x}")[0][-1].id == f"{8:024x}"


def test_behind_the_last_there_is_an_empty_page():
    assert page_of([Item("a")], next_id="b", previous_id="") == ((), "", "")
