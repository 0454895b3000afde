"""A live server for clients of the Elastic dialect: the built-in model and a scripted one as preconfigured connectors,
a chat server for the connectors that a client makes, and what stands for Elasticsearch."""

import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.server_process import ServerProcess

PAGE_HOST = "localhost:5601"
"""The host in the reference page's examples."""
CHAT = "/api/observability_ai_assistant/chat/complete"
CONNECTOR = "/api/actions/connector"
WAIT_S = 15.0

BUILT_IN = "offline"
"""Names of models, which are the ids of their connectors."""
SCRIPTED = "main"

PAGE_REQUEST: dict[str, Any] = {
    "connectorId": BUILT_IN,
    "disableFunctions": False,
    "messages": [
        {
            "@timestamp": "2025-06-25T23:45:00.000Z",
            "message": {"role": "user", "content": "Is my Elasticsearch cluster healthy right now?"},
        }
    ],
    "persist": False,
    "actions": [
        {
            "name": "get_cluster_health",
            "description": "Fetch the current Elasticsearch cluster-health status and key metrics.",
            "parameters": {
                "type": "object",
                "properties": {"includeShardStats": {"type": "boolean", "default": False}},
            },
        }
    ],
    "instructions": [
        "When the user asks about Elasticsearch cluster health, use the get_cluster_health tool to retrieve cluster"
        " health, then summarize the response in plain English."
    ],
}
"""The reference page's body; the page writes `<connectorId>` where this names one."""

_SCRIPT = """
[[reply]]
match = '"learnings"'
text = ["Once ", "upon ", "a ", "żółw ", "🐘."]
"""
"""What it answers to is the result of the call with which each turn begins."""

_CONFIG = f"""
[models.{BUILT_IN}]
kind = "offline"
[models.{SCRIPTED}]
kind = "scripted"
file = "script.toml"
[defaults]
model = "{BUILT_IN}"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
"""


class Stage(ServerProcess):
    """The server, and what somebody with a credential for it can do."""

    def __init__(self, home: Path, *, elasticsearch: str = "") -> None:
        connection = f'[connections.es]\nkind = "elasticsearch"\nurl = "{elasticsearch}"\n' if elasticsearch else ""
        super().__init__(home, _CONFIG + connection)
        (home / "script.toml").write_text(_SCRIPT)

    @property
    def client(self) -> httpx.Client:
        """Sends what every known client sends with a write."""
        headers = {"Authorization": f"ApiKey {self.credential}", "kbn-xsrf": "true"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=WAIT_S, trust_env=False)


def page_curl(url: str, credential: str, body: dict[str, Any]) -> list[str]:
    """The reference page's command but for its host and its user and password."""
    data = "\n" + json.dumps(body, indent=2)
    return [
        *("curl", "--silent", "--show-error", "--include", "--max-time", f"{WAIT_S:g}"),
        *("--request", "POST", url + CHAT, "-u", f"elastic:{credential}"),
        *("-H", "kbn-xsrf: true", "-H", "Content-Type: application/json", "--data", data),
    ]


def chunks_in(body: str) -> list[dict[str, Any]]:
    """The events of an answer but for the last, which must be `[DONE]`."""
    events = [part for part in body.split("\n\n") if part]
    assert events[-1] == "data: [DONE]", events
    assert all(event.startswith("data: ") for event in events), events
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)


def calls_in(chunks: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The calls of the caller's own action."""
    calls = [chunk["choices"][0]["delta"].get("function_call") for chunk in chunks]
    return [call for call in calls if call is not None]


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def answer(self, status: int, body: bytes, media_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def _serving(handler: type[_Quiet]) -> Generator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(WAIT_S)


@contextmanager
def elasticsearch(stored: list[dict[str, Any]]) -> Generator[str]:
    """The URL of what takes documents, one by one or in bulk, into the list."""

    class Answer(_Quiet):
        def do_POST(self) -> None:
            body, path = self.read(), self.path.partition("?")[0]
            if path.endswith("/_bulk"):
                lines = [json.loads(line) for line in body.splitlines() if line]
                stored.extend(line for line in lines if not line.keys() & {"index", "create"})
                self.answer(200, b'{"took":1,"errors":false,"items":[]}')
            elif path.endswith(("/_doc", "/_doc/")):
                stored.append(json.loads(body))
                self.answer(201, b'{"result":"created"}')
            else:
                self.answer(400, b'{"error":{"type":"illegal_argument_exception"},"status":400}')

        do_PUT = do_POST

    with _serving(Answer) as url:
        yield url


@contextmanager
def chat_server(asked: list[dict[str, Any]]) -> Generator[str]:
    """The URL, to be taken verbatim, of a chat server that says a sentence in words. Requests go into the list."""

    class Answer(_Quiet):
        def do_POST(self) -> None:
            asked.append({"path": self.path, "key": self.headers["authorization"], **json.loads(self.read())})
            words = re.findall(r"\s*\S+", "Your cluster is green.")
            lines = [json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}) for word in words]
            lines.append('{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
            body = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
            self.answer(200, body.encode(), "text/event-stream")

    with _serving(Answer) as url:
        yield f"{url}/somewhere/else/chat"


@contextmanager
def hook(sent: list[dict[str, Any]]) -> Generator[str]:
    """The URL of what takes posts of any path, with whose login they came and what they say, into the list."""

    class Answer(_Quiet):
        def do_POST(self) -> None:
            login = self.headers["authorization"]
            sent.append({"path": self.path, "login": login, "body": self.read().decode()})
            self.answer(200, b'{"taken":true}')

    with _serving(Answer) as url:
        yield url
