"""All 17 releases of `rowboat`, unmodified, against one live server; and the reference page's curl."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from os import environ
from typing import Any

import pytest

from tests.checkout import TESTS
from tests.e2e.packages import INSTALL_S, installed
from tests.e2e.rowboat_stage import CHARGED, HARBOR, LOST, REFUND, Json, Stage, agents
from tests.rowboat_webhook import Receiver, webhook_receiver

pytestmark = [pytest.mark.service, pytest.mark.timeout(INSTALL_S + 60)]

RUN_S = 40.0
RELEASES = (
    *("0.1.0", "0.2.0", "0.2.1"),
    *("1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.4", "1.0.5", "1.0.6"),
    *("2.0.0", "2.1.0", "3.0.0", "3.1.0", "4.0.0"),
    *("5.0.0", "5.0.1"),
)
KEEPS_THE_HISTORY = ("5.0.0", "5.0.1")
"""For these the server does."""

Told = Callable[[str], Any]


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(hook: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with agents([]) as model, Stage(tmp_path_factory.mktemp("home"), model=model, hook=hook.url) as stage:
        yield stage
    assert b"Traceback" not in stage.said


@pytest.fixture(scope="module")
def project(server: Stage, hook: Receiver) -> Json:
    made = server.project("Harbor")
    server.workflow(made["id"], json.loads(HARBOR.read_text()))
    hook.secret = made["secret"]
    hook.results["create_refund"] = {"refund": "R-1"}
    return made


@pytest.fixture(scope="module")
def told(server: Stage, project: Json) -> Told:
    """What a release had to tell, each asked once."""
    kept: dict[str, Any] = {}

    def of(release: str) -> Any:
        if release not in kept:
            path = f"{installed(f'rowboat-{release}')}:{installed('rowboat-needs')}"
            command = [sys.executable, str(TESTS / "clients" / "rowboat_client.py"), server.url, project["id"]]
            command += [project["credential"], CHARGED, REFUND]
            env = {**environ, "PYTHONPATH": path, "NO_PROXY": "127.0.0.1"}
            done = subprocess.run(
                command, env=env, capture_output=True, text=True, timeout=RUN_S, check=False, encoding="utf-8"
            )
            assert done.returncode == 0, done.stderr
            kept[release] = json.loads(done.stdout.splitlines()[-1])
        return kept[release]

    return of


@pytest.mark.parametrize("release", RELEASES)
def test_rowboat_holds_a_conversation(told: Told, release: str) -> None:
    """The hand-over, the order that is looked up, and the refund through the webhook, in letters of any kind."""
    said = told(release)
    turns = said["turns"]
    assert said["version"] == release
    first, second = turns["texts"]
    assert first.startswith(f"Billing Desk heard: {CHARGED}") and '"charges": 2' in first
    assert second.startswith(f"Billing Desk heard: {REFUND}") and "R-1" in second
    assert turns["counts"] == [5, 3]
    assert turns["tools"] == ["transfer_to_agent", "get_order", "create_refund"]
    if release in KEEPS_THE_HISTORY:
        assert len(set(turns["conversations"])) == 1 and len(set(turns["ids"])) == 2
    elif release == "4.0.0":
        assert turns["state"] is None, "in this generation there is none"
    else:
        assert turns["senders"] == ["Billing Desk", "Billing Desk"]
        assert turns["state"]["last_agent_name"] == "Billing Desk"
        assert turns["state"]["tokens"]["total"] > 15, "both turns count"


@pytest.mark.parametrize("release", [each for each in RELEASES if each not in KEEPS_THE_HISTORY])
def test_rowboats_stateful_chat_holds_one(told: Told, release: str) -> None:
    """Up to 3.0.0 it sends the last answer and no more: then the state alone says who speaks."""
    first, second = told(release)["stateful"]
    assert first.startswith(f"Billing Desk heard: {CHARGED}")
    assert second.startswith(f"Billing Desk heard: {REFUND}")


@pytest.mark.parametrize("release", ["4.0.0", "5.0.0", "5.0.1"])
def test_rowboat_has_a_tool_played(told: Told, release: str) -> None:
    """As the caller wants it, which upstream's server ignored from 2025-08-07 on."""
    played = told(release)["played"]
    assert played["tools"] == ["transfer_to_agent", "get_order"]
    assert LOST in played["text"]


@pytest.mark.parametrize("release", RELEASES)
def test_rowboat_is_refused_with_a_wrong_key(told: Told, release: str) -> None:
    assert told(release)["refused"] == 'Error: 403 - {"error":"Invalid API key"}'


def test_webhooks_of_all_of_them_were_signed(told: Told, hook: Receiver) -> None:
    told("3.1.0")
    assert hook.refused == []
    assert {call.name for call in hook.received} == {"create_refund"}


# -- the reference page ------------------------------------------------------------------------------------------------


def curl(server: Stage, project: Json, body: Json) -> tuple[int, Any]:
    """The page's command but for its host, project and key."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}", "--max-time", "20"]
    command += ["--location", f"{server.url}/api/v1/{project['id']}/chat"]
    command += ["--header", "Content-Type: application/json"]
    command += ["--header", f"Authorization: Bearer {project['credential']}", "--data", json.dumps(body, indent=4)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    answer, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(answer)


def test_rowboat_pages_curl_asks_twice(server: Stage, project: Json) -> None:
    question = {"role": "user", "content": "Hello, can you help me?"}
    status, first = curl(server, project, {"messages": [question], "state": None})
    assert status == 200
    (answer,) = first["messages"]
    assert (answer["role"], answer["agenticResponseType"]) == ("assistant", "external")
    assert first["state"]["last_agent_name"] == "Front Desk"
    more = {"role": "user", "content": "What services do you offer?"}
    status, second = curl(server, project, {"messages": [question, answer, more], "state": first["state"]})
    assert status == 200
    assert "What services do you offer?" in second["messages"][-1]["content"]


def test_rowboat_pages_curl_is_refused(server: Stage, project: Json) -> None:
    question = {"messages": [{"role": "user", "content": "Hello"}], "state": None}
    assert curl(server, {**project, "credential": "nope"}, question) == (403, {"error": "Invalid API key"})
    assert curl(server, project, {"state": None})[0] == 400
