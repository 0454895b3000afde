"""Which connector does what, and the server's log; the others have test files of their own."""

import logging

import pytest

from dragoman.core.connectors import Executed
from dragoman.core.errors import BadRequest
from tests.tools.connectors.rig import Rig


async def test_the_servers_log_gets_one_line(rig: Rig, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, "dragoman.connectors"):
        assert await rig(".server-log", {}, {}, message="a\nERROR forged\x1b[2J", level="warn") == Executed("c", True)
        await rig(".server-log", {}, {}, message="x" * 5000)
    assert caplog.record_tuples == [
        ("dragoman.connectors", logging.WARNING, "connector c: a ERROR forged [2J"),
        ("dragoman.connectors", logging.INFO, "connector c: " + "x" * 4000),
    ]
    with pytest.raises(BadRequest, match=r"params\.level must be one of trace, debug, info, warn, error, fatal"):
        await rig(".server-log", {}, {}, message="x", level="loud")
    with pytest.raises(BadRequest, match="missing required field message"):
        await rig(".server-log", {}, {})


async def test_what_cannot_be_executed(rig: Rig):
    with pytest.raises(BadRequest, match=r"type \.gen-ai cannot be executed"):
        await rig(".gen-ai", {}, {})
