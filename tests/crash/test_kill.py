"""A real `kill -9` of a real server at every commit of a run, then a restart: what was acknowledged is there, and ends.

The fuse is in the process's environment: it kills itself at its nth commit, before or after the disk has it.
"""

import json
from pathlib import Path

import httpx
import pytest

from tests.server_process import ServerProcess

CONFIG = """
[models.main]
kind = "scripted"
file = "script.toml"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
"""

SCRIPT = """
[[reply]]
match = "result:|Replaced|Edited|unknown"
text = ["It is ", "done."]
[[reply]]
match = "tick it"
times = 1
text = ["Let me ", "see."]
calls = [
  { name = "edit_file", arguments = { path = "clock.txt", old = "tick", new = "ticktock" } },
  { name = "list_files", arguments = {} },
]
"""

COMMITS = 9
"""accept, two texts, the intents, two results, two texts, the end."""


def home_of(tmp_path: Path) -> Path:
    (tmp_path / "workspace").mkdir(parents=True)
    (tmp_path / "workspace" / "clock.txt").write_text("tick\n")
    (tmp_path / "script.toml").write_text(SCRIPT)
    return tmp_path


def chat(server: ServerProcess) -> str | None:
    """The session's key if the server acknowledged the turn (its first frame came), else None."""
    body = {"message": "tick it", "session_key": "s"}
    seen = b""
    try:
        with httpx.stream(
            "POST", f"{server.url}/api/v1/chat/stream", headers=server.headers, json=body, timeout=10
        ) as r:
            for chunk in r.iter_raw():
                seen += chunk
    except httpx.TransportError:
        pass
    return "s" if seen.startswith(b"event: start") else None


def settled(server: ServerProcess) -> list[dict[str, object]]:
    """The session's messages once no run is live."""
    with httpx.Client(base_url=server.url, headers=server.headers, timeout=10) as client:
        for _ in range(500):
            if client.get("/api/server").json()["live_runs"] == 0:
                break
        answer = client.get("/api/v1/sessions/s/messages")
    return answer.json()["messages"] if answer.status_code == 200 else []


POINTS = [("after_commit", nth) for nth in range(1, COMMITS + 1)] + [("before_commit", nth) for nth in (1, 5, 6, 9)]
"""After each commit; and before those whose loss shows: the turn itself, either tool's result, the end. Before another
commit is the same as after the one before it."""


@pytest.mark.parametrize(("point", "nth"), POINTS)
def test_a_killed_server_finishes_its_run_after_the_restart(tmp_path: Path, point: str, nth: int) -> None:
    home = home_of(tmp_path)
    server = ServerProcess(home, CONFIG, env={"DRAGOMAN_FUSES": f"*.{point}=kill@{nth}"})
    with server:
        acknowledged = chat(server)
        assert server.wait() == -9
    with ServerProcess(home, CONFIG) as server:
        messages = settled(server)
        assert server.stop() == 0
    if not messages:
        assert acknowledged is None and nth == 1 and point == "before_commit"
        return
    assert messages[0]["content"] == "tick it"
    assert messages[-1]["role"] == "assistant" and messages[-1]["content"]
    # A call that may take effect only once did so at most once, whatever came in between.
    assert (home / "workspace" / "clock.txt").read_text() in ("tick\n", "ticktock\n")
    assert json.dumps(messages).count('"tick it"') == 1
