import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.core import events as ev
from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.names import ConversationId, ProjectId, Tape
from dragoman.core.operations import Mark
from dragoman.runtime import fuses
from dragoman.runtime.fuses import FuseBlown
from dragoman.stores.sqlite.connection import connect
from dragoman.stores.sqlite.lock import TapeLock
from dragoman.stores.sqlite.migrations import Step, migrate, statements, steps
from dragoman.stores.sqlite.store import open_store
from tests.stores.talk import turn
from tests.support import FixedClock

FIRST = Step(1, 1, "0001_first.sql", "create table a (x);\ncreate table b (x);\n")
SECOND = Step(2, 1, "0002_second.sql", "alter table a add column y;\n")
BREAKING = Step(3, 3, "0003_breaking.sql", "alter table a rename to c;\n")
FAULTY = Step(2, 1, "0002_faulty.sql", "alter table a add column y;\ncreate table a (x);\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    opened = connect(path, create=True)
    yield opened
    opened.close()


def version(connection: sqlite3.Connection) -> list[tuple[int, int, str]]:
    return connection.execute("select version, min_reader, name from schema_version order by version").fetchall()


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("select name from sqlite_schema where type = 'table'")}


def test_our_steps_are_numbered_without_a_gap_and_every_one_can_be_read_by_itself():
    known = steps()
    assert [step.version for step in known] == list(range(1, len(known) + 1))
    assert all(1 <= step.min_reader <= step.version for step in known)
    assert all(statements(step.script) for step in known)


def test_an_empty_file_gets_every_step_and_the_next_time_none(connection: sqlite3.Connection, path: Path):
    for _ in range(2):
        migrate(connection, path, (FIRST, SECOND), holds_lock=True)
        assert version(connection) == [(1, 1, "0001_first.sql"), (2, 1, "0002_second.sql")]
    assert tables(connection) == {"schema_version", "a", "b"}


def test_an_older_file_gets_what_is_missing(connection: sqlite3.Connection, path: Path):
    migrate(connection, path, (FIRST,), holds_lock=True)
    connection.execute("insert into a values (7)")
    migrate(connection, path, (FIRST, SECOND, BREAKING), holds_lock=True)
    assert connection.execute("select * from c").fetchall() == [(7, None)]


def test_old_code_runs_on_a_newer_schema_that_says_so(connection: sqlite3.Connection, path: Path):
    migrate(connection, path, (FIRST, SECOND), holds_lock=True)
    migrate(connection, path, (FIRST,), holds_lock=True)
    assert len(version(connection)) == 2


def test_old_code_refuses_a_newer_schema_that_says_so(connection: sqlite3.Connection, path: Path):
    migrate(connection, path, (FIRST, SECOND, BREAKING), holds_lock=True)
    with pytest.raises(Unavailable) as refused:
        migrate(connection, path, (FIRST, SECOND), holds_lock=True)
    assert refused.value.code == "storage_too_new"
    assert refused.value.detail == (
        f"The store {path} was written by a newer version of Dragoman (schema 3); install that version."
    )


def test_a_step_that_fails_leaves_nothing_of_itself(connection: sqlite3.Connection, path: Path):
    with pytest.raises(Unavailable) as refused:
        migrate(connection, path, (FIRST, FAULTY), holds_lock=True)
    assert "table a already exists" in refused.value.internal
    assert version(connection) == [(1, 1, "0001_first.sql")]
    assert connection.execute("select * from pragma_table_info('a')").fetchall()[0][1] == "x"
    assert len(connection.execute("select * from pragma_table_info('a')").fetchall()) == 1
    migrate(connection, path, (FIRST, SECOND), holds_lock=True)


def test_a_schema_is_not_changed_under_a_process_that_holds_the_tapes(connection: sqlite3.Connection, path: Path):
    lock = TapeLock.take(path)
    migrate(connection, path, (FIRST,), holds_lock=False)  # an empty file hurts nobody
    with pytest.raises(Conflict, match="restart that first"):
        migrate(connection, path, (FIRST, SECOND), holds_lock=False)
    assert len(version(connection)) == 1
    lock.release()
    migrate(connection, path, (FIRST, SECOND), holds_lock=False)
    assert len(version(connection)) == 2


def test_many_at_once_migrate_once(path: Path):
    failed: list[BaseException] = []

    def run() -> None:
        try:
            connection = connect(path, create=True)
            migrate(connection, path, steps(), holds_lock=False)
            connection.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert failed == []
    connection = connect(path)
    assert len(version(connection)) == len(steps())
    connection.close()


