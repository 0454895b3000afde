"""Upstream's runner of simulations and its receiver of webhooks, unmodified and as one commit of its repository has
them, against a live server.

They are in no registry. What they need is, but for Mongo: simulations are handed over, and nothing is looked up.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from os import environ
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.checkout import TESTS
from tests.e2e.packages import INSTALL_S, checked_out, installed
from tests.e2e.rowboat_stage import CHARGED, HARBOR, REFUND, Json, Stage, agents

pytestmark = [pytest.mark.service, pytest.mark.timeout(2 * INSTALL_S + 60)]

URL = "https://github.com/rowboatlabs/rowboat"
COMMIT = "97feb71869d338b6f1e03080a756192485e53f81"
TREE = "apps/experimental"
PATHS = (f"{TREE}/simulation_runner", f"{TREE}/tools_webhook", "LICENSE")
RUN_S = 60.0
READY_S = 20.0

ASKED: list[Json] = []
BALANCE = "has a balance of $123.45."
"""What the receiver knows of everybody."""

ACCOUNTS: Json = {
    "name": "Accounts",
    "agents": [
        {
            "name": "Account Desk",
            "type": "conversation",
            "description": "Reads accounts.",
            "instructions": "Your name is Account Desk. Ask [@tool:get_account_balance](#mention).",
            "model": "gpt-4o",
            "ragReturnType": "chunks",
            "ragK": 3,
            "controlType": "retain",
        }
    ],
    "prompts": [],
    "tools": [
        {
            "name": "get_account_balance",
            "description": "What somebody has.",
            "parameters": {"type": "object", "properties": {"user_id": {"type": "string", "description": "Whose"}}},
        }
    ],
    "startAgent": "Account Desk",
    "projectId": "3f0f7a52-5c0a-4a7e-9a27-2f6a0d4c9d11",
    "createdAt": "2025-04-10T09:00:00.000Z",
    "lastUpdatedAt": "2025-04-10T09:00:00.000Z",
}
"""In the manner of April 2025: a tool of no kind is a webhook."""


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


PORT = free_port()
"""Of the receiver, which is started once the project's secret is known."""


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    with agents(ASKED) as url:
        yield url


@pytest.fixture(scope="module")
def server(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    hook = f"http://127.0.0.1:{PORT}/tool_call"
    with Stage(tmp_path_factory.mktemp("home"), model=model, hook=hook) as stage:
        yield stage
    assert b"Traceback" not in stage.said


def environment(*packages: str, **more: str) -> dict[str, str]:
    kept = {name: environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in environ}
    path = ":".join((*map(str, map(installed, packages)), more.pop("PYTHONPATH", "")))
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": path, "NO_PROXY": "127.0.0.1", **more}


def test_simulation_runner_simulates_with_a_version_and_a_profile(server: Stage, model: str, tmp_path: Path) -> None:
    """Neither is the project's own choice: nothing is published, and the profile has every tool played."""
    runner = checked_out("rowboat", URL, COMMIT, *PATHS) / TREE / "simulation_runner"
    project = server.project("Simulated")
    workflow = server.workflow(project["id"], json.loads(HARBOR.read_text()), publish=False)
    profile = server.profile(
        project["id"], name="Ana", context="Name: Ana", mockTools=True, mockPrompt="It is always late."
    )
    ASKED.clear()
    env = environment(
        *("rowboat-3.1.0", "rowboat-needs", "rowboat-runner"),
        PYTHONPATH=str(runner),
        HOME=str(tmp_path),
        OPENAI_API_KEY="none",
        OPENAI_BASE_URL=model,
        ROWBOAT_API_HOST=server.url,
    )
    command = [sys.executable, str(TESTS / "clients" / "rowboat_simulation.py"), server.url, project["id"]]
    command += [project["credential"], workflow, profile]
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=RUN_S, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["verdict"], told["details"]) == ("pass", "It was looked up.")
    users = [each["content"] for each in told["transcript"] if each["role"] == "user"]
    answers = [each["content"] for each in told["transcript"] if each["role"] == "assistant"]
    assert users == [CHARGED, REFUND]
    assert [answer.partition(":")[0] for answer in answers] == ["Billing Desk heard", "Billing Desk heard"]
    shown = json.dumps(ASKED)
    assert "Name: Ana" in shown and "It is always late." in shown


@pytest.fixture
def receiver(server: Stage, tmp_path: Path) -> Iterator[Json]:
    """The project whose secret upstream's receiver knows."""
    tree = checked_out("rowboat", URL, COMMIT, *PATHS) / TREE
    project = server.project("Hooked")
    env = environment("rowboat-webhook", SIGNING_SECRET=project["secret"], HOME=str(tmp_path))
    command = [sys.executable, "-m", "flask", "--app", "tools_webhook.app", "run", "--host", "127.0.0.1"]
    log = tmp_path / "receiver.log"
    with log.open("wb") as said:
        process = subprocess.Popen([*command, "--port", str(PORT)], env=env, cwd=tree, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + READY_S
        while not listening(PORT):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield project
    finally:
        process.kill()
        process.wait()


def listening(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def ask(server: Stage, project: Json) -> Any:
    answer = httpx.post(
        f"{server.url}/api/v1/{project['id']}/chat",
        headers={"Authorization": f"Bearer {project['credential']}"},
        json={"messages": [{"role": "user", "content": "How much have I got?"}], "state": None},
        timeout=RUN_S,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["messages"]


def test_tools_webhook_takes_our_signature_and_answers(server: Stage, receiver: Json) -> None:
    server.workflow(receiver["id"], ACCOUNTS)
    call, result, text = ask(server, receiver)
    assert call["tool_calls"][0]["function"]["name"] == result["tool_name"] == "get_account_balance"
    assert f"User u-7 {BALANCE}" in result["content"]
    assert BALANCE in text["content"]


def test_tools_webhook_refuses_another_projects_signature(server: Stage, receiver: Json) -> None:
    """So it does look at it."""
    other = server.project("Other")
    server.workflow(other["id"], ACCOUNTS)
    _, result, text = ask(server, other)
    assert BALANCE not in result["content"] and BALANCE not in text["content"]
    assert "Signature verification failed" in result["content"] or "401" in result["content"]
