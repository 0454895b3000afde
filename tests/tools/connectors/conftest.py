"""An executor for every test of connectors that wants one with nothing configured."""

from collections.abc import AsyncIterator

import pytest

from tests.tools.connectors.rig import Rig, rigged


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with rigged() as made:
        yield made
