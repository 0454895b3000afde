"""A whole house in process: real edge, runtime and stores around a scripted model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dragoman.stores.memory import MemoryStore
from tests.parts import ADMIN, LedgerTools, ScriptedReplies, house_of, open_config, text_reply
from tests.streaming_client import Client
from tests.support import FixedClock


class Stage:
    """What a test at the edge has at hand."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = FixedClock()
        self.store = MemoryStore(self.clock)
        self.model = ScriptedReplies(text_reply("It is ", "fine."))
        self.tools = LedgerTools({"look": "seen"})
        self.home = tmp_path
        self.config = open_config()
        self.house: Any = None
        self.credential = ""

    def client(self, **options: Any) -> Client:
        headers = {"authorization": f"Bearer {self.credential}", "content-type": "application/json"}
        return Client(self.house.app, headers=headers, **options)

    def anonymous(self, **options: Any) -> Client:
        return Client(self.house.app, headers={"content-type": "application/json"}, **options)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Any]:
    """`async with stage(...) as s`: opens the house after the test has set its scene."""

    @asynccontextmanager
    async def set_up(**settings: Any) -> AsyncIterator[Stage]:
        scene = Stage(tmp_path)
        for name, value in settings.items():
            setattr(scene, name, value)
        async with house_of(
            scene.home,
            scene.model,
            store=scene.store,
            access=scene.store,
            tools=scene.tools,
            config=scene.config,
            clock=scene.clock,
        ) as house:
            scene.house = house
            minted = await house.mint.create("tester", ADMIN.project, scopes=tuple(ADMIN.scopes))
            scene.credential = minted.text
            yield scene

    yield set_up