# -- what step 1 left ------------------------------------------------------------------------------------------------

OLD_FILE = """
insert into conversations values (1, 'default', 'c', 'A title', 'test', 1000000, 9000000, 2, 3, 'r2');
insert into entries values (1 << 32 | 1, 0, '', 'conversation_created', 1000000, 0,
    '{"kind":"conversation_created","project":"default","conversation":"c"}');
insert into entries values (1 << 32 | 2, 1 << 32 | 2, 'r1', 'turn_received', 1000000, 0,
    '{"kind":"turn_received","messages":[]}');
insert into entries values (1 << 32 | 3, 1 << 32 | 2, '', 'run_claimed', 1000000, 0,
    '{"kind":"run_claimed","epoch":1}');
insert into deltas values (1 << 32 | 4, 1 << 32 | 2, 2000000, '{"kind":"text_added","text":"x"}');
insert into entries values (1 << 32 | 5, 1 << 32 | 2, '', 'reply_finished', 2000000, 0,
    '{"kind":"reply_finished","text":"x"}');
insert into entries values (1 << 32 | 6, 1 << 32 | 2, '', 'run_completed', 2000000, 3, '{"kind":"run_completed"}');
insert into entries values (1 << 32 | 7, 1 << 32 | 7, 'r0', 'turn_received', 3000000, 0,
    '{"kind":"turn_received","messages":[]}');
insert into entries values (1 << 32 | 8, 1 << 32 | 7, '', 'run_claimed', 3000000, 0,
    '{"kind":"run_claimed","epoch":1}');
insert into entries values (1 << 32 | 9, 1 << 32 | 7, '', 'run_completed', 3000000, 3, '{"kind":"run_completed"}');
insert into entries values (1 << 32 | 10, 1 << 32 | 10, 'r2', 'turn_received', 4000000, 0,
    '{"kind":"turn_received","messages":[]}');
insert into entries values (1 << 32 | 11, 1 << 32 | 10, '', 'run_claimed', 4000000, 0,
    '{"kind":"run_claimed","epoch":1}');
insert into deltas values (1 << 32 | 12, 1 << 32 | 10, 4000000, '{"kind":"text_added","text":"y"}');
insert into runs values (1, 'r1', 'default', 1 << 32 | 2, 'completed', 1, 1, 1000000, 1 << 32 | 6, 2000000);
insert into runs values (2, 'r0', 'default', 1 << 32 | 7, 'completed', 1, 1, 3000000, 1 << 32 | 9, 3000000);
insert into runs values (3, 'r2', 'default', 1 << 32 | 10, 'running', 1, 1, 4000000, 0, 0);
insert into projects values ('default', 'Default', 1.0);
insert into schema_version values (1, 1, '0001_tapes_and_access.sql');
"""
"""As step 1's code wrote it: a turn with text as it grew, one without, and one that its process left behind."""


def old_file(path: Path) -> None:
    connection = connect(path, create=True)
    connection.executescript(
        "create table schema_version (version integer primary key, min_reader integer not null, name text not null);"
    )
    connection.executescript(steps()[0].script)
    connection.executescript(OLD_FILE)
    connection.close()


async def test_a_file_of_step_1_is_read_and_carried_on(path: Path):
    old_file(path)
    clock = FixedClock(at=10.0)
    store = await open_store(path, clock, writer=True)
    assert [entry.seq for entry in await store.read(Tape(1), after=0)] == list(range(1, 13))
    (lost,) = await store.take_lost(limit=9)
    assert (lost.run, lost.epoch, lost.seq) == ("r2", 2, 13)
    assert await store.append(lost, (ev.TextAdded("z"),), after=13) == 14
    assert await store.finish(lost, (ev.RunCompleted(),), after=14, weight=1) is None
    await store.accept(turn("c", "r3", mark=Mark("f", key="k")))
    assert (await store.accept(turn("c", "r4", mark=Mark("f", key="k")))).run == "r3"
    clock.move(1.0)
    assert await store.prune(ended_before=clock.at, limit=9) == 2
    assert [run.pruned for run in await store.runs(ProjectId("default"), limit=9)] == [False, True, False, True]
    await store.probe()
    await store.close()


