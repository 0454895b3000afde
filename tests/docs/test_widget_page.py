"""The page on the chat widget: its commands, its script in a page and its program, run against a real server."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest

from tests.checkout import ROOT
from tests.docs.consoles import BASE, play
from tests.server_process import ServerProcess

pytestmark = pytest.mark.service

PAGE = (ROOT / "docs" / "how-to" / "chat-widget.md").read_text()
PROGRAM_S = 20.0
OFF = "[limits]\nper_ip_rpm = 0\nper_credential_rpm = 0\n"

# As much of a browser as the script of the page uses.
BROWSER = """
const made = {};
const element = (name) =>
  (made[name] ??= { value: "", lines: [], append(line) { this.lines.push(line.textContent); } });
globalThis.document = { querySelector: element, createElement: (name) => ({ name, textContent: "" }) };
"""
SEND = """
const input = element("#text");
let prevented = 0;
for (const message of ["Where is my order?", " "]) {
  input.value = message;
  await element("#ask").onsubmit({ preventDefault() { prevented += 1; } });
}
console.log(JSON.stringify({ lines: element("#said").lines, prevented, left: input.value }));
"""


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One on which the page's commands were run."""
    folder = tmp_path_factory.mktemp("page")
    with ServerProcess(folder / ".dragoman", OFF) as running:
        play(PAGE, folder, {BASE: running.url})
        yield running


def told(server: ServerProcess, *words: str) -> str:
    command = [sys.executable, "-m", "dragoman", "--home", str(server.home), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=True).stdout.strip()


def test_the_form_shows_what_was_said_and_answered_and_what_went_wrong(server: ServerProcess) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    (script,) = re.findall(r"<script>\n(.*?)</script>", block("html"), re.DOTALL)
    script = script.replace(BASE, server.url).replace("CLIENT_ID", told(server, "projects", "client", "default"))
    ran = subprocess.run(
        [node, "--input-type=module", "-e", BROWSER + block("js") + script + SEND],
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    question, answer, blank, refusal = said["lines"]
    assert (question, blank, said["prevented"], said["left"]) == ("Where is my order?", " ", 2, "")
    assert "offline router" in answer
    assert refusal == "Invalid request body: message: must not be empty"


def test_the_program_signs_who_a_user_is(server: ServerProcess) -> None:
    env = {"PATH": os.environ["PATH"], "SECRET": told(server, "projects", "secret", "default")}
    ran = subprocess.run(
        [sys.executable, "-c", block("python")], env=env, capture_output=True, text=True, timeout=PROGRAM_S, check=True
    )
    headers = {"x-client-id": told(server, "projects", "client", "default"), "content-type": "application/json"}
    body = json.dumps({"userDataJwt": ran.stdout.strip()}).encode()
    with urlopen(Request(f"{server.url}/api/widget/v1/session/user", body, headers), timeout=PROGRAM_S) as answer:
        session = json.loads(answer.read())["sessionId"]
    begun = Request(f"{server.url}/api/widget/v1/chats", b"{}", {"authorization": f"Bearer {session}"})
    with urlopen(begun, timeout=PROGRAM_S) as answer:
        assert json.loads(answer.read())["userData"] == {"userId": "u-1", "userName": "Ana"}
