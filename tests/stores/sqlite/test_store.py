import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragoman.access.ports import Credential, Project
from dragoman.core import events as ev
from dragoman.core.errors import Conflict, Unavailable
from dragoman.core.events import Entry
from dragoman.core.names import ConversationId, ProjectId, RunId, Scope, Tape
from dragoman.core.operations import Mark
from dragoman.runtime.ports import StaleClaim
from dragoman.stores.sqlite.lock import Holder, holder_of
from dragoman.stores.sqlite.open_tapes import place
from dragoman.stores.sqlite.store import SqliteStore, open_store
from tests.stores.talk import PROJECT, answer, append, begin, created, finish, say, turn, wait
from tests.support import FixedClock

MINE = Project(ProjectId("mine"), "Mine", 1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dragoman.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(path, FixedClock(), writer=True)
    yield opened
    await opened.close()


def rows(path: Path) -> dict[str, int]:
    connection = sqlite3.connect(path)
    tables = ("conversations", "entries", "deltas", "runs", "projects", "credentials")
    counts = {table: connection.execute(f"select count(*) from {table}").fetchone()[0] for table in tables}
    connection.close()
    return counts


def insert(path: Path, table: str, *values: object) -> None:
    """As some other version wrote it."""
    connection = sqlite3.connect(path)
    connection.execute(f"insert into {table} values ({', '.join('?' * len(values))})", values)
    connection.commit()
    connection.close()


# -- again after a stop ----------------------------------------------------------------------------------------------


async def test_everything_is_there_again(path: Path):
    first = await open_store(path, FixedClock(), writer=True)
    claim = await begin(first, "c", "r1", "one")
    await append(first, claim, (ev.ReplyStarted("a", "m"), ev.TextAdded("x"), ev.ReplyFinished("x")))
    await wait(first, "c", "r2", "two")
    await first.put_project(MINE)
    before = await first.read(claim.tape, after=0)
    info = await first.get(PROJECT, ConversationId("c"))
    await first.close()

    second = await open_store(path, FixedClock(), writer=True)
    assert await second.read(claim.tape, after=0) == before
    assert await second.get(PROJECT, ConversationId("c")) == info
    assert await second.project(MINE.id) == MINE
    assert await append(second, claim, (ev.TextAdded("y"),)) == len(before) + 1
    following = await finish(second, claim, (ev.RunCancelled(),), weight=1)
    assert following is not None
    assert following.run == "r2"
    after = await second.get(PROJECT, ConversationId("c"))
    assert after is not None
    assert after.messages == 2  # the reply that was finished before the stop counts
    await second.close()


async def test_the_number_of_a_deleted_tape_never_comes_back(path: Path):
    first = await open_store(path, FixedClock(), writer=True)
    old = await begin(first, "c", "r1")
    await first.delete(PROJECT, ConversationId("c"))
    await first.close()
    second = await open_store(path, FixedClock(), writer=True)
    new = await begin(second, "c", "r1")
    assert new.tape > old.tape
    await second.close()


async def test_nothing_is_left_of_what_was_deleted(store: SqliteStore, path: Path):
    claim = await begin(store, "c", "r1")
    await append(store, claim, (ev.TextAdded("x"),))
    await wait(store, "c", "r2")
    await store.put_messages(created("d"), ev.MessagesImported(()), at=1.0, updated_at=1.0, run=RunId("r3"))
    await store.delete(PROJECT, ConversationId("c"))
    await store.delete(PROJECT, ConversationId("d"))
    assert set(rows(path).values()) == {0}


async def test_a_kind_that_a_newer_version_wrote_is_read_back_and_gone_past(path: Path):
    first = await open_store(path, FixedClock(), writer=True)
    claim = await say(first, "c", "r1", "hi", "hello")
    live = await begin(first, "c", "r2")
    await first.close()
    body = '{"kind":"moon_risen",  "over":"sea"}'
    insert(path, "entries", place(live.tape, 9), place(live.tape, 7), "", "moon_risen", 5_000_000, 0, body)
    second = await open_store(path, FixedClock(), writer=True)
    tape = await second.read(claim.tape, after=8)
    assert list(tape) == [Entry(9, RunId("r2"), 5.0, ev.Unread("moon_risen", body))]
    assert ev.dump_event(tape[0].event) == body.encode()
    assert (await second.read_run(live))[-1] == tape[0]
    assert await second.append(live, (ev.TextAdded("x"),), after=9) == 10
    await second.finish(live, (ev.RunCompleted(),), after=10, weight=1)
    assert tape[0] in await second.history(claim.tape, before=99, chars_max=99)
    await second.close()


async def test_bodies_are_kept_as_the_bytes_they_were(store: SqliteStore, path: Path):
    event = ev.TextAdded('grüße \0 "🦉" \u2028')
    claim = await begin(store, "c", "r1")
    await append(store, claim, (event,))
    connection = sqlite3.connect(path)
    connection.text_factory = bytes
    ((body,),) = connection.execute("select body from deltas").fetchall()
    connection.close()
    assert body == ev.dump_event(event)


async def test_nobody_holds_a_lease_in_a_file_that_was_just_opened(path: Path):
    first = await open_store(path, FixedClock(), writer=True)
    for number in range(3):
        await begin(first, f"c{number}", f"r{number}")
    await wait(first, "c0", "queued")
    assert list(await first.take_lost(limit=10)) == []
    await first.close()
    second = await open_store(path, FixedClock(), writer=True)
    assert [(claim.run, claim.epoch) for claim in await second.take_lost(limit=2)] == [("r0", 2), ("r1", 2)]
    assert [claim.run for claim in await second.take_lost(limit=2)] == ["r2"]
    assert list(await second.take_lost(limit=2)) == []
    await second.close()


async def test_a_claim_of_before_is_good_in_a_file_opened_again_until_it_is_taken(path: Path):
    first = await open_store(path, FixedClock(), writer=True)
    claim = await begin(first, "c", "r1")
    await first.close()
    second = await open_store(path, FixedClock(), writer=True)
    assert await second.renew((claim,)) == frozenset()
    assert list(await second.take_lost(limit=2)) == []
    await second.close()


async def test_a_lease_is_as_long_as_the_store_was_told(path: Path):
    clock = FixedClock()
    store = await open_store(path, clock, writer=True, lease_s=2.0)
    await begin(store, "c", "r1")
    clock.move(1.9)
    assert list(await store.take_lost(limit=2)) == []
    clock.move(0.2)
    assert [claim.run for claim in await store.take_lost(limit=2)] == ["r1"]
    await store.close()


async def test_keys_and_answers_are_there_again(path: Path):
    first = await open_store(path, FixedClock(), writer=True)
    accepted = await first.accept(turn("c", "r1", mark=Mark("f", key="k")))
    await first.keep_answer(PROJECT, "k", b"answer")
    await first.close()
    second = await open_store(path, FixedClock(), writer=True)
    assert await second.answer_kept(PROJECT, "k") == b"answer"
    again = await second.accept(turn("c", "r2", mark=Mark("f", key="k")))
    assert (again.run, again.replayed, again.seq) == ("r1", True, accepted.seq)
    await second.close()


# -- a probe ---------------------------------------------------------------------------------------------------------


async def test_a_probe_commits_and_the_file_does_not_grow(store: SqliteStore, path: Path):
    def pages() -> int:
        connection = sqlite3.connect(path)
        found = connection.execute("pragma page_count").fetchone()[0]
        connection.close()
        return found

    def probed() -> int:
        connection = sqlite3.connect(path)
        found = connection.execute("select number from probes").fetchone()[0]
        connection.close()
        return found

    await store.probe()
    before = pages()
    for _ in range(300):
        await store.probe()
    assert pages() == before
    assert probed() == 301


# -- kill -9 ---------------------------------------------------------------------------------------------------------

CHILD = """
import asyncio, sys
from pathlib import Path
from dragoman.core import events as ev
from dragoman.stores.sqlite.store import open_store
from tests.stores.talk import answer, append, begin, finish
from tests.support import FixedClock

async def talk(store, name):
    for number in range(10_000):
        claim = await begin(store, f"{name}-{number % 3}", f"{sys.argv[2]}-{name}-{number}")
        print(claim.tape, 1, flush=True)
        seq = await store.append(claim, (ev.TextAdded("x" * 50),), after=claim.seq)
        print(claim.tape, seq, flush=True)
        await store.finish(claim, answer("y" * 300), after=seq, weight=300)

async def main():
    store = await open_store(Path(sys.argv[1]), FixedClock(), writer=True)
    await asyncio.gather(*(talk(store, f"{sys.argv[2]}{n}") for n in range(4)))

asyncio.run(main())
"""


def child(path: Path, name: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


async def test_what_was_acknowledged_survives_kill_9(path: Path):
    acknowledged: dict[int, int] = {}
    for kill in range(3):
        process = child(path, f"k{kill}")
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(40 + 37 * kill):
            tape, seq = map(int, process.stdout.readline().split())
            acknowledged[tape] = max(acknowledged.get(tape, 0), seq)
        process.kill()
        process.wait(5)
        with process.stdout, process.stderr:
            rest, errors = process.stdout.read(), process.stderr.read()  # what we had begun to read, to its end
        assert errors == ""
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                tape, seq = map(int, line.split())
                acknowledged[tape] = max(acknowledged.get(tape, 0), seq)
        store = await open_store(path, FixedClock(), writer=True)
        for number, last in acknowledged.items():
            entries = await store.read(Tape(number), after=0, limit=10_000)
            assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
            assert len(entries) >= last
        for view in await store.unfinished():
            assert await store.reclaim(view.id) is not None
        await store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.parametrize(("fuse", "kept"), [("append.before_commit", 3), ("append.after_commit", 4)])
async def test_a_fuse_kills_on_its_side_of_the_commit(path: Path, fuse: str, kept: int):
    process = child(path, "f", DRAGOMAN_FUSES=f"{fuse}=kill@1")
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (-signal.SIGKILL, "")
    store = await open_store(path, FixedClock(), writer=True)
    lengths = [len(await store.read_run(view)) + 1 for view in await store.unfinished()]
    assert lengths == [kept] * 4
    await store.close()


# -- one writer ------------------------------------------------------------------------------------------------------


async def test_a_second_writer_is_refused_and_told_who_has_it(store: SqliteStore, path: Path):
    with pytest.raises(Conflict) as refused:
        await open_store(path, FixedClock(), writer=True)
    assert str(refused.value) == (
        f"The store {path} is in use by process {os.getpid()}; stop it first, or use another --home."
    )
    store.announce("http://127.0.0.1:8080")
    with pytest.raises(Conflict, match=r"\(listening on http://127\.0\.0\.1:8080\)"):
        await open_store(path, FixedClock(), writer=True)
    assert holder_of(path) == Holder(os.getpid(), "http://127.0.0.1:8080")


async def test_a_closed_store_frees_the_lock(path: Path):
    for _ in range(2):
        store = await open_store(path, FixedClock(), writer=True)
        await store.close()
    assert holder_of(path) is None


async def test_a_file_that_is_no_database_is_told(path: Path):
    path.write_bytes(b"this is a letter to my aunt, and by no means a database" * 100)
    with pytest.raises(Unavailable) as refused:
        await open_store(path, FixedClock(), writer=True)
    assert refused.value.code == "storage_failed"
    assert str(path) in refused.value.internal
    assert holder_of(path) is None


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path):
    for writer in (True, False):
        with pytest.raises(Unavailable):
            await open_store(tmp_path / "nowhere" / "dragoman.db", FixedClock(), writer=writer)


# -- beside a writer -------------------------------------------------------------------------------------------------


@pytest.fixture
async def beside(store: SqliteStore, path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(path, FixedClock(), writer=False)
    yield opened
    await opened.close()


async def test_beside_a_writer_one_reads_what_is_committed(store: SqliteStore, beside: SqliteStore):
    claim = await say(store, "c", "r1", "hi", "hello")
    assert await beside.read(claim.tape, after=0) == await store.read(claim.tape, after=0)
    assert await beside.get(PROJECT, ConversationId("c")) == await store.get(PROJECT, ConversationId("c"))
    assert await beside.runs(PROJECT, limit=5) == await store.runs(PROJECT, limit=5)
    beside.announce("nothing happens")


async def test_beside_a_writer_nothing_is_put_on_a_tape(store: SqliteStore, beside: SqliteStore):
    claim = await begin(store, "c", "r1")
    for attempt in (
        beside.renew((claim,)),
        beside.release((claim,)),
        beside.take_lost(limit=1),
        beside.ask(RunId("r1"), ev.CancelAsked()),
        beside.asked((claim,)),
        beside.bell(),
        beside.prune(ended_before=1.0, limit=1),
        beside.probe(),
        beside.accept(turn("c", "r2")),
        append(beside, claim, (ev.TextAdded("x"),)),
        finish(beside, claim, answer("x"), weight=1),
        beside.reclaim(RunId("r1")),
        beside.end_waiting(RunId("r1"), ev.RunCancelled()),
        beside.delete(PROJECT, ConversationId("c")),
    ):
        with pytest.raises(Conflict, match="only reads"):
            await attempt
    assert len(await store.read(claim.tape, after=0)) == 3


async def test_beside_a_writer_access_is_written(store: SqliteStore, beside: SqliteStore):
    claim = await begin(store, "c", "r1")
    credential = Credential("k1", MINE.id, "ci", (Scope.ADMIN,), b"x" * 32, "p1", 1.0)
    await beside.put_project(MINE)
    with pytest.raises(Conflict):
        await beside.put_project(MINE)
    await beside.put_credential(credential)
    await beside.touch_credential("k1", at=5.0)
    assert await append(store, claim, (ev.TextAdded("x"),)) == 4
    found = await store.credential("k1")
    assert found is not None
    assert found.last_used_at == 5.0
    assert await store.projects() == (MINE,)


async def test_both_write_access_at_once(store: SqliteStore, beside: SqliteStore):
    names = [f"p{number}" for number in range(20)]
    await asyncio.gather(
        *(store.put_project(Project(ProjectId(name), name, 1.0)) for name in names[::2]),
        *(beside.put_project(Project(ProjectId(name), name, 1.0)) for name in names[1::2]),
    )
    assert sorted(project.id for project in await store.projects()) == sorted(names)


async def test_a_project_deleted_beside_the_writer_takes_its_tapes_along(
    store: SqliteStore, beside: SqliteStore, path: Path
):
    await beside.put_project(MINE)
    live = await begin(store, "c", "r1", project=MINE.id)
    streamed = await begin(store, "d", "r2", project=MINE.id)
    waiting = asyncio.ensure_future(store.grown(live.tape, after=3))
    other = await begin(store, "c", "r3")
    assert await beside.delete_project(MINE.id) is True
    results = await asyncio.gather(
        append(store, live, (ev.TextAdded("x"),)),
        append(store, other, (ev.TextAdded("x"),)),
        return_exceptions=True,
    )
    assert isinstance(results[0], StaleClaim)
    assert results[1] == 4
    await asyncio.wait_for(waiting, 5)
    with pytest.raises(StaleClaim):
        await finish(store, streamed, answer("x"), weight=1)
    assert list(await store.read(live.tape, after=0)) == []
    assert rows(path) == {"conversations": 1, "entries": 3, "deltas": 1, "runs": 1, "projects": 0, "credentials": 0}


async def test_a_conversation_deleted_beside_the_writer_can_be_begun_again(store: SqliteStore, beside: SqliteStore):
    await beside.put_project(MINE)
    old = await begin(store, "c", "r1", project=MINE.id)
    await beside.delete_project(MINE.id)
    new = await begin(store, "c", "r2", project=MINE.id)
    assert new.tape > old.tape
    assert [entry.seq for entry in await store.read(new.tape, after=0)] == [1, 2, 3]
    await beside.delete_project(MINE.id)
    assert await store.delete(MINE.id, ConversationId("c")) is None