async def test_code_of_step_1_works_on_in_a_newer_file(path: Path):
    store = await open_store(path, FixedClock(), writer=True)
    await store.accept(turn("gone", "r9", mark=Mark("f", key="k")))
    await store.close()
    connection = connect(path)
    migrate(connection, path, steps()[:1], holds_lock=True)  # it does not refuse the file
    rows = [line for line in OLD_FILE.replace("\n    ", "").splitlines() if line.startswith("insert into")]
    columns = {
        "conversations": "(tape, project, id, title, origin, created_at, updated_at, messages, turns, live_run)",
        "entries": "(place, run, run_id, kind, at, weight, body)",
        "deltas": "(place, run, at, body)",
        "runs": "(number, id, project, place, status, epoch, users, started_at, ended, ended_at)",
    }
    connection.execute("delete from runs")
    connection.execute("delete from entries")
    connection.execute("delete from conversations")
    connection.execute("update sqlite_sequence set seq = 0")
    for row in rows[:-2]:
        table = row.split()[2]
        connection.execute(row.replace(f"into {table}", f"into {table} {columns[table]}"))
    connection.close()
    again = await open_store(path, FixedClock(at=10.0), writer=True)
    assert (await again.accept(turn("c", "r3", mark=Mark("f", key="k")))).replayed is False  # its keys went along
    assert await again.prune(ended_before=9.0, limit=9) == 1
    assert [run.pruned for run in await again.runs(ProjectId("default"), limit=9)] == [False, False, False, True]
    await again.close()


def test_a_step_that_is_interrupted_is_done_by_the_next(path: Path):
    old_file(path)
    connection = connect(path)
    fuses.arm("migrate.step=raise")
    try:
        with pytest.raises(FuseBlown):
            migrate(connection, path, steps(), holds_lock=True)
    finally:
        fuses.arm("")
    assert len(version(connection)) == 1
    assert "keys" not in tables(connection)
    migrate(connection, path, steps(), holds_lock=True)
    assert len(version(connection)) == len(steps())
    connection.close()


def test_a_script_falls_into_statements_triggers_whole():
    script = (
        "-- a comment; with a semicolon\n"
        "create table a (\n    x  -- ; here too\n);\n\n"
        "create trigger t before insert on a begin\n    select 1;\n    select 2;\nend;\n"
        "-- the end\n"
    )
    found = statements(script)
    assert [text.split("\n")[-1] for text in found] == [");", "end;"]
    connection = sqlite3.connect(":memory:")
    for statement in found:
        connection.execute(statement)
    connection.close()


def test_half_a_statement_is_an_error():
    with pytest.raises(RuntimeError, match="ends inside a statement: create table b"):
        statements("create table a (x);\ncreate table b (\n")


async def test_a_file_of_step_2_learns_whose_its_conversations_are(path: Path):
    connection = connect(path, create=True)
    migrate(connection, path, steps()[:2], holds_lock=True)
    made = '{"kind":"conversation_created","project":"default","conversation":"c","origin":"grip"%s}'
    columns = "tape, project, id, title, origin, created_at, updated_at, messages, turns, live_run"
    put = f"insert into conversations ({columns})"
    for tape, owner in ((1, ',"owner":"ann"'), (2, ""), (3, ',"owner":"Änne 🦉"')):
        connection.execute(f"{put} values ({tape}, 'default', 'c{tape}', 'T', 'grip', 5, 6, 2, 1, '')")
        row = (tape << 32 | 1, 0, "", "conversation_created", 5, 0, made % owner)
        connection.execute("insert into entries values (?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute(f"{put} values (4, 'default', 'c4', 'T', 'grip', 5, 6, 2, 1, '')")  # whatever became of its tape
    connection.execute(
        "insert into credentials (id, project, name, scopes, hash, pepper_id, created_at)"
        " values ('k', 'default', 'n', '', x'00', 'p', 1.0)"
    )
    connection.close()

    store = await open_store(path, FixedClock(at=10.0), writer=True)
    found = (await store.page(ProjectId("default"), after="", limit=0)).items
    assert [info.owner for info in found] == ["ann", "", "Änne 🦉", ""]
    assert {(info.title, info.updated_at, info.shared, info.archived) for info in found} == {("T", 6e-6, False, False)}
    assert [credential.subject for credential in await store.credentials(None)] == [""]
    assert (await store.accept(turn("c1", "r", only_owner="ann"))).created is False
    await store.close()

    connection = connect(path)  # code of step 2 works on
    connection.execute(f"{put} values (9, 'default', 'c9', 'T', 'grip', 5, 6, 2, 1, '')")
    connection.close()
    again = await open_store(path, FixedClock(at=10.0), writer=True)
    info = await again.get(ProjectId("default"), ConversationId("c9"))
    assert info is not None
    assert (info.owner, info.shared, info.archived) == ("", False, False)
    await again.close()
