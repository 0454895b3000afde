"""The scene of the conformance cases: a chat server, and the whole of ours in front of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dialects.elastic.conformance.kit import Kibana, kibana_of
from tests.dialects.elastic.conformance.llm import Llm, chat_server


@pytest.fixture
async def llm() -> AsyncIterator[Llm]:
    async with chat_server() as server:
        yield server


@pytest.fixture
async def kibana(llm: Llm, tmp_path: Path) -> AsyncIterator[Kibana]:
    async with kibana_of(tmp_path, llm) as scene:
        yield scene
