"""A bench for each test, closed behind it; `serve` is that of all tools."""

from collections.abc import AsyncIterator

import pytest

from tests.tools.conftest import serve as serve
from tests.tools.workflow.staging import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.egress.close()
