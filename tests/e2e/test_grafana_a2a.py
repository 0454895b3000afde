"""Generic A2A tools, unmodified, against a live server: the SDK's own client, and a linter that talks to the agent."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.checkout import TESTS
from tests.e2e.between import Between
from tests.e2e.grafana_stage import STORY_TEXT, Stage
from tests.e2e.packages import INSTALL_S, installed, python_env

pytestmark = [pytest.mark.service, pytest.mark.timeout(INSTALL_S + 60)]

RUN_S = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("home")) as stage:
        yield stage
    assert b"Traceback" not in stage.said


def sdk(server: Stage, scenario: str, prompt: str) -> list[dict[str, Any]]:
    """What the SDK's client was given."""
    command = [sys.executable, str(TESTS / "clients" / "a2a_client.py"), server.url, server.glsa, scenario, prompt]
    env = python_env("a2a-sdk")
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def states_of(answers: list[dict[str, Any]]) -> list[str]:
    return [each["statusUpdate"]["status"]["state"] for each in answers if "statusUpdate" in each]


def text_of(answers: list[dict[str, Any]]) -> str:
    artifacts = [each["artifactUpdate"]["artifact"] for each in answers if "artifactUpdate" in each]
    return text_in(artifacts)


def text_in(artifacts: list[dict[str, Any]]) -> str:
    return "".join(part["text"] for each in artifacts if each["name"] == "step.message" for part in each["parts"])


def test_the_sdks_client_reads_a_stream(server: Stage) -> None:
    answers = sdk(server, "stream", "hello")
    assert states_of(answers) == ["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING", "TASK_STATE_COMPLETED"]
    assert text_of(answers) == "Good morning."


def test_the_sdks_client_waits_for_the_whole_answer(server: Stage) -> None:
    (answer,) = sdk(server, "block", "hello")
    assert answer["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert text_in(answer["task"]["artifacts"]) == "Good morning."
    said = server.texts(answer["task"]["contextId"])
    assert said == [("user", "hello"), ("assistant", "Good morning.")]


def test_the_sdks_client_reads_a_task_afterwards(server: Stage) -> None:
    *answers, task = sdk(server, "get", "hello")
    assert (task["id"], task["status"]["state"]) == (answers[0]["statusUpdate"]["taskId"], "TASK_STATE_COMPLETED")
    assert text_in(task["artifacts"]) == "Good morning."


def test_the_sdks_client_cancels_a_task(server: Stage) -> None:
    cancelled, afterwards = sdk(server, "cancel", "take your time")
    assert cancelled["status"]["state"] == afterwards["status"]["state"] == "TASK_STATE_CANCELED"
    assert cancelled["id"] == afterwards["id"]


def test_the_sdks_client_comes_back_to_a_task(server: Stage) -> None:
    answers = sdk(server, "resubscribe", "tell me a story")
    assert states_of(answers)[-1] == "TASK_STATE_COMPLETED"
    assert text_of(answers) == STORY_TEXT


def test_the_linter_finds_nothing_wrong(server: Stage) -> None:
    """It knows of no credentials, so something between puts one into its requests."""
    program = "import sys; from a2a_lint.cli import main; sys.exit(main())"
    assert installed("a2a-lint")
    with Between(server.port, headers={"Authorization": f"Bearer {server.glsa}"}) as between:
        command = [sys.executable, "-c", program, between.url, "--live", "--strict", "--json"]
        done = subprocess.run(command, env=python_env("a2a-lint"), capture_output=True, text=True, timeout=RUN_S)
    said = json.loads(done.stdout)
    assert (done.returncode, said["summary"]) == (0, {"errors": 0, "warnings": 0, "grade": "A"}), said["findings"]
    assert said["liveRoundTripMs"] >= 0 and said["streamEvents"] >= 3
