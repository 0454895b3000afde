"""`dragoman demo`."""

from pathlib import Path
from typing import TextIO

import pytest


@pytest.mark.parametrize("code", [0, 1])
def test_it_runs_in_a_home_of_its_own_that_is_gone_afterwards(cli, code: int, monkeypatch: pytest.MonkeyPatch):
    seen: list[Path] = []

    def run_demo(home: Path, out: TextIO) -> int:
        home.mkdir()
        seen.append(home)
        out.write("ran\n")
        return code

    monkeypatch.setattr("dragoman.server.demo.run_demo", run_demo)
    done = cli.run("demo")

    assert (done.code, done.out) == (code, "ran\n")
    assert not seen[0].exists()
    assert cli.home not in seen[0].parents
