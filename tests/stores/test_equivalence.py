"""Whatever is done, in whatever order, every engine gives the answers that the one in memory gives."""

import asyncio
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.errors import DragomanError
from dragoman.core.events import Event
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, ProjectId, RunId, Tape
from dragoman.runtime.ports import Accepted, Claim, NewTurn, StaleClaim
from dragoman.stores.memory import MemoryStore
from tests.stores.conftest import DURABLE, ENGINES, Engine
from tests.stores.talk import received
from tests.support import FixedClock

CONVERSATIONS = st.sampled_from(["a", "b"])
INDEX = st.integers(0, 5)
WEIGHT = st.integers(0, 9)
EVENTS = st.lists(
    st.sampled_from(
        [
            ev.TextAdded("x"),
            ev.ThinkingAdded("y"),
            ev.ReplyStarted("a", "m"),
            ev.ReplyFinished("x"),
            ev.AttemptReset(4),
            ev.TitleGiven("t"),
        ]
    ),
    max_size=4,
)
ENDS = st.sampled_from([ev.RunCompleted(), ev.RunFailed("a", "b"), ev.RunCancelled(), ev.RunNeedsClient(())])
STEPS = st.one_of(
    st.tuples(st.just("accept"), CONVERSATIONS, st.booleans(), st.integers(0, 3)),
    st.tuples(st.just("append"), INDEX, EVENTS),
    st.tuples(st.just("finish"), INDEX, EVENTS, ENDS, WEIGHT),
    st.tuples(st.just("finish"), INDEX, EVENTS, ENDS, WEIGHT),
    st.tuples(st.just("reclaim"), INDEX),
    st.tuples(st.just("end_waiting"), INDEX),
    st.tuples(st.just("delete"), CONVERSATIONS),
    st.tuples(st.just("import"), CONVERSATIONS),
)


@dataclass
class Session:
    """One engine being put through the steps, and the claims it gave."""

    store: Engine
    project: ProjectId
    claims: list[Claim] = field(default_factory=list[Claim])
    runs: list[RunId] = field(default_factory=list[RunId])

    async def do(self, step: tuple[Any, ...]) -> Any:
        try:
            return await self._do(step)
        except (DragomanError, StaleClaim) as error:
            return type(error), str(error)

    async def _do(self, step: tuple[Any, ...]) -> Any:
        match step:
            case ("accept", conversation, must_exist, queue_max):
                made = ev.ConversationCreated(self.project, conversation)
                run = self._new_run()
                new = NewTurn(self.project, conversation, run, received("q"), made, must_exist, queue_max)
                return self._note(await self.store.accept(new))
            case ("append", index, events):
                return await self.store.append(self._claim(index), tuple(events))
            case ("finish", index, events, end, weight):
                everything: tuple[Event, ...] = (*events, end)
                return self._note(await self.store.finish(self._claim(index), everything, weight=weight))
            case ("reclaim", index):
                return self._note(await self.store.reclaim(self._run(index)))
            case ("end_waiting", index):
                return await self.store.end_waiting(self._run(index), ev.RunCancelled("q"))
            case ("delete", conversation):
                return list(await self.store.delete(self.project, conversation) or ())
            case ("import", conversation):
                made = ev.ConversationCreated(self.project, conversation)
                imported = ev.MessagesImported((said("user", "abc"),))
                return await self.store.put_messages(made, imported, at=5.0, updated_at=6.0, run=self._new_run())
            case _:
                raise AssertionError(step)

    def _new_run(self) -> RunId:
        self.runs.append(RunId(f"{self.project}-{len(self.runs)}"))
        return self.runs[-1]

    def _run(self, index: int) -> RunId:
        """The index-th newest."""
        return self.runs[-1 - index % len(self.runs)] if self.runs else RunId("nobody")

    def _claim(self, index: int) -> Claim:
        if self.claims:
            return self.claims[-1 - index % len(self.claims)]
        return Claim(self.project, ConversationId("a"), Tape(10**6), RunId("nobody"), 1)

    def _note(self, result: Accepted | Claim | None) -> Accepted | Claim | None:
        claim = result.claim if isinstance(result, Accepted) else result
        if claim is not None:
            self.claims.append(claim)
        return result

    async def everything(self) -> Any:
        """All that can be read of the project."""
        store = self.store
        page = await store.page(self.project, after="", limit=0)
        runs = await store.runs(self.project, limit=1000)
        tapes = [info.tape for info in page.items]
        return (
            page,
            list(runs),
            [run for run in await store.unfinished() if run.id.startswith(self.project)],
            [list(await store.read(tape, after=0)) for tape in tapes],
            [list(await store.read(tape, after=2, limit=3)) for tape in tapes],
            [list(await store.read_run(run)) for run in runs],
            [
                list(await store.history(tape, before=before, chars_max=chars_max))
                for tape in tapes
                for before in (5, 12, 1000)
                for chars_max in (0, 3, 9, 100)
            ],
        )


class Pair:
    """An engine, a second door to its data, and the model. Opened once: each example has a project of its own."""

    def __init__(self, runner: asyncio.Runner, engine: Engine, beside: Engine, model: Engine) -> None:
        self._runner = runner
        self._engine = engine
        self._beside = beside
        self._model = model
        self._examples = 0

    def compare(self, steps: list[tuple[Any, ...]]) -> None:
        self._examples += 1
        project = ProjectId(f"p{self._examples}")
        self._runner.run(self._compare(Session(self._engine, project), Session(self._model, project), steps))

    async def _compare(self, engine: Session, model: Session, steps: list[tuple[Any, ...]]) -> None:
        for step in steps:
            assert await engine.do(step) == await model.do(step)
        expected = await model.everything()
        assert await engine.everything() == expected
        assert await Session(self._beside, engine.project).everything() == expected  # with nothing in its memory


@pytest.fixture(params=DURABLE)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    clock = FixedClock()
    opening = ENGINES[request.param](tmp_path, clock)
    opening_beside = DURABLE[request.param](tmp_path, clock)

    def run(awaitable: Awaitable[Any]) -> Any:
        async def go() -> Any:
            return await awaitable

        return runner.run(go())

    with asyncio.Runner() as runner:
        engine = run(opening.__aenter__())
        beside = run(opening_beside.__aenter__())
        yield Pair(runner, engine, beside, MemoryStore(clock))
        run(opening_beside.__aexit__(None, None, None))
        run(opening.__aexit__(None, None, None))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(STEPS, max_size=25))
def test_an_engine_answers_as_the_one_in_memory(pair: Pair, steps: list[tuple[Any, ...]]):
    pair.compare(steps)
