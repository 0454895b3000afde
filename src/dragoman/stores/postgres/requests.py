"""What the writers are asked to do, who waits for it, and how it is answered."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from copy import copy
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from dragoman.core.errors import Unavailable
from dragoman.core.names import Tape
from dragoman.runtime.fuses import blow
from dragoman.stores.postgres.books import Books
from dragoman.stores.postgres.connection import Connection
from dragoman.stores.postgres.lookups import About
from dragoman.stores.postgres.tapes import Look

TRIES_MAX = 12
"""How often a request may find that others were quicker."""

P = ParamSpec("P")
R = TypeVar("R")


class Plan(Generic[P, R]):
    """Something that can be done to the books. `fuses` are those before and after its commit. `locked`: it is rare, or
    others are likely to write to the tape too, so that it is not tried without locking the tape first."""

    __slots__ = ("carry_out", "fuses", "locked")

    def __init__(
        self,
        carry_out: Callable[Concatenate[Books, P], R],
        *,
        fuses: tuple[str, str] | None = None,
        locked: bool = False,
    ) -> None:
        self.carry_out = carry_out
        self.fuses = fuses
        self.locked = locked


class Request:
    """A plan to be carried out, or an errand, and who waits for it."""

    __slots__ = (
        "about",
        "args",
        "errand",
        "error",
        "fresh",
        "future",
        "locked",
        "look",
        "plan",
        "result",
        "tape",
        "tries",
    )

    def __init__(self, future: "asyncio.Future[Any]", about: About) -> None:
        self.future = future
        self.about = about
        self.plan: Plan[..., Any] | None = None
        self.args: tuple[Any, ...] = ()
        self.errand: Callable[[Connection], Awaitable[Any]] | None = None
        """Something of its own, in a transaction of its own."""
        self.fresh = False
        """What is remembered of its tape will not do."""
        self.locked = False
        self.look: Look | None = None
        self.tries = 0
        self.tape: Tape | None = None
        """The tape on which its result depends."""
        self.result: Any = None
        self.error: Exception | None = None

    def blow(self, when: int) -> None:
        if self.plan is not None and self.plan.fuses is not None:
            blow(self.plan.fuses[when])


def groups(batch: list[Request]) -> Iterator[tuple[list[Request], bool]]:
    """Those that go together, and whether their tapes are locked first."""
    errands = [request for request in batch if request.errand is not None]
    locked = [request for request in batch if request.locked and request.errand is None]
    others = [request for request in batch if not request.locked and request.errand is None]
    if others:
        yield others, False
    if locked:
        yield locked, True
    for errand in errands:
        yield [errand], True


def keep(requests: list[Request]) -> list[Request]:
    """Requests that are to be tried again, but for those that were too often."""
    for request in requests:
        request.tries += 1
    tired = [request for request in requests if request.tries > TRIES_MAX]
    if tired:
        fail(tired, Unavailable("Too many write to this conversation at once; try again.", code="storage_busy"))
        answer(tired)
    return [request for request in requests if request.tries <= TRIES_MAX]


def fail(requests: list[Request], error: Exception) -> None:
    for request in requests:
        request.error = copy(error)  # each is raised in a task of its own and grows a traceback there


def answer(requests: list[Request]) -> None:
    for request in requests:
        if request.future.done():
            continue  # cancelled meanwhile
        if request.error is None:
            request.future.set_result(request.result)
        else:
            request.future.set_exception(request.error)
