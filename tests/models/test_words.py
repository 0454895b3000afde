from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.messages import Image, Message, Text, Thinking, ToolCall, ToolResult, Usage, said
from dragoman.core.names import CallId
from dragoman.models.words import counted, in_words, last_asked


def test_words_of_texts_arguments_and_results_are_counted_and_nothing_else() -> None:
    messages = (
        said("system", "be brief"),
        Message("user", (Text("what is this"), Image("image/png", "QUJD"))),
        Message("assistant", (Thinking("let me see"), ToolCall(CallId("c"), "read", '{"a": 1}'))),
        Message("tool", (ToolResult(CallId("c"), "one two"),)),
    )
    assert counted(messages, "that is it") == Usage(2 + 3 + 2 + 2, 3)


@given(st.text(max_size=60))
def test_the_pieces_are_words_and_together_the_text(text: str) -> None:
    pieces = in_words(text)
    assert "".join(pieces) == text
    assert len(pieces) == max(len(text.split()), 1 if text else 0)


def test_the_last_user_message_is_what_was_asked() -> None:
    messages = (said("user", "first"), said("user", "second"), said("assistant", "answer"))
    assert last_asked(messages) == "second"
    assert last_asked(()) == ""
