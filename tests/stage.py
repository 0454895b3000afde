"""A whole house in process for tests at the edge: real edge, runtime and stores around a scripted model."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dragoman.stores.memory import MemoryStore
from tests.parts import ADMIN, LedgerTools, ScriptedReplies, house_of, open_config, text_reply
from tests.streaming_client import Client
from tests.support import FixedClock

T = TypeVar("T")

SetUp = Callable[..., AbstractAsyncContextManager["Stage"]]
Run = Callable[[Coroutine[Any, Any, T]], T]


class Stage:
    """What a test at the edge has at hand."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = FixedClock()
        self.store: Any = MemoryStore(self.clock)
        self.model = ScriptedReplies(text_reply("It is ", "fine."))
        self.tools = LedgerTools({"look": "seen"})
        self.home = tmp_path
        self.config = open_config()
        self.house: Any = None
        self.credential = ""
        self.dialects: Any = None
        """Those to mount; None = all that are installed."""

    def client(self, **options: Any) -> Client:
        headers = {"authorization": f"Bearer {self.credential}", "content-type": "application/json"}
        return Client(self.house.app, headers=headers, **options)

    def anonymous(self, **options: Any) -> Client:
        return Client(self.house.app, headers={"content-type": "application/json"}, **options)


@pytest.fixture
def stage(tmp_path: Path) -> SetUp:
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
            dialects=scene.dialects,
        ) as house:
            scene.house = house
            minted = await house.mint.create("tester", ADMIN.project, scopes=tuple(ADMIN.scopes))
            scene.credential = minted.text
            yield scene

    return set_up


@contextmanager
def standing(stage: SetUp, **settings: Any) -> Iterator[tuple[Stage, Run[Any]]]:
    """The house, open in an event loop of its own, and what runs a coroutine there.

    For examples that hypothesis draws: each is a coroutine of its own, and opening a house for each would be slow.
    """
    with asyncio.Runner() as runner:
        opened: asyncio.Future[Stage] = runner.get_loop().create_future()
        leave = asyncio.Event()

        async def hold() -> None:
            async with stage(**settings) as scene:
                opened.set_result(scene)
                await leave.wait()

        async def first(holding: "asyncio.Task[None]") -> Stage:
            await asyncio.wait((holding, opened), return_when=asyncio.FIRST_COMPLETED)
            return opened.result() if opened.done() else holding.result()  # type: ignore[return-value] it raises

        async def last(holding: "asyncio.Task[None]") -> None:
            leave.set()
            await holding

        holding = runner.get_loop().create_task(hold())
        scene = runner.run(first(holding))
        try:
            yield scene, runner.run
        finally:
            runner.run(last(holding))
