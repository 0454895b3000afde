"""After a whole run of these tests: what each client passed, in build/e2e/COMPAT.md."""

import os
from datetime import UTC, datetime

import pytest

from tests.e2e.compat import PAGE, Results

_results = Results()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One outcome for each test: that of the call, or of the set-up that kept it from being called."""
    if "/e2e/" in report.nodeid and (report.when == "call" or (report.when == "setup" and not report.passed)):
        _results.add(report.nodeid, report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Only `make e2e` writes it: any other run may be one of a few tests."""
    if (
        os.environ.get("DRAGOMAN_CLIENTS") == "install"
        and _results.outcomes
        and not hasattr(session.config, "workerinput")
    ):
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(_results.page(date=f"{datetime.now(UTC):%Y-%m-%d}"))
