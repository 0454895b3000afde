"""The README's console blocks, run in order against a real server."""

from pathlib import Path

import pytest

from tests.checkout import ROOT
from tests.docs.consoles import BASE, commands, play
from tests.server_process import ServerProcess

README = ROOT / "README.md"


@pytest.mark.service
def test_every_command_answers_as_the_readme_says(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / ".dragoman") as server:
        play(README.read_text(), tmp_path, {BASE: server.url})


def test_the_readme_has_commands_to_run() -> None:
    assert len(commands(README.read_text())) >= 35
