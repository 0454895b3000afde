"""The one door: make explains every target, says plainly what is missing, and CI goes through it like all others."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import ROOT

MAKE_S = 20.0

TARGETS = ["help", "demo", "run", "check", "test", "bless", "crash", "e2e", "bench", "docs", "build", "lock"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with what make reads and no environment yet."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    return tmp_path


def make(folder: Path, *words: str) -> tuple[int, str]:
    """Exit code and everything said. A make that runs these tests must not pass its own flags on."""
    program = shutil.which("make")
    if program is None:
        pytest.skip("make is not installed")
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        [program, *words],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MAKE_S,
        check=False,
    )
    return done.returncode, done.stdout


def test_make_alone_explains_every_target_with_its_time() -> None:
    code, said = make(ROOT)
    rows = [line.split() for line in said.splitlines() if line.startswith("  ")]
    assert (code, [row[0] for row in rows]) == (0, TARGETS)
    assert [row[0] for row in rows if row[0] != "help" and not row[-1].endswith(")")] == []


def test_every_target_is_phony_and_nothing_else_is() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None and phony[1].split() == TARGETS


@pytest.mark.parametrize("target", ["demo", "test"])
def test_a_python_that_is_too_old_is_named_with_what_to_do(copy: Path, target: str) -> None:
    old = copy / "python-of-old"
    patched = "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[2])"
    old.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{patched}' \"$@\"\n")
    old.chmod(0o755)
    code, said = make(copy, target, f"PYTHON={old}")
    assert (code, said.splitlines()[0]) == (
        2,
        f"Dragoman needs Python 3.11 or newer, and {old} is 3.9. Name another one: make PYTHON=python3.12",
    )
    assert not (copy / ".venv").exists()


def test_a_python_that_is_not_there_is_named_with_what_to_do(copy: Path) -> None:
    code, said = make(copy, "demo", "PYTHON=no-such-python")
    assert (code, said.splitlines()[0]) == (
        2,
        "There is no no-such-python here. Install Python 3.11 or newer, or name one: make PYTHON=python3.12",
    )


def test_demo_and_run_install_no_test_tools(copy: Path) -> None:
    for target in ("demo", "run"):
        code, said = make(copy, "--dry-run", target, f"PYTHON={sys.executable}")
        assert (code, "requirements/core.txt" in said, "requirements/dev.txt" in said) == (0, True, False)


def test_ci_checks_and_tests_through_make() -> None:
    script = ROOT / ".ci" / "run"
    lines = script.read_text().splitlines()
    assert (lines[0], lines[-2:]) == ("#!/usr/bin/env bash", ["make check", "make test"])
    assert "set -euo pipefail" in lines
    assert os.access(script, os.X_OK)
