"""`dragoman migrate`: a home goes into PostgreSQL, a server goes on with it there, and no failure leaves half of it.
What each engine hands over and takes is shown in tests/server/test_moving.py."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from dragoman.core import events as ev
from dragoman.runtime.inventory import TABLES
from dragoman.stores.postgres.store import PostgresStore
from dragoman.stores.postgres.store import open_store as open_postgres
from dragoman.stores.sqlite.lock import TapeLock
from dragoman.stores.sqlite.store import open_store as open_sqlite
from tests.cli.conftest import CommandLine, Served
from tests.stores.everything import everything, fill
from tests.stores.postgres.database import SERVER, connect, new_schema
from tests.stores.talk import PROJECT
from tests.support import FixedClock

T = TypeVar("T")

WAIT_S = 20.0
POLL_S = 0.02


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


@pytest.fixture
def url(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty schema, as a person would name it: with a database, without a password."""
    schema = new_schema("migrate")
    made = runner.run(schema.__aenter__())
    parts = urlsplit(SERVER)
    if parts.password:
        monkeypatch.setenv("PGPASSWORD", parts.password)
    place = parts.netloc.rpartition("@")[2]
    ((user, database),) = runner.run(asked(made, "select current_user, current_database()"))
    yield f"postgresql://{user}@{place}/{database}?{urlsplit(made).query}"
    runner.run(schema.__aexit__(None, None, None))


@pytest.fixture
def clock() -> FixedClock:
    """A moment ago: keys are known for a day."""
    return FixedClock(float(int(time.time()) - 600))


@pytest.fixture
def full(cli: CommandLine, runner: asyncio.Runner, clock: FixedClock) -> CommandLine:
    """The command line on a home with one of everything in its store, and a pepper."""

    async def work() -> None:
        store = await open_sqlite(cli.home / "dragoman.db", clock, writer=True)
        await fill(store, clock)
        await store.close()

    runner.run(work())
    cli.ok("credentials", "ls")
    return cli


async def asked(url: str, query: str, *args: Any) -> list[tuple[Any, ...]]:
    connection = await connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query, *args)]
    finally:
        await connection.close()


async def until(found: Callable[[], Awaitable[T]], what: str) -> T:
    """What `found` gives once that is something."""
    deadline = time.monotonic() + WAIT_S
    while not (value := await found()):
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:g} s"
        await asyncio.sleep(POLL_S)
    return value


async def rows_in(url: str) -> dict[str, int]:
    return {table.name: (await asked(url, f"select count(*) from {table.name}"))[0][0] for table in TABLES}


def configure(folder: Path, url: str) -> None:
    with (folder / "dragoman.toml").open("a") as file:
        file.write(f"[store]\nurl = {json.dumps(url)}\n")


# -- what it does ----------------------------------------------------------------------------------------------------

LISTS = (
    ("projects", "ls"),
    ("credentials", "ls"),
    ("conversations", "ls"),
    ("conversations", "show", "plain"),
    ("conversations", "ls", "--project", "other"),
    ("runs", "ls"),
    ("runs", "show", "r-plain-2"),
)


def test_a_home_is_moved_and_the_same_commands_say_the_same_of_it(full: CommandLine, url: str):
    file = full.home / "dragoman.db"
    expected = [full.ok(*words, "--json").json for words in LISTS]
    done = full.ok("migrate", "--to", url)

    lines = [line.split() for line in done.out.splitlines()]
    assert [line[0] for line in lines[: len(TABLES)]] == [table.name for table in TABLES]
    assert all(len(line[2]) == 16 and line[2] == line[3] for line in lines[: len(TABLES)])
    assert sum(int(line[1]) for line in lines[: len(TABLES)]) > 100
    assert done.out.splitlines()[len(TABLES) :] == ["[store]", f'url = "{url}"']
    pepper = Path(".dragoman") / "pepper"
    assert "4 runs had not ended: the first server on the database takes them up." in done.err
    assert f"give every server DRAGOMAN_PEPPER=$(cat {pepper})" in done.err
    secret_key = Path(".dragoman") / "secret-key"
    assert f"give every server DRAGOMAN_SECRET_KEY=$(cat {secret_key})" in done.err
    assert f"{file.relative_to(full.folder)} is as it was." in done.err

    configure(full.folder, url)
    assert [full.ok(*words, "--json").json for words in LISTS] == expected


