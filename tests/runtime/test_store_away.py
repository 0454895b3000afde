"""A run whose model is a record of the store, while the store is away for a moment: it waits, as its writes do."""

from typing import Any

import pytest

from dragoman.core import events as ev
from dragoman.core.agents import Loop
from dragoman.core.errors import Unavailable
from tests.parts import USAGE, call_reply, text_reply
from tests.runtime.looping import Talker
from tests.runtime.scene import asked, scene_of

AWAY = Unavailable("The store is away.")
TITLED = {"title_conversation": call_reply(("title_conversation", '{"title":"T"}'))}


class Flaky:
    """Models whose records cannot be read the first so many times."""

    def __init__(self, models: Any, failures: int) -> None:
        self._models = models
        self.failures = failures

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise AWAY

    async def choose(self, project: Any, name: str) -> Any:
        self._fail()
        return await self._models.choose(project, name)

    async def knows(self, project: Any, name: str) -> bool:
        self._fail()
        return await self._models.knows(project, name)


async def drive(failures: int) -> list[Any]:
    async with scene_of(Talker(text_reply("Fine."), forced=TITLED)) as s:
        replying = s.driver._replying
        replying._models = Flaky(replying._models, failures)
        await s.drive(asked(model="main", loop=Loop(titled=True)))
        return await s.events()


@pytest.mark.parametrize("failures", range(1, 6))
async def test_a_model_that_cannot_be_looked_up_for_a_moment_is_waited_for(failures: int) -> None:
    assert (await drive(failures))[-2:] == [ev.TitleGiven("T"), ev.RunCompleted(USAGE)]


async def test_a_run_that_waited_long_enough_is_put_down_and_not_failed() -> None:
    with pytest.raises(Unavailable):
        await drive(10**6)
