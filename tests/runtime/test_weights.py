"""How much messages take up in a prompt."""

import pytest

from dragoman.core.messages import Image, Message, Text, Thinking, ToolCall, ToolResult, said
from dragoman.core.names import CallId, RunId
from dragoman.core.operations import TurnView
from dragoman.runtime.weights import beginning, turn_weight, weight_of


def test_what_is_sent_counts_and_what_is_not_does_not() -> None:
    parts = (
        *(Text("abc"), Text("hidden", hidden=True), Thinking("not sent")),
        *(ToolCall(CallId("c"), "look", "{}"), ToolResult(CallId("c"), "seen", shown="not sent")),
        Image("image/png", "AAAA"),
    )
    assert weight_of(Message("assistant", parts, aside="not sent")) == 3 + 6 + 4 + 2 + 4


def test_a_turn_is_all_that_was_asked_and_answered() -> None:
    turn = TurnView(RunId("r"), 1, 0.0, (said("user", "abc"),), (said("assistant", "de"),), None)
    assert turn_weight(turn) == 5


@pytest.mark.parametrize(
    ("text", "chars", "want"),
    [
        ("write to anna@corp.example now", 99, "write to anna@corp.example now"),
        ("write to anna@corp.example now", 18, "write to "),
        ("write to anna@corp.example now", 26, "write to anna@corp.example"),
        ("write to anna@corp.example now", 27, "write to anna@corp.example "),
        ('[{"to":"anna@corp.example"}]', 14, '[{"to":"'),
        ("anna@corp.example", 9, "anna@corp"),
        ("x" * 500, 400, "x" * 400),
        ("a " + "x" * 500, 402, "a " + "x" * 400),
        ("a " * 300 + "x" * 500, 799, "a " * 300),
        ("a " * 300 + "x" * 500, 801, "a " * 300 + "x" * 201),
        ("abc", 0, ""),
    ],
)
def test_the_beginning_of_a_text_ends_with_a_whole_word(text: str, chars: int, want: str) -> None:
    assert beginning(text, chars) == want
