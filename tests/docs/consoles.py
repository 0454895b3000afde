"""The console blocks of a page: each command with the answer that follows it, `…` standing for anything.

They are run in order; what a command puts into a variable is there for those that follow.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

BASE = "http://127.0.0.1:8080"
"""The server, as pages write it."""
COMMAND_S = 10.0

_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SHELL = re.compile(r"^```sh\n(export .*?)^```$", re.DOTALL | re.MULTILINE)
_ASSIGNED = re.compile(r"([A-Z]+)=")


def commands(page: str) -> list[tuple[str, str]]:
    """A command goes on in the next line behind a backslash, or while a quotation is open."""
    found: list[tuple[str, str]] = []
    for block in _CONSOLE.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            taken = 1
            while not _complete("".join(lines[:taken])):
                taken += 1
            found.append(("".join(lines[:taken]), "".join(lines[taken:])))
    return found


def _complete(command: str) -> bool:
    if command.endswith("\\\n"):
        return False
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def pattern_of(expected: str) -> str:
    return ".*?".join(re.escape(piece) for piece in expected.strip().split("…"))


def play(page: str, folder: Path, instead: Mapping[str, str]) -> None:
    """Run every command in the folder, whose `.dragoman` is the server's home, with texts put in the place of others,
    and hold what it prints against the page."""
    for program in ("curl", "sh"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    (prelude,) = _SHELL.findall(page)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    env = {name: value for name, value in os.environ.items() if not name.startswith("DRAGOMAN_")} | {"PATH": path}
    for command, expected in commands(page):
        assigned = _ASSIGNED.match(command)
        shown = f'printf %s "${assigned[1]}"' if assigned else ""
        script = replaced(f"{prelude}\n{command}{shown}", instead)
        ran = subprocess.run(
            ["sh", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"
        if assigned:
            assert ran.stdout, command
            prelude += f"{assigned[1]}={shlex.quote(ran.stdout)}\n"
            continue
        assert re.fullmatch(pattern_of(replaced(expected, instead)), ran.stdout.strip(), re.DOTALL), (
            f"{command}\n{ran.stdout}"
        )


def replaced(text: str, instead: Mapping[str, str]) -> str:
    for old, new in instead.items():
        text = text.replace(old, new)
    return text
