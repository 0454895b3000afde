"""The rules of a loop of its own."""

import json

import pytest

from dragoman.core.agents import Loop
from dragoman.core.messages import Message, ToolCall, said
from dragoman.runtime.loops import OVER_LIMIT_NOTE, TRUNCATED, as_result, closed, opening_call
from tests.runtime.looping import EXIT, LOOP, QUESTION, call, calls, result

# -- what it begins with ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "opens"),
    [
        ((QUESTION,), True),
        ((QUESTION, calls(call("context")), result("c1", "{}")), False),
        (
            (QUESTION, calls(call("context")), result("c1", "{}"), said("assistant", "Fine."), said("user", "And?")),
            True,
        ),
        ((QUESTION, calls(call("restart"))), False),
        ((QUESTION, calls(call("restart")), result("c1", "{}")), True),
        ((QUESTION, said("assistant", "Fine.")), True),
        ((), True),
    ],
)
def test_it_opens_unless_it_has_since_the_last_question_or_a_call_waits(
    messages: tuple[Message, ...], opens: bool
) -> None:
    assert (opening_call(LOOP, messages) is not None) == opens
    assert opening_call(Loop(), messages) is None


@pytest.mark.parametrize(
    ("text", "made", "said_at_last"),
    [
        ("", call("exit_loop", '{"response":"Enough."}'), ("Enough.", True)),
        ("So: ", call("exit_loop", '{"response":"Enough."}'), ("So: Enough.", True)),
        ("So.", call("look"), (f"So.\n\n{OVER_LIMIT_NOTE}", False)),
        ("", call("exit_loop", "nonsense"), (OVER_LIMIT_NOTE, False)),
        ("", None, (OVER_LIMIT_NOTE, False)),
        ("So.", None, ("So.", False)),
    ],
)
def test_a_forced_reply_is_its_text(text: str, made: ToolCall | None, said_at_last: tuple[str, bool]) -> None:
    answer, carried_by = closed(EXIT, text, [made] if made else [])
    assert (answer, carried_by is not None) == said_at_last


# -- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ('{"a":1}', {"a": 1}),
        ("[1,2]", {"response": [1, 2]}),
        ("plain text", {"response": "plain text"}),
        ('{"broken"', {"response": '{"broken"'}),
    ],
)
def test_results_are_json_objects(content: str, shown: object) -> None:
    assert json.loads(as_result(LOOP, content, is_error=False, code="")) == shown
    assert as_result(Loop(), content, is_error=False, code="") == content


def test_errors_say_error_and_message() -> None:
    error = {"error": {"name": "timeout", "message": "Too slow."}, "message": "Too slow."}
    assert json.loads(as_result(LOOP, "Too slow.", is_error=True, code="timeout")) == error
    own = '{"error":{"name":"E"},"message":"m"}'
    assert as_result(LOOP, own, is_error=True, code="tool_failed") == own


def test_a_long_result_is_cut_and_says_so() -> None:
    cut = json.loads(
        as_result(
            Loop(json_results=True, result_tokens_max=10), json.dumps({"rows": "x" * 500}), is_error=False, code=""
        )
    )
    assert list(cut) == ["message", "truncated"]
    assert (cut["message"], len(cut["truncated"])) == (TRUNCATED, 40)
