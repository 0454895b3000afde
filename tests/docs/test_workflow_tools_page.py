"""The page on tools of workflows: its commands, and its receiver, which refuses what is forged."""

import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.checkout import ROOT
from tests.docs.consoles import BASE, play, replaced
from tests.server_process import ServerProcess

pytestmark = pytest.mark.service

PAGE = (ROOT / "docs" / "how-to" / "workflow-tools.md").read_text()
HOOK = "http://127.0.0.1:9200"
WAIT_S = 15.0
OFF = "[limits]\nper_ip_rpm = 0\nper_credential_rpm = 0\n"


@dataclass
class Place:
    """A server, and the page's receiver at `hook`, which knows the secret of the project `default`."""

    server: ServerProcess
    folder: Path
    hook: str
    secret: str


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("page")
    port = free_port()
    hook = f"http://127.0.0.1:{port}"
    config = next(
        block for block in re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) if HOOK in block
    )
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    with ServerProcess(folder / ".dragoman", f"{config.replace(HOOK, hook)}\n{OFF}") as server:
        command = [sys.executable, "-m", "dragoman", "--home", str(server.home), "projects", "secret", "default"]
        secret = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True).stdout.strip()
        receiver = subprocess.Popen(
            [sys.executable, "-c", replaced(program, {'"127.0.0.1", 9200': f'"127.0.0.1", {port}'})],
            env={"PATH": os.environ["PATH"], "SECRET": secret},
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(port, receiver)
            yield Place(server, folder, hook, secret)
        finally:
            receiver.kill()
            receiver.wait(WAIT_S)


def wait_for(port: int, receiver: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + WAIT_S
    while time.monotonic() < ends:
        assert receiver.poll() is None, "the receiver ended"
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("nothing listens")


def coded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims: dict[str, object], secret: str, *, alg: str = "HS256") -> str:
    head = ".".join(coded(json.dumps(part).encode()) for part in ({"alg": alg}, claims))
    return f"{head}.{coded(hmac.new(secret.encode(), head.encode(), hashlib.sha256).digest())}"


def asked(hook: str, content: str, signature: str, *, request: str = "r-1") -> tuple[int, dict[str, object]]:
    body = json.dumps({"requestId": request, "content": content}).encode()
    try:
        with urlopen(Request(f"{hook}/tool_call", body, {"x-signature-jwt": signature}), timeout=WAIT_S) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


def test_every_command_answers_as_the_page_says(place: Place) -> None:
    play(PAGE, place.folder, {BASE: place.server.url, HOOK: place.hook})


CALL = json.dumps({"toolCall": {"function": {"name": "get_order", "arguments": '{"order": "HO-1"}'}}})
HASH = hashlib.sha256(CALL.encode()).hexdigest()


def test_the_receiver_takes_what_is_signed_and_nothing_else(place: Place) -> None:
    good: dict[str, object] = {"bodyHash": HASH, "exp": int(time.time()) + 60}
    right = signed(good, place.secret)
    assert asked(place.hook, CALL, right) == (200, {"result": {"order": "HO-1", "arrives": "Friday"}})
    for status, content, signature in (
        (401, CALL, ""),
        (401, CALL, signed(good, "0" * 64)),
        (401, CALL.replace("HO-1", "HO-2"), right),
        (401, CALL, signed({**good, "exp": 1}, place.secret)),
        (401, CALL, signed(good, place.secret, alg="none")),
        (401, CALL, "no.jwt"),
        (400, "{", signed({**good, "bodyHash": hashlib.sha256(b"{").hexdigest()}, place.secret)),
    ):
        told, answer = asked(place.hook, content, signature)
        assert told == status and "error" in answer, answer


def test_the_receiver_does_nothing_twice(place: Place) -> None:
    claims: dict[str, object] = {"bodyHash": HASH, "exp": int(time.time()) + 60}
    first = asked(place.hook, CALL, signed(claims, place.secret), request="r-2")
    other = CALL.replace("HO-1", "HO-2")
    claims["bodyHash"] = hashlib.sha256(other.encode()).hexdigest()
    assert asked(place.hook, other, signed(claims, place.secret), request="r-2") == first
