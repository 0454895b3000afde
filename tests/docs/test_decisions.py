"""Decision records: numbered without a gap, of one form and one page, each in the index once."""

import re

import pytest

from tests.checkout import RECORDS, expect_none

LINES_MAX = 60
"""One page."""

FILE_NAME = re.compile(r"(\d{4})-[a-z0-9]+(-[a-z0-9]+)*\.md\Z")
SECTIONS = ["Situation", "Decision", "Consequences", "What would change our mind", "Evidence"]
STATUS = re.compile(
    r"\*(Accepted \d{4}-\d\d-\d\d\.( Supersedes \[\d{4}\]\([^)]*\)\.)?|Superseded by \[\d{4}\]\([^)]*\)\.)\*\Z"
)
INDEX_ROW = re.compile(r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+?) \|", re.MULTILINE)

NAMES = sorted(path.name for path in RECORDS.glob("*.md") if path.name != "README.md")


def faults_of(name: str, text: str) -> list[str]:
    """What keeps a record from having the form that README.md describes."""
    faults: list[str] = []
    lines = text.splitlines()
    if not lines or not lines[0].startswith(f"# {name[:4]}. "):
        faults.append(f"the first line is not `# {name[:4]}. Title`")
    if len(lines) < 3 or not STATUS.match(lines[2]):
        faults.append("the third line does not say when it was accepted or what superseded it")
    if len(lines) > LINES_MAX:
        faults.append(f"has {len(lines)} lines, {LINES_MAX} at most: a record is one page")
    if (sections := re.findall(r"^## (.+)$", text, re.MULTILINE)) != SECTIONS:
        faults.append(f"its sections are {sections}")
    return faults


@pytest.mark.parametrize("name", NAMES)
def test_a_record_has_one_form_and_one_page(name: str) -> None:
    assert FILE_NAME.match(name)
    expect_none(faults_of(name, (RECORDS / name).read_text()))


def test_a_record_of_another_form_would_be_found() -> None:
    sections = [section for section in SECTIONS if section != "Evidence"]
    text = "# 0099. Something else\n\nDraft\n" + "\n".join(f"## {section}\n" for section in sections) + "\n" * LINES_MAX
    assert faults_of("0001-a.md", text) == [
        "the first line is not `# 0001. Title`",
        "the third line does not say when it was accepted or what superseded it",
        f"has {len(text.splitlines())} lines, 60 at most: a record is one page",
        f"its sections are {sections}",
    ]


def test_records_are_numbered_from_one_without_a_gap() -> None:
    assert [int(name[:4]) for name in NAMES] == list(range(1, len(NAMES) + 1))


def test_the_index_lists_every_record_once_by_its_title() -> None:
    rows = INDEX_ROW.findall((RECORDS / "README.md").read_text())
    titles = [(RECORDS / name).read_text().splitlines()[0] for name in NAMES]
    assert [(number, name, f"# {number}. {title}") for number, name, title in rows] == [
        (name[:4], name, title) for name, title in zip(NAMES, titles, strict=True)
    ]
