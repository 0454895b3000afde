"""The package and its locks: one version, everything aboard, every pin hashed, and a core install that stays small."""

import re
import tomllib
import zipfile
from email.parser import HeaderParser
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flit_core import buildapi

import dragoman
from tests.checkout import RECORDS, ROOT, SOURCE, expect_none, text_of

CORE_DISTRIBUTIONS_MAX = 25
LOCKS = ("core.txt", "build.txt", "dev.txt")

PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>\S+)(?P<marker> ;[^\\]*?)?(?P<hashes>( +--hash=\S+)*)\Z"
)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\Z")


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def normal(name: str) -> str:
    """A distribution's name in the one spelling that compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(lock: str) -> list[str]:
    """A lock file's entries, each on one line."""
    joined = (ROOT / "requirements" / lock).read_text().replace("\\\n", " ")
    return [re.sub(r"\s+", " ", line).strip() for line in joined.splitlines() if line.strip()]


def pins(lock: str) -> dict[str, str]:
    found = [PIN.match(entry) for entry in entries(lock)]
    return {normal(match["name"]): match["version"] for match in found if match is not None}


# -- locks -----------------------------------------------------------------------------------------------------------


def unhashed(lock_entries: list[str]) -> list[str]:
    """Entries that are not one exact version with at least one SHA-256 for it."""
    return [
        entry[:80]
        for entry in lock_entries
        if (match := PIN.match(entry)) is None
        or not match["hashes"]
        or not all(HASH.match(each) for each in match["hashes"].split())
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_of_a_lock_is_one_version_with_its_hashes(lock: str) -> None:
    assert entries(lock)
    expect_none(unhashed(entries(lock)))


@pytest.mark.parametrize(
    "entry",
    [
        "click",
        "click==8.5.1",
        "click>=8 --hash=sha256:" + "0" * 64,
        "click==8.5.1 --hash=md5:" + "0" * 32,
        "-r other.txt",
    ],
)
def test_an_entry_without_version_or_hash_would_be_found(entry: str) -> None:
    assert unhashed([entry]) == [entry[:80]]


def test_the_core_install_stays_small() -> None:
    assert len(entries("core.txt")) <= CORE_DISTRIBUTIONS_MAX


def test_the_core_lock_holds_what_the_package_asks_for() -> None:
    asked = {normal(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in pyproject()["project"]["dependencies"]}
    assert asked - pins("core.txt").keys() == set()


def test_tests_run_with_the_versions_that_servers_run_with() -> None:
    dev = pins("dev.txt")
    runtime = {**pins("core.txt"), **pins("build.txt")}
    assert {name: dev.get(name) for name in runtime} == runtime


def test_every_dependency_has_a_decision_record() -> None:
    records = "\n".join(text_of(path) or "" for path in RECORDS.glob("0*.md")).lower()
    asked = [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in pyproject()["project"]["dependencies"]]
    expect_none(name for name in asked if name.lower() not in records)


# -- the package -----------------------------------------------------------------------------------------------------


def test_the_version_stands_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = pyproject()["project"]
    assert ("version" in project, project["dynamic"]) == (False, ["version"])
    monkeypatch.chdir(ROOT)
    folder = tmp_path / buildapi.prepare_metadata_for_build_wheel(str(tmp_path))
    assert HeaderParser().parsestr((folder / "METADATA").read_text())["Version"] == dragoman.__version__


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{dragoman.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    folder.mkdir()
    return folder / buildapi.build_wheel(str(folder))


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(built(tmp_path / "one", monkeypatch)) as wheel:
        aboard = set(wheel.namelist())
    assert {name for name in aboard if ".dist-info/" not in name} == source


def test_the_same_checkout_gives_the_same_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = built(tmp_path / "one", monkeypatch), built(tmp_path / "two", monkeypatch)
    assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())
