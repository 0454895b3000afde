"""Who answers what: every operation there is has exactly one who does."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dragoman import core
from dragoman.core.admission import DecideLogin, IssueStreamTicket, LoginWish
from dragoman.core.errors import NotFound
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, Scope
from dragoman.core.operations import Operation, StartTurn
from dragoman.stores.memory import MemoryStore
from tests.parts import ADMIN, ScriptedReplies, house_of, text_reply
from tests.support import FixedClock

CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def operations(kind: type[Any] = Operation) -> Iterator[type[Any]]:
    for below in kind.__subclasses__():
        if below.__module__.startswith("dragoman.core."):
            yield from operations(below)
            yield below


def opened(tmp_path: Path, store: MemoryStore, clock: FixedClock) -> Any:
    return house_of(tmp_path, ScriptedReplies(text_reply("Fine.")), store=store, access=store, clock=clock)


async def test_every_operation_is_answered_for_principals_or_for_anybody(tmp_path: Path) -> None:
    for module in pkgutil.iter_modules(core.__path__, "dragoman.core."):
        importlib.import_module(module.name)
    clock = FixedClock()
    async with opened(tmp_path, MemoryStore(clock), clock) as house:
        private, anybody = set(house.desk._handlers), set(house.desk._open_handlers)

    answered = {kind for kind in operations() if kind.__name__ != "Operation" and "[" not in kind.__name__}
    turns = {kind for kind in answered if issubclass(kind, StartTurn)}
    assert {kind.__name__ for kind in answered - private - anybody - turns} == set()
    assert private & anybody == set()


async def test_a_ticket_is_given_for_a_conversation_that_its_reader_sees(tmp_path: Path) -> None:
    clock = FixedClock()
    async with opened(tmp_path, MemoryStore(clock), clock) as house:
        principal = await house.authenticator.prove((await house.mint.create("me", ADMIN.project)).text)
        mine = StartTurn(ConversationId("mine"), (said("user", "how is it?"),), private=True)
        started = await house.desk.answer(principal, mine)
        await house.desk.outcome(started)
        issued = await house.desk.answer(principal, IssueStreamTicket(ConversationId("mine")))
        reader = await house.authenticator.prove_ticket(issued.text, conversation="mine")
        refused = []
        for who, conversation in ((principal, "nobody's"), (ADMIN, "mine")):
            try:
                await house.desk.answer(who, IssueStreamTicket(ConversationId(conversation)))
            except NotFound as error:
                refused.append(error.what)

    assert (reader.owner, Scope.CHAT_RUN in reader.scopes) == (principal.owner, False)
    assert refused == ["conversation", "conversation"]


async def test_a_login_may_be_asked_for_by_anybody(tmp_path: Path) -> None:
    clock = FixedClock()
    async with opened(tmp_path, MemoryStore(clock), clock) as house:
        wish = LoginWish(CHALLENGE, "laptop", (Scope.CHAT_READ,))
        text = (await house.mint.create("me", ADMIN.project)).text
        decided = await house.desk.answer_anybody(DecideLogin(wish, True, text))

    assert (decided.name, len(decided.code)) == ("me", 43)
