import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from dragoman.core.errors import Conflict, Unavailable
from dragoman.stores.postgres.connection import (
    Connection,
    Link,
    Pool,
    Server,
    connect,
    in_transaction,
    is_lost,
    is_rolled_back,
    opening_error,
    rows_changed,
    storage_error,
)
from dragoman.stores.postgres.tasks import Tasks
from tests.stores.postgres.database import SERVER
from tests.stores.postgres.database import connect as connect_or_skip

PASSWORD = "p%40ss/wörd"
URL = "postgresql://me:p%2540ss%2Fw%C3%B6rd@db.example:6432/talk?sslmode=disable"


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
async def server() -> Server:
    await (await connect_or_skip()).close()
    return Server(SERVER)


# -- who we are and what we say --------------------------------------------------------------------------------------


def test_a_server_says_where_it_is_and_not_how_to_be_let_in():
    server = Server(URL, password="other")
    assert server.where == "db.example:6432/talk"
    text = server.scrub(f"{URL} {PASSWORD} other")
    assert text == "postgresql://me:***@db.example:6432/talk?sslmode=disable *** ***"
    assert Server("postgresql://h/d?user=me&password=pass").scrub("a pass here") == "a *** here"
    assert Server("postgresql:///").where == "localhost/"


def test_the_schema_is_named_once_it_is_known():
    server = Server(URL)
    assert "search_path" not in server.settings
    server.schema = 'a "b"'
    assert server.settings["search_path"] == '"a ""b"""'
    assert server.settings["synchronous_commit"] == "on"


@pytest.mark.parametrize(
    ("error", "code", "lost"),
    [
        (asyncpg.DiskFullError("x"), "storage_full", False),
        (asyncpg.LockNotAvailableError("x"), "storage_busy", False),
        (asyncpg.QueryCanceledError("x"), "storage_busy", False),
        (asyncpg.DeadlockDetectedError("x"), "storage_busy", False),
        (asyncpg.AdminShutdownError("x"), "storage_unavailable", True),
        (asyncpg.CannotConnectNowError("x"), "storage_unavailable", True),
        (asyncpg.ReadOnlySQLTransactionError("x"), "storage_unavailable", True),
        (asyncpg.ConnectionDoesNotExistError("x"), "storage_unavailable", True),
        (asyncpg.InterfaceError("x"), "storage_unavailable", True),
        (asyncpg.InternalClientError("x"), "storage_unavailable", True),
        (ConnectionResetError("x"), "storage_unavailable", True),
        (TimeoutError(), "storage_unavailable", True),
        (asyncpg.DataError("x"), "storage_failed", False),
        (asyncpg.UndefinedTableError("x"), "storage_failed", False),
        (KeyError("x"), "storage_failed", False),
    ],
)
def test_errors_of_the_driver_become_errors_of_the_tree(error: Exception, code: str, lost: bool):
    told = storage_error(error, Server(URL))
    assert (told.code, is_lost(error)) == (code, lost)
    assert told.internal.startswith(f"db.example:6432/talk: {type(error).__name__}")


def test_what_was_rolled_back_may_be_tried_again_at_once():
    assert is_rolled_back(asyncpg.SerializationError("x"))
    assert is_rolled_back(asyncpg.DeadlockDetectedError("x"))
    assert not is_rolled_back(asyncpg.UniqueViolationError("x"))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (asyncpg.InvalidPasswordError("x"), "does not let us in; check the user and the password in [store]."),
        (asyncpg.InvalidAuthorizationSpecificationError("x"), "does not let us in"),
        (asyncpg.InvalidCatalogNameError("x"), "There is no database db.example:6432/talk; create it"),
        (asyncpg.TooManyConnectionsError("x"), "has no connection left for us"),
        (asyncpg.CannotConnectNowError("x"), "is starting or stopping"),
        (asyncpg.ClientConfigurationError("x"), "The address of the database db.example:6432/talk cannot be used"),
        (asyncpg.UndefinedObjectError('unknown setting "x"'), 'refuses the connection: unknown setting "x"'),
        (ConnectionRefusedError("x"), "does not answer; check that it runs"),
        (TimeoutError(), "does not answer; check that it runs"),
        (socket.gaierror("x"), "does not answer; check that it runs"),
    ],
)
def test_what_keeps_us_out_is_said_with_what_to_do(error: Exception, sentence: str):
    told = opening_error(error, Server(URL))
    assert sentence in told.detail
    assert told.code == "storage_unavailable"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@127.0.0.1:{port}/x",
        "postgresql://me@127.0.0.1:{port}/x?password=secret",
        "postgresql://me:secret@127.0.0.1:99999/x",
        "postgresql://me:secret@[::1/x",
        "postgresql://me:secret@127.0.0.1:secret/x",
        "mysql://me:secret@127.0.0.1/x",
        "postgresql://me:secret@127.0.0.1:{port}/x?sslmode=secret",
        "postgresql://me:secret@127.0.0.1:{port}/x?nonsense",
    ],
)
async def test_a_password_is_in_no_error(url: str):
    with pytest.raises(Unavailable) as refused:
        await connect(Server(url.replace("{port}", str(closed_port())), password="secret"))
    error: BaseException | None = refused.value
    while error is not None:
        assert "secret" not in f"{error} {error.args} {getattr(error, 'internal', '')}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# -- keeping connections ---------------------------------------------------------------------------------------------


