"""Grafana's command line client as tests start it: with a home of its own, and neither browser nor keyring in reach."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.terminal import Terminal

RUN_S = 25.0
CONFIG = Path(".config") / "grafana-assistant" / "config.yaml"


class Cli:
    def __init__(self, program: str, home: Path, env: Mapping[str, str]) -> None:
        self._program = program
        self.home = home
        self._env = {"HOME": str(home), "PATH": str(home / "no-programs"), **env}

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *arguments],
            input=stdin,
            env=self._env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )

    def json(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """The exit code, and the lines of its output."""
        done = self.run(*arguments)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._program, *arguments],
            env=self._env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def open(self, *arguments: str) -> Terminal:
        """On a terminal."""
        return Terminal([self._program, *arguments], self._env, str(self.home))

    @property
    def config(self) -> Path:
        return self.home / CONFIG
