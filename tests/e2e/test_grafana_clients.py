"""The programs people use with Grafana's assistant, unmodified, against a live server: the command line client's
prompts, the MCP server, and what k6 Studio sends. The client's full screen, login and tunnel: test_grafana_terminal.py.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.grafana_client import Cli
from tests.e2e.grafana_stage import STORY_TEXT, SUB_PATH, WAIT_S, Stage
from tests.e2e.packages import INSTALL_S, binary

pytestmark = [pytest.mark.service, pytest.mark.timeout(INSTALL_S + 30)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("home")) as stage:
        yield stage
    assert b"Traceback" not in stage.said


@pytest.fixture
def cli(server: Stage, tmp_path: Path) -> Cli:
    program = binary("grafana-assistant")
    return Cli(program, tmp_path, {"GRAFANA_URL": server.url, "GRAFANA_SA_TOKEN": server.glsa})


def only(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in found if each["type"] == kind]


# -- grafana-assistant prompt ------------------------------------------------------------------------------------------


def test_a_prompt_is_answered_in_plain_text(cli: Cli) -> None:
    done = cli.run("prompt", "hello")
    assert done.returncode == 0, done.stderr
    assert "\n--- Response ---\n\nGood morning.\n" in done.stdout


def test_a_prompt_is_answered_in_json_lines(cli: Cli, server: Stage) -> None:
    code, lines = cli.json("prompt", "hello", "--json")
    assert code == 0
    task, context = lines[0]["taskId"], lines[0]["contextId"]
    named = {"taskId": task, "contextId": context}
    assert lines == [
        {"type": "status", **named, "state": "submitted"},
        {"type": "status", **named, "state": "working"},
        {"type": "message", **named, "text": "Good morning."},
        {"type": "status", **named, "state": "completed", "final": True},
    ]
    assert server.texts(context) == [("user", "hello"), ("assistant", "Good morning.")]
    assert server.chat(context)["source"] == "cli"


def test_a_prompt_is_answered_in_one_json_object(cli: Cli) -> None:
    done = cli.run("prompt", "hello", "--json", "--no-stream")
    said = json.loads(done.stdout)
    assert (done.returncode, said["status"], said["response"]) == (0, "completed", "Good morning.")
    assert said["taskId"] and said["contextId"]


def test_the_last_chat_is_continued(cli: Cli, server: Stage) -> None:
    first = json.loads(cli.run("prompt", "hello", "--json", "--no-stream").stdout)["contextId"]
    then = json.loads(cli.run("prompt", "and now?", "--continue", "--json", "--no-stream").stdout)
    assert (then["contextId"], then["response"]) == (first, "Still good.")
    assert [text for _, text in server.texts(first)] == ["hello", "Good morning.", "and now?", "Still good."]


def test_a_chat_begun_over_http_is_continued(cli: Cli, server: Stage) -> None:
    chat = server.ask("hello")
    server.until_done(chat)
    done = cli.run("prompt", "and now?", "--context", chat, "--json", "--no-stream")
    assert (done.returncode, json.loads(done.stdout)["response"]) == (0, "Still good.")
    assert [text for _, text in server.texts(chat)] == ["hello", "Good morning.", "and now?", "Still good."]


def test_a_prompt_of_nothing_is_answered(cli: Cli) -> None:
    """It holds only what the client adds by itself."""
    done = cli.run("prompt", "", "--json", "--no-stream")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "completed")


def test_a_server_below_a_path_is_reached(cli: Cli, server: Stage) -> None:
    done = cli.run("prompt", "hello", "--url", f"{server.url}{SUB_PATH}/", "--json", "--no-stream")
    assert (done.returncode, json.loads(done.stdout)["response"]) == (0, "Good morning.")


def test_a_wrong_credential_is_refused_with_the_servers_own_words(cli: Cli) -> None:
    done = cli.run("prompt", "hello", "--token", "glsa_wrong")
    assert done.returncode == 1
    status, _, body = (done.stdout + done.stderr).partition("HTTP 401: ")
    refusal = json.JSONDecoder().raw_decode(body)[0]
    assert status and refusal["status"] == "error" and refusal["message"] == refusal["error"]
    assert "credential" in refusal["message"]


def test_an_unknown_chat_cannot_be_continued(cli: Cli) -> None:
    done = cli.run("prompt", "hello", "--context", "no-such-chat")
    assert done.returncode == 1
    assert "failed to validate context: chat not found: no-such-chat" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("answer", "told", "said"),
    [("y\n", "Approved", "It is written."), ("n\n", "Denied", "Then I leave it."), ("", "", "Then I leave it.")],
)
def test_a_tool_runs_only_if_its_call_is_approved(cli: Cli, server: Stage, answer: str, told: str, said: str) -> None:
    made = server.home / "workspace" / "made.txt"
    made.unlink(missing_ok=True)
    done = cli.run("prompt", "write a file", stdin=answer)
    assert (done.returncode, made.exists()) == (0, answer == "y\n")
    assert "Approve write_file - " in done.stdout and told in done.stdout
    assert f"\n--- Response ---\n\n{said}\n" in done.stdout


def test_with_json_a_call_is_denied_by_the_client(cli: Cli, server: Stage) -> None:
    made = server.home / "workspace" / "made.txt"
    made.unlink(missing_ok=True)
    code, lines = cli.json("prompt", "write a file", "--json")
    assert (code, made.exists()) == (0, False)
    assert [(each["toolName"]) for each in only(lines, "approval")] == ["write_file"]
    assert [each["text"] for each in only(lines, "message")] == ["Then I leave it."]
    assert lines[-1]["state"] == "completed"


def test_a_tool_that_is_used_is_named(cli: Cli) -> None:
    code, lines = cli.json("prompt", "write a file", "--json")
    assert (code, [each["toolName"] for each in only(lines, "tool_call")]) == (0, ["write_file"])


def test_a_deadline_of_the_client_ends_the_client_only(cli: Cli, server: Stage) -> None:
    code, lines = cli.json("prompt", "take your time", "--json", "--timeout", "1")
    assert (code, lines[-1]) == (1, {"type": "error", "error": "timeout after 1s", "timeout": 1})
    with httpx.Client(headers=server.headers, trust_env=False) as admin:
        run = lines[0]["taskId"]
        assert admin.get(f"{server.url}/api/runs/{run}").json()["status"] == "running"
        assert admin.post(f"{server.url}/api/runs/{run}/cancel").is_success


def test_an_interrupted_client_leaves_its_answer_to_be_read(cli: Cli, server: Stage) -> None:
    with cli.start("prompt", "tell me a story", "--json") as process:
        assert process.stdout is not None
        chat = json.loads(process.stdout.readline())["contextId"]
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) != 0
    assert server.until_done(chat)[-1] == "AGENT_EXECUTION_COMPLETED"
    assert server.texts(chat)[-1] == ("assistant", STORY_TEXT)


# -- mcp-grafana -------------------------------------------------------------------------------------------------------


class Mcp:
    """mcp-grafana over stdio: one JSON a line."""

    def __init__(self, url: str, credential: str) -> None:
        env = {"PATH": os.environ["PATH"], "GRAFANA_URL": url, "GRAFANA_SERVICE_ACCOUNT_TOKEN": credential}
        command = [binary("mcp-grafana"), "-t", "stdio", "--enabled-tools", "assistant"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        )
        self._asked = 0
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        self._call("initialize", about)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def ask(self, **arguments: str) -> dict[str, Any]:
        return self._call("tools/call", {"name": "ask_assistant", "arguments": arguments})["result"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=WAIT_S)

    def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._asked += 1
        self._send({"jsonrpc": "2.0", "id": self._asked, "method": method, "params": params})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer.get("id") == self._asked:
                return answer
        raise AssertionError("mcp-grafana ended without an answer")

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()


def test_mcp_grafana_asks_and_asks_on(server: Stage) -> None:
    mcp = Mcp(server.url, server.glsa)
    try:
        first = json.loads(mcp.ask(prompt="hello")["content"][0]["text"])
        assert first["response"] == "Good morning."
        then = json.loads(mcp.ask(prompt="and now?", contextId=first["contextId"])["content"][0]["text"])
        assert then == {"response": "Still good.", "contextId": first["contextId"]}
    finally:
        mcp.close()
    assert [text for _, text in server.texts(first["contextId"])] == [
        "hello",
        "Good morning.",
        "and now?",
        "Still good.",
    ]


def test_mcp_grafana_says_that_its_credential_is_wrong(server: Stage) -> None:
    mcp = Mcp(server.url, "glsa_wrong")
    try:
        told = mcp.ask(prompt="hello")
    finally:
        mcp.close()
    assert told["isError"] is True
    assert "401" in told["content"][0]["text"]


# -- k6 Studio ---------------------------------------------------------------------------------------------------------

K6_EXTENSIONS = (
    "https://grafana.com/extensions/token-streaming/v1, https://grafana.com/extensions/remote-tool-execution/v1"
)
CLIENT_TOOLS = "https://grafana.com/extensions/client-provided-tools/v1"
RECORDING = {
    "name": "get_recording",
    "description": "The requests of a recording.",
    "inputSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
}


def k6_frames(server: Stage, prompt: str, *tools: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What comes on one `message/stream`, which asks as k6 Studio does: a number as id, and its own tools."""
    headers = {"X-App-Source": "k6-studio", "X-A2A-Extensions": K6_EXTENSIONS, "Accept": "text/event-stream"}
    message = {"kind": "message", "role": "user", "messageId": prompt, "parts": [{"kind": "text", "text": prompt}]}
    params = {"message": message, "metadata": {CLIENT_TOOLS: {"tools": tools}}}
    body = {"jsonrpc": "2.0", "id": 7, "method": "message/stream", "params": params}
    with (
        server.client as client,
        client.stream("POST", "/a2a/agents/grafana_assistant_k6_studio", headers=headers, json=body) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.startswith("data: "):
                frame = json.loads(line[6:])
                assert frame["id"] in (7, "7")
                yield frame["result"]


def artifact_names(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["artifact"]["name"] for frame in frames if frame.get("kind") == "artifact-update"]


def texts_of(frames: list[dict[str, Any]]) -> tuple[str, str]:
    """What the deltas say together, and what the messages say."""
    artifacts = [frame["artifact"] for frame in frames if frame.get("kind") == "artifact-update"]
    deltas = [each["parts"][0]["data"]["delta"] for each in artifacts if each["name"] == "message.content.delta"]
    whole = [each["parts"][0]["text"] for each in artifacts if each["name"] == "step.message"]
    return "".join(deltas), "".join(whole)


def test_k6_studio_is_told_the_answer_as_it_grows(server: Stage) -> None:
    frames = list(k6_frames(server, "tell me a story"))
    names = artifact_names(frames)
    assert texts_of(frames) == (STORY_TEXT, STORY_TEXT)
    assert names.count("message.content.delta") > 5
    at = [names.index(name) for name in ("message.stream.start", "step.message", "message.stream.complete")]
    assert at == sorted(at) and names[-1] == "step.complete"
    assert frames[-1]["status"]["state"] == "completed" and frames[-1]["final"] is True


def test_k6_studio_runs_its_own_tool_while_the_stream_stays_open(server: Stage) -> None:
    frames: list[dict[str, Any]] = []
    for frame in k6_frames(server, "record the session", RECORDING):
        frames.append(frame)
        if frame.get("type") != "REMOTE_TOOL_REQUEST":
            continue
        asked = frame["data"]
        assert (asked["toolName"], asked["toolInput"]) == ("get_recording", {"name": "first"})
        assert 0 < asked["timeoutMs"] <= 300_000
        answer = {"requestId": asked["requestId"], "chatId": asked["chatId"], "success": True}
        with server.client as client:
            posted = client.post("/a2a/remote-tool-response", json={**answer, "result": {"said": "37 requests"}})
        assert posted.status_code == 200, posted.text
    names = artifact_names(frames)
    asked_at = next(place for place, frame in enumerate(frames) if frame.get("type") == "REMOTE_TOOL_REQUEST")
    assert sorted(artifact_names(frames[:asked_at])[-2:]) == ["step.complete", "step.toolCall"]
    stops = [
        frame["artifact"]["parts"][0]["data"]["stopReason"]
        for frame in frames
        if frame.get("kind") == "artifact-update" and frame["artifact"]["name"] == "step.complete"
    ]
    assert (stops, names.count("step.message")) == (["tool_use", "end_turn"], 1)
    assert texts_of(frames) == ("There were 37 requests.", "There were 37 requests.")
    assert frames[-1]["status"]["state"] == "completed"


def test_k6_studio_cancels_what_it_asked(server: Stage) -> None:
    frames: list[dict[str, Any]] = []
    for frame in k6_frames(server, "take your time"):
        frames.append(frame)
        if frame["status"]["state"] == "working":
            body = {"jsonrpc": "2.0", "id": 8, "method": "tasks/cancel", "params": {"id": frame["taskId"]}}
            with server.client as client:
                assert client.post("/a2a/agents/grafana_assistant_k6_studio", json=body).status_code == 200
    assert [frame["status"]["state"] for frame in frames] == ["submitted", "working", "canceled"]
    assert frames[-1]["final"] is True
