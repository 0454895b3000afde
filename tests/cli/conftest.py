"""The command line on a home of its own, with a scripted model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dragoman.cli.main import main

CONFIG = """
[models.main]
kind = "scripted"
file = "script.toml"
[models.spare]
kind = "offline"
"""

SCRIPT = """
[[reply]]
match = "which files"
times = 1
text = ["I ", "look."]
calls = [{ name = "list_files", arguments = {} }]
usage = { prompt_tokens = 5, completion_tokens = 3 }

[[reply]]
match = "notes.txt"
text = "There is notes.txt."
usage = { prompt_tokens = 9, completion_tokens = 4 }

[[reply]]
match = "break"
fault = "upstream_refused"
"""


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """`run` is what a person types, without `dragoman`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.home = folder / ".dragoman"
        self._capsys = capsys

    def run(self, *args: str) -> Done:
        self._capsys.readouterr()
        code = main(args)
        captured = self._capsys.readouterr()
        return Done(code, captured.out, captured.err)

    def ok(self, *args: str) -> Done:
        done = self.run(*args)
        assert done.code == 0, done.err
        return done


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    for name in ("HOME", "CONFIG", "PEPPER", "URL", "CREDENTIAL"):
        monkeypatch.delenv(f"DRAGOMAN_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dragoman.toml").write_text(CONFIG)
    (tmp_path / "script.toml").write_text(SCRIPT)
    workspace = tmp_path / ".dragoman" / "workspace"
    workspace.mkdir(parents=True)
    (tmp_path / ".dragoman").chmod(0o700)
    (workspace / "notes.txt").write_text("remember the milk\n")
    return CommandLine(tmp_path, capsys)
