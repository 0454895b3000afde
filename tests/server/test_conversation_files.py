"""Conversation files: one for each exact key, whole at any moment, as old as its conversation, and gone with it."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.access.projects import ensure_project
from dragoman.core import events as ev
from dragoman.core.errors import Unavailable
from dragoman.core.messages import said
from dragoman.core.names import ConversationId, ProjectId
from dragoman.core.operations import DeleteConversation, StartTurn
from dragoman.dialects.grip.session_files import SESSION_FILES
from dragoman.runtime.ports import ReplyDone
from dragoman.server import conversation_files
from dragoman.server.assemble import open_house
from dragoman.server.config_shapes import Config, DialectTable
from dragoman.server.conversation_files import ConversationFileWriter, write_whole
from dragoman.server.house import House
from dragoman.stores.memory import MemoryStore
from dragoman.wire.dialect import ConversationFiles
from tests.parts import ADMIN, LedgerTools, ScriptedReplies, house_of, open_config, text_reply
from tests.runtime.scene import Scene, scene_of, until, within
from tests.streaming_client import Client
from tests.support import FixedClock

AT = 1_700_000_000.0


@asynccontextmanager
async def kept_up(
    workspace: Path,
    *,
    store: MemoryStore | None = None,
    ids: str = "r",
    session_files: ConversationFiles = SESSION_FILES,
    **options: Any,
) -> AsyncGenerator[tuple[Scene, ConversationFileWriter]]:
    """A runtime with Grip's session files. `ids`: what its runs' ids begin with."""
    writers: list[ConversationFileWriter] = []

    async def changed(project: ProjectId, conversation: ConversationId) -> None:
        for each in writers:
            await within(each.changed(project, conversation))

    async with scene_of(ScriptedReplies(text_reply("a")), store=store, changed=changed, ids=ids) as s:
        writers.append(ConversationFileWriter(session_files, workspace, s.conversations, ADMIN.project, **options))
        s.life.spawn(writers[0].keep_up())
        yield s, writers[0]


def files(workspace: Path) -> list[str]:
    folder = workspace / "sessions"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def messages_in(path: Path) -> list[str]:
    return [message["content"] for message in json.loads(path.read_bytes())["messages"]]


# -- what is written -------------------------------------------------------------------------------------------------


async def test_a_turn_is_in_the_file_when_its_outcome_is_known(tmp_path: Path) -> None:
    async with kept_up(tmp_path) as (s, _):
        await s.outcome(await s.start("how is it?"))
        path = tmp_path / "sessions" / "c.json"
        assert path.read_bytes() == (
            b'{"key":"c","messages":[{"role":"user","content":"how is it?"},{"role":"assistant","content":"a"}],'
            b'"summary":null,"created_at":1700000000.0,"updated_at":1700000000.0}'
        )
        assert path.stat().st_mtime == AT
        await s.outcome(await s.start("and now?"))
        assert messages_in(path) == ["how is it?", "a", "and now?", "a"]
        assert files(tmp_path) == ["c.json"]


async def test_every_key_has_a_file_of_its_own(tmp_path: Path) -> None:
    keys = ["a.b", "a b", "a/b", "a_b", "../up", "A.B", "ü", "." * 9, "x" * 128]
    async with kept_up(tmp_path) as (s, _):
        for key in keys:
            await s.outcome(await s.start(f"this is {key}", conversation=key))
        found = {json.loads((tmp_path / "sessions" / name).read_bytes())["key"] for name in files(tmp_path)}
        assert (len(files(tmp_path)), found) == (len(keys), set(keys))
        for key in keys:
            assert messages_in(tmp_path / "sessions" / SESSION_FILES.name(ConversationId(key)))[0] == f"this is {key}"
        assert [path.name for path in tmp_path.iterdir()] == ["sessions"]


async def test_the_file_goes_with_its_conversation(tmp_path: Path) -> None:
    async with kept_up(tmp_path) as (s, _):
        await s.outcome(await s.start())
        await s.outcome(await s.start(conversation="other"))
        await s.conversations.delete(ADMIN, DeleteConversation(ConversationId("c")))
        assert files(tmp_path) == ["other.json"]


async def test_a_conversation_that_was_taken_in_has_its_file_and_the_time_it_came_with(tmp_path: Path) -> None:
    async with kept_up(tmp_path) as (s, _):
        imported = ev.MessagesImported((said("user", "hi"), said("assistant", "hello")), source="grip")
        await s.conversations.take_in(
            ADMIN.project, ConversationId("old"), imported, created_at=1000.25, updated_at=2000.75
        )
        path = tmp_path / "sessions" / "old.json"
        assert (messages_in(path), path.stat().st_mtime_ns) == (["hi", "hello"], 2_000_750_000_000)


async def test_conversations_of_another_project_have_no_file(tmp_path: Path) -> None:
    async with kept_up(tmp_path) as (s, writer):
        stranger = replace(ADMIN, project=ProjectId("other"))
        await s.outcome(await s.runs.start(stranger, StartTurn(ConversationId("c"), (said("user", "secret"),))))
        await within(writer.changed(stranger.project, ConversationId("c")))
        assert files(tmp_path) == []


# -- at start --------------------------------------------------------------------------------------------------------


async def test_at_start_what_is_out_of_date_is_written_and_what_is_not_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_files, "PAGE", 2)
    store = MemoryStore(FixedClock())
    names = ["current", "missing", "older", "touched", "torn"]
    async with kept_up(tmp_path, store=store) as (s, _):
        for name in names:
            await s.outcome(await s.start(conversation=name))
    folder = tmp_path / "sessions"
    (folder / "missing.json").unlink()
    for name in ("older", "torn"):
        (folder / f"{name}.json").write_bytes(b"{")
    os.utime(folder / "touched.json", (AT + 1, AT + 1))
    (folder / ".4711.writing").write_bytes(b"{")  # a process died at this
    (folder / "a-file-of-mine.json").write_bytes(b"{}")
    inodes = {path.name: path.stat().st_ino for path in folder.iterdir()}

    def rewritten() -> set[str]:
        return {path.name for path in folder.glob("*.json") if path.stat().st_ino != inodes.get(path.name)}

    stale = {"missing.json", "older.json", "touched.json", "torn.json"}
    async with kept_up(tmp_path, store=store):
        await until(lambda: rewritten() >= stale)
    assert rewritten() == stale
    assert all(messages_in(folder / f"{name}.json") == ["how is it?", "a"] for name in names)
    assert files(tmp_path) == sorted(["a-file-of-mine.json", *(f"{name}.json" for name in names)])


async def test_a_turn_need_not_wait_for_all_the_files_that_are_out_of_date(tmp_path: Path) -> None:
    store = MemoryStore(FixedClock())
    async with scene_of(ScriptedReplies(text_reply("a")), store=store) as s:
        for number in range(300):
            await s.start(conversation=f"old{number}")
        await s.settled()
    async with kept_up(tmp_path, store=store, ids="n") as (s, _):
        await until(lambda: bool(files(tmp_path)))
        await s.outcome(await s.start(conversation="new"))
        assert "new.json" in files(tmp_path)
        assert len(files(tmp_path)) < 300


# -- whole at any moment ---------------------------------------------------------------------------------------------


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_whole(path, b"one", at=5.0)
    with path.open("rb") as reader:
        write_whole(path, b"two, and longer", at=6.0)
        assert reader.read() == b"one"
    assert (path.read_bytes(), path.stat().st_mtime, os.listdir(path.parent)) == (b"two, and longer", 6.0, ["a.json"])


@pytest.mark.parametrize("step", ["fsync", "replace", "utime"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"one", at=5.0)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"two", at=6.0)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"one", ["a.json"])


async def test_a_write_under_way_is_finished_when_the_process_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it could come to its end after a later write, and put an old file in the place of a new one."""
    began, go_on = threading.Event(), threading.Event()
    replace_file = os.replace

    def slow(*args: Any) -> None:
        began.set()
        assert go_on.wait(5)
        replace_file(*args)

    monkeypatch.setattr(os, "replace", slow)
    path = tmp_path / "sessions" / "c.json"
    async with kept_up(tmp_path) as (s, _):
        await s.start()
        await until(began.is_set)
        asyncio.get_running_loop().call_later(0.01, go_on.set)
    assert path.exists()


