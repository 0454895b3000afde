"""The second half of the composition root: who answers the operations that the desk leaves to others."""

import os
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from dragoman import __version__
from dragoman.access.login import Login
from dragoman.access.pepper import Pepper
from dragoman.access.sealing import load_sealer
from dragoman.access.service_accounts import ServiceAccounts
from dragoman.access.tickets import Tickets
from dragoman.core.about import AboutServer, ServerAbout
from dragoman.core.names import ConversationId, Principal
from dragoman.core.operations import Operation, ReadConversation, StartTurn
from dragoman.edge.desk import Handler, OpenHandler, Prepare
from dragoman.edge.watching import Check
from dragoman.runtime.deciding import Decisions
from dragoman.runtime.resources import Resources
from dragoman.runtime.tunnels import Tunnels
from dragoman.server.house import House


def managed_resources(house: House) -> Resources:
    """Rules, skills and their like; what of them goes with a turn is for the desk to `prepare`. Raises BadSecretKey."""
    sealer = load_sealer(house.home, env=os.environ, random_bytes=os.urandom)
    return Resources(house.records, house.store, sealer, house.clock, new_id=lambda: str(uuid4()))


def waits(house: House) -> Decisions:
    """What others bring to runs that wait. The house must have its stores."""
    return Decisions((house.store, house.ephemeral), house.clock)


def lent_tools(house: House, decisions: Decisions) -> Tunnels:
    """Tools of people's own machines."""
    return Tunnels(house.records, decisions.waiting, house.clock)


def preparing(resources: Resources, tunnels: Tunnels) -> Prepare:
    """All that goes with a managed turn."""

    async def prepare(principal: Principal, turn: StartTurn) -> StartTurn:
        return await tunnels.prepare(principal, await resources.prepare(principal, turn))

    return prepare


def reading(house: House) -> Check:
    """Whether a conversation is there for somebody to read. The house must have its conversations."""

    async def check(principal: Principal, conversation: ConversationId) -> None:
        await house.conversations.read(principal, ReadConversation(conversation, turns=False, private=True))

    return check


def handlers(
    house: House, pepper: Pepper, resources: Resources, decisions: Decisions, tunnels: Tunnels
) -> Mapping[type[Operation[Any]], Handler]:
    """For principals. The house must have its conversations."""

    accounts = ServiceAccounts(house.access, house.records, house.mint, house.authenticator, house.clock)
    tickets = Tickets(pepper, house.clock, reading(house))
    parts = (accounts, tickets, resources, decisions, tunnels)
    return {operation: handler for part in parts for operation, handler in part.handlers().items()}


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
    agents = (default, *(name for name in house.config.agents if name != default))

    async def about(operation: AboutServer) -> ServerAbout:
        return ServerAbout(__version__, agents)

    return {**login.open_handlers(), AboutServer: about}
