"""What people have set up, as instructions for a turn: rules, the skills there are, and the one that was called. Pure.

Rules come first, those of the lowest priority number before the others, then the older. What does not fit into
`RULES_CHARS_MAX` is left out from the end, and the model is told how many were: a prompt must not outgrow its model.
"""

import re
from collections.abc import Sequence

from dragoman.core.messages import Message
from dragoman.core.resources import Resource, Rule, Skill

RULES_CHARS_MAX = 40_000
"""Of all rules of a turn together."""
KNOWN_CHARS_MAX = 8_000
"""Of the list of skills."""
SUMMARY_CHARS_MAX = 160

_APPLICATIONS = ("assistant", "all")
_CALL = re.compile(r"\s*/([A-Za-z0-9_.-]{1,64})(?=\s|\Z)")


def rules_text(rules: Sequence[Resource[Rule]]) -> str:
    """Those that are enabled and meant for the assistant, under a heading, which tells the project's from the user's
    own; "" if there are none."""
    meant = [rule for rule in rules if rule.content.enabled and _for_assistant(rule.content)]
    meant.sort(key=lambda rule: rule.content.priority)
    blocks = [f"## {_line(rule.content.name)}{_whose(rule)}\n{rule.content.content.strip()}" for rule in meant]
    return _listed(
        "# Rules\nFollow these rules. An earlier one wins over a later one.", blocks, RULES_CHARS_MAX, "rules"
    )


def skills_text(skills: Sequence[Resource[Skill]]) -> str:
    """What the model may say there is: names, commands and first lines, not the bodies; "" if there is nothing."""
    lines = [_skill_line(skill.content) for skill in skills if skill.content.known]
    heading = (
        "# Skills\nThe user has set up these skills. You see only their names here: the user brings one into the"
        " conversation by beginning a message with its command."
    )
    return _listed(heading, lines, KNOWN_CHARS_MAX, "skills", between="\n")


def called(messages: Sequence[Message]) -> str:
    """The command with which the last message of the user begins, without its slash; "" = none. Only what is shown of
    the message counts."""
    users = [message for message in messages if message.role == "user"]
    match = _CALL.match(users[-1].text) if users else None
    return match[1] if match else ""


def skill_text(skill: Skill) -> str:
    """The skill that the user called."""
    return f"# Skill: {_line(skill.name)}\nThe user called this skill with /{skill.command}. Go by it.\n\n{skill.body}"


def _whose(rule: Resource[Rule]) -> str:
    return " (set for the whole project)" if rule.wide else ""


def _for_assistant(rule: Rule) -> bool:
    return not rule.applications or any(application in _APPLICATIONS for application in rule.applications)


def _skill_line(skill: Skill) -> str:
    command = f" (/{skill.command})" if skill.command else ""
    first = next((line.strip("# \t") for line in skill.body.splitlines() if line.strip("# \t")), "")
    summary = first if len(first) <= SUMMARY_CHARS_MAX else f"{first[: SUMMARY_CHARS_MAX - 1].rstrip()}…"
    return f"- {_line(skill.name)}{command}: {summary}"


def _line(name: str) -> str:
    return " ".join(name.split())


def _listed(heading: str, blocks: Sequence[str], chars_max: int, noun: str, *, between: str = "\n\n") -> str:
    if not blocks:
        return ""
    chars = 0
    shown: list[str] = []
    for block in blocks:
        chars += len(block)
        if chars > chars_max:
            break
        shown.append(block)
    if left_out := len(blocks) - len(shown):
        shown.append(f"({left_out} more {noun} are not shown: together they are too long.)")
    return "\n\n".join((heading, between.join(shown)))
