"""A stranger's fuzzer: it reads our OpenAPI documents, sends what they allow and what they do not, and holds every
answer against them. None may be a 500, or of a status, a content type or a shape that its document does not tell of."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.dialects import installed as dialects
from tests.e2e.grafana_stage import SUB_PATH, Stage
from tests.e2e.packages import INSTALL_S, python_env

pytestmark = [
    pytest.mark.service,
    pytest.mark.timeout(INSTALL_S + 60),
    pytest.mark.skipif(
        os.environ.get("DRAGOMAN_CLIENTS") != "install", reason="a fuzzer takes a minute: `make e2e` lets it loose"
    ),
]

RUN_S = 90.0
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "missing_required_header",
    "use_after_free",
)
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 501]
"""
"""501 is what a row answers that is known and not offered."""
UNFIT = {"rowboat": ("missing_required_header",)}
"""Checks that a wire cannot pass by its own rules: without a credential Rowboat's answer is 400 (rowboat spec 1.2), and
the check knows 401 alone. The conformance tests look at it."""
PHASE = "coverage"
"""What lies at the edges of each schema, and just beyond: the most requests for the time."""
LEFT_OUT = r"^/api/cli/v1/(?!auth/|tunnel/)|/(automations|investigations|watcher-agents)"
"""The Grafana dialect's rows under its other bases, and those that refuse whatever is sent."""
REQUEST_S = 10
SEED = 7

FUZZ = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("home"), pause_s=0.0) as stage:
        yield stage
    assert b"Traceback" not in stage.said


@pytest.mark.parametrize("name", [*(dialect.name for dialect in dialects()), "house"])
def test_every_answer_is_as_the_document_says(server: Stage, tmp_path: Path, name: str) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    front = server.url + (SUB_PATH if name == "house" else "")
    command = [sys.executable, "-c", FUZZ, "--config-file", str(config), "run", f"{front}/openapi/{name}.json"]
    command += ["--url", front, "--header", f"Authorization: Bearer {server.credential}"]
    checks = [check for check in CHECKS if check not in UNFIT.get(name, ())]
    command += ["--checks", ",".join(checks), "--phases", PHASE]
    command += ["--exclude-path-regex", LEFT_OUT, "--request-timeout", str(REQUEST_S), "--seed", str(SEED)]
    command += ["--generation-database", "none", "--continue-on-failure", "--no-color", "--warnings", "off"]
    env = python_env("schemathesis")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    sent = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert sent is not None and int(sent[1]) > 50, done.stdout
