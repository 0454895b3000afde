"""Connectors: set up, changed, listed, used; whose they are, and where their secrets stay."""

import json
from pathlib import Path
from typing import Any

import pytest

from dragoman.core.connectors import (
    ConnectorGone,
    DeleteConnector,
    ExecuteConnector,
    Executed,
    ListConnectors,
    ListConnectorTypes,
    ReadConnector,
    ReplaceConnector,
)
from dragoman.core.errors import BadRequest, Conflict, NotAllowed, NotFound, NotOffered, Unavailable
from dragoman.core.names import Principal
from dragoman.core.records import Record
from dragoman.runtime.connector_checks import CONNECTORS_MAX
from dragoman.runtime.connectors import RECORDS, Connectors
from dragoman.runtime.crossing import TRIES_MAX
from dragoman.runtime.reach import Reach
from dragoman.stores.memory.records import MemoryRecords
from dragoman.stores.sqlite.store import open_store
from tests.runtime.connecting import AI, CHIEF, KEY, MEMBER, STRANGER, Board, P
from tests.support import FixedClock


@pytest.fixture
def board() -> Board:
    return Board()


async def names(board: Board, who: Principal = MEMBER, **wanted: Any) -> list[str]:
    return [each.id for each in (await board.connectors.list(who, ListConnectors(**wanted))).items]


# -- set up, changed, deleted ------------------------------------------------------------------------------------------


async def test_one_is_set_up_read_and_listed_without_its_secrets(board: Board):
    made = await board.make(".gen-ai", "My LLM", config=AI, secrets=KEY)

    assert (made.id, made.type, made.name, made.config) == ("id1", ".gen-ai", "My LLM", AI)
    assert (made.preconfigured, made.missing_secrets, made.model) == (False, False, True)
    assert await board.connectors.read(MEMBER, ReadConnector("id1")) == made
    assert made in (await board.connectors.list(MEMBER, ListConnectors())).items
    assert "secrets" not in made.__struct_fields__


async def test_config_is_given_back_as_it_came(board: Board):
    config = AI | {"verificationMode": None, "somethingNewer": {"deep": [1, 2.5, None, "ü"]}}
    made = await board.make(".gen-ai", config=config)

    assert made.config == config
    assert (await board.connectors.read(CHIEF, ReadConnector(made.id))).config == config


async def test_without_config_it_is_empty(board: Board):
    assert (await board.make()).config == {}


async def test_an_id_of_the_callers(board: Board):
    longest = "a" * 36
    assert (await board.make(id=longest)).id == longest
    for bad in (longest + "a", "a/b", "_oauth_callback", "ä", "a b"):
        with pytest.raises(BadRequest, match="The id of a connector has 1 to 36 letters"):
            await board.make(id=bad)


async def test_an_id_is_given_once(board: Board):
    await board.make(id="x")
    with pytest.raises(Conflict):
        await board.make(id="x")
    with pytest.raises(Conflict, match="main is a model of the configuration file"):
        await board.make(id="main")


async def test_the_same_id_in_another_project_is_another_connector(board: Board):
    await board.make(id="x", name="ours")
    await board.make(id="x", name="theirs", who=STRANGER)

    assert (await board.connectors.read(CHIEF, ReadConnector("x"))).name == "ours"
    assert (await board.connectors.read(STRANGER, ReadConnector("x"))).name == "theirs"
    await board.connectors.delete(STRANGER, DeleteConnector("x"))
    assert (await board.connectors.read(CHIEF, ReadConnector("x"))).name == "ours"


async def test_unknown_types_bad_config_and_types_we_cannot_do(board: Board):
    with pytest.raises(BadRequest, match="There is no connector type"):
        await board.make(".kbnpy-nonexistent-type")
    with pytest.raises(BadRequest, match=r"config\.index is required"):
        await board.make(".index")
    with pytest.raises(NotOffered, match=r"\.jira cannot be set up here: it is not part of this version"):
        await board.make(".jira")
    assert await names(board) == ["main", "offline"]


async def test_hosts_of_the_configuration_count_when_it_is_set_up():
    board = Board(reach=Reach(("hooks.example.com",)))
    await board.make(".webhook", config={"url": "https://hooks.example.com/1"})
    with pytest.raises(BadRequest, match="is not one of the hosts"):
        await board.make(".webhook", config={"url": "https://example.com/1"})


async def test_replacing_is_whole_and_keeps_the_type(board: Board):
    made = await board.make(".index", id="x", config={"index": "i", "refresh": True})
    with pytest.raises(BadRequest, match=r"config\.index is required"):
        await board.connectors.replace(CHIEF, ReplaceConnector("x", "new"))

    replaced = await board.connectors.replace(CHIEF, ReplaceConnector("x", "new", {"index": "i", "refresh": False}))
    assert (replaced.type, replaced.name, replaced.config) == (".index", "new", {"index": "i", "refresh": False})
    assert replaced.created_at == made.created_at


