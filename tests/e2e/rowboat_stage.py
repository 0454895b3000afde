"""A live server for clients of the Rowboat dialect: projects with workflows that were imported as operators do, and an
OpenAI-compatible server that plays their agents, the user of a simulation, and its judge."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.checkout import TESTS
from tests.server_process import ServerProcess

WAIT_S = 15.0
CLI_S = 30.0
HARBOR = TESTS / "dialects" / "rowboat" / "conformance" / "harbor.json"

Json = dict[str, Any]

NAMED = re.compile(r"Your name is ([A-Z][A-Za-z -]*[A-Za-z])")
"""With it each agent's instructions begin."""
CUSTOMER = "role playing a customer"
"""Stands in what the runner of simulations tells the model that plays the user."""
ORDER = {"order_id": "HO-10442"}
CHARGED = "I was charged twice for HO-10442 żółw 🐘"
REFUND = "yes please refund é"
LOST = "It was lost at sea."
"""What an order comes to, where whoever asks for it says so."""
CUSTOMERS_LINES = (CHARGED, REFUND)


# -- the model ---------------------------------------------------------------------------------------------------------


def played(asked: Json) -> tuple[str, str, Json]:
    """What whoever is asked says, or the name of a tool and its arguments."""
    messages: list[Json] = asked["messages"]
    system = "\n".join(each["content"] for each in messages if each["role"] == "system")
    if "response_format" in asked:
        return '{"verdict": "pass", "details": "It was looked up."}', "", {}
    if CUSTOMER in system:
        return CUSTOMERS_LINES[sum(each["role"] == "assistant" for each in messages)], "", {}
    named = NAMED.search(system)
    at = max((at for at, each in enumerate(messages) if each["role"] == "user"), default=0)
    question = str(messages[at].get("content"))
    results = [str(each["content"]) for each in messages[at:] if each["role"] == "tool"]
    match named[1] if named else "":
        case "":
            return LOST if LOST in json.dumps(messages) else '{"order": "HO-10442", "charges": 2}', "", {}
        case "Front Desk" if "charged" in question:
            return "", "transfer_to_agent", {"assistant": "Billing Desk"}
        case "Billing Desk" if "charged" in question and not results:
            return "", "get_order", ORDER
        case "Billing Desk" if "refund" in question and not results:
            return "", "create_refund", {**ORDER, "amount": 84.5}
        case "Account Desk" if not results:
            return "", "get_account_balance", {"user_id": "u-7"}
        case name:
            return f"{name} heard: {question}. It knows: {' '.join(results)}", "", {}


def _message(asked: Json) -> Json:
    text, tool, arguments = played(asked)
    if not tool:
        return {"role": "assistant", "content": text}
    call = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _completion(asked: Json) -> Json:
    message = _message(asked)
    reason = "tool_calls" if "tool_calls" in message else "stop"
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def _chunks(asked: Json) -> bytes:
    whole = _completion(asked)
    (choice,) = whole["choices"]
    delta = choice.pop("message")
    for number, call in enumerate(delta.get("tool_calls", ())):
        call["index"] = number
    first = {**whole, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
    last = {**first, "choices": [{**choice, "delta": {}}]}
    return "".join(f"data: {line}\n\n" for line in (json.dumps(first), json.dumps(last), "[DONE]")).encode()


@contextmanager
def agents(asked: list[Json]) -> Generator[str]:
    """The base URL of the server that plays everybody. What it was asked goes into the list."""

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
            asked.append(request)
            streamed = bool(request.get("stream"))
            body = _chunks(request) if streamed else json.dumps(_completion(request)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join(WAIT_S)


# -- the server --------------------------------------------------------------------------------------------------------

_CONFIG = """
[models.main]
kind = "openai"
url = "{model}"
name = "m"
[defaults]
model = "main"
[connections.hooks]
kind = "webhook"
url = "{hook}"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
"""


class Stage(ServerProcess):
    """The server, and what its operator does beside it. `hook` is where webhooks go."""

    def __init__(self, home: Path, *, model: str, hook: str) -> None:
        super().__init__(home, _CONFIG.format(model=model, hook=hook))

    def cli(self, *words: str) -> Any:
        """A command's answer, where it gives JSON."""
        command = [sys.executable, "-m", "dragoman", "--home", str(self.home)]
        command += ["--config", str(self.home / "dragoman.toml"), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CLI_S, check=False, encoding="utf-8", cwd=self.home
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in words else None

    def project(self, name: str) -> Json:
        """A new project: its `id`, the `secret` that its webhooks are signed with, a `credential`. It has the
        connection for its webhook."""
        made = self.cli("projects", "create", name, "--json")
        self.cli("projects", "set", made["id"], "--webhook", "connection:hooks")
        return made

    def workflow(self, project: str, workflow: Json, *, publish: bool = True) -> str:
        """The id of what was imported."""
        file = self.home / "workflow.json"
        file.write_text(json.dumps(workflow))
        words = ["workflows", "import", str(file), "--project", project, "--json"]
        return self.cli(*words, *(["--publish"] if publish else []))["id"]

    def profile(self, project: str, **fields: Any) -> str:
        """The id of a test profile. Fields as the system spells them."""
        file = self.home / "profile.json"
        file.write_text(json.dumps(fields))
        return self.cli("test-profiles", "create", str(file), "--project", project, "--json")["id"]
