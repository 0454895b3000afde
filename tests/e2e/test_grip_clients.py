"""Clients that do just what the Grip reference page's examples do, against a live server over real sockets.

The Python example is httpx reading lines; the JavaScript example is run by Node, where that is installed.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server_process import ServerProcess

SCRIPT = Path(__file__).parent.parent / "clients" / "grip_stream.mjs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("home")
    workspace = home / "workspace"
    workspace.mkdir()
    for name in ("README.md", "config.json"):
        (workspace / name).write_text("{}\n")
    with ServerProcess(home) as process:
        yield process


def events_of(lines: Iterator[str]) -> list[tuple[str, Any]]:
    """The page's Python example, gathering instead of printing."""
    events: list[tuple[str, Any]] = []
    event_type = ""
    for line in lines:
        if line.startswith("event: "):
            event_type = line[7:]
        elif line.startswith("data: "):
            events.append((event_type, json.loads(line[6:])))
    return events


def shape_of(events: list[Any]) -> list[str]:
    """The names in order, runs of tokens folded into one."""
    names: list[str] = []
    for name, _ in events:
        if not (names and names[-1] == name == "token"):
            names.append(name)
    return names


def test_the_pages_blocking_request_is_answered_with_a_tool_really_run(server: ServerProcess) -> None:
    body = {"message": "List all files in the workspace", "session_key": "my-session", "model": "claude-4.5-sonnet"}
    answer = httpx.post(f"{server.url}/api/v1/chat", headers=server.headers, json=body, timeout=10)
    assert answer.status_code == 200
    said = answer.json()
    assert list(said) == ["response", "iterations", "usage", "tool_calls_made", "session_key"]
    assert (said["iterations"], said["tool_calls_made"], said["session_key"]) == (2, ["list_files"], "my-session")
    assert "README.md" in said["response"] and "config.json" in said["response"]


def test_the_pages_python_client_reads_the_stream(server: ServerProcess) -> None:
    payload = {"message": "What's the current weather?", "session_key": "weather-session"}
    url = f"{server.url}/api/v1/chat/stream"
    with httpx.stream("POST", url, headers=server.headers, json=payload, timeout=10) as response:
        assert response.status_code == 200
        events = events_of(response.iter_lines())
    assert shape_of(events) == ["start", "token", "message", "done"]
    assert events[0][1] == {"session_key": "weather-session"}
    assert "".join(data["text"] for name, data in events if name == "token") == events[-2][1]["text"]
    assert sorted(events[-1][1]) == ["iterations", "tool_calls_made", "usage"]


@pytest.mark.service
def test_the_pages_javascript_client_reads_the_stream(server: ServerProcess) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    body = json.dumps({"message": "list the files please", "session_key": "doc-session"})
    url = f"{server.url}/api/v1/chat/stream"
    ran = subprocess.run([node, str(SCRIPT), url, server.credential, body], capture_output=True, timeout=20, check=True)
    seen = json.loads(ran.stdout)
    assert seen["status"] == 200
    assert shape_of(seen["events"]) == ["start", "tool_start", "tool_end", "token", "message", "done"]
    assert seen["events"][-1][1]["tool_calls_made"] == ["list_files"]