async def test_replacing_without_secrets_drops_them(board: Board):
    await board.make_ai()
    await board.connectors.replace(CHIEF, ReplaceConnector("ai", "ai", AI))
    kept = await board.connectors.kept(P, "ai")

    assert kept is not None
    assert board.connectors.opened(kept).secrets == {}


async def test_deleted_is_gone(board: Board):
    await board.make(id="x")
    assert await board.connectors.delete(CHIEF, DeleteConnector("x")) == ConnectorGone("x")
    for operation in (DeleteConnector("x"), ReadConnector("x"), ReplaceConnector("x", "n"), ExecuteConnector("x", {})):
        with pytest.raises(NotFound) as caught:
            await board.connectors.handlers()[type(operation)](CHIEF, operation)
        assert caught.value.what == "connector"


@pytest.mark.parametrize("name", ["", "../x", "x" * 300, "a\0b", "\ud800"])
async def test_what_cannot_be_an_id_is_not_found(board: Board, name: str):
    with pytest.raises(NotFound):
        await board.connectors.read(CHIEF, ReadConnector(name))


async def test_only_who_may_changes_them(board: Board):
    await board.make(id="x")
    for attempt in (
        board.make(who=MEMBER),
        board.connectors.replace(MEMBER, ReplaceConnector("x", "n")),
        board.connectors.delete(MEMBER, DeleteConnector("x")),
        board.connectors.execute(MEMBER, ExecuteConnector("x", {})),
    ):
        with pytest.raises(NotAllowed):
            await attempt
    assert board.executor.executed == []


async def test_preconfigured_ones_are_to_be_used_and_not_to_be_changed(board: Board):
    for attempt in (
        board.connectors.replace(CHIEF, ReplaceConnector("main", "n", AI)),
        board.connectors.delete(CHIEF, DeleteConnector("main")),
    ):
        with pytest.raises(BadRequest, match="Preconfigured connector main cannot be changed here"):
            await attempt


async def test_a_project_has_room_for_so_many():
    board = Board()
    for number in range(CONNECTORS_MAX):
        await board.make(id=f"c{number}")
    with pytest.raises(Conflict, match="The project has 200 connectors"):
        await board.make()
    await board.make(who=STRANGER)


class Crossing(MemoryRecords):
    """Before a write or a deletion, somebody else writes, so many times."""

    times = 0

    async def _cross(self, record_id: str) -> None:
        if self.times:
            self.times -= 1
            there = await self.get(P, RECORDS, record_id)
            assert there is not None
            await super().put(there, expect=None)

    async def put(self, record: Record, *, expect: int | None) -> Record:
        if expect:
            await self._cross(record.id)
        return await super().put(record, expect=expect)

    async def delete(self, project: Any, kind: str, record_id: str, *, expect: int | None = None) -> bool:
        await self._cross(record_id)
        return await super().delete(project, kind, record_id, expect=expect)


@pytest.mark.parametrize("operation", [ReplaceConnector("x", "mine"), DeleteConnector("x")])
async def test_changes_that_cross_are_tried_again_some_times(operation: Any):
    records = Crossing(FixedClock())
    board = Board(records)
    await board.make(id="x")
    change = board.connectors.handlers()[type(operation)]
    records.times = TRIES_MAX
    with pytest.raises(Conflict, match="changed by somebody else"):
        await change(CHIEF, operation)
    records.times = TRIES_MAX - 1
    await change(CHIEF, operation)


# -- lists -------------------------------------------------------------------------------------------------------------


async def test_N1_lists_by_name_then_id_preconfigured_among_them(board: Board):
    assert await names(board) == ["main", "offline"]
    await board.make_ai("zz")  # named "one"
    await board.make(id="aa", name="one")
    await board.make(id="b", name="a name before all others")

    assert await names(board) == ["b", "main", "offline", "aa", "zz"]
    assert await names(board, models_only=True) == ["main", "offline", "zz"]
    assert await names(board, STRANGER) == ["main", "offline"]


async def test_models_only_reads_no_other(board: Board):
    await board.make(id="log")
    await board.make(
        ".bedrock", id="rock", config={"apiUrl": "https://a.b/"}, secrets={"accessKey": "a", "secret": "s"}
    )
    for connector in ("log", "rock"):
        assert (await board.connectors.read(CHIEF, ReadConnector(connector))).model is False
        with pytest.raises(NotFound):
            await board.connectors.read(CHIEF, ReadConnector(connector, models_only=True))
    assert (await board.connectors.read(CHIEF, ReadConnector("main", models_only=True))).preconfigured


