"""A live server for clients of the Grafana dialect: a scripted model, an agent that asks before it writes, a credential
as the reference page has it made, and what stands for Prometheus."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.server_process import ServerProcess

PAGE_HOST = "https://your-stack.grafana.net"
"""The host in the reference page's examples."""
RESOURCES = "/api/plugins/grafana-assistant-app/resources"
API = f"{RESOURCES}/api/v1"
EVENTS = f"{RESOURCES}/api/events"
SUB_PATH = "/grafana"
"""Under which everything is served a second time."""
WAIT_S = 15.0

STORY = [f"Word {number} of the story. " for number in range(1, 31)]
STORY_TEXT = "".join(STORY)
PAUSE_S = 0.04
"""Between two words of the story."""
SECRET = "xylophone"
"""Stands in a file on the client's machine and nowhere else."""

_SCRIPT = f"""
[[reply]]
match = "hello"
text = ["Good ", "morning."]

[[reply]]
match = "and now"
text = "Still good."

[[reply]]
match = "datasources"
text = ["You have ", "5 datasources ", "configured."]

[[reply]]
match = "tell me a story"
text = {json.dumps(STORY)}
delay_s = PAUSE

[[reply]]
match = "take your time"
text = "At last."
delay_s = 60

[[reply]]
match = "write a file"
calls = [{{ name = "write_file", arguments = {{ path = "made.txt", content = "made" }} }}]

[[reply]]
match = "(?i)denied|approve"
text = "Then I leave it."

[[reply]]
match = "made.txt"
text = "It is written."

[[reply]]
match = "show me the load"
calls = [{{ name = "query_prometheus", arguments = {{ expr = "up", startTime = "now-1h", endTime = "now" }} }}]

[[reply]]
match = '"matrix"'
text = "This is the load."

[[reply]]
match = "read my notes"
calls = [{{ name = "filesystem_read_file", arguments = {{ project = "my-app", path = "notes.txt" }} }}]

[[reply]]
match = "{SECRET}"
text = "Your notes speak of a {SECRET}."

[[reply]]
match = "record the session"
calls = [{{ name = "get_recording", arguments = {{ name = "first" }} }}]

[[reply]]
match = "37 requests"
text = ["There were ", "37 requests."]
"""


def config(prometheus: str = "") -> str:
    connection = f'[connections.prom]\nkind = "prometheus"\nurl = "{prometheus}"\n' if prometheus else ""
    return f"""
[server]
base_path = "{SUB_PATH}"
[models.main]
kind = "scripted"
file = "script.toml"
[agents.assistant]
ask = ["workspace.write_file"]
approval = "20s"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
{connection}"""


class Stage(ServerProcess):
    """The server, and what a person with a credential for it can do."""

    def __init__(
        self, home: Path, *, prometheus: str = "", listen: str = "127.0.0.1:0", pause_s: float = PAUSE_S
    ) -> None:
        super().__init__(home, config(prometheus), listen=listen)
        (home / "script.toml").write_text(_SCRIPT.replace("PAUSE", str(pause_s)))

    @property
    def glsa(self) -> str:
        """A credential of a service account, made once."""
        kept = self.home / "glsa"
        if not kept.exists():
            kept.write_text(self.new_glsa("Editor"))
        return kept.read_text()

    def new_glsa(self, role: str) -> str:
        """Of a new service account, made as the reference page says."""
        name = f"clients-{time.monotonic_ns()}"
        account = self._post("/api/serviceaccounts", {"name": name, "role": role})
        return self._post(f"/api/serviceaccounts/{account['id']}/tokens", {"name": name})["key"]

    def _post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        answer = httpx.post(self.url + path, headers=self.headers, json=body, timeout=WAIT_S, trust_env=False)
        assert answer.is_success, answer.text
        return answer.json()

    @property
    def client(self) -> httpx.Client:
        """With the service account's credential, on the base of the reference page."""
        headers = {"Authorization": f"Bearer {self.glsa}"}
        return httpx.Client(base_url=self.url + API, headers=headers, timeout=WAIT_S, trust_env=False)

    def ask(self, prompt: str, chat: str = "") -> str:
        """POST /assistant/chats; the chat's id."""
        body = {"prompt": prompt, "chatId": chat} if chat else {"prompt": prompt}
        with self.client as client:
            answer = client.post("/assistant/chats", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["chatId"]

    def chat(self, chat: str) -> dict[str, Any]:
        with self.client as client:
            answer = client.get(f"/chats/{chat}")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def texts(self, chat: str) -> list[tuple[str, str]]:
        """Who said what, as the chat's messages show it; messages without text left out."""
        messages = self.chat(chat)["messages"]
        texts = [
            (each["role"], "".join(p["text"] for p in each["content"] if p["type"] == "text")) for each in messages
        ]
        return [(role, text) for role, text in texts if text]

    def until_done(self, chat: str) -> list[str]:
        """Read the documented events until the turn has ended; their types."""
        types: list[str] = []
        url = f"{self.url}{EVENTS}/chats/{chat}"
        with self.client as client, client.stream("GET", url) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    types.append(json.loads(line[6:])["type"])
                    if types[-1] in ("AGENT_EXECUTION_COMPLETED", "AGENT_EXECUTION_FAILED"):
                        return types
        raise AssertionError(f"the stream ended before the turn did: {types}")

    def ticket(self, chat: str) -> str:
        """For a reader that cannot send a header."""
        with self.client as client:
            answer = client.post(f"/chats/{chat}/stream-ticket")
        assert answer.is_success, answer.text
        return answer.json()["data"]["ticket"]


@contextmanager
def prometheus() -> Iterator[str]:
    """The URL of what answers every range query with one series of an hour."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.do_GET()

        def do_GET(self) -> None:
            values = [[1_763_700_000 + 60 * minute, str(minute * minute % 17)] for minute in range(60)]
            series = [{"metric": {"__name__": "up", "job": "api"}, "values": values}]
            answer = {"status": "success", "data": {"resultType": "matrix", "result": series}}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(WAIT_S)
