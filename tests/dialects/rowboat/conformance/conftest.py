"""The scene of the conformance cases: a project with a published workflow, and a receiver for its webhooks."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.dialects.rowboat.conformance.kit import Rowboat, harbor, meridian, rowboat_of
from tests.rowboat_webhook import Receiver, webhook_receiver


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture
async def bare(hook: Receiver, tmp_path: Path) -> AsyncIterator[Rowboat]:
    """Nothing is published."""
    async with rowboat_of(tmp_path, hook) as scene:
        yield scene


@pytest.fixture
async def rowboat(bare: Rowboat) -> Rowboat:
    await bare.take_in(harbor())
    return bare


@pytest.fixture
async def insurer(bare: Rowboat) -> Rowboat:
    await bare.take_in(meridian())
    return bare
