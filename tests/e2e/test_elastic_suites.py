"""The integration suites of kibana-py, unmodified and as one commit of its repository has them, against a live server.

They are in no registry: the package is installed from there, and its tests are taken from the repository.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.e2e.elastic_stage import Stage, elasticsearch
from tests.e2e.packages import INSTALL_S, checked_out, installed

pytestmark = [pytest.mark.service, pytest.mark.timeout(2 * INSTALL_S + 60)]

URL = "https://github.com/pedro-angel/kibana-py"
COMMIT = "941b5dca0241647beaeffde7ac1f127eba3e4958"
PATHS = ("tests/conftest.py", "tests/integration", "examples/utils.py", "pyproject.toml", "LICENSE")
"""Without the package itself: what is tested is the one of the registry."""
RUN_S = 60.0

STORED: list[dict[str, Any]] = []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with elasticsearch(STORED) as url, Stage(tmp_path_factory.mktemp("home"), elasticsearch=url) as stage:
        yield stage
    assert b"Traceback" not in stage.said


def outcomes(server: Stage, suite: str, tmp_path: Path, **credential: str) -> dict[str, int]:
    """How many of its tests passed, failed and were skipped."""
    checkout = checked_out("kibana-py", URL, COMMIT, *PATHS)
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    command += ["-o", "asyncio_mode=auto", f"--junit-xml={report}", f"tests/integration/{suite}.py"]
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    env = {**kept, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(installed("kibana-py"))}
    env |= {"KIBANA_URL": server.url, **credential}
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = ElementTree.parse(report).getroot().iter("testsuite")
    counts = {key: int(told.attrib[key]) for key in ("tests", "failures", "errors", "skipped")}
    return {"passed": counts.pop("tests") - sum(counts.values()), **counts}


def passed(count: int) -> dict[str, int]:
    """All of them, none skipped."""
    return {"passed": count, "failures": 0, "errors": 0, "skipped": 0}


def test_kibana_pys_assistant_suite_passes_with_a_user_and_a_password(server: Stage, tmp_path: Path) -> None:
    basic = {"KIBANA_USERNAME": "elastic", "KIBANA_PASSWORD": server.credential}
    assert outcomes(server, "test_observability_ai_assistant_integration", tmp_path, **basic) == passed(6)


def test_kibana_pys_assistant_suite_passes_with_a_key(server: Stage, tmp_path: Path) -> None:
    key = {"KIBANA_API_KEY": server.credential}
    assert outcomes(server, "test_observability_ai_assistant_integration", tmp_path, **key) == passed(6)


def test_kibana_pys_connector_suite_passes(server: Stage, tmp_path: Path) -> None:
    key = {"KIBANA_API_KEY": server.credential}
    assert outcomes(server, "test_connectors_integration", tmp_path, **key) == passed(27)
    assert {"message": "kbnpy connectors test"} in [{**each} for each in STORED]