async def number_of(connection: Connection) -> int:
    return await connection.fetchval("select pg_backend_pid()")


async def end(process: int) -> None:
    """End a connection from outside, and return once it is gone."""
    admin = await connect_or_skip()
    async with asyncio.timeout(5):
        await admin.execute("select pg_terminate_backend($1, 5000)", process)
    await admin.close()


async def test_a_connection_is_set_up_to_keep_what_it_acknowledges(server: Server):
    connection = await connect(server, {"application_name": "x"})
    names = ("synchronous_commit", "jit", "enable_seqscan", "plan_cache_mode", "application_name", "lock_timeout")
    found = [await connection.fetchval("select current_setting($1)", name) for name in names]
    assert found == ["on", "off", "off", "force_generic_plan", "x", "4s"]
    await connection.close()


async def test_a_link_opens_when_needed_and_again_after_a_loss(server: Server):
    link = Link(server)
    first = await link.get()
    assert await link.get() is first
    link.drop()
    assert first.is_closed()
    second = await link.get()
    await end(await number_of(second))
    async with asyncio.timeout(5):
        while not second.is_closed():
            await asyncio.sleep(0)
    third = await link.get()
    assert await number_of(third) > 0
    await link.close()
    assert third.is_closed()


@pytest.fixture
async def pool(server: Server) -> AsyncIterator[Pool]:
    tasks = Tasks()
    opened = Pool(server, 2, tasks)
    yield opened
    await tasks.close()
    await opened.close()


async def test_a_pool_keeps_its_connections_and_opens_so_many(pool: Pool):
    numbers = {await pool.do(number_of) for _ in range(5)}
    assert len(numbers) == 1
    busy, most, two = 0, 0, asyncio.Barrier(2)

    async def work(connection: Connection) -> int:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.wait_for(two.wait(), 5)
        found = await number_of(connection)
        busy -= 1
        return found

    assert len(set(await asyncio.gather(*(pool.do(work) for _ in range(10))))) == 2
    assert most == 2


async def test_work_on_a_lost_connection_is_done_again_if_it_may_be(pool: Pool):
    tries: list[int] = []

    async def lose_the_first(connection: Connection) -> int:
        tries.append(await number_of(connection))
        if len(tries) == 1:
            await connection.fetchval("select pg_terminate_backend(pg_backend_pid())")
        return tries[-1]

    first = await pool.do(number_of)
    second = await pool.do(lose_the_first)
    assert tries == [first, second]
    tries.clear()
    with pytest.raises(Unavailable):
        await pool.do(lose_the_first, again=False)
    assert tries == [second]
    assert await pool.do(number_of) not in (first, second)


async def test_a_connection_that_was_just_opened_is_tried_once(pool: Pool):
    tries: list[Connection] = []

    async def lose(connection: Connection) -> None:
        tries.append(connection)
        await connection.fetchval("select pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Unavailable):
        await pool.do(lose)
    assert len(tries) == 1


async def test_a_connection_that_died_in_its_sleep_is_replaced(pool: Pool):
    first = await pool.do(number_of)
    await end(first)
    assert await pool.do(number_of) != first


async def test_a_refusal_does_not_cost_the_connection(pool: Pool):
    before = await pool.do(number_of)

    async def refuse(_: Connection) -> None:
        raise Conflict("no")

    async def fail(connection: Connection) -> None:
        await connection.execute("select 1 from nowhere")

    with pytest.raises(Conflict):
        await pool.do(refuse)
    with pytest.raises(Unavailable) as failed:
        await pool.do(fail)
    assert failed.value.code == "storage_failed"
    assert await pool.do(number_of) == before


async def test_a_caller_who_goes_away_costs_no_connection(pool: Pool):
    numbers = {await pool.do(number_of)}
    for _ in range(20):
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def dawdle(connection: Connection, begun: asyncio.Event = begun, go_on: asyncio.Event = go_on) -> None:
            begun.set()
            await go_on.wait()
            numbers.add(await number_of(connection))

        task = asyncio.ensure_future(pool.do(dawdle))
        await asyncio.wait_for(begun.wait(), 5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        go_on.set()
    for _ in range(5):
        numbers.add(await pool.do(number_of))
    assert len(numbers) <= 2


async def test_a_pool_that_is_closed_says_so(pool: Pool):
    await pool.do(number_of)
    await pool.close()
    with pytest.raises(Unavailable, match="closed"):
        await pool.do(number_of)


async def test_a_transaction_is_kept_whole_or_not_at_all(pool: Pool):
    async def prepare(connection: Connection) -> Any:
        return await connection.execute("create temporary table t (x int)")

    async def good(connection: Connection) -> str:
        return await connection.execute("insert into t values (1), (2)")

    async def bad(connection: Connection) -> None:
        await connection.execute("insert into t values (3)")
        raise Conflict("no")

    await pool.do(prepare)
    assert rows_changed(await pool.do(lambda connection: in_transaction(connection, good))) == 2
    with pytest.raises(Conflict):
        await pool.do(lambda connection: in_transaction(connection, bad))
    assert await pool.do(lambda connection: connection.fetchval("select count(*) from t")) == 2
