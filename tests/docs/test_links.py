"""Every relative link in every page leads to a file that is there, and to a heading that is in it."""

import re
from pathlib import Path

import pytest

from tests.checkout import ROOT, checked_in, expect_none, name_of

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z+.-]*:", re.IGNORECASE)


def anchors(text: str) -> set[str]:
    """The anchors a page's headings get where it is shown."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        copy = 0
        while (anchor := f"{slug}-{copy}" if copy else slug) in found:
            copy += 1
        found.add(anchor)
    return found


def links(text: str) -> list[str]:
    """The targets of relative links; what stands in code is no link."""
    return [target for target in LINK.findall(CODE.sub("", FENCE.sub("", text))) if not ELSEWHERE.match(target)]


def broken(page: Path, text: str) -> list[str]:
    faults: list[str] = []
    for target in links(text):
        path, _, anchor = target.partition("#")
        where = (page.parent / path).resolve() if path else page
        if path and not (where.is_relative_to(ROOT) and where.exists()):
            faults.append(f"{target} is not there")
        elif anchor and anchor not in anchors(text if where == page else where.read_text()):
            faults.append(f"{target}: {where.name} has no such heading")
    return faults


def test_every_relative_link_resolves() -> None:
    pages = [path for path in checked_in() if path.suffix == ".md"]
    assert pages
    expect_none(f"{name_of(page)}: {fault}" for page in pages for fault in broken(page, page.read_text()))


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[a](missing.md)", ["missing.md is not there"]),
        ("[a](../../../../../../etc/hosts)", ["../../../../../../etc/hosts is not there"]),
        ("[a](#nowhere)\n# Here", ["#nowhere: page.md has no such heading"]),
        ("[a](#here-and-there)\n## Here, and `there`", []),
        ("[a](https://example.net/x) `[b](missing.md)`\n```\n[c](missing.md)\n```\n", []),
        ("[a](../README.md)", []),
    ],
)
def test_a_broken_link_is_found_and_no_other(text: str, faults: list[str]) -> None:
    assert broken(ROOT / "docs" / "page.md", text) == faults