async def test_types_by_feature_and_what_this_server_lacks(board: Board):
    everything = (await board.connectors.types(MEMBER, ListConnectorTypes())).items
    alerting = (await board.connectors.types(MEMBER, ListConnectorTypes("alerting"))).items

    assert {".server-log", ".index", ".gen-ai"} <= {each.id for each in everything}
    assert 0 < len(alerting) < len(everything)
    assert all("alerting" in each.features for each in alerting)
    assert next(each for each in everything if each.id == ".index").enabled
    board.executor.without = {".index": "no Elasticsearch is configured"}
    index = next(
        each for each in (await board.connectors.types(CHIEF, ListConnectorTypes())).items if each.id == ".index"
    )
    assert (index.enabled, index.why) == (False, "Index: no Elasticsearch is configured.")


async def test_one_of_a_type_that_this_version_does_not_know_is_not_there(board: Board):
    body = json.dumps({"type": ".from-tomorrow", "name": "n", "config": {}})
    await board.records.put(Record(P, RECORDS, "new", body, wide=True), expect=0)

    assert await names(board) == ["main", "offline"]
    with pytest.raises(NotFound):
        await board.connectors.read(CHIEF, ReadConnector("new"))


# -- secrets and use ---------------------------------------------------------------------------------------------------


async def test_it_is_executed_with_its_secrets(board: Board):
    await board.make(".slack", id="s", secrets={"webhookUrl": "https://example.com/T0/B0/hush", "extra": None})

    assert await board.connectors.execute(CHIEF, ExecuteConnector("s", {"message": "hi"})) == Executed("s", True)
    [(opened, params, key)] = board.executor.executed
    assert opened.secrets == {"webhookUrl": "https://example.com/T0/B0/hush"}
    assert (params, key) == ({"message": "hi"}, "id1")
    assert "hush" not in repr(opened)


@pytest.mark.parametrize("name", ["main", "ai"])
async def test_models_are_not_executed(board: Board, name: str):
    await board.make_ai()
    with pytest.raises(BadRequest, match=f"{name} is a model: name it as connectorId of a chat"):
        await board.connectors.execute(CHIEF, ExecuteConnector(name, {}))


async def test_secrets_are_bound_to_project_and_id(board: Board):
    await board.make_ai()
    stolen = await board.records.get(P, RECORDS, "ai")
    assert stolen is not None
    await board.records.put(Record(P, RECORDS, "other", stolen.body, wide=True), expect=0)
    await board.records.put(Record(STRANGER.project, RECORDS, "ai", stolen.body, wide=True), expect=0)

    for project, name in ((P, "other"), (STRANGER.project, "ai")):
        kept = await board.connectors.kept(project, name)
        assert kept is not None
        with pytest.raises(Unavailable):
            board.connectors.opened(kept)


async def test_under_another_key_they_are_not_to_be_read(board: Board):
    await board.make_ai()
    other = Board(board.records, key=b"another key")
    kept = await other.connectors.kept(P, "ai")

    assert kept is not None
    with pytest.raises(Unavailable, match="kept under another key"):
        other.connectors.opened(kept)
    assert (await other.connectors.read(CHIEF, ReadConnector("ai"))).id == "ai"


async def test_one_whose_secrets_cannot_be_opened_says_that_they_are_missing_until_they_are_given_anew(board: Board):
    await board.make_ai()
    await board.make(".slack", id="s", secrets={"webhookUrl": "https://example.com/T0"})
    await board.make(id="open")
    other = Board(board.records, key=b"another key")

    async def missing(connectors: Connectors) -> list[str]:
        items = (await connectors.list(CHIEF, ListConnectors())).items
        assert [each.missing_secrets for each in items] == [
            (await connectors.read(CHIEF, ReadConnector(each.id))).missing_secrets for each in items
        ]
        return sorted(each.id for each in items if each.missing_secrets)

    assert (await missing(board.connectors), await missing(other.connectors)) == ([], ["ai", "s"])
    executed = await other.connectors.execute(CHIEF, ExecuteConnector("s", {"message": "hi"}))
    assert (executed.ok, executed.retry, executed.message) == (False, False, "error using s")
    assert "enter the secret anew" in executed.service_message
    assert other.executor.executed == []

    mended = await other.connectors.replace(CHIEF, ReplaceConnector("ai", "ai", AI, KEY))
    assert not mended.missing_secrets
    assert (await missing(other.connectors), await missing(board.connectors)) == (["s"], ["ai"])


async def test_no_secret_reaches_the_file_of_the_store(tmp_path: Path):
    store = await open_store(tmp_path / "x.db", FixedClock(), writer=True)
    try:
        board = Board(store.records)
        await board.make_ai()
        await board.connectors.replace(CHIEF, ReplaceConnector("ai", "ai", AI, KEY | {"more": "hush-hush-hush"}))
        kept = await board.connectors.kept(P, "ai")
        assert kept is not None
        assert board.connectors.opened(kept).secrets["more"] == "hush-hush-hush"
    finally:
        await store.close()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"defaultModel" in written
    assert b"sk-very-secret" not in written and b"hush-hush" not in written


def test_operations_do_not_show_secrets_in_logs():
    assert "hush" not in repr(ReplaceConnector("x", "n", {}, {"token": "hush"}))
