"""The second half of the composition root: who answers the operations that the desk leaves to others."""

import os
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from dragoman import __version__
from dragoman.access.login import Login
from dragoman.access.naming import Naming
from dragoman.access.pepper import Pepper
from dragoman.access.service_accounts import ServiceAccounts
from dragoman.access.tickets import Tickets
from dragoman.core.about import AboutServer, ServerAbout
from dragoman.core.agents import AgentSpec
from dragoman.core.names import ConversationId, Principal, RunId
from dragoman.core.operations import Operation, ReadConversation, StartTurn
from dragoman.edge.desk import Handler, OpenHandler
from dragoman.edge.watching import Check
from dragoman.runtime.briefing import Briefings
from dragoman.runtime.deciding import Decisions
from dragoman.runtime.documents import Documents, prepare_whole
from dragoman.runtime.resources import Resources
from dragoman.runtime.runs import Changed
from dragoman.runtime.tunnels import Tunnels
from dragoman.runtime.widget import WidgetChats
from dragoman.server.house import House


class Answerers:
    """Those who answer for principals, and what goes with their turns. The house must have its conversations."""

    def __init__(
        self,
        house: House,
        agents: Mapping[str, AgentSpec],
        pepper: Pepper,
        *,
        new_id: Callable[[], RunId],
        changed: Changed | None,
    ) -> None:
        self._house = house
        self._pepper = pepper
        self._resources = Resources(house.records, house.store, house.sealer, house.clock, new_id=lambda: str(uuid4()))
        self._decisions = Decisions((house.store, house.ephemeral), house.clock)
        self._tunnels = Tunnels(house.records, self._decisions.waiting, house.clock)
        self._chats = WidgetChats(house.records, house.conversations, house.clock)
        self._briefings = Briefings(house.knowledge, house.tools, agents, default_agent=house.config.defaults.agent)
        self._documents = Documents(
            house.store, house.conversations, Naming(house.access), house.clock, new_id=new_id, changed=changed
        )

    async def stage(self, principal: Principal, turn: StartTurn) -> StartTurn:
        """The workflow that answers a turn that wants one."""
        return await self._house.stagings.prepare(principal, await self._chats.prepare(principal, turn))

    async def prepare(self, principal: Principal, turn: StartTurn) -> StartTurn:
        """All that goes with a managed turn, and with one that has a briefing."""
        if turn.managed:
            turn = await self._tunnels.prepare(principal, await self._resources.prepare(principal, turn))
        return await self._briefings.brief(principal, turn)

    async def retell(self, principal: Principal, turn: StartTurn) -> tuple[StartTurn, str]:
        """What is new in a turn that tells the whole conversation."""
        return await prepare_whole(self._house.conversations, principal, turn)

    def handlers(self) -> Mapping[type[Operation[Any]], Handler]:
        house = self._house
        accounts = ServiceAccounts(house.access, house.records, house.mint, house.authenticator, house.clock)
        tickets = Tickets(self._pepper, house.clock, reading(house))
        parts = (
            *(self._chats, accounts, tickets, self._resources, self._decisions, self._tunnels),
            *(self._briefings, self._documents, house.knowledge, house.context, house.connectors, house.datasets),
        )
        return {operation: handler for part in parts for operation, handler in part.handlers().items()}


def reading(house: House) -> Check:
    """Whether a conversation is there for somebody to read. The house must have its conversations."""

    async def check(principal: Principal, conversation: ConversationId) -> None:
        await house.conversations.read(principal, ReadConversation(conversation, turns=False, private=True))

    return check


def open_handlers(house: House, pepper: Pepper) -> Mapping[type[Operation[Any]], OpenHandler]:
    """For anybody."""
    login = Login(
        house.access,
        house.records,
        house.mint,
        house.authenticator,
        pepper=pepper,
        clock=house.clock,
        random_bytes=os.urandom,
    )
    default = house.config.defaults.agent
    known = (*house.config.agents, *house.workflows.configured)
    agents = (default, *(name for name in known if name != default))

    async def about(operation: AboutServer) -> ServerAbout:
        return ServerAbout(__version__, agents)

    return {**login.open_handlers(), **house.sessions.open_handlers(), AboutServer: about}
