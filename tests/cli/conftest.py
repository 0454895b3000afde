"""The command line on a home of its own, with a scripted model."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
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


def furnish(folder: Path) -> None:
    """A config with a scripted model, and a workspace with one file in it."""
    (folder / "dragoman.toml").write_text(CONFIG)
    (folder / "script.toml").write_text(SCRIPT)
    workspace = folder / ".dragoman" / "workspace"
    workspace.mkdir(parents=True)
    (folder / ".dragoman").chmod(0o700)
    (workspace / "notes.txt").write_text("remember the milk\n")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "CONFIG", "PEPPER", "SECRET_KEY", "URL", "CREDENTIAL"):
        monkeypatch.delenv(f"DRAGOMAN_{name}", raising=False)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    return CommandLine(tmp_path, capsys)


class Served:
    """A server in a process of its own, on the home in `folder`."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.folder = folder
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dragoman", "serve", *args],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        assert self.process.stderr is not None
        self.url = ""
        for line in self.process.stderr:
            self.log.append(line)
            if line.startswith("listening on "):
                self.url = line.removeprefix("listening on ").strip()
                break

    def stop(self) -> int:
        """SIGTERM; its exit code. The rest of what it said is added to `log`."""
        self.process.send_signal(signal.SIGTERM)
        _, rest = self.process.communicate(timeout=20)
        self.log.append(rest)
        return self.process.returncode


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for a whole file of tests."""
    folder = tmp_path_factory.mktemp("served")
    furnish(folder)
    server = Served(folder, "--listen", "127.0.0.1:0")
    yield server
    server.stop()


@pytest.fixture
def beside(served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line on the served home."""
    monkeypatch.chdir(served.folder)
    return CommandLine(served.folder, capsys)
