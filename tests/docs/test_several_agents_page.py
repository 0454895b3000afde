"""The page on turns of several agents: its workflow is drawn as its picture shows, its commands print what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.core.workflows import CALLS_MAX
from dragoman.runtime.workflow import SWITCHES_MAX
from tests.checkout import ROOT
from tests.docs.consoles import BASE, play
from tests.server_process import ServerProcess

PAGE = (ROOT / "docs" / "turns-of-several-agents.md").read_text()
COMMAND_S = 15.0


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "claims.toml").write_text(block("text"))
    return tmp_path


def test_the_picture_is_what_the_command_draws(folder: Path) -> None:
    command = [sys.executable, "-m", "dragoman", "workflows", "graph", "claims.toml"]
    drawn = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=COMMAND_S, check=True)
    assert drawn.stdout == block("mermaid")


@pytest.mark.service
def test_every_command_prints_what_the_page_says(folder: Path) -> None:
    with ServerProcess(folder / ".dragoman") as server:
        play(PAGE, folder, {BASE: server.url})


def test_the_limits_are_those() -> None:
    assert re.search(rf"^\| hand-overs in one turn.* \| {SWITCHES_MAX} \|$", PAGE, re.MULTILINE)
    assert f"`maxCallsPerParentAgent`), {CALLS_MAX} unless" in PAGE
