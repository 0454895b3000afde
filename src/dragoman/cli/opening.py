"""Opening what a command works on: the config, and the house in this process.

The server's modules are imported inside the functions: `dragoman credentials --help` needs none of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dragoman.cli.failing import unwrapped
from dragoman.cli.options import settings
from dragoman.cli.terminal import warn
from dragoman.core.errors import NotFound, Unavailable
from dragoman.core.names import Principal, ProjectId, Scope
from dragoman.stores.sqlite.lock import holder_of

if TYPE_CHECKING:
    from dragoman.server.config import Config, Loaded
    from dragoman.server.house import House

T = TypeVar("T")

LOCAL = "local"
"""Credential id of whoever works on the store itself: whoever can read its files needs no other proof."""


def load_settings(*, resolve_secrets: bool = True) -> "Loaded":
    """The config this command works with; its warnings are shown. Raises BadConfig."""
    from dragoman.server.config import load  # noqa: PLC0415 keeps a verb's --help fast

    loaded = load(settings().home, file=settings().config, resolve_secrets=resolve_secrets)
    for warning in loaded.warnings:
        warn(warning)
    return loaded


def local_principal(config: "Config", project: str = "") -> Principal:
    """Whoever sits at this machine, in a project ("" = the default one)."""
    name = ProjectId(project or config.defaults.project)
    return Principal(name, LOCAL, "command line", frozenset({Scope.ADMIN}), 0)


async def acting_in(house: "House", project: str = "") -> Principal:
    """The same, of a project that is there. Raises NotFound for any but the default one, which is made when it is
    first needed."""
    principal = local_principal(house.config, project)
    where = principal.project
    if where != house.config.defaults.project and await house.access.project(where) is None:
        raise NotFound(f"There is no project {where[:100]}; list them with: dragoman projects ls", what="project")
    return principal


async def project_of(house: "House", project: str = "") -> ProjectId:
    """Its id. Raises NotFound as above."""
    return (await acting_in(house, project)).project


def in_house(work: "Callable[[House], Awaitable[T]]", *, writer: bool, resolve_secrets: bool = False) -> T:
    """Open the house, do the work, close it. `writer` = tapes are written, so no server may run on this home.

    Secrets are resolved for work that asks models or outside systems; a writer may, for it takes up runs that a dead
    process left behind.
    """
    return in_house_of(load_settings(resolve_secrets=resolve_secrets or writer).config, work, writer=writer)


def in_house_of(config: "Config", work: "Callable[[House], Awaitable[T]]", *, writer: bool) -> T:
    from dragoman.server.assemble import open_house  # noqa: PLC0415 keeps a verb's --help fast

    if writer:
        refuse_if_in_use(config)

    async def opened() -> T:
        # Beside servers on PostgreSQL the lost runs are theirs to take up: this process is soon gone again.
        take_up = not config.store.is_postgres
        async with open_house(config, settings().home, writer=writer, take_up=take_up) as house:
            return await work(house)

    try:
        return asyncio.run(opened())
    except BaseExceptionGroup as group:
        raise unwrapped(group) from group


def store_path(config: "Config") -> Path:
    from dragoman.server.config import store_file  # noqa: PLC0415 keeps a verb's --help fast

    return store_file(config, settings().home)


def refuse_if_in_use(config: "Config", *, can_talk: bool = False) -> None:
    """Raises Unavailable when a process, most likely a server, writes this home's tapes. `can_talk` = the command
    could ask that server instead."""
    path = store_path(config)
    holder = None if config.store.is_postgres else holder_of(path)
    if holder is None:
        return
    where = f", listening on {holder.url}" if holder.url else ""
    talk = f"talk to it with --url {holder.url or 'http://HOST:PORT'}, " if can_talk else ""
    raise Unavailable(
        f"The store {path} is in use by process {holder.pid}{where}: {talk}stop it first, or use another --home."
    )
