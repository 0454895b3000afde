"""Readers that take nothing, or are gone without a word, on a real server: it loses them, the run does not notice, and
who comes back misses nothing (R21, R22). `python -m bench readers` does it with hundreds and the real times."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from bench.crowd import DeafReader, body_of, ids_of, request_for
from tests.server_process import ServerProcess

linux = pytest.mark.skipif(sys.platform != "linux", reason="what the kernel knows of connections is read from /proc")

STALL_S = 1.0
WAIT_S = 10.0
READERS, RESUMED = 50, 5
PIECE, PIECES = "0123456789abcdef" * 64, 900

SCRIPT = f"""
[[reply]]
match = "pour"
text = [{", ".join([f'"{PIECE}"'] * PIECES)}]
[[reply]]
match = "talk"
text = [{", ".join(['"word "'] * 200)}]
delay_s = 0.1
[[reply]]
match = "wait"
delay_s = 600
"""
CONFIG = """
[server]
drain = "200ms"
[models.main]
kind = "scripted"
file = "script.toml"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
"""
IMPATIENT = f"""
import sys
from pathlib import Path
from dragoman.edge import http, silence
from dragoman.server.config import load_config
from dragoman.server import serve
http.WRITE_TIMEOUT_S = {STALL_S}
http.KEEP_ALIVE_IDLE_S = http.KEEP_ALIVE_EVERY_S = 1
serve.CHECK_EVERY_S = 0.1
home = Path(sys.argv[1])
sys.exit(serve.serve(load_config(home, file=home / "dragoman.toml"), home, listen="LISTEN"))
"""


def home_of(folder: Path) -> Path:
    (folder / "script.toml").write_text(SCRIPT)
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    program = ("-c", IMPATIENT.replace("LISTEN", "127.0.0.1:0"))
    with ServerProcess(home_of(tmp_path), CONFIG, program=program) as process:
        yield process


def begin(server: ServerProcess, message: str) -> str:
    """Start a run and hang up."""
    body = {"message": message, "session_key": message}
    url = f"{server.url}/api/v1/chat/stream"
    with httpx.stream("POST", url, headers=server.headers, json=body, timeout=WAIT_S, trust_env=False) as answer:
        return answer.headers["x-run-id"]


def get(server: ServerProcess, path: str, **headers: str) -> httpx.Response:
    return httpx.get(server.url + path, headers=server.headers | headers, timeout=WAIT_S, trust_env=False)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def connections(server: ServerProcess) -> int:
    """That its kernel knows of: neither those that wait for a port to be free again, nor the listening one."""
    rows = [line.split() for line in Path(f"/proc/{server.pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{server.port:04X}") and row[3] not in ("06", "0A") for row in rows)


def resident_kib(server: ServerProcess) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)
    assert found
    return int(found[1])


@contextmanager
def deaf(server: ServerProcess, path: str, *, readers: int = 1, times: int = 1) -> Iterator[list[DeafReader]]:
    """Readers that ask for this, so many times at once, and read nothing."""
    with ExitStack() as stack:
        asking = [DeafReader(server.url, request_for(server.url, path, server.headers) * times) for _ in range(readers)]
        for reader in asking:
            stack.callback(reader.close)
        yield asking


def ended(server: ServerProcess, run: str) -> bool:
    return get(server, f"/api/runs/{run}").json()["status"] == "completed"


@linux
def test_deaf_readers_are_let_go_of_and_who_comes_back_misses_nothing(server: ServerProcess) -> None:
    run = begin(server, "pour")
    until(lambda: ended(server, run))
    before_kib = resident_kib(server)
    with deaf(server, f"/api/runs/{run}/events", readers=READERS) as readers:
        until(lambda: connections(server) >= READERS)
        each_kib = (resident_kib(server) - before_kib) / READERS
        until(lambda: connections(server) == 0)
        print(f"{each_kib:.0f} KiB for each")
        assert each_kib <= 128
        tape = [entry["seq"] for entry in get(server, f"/api/runs/{run}").json()["entries"]]
        for reader in readers[:RESUMED]:
            seen = ids_of(body_of(reader.what_came()[0]))
            assert 1 <= len(seen) < len(tape)
            rest = get(server, f"/api/runs/{run}/events", **{"last-event-id": str(seen[-1])})
            assert seen + ids_of(rest.content) == tape


@linux
def test_a_deaf_reader_does_not_keep_the_server_from_stopping_in_order(tmp_path: Path) -> None:
    with ServerProcess(home_of(tmp_path), CONFIG) as server:  # one with the patience that it has
        run = begin(server, "pour")
        until(lambda: ended(server, run))
        with deaf(server, f"/api/runs/{run}/events"):
            until(lambda: connections(server) == 1)
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 5
    assert b"Traceback" not in server.said and b"ERROR" not in server.said


@linux
def test_who_asks_for_much_and_reads_nothing_of_plain_answers_is_let_go_of_too(server: ServerProcess) -> None:
    run = begin(server, "pour")
    until(lambda: ended(server, run))
    with deaf(server, f"/api/runs/{run}", times=20):
        until(lambda: connections(server) == 1)
        until(lambda: connections(server) == 0)


# -- peers that are gone -----------------------------------------------------------------------------------------------


def sh(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)


@pytest.fixture
def far_away(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Two network namespaces and a wire between them; their names."""
    if shutil.which("ip") is None:
        pytest.skip("there is no ip (iproute2) to make a network namespace with")
    here, there = (f"dragoman-{side}-{time.monotonic_ns() % 1_000_000}" for side in ("a", "b"))
    try:
        sh("ip", "netns", "add", here)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made: {error.stderr.decode().strip()}")
    try:
        sh("ip", "netns", "add", there)
        sh("ip", "link", "add", "wire", "netns", here, "type", "veth", "peer", "name", "wire", "netns", there)
        for number, side in enumerate((here, there), 1):
            sh("ip", "-n", side, "addr", "add", f"10.77.0.{number}/24", "dev", "wire")
            sh("ip", "-n", side, "link", "set", "wire", "up")
            sh("ip", "-n", side, "link", "set", "lo", "up")
        yield here, there
    finally:
        for side in (here, there):
            subprocess.run(("ip", "netns", "del", side), capture_output=True)


