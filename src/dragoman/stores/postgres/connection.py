"""Connections to the database: how they are opened, kept and used, and what their errors mean."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

import asyncpg

from dragoman.core.errors import DragomanError, Unavailable
from dragoman.stores.postgres.tasks import Tasks

CONNECT_S = 5.0
"""How long opening a connection may take."""
COMMAND_S = 10.0
"""How long an answer may take until the connection counts as lost."""
CLOSE_S = 1.0
VERSION_MIN = 13
STATEMENTS_CACHED = 200

SETTINGS = {
    "synchronous_commit": "on",  # a commit is on the disk when it returns, whatever the server's default
    "default_transaction_isolation": "read committed",
    # Shorter than COMMAND_S: the server says what it waited for before we hang up.
    "lock_timeout": "4s",
    "statement_timeout": "8s",
    "idle_in_transaction_session_timeout": "10s",
    # All statements are look-ups by key and stretches of an index, joined one after the other. They are planned once,
    # and what is right for a table that was empty then must be right when it has grown.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

R = TypeVar("R")


class Connection(Protocol):
    """What we use of asyncpg's, whose own is not typed."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str: ...
    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...
    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...
    async def add_listener(self, channel: str, callback: Callable[[Any, int, str, str], None]) -> None: ...
    def add_termination_listener(self, callback: Callable[[Any], None]) -> None: ...
    def is_closed(self) -> bool: ...
    async def close(self, *, timeout: float | None = None) -> None: ...
    def terminate(self) -> None: ...


_connect = cast(Callable[..., Awaitable[Connection]], asyncpg.connect)


class Server:
    """Where the database is and how to be let in. Says where, never how."""

    def __init__(self, url: str, password: str = "") -> None:
        """`password`: "" = the URL's, else PGPASSWORD or ~/.pgpass. Raises Unavailable for a URL that is none."""
        try:
            parts = urlsplit(url)
            query = parse_qs(parts.query)
        except ValueError:  # whose text may show all of it
            raise Unavailable(
                "The address of the database cannot be read; correct [store] url.", code="storage_unavailable"
            ) from None
        self.url = url
        self.password = password
        self.name = query.get("application_name", ["dragoman"])[-1]
        """What the database calls us."""
        self.schema = ""
        """Where our tables are; "" = not asked yet."""
        in_url = {parts.netloc.rpartition("@")[0].partition(":")[2], *query.get("password", ())}
        self._secrets = _spellings(in_url | {password, os.environ.get("PGPASSWORD", "")})
        self.where = self.scrub(f"{parts.netloc.rpartition('@')[2] or 'localhost'}{parts.path}")
        """For people: host, port and database."""

    def scrub(self, text: str) -> str:
        """The text without the passwords we know."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    @property
    def settings(self) -> dict[str, str]:
        settings = {**SETTINGS, "application_name": self.name}
        if self.schema:
            settings["search_path"] = '"' + self.schema.replace('"', '""') + '"'
        return settings


def _spellings(secrets: set[str]) -> list[str]:
    """Longest first: one may be part of another."""
    spelled = {text for secret in secrets if secret for text in (secret, unquote(secret), quote(secret, safe=""))}
    return sorted(spelled, key=len, reverse=True)


async def connect(server: Server, settings: dict[str, str] | None = None) -> Connection:
    """A connection in autocommit mode. Raises Unavailable, saying what to do."""
    try:
        return await _connect(
            server.url,
            password=server.password or None,
            timeout=CONNECT_S,
            command_timeout=COMMAND_S,
            statement_cache_size=STATEMENTS_CACHED,
            max_cached_statement_lifetime=0,
            server_settings={**server.settings, **(settings or {})},
        )
    except Exception as error:
        raise opening_error(error, server) from None  # its chain could show the URL


# -- errors --------------------------------------------------------------------------------------------------------


def state_of(error: Exception) -> str:
    """The SQLSTATE; "" if the error is not the server's."""
    return str(getattr(error, "sqlstate", None) or "") if isinstance(error, asyncpg.PostgresError) else ""


_AWAY = ("08", "57P", "53300", "25006", "25P03")
"""Connection trouble; shutting down or starting; too many connections; a standby now; hung up on."""
_BUSY = ("40001", "40P01", "55P03", "57014", "53200")


def is_lost(error: Exception) -> bool:
    """Whether the connection must not be used again."""
    if isinstance(error, asyncpg.PostgresError):
        return state_of(error).startswith(_AWAY)
    if isinstance(error, asyncpg.DataError):
        return False  # a value that cannot be sent was not sent
    return isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError | asyncio.TimeoutError)


def is_rolled_back(error: Exception) -> bool:
    """Whether the same transaction may well succeed when it is tried again at once."""
    return state_of(error) in ("40001", "40P01")


def storage_error(error: Exception, server: Server) -> Unavailable:
    """The same in the words of the error tree."""
    if isinstance(error, Unavailable):
        return error
    state = state_of(error)
    internal = server.scrub(f"{server.where}: {type(error).__name__} {state}: {error}")
    if state == "53100":
        return Unavailable(
            "The database's disk is full; nothing was kept. Try again once there is room.",
            code="storage_full",
            internal=internal,
        )
    if state in _BUSY:
        return Unavailable(
            "The server's database is too busy; nothing was kept. Try again in a moment.",
            code="storage_busy",
            internal=internal,
        )
    if is_lost(error):
        return Unavailable(
            "The server's database cannot be reached at the moment. Try again in a moment.",
            code="storage_unavailable",
            retry_after_s=1.0,
            internal=internal,
        )
    return Unavailable(
        "The server's store does not work at the moment; its log says why. Try again later.",
        code="storage_failed",
        internal=internal,
    )


