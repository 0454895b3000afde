"""What pages call evidence is there: every test, source and folder that they name by its path exists."""

import re
from pathlib import Path

import pytest

from tests.checkout import ROOT, SOURCE, checked_in, expect_none, name_of

CODE = re.compile(r"`([\w./*<>-]+)`")
FILE = re.compile(r"[\w.-]+(/[\w.-]+)+(\.(py|md|sql|toml|txt)|/)\Z")

PAGES = ("docs", "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")


def missing(text: str) -> list[str]:
    """Paths in code marks that lead nowhere, from the checkout or, as pages on the source write them, the package."""
    return [
        path
        for path in dict.fromkeys(CODE.findall(text))
        if FILE.match(path) and not any((top / path).exists() for top in (ROOT, SOURCE))
    ]


def test_every_file_that_a_page_names_exists() -> None:
    pages = [page for page in checked_in() if page.suffix == ".md" and page.relative_to(ROOT).parts[0] in PAGES]
    assert pages
    expect_none(f"{name_of(page)}: {path}" for page in pages for path in missing(page.read_text()))


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("`tests/no/such.py`", ["tests/no/such.py"]),
        ("`docs/no-such-folder/`", ["docs/no-such-folder/"]),
        ("`runtime/machine.py` `docs/architecture.md` `docs/decisions/`", []),
        ("`dialects/<name>/` `stores/sqlite/*.sql` `/api/v1/chat` `text/event-stream`", []),
    ],
)
def test_a_file_that_does_not_exist_would_be_found(text: str, paths: list[str]) -> None:
    assert missing(text) == paths


def test_every_record_says_what_it_rests_on() -> None:
    records = sorted(Path(ROOT / "docs" / "decisions").glob("0*.md"))
    short = [name_of(path) for path in records if len(path.read_text().partition("## Evidence")[2].split()) < 20]
    expect_none(short)
