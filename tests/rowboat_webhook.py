"""A receiver of the calls that workflows make of webhooks, on 127.0.0.1: written from what is known of that wire alone
(rowboat spec 7.1). It checks signatures with means of its own, so that nothing of ours vouches for itself.

`401` no or a wrong signature, `403` a signature of something else, `400` what is no call, else `{"result": …}`.
"""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_S = 15.0


class Refused(Exception):
    """What was sent is not taken: the status and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(frozen=True)
class Received:
    """One call. `arguments` is the text just as it came; `claims` are the signature's."""

    name: str
    arguments: str
    call_id: str
    content: str
    body: dict[str, Any]
    claims: dict[str, Any]


@dataclass
class Receiver:
    """`secret` is the project's. `results` are what tools answer, by name; `statuses` what else is said with; `held`
    are tools whose answer waits for the event."""

    url: str = ""
    secret: str = ""
    results: dict[str, Any] = field(default_factory=dict[str, Any])
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    held: dict[str, threading.Event] = field(default_factory=dict[str, threading.Event])
    received: list[Received] = field(default_factory=list[Received])
    refused: list[str] = field(default_factory=list[str])

    def take(self, body: bytes, signature: str) -> tuple[int, Any]:
        try:
            call = self._read(body, signature)
        except Refused as refused:
            self.refused.append(refused.why)
            return refused.status, {"error": refused.why}
        self.received.append(call)
        if call.name in self.held:
            self.held[call.name].wait(WAIT_S)
        if call.name in self.statuses:
            return self.statuses[call.name], {"error": f"{call.name} is out of order"}
        return 200, {"result": self.results.get(call.name, f"{call.name} is done")}

    def _read(self, body: bytes, signature: str) -> Received:
        claims = claims_of(signature, self.secret)
        try:
            told = json.loads(body)
            content = told["content"]
            call = json.loads(content)["toolCall"]
            function = call["function"]
            if not isinstance(json.loads(function["arguments"]), dict):
                raise TypeError(function["arguments"])
        except (ValueError, TypeError, KeyError) as error:
            raise Refused(400, f"no call: {error!r}") from None
        if not isinstance(content, str) or not isinstance(claims, dict):
            raise Refused(400, "no call")
        if claims.get("bodyHash") != hashlib.sha256(content.encode()).hexdigest():
            raise Refused(403, "the signature is of something else")
        return Received(function["name"], function["arguments"], call.get("id", ""), content, told, claims)


def claims_of(signature: str, secret: str) -> Any:
    """Of a JSON Web Token, compact and signed with HMAC-SHA-256 (RFC 7515, RFC 7519). Raises Refused."""
    parts = signature.split(".")
    if len(parts) != 3:
        raise Refused(401, "no signature")
    header, claims, mac = parts
    expected = hmac.new(secret.encode(), f"{header}.{claims}".encode(), hashlib.sha256).digest()
    if not secret or json.loads(_bytes(header)).get("alg") != "HS256" or not hmac.compare_digest(_bytes(mac), expected):
        raise Refused(401, "a wrong signature")
    return json.loads(_bytes(claims))


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextmanager
def webhook_receiver() -> Generator[Receiver]:
    receiver = Receiver()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, said = receiver.take(body, self.headers.get("x-signature-jwt") or "")
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            with suppress(BrokenPipeError, ConnectionResetError):  # who asked may wait no longer
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        receiver.url = f"http://127.0.0.1:{server.server_port}/tool_call"
        try:
            yield receiver
        finally:
            for event in receiver.held.values():
                event.set()
            server.shutdown()
            thread.join(WAIT_S)