def opening_error(error: Exception, server: Server) -> Unavailable:
    """What is wrong with the way to the database, and what to do about it."""
    state = state_of(error)
    if state.startswith("28") or (isinstance(error, asyncpg.InterfaceError) and "password" in str(error)):
        sentence = f"The database {server.where} does not let us in; check the user and the password in [store]."
    elif state == "3D000":
        sentence = f"There is no database {server.where}; create it, or correct [store] url."
    elif state == "53300":
        sentence = f"The database {server.where} has no connection left for us; raise its max_connections."
    elif state.startswith("57P"):
        sentence = f"The database {server.where} is starting or stopping; try again in a moment."
    elif isinstance(error, asyncpg.InterfaceError | ValueError) and not isinstance(error, OSError):
        sentence = f"The address of the database {server.where} cannot be used; correct [store] url."
    elif state:
        sentence = f"The database {server.where} refuses the connection: {server.scrub(str(error))}"
    else:
        sentence = f"The database {server.where} does not answer; check that it runs, and [store] url."
    internal = server.scrub(f"{type(error).__name__} {state}: {error}")
    return Unavailable(sentence, code="storage_unavailable", retry_after_s=1.0, internal=internal)


# -- keeping them --------------------------------------------------------------------------------------------------


class Link:
    """One connection, opened when it is needed and anew after it was lost. For one task at a time."""

    def __init__(self, server: Server, settings: dict[str, str] | None = None) -> None:
        self._server = server
        self._settings = settings
        self._connection: Connection | None = None

    async def get(self) -> Connection:
        """Raises Unavailable."""
        connection = self._connection
        if connection is None or connection.is_closed():
            self._connection = None
            connection = self._connection = await connect(self._server, self._settings)
        return connection

    def drop(self) -> None:
        """Throw the connection away: nothing it says can be trusted."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await _close(connection)


class Pool:
    """Connections for whatever does not depend on what came before it, opened as they are needed.

    Work that was begun is carried out, also if the caller goes away meanwhile: to cut a query off costs its connection,
    and callers go away in crowds.
    """

    def __init__(self, server: Server, size: int, tasks: Tasks, *connections: Connection) -> None:
        """`connections`: those that are open already."""
        self.server = server
        self._tasks = tasks
        self._slots = asyncio.Semaphore(size)
        self._free: list[Connection] = list(connections)
        self._closed = False

    async def do(self, work: Callable[[Connection], Awaitable[R]], *, again: bool = True) -> R:
        """Carry `work` out on a connection that nobody else uses meanwhile. `again`: it may be carried out twice, which
        it is if a connection turns out to have been lost. Raises Unavailable, and what `work` raises of the error tree.
        """
        try:
            async with asyncio.timeout(COMMAND_S):
                await self._slots.acquire()
        except TimeoutError:
            raise Unavailable("The server's store is overloaded; try again in a moment.", code="storage_busy") from None
        return await self._tasks.answer(self._carry_out(work, again=again))

    async def _carry_out(self, work: Callable[[Connection], Awaitable[R]], *, again: bool) -> R:
        try:
            return await self._do(work, again=again)
        finally:
            self._slots.release()

    async def _do(self, work: Callable[[Connection], Awaitable[R]], *, again: bool) -> R:
        connection, fresh = await self._take()
        sound = False
        try:
            result = await work(connection)
            sound = True
            return result
        except DragomanError:
            sound = True
            raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            sound = not is_lost(error)
            if sound or fresh or not again or isinstance(error, TimeoutError):
                raise storage_error(error, self.server) from error
        finally:
            if sound and not self._closed:
                self._free.append(connection)
            else:
                connection.terminate()
        self._forget_free()
        return await self._do(work, again=False)

    async def _take(self) -> tuple[Connection, bool]:
        if self._closed:
            raise Unavailable("The store is closed.")
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection, False
        return await connect(self.server), True

    def _forget_free(self) -> None:
        """One was lost while nobody looked: the others are not worth a try."""
        free, self._free = self._free, []
        for connection in free:
            connection.terminate()

    async def close(self) -> None:
        self._closed = True
        free, self._free = self._free, []
        for connection in free:
            await _close(connection)


async def _close(connection: Connection) -> None:
    with suppress(Exception):
        await connection.close(timeout=CLOSE_S)
        return
    connection.terminate()


async def in_transaction(connection: Connection, work: Callable[[Connection], Awaitable[R]]) -> R:
    """Carry `work` out and commit it; nothing of it is kept if it raises."""
    await connection.execute("begin")
    try:
        result = await work(connection)
        await connection.execute("commit")
    except Exception as error:
        if not is_lost(error):
            with suppress(Exception):
                await connection.execute("rollback")
        raise
    return result


def rows_changed(status: str) -> int:
    """Of a command's status, such as `UPDATE 3`."""
    return int(status.rpartition(" ")[2])
