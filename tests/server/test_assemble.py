"""The composition root: what it puts together from which config, and that it lets go of everything again."""

import asyncio
import re
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dragoman.access.ports import Project
from dragoman.core import events as ev
from dragoman.core.errors import Conflict, NotFound, Unavailable
from dragoman.core.messages import ToolCall, said
from dragoman.core.names import CallId, ConversationId, ProjectId, Scope
from dragoman.core.operations import Outcome, ReadStatus, StartTurn
from dragoman.dialects import installed
from dragoman.runtime.ports import ReplyDone
from dragoman.runtime.tool_ports import CallContext
from dragoman.server import assemble
from dragoman.server.assemble import SystemClock, new_run_id, open_house
from dragoman.server.config import BadConfig
from dragoman.server.config_checks import complete
from dragoman.server.config_shapes import Config, ConnectionTable, OpenAIModel, ScriptedModel, Secret, Server
from dragoman.server.house import House, Parts
from dragoman.stores.memory import MemoryStore
from dragoman.stores.sqlite.lock import holder_of
from dragoman.stores.sqlite.store import SqliteStore, open_store
from tests.parts import ADMIN, Gate, LedgerTools, ScriptedReplies, open_config, text_reply
from tests.runtime.scene import Watched, until, within
from tests.support import FixedClock
from tests.upstream import serving

TURN = StartTurn(ConversationId("c"), (said("user", "hello"),))


async def ask(house: House, turn: StartTurn = TURN) -> Outcome:
    started = await house.desk.answer(ADMIN, turn)
    return await within(house.desk.outcome(started))


