"""The page on simulations: its files are written as it says, its commands print what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.server.simulation_files import FILE_BYTES_MAX, SIMULATIONS_MAX, read_suite
from tests.checkout import ROOT
from tests.docs.consoles import commands, pattern_of

PAGE = (ROOT / "docs" / "how-to" / "simulations.md").read_text()
FILES = re.compile(r"as `([\w-]+\.toml)`:\n\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = re.compile(r"^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND_S = 20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for name, body in FILES.findall(PAGE):
        (folder / name).write_text(body)
    return folder


def test_every_command_prints_what_the_page_says(folder: Path) -> None:
    assert [name for name, _ in FILES.findall(PAGE)] == ["shop.toml", "shop-tests.toml", "lost.toml"]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    env = {name: value for name, value in os.environ.items() if not name.startswith("DRAGOMAN_")} | {"PATH": path}
    asked = commands(PAGE)
    assert len(asked) == 5
    for command, expected in asked:
        ran = subprocess.run(
            ["sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"
        assert re.fullmatch(pattern_of(expected), ran.stdout.strip(), re.DOTALL), f"{command}\n{ran.stdout}"


def test_the_file_for_models_can_be_read_and_the_limits_are_those() -> None:
    (shown,) = [body for body in BLOCKS.findall(PAGE) if "[scenarios." in body]
    (simulation,) = read_suite(shown.encode(), "page").simulations
    assert (simulation.turns, simulation.scenario.name, len(simulation.says)) == (5, "impatient", 1)
    assert f"{SIMULATIONS_MAX} simulations" in PAGE and f"{FILE_BYTES_MAX // 1024**2} MiB" in PAGE
