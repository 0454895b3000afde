from typing import TypeVar

import pytest
from msgspec.structs import replace

from dragoman.core.messages import Message, Text, said
from dragoman.core.resources import Resource, Rule, Skill
from dragoman.runtime.standing import KNOWN_CHARS_MAX, RULES_CHARS_MAX, called, rules_text, skill_text, skills_text

C = TypeVar("C")


def kept(content: C) -> Resource[C]:
    return Resource("id", content, "ann", False, 1, 0.0, 0.0, "ann", "ann")


def rule(name: str, **fields: object) -> Resource[Rule]:
    return kept(replace(Rule(name, f"Do {name}."), **fields))  # type: ignore[arg-type] of several types


def test_rules_stand_under_their_names_lowest_priority_first_then_oldest():
    rules = [rule("late", priority=5), rule("first", priority=-1), rule("b"), rule("a")]
    assert rules_text(rules) == (
        "# Rules\nFollow these rules. An earlier one wins over a later one.\n\n"
        "## first\nDo first.\n\n## b\nDo b.\n\n## a\nDo a.\n\n## late\nDo late."
    )


def test_a_rule_of_the_project_is_told_from_the_users_own():
    shown = rules_text([rule("mine"), replace(rule("everybodys"), wide=True)])
    assert shown.endswith("## mine\nDo mine.\n\n## everybodys (set for the whole project)\nDo everybodys.")


def test_only_rules_that_are_enabled_and_meant_for_the_assistant_count():
    rules = [
        rule("off", enabled=False),
        rule("elsewhere", applications=("loop", "infrastructure_memory")),
        rule("here", applications=("loop", "assistant")),
        rule("everywhere", applications=("all",)),
        rule("unsaid"),
    ]
    shown = rules_text(rules)
    assert [name for name in ("off", "elsewhere", "here", "everywhere", "unsaid") if f"## {name}" in shown] == [
        "here",
        "everywhere",
        "unsaid",
    ]
    assert rules_text(rules[:2]) == rules_text([]) == ""


def test_a_name_cannot_end_its_line():
    assert "## a b\nDo" in rules_text([rule("a\n b", content="Do it.")])


def test_rules_that_do_not_fit_are_counted():
    size = RULES_CHARS_MAX // 4
    heading = len("## r\n")
    rules = [rule("r", content="x" * (size - heading)) for _ in range(4)]
    assert "more rules" not in rules_text(rules)
    rules.append(rule("r"))
    assert rules_text(rules).endswith("\n\n(1 more rules are not shown: together they are too long.)")


def test_skills_are_listed_by_name_command_and_first_line():
    skills = [
        kept(Skill("Deploy", "\n# How to deploy\nsecret steps", command="deploy")),
        kept(Skill("Long", "x" * 200)),
        kept(Skill("Hidden", "y", known=False)),
    ]
    assert skills_text(skills) == (
        "# Skills\nThe user has set up these skills. You see only their names here: the user brings one into the"
        " conversation by beginning a message with its command.\n\n"
        f"- Deploy (/deploy): How to deploy\n- Long: {'x' * 159}…"
    )
    assert skills_text(skills[2:]) == ""


def test_skills_that_do_not_fit_are_counted():
    one = kept(Skill("n", "x" * 155))
    line = len("- n: ") + 155
    assert KNOWN_CHARS_MAX % line == 0
    fitting = KNOWN_CHARS_MAX // line
    assert "more skills" not in skills_text([one] * fitting)
    assert skills_text([one] * (fitting + 2)).endswith("\n(2 more skills are not shown: together they are too long.)")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/deploy", "deploy"),
        (" \n/deploy now", "deploy"),
        ("/deploy\nnow", "deploy"),
        ("/De-ploy_1.2 x", "De-ploy_1.2"),
        ("deploy", ""),
        ("please /deploy", ""),
        ("//deploy", ""),
        ("/", ""),
        ("/ deploy", ""),
        ("/deploy/now", ""),
        ("/dépl", ""),
        ("/" + "x" * 65, ""),
        ("", ""),
    ],
)
def test_a_command_is_how_a_message_begins(text: str, command: str):
    assert called([said("user", text)]) == command


def test_only_what_is_shown_of_the_users_last_message_calls():
    assert called([said("user", "/old"), said("assistant", "/no"), said("user", "hello")]) == ""
    assert called([said("user", "/new"), said("tool", "x")]) == "new"
    hidden = Message("user", (Text("<context>/x</context>", hidden=True), Text("/deploy"), Text("\n<c>", hidden=True)))
    assert called([hidden]) == "deploy"
    assert called([]) == ""


def test_the_skill_that_was_called_comes_whole():
    assert skill_text(Skill("Deploy", "# Steps\n1. go", command="deploy")) == (
        "# Skill: Deploy\nThe user called this skill with /deploy. Go by it.\n\n# Steps\n1. go"
    )
