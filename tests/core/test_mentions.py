"""Mentions in the texts of agents."""

import time

import pytest

from dragoman.core.mentions import NAME_CHARS_MAX, Kind, Mention, can_be_named, mentions, spoken


def test_mentions_are_found_in_order_and_once_with_or_without_the_part_for_editors():
    text = "[@tool:get_order](#mention) then [@agent:Billing Desk](#mention), [@tool:get_order], [@pipeline:Intake]"
    assert mentions(text) == (
        Mention(Kind.TOOL, "get_order"),
        Mention(Kind.AGENT, "Billing Desk"),
        Mention(Kind.PIPELINE, "Intake"),
    )


def test_a_variable_is_a_prompt():
    assert mentions("[@variable:Insurer](#mention) [@prompt:Insurer](#mention)") == (Mention(Kind.PROMPT, "Insurer"),)
    assert str(Mention(Kind.AGENT, "A")) == "[@agent:A]"


def test_the_model_is_told_each_mention_without_what_is_for_editors_however_often_it_stands_there():
    text = "[@tool:a](#mention) [@tool:a](#mention) [@variable:v](#mention) [a](#mention) [@other:x](#mention)"
    assert spoken(text) == "[@tool:a] [@tool:a] [@variable:v] [a](#mention) [@other:x](#mention)"


@pytest.mark.parametrize("text", ["[@agent:]", "[@agent:a\nb]", "[@agent:a[b]", "@agent:a", "[@person:a]", "[agent:a]"])
def test_what_is_none(text: str):
    assert mentions(text) == ()


def test_a_name_has_a_greatest_length():
    name = "n" * NAME_CHARS_MAX
    assert mentions(f"[@agent:{name}]") == (Mention(Kind.AGENT, name),)
    assert mentions(f"[@agent:{name}n]") == ()
    assert can_be_named(name) and not can_be_named(name + "n")


@pytest.mark.parametrize("name", ["", " ", "a]b", "a[b", "a\nb", "a\x07"])
def test_names_that_nothing_could_refer_to(name: str):
    assert not can_be_named(name)


def test_text_made_to_be_slow_is_read_fast():
    began = time.process_time()
    assert mentions("[@agent:" * 25_000) == ()
    assert time.process_time() - began < 2
