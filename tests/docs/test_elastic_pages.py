"""The pages for clients of the Elastic API: their console blocks and Python programs, run against a real server."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import ROOT
from tests.docs.consoles import BASE, pattern_of, play, replaced
from tests.e2e.elastic_stage import chat_server, hook
from tests.e2e.packages import INSTALL_S, installed
from tests.server_process import ServerProcess

pytestmark = pytest.mark.service

PAGES = {name: ROOT / "docs" / "how-to" / f"{name}.md" for name in ("elastic-clients", "connectors", "knowledge")}
PROGRAM = re.compile(r"^```python\n(.*?)^```$\s+^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROGRAMS = PROGRAM.findall(PAGES["elastic-clients"].read_text())
PROGRAM_S = 20.0
OFF = "[limits]\nper_ip_rpm = 0\nper_credential_rpm = 0\n"


@dataclass
class Place:
    """A folder whose `.dragoman` is a server's home."""

    folder: Path
    server: ServerProcess


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("pages")
    with ServerProcess(folder / ".dragoman", OFF) as server:
        yield Place(folder, server)


@pytest.mark.parametrize("name", PAGES)
def test_every_command_answers_as_the_page_says(place: Place, name: str) -> None:
    asked: list[dict[str, Any]] = []
    sent: list[dict[str, Any]] = []
    with chat_server(asked) as model, hook(sent) as receiver:
        instead = {
            BASE: place.server.url,
            "http://127.0.0.1:11434/v1/chat/completions": model,
            "http://127.0.0.1:9999": receiver,
        }
        page = PAGES[name].read_text()
        play(page, place.folder, instead)
    assert (len(asked) > 0, len(sent) > 0) == (name == "connectors", name == "connectors")


def test_the_page_has_a_program_for_each_client() -> None:
    assert [re.findall(r"^from (\w+) import", program, re.MULTILINE)[0] for program, _ in PROGRAMS] == [
        "kibana",
        "kibana",
        "openai",
        "kibana",
    ]


@pytest.mark.timeout(INSTALL_S + 60)
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_every_program_prints_what_the_page_says(place: Place, number: int) -> None:
    program, expected = PROGRAMS[number]
    package = installed("openai" if "openai" in program else "kibana-py")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package), "CREDENTIAL": place.server.credential}
    ran = subprocess.run(
        [sys.executable, "-c", replaced(program, {BASE: place.server.url})],
        env=env,
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(pattern_of(expected), ran.stdout.strip(), re.DOTALL), ran.stdout