class Closing(ScriptedReplies):
    """A model that counts how often it is closed."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*(script or (text_reply("a"),)))
        self.closings = 0

    async def close(self) -> None:
        self.closings += 1


# -- what is put together --------------------------------------------------------------------------------------------


async def test_without_any_config_there_is_an_assistant_that_answers(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    async with open_house(open_config(), home) as house:
        assert isinstance((await ask(house)).end, ev.RunCompleted)
        status = await house.desk.answer(ADMIN, ReadStatus())
        assert (status.model, status.agents, status.conversations) == ("offline", ("assistant",), 1)
        assert (status.workspace, status.steps_max) == (str(home / "workspace"), 25)
        assert {"list_files", "read_file"} <= set(status.tools)
        assert house.dialects == installed()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / "dragoman.db").exists()


def test_the_real_clock_tells_the_time_and_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.now() > 1_700_000_000
    assert clock.monotonic() <= clock.monotonic()


def test_run_ids_begin_with_the_time_and_cannot_be_guessed() -> None:
    ids = {new_run_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"r_[0-9a-f]{27}", run) for run in ids)


async def test_every_part_can_be_replaced_by_itself(tmp_path: Path) -> None:
    clock, store, model, tools = FixedClock(), MemoryStore(FixedClock()), Closing(), LedgerTools({"look": "seen"})
    config = open_config()

    async def opened(name: str, **parts: Any) -> House:
        async with open_house(config, tmp_path / name, parts=Parts(**parts)) as house:
            return house

    assert (await opened("clock", clock=clock)).clock is clock
    with_store = await opened("store", store=store)
    assert (with_store.store, type(with_store.access)) == (store, SqliteStore)
    with_access = await opened("access", access=store)
    assert (type(with_access.store), with_access.access) == (SqliteStore, store)
    with_both = await opened("both", store=store, access=store)
    assert (with_both.store, with_both.access) == (store, store)
    assert not (tmp_path / "both" / "dragoman.db").exists()
    with_models = await opened("models", models={"offline": model})
    assert (await with_models.models.choose(ProjectId("default"), ""))[0] is model
    assert (await opened("tools", tools=tools)).tools is tools
    only = (replace(installed()[0], name="mine"),)
    assert (await opened("dialects", dialects=only)).dialects == only


async def test_the_config_chooses_among_the_dialects(tmp_path: Path) -> None:
    dialects = tuple(replace(installed()[0], name=name, routes=(), prefixes=()) for name in ("one", "two", "three"))
    for wanted, names in (((), ["one", "two", "three"]), (("three", "one"), ["one", "three"])):
        config = replace(open_config(), server=Server(dialects=wanted))
        async with open_house(config, tmp_path, parts=Parts(dialects=dialects)) as house:
            assert [dialect.name for dialect in house.dialects] == names


async def test_each_project_has_a_workspace_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "ours.txt").write_text("ours")
    call = ToolCall(CallId("1"), "read_file", '{"path":"ours.txt"}')
    write = ToolCall(CallId("2"), "write_file", '{"path":"theirs.txt","content":"theirs"}')
    async with open_house(open_config(), tmp_path) as house:
        ours = await house.tools.call(call, CallContext(house.project, "r:1"))
        theirs = await house.tools.call(call, CallContext(ProjectId("other"), "r:1"))
        await house.tools.call(write, CallContext(ProjectId("other"), "r:2"))
    assert ("ours" in ours.content, ours.is_error, theirs.is_error) == (True, False, True)
    assert (tmp_path / "workspaces" / "other" / "theirs.txt").read_text() == "theirs"
    assert [path.name for path in (tmp_path / "workspace").iterdir()] == ["ours.txt"]


# -- models ----------------------------------------------------------------------------------------------------------


def scripted(folder: Path, name: str, reply: str) -> ScriptedModel:
    (folder / f"{name}.toml").write_text(f"[[reply]]\n{reply}\n")
    return ScriptedModel(str(folder / f"{name}.toml"))


async def test_models_are_asked_in_the_order_of_their_fallbacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = 'fault = "refused"'
    main = replace(scripted(tmp_path, "main", broken), fallback=("second", "third", "last"))
    models = {
        "third": scripted(tmp_path, "third", 'text = "the third"'),
        "main": main,
        "last": scripted(tmp_path, "last", 'text = "the last"'),
        "second": scripted(tmp_path, "second", broken),
    }
    config = complete(replace(open_config(), models=models, defaults=Config().defaults), folder=tmp_path)
    async with open_house(config, tmp_path) as house:
        assert (await ask(house)).text == "the third"
        assert [message[:16] for message in caplog.messages if message.startswith("model ")] == [
            "model 1 of 4 fai",
            "model 2 of 4 fai",
        ]
        assert (await ask(house, replace(TURN, model="last"))).text == "the last"
        assert isinstance((await ask(house, replace(TURN, model="second"))).end, ev.RunFailed)


async def test_two_models_may_stand_in_for_each_other(tmp_path: Path) -> None:
    models = {
        "main": replace(scripted(tmp_path, "main", 'fault = "refused"'), fallback=("second", "second")),
        "second": replace(scripted(tmp_path, "second", 'text = "the second"\ntimes = 1'), fallback=("main",)),
    }
    config = complete(replace(open_config(), models=models, defaults=Config().defaults), folder=tmp_path)
    async with open_house(config, tmp_path) as house:
        assert (await ask(house)).text == "the second"
        assert (await ask(house, replace(TURN, model="second"))).text == "the second"


async def test_a_configured_server_is_asked_as_configured_and_its_connections_are_closed(tmp_path: Path) -> None:
    async with serving() as upstream:
        secrets = {"key": Secret("k3y"), "headers": {"X-Team": Secret("ops")}}
        model = OpenAIModel(upstream.url, "big", **secrets, params={"temperature": 0.2})
        config = complete(replace(open_config(), models={"main": model}, defaults=Config().defaults), folder=tmp_path)
        async with open_house(config, tmp_path) as house:
            assert (await ask(house)).text == "Echo: hello"
            request = await upstream.request()
            assert (request.headers["authorization"], request.headers["x-team"]) == ("Bearer k3y", "ops")
            assert (request.json()["model"], request.json()["temperature"]) == ("big", 0.2)
            assert upstream.connections
        await until(lambda: not upstream.connections)


async def test_a_configured_connection_is_asked_with_its_key_and_closed(tmp_path: Path) -> None:
    heads: list[bytes] = []
    ended = asyncio.Event()

    async def prometheus(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_server(prometheus, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        table = ConnectionTable("prometheus", f"http://127.0.0.1:{port}", key=Secret("k3y"))
        call = ToolCall(CallId("1"), "query_prometheus", '{"expr":"up"}')
        async with open_house(replace(open_config(), connections={"prom": table}), tmp_path) as house:
            outcome = await within(house.tools.call(call, CallContext(house.project, "r:1")))
            assert outcome.is_error and not ended.is_set()
        await within(ended.wait())
    assert heads[0].startswith(b"POST /api/v1/query HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer k3y\r\n" in heads[0]


# -- closing ---------------------------------------------------------------------------------------------------------


async def test_everything_is_let_go_of_once(tmp_path: Path) -> None:
    model = Closing()
    async with open_house(open_config(), tmp_path, parts=Parts(models={"offline": model, "same": model})) as house:
        await ask(house)
        assert model.closings == 0
    assert model.closings == 1
    assert holder_of(tmp_path / "dragoman.db") is None
    with pytest.raises(Unavailable):
        await house.store.count(ADMIN.project)
    assert len(asyncio.all_tasks()) == 1


async def test_a_store_that_was_brought_along_stays_open(tmp_path: Path) -> None:
    store = MemoryStore(FixedClock())
    async with open_house(open_config(), tmp_path, parts=Parts(store=store, access=store)):
        pass
    assert await store.count(ADMIN.project) == 0


async def test_a_start_that_fails_in_the_middle_lets_go_of_everything(tmp_path: Path) -> None:
    model = Closing()
    unusable = replace(open_config(), connections={"p": ConnectionTable("prometheus", "ftp://somewhere")})
    with pytest.raises(BadConfig, match="connection 'p'"):
        async with open_house(unusable, tmp_path, parts=Parts(models={"offline": model})):
            pass
    assert model.closings == 1
    async with open_house(open_config(), tmp_path):  # the store's lock is free again
        pass


async def test_a_start_that_fails_at_its_last_step_lets_go_of_everything(tmp_path: Path) -> None:
    model = Closing()
    store: Any = Watched(await open_store(tmp_path / "dragoman.db", FixedClock(), writer=True))
    store.refuse(Unavailable("The disk is full."), "take_lost")
    parts = Parts(store=store, access=store, models={"offline": model}, tools=LedgerTools({}))
    with pytest.raises(Unavailable, match="disk is full"):
        async with open_house(open_config(), tmp_path, parts=parts):
            pass
    assert (model.closings, len(asyncio.all_tasks())) == (1, 1)
    await store.close()


async def test_a_model_that_cannot_be_made_is_a_sentence_and_frees_the_store(tmp_path: Path) -> None:
    model = OpenAIModel("nonsense", "big")
    config = complete(replace(open_config(), models={"main": model}, defaults=Config().defaults), folder=tmp_path)
    with pytest.raises(BadConfig, match=r"^models\.main: url: 'nonsense' must begin with http"):
        async with open_house(config, tmp_path):
            pass
    assert holder_of(tmp_path / "dragoman.db") is None


# -- one writer ------------------------------------------------------------------------------------------------------


async def test_a_second_house_on_one_home_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    async with open_house(open_config(), tmp_path) as house:
        house.announce("http://127.0.0.1:1234")
        with pytest.raises(Conflict, match=r"in use by process \d+ \(listening on http://127.0.0.1:1234\)"):
            async with open_house(open_config(), tmp_path):
                pass


async def test_beside_a_house_that_writes_one_may_read_and_make_credentials_but_take_no_turn(tmp_path: Path) -> None:
    async with open_house(open_config(), tmp_path) as house:
        await ask(house)
        async with open_house(open_config(), tmp_path, writer=False) as beside:
            assert await beside.conversations.count(ADMIN.project) == 1
            await beside.access.put_project(Project(ADMIN.project, "default", 0.0))
            await beside.mint.create("ci", ADMIN.project, scopes=(Scope.CHAT_RUN,))
            with pytest.raises(Conflict, match="only reads the store"):
                await beside.desk.answer(ADMIN, TURN)
            beside.announce("http://elsewhere")
        assert [each.name for each in await house.access.credentials(ADMIN.project)] == ["ci"]
        assert (holder_of(tmp_path / "dragoman.db") or house).url == ""  # pyright: ignore[reportAttributeAccessIssue]


# -- taking up -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def left_behind(tmp_path: Path) -> AsyncGenerator[Path]:
    """A home whose server died with a run at work."""
    model = ScriptedReplies(text_reply("never"))
    model.gate = Gate()
    async with open_house(open_config(), tmp_path, parts=Parts(models={"offline": model})) as house:
        await house.desk.answer(ADMIN, TURN)
        await until(lambda: bool(model.prompts))
    yield tmp_path


async def test_what_a_dead_process_left_behind_is_taken_up_on_opening(left_behind: Path) -> None:
    async with open_house(open_config(), left_behind) as house:
        assert house.recovered == 1
        await within(house.runs[0].settled())
        assert await house.store.unfinished() == []


async def test_taking_up_can_wait_until_nothing_stands_in_its_way(left_behind: Path) -> None:
    async with open_house(open_config(), left_behind, take_up=False) as house:
        assert (house.recovered, house.desk.live_runs) == (0, 0)
    async with open_house(open_config(), left_behind, take_up=False) as house:
        (view,) = await house.store.unfinished()
        assert view.epoch == 1
        await house.take_up()
        assert house.recovered == 1
        await within(house.runs[0].settled())


async def test_a_house_that_only_reads_takes_nothing_up(left_behind: Path) -> None:
    async with open_house(open_config(), left_behind, writer=False) as house:
        assert house.recovered == 0
        assert [view.epoch for view in await house.store.unfinished()] == [1]


# -- what goes on beside requests ------------------------------------------------------------------------------------


async def test_when_a_credential_was_last_used_is_written_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(assemble, "TOUCH_EVERY_S", 0.001)
    clock, store = FixedClock(), Watched(MemoryStore(FixedClock()))
    parts: Any = Parts(clock=clock, store=store, access=store)
    async with open_house(open_config(), tmp_path, parts=parts) as house:
        await store.put_project(Project(ADMIN.project, "default", 0.0))
        minted = await house.mint.create("ci", ADMIN.project, scopes=(Scope.CHAT_RUN,))
        store.refuse(Unavailable("The disk is full."), "touch_credential")
        await house.authenticator.prove(minted.text)
        await until(lambda: "could not be written: The disk is full." in caplog.text)
        store.hooks.clear()
        clock.move(3600)
        await house.authenticator.prove(minted.text)
        await until(lambda: store.called.count("touch_credential") == 2)
        (credential,) = await store.credentials(ADMIN.project)
        assert credential.last_used_at == clock.at


async def test_an_ephemeral_turn_is_answered_and_kept_nowhere(tmp_path: Path) -> None:
    parts = Parts(models={"offline": ScriptedReplies([ReplyDone("a")])})
    async with open_house(open_config(), tmp_path, parts=parts) as house:
        assert (await ask(house, replace(TURN, ephemeral=True))).text == "a"
        assert await house.conversations.count(ADMIN.project) == 0
        with pytest.raises(NotFound):
            await ask(house, replace(TURN, must_exist=True))
