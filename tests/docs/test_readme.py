"""The README's console blocks, run in order against a real server; `…` stands for anything. What a command puts into a
variable is there for those that follow."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

README = Path(__file__).parent.parent.parent / "README.md"
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SHELL = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_ASSIGNED = re.compile(r"([A-Z]+)=")
BASE = "http://127.0.0.1:8080"


def commands() -> list[tuple[str, str]]:
    """Each command of the console blocks with the answer that follows it."""
    found: list[tuple[str, str]] = []
    for block in _CONSOLE.findall(README.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            match = re.match(r"((?:.*\\\n)*.*\n)", part)
            assert match is not None
            found.append((match[1], part[match.end() :]))
    return found


def pattern_of(expected: str) -> str:
    return ".*?".join(re.escape(piece) for piece in expected.strip().split("…"))


@pytest.mark.service
def test_every_command_answers_as_the_readme_says(tmp_path: Path) -> None:
    for program in ("curl", "sh"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    with ServerProcess(tmp_path / ".dragoman") as server:
        (prelude,) = _SHELL.findall(README.read_text())
        for command, expected in commands():
            assigned = _ASSIGNED.match(command)
            shown = f'printf %s "${assigned[1]}"' if assigned else ""
            script = f"{prelude}\n{command}{shown}".replace(BASE, server.url)
            ran = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=10)
            assert ran.returncode == 0, ran.stderr
            if assigned:
                assert ran.stdout, command
                prelude += f"{assigned[1]}={shlex.quote(ran.stdout)}\n"
                continue
            assert re.fullmatch(pattern_of(expected), ran.stdout.strip(), re.DOTALL), f"{command}\n{ran.stdout}"


def test_the_readme_has_commands_to_run() -> None:
    assert len(commands()) >= 30
