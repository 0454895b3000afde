"""The pages for clients of the Rowboat API: their console blocks and Python programs, run against a real server."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.checkout import ROOT
from tests.docs.consoles import BASE, commands, pattern_of, play, replaced
from tests.e2e.packages import INSTALL_S, installed
from tests.server_process import ServerProcess

pytestmark = pytest.mark.service

PAGE = (ROOT / "docs" / "how-to" / "rowboat-clients.md").read_text()
MIGRATION = ROOT / "docs" / "how-to" / "from-rowboat.md"
PROJECT = "3f0f7a52-5c0a-4a7e-9a27-2f6a0d4c9d11"
PROGRAM = re.compile(
    r"rowboat==([\d.]+)`[^\n]*:\n\n```python\n(.*?)^```$\s+^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
PROGRAMS = PROGRAM.findall(PAGE)
PROGRAM_S = 30.0
OFF = "[limits]\nper_ip_rpm = 0\nper_credential_rpm = 0\n"


@dataclass
class Place:
    """A server on which the page's commands were run. `key` is one of the page's project."""

    server: ServerProcess
    key: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("page")
    with ServerProcess(folder / ".dragoman", OFF) as server:
        play(PAGE, folder, {BASE: server.url})
        words = ["credentials", "create", "programs", "--project", PROJECT, "--json"]
        command = [sys.executable, "-m", "dragoman", "--home", str(server.home), *words]
        made = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=True)
        yield Place(server, json.loads(made.stdout)["credential"])


def test_the_commands_left_what_the_page_speaks_of(place: Place) -> None:
    """That they answer as the page says was seen when they were run."""
    assert len(commands(PAGE)) >= 14
    asked = Request(f"{place.server.url}/api/v1/{PROJECT}/chat", b'{"messages": []}', bearer(place.key))
    with urlopen(asked, timeout=PROGRAM_S) as answer:
        told = json.loads(answer.read())
    assert told["messages"][-1]["content"] == "Ahoy! What can I do for you?", "the draft was not published"


def test_the_page_has_a_program_for_the_reference_pages_release_and_for_the_last() -> None:
    assert [release for release, _, _ in PROGRAMS] == ["3.1.0", "5.0.1"]


@pytest.mark.timeout(INSTALL_S + 60)
@pytest.mark.parametrize(("release", "program", "expected"), PROGRAMS)
def test_every_program_prints_what_the_page_says(place: Place, release: str, program: str, expected: str) -> None:
    path = f"{installed(f'rowboat-{release}')}:{installed('rowboat-needs')}"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "PROJECT": PROJECT, "KEY": place.key}
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


def test_the_migrations_commands_answer_as_it_says_and_what_is_not_here_is_not(tmp_path: Path) -> None:
    page = MIGRATION.read_text()
    absent = re.findall(r"^\| .*?`(GET|POST) (/\S+)`.* \| 404 \|", page, re.MULTILINE)
    with ServerProcess(tmp_path / ".dragoman", OFF) as server:
        play(page, tmp_path, {BASE: server.url})
        assert len(absent) == 2
        for method, path in absent:
            asked = Request(server.url + path.replace("{id}", "x"), headers=bearer(server.credential), method=method)
            with pytest.raises(HTTPError) as refused:
                urlopen(asked, timeout=PROGRAM_S)
            refused.value.close()
            assert refused.value.code == 404, path


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", "content-type": "application/json"}