# -- when it cannot be written ---------------------------------------------------------------------------------------


async def test_a_file_that_cannot_be_written_fails_no_turn_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "sessions"
    folder.write_bytes(b"a file stands where the folder should be")
    async with kept_up(tmp_path, retry_s=0.005) as (s, _):
        outcome = await s.outcome(await s.start())
        assert outcome.text == "a"
        assert "the file of conversation 'c' could not be written" in caplog.text
        folder.unlink()
        await until((folder / "c.json").exists)
        assert messages_in(folder / "c.json") == ["how is it?", "a"]


async def test_a_conversation_no_file_can_hold_keeps_no_other_from_its_file(
    tmp_path: Path,
) -> None:
    def dump(view: Any) -> bytes:
        if view.info.id == "odd":
            raise ValueError("a fault of the dialect's")
        return SESSION_FILES.dump(view)

    picky = replace(SESSION_FILES, dump=dump)
    async with kept_up(tmp_path, session_files=picky, retry_s=0.005) as (s, _):
        for name in ("odd", "even"):
            await s.outcome(await s.start(conversation=name))
        assert files(tmp_path) == ["even.json"]


async def test_a_store_that_cannot_be_listed_at_start_is_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore(FixedClock())
    async with scene_of(ScriptedReplies(text_reply("a")), store=store) as s:
        await s.outcome(await s.start())
    async with kept_up(tmp_path, store=store, ids="n", retry_s=0.005) as (s, _):
        s.store.refuse(Unavailable("The store is busy."), "page")
        await until(lambda: "could not be brought up to date" in caplog.text)
        await s.outcome(await s.start(conversation="meanwhile"))
        assert files(tmp_path) == ["meanwhile.json"]
        s.store.hooks.clear()
        await until((tmp_path / "sessions" / "c.json").exists)


