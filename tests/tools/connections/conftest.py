"""A real Prometheus on loopback that watches itself, for the tests marked `service`; a small Elasticsearch for all."""

import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dragoman.tools.connections.connection import Connection
from dragoman.tools.connections.toolset import register_connections
from dragoman.tools.egress import Egress
from dragoman.tools.registry import Registry
from tests.elasticsearch_server import KEY, FakeElasticsearch, elasticsearch
from tests.support import FixedClock

READY_S = 20.0
END_S = 5.0
PAUSE_S = 0.05


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _has_scraped(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/api/v1/query?query=up", timeout=2) as response:
            return b'"value"' in response.read()
    except OSError:
        return False


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address, once it holds a first sample of `up`."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("the prometheus program is not installed")
    home = tmp_path_factory.mktemp("prometheus")
    port = _free_port()
    _write_config(home / "prometheus.yml", port)
    with (home / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={home / 'prometheus.yml'}",
                f"--storage.tsdb.path={home / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        pause = threading.Event()
        for _ in range(round(READY_S / PAUSE_S)):
            if _has_scraped(url):
                break
            if process.poll() is not None:
                pytest.fail(f"prometheus ended: {(home / 'log.txt').read_text()[-2000:]}")
            pause.wait(PAUSE_S)
        else:
            pytest.fail(f"prometheus was not ready within {READY_S:g} s")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_S)


def _write_config(path: Path, port: int) -> None:
    path.write_text(
        "global:\n"
        "  scrape_interval: 1s\n"
        "scrape_configs:\n"
        "  - job_name: itself\n"
        "    static_configs:\n"
        f"      - targets: ['127.0.0.1:{port}']\n"
    )


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    client = Egress()
    yield client
    await client.close()


@pytest.fixture
async def es(registry: Registry, egress: Egress) -> AsyncIterator[FakeElasticsearch]:
    """An empty Elasticsearch whose tools are registered, as the connection `es`. It is 2023-11-14T22:13:20Z."""
    async with elasticsearch() as fake:
        connection = Connection("es", "elasticsearch", fake.url, (("Authorization", KEY),))
        register_connections(registry, [connection], egress, FixedClock(1_700_000_000.0))
        yield fake
