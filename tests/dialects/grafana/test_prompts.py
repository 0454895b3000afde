"""Prompts: what is hidden of them, and what a conversation is called after one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.core.messages import Message, Text, said
from dragoman.dialects.grafana.prompts import NO_TITLE, TITLE_CHARS_MAX, title_of, user_message

BLOCK = "<context><timezone>Local</timezone></context>"

pieces = st.lists(
    st.sampled_from(["<context>", "</context>", BLOCK, " ", "\n", "\t", "a", "what is up?", "é", "<context", "\0"])
    | st.text(max_size=5),
    max_size=12,
).map("".join)


def parts_of(text: str) -> list[tuple[str, bool]]:
    message = user_message(text)
    return [(part.text, part.hidden) for part in message.parts if isinstance(part, Text)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("How many?", [("How many?", False)]),
        (f"How many?\n{BLOCK}", [("How many?", False), (f"\n{BLOCK}", True)]),
        (f"{BLOCK}\nHow many?", [(BLOCK, True), ("\nHow many?", False)]),
        (f"one {BLOCK} two {BLOCK}", [("one", False), (f" {BLOCK}", True), (" two", False), (f" {BLOCK}", True)]),
        (f"{BLOCK}{BLOCK}", [(BLOCK, True), (BLOCK, True)]),
        (f"\n{BLOCK}", [(f"\n{BLOCK}", True)]),
        ("open <context>and never closed", [("open <context>and never closed", False)]),
        ("</context> first <context>", [("</context> first <context>", False)]),
        ("<CONTEXT>x</CONTEXT>", [("<CONTEXT>x</CONTEXT>", False)]),
        ("", [("", False)]),
    ],
    ids=["plain", "behind", "before", "two", "only two", "only", "unclosed", "wrong way round", "upper case", "empty"],
)
def test_a_context_block_is_hidden_with_the_white_space_before_it(text: str, parts: list[tuple[str, bool]]) -> None:
    assert parts_of(text) == parts


@given(text=pieces)
def test_the_parts_are_the_prompt_and_nothing_of_a_closed_block_is_shown(text: str) -> None:
    message = user_message(text)
    assert message.role == "user"
    assert message.full_text == text
    assert all(part.text for part in message.parts if isinstance(part, Text)) or text == ""
    for part, hidden in parts_of(text):
        assert hidden == (part.lstrip().startswith("<context>") and part.endswith("</context>")) or not hidden
        if not hidden:
            opens = part.find("<context>")
            assert opens < 0 or "</context>" not in part[opens:]


def test_a_prompt_of_nothing_but_opened_blocks_is_read_in_one_go() -> None:
    text = "<context>" * 100_000 + " " * 100_000
    assert parts_of(text) == [(text, False)]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("How many datasources do I have?", "How many datasources do I have?"),
        ("\n  What   time\tis it?  \nI have no watch.", "What time is it?"),
        (f"Hi\n{BLOCK}", "Hi"),
        (BLOCK, NO_TITLE),
        (" \n ", NO_TITLE),
        ("", NO_TITLE),
        ("x" * TITLE_CHARS_MAX, "x" * TITLE_CHARS_MAX),
        ("x" * (TITLE_CHARS_MAX + 1), "x" * (TITLE_CHARS_MAX - 1) + "…"),
        ("word " * 20, "word " * 15 + "word…"),
        ("a" * 79 + " b", "a" * 79 + "…"),
    ],
    ids=["short", "first line", "context", "only context", "blank", "empty", "just fits", "one word", "words", "edge"],
)
def test_a_conversation_is_called_after_the_first_line_that_is_shown(text: str, title: str) -> None:
    assert title_of(user_message(text)) == title


@given(text=pieces | st.text(max_size=200))
def test_a_title_is_one_short_line_of_what_is_shown(text: str) -> None:
    message = user_message(text)
    title = title_of(message)
    assert 0 < len(title) <= TITLE_CHARS_MAX
    assert " ".join(title.split()) == title
    if title != NO_TITLE:
        assert " ".join(message.text.split()).startswith(title.removesuffix("…"))


def test_a_message_of_several_parts_is_called_after_all_of_them() -> None:
    assert title_of(Message("user", (Text("one "), Text("secret", hidden=True), Text("two")))) == "one two"
    assert title_of(said("user", "plain")) == "plain"