def test_a_server_on_the_database_takes_up_what_was_begun(
    full: CommandLine, url: str, runner: asyncio.Runner, clock: FixedClock
):
    credential = full.ok("credentials", "create", "ci", "-q").out.strip()
    full.ok("migrate", "--to", url)
    configure(full.folder, url)
    server = Served(full.folder, "--listen", "127.0.0.1:0")

    async def ended() -> dict[str, str]:
        store = await open_postgres(url)

        async def none_open() -> bool:
            return all(run.ended_at is not None for run in await store.runs(PROJECT, limit=100))

        await until(none_open, "all runs end")
        statuses = {run.id: run.status for run in await store.runs(PROJECT, limit=100)}
        run = await store.run(None, "r-tool")
        assert run is not None
        entries = [entry.event for entry in await store.read_run(run)]
        assert isinstance(entries[-1], ev.RunCompleted)
        assert [event.epoch for event in entries if isinstance(event, ev.RunClaimed)] == [1, 2]
        await store.close()
        return statuses

    try:
        statuses = runner.run(ended())
        request = urllib.request.Request(server.url + "/api/status", headers={"Authorization": f"Bearer {credential}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200  # the pepper is this home's
    finally:
        assert server.stop() == 0
    assert statuses["r-asked"] == "cancelled"
    assert statuses["r-tool"] == statuses["r-lost"] == "completed"
    assert "unfinished runs taken up again" in "".join(server.log)


def test_it_says_it_in_json_too(full: CommandLine, url: str, runner: asyncio.Runner):
    looked = full.ok("migrate", "--to", url, "--dry-run", "--json").json
    done = full.ok("migrate", "--to", url, "--json").json

    assert (looked["dry_run"], done["dry_run"]) == (True, False)
    assert {table["name"]: table["rows"] for table in done["tables"]} == runner.run(rows_in(url))
    assert done["rows"] == looked["rows"] == sum(table["rows"] for table in done["tables"])
    assert [table["sha256"] for table in looked["tables"]] == [table["sha256_read_back"] for table in done["tables"]]
    assert {table["sha256_read_back"] for table in looked["tables"]} == {None}
    shown = {key: done[key] for key in ("from", "to", "unfinished_runs", "pepper", "config")}
    assert shown == {
        "from": str(Path(".dragoman") / "dragoman.db"),
        "to": url,
        "unfinished_runs": 4,
        "pepper": str(Path(".dragoman") / "pepper"),
        "config": f'[store]\nurl = "{url}"',
    }


def test_a_dry_run_writes_nothing(full: CommandLine, url: str, runner: asyncio.Runner):
    for _ in range(2):
        done = full.ok("migrate", "--to", url, "--dry-run")
        assert "Nothing was written." in done.err
        assert "[store]" not in done.out
    there = "select 1 from pg_class where relnamespace = current_schema()::regnamespace"
    assert runner.run(asked(url, there)) == []


def test_keys_in_the_environment_are_named(full: CommandLine, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DRAGOMAN_PEPPER", "0123456789abcdef" * 4)
    monkeypatch.setenv("DRAGOMAN_SECRET_KEY", "fedcba9876543210" * 4)
    told = full.ok("migrate", "--to", url).err
    assert "the pepper in DRAGOMAN_PEPPER: every server needs the same" in told
    assert "the secret key in DRAGOMAN_SECRET_KEY: every server needs the same" in told


def test_how_far_it_is_is_shown_on_a_terminal(full: CommandLine, url: str, monkeypatch: pytest.MonkeyPatch):
    now = [0.0]

    def later() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr("dragoman.cli.terminal.monotonic", later)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    err = full.ok("migrate", "--to", url).err
    assert "rows copied " in err
    assert "rows compared " in err


# -- when it does not get to its end ---------------------------------------------------------------------------------

HELD_UP = """
create function hold_up() returns trigger language plpgsql as
    'begin perform pg_advisory_xact_lock(4711); return new; end';
create trigger hold_up before insert on deltas for each statement execute function hold_up();
"""
WAITING = "select 1 from pg_locks where locktype = 'advisory' and objid = 4711 and not granted"


def test_killed_in_the_midst_it_leaves_nothing_and_can_be_started_again(
    full: CommandLine, url: str, runner: asyncio.Runner, clock: FixedClock
):
    async def kill_in_the_midst() -> int:
        await (await open_postgres(url)).close()
        holding = await connect(url)
        await holding.execute(HELD_UP)
        await holding.execute("select pg_advisory_lock(4711)")
        process = subprocess.Popen(
            [sys.executable, "-m", "dragoman", "migrate", "--to", url], cwd=full.folder, stderr=subprocess.DEVNULL
        )
        try:
            await until(lambda: asked(url, WAITING), "the copy has come to the deltas")
        finally:
            os.kill(process.pid, signal.SIGKILL)
            code = await asyncio.to_thread(process.wait, WAIT_S)
        await holding.execute("select pg_advisory_unlock(4711)")
        await holding.execute("drop trigger hold_up on deltas")  # once the copy has let go of it
        await holding.close()
        return code

    assert runner.run(kill_in_the_midst()) == -signal.SIGKILL
    assert set(runner.run(rows_in(url)).values()) == {0}
    assert full.ok("migrate", "--to", url, "--json").json["rows"] == sum(runner.run(rows_in(url)).values()) > 100
    assert runner.run(both_say_the_same(full, url, clock))


async def both_say_the_same(full: CommandLine, url: str, clock: FixedClock) -> bool:
    source = await open_sqlite(full.home / "dragoman.db", clock, writer=True)
    target: PostgresStore = await open_postgres(url, clock=clock)
    same = await everything(source) == await everything(target)
    await source.close()
    await target.close()
    return same


# -- what it refuses -------------------------------------------------------------------------------------------------


def test_a_home_that_a_server_writes_is_refused(full: CommandLine, url: str):
    lock = TapeLock.take(full.home / "dragoman.db")
    lock.announce("http://127.0.0.1:4321")
    done = full.run("migrate", "--to", url)
    lock.release()
    assert done.code == 75
    assert f"in use by process {os.getpid()}, listening on http://127.0.0.1:4321: stop it first" in done.err


def test_a_database_that_holds_anything_is_refused(full: CommandLine, url: str):
    full.ok("migrate", "--to", url)
    for words in ((), ("--dry-run",)):
        done = full.run("migrate", "--to", url, *words)
        assert (done.code, done.out) == (2, "")
        held = "projects, credentials, conversations, entries, deltas, runs, keys, records, knowledge"
        assert f"holds {held} already." in done.err


def test_a_store_that_a_newer_version_wrote_is_refused(full: CommandLine, url: str, runner: asyncio.Runner):
    script = "import sqlite3; c = sqlite3.connect('.dragoman/dragoman.db'); " + (
        "c.execute(\"insert into schema_version values (99, 1, 'x')\"); c.commit()"
    )
    subprocess.run([sys.executable, "-c", script], cwd=full.folder, check=True)
    done = full.run("migrate", "--to", url)
    assert (done.code, "newer version of Dragoman (schema 99)" in done.err) == (75, True)


def test_a_home_without_a_store_has_nothing_to_move(cli: CommandLine):
    done = cli.run("migrate", "--to", "postgresql://nobody@127.0.0.1:9/x")
    assert (done.code, done.err.startswith("dragoman: There is no store ")) == (3, True)


def test_a_database_that_is_away_is_said_to_be(full: CommandLine):
    done = full.run("migrate", "--to", "postgresql://nobody@127.0.0.1:9/x")
    assert (done.code, "127.0.0.1:9/x does not answer" in done.err) == (75, True)


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        ("sqlite:other.db", "--to names a PostgreSQL database: postgresql://USER@HOST:PORT/DATABASE"),
        ("mysql://h/x", '--to "mysql://h/x" is not a store'),
        ("postgresql://u@h", "--to must name a database"),
        ("postgresql://u:hush@h/x", "--to holds a password in clear"),
        ("postgresql://u@h/x?password=hush", "--to holds a password in clear"),
    ],
)
def test_what_is_no_address_of_a_database_is_a_usage_error(cli: CommandLine, to: str, sentence: str):
    done = cli.run("migrate", "--to", to)
    assert (done.code, done.err.startswith(f"dragoman: {sentence}")) == (2, True)
    assert "hush" not in done.err


def test_a_store_that_is_in_postgresql_is_not_moved(cli: CommandLine):
    configure(cli.folder, "postgresql://u@h/x")
    done = cli.run("migrate", "--to", "postgresql://u@h/y")
    assert (done.code, "names postgresql://u@h/x as the store already" in done.err) == (2, True)


def test_without_the_driver_it_says_how_to_get_it(full: CommandLine):
    script = (
        "import sys; sys.modules['asyncpg'] = None\n"
        "from dragoman.cli.main import main\n"
        "sys.exit(main(['migrate', '--to', 'postgresql://u@h/x']))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=full.folder, capture_output=True, text=True, timeout=20)
    assert (done.returncode, "pip install 'dragoman[postgres]'" in done.stderr) == (78, True)
