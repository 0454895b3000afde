"""Whatever is done, in whatever order, every engine gives the answers that the one in memory gives."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.core import events as ev
from dragoman.core.errors import DragomanError
from dragoman.core.events import Event
from dragoman.core.messages import said
from dragoman.core.names import CallId, ConversationId, ProjectId, RunId, Tape
from dragoman.core.operations import Archived, Mark
from dragoman.runtime.ports import KEY_KEPT_S, Accepted, Claim, NewTurn, StaleClaim
from dragoman.stores.memory import MemoryStore
from tests.stores.conftest import DURABLE, ENGINES, Engine
from tests.stores.talk import received
from tests.support import FixedClock

N = TypeVar("N", Accepted, Claim, Claim | None)

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
NOTES = st.lists(
    st.one_of(
        st.builds(ev.TitleGiven, st.sampled_from(["u", ""])),
        st.builds(ev.SharingChanged, st.booleans()),
        st.builds(ev.ArchivingChanged, st.booleans()),
    ),
    min_size=1,
    max_size=3,
)
ASKS = st.sampled_from(
    [
        ev.CancelAsked("me"),
        ev.ApprovalDecided(CallId("x"), approved=True),
        ev.ClientToolClaimed(CallId("x"), "tab"),
        ev.ClientToolAnswered(CallId("x"), "y"),
    ]
)
OWNERS = st.sampled_from(["", "ann", "bob"])
ENDS = st.sampled_from([ev.RunCompleted(), ev.RunFailed("a", "b"), ev.RunCancelled(), ev.RunNeedsClient(())])
KEYS = st.sampled_from(["k1", "k2"])
MARKS = st.one_of(
    st.builds(Mark, st.sampled_from(["f", "g"]), KEYS),
    st.builds(Mark, st.sampled_from(["f", "g"]), st.just(""), st.sampled_from([0.0, 10.0])),
)
OFFSET = st.sampled_from([0, 0, 0, 0, -1, 1])
"""By how much a write is wrong about what stands before it."""
STEPS = st.one_of(
    st.tuples(st.just("accept"), CONVERSATIONS, st.booleans(), st.integers(0, 3)),
    st.tuples(st.just("accept_marked"), CONVERSATIONS, MARKS),
    st.tuples(st.just("append"), INDEX, EVENTS, OFFSET),
    st.tuples(st.just("append"), INDEX, EVENTS, OFFSET),
    st.tuples(st.just("finish"), INDEX, EVENTS, ENDS, OFFSET, WEIGHT),
    st.tuples(st.just("finish"), INDEX, EVENTS, ENDS, OFFSET, WEIGHT),
    st.tuples(st.just("again")),
    st.tuples(st.just("reclaim"), INDEX),
    st.tuples(st.just("take_lost"), st.integers(0, 3)),
    st.tuples(st.just("renew"), st.integers(0, 3)),
    st.tuples(st.just("release"), INDEX),
    st.tuples(st.just("ask"), INDEX, ASKS),
    st.tuples(st.just("note"), CONVERSATIONS, NOTES),
    st.tuples(st.just("accept_owned"), CONVERSATIONS, OWNERS, OWNERS),
    st.tuples(st.just("asked")),
    st.tuples(st.just("end_waiting"), INDEX),
    st.tuples(st.just("keep_answer"), KEYS, st.binary(max_size=3)),
    st.tuples(st.just("answer_kept"), KEYS),
    st.tuples(st.just("prune"), st.sampled_from([0.0, 10.0]), st.integers(0, 3)),
    st.tuples(st.just("delete"), CONVERSATIONS),
    st.tuples(st.just("import"), CONVERSATIONS),
    st.tuples(st.just("replace"), CONVERSATIONS),
    st.tuples(st.just("move"), st.sampled_from([8.0, 20.0, KEY_KEPT_S])),
)
"""`move` is the clock's: half a lease, more than one, the life of a key."""
SHELVES = [
    (owner, origins, archived, offset, shared)
    for owner in (None, "ann", "bob", "")
    for origins in ((), ("import",))
    for archived in Archived
    for offset in (0, 1)
    for shared in (False, True)
]
SHELVES_EACH = 4
"""Of these an example looks at so many, and the next one at others: to look at all of them each time was two thirds of
all that the store was asked."""
EXAMPLES_S = 12.0
"""After this no further examples are tried: on a busy machine fewer do."""


