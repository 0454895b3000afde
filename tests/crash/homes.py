"""Homes and stores for servers under test: made once, copied for each trial, and read afterwards.

`sqlite` needs nothing. `postgres` needs a server in which databases may be made: DRAGOMAN_TEST_POSTGRES, by default the
one at 127.0.0.1:5432.
"""

import asyncio
import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from dragoman.access.projects import ensure_project
from dragoman.core.events import Entry
from dragoman.core.names import ProjectId, Scope
from dragoman.core.operations import RunView
from dragoman.server.assemble import open_house
from dragoman.server.config import load_config
from dragoman.server.house import House
from tests.crash.relay import take_in_relay

POSTGRES = os.environ.get("DRAGOMAN_TEST_POSTGRES", "postgresql://127.0.0.1:5432/")
PROJECTS = ("amber", "birch")
"""Two of them, so that one can be looked for in the other."""
SCOPES = tuple(scope for scope in Scope if scope is not Scope.ADMIN)
READ_AT_ONCE = 1000

CONFIG = """
[server]
drain = "10s"
[store]
url = "{store}"
lease = "{lease_s:g}s"
[models.main]
kind = "openai"
url = "{upstream}/v1"
name = "scripted"
[agents.assistant]
tools = ["crash.*"]
ask = ["count_asked"]
approval = "3s"
[connections.hooks]
kind = "webhook"
url = "{upstream}/tool_call"
[limits]
per_ip_rpm = 0
per_credential_rpm = 0
"""


class TapeDump(Struct, frozen=True):
    project: str
    conversation: str
    live_run: str | None
    entries: Sequence[Entry]


class Dump(Struct, frozen=True):
    """All that is in a store."""

    tapes: Sequence[TapeDump]
    runs: dict[str, RunView]


class Home(Struct, frozen=True):
    """A home of one server. Several of them may share a store."""

    path: Path
    store: str
    credentials: dict[str, str]
    """project -> the credential that the clients of that project use."""

    @property
    def database(self) -> Path:
        return self.path / "dragoman.db"


def write_config(home: Path, *, store: str, upstream: str, lease_s: float) -> None:
    (home / "dragoman.toml").write_text(CONFIG.format(store=store, upstream=upstream, lease_s=lease_s))


class Template(Struct, frozen=True):
    """A home, and for PostgreSQL a database, with two projects and their credentials: what trials begin with."""

    engine: str
    folder: Path
    postgres: str
    """The PostgreSQL server; "" for SQLite."""
    database: str
    credentials: dict[str, str]

    async def homes(self, folder: Path, *, upstream: str, lease_s: float, count: int = 1) -> list[Home]:
        """`count` homes over one new store. More than one needs PostgreSQL."""
        store = "sqlite:dragoman.db"
        if self.engine == "postgres":
            name = f"{self.database}_{secrets.token_hex(4)}"
            await execute(self.postgres, f'create database "{name}" template "{self.database}"')
            store = _at(self.postgres, name)
        homes: list[Home] = []
        for number in range(count):
            path = folder / f"home{number}"
            shutil.copytree(self.folder, path)
            write_config(path, store=store, upstream=upstream, lease_s=lease_s)
            homes.append(Home(path, store, self.credentials))
        return homes

    async def empty(self, home: Home) -> None:
        """Take everything out of a store that `homes` made."""
        if self.engine == "postgres":
            name = _database_of(home.store)
            await execute(self.postgres, f'drop database "{name}" with (force)')
            await execute(self.postgres, f'create database "{name}"')
        for file in home.path.glob("dragoman.db*"):
            file.unlink()

    async def discard(self, home: Home) -> None:
        """The database that `homes` made. Files lie in the folder it was given."""
        if self.engine == "postgres":
            await execute(self.postgres, f'drop database if exists "{_database_of(home.store)}" with (force)')


@asynccontextmanager
async def template(engine: str, folder: Path, *, postgres: str = POSTGRES) -> AsyncIterator[Template]:
    """Made here and gone afterwards."""
    home = folder / f"template-{engine}"
    home.mkdir(parents=True, mode=0o700)
    database = f"crash_{secrets.token_hex(6)}"
    store = "sqlite:dragoman.db"
    if engine == "postgres":
        await execute(postgres, f'create database "{database}"')
        store = _at(postgres, database)
    try:
        write_config(home, store=store, upstream="http://127.0.0.1:9", lease_s=5)
        credentials: dict[str, str] = {}
        async with opened(home, writer=True) as house:
            for project in PROJECTS:
                await ensure_project(house.access, ProjectId(project), at=house.clock.now())
                minted = await house.mint.create(project, ProjectId(project), scopes=SCOPES)
                credentials[project] = minted.text
                await take_in_relay(house, ProjectId(project))
        yield Template(engine, home, postgres if engine == "postgres" else "", database, credentials)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        if engine == "postgres":
            await execute(postgres, f'drop database if exists "{database}" with (force)')


def _at(server: str, database: str) -> str:
    """The URL of a database on a server."""
    return urlunsplit(urlsplit(server)._replace(path=f"/{database}"))


def _database_of(store: str) -> str:
    return urlsplit(store).path.lstrip("/")


async def execute(server: str, statement: str) -> Any:
    """One statement on a PostgreSQL server, outside a transaction."""
    import asyncpg  # noqa: PLC0415 most campaigns do without

    connection = await asyncpg.connect(_at(server, "postgres"), timeout=5)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def why_no_postgres(server: str = POSTGRES) -> str:
    """ "" if campaigns can use it, else why not."""
    try:
        await execute(server, "select 1")
        import dragoman.stores.postgres.store  # noqa: F401, PLC0415
    except Exception as error:
        return f"no PostgreSQL at {server}: {type(error).__name__}: {error}"
    return ""


@asynccontextmanager
async def opened(home: Path, *, writer: bool) -> AsyncIterator[House]:
    """A home's house, which takes up no runs."""
    config = load_config(home, file=home / "dragoman.toml")
    async with open_house(config, home, writer=writer, take_up=False) as house:
        yield house


async def dump(home: Home) -> Dump:
    """Everything in a home's store, through the store's own way of reading."""
    tapes: list[TapeDump] = []
    runs: dict[str, RunView] = {}
    async with opened(home.path, writer=False) as house:
        for project in map(ProjectId, PROJECTS):
            page = await house.store.page(project, after="", limit=0)
            for info in page.items:
                entries: list[Entry] = []
                while more := await house.store.read(info.tape, after=len(entries), limit=READ_AT_ONCE):
                    entries += more
                    if entries[-1].seq != len(entries):
                        break  # a gap: the checker will say so
                tapes.append(TapeDump(project, info.id, info.live_run, entries))
            for view in await house.store.runs(project, limit=1_000_000):
                runs[view.id] = view
    return Dump(tapes, runs)


async def integrity(home: Home) -> str:
    """What SQLite says of the files as they lie there after a kill: "ok" or what is wrong. They are not touched."""

    def look() -> str:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / home.database.name
            for ending in ("", "-wal"):
                source = home.database.with_name(home.database.name + ending)
                if source.exists():
                    shutil.copy(source, copy.with_name(copy.name + ending))
            with closing(sqlite3.connect(copy)) as connection:
                return "; ".join(str(row[0]) for row in connection.execute("pragma integrity_check"))

    return await asyncio.to_thread(look)
