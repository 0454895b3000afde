"""Streams through the reverse proxies people put in front: nginx, HAProxy, Caddy, each with the settings it comes with.

Frames come through as they are made, and a stream that is silent for long is not cut.

A proxy that is not installed is skipped. `docs/how-to/behind-a-proxy.md` tells what was tried and what to set.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.server_process import ServerProcess

LATE_S_MAX = 0.3
"""A frame may come so much later through a proxy than without one (R17)."""
SILENCE_S = 0.2
IMPATIENCE_S = 1
"""The proxies' patience with a silent server, cut down from 50 s and 60 s; and the server's silence from 15 s."""
WAIT_S = 10.0
PLACES = 4

SCRIPT = """
[[reply]]
match = "talk"
text = ["one ", "two ", "three ", "four ", "five "]
delay_s = 0.4
[[reply]]
match = "think"
text = "At last."
delay_s = 2.5
"""
CONFIG = f"""
[server]
trusted_proxies = ["127.0.0.1/32"]
[models.main]
kind = "scripted"
file = "script.toml"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
readers_per_conversation = {PLACES}
"""
QUICK_TO_SPEAK_UP = f"""
import sys
from pathlib import Path
from dragoman.edge import silence
from dragoman.server.config import load_config
from dragoman.server.serve import serve
silence.SILENCE_S = {SILENCE_S}
home = Path(sys.argv[1])
sys.exit(serve(load_config(home, file=home / "dragoman.toml"), home, listen="127.0.0.1:0"))
"""

# -- the proxies -----------------------------------------------------------------------------------------------------


def nginx(folder: Path, port: int, server: str) -> list[str]:
    """Its installed nginx.conf, with files and ports of ours, and one site."""
    site = folder / "site.conf"
    site.write_text(
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {server}; include /etc/nginx/proxy_params;"
        f" proxy_read_timeout {IMPATIENCE_S}s; }} }}\n"
    )
    text = Path("/etc/nginx/nginx.conf").read_text()
    text = re.sub(r"^user .*|^include /etc/nginx/modules-enabled.*", "", text, flags=re.MULTILINE)
    text = re.sub(r"^pid .*", f"pid {folder}/nginx.pid;", text, flags=re.MULTILINE)
    text = re.sub(r"/var/log/nginx", str(folder), text)
    text = re.sub(r"include /etc/nginx/(conf\.d/\*\.conf|sites-enabled/\*);", "", text)
    text = text.replace("http {", f"http {{ include {site};", 1)
    (folder / "nginx.conf").write_text(text)
    return ["nginx", "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]


def haproxy(folder: Path, port: int, server: str) -> list[str]:
    """The defaults of its installed haproxy.cfg, and one front and one back."""
    _, _, defaults = Path("/etc/haproxy/haproxy.cfg").read_text().partition("\ndefaults")
    defaults = re.sub(r"timeout (client|server) +\d+", rf"timeout \1 {IMPATIENCE_S}s", defaults)
    sides = f"frontend in\n\tbind 127.0.0.1:{port}\n\tdefault_backend out\nbackend out\n\toption forwardfor\n"
    sides += f"\tserver one {server.removeprefix('http://')}\n"
    (folder / "haproxy.cfg").write_text(f"global\n\ndefaults{defaults}\n{sides}")
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


def caddy(folder: Path, port: int, server: str) -> list[str]:
    """It waits for as long as it takes, and needs only to be told where."""
    (folder / "Caddyfile").write_text(
        f"{{\n\tadmin off\n}}\nhttp://127.0.0.1:{port} {{\n\treverse_proxy {server}\n}}\n"
    )
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


Proxy = Callable[[Path, int, str], list[str]]
PROXIES: tuple[Proxy, ...] = (nginx, haproxy, caddy)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def running(proxy: Proxy, folder: Path, server: str) -> Iterator[str]:
    """The proxy's URL."""
    folder.mkdir()
    port = free_port()
    command = proxy(folder, port, server)
    env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "said").open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said, env=env) as process:
        try:
            deadline = time.monotonic() + WAIT_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None and time.monotonic() < deadline, (folder / "said").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(WAIT_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("home")
    (home / "script.toml").write_text(SCRIPT)
    with ServerProcess(home, CONFIG, program=("-c", QUICK_TO_SPEAK_UP)) as process:
        yield process


@pytest.fixture(scope="module", params=PROXIES, ids=lambda proxy: proxy.__name__)
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: ServerProcess
) -> Iterator[str]:
    name = request.param.__name__
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    with running(request.param, tmp_path_factory.mktemp(name) / "run", server.url) as url:
        yield url


# -- what comes through ----------------------------------------------------------------------------------------------

pytestmark = pytest.mark.service


class Follower(threading.Thread):
    """Reads all of a run's frames, and notes when each text came."""

    def __init__(self, url: str, server: ServerProcess, run: str) -> None:
        super().__init__()
        self._url = f"{url}/api/runs/{run}/events"
        self._server = server
        self.texts: list[float] = []
        self.comments = 0
        self.ended = False
        self.headers: httpx.Headers

    def run(self) -> None:
        with httpx.stream("GET", self._url, headers=self._server.headers, timeout=WAIT_S, trust_env=False) as answer:
            self.headers = answer.headers
            for line in answer.iter_lines():
                if '"text_added"' in line:
                    self.texts.append(time.monotonic())
                self.comments += line.startswith(":")
                self.ended = self.ended or '"run_completed"' in line


def begin(server: ServerProcess, message: str) -> str:
    """Start a run and hang up."""
    body = {"message": message, "session_key": f"{message}-{time.monotonic_ns()}"}
    url = f"{server.url}/api/v1/chat/stream"
    with httpx.stream("POST", url, headers=server.headers, json=body, timeout=WAIT_S, trust_env=False) as answer:
        return answer.headers["x-run-id"]


def test_frames_come_through_as_they_are_made(server: ServerProcess, proxied: str) -> None:
    run = begin(server, "talk")
    direct, through = Follower(server.url, server, run), Follower(proxied, server, run)
    for follower in (direct, through):
        follower.start()
    for follower in (direct, through):
        follower.join(WAIT_S)
    assert (direct.ended, through.ended, len(direct.texts), len(through.texts)) == (True, True, 5, 5)
    late_s = [behind - ahead for ahead, behind in zip(direct.texts, through.texts, strict=True)]
    print(f"first text {late_s[0] * 1000:.1f} ms later than without the proxy, the latest {max(late_s) * 1000:.1f} ms")
    assert max(late_s) <= LATE_S_MAX
    assert through.headers["cache-control"] == "no-cache, no-transform"


def test_a_stream_that_is_silent_for_longer_than_the_proxys_patience_is_not_cut(
    server: ServerProcess, proxied: str
) -> None:
    follower = Follower(proxied, server, begin(server, "think"))
    follower.start()
    follower.join(WAIT_S)
    assert follower.ended and follower.comments >= 5


def test_who_hangs_up_on_the_proxy_leaves_no_reader_behind(server: ServerProcess, proxied: str) -> None:
    """A conversation has few places for readers here, and each is given back."""
    url = f"{proxied}/api/runs/{begin(server, 'think')}/events"
    deadline = time.monotonic() + WAIT_S
    served = 0
    while served < 3 * PLACES:
        with httpx.stream("GET", url, headers=server.headers, timeout=WAIT_S, trust_env=False) as answer:
            assert answer.status_code in (200, 429) and time.monotonic() < deadline
            served += answer.status_code == 200
            next(answer.iter_raw())
