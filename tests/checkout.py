"""The checkout as tests about the project itself see it: its files, and the records in docs/decisions."""

import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "dragoman"
TESTS = ROOT / "tests"
RECORDS = ROOT / "docs" / "decisions"

LS_FILES_S = 20.0
"""A listing that takes longer has hung."""


@cache
def checked_in() -> tuple[Path, ...]:
    """Files git tracks or would track, absolute, sorted. Skips the test where there is no git checkout."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, or no git: which files belong to the project cannot be told")
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=LS_FILES_S,
    )
    paths = (ROOT / name.decode() for name in listed.stdout.split(b"\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


@cache
def sources() -> tuple[Path, ...]:
    """Every module of the package, sorted."""
    return tuple(sorted(SOURCE.rglob("*.py")))


def name_of(path: Path) -> str:
    """A path as people write it: relative to the checkout, with slashes."""
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str | None:
    """The file's text; None if it holds none (a picture, a recording)."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        return None


def expect_none(faults: Iterable[str]) -> None:
    """Fail with every fault on a line of its own: a list comparison would show only the first."""
    found = list(faults)
    assert not found, "\n" + "\n".join(found)