# -- the whole house -------------------------------------------------------------------------------------------------


def with_files(**options: Any) -> Config:
    return replace(open_config(), dialects={"grip": DialectTable(session_files=True, **options)})


def chat(house: House, credential: str, key: str, text: str = "hello") -> Any:
    body = json.dumps({"message": text, "session_key": key}).encode()
    client = Client(house.app, headers={"authorization": f"Bearer {credential}", "content-type": "application/json"})
    return client.request("POST", "/api/v1/chat", body=body)


@pytest.mark.parametrize(("options", "folder"), [({}, "workspace"), ({"workspace": "grip"}, "grip")])
async def test_the_configured_files_are_there_when_the_answer_is(
    tmp_path: Path, options: dict[str, str], folder: str
) -> None:
    path = tmp_path / folder / "sessions" / "k.json"
    async with open_house(with_files(**options), tmp_path) as house:
        await ensure_project(house.access, house.project, at=AT)
        credential = (await house.mint.create("t", house.project, scopes=tuple(ADMIN.scopes))).text
        assert (await chat(house, credential, "k")).status == 200
        assert messages_in(path)[0] == "hello"
        assert (await chat(house, credential, "k", "again")).status == 200
        assert messages_in(path)[2] == "again"
        client = Client(house.app, headers={"authorization": f"Bearer {credential}"})
        assert (await client.request("DELETE", "/api/v1/sessions/k")).status == 200
        assert not path.exists()


async def test_a_house_that_only_reads_writes_no_files(tmp_path: Path) -> None:
    async with open_house(with_files(), tmp_path) as house:
        started = await house.desk.answer(ADMIN, StartTurn(ConversationId("k"), (said("user", "hello"),)))
        await within(house.desk.outcome(started))
        path = tmp_path / "workspace" / "sessions" / "k.json"
        path.write_bytes(b"{")
        async with open_house(with_files(), tmp_path, writer=False) as beside:
            assert await beside.conversations.count(ADMIN.project) == 1
            writers = [task for task in asyncio.all_tasks() if "keep_up" in repr(task.get_coro())]
            assert len(writers) == 1  # that of the other house
    assert path.read_bytes() == b"{"


async def test_an_ephemeral_turn_neither_writes_a_file_nor_removes_one(tmp_path: Path) -> None:
    model = ScriptedReplies([ReplyDone("a")])
    store = MemoryStore(FixedClock())
    path = tmp_path / "workspace" / "sessions" / "k.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    async with house_of(
        tmp_path, model, store=store, access=store, tools=LedgerTools({}), config=with_files()
    ) as house:
        turn = StartTurn(ConversationId("k"), (said("user", "hello"),), ephemeral=True)
        await within(house.desk.outcome(await house.desk.answer(ADMIN, turn)))
    assert (path.read_bytes(), files(tmp_path / "workspace")) == (b"mine", ["k.json"])


async def test_without_the_setting_no_file_is_written(tmp_path: Path) -> None:
    async with open_house(open_config(), tmp_path) as house:
        started = await house.desk.answer(ADMIN, StartTurn(ConversationId("k"), (said("user", "hello"),)))
        await within(house.desk.outcome(started))
    assert not list(tmp_path.rglob("k.json"))
