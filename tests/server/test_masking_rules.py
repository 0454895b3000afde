"""The rules of `[anonymization]`, from a file to masked text."""

from pathlib import Path
from typing import Any

import pytest

from dragoman.server.config import BadConfig, load_config
from dragoman.server.masking_rules import NO_NER, RULES_MAX, masker

KEY = b"0123456789abcdef"
EMAIL: dict[str, Any] = {"type": "RegExp", "entity_class": "EMAIL", "pattern": r"\S+@\S+"}


def loaded(folder: Path, text: str) -> object:
    (folder / "dragoman.toml").write_text(text)
    return load_config(folder, cwd=folder, env={}).anonymization.rules


def faults_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        loaded(folder, text)
    return list(caught.value.faults)


def test_no_rules_are_no_masker():
    assert masker((), key=KEY) is None
    assert masker([EMAIL | {"enabled": False}], key=KEY) is None


def test_rules_of_a_file_mask_texts_in_their_order(tmp_path: Path):
    rules = loaded(
        tmp_path,
        """
        [anonymization]
        rules = [
          { type = "RegExp", entity_class = "OFF", pattern = '(', enabled = false },
          { type = "NER", model_id = "m", allowed_entity_classes = ["PER"], timeout = "5s", enabled = false },
          { type = "RegExp", entity_class = "EMAIL", pattern = '[\\w.]+@[\\w.]+', enabled = true },
          { type = "RegExp", entity_class = "HOST", pattern = '\\w+\\.example\\.com' },
        ]
        """,
    )
    made = masker(rules, key=KEY)
    assert made is not None
    masked = made.mask("ann@www.example.com on web.example.com").found
    assert [(each.entity, each.value) for each in masked] == [
        ("EMAIL", "ann@www.example.com"),
        ("HOST", "web.example.com"),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rules = 1", "anonymization.rules: must be a list of tables; write [[anonymization.rules]] before each"),
        ('rules = ["x"]', "anonymization.rules.1: is a table; write [[anonymization.rules]] and its keys below"),
        ('rules = [{ type = "regexp" }]', "anonymization.rules.1.type: must be one of: RegExp, NER"),
        ('rules = [{ type = "NER" }]', f"anonymization.rules.1: {NO_NER}"),
        (
            'rules = [{ type = "RegExp", entity_class = "EMAIL" }]',
            "anonymization.rules.1.pattern: is missing",
        ),
        (
            'rules = [{ type = "RegExp", entity_class = "EMAIL", pattern = "@", entityClass = "X" }]',
            'anonymization.rules.1.entityClass: is not a key of [anonymization.rules.1]; did you mean "entity_class"?',
        ),
        (
            'rules = [{ type = "RegExp", entity_class = "email", pattern = "@" }]',
            'anonymization.rules.1.entity_class: "email" cannot be a class: capital letters, digits and "_", 32 at'
            " most, such as EMAIL",
        ),
        (
            "rules = [{ type = 'RegExp', entity_class = 'A', pattern = '(x+)+y' }]",
            "anonymization.rules.1.pattern: may take for ever: it repeats a group that can read the same text in"
            " several ways. End each round with a character that stands nowhere else in it, such as (?:[a-z]+\\.)+",
        ),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_at_start(tmp_path: Path, text: str, fault: str):
    assert faults_of(tmp_path, f"[anonymization]\n{text}\n") == [fault]


def test_there_is_a_limit_to_the_number_of_rules(tmp_path: Path):
    rule = "[[anonymization.rules]]\ntype = 'RegExp'\nentity_class = 'A'\npattern = 'x'\n"
    assert isinstance(loaded(tmp_path, rule * RULES_MAX), list)
    assert faults_of(tmp_path, rule * (RULES_MAX + 1)) == ["anonymization.rules: has 101 rules; 100 at most"]