@dataclass
class Session:
    """One engine being put through the steps, and the claims it gave."""

    store: Engine
    project: ProjectId
    clock: FixedClock
    claims: list[Claim] = field(default_factory=list[Claim])
    runs: list[RunId] = field(default_factory=list[RunId])
    last: dict[Claim, int] = field(default_factory=dict[Claim, int])
    """What each claim has written last."""
    again: "Callable[[], Awaitable[Any]] | None" = None
    """The last write, to be done once more."""
    shelves: Sequence[tuple[Any, ...]] = ()

    async def do(self, step: tuple[Any, ...]) -> Any:
        try:
            return await self._do(step)
        except DragomanError as error:
            return type(error), str(error)
        except StaleClaim:
            return StaleClaim

    async def _do(self, step: tuple[Any, ...]) -> Any:
        match step:
            case ("accept", conversation, must_exist, queue_max):
                return await self._accept(conversation, Mark(), must_exist=must_exist, queue_max=queue_max)
            case ("accept_owned", conversation, owner, only_owner):
                return await self._accept(
                    conversation, Mark(), must_exist=False, queue_max=8, owner=owner, only_owner=only_owner
                )
            case ("accept_marked", conversation, mark):
                return await self._accept(conversation, mark, must_exist=False, queue_max=8)
            case ("append", index, events, offset):
                claim = self._claim(index)
                after = self.last.get(claim, claim.seq) + offset
                return await self._write(partial(self._append, claim, tuple(events), after))
            case ("finish", index, events, end, offset, weight):
                claim = self._claim(index)
                after = self.last.get(claim, claim.seq) + offset
                return await self._write(partial(self._finish, claim, (*events, end), after, weight))
            case ("again",):
                return await self.again() if self.again is not None else None
            case ("reclaim", index):
                return self._note(await self.store.reclaim(self._run(index)))
            case ("take_lost", limit):
                return [self._note(claim) for claim in await self.store.take_lost(limit=limit)]
            case ("renew", count):
                return await self.store.renew(self.claims[-count:] if count else ())
            case ("release", index):
                return await self.store.release((self._claim(index),))
            case ("ask", index, event):
                return await self.store.ask(self._run(index), event)
            case ("asked",):
                return await self.store.asked(self.claims)
            case _:
                return await self._keep(step)

    async def _keep(self, step: tuple[Any, ...]) -> Any:
        match step:
            case ("keep_answer", key, answer):
                return await self.store.keep_answer(self.project, key, answer)
            case ("answer_kept", key):
                return await self.store.answer_kept(self.project, key)
            case ("prune", ago_s, limit):
                return await self.store.prune(ended_before=self.clock.at - ago_s, limit=limit)
            case ("note", conversation, events):
                return await self.store.note(self.project, conversation, tuple(events))
            case ("end_waiting", index):
                return await self.store.end_waiting(self._run(index), ev.RunCancelled("q"))
            case ("delete", conversation):
                return list(await self.store.delete(self.project, conversation) or ())
            case ("import", conversation):
                made = ev.ConversationCreated(self.project, conversation, "import", "bob", "Old")
                imported = ev.MessagesImported((said("user", "abc"),))
                return await self.store.put_messages(made, imported, at=5.0, updated_at=6.0, run=self._new_run())
            case ("replace", conversation):
                over = ev.MessagesImported((said("user", "abcd"), said("assistant", "e")), replaces=True)
                return await self.store.replace_messages(self.project, conversation, over, run=self._new_run())
            case _:
                raise AssertionError(step)

    async def _accept(
        self,
        conversation: ConversationId,
        mark: Mark,
        *,
        must_exist: bool,
        queue_max: int,
        owner: str = "ann",
        only_owner: str = "",
    ) -> Any:
        made = ev.ConversationCreated(self.project, conversation, "test", owner, "New")
        asked = received("q", fingerprint=mark.fingerprint)
        new = NewTurn(self.project, conversation, self._new_run(), asked, made, must_exist, queue_max, mark, only_owner)
        return self._note(await self.store.accept(new))

    async def _write(self, write: Callable[[], Awaitable[Any]]) -> Any:
        self.again = write
        return await write()

    async def _append(self, claim: Claim, events: tuple[Event, ...], after: int) -> int:
        self.last[claim] = last = await self.store.append(claim, events, after=after)
        return last

    async def _finish(self, claim: Claim, events: tuple[Event, ...], after: int, weight: int) -> Claim | None:
        return self._note(await self.store.finish(claim, events, after=after, weight=weight))

    def _new_run(self) -> RunId:
        self.runs.append(RunId(f"{self.project}-{len(self.runs)}"))
        return self.runs[-1]

    def _run(self, index: int) -> RunId:
        """The index-th newest."""
        return self.runs[-1 - index % len(self.runs)] if self.runs else RunId("nobody")

    def _claim(self, index: int) -> Claim:
        if self.claims:
            return self.claims[-1 - index % len(self.claims)]
        return Claim(self.project, ConversationId("a"), Tape(10**6), RunId("nobody"), 1, 3)

    def _note(self, result: N) -> N:
        claim = result.claim if isinstance(result, Accepted) else result
        if claim is not None and claim not in self.claims:
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
            [
                await store.browse(
                    *(self.project,),
                    owner=owner,
                    origins=origins,
                    archived=archived,
                    limit=2,
                    offset=offset,
                    shared=shared,
                )
                for owner, origins, archived, offset, shared in self.shelves
            ],
            [list(await store.live_of(self.project, owner)) for owner in ("ann", "bob", "")],
            [await store.turns_since(self.project, at=self.clock.at - ago_s) for ago_s in (0.0, 10.0, KEY_KEPT_S)],
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

    def __init__(
        self, runner: asyncio.Runner, clock: FixedClock, engine: Engine, beside: Engine, model: Engine
    ) -> None:
        self._runner = runner
        self._clock = clock
        self._engine = engine
        self._beside = beside
        self._model = model
        self._examples = 0
        self._until = time.monotonic() + EXAMPLES_S

    def compare(self, steps: list[tuple[Any, ...]]) -> None:
        if time.monotonic() > self._until:
            return
        self._examples += 1
        project = ProjectId(f"p{self._examples}")
        first = self._examples * SHELVES_EACH % len(SHELVES)
        shelves = SHELVES[first : first + SHELVES_EACH]
        engine, model = (Session(store, project, self._clock, shelves=shelves) for store in (self._engine, self._model))
        try:
            self._runner.run(self._compare(engine, model, steps))
        except BaseException:
            self._until = math.inf  # what failed is made smaller, however long that takes
            raise

    async def _compare(self, engine: Session, model: Session, steps: list[tuple[Any, ...]]) -> None:
        try:
            for step in steps:
                if step[0] == "move":
                    self._clock.move(step[1])
                else:
                    assert await engine.do(step) == await model.do(step)
            expected = await model.everything()
            assert await engine.everything() == expected
            beside = Session(
                self._beside, engine.project, self._clock, shelves=engine.shelves
            )  # with nothing in its memory
            assert await beside.everything() == expected
        finally:  # what is lost or can be pruned is not asked for by project
            for session in (engine, model):
                await session.store.delete_project(session.project)


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
        yield Pair(runner, clock, engine, beside, MemoryStore(clock))
        run(opening_beside.__aexit__(None, None, None))
        run(opening.__aexit__(None, None, None))


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(STEPS, max_size=30))
def test_an_engine_answers_as_the_one_in_memory(pair: Pair, steps: list[tuple[Any, ...]]):
    pair.compare(steps)