IN_A_NAMESPACE = """
import os, sys
os.execvp("ip", ["ip", "netns", "exec", "NAMESPACE", sys.executable, "-c", PROGRAM, *sys.argv[1:]])
"""
BEGIN = """
import json, sys, urllib.request
url, credential, message = sys.argv[1:]
headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}
body = json.dumps({"message": message, "session_key": message}).encode()
with urllib.request.urlopen(urllib.request.Request(url + "/api/v1/chat/stream", body, headers)) as answer:
    print(answer.headers["x-run-id"])
"""
READ = """
import socket, sys
reader = socket.create_connection(("10.77.0.1", int(sys.argv[1])))
reader.sendall(sys.stdin.buffer.read())
while data := reader.recv(65536):
    print(len(data), flush=True)
"""


@contextmanager
def reading_from(namespace: str, server: ServerProcess, run: str) -> Iterator[None]:
    """A reader of the run on the other side, which has begun to be answered."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", READ, str(server.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None and reader.stdout is not None
        reader.stdin.write(request_for("http://10.77.0.1:1", f"/api/runs/{run}/events", server.headers))
        reader.stdin.close()
        try:
            assert int(reader.stdout.readline()) > 0
            yield
        finally:
            reader.send_signal(signal.SIGKILL)
            reader.stdout.close()


@linux
@pytest.mark.service
@pytest.mark.parametrize("what", ["talk", "wait"])
def test_a_peer_whose_wire_is_cut_is_given_up(what: str, far_away: tuple[str, str], tmp_path: Path) -> None:
    """Also one that is told nothing: then it is asked whether it is still there."""
    here, there = far_away
    with ServerProcess(home_of(tmp_path), CONFIG) as first:
        credential = first.credential  # so that it may listen to more than loopback
        assert credential and first.stop() == 0
    program = IN_A_NAMESPACE.replace("NAMESPACE", here).replace(
        "PROGRAM", repr(IMPATIENT.replace("LISTEN", "10.77.0.1:0"))
    )
    with ServerProcess(tmp_path, CONFIG, program=("-c", program)) as server:
        begun = subprocess.run(
            ["ip", "netns", "exec", here, sys.executable, "-c", BEGIN, server.url, server.credential, what],
            capture_output=True,
            check=True,
            timeout=WAIT_S,
        )
        with reading_from(there, server, begun.stdout.decode().strip()):
            until(lambda: connections(server) == 1)
            sh("ip", "-n", there, "link", "set", "wire", "down")
            cut = time.monotonic()
            until(lambda: connections(server) == 0)
            print(f"given up after {time.monotonic() - cut:.1f} s")
        server.kill()
