"""Documents over a store of their own, for tests: no model and no driver, turns are written down as if they had run."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, cast

from dragoman.core import events as ev
from dragoman.core.events import Event
from dragoman.core.messages import Message, said
from dragoman.core.names import ConversationId, Principal, ProjectId, RunId, Scope
from dragoman.core.operations import ConversationInfo, StartTurn
from dragoman.runtime.conversations import Conversations
from dragoman.runtime.documents import Documents, prepare_whole
from dragoman.runtime.ports import Claim, NewTurn, Store
from dragoman.runtime.runs import Runs
from dragoman.stores.memory import MemoryStore
from dragoman.stores.sqlite.store import open_store
from tests.support import FixedClock

PROJECT = ProjectId("default")
C = ConversationId("c")
SCOPES = frozenset({Scope.CHAT_RUN, Scope.CONVERSATIONS_READ, Scope.CONVERSATIONS_WRITE})
ANNA, BERT = (Principal(PROJECT, name, f"{name}'s key", SCOPES, subject=f"user:{name}") for name in ("anna", "bert"))
ADMIN = Principal(PROJECT, "root", "root", frozenset({Scope.ADMIN}))
ENGINES = ("memory", "sqlite")


class Directory:
    """Who is behind an owner; it counts how often it is asked."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)
        self.asked = 0

    async def name_of(self, project: ProjectId, owner: str) -> str:
        self.asked += 1
        return self.names.get(owner, "")


class Archive:
    def __init__(self, store: Store, clock: FixedClock) -> None:
        numbers = count(1)
        self.store = store
        self.clock = clock
        self.names = Directory({principal.owner: principal.name for principal in (ANNA, BERT, ADMIN)})
        self.changed: list[str] = []
        new_id: Callable[[], RunId] = lambda: RunId(f"r{next(numbers)}")  # noqa: E731 one name for what three share
        # No run is ever driven here.
        runs = Runs(store, cast("Any", None), spawn=cast("Any", None), new_id=new_id, queue_max=8)
        self.conversations = Conversations(store, runs, new_id=new_id, changed=self._tell)
        self.documents = Documents(store, self.conversations, self.names, clock, new_id=new_id, changed=self._tell)
        self._handlers = self.documents.handlers()
        self._new_id = new_id

    async def _tell(self, project: ProjectId, conversation: ConversationId) -> None:
        self.changed.append(conversation)

    async def do(self, operation: Any, principal: Principal = ANNA) -> Any:
        """As a desk would have it answered."""
        return await self._handlers[type(operation)](principal, operation)

    async def begin(self, *asked: Message, conversation: str = C, by: Principal = ANNA, **received: Any) -> Claim:
        """Accept a turn and leave it live."""
        name = ConversationId(conversation)
        turn = ev.TurnReceived(asked, **received)
        created = ev.ConversationCreated(PROJECT, name, "test", by.owner)
        accepted = await self.store.accept(NewTurn(PROJECT, name, self._new_id(), turn, created))
        assert accepted.claim is not None
        return accepted.claim

    async def end(self, claim: Claim, *events: Event) -> None:
        await self.store.finish(claim, events, after=claim.seq, weight=1)

    async def talk(
        self,
        question: str = "q",
        answer: str = "a",
        *,
        conversation: str = C,
        by: Principal = ANNA,
        said_between: Sequence[Event] = (),
        end: Event | None = None,
        **received: Any,
    ) -> None:
        """A turn from its question to its end."""
        claim = await self.begin(said("user", question), conversation=conversation, by=by, **received)
        await self.end(claim, *said_between, ev.ReplyFinished(answer), end or ev.RunCompleted())

    async def take(self, turn: StartTurn, by: Principal = ANNA) -> tuple[StartTurn, str]:
        return await prepare_whole(self.conversations, by, turn)

    async def info(self, conversation: str = C) -> ConversationInfo:
        info = await self.store.get(PROJECT, ConversationId(conversation))
        assert info is not None
        return info


@asynccontextmanager
async def archive_of(engine: str, folder: Path) -> AsyncGenerator[Archive]:
    clock = FixedClock()
    store: Store
    if engine == "memory":
        store = MemoryStore(clock)
    else:
        store = await open_store(folder / "dragoman.db", clock, writer=True)
    yield Archive(store, clock)
    await store.close()
